package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// setupServer is the program before an API server that answers as it is told; the real one
// is in e2e.
func setupServer(t *testing.T, answer func(method, path string, body []byte) (int, any)) (a *app, out, errOut *bytes.Buffer) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body bytes.Buffer
		_, _ = body.ReadFrom(r.Body)
		status, object := answer(r.Method, strings.TrimPrefix(r.URL.Path, "/apis/holdfast.dev/v1alpha1/"), body.Bytes())
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(object)
	}))
	t.Cleanup(server.Close)
	a, out, errOut = setup(t)
	a.flags.APIServer = &server.URL
	return a, out, errOut
}

func run(t *testing.T, a *app, args ...string) int {
	t.Helper()
	root := rootCommand(a)
	root.SetArgs(args)
	return a.report(root.ExecuteContext(t.Context()))
}

// typed is an object as an API server sends it.
func typed(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: kind}
}

func TestRevoke(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name        string
		phase       v1alpha1.Phase
		code        int
		out, errOut string
	}{
		{"an approval", v1alpha1.Approved, 0, "r-1 is revoked, and was not used: Revoked by ann: \"wrong cluster\"\n", ""},
		{"what waits", v1alpha1.Pending, 1, "", "error: request r-1 has no approval to take back: Pending, p/r has 0 of 2 approvals. No review was made; to refuse it: kubectl holdfast deny r-1 -m COMMENT\n"},
	} {
		var mu sync.Mutex
		r := request1(func(r *v1alpha1.AccessRequest) { r.TypeMeta, r.Status.Phase = typed("AccessRequest"), c.phase })
		var made []v1alpha1.ReviewSpec
		a, out, errOut := setupServer(t, func(method, path string, body []byte) (int, any) {
			mu.Lock()
			defer mu.Unlock()
			if method == http.MethodGet && path == "accessrequests/r-1" {
				return http.StatusOK, r
			}
			var v v1alpha1.Review
			if err := json.Unmarshal(body, &v); err != nil || method != http.MethodPost || path != "reviews" {
				t.Errorf("%s %s: %v", method, path, err)
			}
			v.TypeMeta, v.Name = typed("Review"), "review-1"
			made = append(made, v.Spec)
			r.Status.Phase = v1alpha1.Revoked
			r.Status.Reviews = []v1alpha1.ReviewCopy{{Name: v.Name, Reviewer: "ann", Verdict: v.Spec.Verdict, Comment: v.Spec.Comment, Rules: []string{"p/r"}}}
			return http.StatusCreated, &v
		})
		code := run(t, a, "revoke", "accessrequest/r-1", "-m", "wrong cluster")
		if code != c.code || out.String() != c.out || errOut.String() != c.errOut {
			t.Errorf("%s: got %d %q %q, want %d %q %q", c.name, code, out, errOut, c.code, c.out, c.errOut)
		}
		switch {
		case c.code != 0 && len(made) > 0:
			t.Errorf("%s: reviews were made: %v", c.name, made)
		case c.code == 0 && (len(made) != 1 || made[0].AccessRequest != "r-1" || made[0].Verdict != v1alpha1.Reject || made[0].Comment != "wrong cluster"):
			t.Errorf("%s: reviews made: %v, want one Deny of r-1 with the comment", c.name, made)
		}
	}
}

// Completion of revoke offers approvals alone.
func TestCompleteApproved(t *testing.T) {
	t.Parallel()
	var list v1alpha1.AccessRequestList
	list.TypeMeta = typed("AccessRequestList")
	for _, phase := range []v1alpha1.Phase{v1alpha1.Pending, v1alpha1.Approved, v1alpha1.Redeemed, v1alpha1.Used} {
		list.Items = append(list.Items, *request1(func(r *v1alpha1.AccessRequest) {
			r.Name, r.Status.Phase = strings.ToLower(string(phase)), phase
		}))
	}
	a, out, _ := setupServer(t, func(string, string, []byte) (int, any) { return http.StatusOK, &list })
	if code := run(t, a, "__complete", "revoke", ""); code != 0 || !strings.HasPrefix(out.String(), "approved\tbot:") || strings.Count(out.String(), "bot:") != 1 {
		t.Errorf("got %d %q", code, out)
	}
}

// Who may list Agents but no policies sees the number that Holdfast counted, and is told why.
func TestAgentsWithoutPolicies(t *testing.T) {
	t.Parallel()
	two := int32(2)
	agents := &v1alpha1.AgentList{TypeMeta: typed("AgentList"), Items: []v1alpha1.Agent{{
		ObjectMeta: metav1.ObjectMeta{Name: "bot"}, Status: v1alpha1.AgentStatus{Policies: &two},
	}}}
	policies := &v1alpha1.AgentPolicyList{TypeMeta: typed("AgentPolicyList"), Items: []v1alpha1.AgentPolicy{{
		ObjectMeta: metav1.ObjectMeta{Name: "keep-replicas"}, Spec: v1alpha1.AgentPolicySpec{Agents: []v1alpha1.Pattern{"b*"}},
	}}}
	forbidden := apierrors.NewForbidden(schema.GroupResource{Group: v1alpha1.Group, Resource: "agentpolicies"}, "", nil).Status()
	for _, c := range []struct {
		status             int
		policies           any
		code               int
		want, note, absent string
	}{
		{http.StatusOK, policies, 0, "keep-replicas", "", "may not"},
		{http.StatusForbidden, &forbidden, 0, "2 ", "You may not list AgentPolicies: only their number is shown.\n", "keep-replicas"},
		{http.StatusInternalServerError, &metav1.Status{Status: metav1.StatusFailure, Code: http.StatusInternalServerError}, 1, "", "error: list policies: ", "bot"},
	} {
		a, out, errOut := setupServer(t, func(_, path string, _ []byte) (int, any) {
			if path == "agents" {
				return http.StatusOK, agents
			}
			return c.status, c.policies
		})
		code := run(t, a, "agents", "--no-headers")
		if code != c.code || !strings.Contains(out.String(), c.want) || !strings.HasPrefix(errOut.String(), c.note) || strings.Contains(out.String()+errOut.String(), c.absent) {
			t.Errorf("policies answered with %d: got %d %q %q", c.status, code, out, errOut)
		}
	}
}
