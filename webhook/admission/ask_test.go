package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/agent"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/engine"
	"github.com/holdfast-dev/holdfast/pkg/policy"
)

// askers is a config under which users bot and idle are agents, of which idle is suspended,
// and may ask to get secrets.
func askers(t *testing.T, room Room) OwnConfig {
	t.Helper()
	p, err := policy.Compile(&v1alpha1.AgentPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "p"},
		Spec: v1alpha1.AgentPolicySpec{
			Agents: []v1alpha1.Pattern{"*"}, Default: v1alpha1.Hold,
			Requestable: []v1alpha1.Requestable{{
				Name: "secrets", Verbs: []v1alpha1.Pattern{"get"}, APIGroups: []v1alpha1.Pattern{"", "holdfast.dev"},
				Resources: []v1alpha1.Pattern{"secrets", "agents"},
			}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := engine.New(engine.Config{})
	named := func(name string, suspended bool) *v1alpha1.Agent {
		return &v1alpha1.Agent{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: v1alpha1.AgentSpec{
				Subjects: []v1alpha1.Subject{{Kind: v1alpha1.UserSubject, Name: name}}, Suspended: suspended,
				Owner: &v1alpha1.Owner{Kind: v1alpha1.UserSubject, Name: "jane"},
			},
		}
	}
	e.Load(engine.State{Agents: agent.NewSet([]*v1alpha1.Agent{named("bot", false), named("idle", true)}), Policies: policy.NewSet([]*policy.Policy{p})})
	return OwnConfig{IsAgent: e.IsAgent, Asks: e, Room: room}
}

func roomy(context.Context, string, string) error { return nil }

const wantsDB = `"access":{"verbs":["get"],"apiGroups":[""],"resources":["secrets"],"namespaces":["prod"],"names":["db"]}`

func ask(meta, spec string) string {
	return `{"kind":"AccessRequest","apiVersion":"holdfast.dev/v1alpha1","metadata":{` + meta + `},"spec":{` + spec + `}}`
}

// stamped is the object of a review as the mutating webhook leaves it.
func stamped(t *testing.T, c OwnConfig, user, object string) string {
	t.Helper()
	got := answerOf(t, post(handler(Stamp(c)), ownReview("accessrequests", "", user, object)))
	if !got.Allowed {
		t.Fatalf("not stamped: %s", got.Result.Message)
	}
	var patch []struct {
		Op, Path string
		Value    json.RawMessage
	}
	if err := json.Unmarshal(got.Patch, &patch); err != nil || len(patch) != 1 || patch[0].Path != "/spec" {
		t.Fatalf("patch %s: %v", got.Patch, err)
	}
	var whole map[string]json.RawMessage
	if err := json.Unmarshal([]byte(object), &whole); err != nil {
		t.Fatal(err)
	}
	whole["spec"] = patch[0].Value
	return mustJSON(t, whole)
}

// TestStampAsk: who asks and what it takes is written in, whatever stood there.
func TestStampAsk(t *testing.T) {
	t.Parallel()
	c := askers(t, roomy)
	var got v1alpha1.AccessRequest
	object := stamped(t, c, "bot", ask(`"generateName":"asked-"`, wantsDB+`,"reason":"why","requester":"jane","agent":"other","origin":"Intercepted","withdrawn":true,"requesterUID":"x","rules":[]`))
	if err := json.Unmarshal([]byte(object), &got); err != nil {
		t.Fatal(err)
	}
	s := got.Spec
	if s.Origin != v1alpha1.Asked || s.Agent != "bot" || s.Requester != "bot" || s.RequesterUID != "" || s.Withdrawn || s.Reason != "why" ||
		s.Access.Duration.Duration.String() != "10m0s" || s.ExpiresAfter.Duration.String() != "1h0m0s" || len(s.Rules) != 2 ||
		access.RuleName(&s.Rules[0]) != "p/" || access.RuleName(&s.Rules[1]) != "p/secrets" || s.Rules[1].Approvers.Groups[0] != "holdfast:approvers" {
		t.Errorf("stamped %+v", s)
	}
}

func TestAsk(t *testing.T) {
	t.Parallel()
	full := func(context.Context, string, string) error { return access.ErrTooManyPending }
	failing := func(context.Context, string, string) error { return errors.New("storage") }
	const named = `"name":"asked-1"`
	for name, test := range map[string]struct {
		user    string
		room    Room
		meta    string
		spec    string
		tamper  func(string) string
		message string
	}{
		"well":            {"bot", roomy, named, wantsDB, nil, ""},
		"a label":         {"bot", roomy, named + `,"labels":{"team":"x"}`, wantsDB, nil, ""},
		"by a person":     {"jane", roomy, named, wantsDB, nil, `"jane" is no agent, and only agents ask ahead; what people may do, RBAC says (decision ID)`},
		"while suspended": {"idle", roomy, named, wantsDB, nil, "Agent idle is suspended; its owner is jane (decision ID)"},
		"what nobody may": {"bot", roomy, named, strings.Replace(wantsDB, "secrets", "pods", 1), nil, `no policy lets the agent ask to get pods "db" in namespace "prod"; it may ask for what p/secrets covers; a cluster admin says in spec.requestable of an AgentPolicy what may be asked for (decision ID)`},
		"all verbs":       {"bot", roomy, named, strings.Replace(wantsDB, `"get"`, `"*"`, 1), nil, `spec.access.verbs[0]: Invalid value: "*": want verbs by name: an approver has to see what is granted (decision ID)`},
		"to become another": {"bot", roomy, named, `"access":{"verbs":["update"],"apiGroups":["holdfast.dev"],"resources":["agents"],"names":["bot"]}`, nil,
			"no approval lifts a denial: agents may not change Agents, policies or anything else of Holdfast (decision ID)"},
		"Holdfast itself": {"bot", roomy, named, `"access":{"verbs":["delete"],"apiGroups":[""],"resources":["pods"],"namespaces":["holdfast-system"],"names":["x"]}`, nil,
			`no approval lifts a denial: holdfast:self-protection/own-namespace denies the agent to delete pods "x" in namespace "holdfast-system": Agents may not touch the namespace that Holdfast runs in. (decision ID)`},
		"a name as Holdfast's": {"bot", roomy, `"name":"abc-1"`, wantsDB, nil, "metadata.name: want generateName asked-, or a name that starts with that (decision ID)"},
		"Holdfast's label":     {"bot", roomy, named + `,"labels":{"holdfast.dev/key":"abc"}`, wantsDB, nil, "metadata.labels: holdfast.dev/key is Holdfast's own; leave it out (decision ID)"},
		"Holdfast's annotation": {"bot", roomy, named + `,"annotations":{"x.holdfast.dev/voided":"abc"}`, wantsDB, nil,
			"metadata.annotations: x.holdfast.dev/voided is Holdfast's own; leave it out (decision ID)"},
		"a finalizer": {"bot", roomy, named + `,"finalizers":["a/b"]`, wantsDB, nil,
			"metadata: leave finalizers and ownerReferences out; Holdfast removes the AccessRequest some time after its end (decision ID)"},
		"too many":       {"bot", full, named, wantsDB, nil, "too many requests wait for people already; withdraw one (kubectl holdfast get --mine), or wait until they are decided (decision ID)"},
		"no storage":     {"bot", failing, named, wantsDB, nil, "whether there is room for another request could not be looked up; try again (decision ID)"},
		"unknown fields": {"bot", roomy, named, wantsDB + `,"frob":1`, nil, `the object is not understood: unknown field "spec.frob" (decision ID)`},
		"another requester": {"bot", roomy, named, wantsDB, func(s string) string { return strings.Replace(s, `"requester":"bot"`, `"requester":"eve"`, 1) },
			"the AccessRequest does not carry who asks and what it takes: the policies have changed this moment, and it helps to try again; or the mutating webhook that stamps it is missing (decision ID)"},
		"fewer approvals": {"bot", roomy, named, wantsDB, func(s string) string { return strings.Replace(s, `"holdfast:approvers"`, `"friends"`, 1) },
			"the AccessRequest does not carry who asks and what it takes: the policies have changed this moment, and it helps to try again; or the mutating webhook that stamps it is missing (decision ID)"},
		"for longer": {"bot", roomy, named, wantsDB, func(s string) string { return strings.Replace(s, `"duration":"10m0s"`, `"duration":"2h"`, 1) },
			`spec.access.duration: Invalid value: "2h0m0s": want 1s to 1h0m0s, which is what p/secrets allows (decision ID)`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := askers(t, test.room)
			object := ask(test.meta, test.spec)
			if test.tamper != nil || test.message == "" {
				object = stamped(t, c, test.user, object)
			} else if stampedFirst(t, c, test.user, object) {
				object = stamped(t, c, test.user, object)
			}
			if test.tamper != nil {
				before := object
				if object = test.tamper(object); object == before {
					t.Fatal("nothing was tampered with")
				}
			}
			got := answerOf(t, post(handler(Own(c)), ownReview("accessrequests", "", test.user, object)))
			message := ""
			if got.Result != nil {
				causes := got.Result.Details.Causes
				message = got.Result.Message
				for _, cause := range causes {
					if cause.Type == "HoldfastDecision" {
						message = strings.ReplaceAll(message, cause.Message, "ID")
					}
				}
			}
			if got.Allowed != (test.message == "") || message != test.message {
				t.Errorf("allowed %t\ngot  %s\nwant %s", got.Allowed, message, test.message)
			}
		})
	}
}

// stampedFirst says whether the mutating webhook lets it pass.
func stampedFirst(t *testing.T, c OwnConfig, user, object string) bool {
	t.Helper()
	return answerOf(t, post(handler(Stamp(c)), ownReview("accessrequests", "", user, object))).Allowed
}

// TestAskIsRecorded: the audit event says which agent asked, and for which AccessRequest.
func TestAskIsRecorded(t *testing.T) {
	t.Parallel()
	kept := ""
	c := askers(t, func(_ context.Context, agent, name string) error { kept = agent + " " + name; return nil })
	object := stamped(t, c, "bot", ask(`"name":"asked-1"`, wantsDB))
	got := answerOf(t, post(handler(Own(c)), ownReview("accessrequests", "", "bot", object)))
	for key, value := range got.AuditAnnotations {
		record, err := decision.ParseAnnotation(decision.GuardWebhook+"/"+key, value)
		if err != nil || record.Decision != "Allow" || record.Reason != decision.ReasonAsked || record.AccessRequest != "asked-1" || fmt.Sprint(record.Agents) != "[bot]" {
			t.Errorf("record %+v, %v", record, err)
		}
	}
	if kept != "bot asked-1" {
		t.Errorf("a place is kept for %q", kept)
	}
	kept = ""
	dry := strings.Replace(ownReview("accessrequests", "", "bot", object), `"uid":"u1"`, `"uid":"u1","dryRun":true`, 1)
	if !answerOf(t, post(handler(Own(c)), dry)).Allowed || kept != "" {
		t.Errorf("a dry run is refused, or keeps a place: %q", kept)
	}
}
