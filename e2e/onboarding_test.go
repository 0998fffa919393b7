package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/e2e/local"
)

// TestOnboarding: a person gives an agent an identity of its own, which works, asks, and can
// be taken away again.
func TestOnboarding(t *testing.T) {
	t.Parallel() // it waits more than it works
	c := up(t, func(config *local.Config) { config.NoEvidence = true })
	c.policy(t, "asks", fmt.Sprintf(mayAsk, false))
	c.policy(t, "shop", `
  agents: ["somebody"]
  rules:
  - name: deny
    match: {verbs: [delete], apiGroups: [""], resources: [configmaps]}
    action: Deny
    message: Not in the shop.
`)
	c.must(t, admin, "create", "namespace", "shop")
	file := filepath.Join(t.TempDir(), "claude.kubeconfig")
	add := []string{"agent", "add", "claude", "--namespaces", "shop", "--policy", "shop,asks", "--for", "1h", "--out", file}

	r := c.holdfast(t, human, append(add, "--dry-run")...)
	if _, err := os.Stat(file); r.code != 0 || err == nil || !strings.Contains(r.err, "agent/claude created (dry run)") {
		t.Errorf("dry run: exit %d %s%s", r.code, r.out, r.err)
	}
	if out := c.must(t, admin, "get", "agents", "-o", "name"); strings.Contains(out, "claude") {
		t.Errorf("the dry run made it: %s", out)
	}
	r = c.holdfast(t, human, add...)
	for _, want := range []string{"serviceaccount/claude in agents created", "agentpolicy/shop changed", "agentpolicy/asks unchanged", "agent/claude is inside the net", "is agent/claude until"} {
		if r.code != 0 || !strings.Contains(r.err, want) {
			t.Fatalf("add: exit %d, want %q in\n%s%s", r.code, want, r.out, r.err)
		}
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the kubeconfig has mode %v, %v", info.Mode(), err)
	}
	if owner := c.must(t, admin, "get", "agent", "claude", "-o", "jsonpath={.spec.owner.name}"); owner != local.HumanUser {
		t.Errorf("owner %q", owner)
	}
	if r := c.holdfast(t, human, add...); r.code != 0 || strings.Contains(r.err, "created") || strings.Contains(r.err, "changed: ") && !strings.Contains(r.err, "unchanged: ") {
		t.Errorf("again: exit %d %s", r.code, r.err)
	}

	claude := identity("claude")
	c.accounts = map[identity]string{claude: file}
	if out := c.must(t, claude, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"); out != "system:serviceaccount:agents:claude" {
		t.Errorf("it is %s", out)
	}
	// A young cluster has yet to put together what the role edit allows.
	eventually(t, 30*time.Second, "it may work in the shop", func() error {
		if r := c.kubectl(t, claude, "create", "configmap", "mine"); r.code != 0 {
			return fmt.Errorf("exit %d %s", r.code, r.err)
		}
		return nil
	})
	c.refused(t, "forbidden", claude, "create", "configmap", "mine", "-n", "default")
	eventually(t, 10*time.Second, "the policy judges it", func() error {
		if r := c.kubectl(t, claude, "delete", "configmap", "mine"); r.code == 0 || !strings.Contains(r.err, "Not in the shop") {
			return fmt.Errorf("exit %d %s", r.code, r.err)
		}
		return nil
	})
	asksAndWaits(t, c, claude)
	foreignAndOutside(t, c)
	takenAway(t, c, claude, file)
}

// holdfast is the plugin as somebody.
func (c *cluster) holdfast(t *testing.T, who identity, args ...string) result {
	t.Helper()
	return c.program(t, filepath.Join(filepath.Dir(c.info.Kubectl), "kubectl-holdfast"), "", who, args...)
}

