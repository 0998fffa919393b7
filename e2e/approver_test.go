package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/e2e/local"
)

// TestApprover: what an approver sees and does with kubectl holdfast, from a held request to
// an approval that is taken back.
func TestApprover(t *testing.T) {
	c := up(t, func(config *local.Config) { config.NoEvidence = true })
	c.own(t)
	c.policy(t, "holds-namespaces", `
  agents: ["*"]
  rules:
  - name: hold
    match: {verbs: [delete], apiGroups: [""], resources: [namespaces]}
    action: Hold
    approvers: {groups: ["holdfast:approvers"]}
    wait: 0s
`)
	c.apply(t, `
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: orders, namespace: shop}
spec: {storageClassName: "", accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Secret
metadata: {name: password, namespace: shop}
`)
	holdfast := func(who identity, args ...string) result {
		return c.program(t, filepath.Join(filepath.Dir(c.info.Kubectl), "kubectl-holdfast"), "", who, args...)
	}
	shows := func(r result, want ...string) {
		t.Helper()
		for _, text := range want {
			if r.code != 0 || !strings.Contains(r.out, text) {
				t.Errorf("exit %d, want %q in\n%s%s", r.code, text, r.out, r.err)
			}
		}
	}
	c.refused(t, "it waits for approval", agent, "delete", "namespace", "shop")
	request := c.pendingRequest(t, "shop")
	shows(holdfast(approver, "describe", request),
		`deletes persistentvolumeclaims "shop/orders" (1Gi), which is bound to no volume and holds no data`,
		"  persistentvolumeclaims  1\n", "  secrets                 1\n", "Version:    v1 of its API")
	if digest := c.must(t, admin, "get", "accessrequest", request, "-o", "jsonpath={.status.affectedDigest}"); len(digest) != 64 {
		t.Errorf("the digest of what is affected: %q", digest)
	}
	if r := holdfast(approver, "revoke", request, "-m", "too early"); r.code == 0 || !strings.Contains(r.err, "has no approval to take back") {
		t.Errorf("revoking what waits: exit %d %s%s", r.code, r.out, r.err)
	}
	shows(holdfast(approver, "approve", request), "is approved")
	shows(holdfast(approver, "describe", request), "kubectl holdfast revoke "+request+" -m COMMENT")
	if r := holdfast(approver, "deny", request, "-m", "no"); r.code == 0 || !strings.Contains(r.err, "kubectl holdfast revoke "+request) {
		t.Errorf("denying what is approved: exit %d %s%s", r.code, r.out, r.err)
	}
	if r := holdfast(human, "revoke", request, "-m", "no"); r.code == 0 {
		t.Errorf("a stranger revokes: %s%s", r.out, r.err)
	}
	c.phase(t, request, "Approved")
	// The one who approved takes it back.
	shows(holdfast(approver, "revoke", request, "-m", "wrong cluster"), "is revoked, and was not used: Revoked by approver: \"wrong cluster\"")
	c.phase(t, request, "Revoked")
	c.refused(t, "it waits for approval", agent, "delete", "namespace", "shop")
	c.must(t, admin, "get", "namespace", "shop")

	eventually(t, 30*time.Second, "the agent's activity is seen", func() error {
		r := holdfast(approver, "agents", "--no-headers")
		fields := strings.Fields(r.out)
		if len(fields) != 8 || fields[0] != local.AgentName || fields[5] != "holds-namespaces" || fields[6] == "<none>" {
			return fmt.Errorf("exit %d: %s%s", r.code, r.out, r.err)
		}
		return nil
	})
}
