package authorizer

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/agent"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/engine"
	"github.com/holdfast-dev/holdfast/pkg/policy"
)

// cluster has nothing in it.
type cluster struct{}

func (cluster) Namespace(context.Context, string) (map[string]any, error)   { return nil, nil }
func (cluster) Pod(context.Context, string, string) (map[string]any, error) { return nil, nil }
func (cluster) Aggregated(group, _ string) bool                             { return group == "widgets.example.com" }
func (cluster) Requester(context.Context, string) string                    { return "" }
func (cluster) Permitted(context.Context, *decision.Request) (bool, error) {
	return true, nil
}

func (cluster) Confirm(context.Context, *v1alpha1.AccessRequest, []string) (bool, error) {
	return false, nil
}

func setup(t testing.TB) *Handler {
	t.Helper()
	p, err := policy.Compile(&v1alpha1.AgentPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "p"},
		Spec: v1alpha1.AgentPolicySpec{Agents: []v1alpha1.Pattern{"*"}, Rules: []v1alpha1.Rule{
			{Name: "secrets", Action: v1alpha1.Hold, Match: v1alpha1.Match{Verbs: []v1alpha1.Pattern{"get", "list", "watch"}, Resources: []v1alpha1.Pattern{"secrets"}}},
			{Name: "deletes", Action: v1alpha1.Deny, Match: v1alpha1.Match{Verbs: []v1alpha1.Pattern{"delete"}}},
		}},
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
	return NewHandler(Config{Engine: e, Cluster: cluster{}, Log: slog.New(slog.DiscardHandler)})
}

func post(h http.Handler, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, "/authorize", strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// review is a SubjectAccessReview of the bot with more fields of its spec.
func review(more string) string {
	return `{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{"user":"system:serviceaccount:agents:bot","groups":["system:serviceaccounts:agents"],` + more + `}}`
}

func statusOf(t testing.TB, w *httptest.ResponseRecorder) authorizationv1.SubjectAccessReviewStatus {
	t.Helper()
	var answer authorizationv1.SubjectAccessReview
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil || w.Code != http.StatusOK || answer.Kind != "SubjectAccessReview" {
		t.Fatalf("answer %d %s is no SubjectAccessReview: %v", w.Code, w.Body, err)
	}
	return answer.Status
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	h := setup(t)
	for name, test := range map[string]struct {
		body            string
		denied, allowed bool
		decision        string
		reason          decision.Reason
	}{
		"a read that is held":        {review(`"resourceAttributes":{"verb":"get","version":"v1","resource":"secrets","namespace":"prod","name":"db"}`), true, false, "Hold", decision.ReasonRule},
		"a read that RBAC decides":   {review(`"resourceAttributes":{"verb":"get","version":"v1","resource":"pods"}`), false, false, "", ""},
		"a change left to admission": {review(`"resourceAttributes":{"verb":"delete","version":"v1","resource":"pods","name":"x"}`), false, false, "", ""},
		"a change of an aggregated":  {review(`"resourceAttributes":{"verb":"delete","group":"widgets.example.com","version":"v1","resource":"widgets","name":"x"}`), true, false, "Deny", decision.ReasonRule},
		"an ask":                     {review(`"resourceAttributes":{"verb":"create","group":"holdfast.dev","version":"v1alpha1","resource":"accessrequests"}`), false, true, "Allow", decision.ReasonOwnRequest},
		"a URL":                      {review(`"nonResourceAttributes":{"verb":"get","path":"/metrics"}`), false, false, "", ""},
		"somebody who is no Agent":   {strings.Replace(review(`"nonResourceAttributes":{"verb":"get","path":"/metrics"}`), "agents:bot", "other:bot", 1), true, false, "Deny", decision.ReasonUndeclared},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := statusOf(t, post(h, test.body))
			if got.Denied != test.denied || got.Allowed != test.allowed {
				t.Errorf("got %+v, want denied %t, allowed %t", got, test.denied, test.allowed)
			}
			if test.decision == "" {
				if got.Reason != "" {
					t.Errorf("reason %q of what RBAC decides", got.Reason)
				}
				return
			}
			record, err := decision.ParseAuthorizationReason(got.Reason)
			if err != nil || record.Decision != test.decision || record.Reason != test.reason {
				t.Errorf("reason %q: %+v, %v, want %s %s", got.Reason, record, err, test.decision, test.reason)
			}
		})
	}
}

