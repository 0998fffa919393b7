package kube

import (
	"context"
	"log/slog"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/policy"
)

// TestLastGoodStays goes through the generations of a policy as they could be stored while
// the own-kinds webhook did not see them.
func TestLastGoodStays(t *testing.T) {
	t.Parallel()
	l := NewLoader(LoaderConfig{Log: slog.New(slog.DiscardHandler)})
	object := func(generation int64, verb v1alpha1.Pattern, when string) *v1alpha1.AgentPolicy {
		return &v1alpha1.AgentPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: "p", UID: types.UID("u"), Generation: generation},
			Spec: v1alpha1.AgentPolicySpec{Agents: []v1alpha1.Pattern{"*"}, Rules: []v1alpha1.Rule{{
				Name: "r", Action: v1alpha1.Deny, Match: v1alpha1.Match{Verbs: []v1alpha1.Pattern{verb}}, When: when,
			}}},
		}
	}
	for _, step := range []struct {
		name    string
		object  *v1alpha1.AgentPolicy
		err     bool
		denied  string
		allowed string
		broken  bool
	}{
		{name: "broken from the start: everything is denied", object: object(1, "delete", "1 +"), err: true, broken: true},
		{name: "good", object: object(2, "delete", ""), denied: "delete", allowed: "create"},
		{name: "broken: the last good one stays", object: object(3, "create", "1 +"), err: true, denied: "delete", allowed: "create"},
		{name: "the same again", object: object(3, "create", "1 +"), err: true, denied: "delete", allowed: "create"},
		{name: "mended", object: object(4, "create", ""), denied: "create", allowed: "delete"},
	} {
		v := l.compile(context.Background(), step.object)
		l.good[step.object.UID] = v
		if (v.err != nil) != step.err || (v.policy == nil) != step.broken {
			t.Fatalf("%s: policy %v, error %v", step.name, v.policy, v.err)
		}
		if step.broken {
			continue
		}
		set := policy.NewSet([]*policy.Policy{v.policy})
		for verb, want := range map[string]decision.Action{step.denied: decision.Deny, step.allowed: decision.Allow} {
			got := set.Evaluate(&policy.Input{
				Request: &decision.Request{Verb: verb, Version: "v1", Resource: "pods"}, Deadline: time.Now().Add(time.Second),
				Agents: []*v1alpha1.Agent{{ObjectMeta: metav1.ObjectMeta{Name: "bot"}}},
			})
			if got.Action != want {
				t.Errorf("%s: %s is %s, want %s", step.name, verb, got.Action, want)
			}
		}
	}
}

// A status alone is no reason to load; whatever decisions are made by is.
func TestMatters(t *testing.T) {
	t.Parallel()
	before := &v1alpha1.Agent{ObjectMeta: metav1.ObjectMeta{Name: "bot", UID: "1", Generation: 1, Labels: map[string]string{"a": "b"}}}
	for name, c := range map[string]struct {
		change func(*v1alpha1.Agent)
		want   bool
	}{
		"status": {func(a *v1alpha1.Agent) {
			a.Status.LastActivity = &metav1.Time{Time: time.Now()}
			a.ResourceVersion = "2"
		}, false},
		"spec":                 {func(a *v1alpha1.Agent) { a.Generation = 2 }, true},
		"labels":               {func(a *v1alpha1.Agent) { a.Labels = map[string]string{"a": "c"} }, true},
		"another of that name": {func(a *v1alpha1.Agent) { a.UID = "2" }, true},
	} {
		after := before.DeepCopy()
		c.change(after)
		if got := matters(before, after); got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
	if !matters("something", before) {
		t.Error("what is not understood does not matter")
	}
}
