package engine

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/agent"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/policy"
)

const botUser = "system:serviceaccount:agents:bot"

func state(t testing.TB, suspended bool, policies ...*v1alpha1.AgentPolicy) State {
	t.Helper()
	var compiled []*policy.Policy
	for _, p := range policies {
		c, err := policy.Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		compiled = append(compiled, c)
	}
	return State{
		Agents: agent.NewSet([]*v1alpha1.Agent{{
			ObjectMeta: metav1.ObjectMeta{Name: "bot"},
			Spec: v1alpha1.AgentSpec{
				Subjects:  []v1alpha1.Subject{{Kind: v1alpha1.ServiceAccountSubject, Namespace: "agents", Name: "*"}},
				Owner:     &v1alpha1.Owner{Kind: v1alpha1.UserSubject, Name: "jane"},
				Suspended: suspended,
			},
		}}),
		Policies: policy.NewSet(compiled),
	}
}

func deletion(user string) *decision.Request {
	return &decision.Request{
		User: decision.User{Name: user}, Verb: "delete", Version: "v1", Resource: "namespaces", Name: "prod", Namespace: "prod",
	}
}

func denyDeletes(mode v1alpha1.Mode, action v1alpha1.Action) *v1alpha1.AgentPolicy {
	return &v1alpha1.AgentPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "no-deletes"},
		Spec: v1alpha1.AgentPolicySpec{Agents: []v1alpha1.Pattern{"*"}, Mode: mode, Rules: []v1alpha1.Rule{{
			Name: "all", Action: action, Message: "Ask a person.",
			Match: v1alpha1.Match{Verbs: []v1alpha1.Pattern{"delete"}},
		}}},
	}
}

// decide returns the decision with its ID cut out of the message.
func decide(e *Engine, r *decision.Request) decision.Decision {
	d, _ := e.Decide(context.Background(), Input{Request: r})
	d.Message = strings.ReplaceAll(d.Message, d.ID, "ID")
	return d
}

func TestDecide(t *testing.T) {
	t.Parallel()
	empty := State{Agents: agent.NewSet(nil), Policies: policy.NewSet(nil)}
	loaded := func(s State) *Engine {
		e := New(Config{})
		e.Load(s)
		return e
	}
	selfReview := &decision.Request{Verb: "create", Group: "authorization.k8s.io", Version: "v1", Resource: "selfsubjectaccessreviews"}
	webhooks := &decision.Request{
		User: decision.User{Name: botUser}, Verb: "delete", Group: "admissionregistration.k8s.io", Version: "v1",
		Resource: "validatingwebhookconfigurations", Name: "x",
	}
	for name, test := range map[string]struct {
		engine  *Engine
		request *decision.Request
		action  decision.Action
		reason  decision.Reason
		message string
	}{
		"nothing loaded": {New(Config{}), deletion(botUser), decision.Deny, decision.ReasonNotReady,
			`"system:serviceaccount:agents:bot" may not delete namespaces "prod": Holdfast has not loaded its Agents and policies yet; try again in a moment (decision ID)`},
		"nothing loaded, self review": {New(Config{}), selfReview, decision.Allow, decision.ReasonSelfReview, ""},
		"no Agents": {loaded(empty), deletion(botUser), decision.Deny, decision.ReasonUndeclared,
			`"system:serviceaccount:agents:bot" may not delete namespaces "prod": no Agent has been declared yet; a cluster admin declares one with kind Agent (decision ID)`},
		"undeclared": {loaded(state(t, false)), deletion("someone"), decision.Deny, decision.ReasonUndeclared,
			`"someone" may not delete namespaces "prod": no Agent declares this identity; a cluster admin adds it to the subjects of one (decision ID)`},
		"no policy": {loaded(state(t, false)), deletion(botUser), decision.Allow, decision.ReasonNoPolicy, ""},
		"suspended": {loaded(state(t, true)), deletion(botUser), decision.Deny, decision.ReasonSuspended,
			`agent bot may not delete namespaces "prod": Agent bot is suspended; its owner is jane (decision ID)`},
		"a rule": {loaded(state(t, false, denyDeletes(v1alpha1.Enforce, v1alpha1.Deny))), deletion(botUser), decision.Deny, decision.ReasonRule,
			`agent bot may not delete namespaces "prod": rule no-deletes/all: Ask a person. (decision ID)`},
		"protection without a policy": {loaded(state(t, false)), webhooks, decision.Deny, decision.ReasonSelfProtection,
			`agent bot may not delete validatingwebhookconfigurations.admissionregistration.k8s.io "x": rule holdfast:self-protection/admission-registrations: Agents may not change what the API server asks before it admits a request. (decision ID)`},
		"protection under an allowing policy": {loaded(state(t, false, denyDeletes(v1alpha1.Enforce, v1alpha1.Allow))), webhooks, decision.Deny, decision.ReasonSelfProtection,
			`agent bot may not delete validatingwebhookconfigurations.admissionregistration.k8s.io "x": rule holdfast:self-protection/admission-registrations: Agents may not change what the API server asks before it admits a request. (decision ID)`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := decide(test.engine, test.request)
			if d.Action != test.action || d.Reason != test.reason || d.Message != test.message {
				t.Errorf("got  %s %s %q\nwant %s %s %q", d.Action, d.Reason, d.Message, test.action, test.reason, test.message)
			}
			if len(d.ID) != 26 {
				t.Errorf("ID %q: want 26 characters", d.ID)
			}
		})
	}
}

