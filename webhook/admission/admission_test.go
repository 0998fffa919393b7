package admission

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/agent"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/engine"
	"github.com/holdfast-dev/holdfast/pkg/policy"
)

const deleteReview = `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{
  "uid":"u1","kind":{"group":"","version":"v1","kind":"Namespace"},
  "resource":{"group":"","version":"v1","resource":"namespaces"},
  "name":"prod","namespace":"prod","operation":"DELETE",
  "userInfo":{"username":"system:serviceaccount:agents:bot","groups":["system:serviceaccounts:agents"]},
  "object":null,"oldObject":{"kind":"Namespace","metadata":{"name":"prod"}},"dryRun":true,
  "options":{"kind":"DeleteOptions","propagationPolicy":"Background"}}}`

func guard(t testing.TB) *Handler {
	t.Helper()
	p, err := policy.Compile(&v1alpha1.AgentPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "p"},
		Spec: v1alpha1.AgentPolicySpec{Agents: []v1alpha1.Pattern{"*"}, Rules: []v1alpha1.Rule{{
			Name: "r", Action: v1alpha1.Deny, Match: v1alpha1.Match{Verbs: []v1alpha1.Pattern{"delete"}}, Message: "No.",
		}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	e := engine.New(engine.Config{})
	e.Load(engine.State{
		Agents: agent.NewSet([]*v1alpha1.Agent{{
			ObjectMeta: metav1.ObjectMeta{Name: "bot"},
			Spec:       v1alpha1.AgentSpec{Subjects: []v1alpha1.Subject{{Kind: v1alpha1.ServiceAccountSubject, Namespace: "agents", Name: "*"}}},
		}}),
		Policies: policy.NewSet([]*policy.Policy{p}),
	})
	return handler(Guard(GuardConfig{Engine: e}))
}

func handler(j Judge) *Handler {
	return NewHandler(Config{Webhook: decision.GuardWebhook, Judge: j, Log: slog.New(slog.DiscardHandler), Key: signing()})
}

func signing() *decision.Key {
	k, err := decision.NewKey([]byte(strings.Repeat("k", decision.KeyMin)))
	if err != nil {
		panic(err)
	}
	return k
}

func post(h http.Handler, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func answerOf(t testing.TB, w *httptest.ResponseRecorder) *admissionv1.AdmissionResponse {
	t.Helper()
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(w.Body.Bytes(), &review); err != nil || review.Response == nil {
		t.Fatalf("answer %d %s is no AdmissionReview: %v", w.Code, w.Body, err)
	}
	return review.Response
}

func TestDenial(t *testing.T) {
	t.Parallel()
	w := post(guard(t), deleteReview)
	got := answerOf(t, w)
	if w.Code != http.StatusOK || got.Allowed || got.UID != "u1" || got.Result.Code != 403 || got.Result.Reason != metav1.StatusReasonForbidden {
		t.Fatalf("%d %s: want a 403 for u1", w.Code, w.Body)
	}
	if len(got.AuditAnnotations) != 1 {
		t.Fatalf("annotations %v: want one", got.AuditAnnotations)
	}
	for key, value := range got.AuditAnnotations {
		record, err := decision.ParseAnnotation(decision.GuardWebhook+"/"+key, value)
		if err != nil {
			t.Fatal(err)
		}
		if !signing().Signed(decision.GuardWebhook+"/"+key, value) {
			t.Errorf("%s: not signed", value)
		}
		want := decision.Record{
			ID: record.ID, Webhook: decision.GuardWebhook, Decision: "Deny", Reason: decision.ReasonRule,
			Agents: []string{"bot"}, Rules: []string{"p/r"}, DryRun: true,
		}
		if gotJSON, wantJSON := mustJSON(t, record), mustJSON(t, want); gotJSON != wantJSON {
			t.Errorf("record %s, want %s", gotJSON, wantJSON)
		}
		causes := got.Result.Details.Causes
		if len(causes) != 2 || causes[0].Field != "p/r" || causes[0].Type != "HoldfastRule" || causes[1].Message != record.ID {
			t.Errorf("causes %+v: want the rule and the decision", causes)
		}
	}
}

func mustJSON(t testing.TB, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestBadReviews: an error answer, never a panic, never Allow.
func TestBadReviews(t *testing.T) {
	t.Parallel()
	change := func(from, to string) string { return strings.Replace(deleteReview, from, to, 1) }
	for name, test := range map[string]struct {
		body string
		want int
	}{
		"empty":            {"", 400},
		"no JSON":          {"{", 400},
		"a list":           {"[]", 400},
		"null":             {"null", 400},
		"another version":  {change("admission.k8s.io/v1", "admission.k8s.io/v1beta1"), 400},
		"another kind":     {change(`"kind":"AdmissionReview"`, `"kind":"TokenReview"`), 400},
		"no request":       {`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}`, 400},
		"request null":     {`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":null}`, 400},
		"request a number": {`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":1}`, 400},
		"no uid":           {change(`"uid":"u1"`, `"uid":""`), 400},
		"no user":          {change(`"username":"system:serviceaccount:agents:bot"`, `"username":""`), 400},
		"no resource":      {change(`"resource":"namespaces"`, `"resource":""`), 400},
		"no operation":     {change("DELETE", "EXPLODE"), 400},
		"object a string":  {change(`"object":null`, `"object":"x"`), 400},
		"object a list":    {change(`"object":null`, `"object":[]`), 400},
		"old object bad":   {change(`"oldObject":{`, `"oldObject":{{`), 400},
		"too large":        {strings.Repeat(" ", MaxReview+1), 413},
		"deep":             {change(`"object":null`, `"object":`+strings.Repeat(`{"a":`, 20000)+"1"+strings.Repeat("}", 20000)), 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := post(guard(t), test.body)
			var s metav1.Status
			if err := json.Unmarshal(w.Body.Bytes(), &s); err != nil || w.Code != test.want || s.Message == "" || s.Status != metav1.StatusFailure {
				t.Errorf("%d %s: want status %d with a message", w.Code, w.Body, test.want)
			}
		})
	}
}

// chunked hides a body's length.
type chunked struct{ *strings.Reader }

func TestBadRequests(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		request *http.Request
		want    int
	}{
		"get":          {httptest.NewRequest(http.MethodGet, "/", nil), 405},
		"content type": {httptest.NewRequest(http.MethodPost, "/", strings.NewReader(deleteReview)), 415},
		"too large, undeclared": {func() *http.Request {
			r := httptest.NewRequest(http.MethodPost, "/", chunked{strings.NewReader(strings.Repeat(" ", MaxReview+1))})
			r.ContentLength = -1
			r.Header.Set("Content-Type", "application/json")
			return r
		}(), 413},
	} {
		w := httptest.NewRecorder()
		guard(t).ServeHTTP(w, test.request)
		if w.Code != test.want {
			t.Errorf("%s: %d, want %d", name, w.Code, test.want)
		}
	}
}

func TestPanicIsNoAllow(t *testing.T) {
	t.Parallel()
	w := post(handler(func(context.Context, *Review) decision.Decision { panic("secret") }), deleteReview)
	if w.Code != http.StatusInternalServerError || strings.Contains(w.Body.String(), "secret") {
		t.Errorf("%d %s, want 500 without the panic's value", w.Code, w.Body)
	}
}

func TestZeroDecisionDenies(t *testing.T) {
	t.Parallel()
	w := post(handler(func(context.Context, *Review) decision.Decision { return decision.Decision{} }), deleteReview)
	if answerOf(t, w).Allowed {
		t.Error("the zero decision allows")
	}
}

func TestDecodeReview(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		body            string
		verb, name, ns  string
		resource, group string
	}{
		"delete": {deleteReview, "delete", "prod", "prod", "namespaces", ""},
		"deletecollection": {strings.NewReplacer(`"name":"prod","namespace":"prod",`, `"name":"","namespace":"",`).Replace(deleteReview),
			"deletecollection", "prod", "prod", "namespaces", ""},
		"generated name": {strings.NewReplacer(`"name":"prod","namespace":"prod",`, "", "DELETE", "CREATE", `"object":null,"oldObject":{`, `"object":{`).Replace(deleteReview),
			"create", "prod", "prod", "namespaces", ""},
		"subresource": {strings.NewReplacer(`"name":"prod"`, `"subResource":"finalize","name":"prod"`, "DELETE", "UPDATE").Replace(deleteReview),
			"update", "prod", "prod", "namespaces/finalize", ""},
		"proxy": {strings.NewReplacer(`"resource":"namespaces"`, `"resource":"services"`, `"name":"prod"`, `"subResource":"proxy","name":"https:web:443"`, "DELETE", "CONNECT").Replace(deleteReview),
			"connect", "web", "prod", "services/proxy", ""},
	} {
		r, err := DecodeReview([]byte(test.body))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		q := r.Request
		if q.Verb != test.verb || q.Name != test.name || q.Namespace != test.ns || q.FullResource() != test.resource {
			t.Errorf("%s: %s %s %s/%s", name, q.Verb, q.FullResource(), q.Namespace, q.Name)
		}
	}
}

func ownReview(resource, sub, user, object string) string {
	return `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u1",
	 "resource":{"group":"holdfast.dev","version":"v1alpha1","resource":"` + resource + `"},"subResource":"` + sub + `","name":"x","operation":"CREATE",
	 "userInfo":{"username":"` + user + `"},"object":` + object + `}}`
}

func TestOwn(t *testing.T) {
	t.Parallel()
	net := agent.NewNet(nil)
	h := handler(Own(OwnConfig{IsAgent: func(u decision.User) bool { return u.Name == "bot" }, Net: &net}))
	agentObject := `{"kind":"Agent","apiVersion":"holdfast.dev/v1alpha1","metadata":{"name":"x"},"spec":{"subjects":[{"kind":"User","name":"NAME"}]}}`
	policyObject := `{"kind":"AgentPolicy","apiVersion":"holdfast.dev/v1alpha1","metadata":{"name":"x"},"spec":{"agents":["*"],"rules":[{"name":"r","action":"Deny"FIELD}]}}`
	for name, test := range map[string]struct {
		body    string
		message string
		warning string
	}{
		"good agent, outside the net": {ownReview("agents", "", "jane", strings.Replace(agentObject, "NAME", "claude", 1)), "",
			"User claude is outside the net: nothing stops it until the registrations are rendered again (holdfast-webhook render)"},
		"bad agent": {ownReview("agents", "", "jane", strings.Replace(agentObject, "NAME", "*", 1)),
			`spec.subjects[0].name: Invalid value: "*": would make every person an agent; name the users (decision ID)`, ""},
		"good policy": {ownReview("agentpolicies", "", "jane", strings.Replace(policyObject, "FIELD", "", 1)), "", ""},
		"unknown field": {ownReview("agentpolicies", "", "jane", strings.Replace(policyObject, "FIELD", `,"whne":"true"`, 1)),
			`the object is not understood: unknown field "spec.rules[0].whne" (decision ID)`, ""},
		"field in the wrong case": {ownReview("agentpolicies", "", "jane", strings.Replace(policyObject, "FIELD", `,"When":"true"`, 1)),
			`the object is not understood: unknown field "spec.rules[0].When" (decision ID)`, ""},
		"bad expression": {ownReview("agentpolicies", "", "jane", strings.Replace(policyObject, "FIELD", `,"when":"1 +"`, 1)),
			`spec.rules[0].when: Invalid value: "1 +": line 1, column 3: unexpected token EOF (decision ID)`, ""},
		"by an agent":    {ownReview("agents", "", "bot", strings.Replace(agentObject, "NAME", "claude", 1)), "agents may not write Holdfast's own kinds (decision ID)", ""},
		"a status":       {ownReview("agents", "status", "jane", strings.Replace(agentObject, "NAME", "claude", 1)), "only Holdfast itself writes the status of its kinds (decision ID)", ""},
		"unknown kind":   {ownReview("frobs", "", "jane", `{}`), "resource frobs is not one that this version of Holdfast knows (decision ID)", ""},
		"object missing": {ownReview("agents", "", "jane", `null`), "the object is not understood: unexpected end of JSON input (decision ID)", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := answerOf(t, post(h, test.body))
			message := ""
			if got.Result != nil {
				causes := got.Result.Details.Causes
				message = strings.ReplaceAll(got.Result.Message, causes[len(causes)-1].Message, "ID")
			}
			if got.Allowed != (test.message == "") || message != test.message || strings.Join(got.Warnings, "") != test.warning {
				t.Errorf("allowed %t\nmessage %s\nwant    %s\nwarnings %v", got.Allowed, message, test.message, got.Warnings)
			}
		})
	}
}

func FuzzDecodeReview(f *testing.F) {
	f.Add([]byte(deleteReview))
	f.Add([]byte(ownReview("agents", "", "jane", `{"spec":{}}`)))
	f.Add([]byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":1e999}}`))
	h := guard(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := DecodeReview(body)
		if err != nil {
			var review *ErrReview
			if r != nil || !errors.As(err, &review) {
				t.Fatalf("error %v beside %v", err, r)
			}
		}
		w := httptest.NewRecorder()
		q := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader(body))
		q.Header.Set("Content-Type", "application/json")
		h.ServeHTTP(w, q)
		if (err != nil) != (w.Code != http.StatusOK) {
			t.Fatalf("status %d beside error %v", w.Code, err)
		}
	})
}
