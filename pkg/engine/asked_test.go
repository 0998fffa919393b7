package engine

import (
	"errors"
	"fmt"
	"testing"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

func TestAsked(t *testing.T) {
	t.Parallel()
	p := denyDeletes(v1alpha1.Enforce, v1alpha1.Hold)
	p.Spec.Requestable = []v1alpha1.Requestable{{Name: "ns", Verbs: []v1alpha1.Pattern{"*"}, Resources: []v1alpha1.Pattern{"*"}}}
	to := func(verb, group, resource, namespace, name string) *v1alpha1.Access {
		a := &v1alpha1.Access{Verbs: []string{verb}, APIGroups: []string{group}, Resources: []string{resource}, Names: []string{name}}
		if namespace != "" {
			a.Namespaces = []string{namespace}
		}
		return a
	}
	well := to("delete", "", "namespaces", "", "prod")
	for name, test := range map[string]struct {
		state  *State
		user   string
		access *v1alpha1.Access
		want   string
	}{
		"well":           {ptr(state(t, false, p)), botUser, well, "[bot] no-deletes/all no-deletes/ns"},
		"nothing loaded": {nil, botUser, well, "NotReady: Holdfast has not loaded its Agents and policies yet; try again in a moment"},
		"no agent":       {ptr(state(t, false, p)), "jane", well, `NotAgent: "jane" is no agent, and only agents ask ahead; what people may do, RBAC says`},
		"suspended":      {ptr(state(t, true, p)), botUser, well, "Suspended: Agent bot is suspended; its owner is jane"},
		"no policy": {ptr(state(t, false)), botUser, well,
			`InvalidObject: no policy lets the agent ask to delete namespaces "prod"; a cluster admin says in spec.requestable of an AgentPolicy what may be asked for`},
		"webhooks": {ptr(state(t, false, p)), botUser, to("update", "admissionregistration.k8s.io", "validatingwebhookconfigurations", "", "x"),
			`SelfProtection: no approval lifts a denial: holdfast:self-protection/admission-registrations denies the agent to update validatingwebhookconfigurations.admissionregistration.k8s.io "x": Agents may not change what the API server asks before it admits a request.`},
		"a read of webhooks": {ptr(state(t, false, p)), botUser, to("get", "admissionregistration.k8s.io", "validatingwebhookconfigurations", "", "x"), "[bot] no-deletes/ns"},
		"own kinds":          {ptr(state(t, false, p)), botUser, to("patch", "holdfast.dev", "agents", "", "bot"), "SelfProtection: no approval lifts a denial: agents may not change Agents, policies or anything else of Holdfast"},
	} {
		e := New(Config{})
		if test.state != nil {
			e.Load(*test.state)
		}
		a, err := e.Asked(decision.User{Name: test.user}, test.access)
		got := fmt.Sprint(a.Agents)
		for _, r := range a.Rules {
			got += " " + r.Policy + "/" + r.Rule
		}
		var refusal *Refusal
		if errors.As(err, &refusal) {
			got = fmt.Sprintf("%s: %s", refusal.Reason, refusal)
		}
		if got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, test.want)
		}
	}
}

func ptr[T any](v T) *T { return &v }

// TestAskingPasses: an agent may ask whatever its policies stop by default, and not what a
// rule stops; the rest of Holdfast's kinds stays closed.
func TestAskingPasses(t *testing.T) {
	t.Parallel()
	strict := denyDeletes(v1alpha1.Enforce, v1alpha1.Deny)
	strict.Spec.Default = v1alpha1.Deny
	ruled := denyDeletes(v1alpha1.Enforce, v1alpha1.Deny)
	ruled.Name, ruled.Spec.Rules[0].Match.Verbs = "ruled", []v1alpha1.Pattern{"create"}
	for name, test := range map[string]struct {
		state          State
		verb, resource string
		want           decision.Action
	}{
		"ask":                       {state(t, false), "create", "accessrequests", decision.Allow},
		"ask under a default":       {state(t, false, strict), "create", "accessrequests", decision.Allow},
		"give a reason, likewise":   {state(t, false, strict), "update", "accessrequests", decision.Allow},
		"a rule":                    {state(t, false, ruled), "create", "accessrequests", decision.Deny},
		"a rule, and a default":     {state(t, false, strict, ruled), "create", "accessrequests", decision.Deny},
		"remove it":                 {state(t, false), "delete", "accessrequests", decision.Deny},
		"suspended":                 {state(t, true), "create", "accessrequests", decision.Deny},
		"review":                    {state(t, false), "create", "reviews", decision.Deny},
		"something else by default": {state(t, false, strict), "create", "agents", decision.Deny},
	} {
		e := New(Config{})
		e.Load(test.state)
		r := &decision.Request{User: decision.User{Name: botUser}, Verb: test.verb, Group: v1alpha1.Group, Version: "v1alpha1", Resource: test.resource, Name: "asked-1"}
		if d := decide(e, r); d.Action != test.want {
			t.Errorf("%s: %s %s, want %s", name, d.Action, d.Reason, test.want)
		}
	}
	e := New(Config{})
	e.Load(state(t, false))
	status := &decision.Request{User: decision.User{Name: botUser}, Verb: "create", Group: v1alpha1.Group, Version: "v1alpha1", Resource: "accessrequests", Subresource: "status", Name: "asked-1"}
	if d := decide(e, status); d.Action != decision.Deny {
		t.Errorf("a status: %s", d.Action)
	}
}