func TestProtection(t *testing.T) {
	t.Parallel()
	e := New(Config{})
	e.Load(state(t, false))
	for _, r := range []decision.Request{
		{Verb: "create", Group: "holdfast.dev", Resource: "agentpolicies", Name: "x"},
		{Verb: "update", Group: "holdfast.dev", Resource: "agents", Subresource: "status", Name: "x"},
		{Verb: "deletecollection", Group: "holdfast.dev", Resource: "agents", Name: "x"},
		{Verb: "create", Group: "admissionregistration.k8s.io", Resource: "validatingadmissionpolicies", Name: "x"},
		{Verb: "update", Group: "apiregistration.k8s.io", Resource: "apiservices", Name: "v1.apps"},
		{Verb: "update", Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions", Name: "agents.holdfast.dev"},
		{Verb: "delete", Group: "rbac.authorization.k8s.io", Resource: "clusterrolebindings", Name: "holdfast-webhook"},
		{
			Verb: "update", Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions", Name: "x.example.com",
			Object: map[string]any{"spec": map[string]any{"conversion": map[string]any{"strategy": "Webhook"}}},
		},
		{Verb: "delete", Group: "apps", Resource: "deployments", Namespace: "holdfast-system", Name: "holdfast-webhook"},
		{Verb: "delete", Resource: "namespaces", Namespace: "holdfast-system", Name: "holdfast-system"},
		{Verb: "connect", Resource: "pods", Subresource: "exec", Namespace: "holdfast-system", Name: "x"},
	} {
		r.User.Name, r.Version = botUser, "v1"
		if d := decide(e, &r); d.Action != decision.Deny || d.Reason != decision.ReasonSelfProtection {
			t.Errorf("%s %s.%s: %s %s, want Deny SelfProtection", r.Verb, r.FullResource(), r.Group, d.Action, d.Reason)
		}
	}
	crd := decision.Request{User: decision.User{Name: botUser}, Verb: "create", Version: "v1", Group: "apiextensions.k8s.io", Resource: "customresourcedefinitions", Name: "x.example.com"}
	if d := decide(e, &crd); d.Action != decision.Allow {
		t.Errorf("somebody else's CRD: %s %s, want Allow", d.Action, d.Reason)
	}
}

func TestWarnAndAudit(t *testing.T) {
	t.Parallel()
	for mode, warnings := range map[v1alpha1.Mode]string{
		v1alpha1.Warn:  "Holdfast would deny this delete (policy in mode Warn): rule no-deletes/all: Ask a person.",
		v1alpha1.Audit: "",
	} {
		e := New(Config{})
		e.Load(state(t, false, denyDeletes(mode, v1alpha1.Deny)))
		d := decide(e, deletion(botUser))
		if d.Action != decision.Allow || strings.Join(d.Warnings, "\n") != warnings || strings.Join(d.Observed, " ") != "no-deletes/all=Deny" {
			t.Errorf("%s: %s, warnings %q, observed %v", mode, d.Action, d.Warnings, d.Observed)
		}
	}
}

func TestPanicDenies(t *testing.T) {
	t.Parallel()
	e := New(Config{})
	e.Load(State{Agents: state(t, false).Agents}) // no Policies: a nil pointer
	d := decide(e, deletion(botUser))
	if d.Action != decision.Deny || d.Reason != decision.ReasonInternal || !strings.Contains(d.Message, "deciding failed") {
		t.Errorf("%s %s %q, want Deny Internal", d.Action, d.Reason, d.Message)
	}
}

func TestSlots(t *testing.T) {
	t.Parallel()
	e := New(Config{Slots: 1, Patience: 20 * time.Millisecond})
	e.Load(state(t, false))
	e.slots <- struct{}{}
	if d := decide(e, deletion(botUser)); d.Action != decision.Deny || d.Reason != decision.ReasonOverload || d.Message == "" {
		t.Errorf("%s %s %q, want Deny Overload", d.Action, d.Reason, d.Message)
	}
	<-e.slots
	if d := decide(e, deletion(botUser)); d.Action != decision.Allow {
		t.Errorf("%s %s with a free slot, want Allow", d.Action, d.Reason)
	}
	if len(e.slots) != 0 {
		t.Error("the slot was not given back")
	}
}

// TestReload swaps two states, both of which deny, under load: there is no moment at which
// neither is in force.
func TestReload(t *testing.T) {
	t.Parallel()
	e := New(Config{})
	one, two := state(t, false, denyDeletes(v1alpha1.Enforce, v1alpha1.Deny)), state(t, true)
	e.Load(one)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for {
			select {
			case <-stop:
				return
			default:
				e.Load(two)
				e.Load(one)
			}
		}
	}()
	for range 2000 {
		if d := decide(e, deletion(botUser)); d.Action != decision.Deny {
			t.Errorf("%s %s during a reload, want Deny", d.Action, d.Reason)
			break
		}
	}
	close(stop)
	wg.Wait()
}