func asksAndWaits(t *testing.T, c *cluster, claude identity) {
	done := make(chan result, 1)
	go func() {
		done <- c.holdfast(t, claude, "request", "--verbs", "get", "--resource", "secret/db", "-n", "default", "--for", "5m", "--reason", "to look", "--wait", "-o", "name")
	}()
	var name string
	eventually(t, 20*time.Second, "the request waits", func() error {
		r := c.holdfast(t, claude, "get", "--mine", "--no-headers")
		fields := strings.Fields(r.out)
		if r.code != 0 || len(fields) < 7 || fields[6] != "Pending" && fields[7] != "Pending" {
			return fmt.Errorf("exit %d %s%s", r.code, r.out, r.err)
		}
		name = fields[0]
		return nil
	})
	if r := c.holdfast(t, approver, "describe", name); r.code != 0 || !strings.Contains(r.out, "get secrets/db -n default") || !strings.Contains(r.out, "5m0s, counted from the approval") {
		t.Errorf("describe: exit %d %s%s", r.code, r.out, r.err)
	}
	if r := c.holdfast(t, human, "approve", name); r.code == 0 {
		t.Errorf("the owner approves: %s", r.out)
	}
	if r := c.holdfast(t, approver, "approve", name); r.code != 0 || !strings.Contains(r.out, "as often as it likes until its time is over") {
		t.Errorf("approve: exit %d %s%s", r.code, r.out, r.err)
	}
	if r := <-done; r.code != 0 || r.out != "accessrequest.holdfast.dev/"+name+"\n" {
		t.Errorf("request --wait: exit %d %s%s", r.code, r.out, r.err)
	}
	if r := c.holdfast(t, approver, "describe", name); !strings.Contains(r.out, "Ends at:") {
		t.Errorf("describe: %s", r.out)
	}
	if r := c.holdfast(t, claude, "request", "--verbs", "*", "--resource", "secrets/db", "-n", "default"); r.code == 0 || !strings.Contains(r.err, "want verbs by name") {
		t.Errorf("any verb: exit %d %s", r.code, r.err)
	}
}

// foreignAndOutside: what others made is left alone, and an agent that nothing stops is said
// to be one.
func foreignAndOutside(t *testing.T, c *cluster) {
	if r := c.holdfast(t, human, "agent", "add", "bot", "--namespaces", "shop", "--out", "-"); r.code == 0 || !strings.Contains(r.err, "serviceaccount/bot in agents is there, and was not made by this command") {
		t.Errorf("over another account: exit %d %s", r.code, r.err)
	}
	r := c.holdfast(t, human, "agent", "add", "far", "-n", "elsewhere", "--namespaces", "shop", "--out", "-", "--for", "30m")
	for _, want := range []string{"namespace/elsewhere created", "Warning: nothing stops agent/far yet", "holdfast-webhook render --agents -"} {
		if r.code != 0 || !strings.Contains(r.err, want) {
			t.Errorf("outside the net: exit %d, want %q in\n%s", r.code, want, r.err)
		}
	}
	if !strings.Contains(r.out, "current-context: far") {
		t.Errorf("no kubeconfig on standard output: %s", r.out)
	}
}

func takenAway(t *testing.T, c *cluster, claude identity, file string) {
	old, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if r := c.holdfast(t, human, "agent", "kubeconfig", "claude", "--for", "20m", "--out", file); r.code != 0 {
		t.Errorf("kubeconfig: exit %d %s", r.code, r.err)
	}
	if now, err := os.ReadFile(file); err != nil || string(now) == string(old) || !strings.Contains(string(now), "namespace: shop") {
		t.Errorf("no new token, or another namespace: %v", err)
	}
	c.must(t, claude, "get", "configmaps")
	if r := c.holdfast(t, human, "agent", "remove", "claude"); r.code == 0 || !strings.Contains(r.err, "nothing was removed") {
		t.Errorf("remove, not confirmed: exit %d %s", r.code, r.err)
	}
	c.must(t, claude, "get", "configmaps")
	r := c.holdfast(t, human, "agent", "remove", "claude", "--yes")
	if r.code != 0 || !strings.Contains(r.out, "agent/claude removed") || !strings.Contains(r.err, "Policies that still name agent claude: shop") {
		t.Errorf("remove: exit %d %s%s", r.code, r.out, r.err)
	}
	eventually(t, 20*time.Second, "its token ends", func() error {
		if r := c.kubectl(t, claude, "get", "configmaps"); r.code == 0 {
			return fmt.Errorf("it is still good")
		}
		return nil
	})
	if r := c.holdfast(t, human, "agent", "remove", "claude", "--yes"); r.code == 0 || !strings.Contains(r.err, "nothing was made for agent/claude") {
		t.Errorf("remove again: exit %d %s", r.code, r.err)
	}
}
