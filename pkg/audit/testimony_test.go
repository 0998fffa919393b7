package audit

import (
	"reflect"
	"strings"
	"testing"

	authnv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

func newKey(t *testing.T, secret string) *decision.Key {
	t.Helper()
	k, err := decision.NewKey([]byte(strings.Repeat(secret, decision.KeyMin)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestTestify(t *testing.T) {
	t.Parallel()
	key, other := newKey(t, "a"), newKey(t, "b")
	annotation := func(webhook string, r decision.Record) map[string]string {
		r.Webhook = webhook
		key, value := key.Annotation(r)
		return map[string]string{webhook + "/" + key: value, "authorization.k8s.io/decision": "allow"}
	}
	passed := annotation(decision.GuardWebhook, decision.Record{ID: "D", Decision: "Allow", Reason: decision.ReasonApproved, AccessRequest: "k-1"})
	reviewed := annotation(decision.OwnWebhook, decision.Record{ID: "D", Decision: "Allow", Reason: decision.ReasonNotAgent, Review: "review-x"})
	event := func(annotations map[string]string, change func(*auditv1.Event)) *auditv1.Event {
		ev := &auditv1.Event{
			Stage: auditv1.StageResponseComplete, Verb: "create", User: authnv1.UserInfo{Username: "jane"}, Annotations: annotations,
			ResponseStatus: &metav1.Status{Code: 409}, ObjectRef: &auditv1.ObjectReference{APIGroup: "holdfast.dev", Resource: "reviews"},
		}
		if change != nil {
			change(ev)
		}
		return ev
	}
	name, forged := other.Annotation(decision.Record{ID: "D", Webhook: decision.GuardWebhook, Decision: "Allow", Reason: decision.ReasonApproved, AccessRequest: "k-1"})
	outcome := decision.Testimony{Outcomes: []decision.Outcome{{AccessRequest: "k-1", DecisionID: "D", Status: 409}}}
	for name, test := range map[string]struct {
		ev   *auditv1.Event
		want decision.Testimony
	}{
		"an outcome":            {event(passed, nil), outcome},
		"signed by another key": {event(map[string]string{decision.GuardWebhook + "/" + name: forged}, nil), decision.Testimony{}},
		"not signed":            {event(map[string]string{decision.GuardWebhook + "/d-D": `{"decision":"Allow","reason":"Approved","accessRequest":"k-1"}`}, nil), decision.Testimony{}},
		"beside a forged one": {event(map[string]string{
			decision.GuardWebhook + "/d-D": passed[decision.GuardWebhook+"/d-D"], decision.GuardWebhook + "/d-E": passed[decision.GuardWebhook+"/d-D"],
		}, nil), outcome},
		"not complete":          {event(passed, func(ev *auditv1.Event) { ev.Stage = auditv1.StageResponseStarted }), decision.Testimony{}},
		"no status":             {event(passed, func(ev *auditv1.Event) { ev.ResponseStatus = nil }), decision.Testimony{}},
		"of another webhook":    {event(annotation("evil.example.com", decision.Record{ID: "D", Decision: "Allow", Reason: decision.ReasonApproved, AccessRequest: "k-1"}), nil), decision.Testimony{}},
		"of the wrong webhook":  {event(annotation(decision.OwnWebhook, decision.Record{ID: "D", Decision: "Allow", Reason: decision.ReasonApproved, AccessRequest: "k-1"}), nil), decision.Testimony{}},
		"held, not let pass":    {event(annotation(decision.GuardWebhook, decision.Record{ID: "D", Decision: "Hold", Reason: decision.ReasonPending, AccessRequest: "k-1"}), nil), decision.Testimony{}},
		"a review":              {event(reviewed, nil), decision.Testimony{}},
		"an impersonated one":   {event(reviewed, func(ev *auditv1.Event) { ev.ImpersonatedUser = &authnv1.UserInfo{Username: "joe"} }), decision.Testimony{Impersonated: []decision.Impersonated{{Review: "review-x", By: "jane", As: "joe"}}}},
		"another kind, so made": {event(reviewed, func(ev *auditv1.Event) { ev.ImpersonatedUser = &authnv1.UserInfo{}; ev.ObjectRef.Resource = "agents" }), decision.Testimony{}},
		"no object":             {event(reviewed, func(ev *auditv1.Event) { ev.ImpersonatedUser = &authnv1.UserInfo{}; ev.ObjectRef = nil }), decision.Testimony{}},
	} {
		if got := Testify(test.ev, Signed(test.ev, key)); !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, want %+v", name, got, test.want)
		}
	}
}
