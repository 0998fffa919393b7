package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// A token that lives for another time than was asked for is said to.
func TestAgentKubeconfig(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		subjects []v1alpha1.Subject
		lives    time.Duration
		code     int
		want     string
	}{
		{[]v1alpha1.Subject{{Kind: v1alpha1.ServiceAccountSubject, Namespace: "agents", Name: "claude"}}, 8 * time.Hour, 0, "FILE is agent/claude until 2026-07-01T20:00:00Z\n"},
		{[]v1alpha1.Subject{{Kind: v1alpha1.ServiceAccountSubject, Namespace: "agents", Name: "claude"}}, time.Hour, 0,
			"Warning: the API server gave the token 1h0m0s, not the 8h0m0s asked for.\nFILE is agent/claude until 2026-07-01T13:00:00Z\n"},
		{[]v1alpha1.Subject{{Kind: v1alpha1.ServiceAccountSubject, Namespace: "agents", Name: "*"}}, 0, 1,
			"error: find the service account: agent/claude has 0 service accounts by name among its subjects, and one is wanted: \"kubectl create token NAME -n NAMESPACE\" gives a token of any\n"},
	} {
		a, _, errOut := setupServer(t, func(_, path string, _ []byte) (int, any) {
			switch path {
			case "agents/claude":
				return http.StatusOK, &v1alpha1.Agent{TypeMeta: typed("Agent"), Spec: v1alpha1.AgentSpec{Subjects: c.subjects}}
			case "/apis/rbac.authorization.k8s.io/v1/rolebindings":
				return http.StatusOK, &rbacv1.RoleBindingList{TypeMeta: metav1.TypeMeta{Kind: "RoleBindingList", APIVersion: "rbac.authorization.k8s.io/v1"}}
			case "/api/v1/namespaces/agents/serviceaccounts/claude/token":
				return http.StatusCreated, &authenticationv1.TokenRequest{
					TypeMeta: metav1.TypeMeta{Kind: "TokenRequest", APIVersion: "authentication.k8s.io/v1"},
					Status:   authenticationv1.TokenRequestStatus{Token: "t", ExpirationTimestamp: metav1.NewTime(noon.Add(c.lives))},
				}
			}
			t.Errorf("asked for %s", path)
			return http.StatusNotFound, nil
		})
		file := filepath.Join(t.TempDir(), "kubeconfig")
		code := run(t, a, "agent", "kubeconfig", "claude", "--out", file)
		if got := strings.ReplaceAll(errOut.String(), file, "FILE"); code != c.code || got != c.want {
			t.Errorf("exit %d %q, want %q", code, got, c.want)
		}
	}
}