// TestBadReviews: what is no review that it knows is denied, and the answer names the field.
func TestBadReviews(t *testing.T) {
	t.Parallel()
	h := setup(t)
	pod := `"resourceAttributes":{"verb":"get","version":"v1","resource":"pods"`
	for name, test := range map[string]struct{ body, want string }{
		"no JSON":                {`{`, "the body is no SubjectAccessReview in JSON"},
		"another kind":           {`{"apiVersion":"v1","kind":"Pod"}`, "want kind SubjectAccessReview of authorization.k8s.io/v1"},
		"another version":        {strings.Replace(review(pod+"}"), "/v1\"", "/v1beta1\"", 1), "want kind SubjectAccessReview of authorization.k8s.io/v1"},
		"no attributes":          {review(`"uid":"x"`), "want one of spec.resourceAttributes and spec.nonResourceAttributes"},
		"both":                   {review(pod + `},"nonResourceAttributes":{"verb":"get","path":"/"}`), "want one of spec.resourceAttributes and spec.nonResourceAttributes"},
		"no user":                {`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":{` + pod + `}}}`, "spec.user is empty"},
		"a user of 1 MB":         {strings.Replace(review(pod+"}"), "agents:bot", strings.Repeat("x", 1<<20), 1), "spec.user has 1048598 bytes; want at most 65536"},
		"no verb":                {review(`"resourceAttributes":{"resource":"pods"}`), "spec.resourceAttributes wants a verb and a resource"},
		"no path":                {review(`"nonResourceAttributes":{"verb":"get"}`), "spec.nonResourceAttributes wants a path and a verb"},
		"an empty selector":      {review(pod + `,"fieldSelector":{}}`), "spec.resourceAttributes.fieldSelector wants one of rawSelector and requirements"},
		"a field selector":       {review(pod + `,"fieldSelector":{"rawSelector":"a in (b)"}}`), "spec.resourceAttributes.fieldSelector.rawSelector is no field selector"},
		"a label selector":       {review(pod + `,"labelSelector":{"rawSelector":"a in (b"}}`), "spec.resourceAttributes.labelSelector.rawSelector is no label selector"},
		"an operator":            {review(pod + `,"labelSelector":{"requirements":[{"key":"a","operator":"Like","values":["b"]}]}}`), "spec.resourceAttributes.labelSelector.requirements[0].operator: want In, NotIn, Exists or DoesNotExist"},
		"an operator of nothing": {review(pod + `,"fieldSelector":{"requirements":[{"key":"a","operator":"In"}]}}`), "spec.resourceAttributes.fieldSelector.requirements[0].values is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := statusOf(t, post(h, test.body))
			if !got.Denied || got.Allowed || got.EvaluationError != test.want || !strings.Contains(got.Reason, test.want) {
				t.Errorf("got %.300q, want it denied: %s", fmt.Sprintf("%+v", got), test.want)
			}
		})
	}
}

func TestManyGroups(t *testing.T) {
	t.Parallel()
	groups := strings.Repeat(`"system:authenticated:`+strings.Repeat("g", 150)+`",`, 10_000) + `"x"`
	body := strings.Replace(review(`"resourceAttributes":{"verb":"get","version":"v1","resource":"secrets"}`), `["system:serviceaccounts:agents"]`, "["+groups+"]", 1)
	if got := statusOf(t, post(setup(t), body)); !got.Denied {
		t.Errorf("10,000 groups: %+v, want it denied by the rule", got)
	}
}

func TestNotReviews(t *testing.T) {
	t.Parallel()
	h := setup(t)
	if w := post(h, strings.Repeat(" ", MaxReview+1)); w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("too large: %d", w.Code)
	}
	r := httptest.NewRequest(http.MethodGet, "/authorize", nil)
	w := httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("GET: %d", w.Code)
	}
	r = httptest.NewRequest(http.MethodPost, "/authorize", strings.NewReader("{}"))
	w = httptest.NewRecorder()
	if h.ServeHTTP(w, r); w.Code != http.StatusUnsupportedMediaType {
		t.Errorf("no content type: %d", w.Code)
	}
}

// FuzzReview: whatever comes, it is answered, and what is no review is not allowed.
func FuzzReview(f *testing.F) {
	f.Add([]byte(review(`"resourceAttributes":{"verb":"get","version":"v1","resource":"secrets","fieldSelector":{"rawSelector":"a=b"},"labelSelector":{"rawSelector":"a in (b)"}}`)))
	f.Add([]byte(review(`"nonResourceAttributes":{"verb":"get","path":"/metrics"}`)))
	f.Add([]byte(`{"apiVersion":"authorization.k8s.io/v1","kind":"SubjectAccessReview","spec":null}`))
	h := setup(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		w := post(h, string(body))
		if w.Code == http.StatusInternalServerError {
			t.Fatalf("%q: panic", body)
		}
		if w.Code != http.StatusOK {
			return
		}
		got := statusOf(t, w)
		if _, err := DecodeReview(body); err != nil && !got.Denied {
			t.Errorf("%q: %+v, want it denied: %v", body, got, err)
		}
	})
}
