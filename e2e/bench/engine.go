package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/agent"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/engine"
	"github.com/holdfast-dev/holdfast/pkg/policy"
	"github.com/holdfast-dev/holdfast/webhook/admission"
)

// rounds is how often each measurement is repeated; the median counts.
const rounds = 5

// matching is how many rules can match the request; the others are for other resources.
const matching = 5

// engineFigures measures a decision with 10, 100 and 1,000 rules; the floor is the same
// decision by an engine without policies.
func engineFigures() ([]Figure, error) {
	var figures []Figure
	for _, rules := range []int{10, 100, 1000} {
		loaded, err := engineWith(rules)
		if err != nil {
			return nil, err
		}
		empty, err := engineWith(0)
		if err != nil {
			return nil, err
		}
		var values, floors []float64
		for range rounds {
			value, err := microseconds(loaded)
			if err != nil {
				return nil, err
			}
			floor, err := microseconds(empty)
			if err != nil {
				return nil, err
			}
			values, floors = append(values, value), append(floors, floor)
		}
		figures = append(figures, Figure{
			Name: fmt.Sprintf("engine_decision_%d_rules", rules), Value: median(values), Unit: "us/decision", Floor: median(floors),
		})
	}
	return figures, nil
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

func microseconds(e *engine.Engine) (float64, error) {
	review, err := admission.DecodeReview(reviewBody(deployment()))
	if err != nil {
		return 0, err
	}
	allowed := true
	result := testing.Benchmark(func(b *testing.B) {
		for b.Loop() {
			d, _ := e.Decide(context.Background(), engine.Input{Request: &review.Request})
			allowed = allowed && d.Action == decision.Allow
		}
	})
	if !allowed || result.N == 0 {
		return 0, errors.New("the benchmark's request was not allowed")
	}
	return float64(result.T.Nanoseconds()) / float64(result.N) / 1000, nil
}

// engineWith is an engine with that many rules in policies of ten, five of which can match
// the request and look into its object.
func engineWith(rules int) (*engine.Engine, error) {
	var policies []*policy.Policy
	for start := 0; start < rules; start += 10 {
		p := &v1alpha1.AgentPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("policy-%d", start)},
			Spec:       v1alpha1.AgentPolicySpec{Agents: []v1alpha1.Pattern{"*"}},
		}
		for i := start; i < start+10; i++ {
			p.Spec.Rules = append(p.Spec.Rules, benchRule(i))
		}
		compiled, err := policy.Compile(p)
		if err != nil {
			return nil, err
		}
		policies = append(policies, compiled)
	}
	e := engine.New(engine.Config{})
	e.Load(engine.State{
		Agents: agent.NewSet([]*v1alpha1.Agent{{
			ObjectMeta: metav1.ObjectMeta{Name: "bot"},
			Spec:       v1alpha1.AgentSpec{Subjects: []v1alpha1.Subject{{Kind: v1alpha1.ServiceAccountSubject, Namespace: "agents", Name: "*"}}},
		}}),
		Policies: policy.NewSet(policies),
	})
	return e, nil
}

func benchRule(i int) v1alpha1.Rule {
	r := v1alpha1.Rule{
		Name: fmt.Sprintf("rule-%d", i), Action: v1alpha1.Deny,
		Match: v1alpha1.Match{
			Verbs: []v1alpha1.Pattern{"create", "update"}, APIGroups: []v1alpha1.Pattern{"apps"}, Versions: []v1alpha1.Pattern{"v1"},
			Resources: []v1alpha1.Pattern{"deployments"},
		},
		When: `object.metadata.labels["tier"] == "forbidden" or object.spec.replicas > 100`,
	}
	if i >= matching {
		r.Match.Resources = []v1alpha1.Pattern{v1alpha1.Pattern(fmt.Sprintf("kind%ds", i))}
	}
	return r
}
