package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/e2e/local"
)

const (
	approver  identity = "approver"
	approver2 identity = "approver2"
)

const holdConfigMaps = `
  agents: ["*"]
  rules:
  - name: hold
    match: {verbs: [create, update, delete, deletecollection], apiGroups: [""], resources: [configmaps]}
    action: Hold
    message: A second pair of eyes.
    required: %d
    wait: %s
`

// TestHold: what a rule holds waits for people, and goes through once for one approval.
func TestHold(t *testing.T) {
	t.Parallel() // it waits more than it works
	c := up(t, func(config *local.Config) { config.NoEvidence = true })
	for _, part := range []struct {
		name string
		run  func(*testing.T, *cluster)
	}{
		{"WaitsAndGoesThrough", waitsAndGoesThrough},
		{"Denied", deniedByReview},
		{"WhoCounts", whoCounts},
		{"ChangedAfterApproval", changedAfterApproval},
		{"OneEffect", oneEffect},
		{"CannotWait", cannotWait},
		{"SuspendedWhileWaiting", suspendedWhileWaiting},
		{"Ledger", ledgerIsGuarded},
		{"Plugin", plugin},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, c) })
	}
}

// started is a kubectl of the agent that runs on.
func (c *cluster) started(t *testing.T, args ...string) <-chan result {
	t.Helper()
	done := make(chan result, 1)
	go func() { done <- c.kubectl(t, agent, args...) }()
	return done
}

// pendingRequest waits for the one pending AccessRequest for an object's name.
func (c *cluster) pendingRequest(t *testing.T, object string) string {
	t.Helper()
	var name string
	eventually(t, 20*time.Second, "the AccessRequest is open", func() error {
		out := c.must(t, admin, "get", "accessrequests", "-o",
			`jsonpath={range .items[?(@.status.phase=="Pending")]}{.metadata.name} {.spec.access.names[0]}{"\n"}{end}`)
		var found []string
		for line := range strings.Lines(out) {
			if request, of, _ := strings.Cut(strings.TrimSpace(line), " "); of == object {
				found = append(found, request)
			}
		}
		if len(found) != 1 {
			return fmt.Errorf("%d pending AccessRequests for %s, want 1", len(found), object)
		}
		name = found[0]
		return nil
	})
	return name
}

// review is somebody's verdict; more are arguments for kubectl.
func (c *cluster) review(t *testing.T, who identity, request, verdict string, more ...string) result {
	t.Helper()
	return c.kubectlWith(t, fmt.Sprintf(`
apiVersion: holdfast.dev/v1alpha1
kind: Review
metadata: {generateName: review-}
spec: {accessRequest: %s, verdict: %s, comment: "because I say so", reviewer: somebody-else}
`, request, verdict), who, append([]string{"create", "-f", "-"}, more...)...)
}

func (c *cluster) approve(t *testing.T, who identity, request string) {
	t.Helper()
	if r := c.review(t, who, request, "Approve"); r.code != 0 {
		t.Fatalf("%s approves: %s", who, r.err)
	}
}

func (c *cluster) phase(t *testing.T, request, want string) {
	t.Helper()
	c.must(t, admin, "wait", "--for=jsonpath={.status.phase}="+want, "--timeout=20s", "accessrequest/"+request)
}

func waitsAndGoesThrough(t *testing.T, c *cluster) {
	c.policy(t, "holds", fmt.Sprintf(holdConfigMaps, 1, "2m"))
	for _, step := range [][]string{
		{"create", "configmap", "waits", "--from-literal=a=b"},
		{"patch", "configmap", "waits", "--type=merge", "-p", `{"data":{"a":"c"}}`},
		{"delete", "configmap", "waits"},
	} {
		done := c.started(t, step...)
		request := c.pendingRequest(t, "waits")
		select {
		case r := <-done:
			t.Fatalf("kubectl %v did not wait: exit %d %s", step, r.code, r.err)
		case <-time.After(12 * time.Second): // beyond one inline wait: the client comes back
		}
		c.approve(t, approver, request)
		if r := <-done; r.code != 0 {
			t.Fatalf("kubectl %v after the approval: exit %d %s", step, r.code, r.err)
		}
		if reviewer := c.must(t, admin, "get", "accessrequest", request, "-o", "jsonpath={.status.reviews[0].reviewer}"); reviewer != "approver" {
			t.Errorf("the review is stamped %q, want approver", reviewer)
		}
	}
	if out := c.must(t, admin, "get", "configmap", "waits", "--ignore-not-found"); out != "" {
		t.Errorf("the ConfigMap is still there: %s", out)
	}
}

func deniedByReview(t *testing.T, c *cluster) {
	c.policy(t, "holds", fmt.Sprintf(holdConfigMaps, 1, "2m"))
	done := c.started(t, "create", "configmap", "unwanted")
	request := c.pendingRequest(t, "unwanted")
	if r := c.review(t, approver, request, "Deny"); r.code != 0 {
		t.Fatal(r.err)
	}
	if r := <-done; r.code == 0 || !strings.Contains(r.err, "approver denied it: because I say so") {
		t.Errorf("exit %d, want a refusal with the comment: %s", r.code, r.err)
	}
	// The same again is answered at once.
	c.refused(t, "approver denied it: because I say so", agent, "create", "configmap", "unwanted")
}

// changedAfterApproval: an approval is for exactly one change by one identity, once.
func changedAfterApproval(t *testing.T, c *cluster) {
	c.policy(t, "holds", fmt.Sprintf(holdConfigMaps, 1, "0s"))
	c.refused(t, "it waits for approval", agent, "create", "configmap", "exact", "--from-literal=a=b")
	request := c.pendingRequest(t, "exact")
	c.approve(t, approver, request)
	c.phase(t, request, "Approved")
	c.refused(t, "it waits for approval", agent, "create", "configmap", "exact", "--from-literal=a=other")
	c.phase(t, request, "Approved")
	c.must(t, agent, "create", "configmap", "exact", "--from-literal=a=b")
	c.phase(t, request, "Redeemed")
	c.must(t, human, "delete", "configmap", "exact")
	c.refused(t, "it waits for approval", agent, "create", "configmap", "exact", "--from-literal=a=b")
}

// oneEffect sends what was approved once many times at the same moment.
func oneEffect(t *testing.T, c *cluster) {
	c.policy(t, "holds", fmt.Sprintf(holdConfigMaps, 1, "0s"))
	const manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: once-, namespace: default}\n"
	create := func() result { return c.kubectlWith(t, manifest, agent, "create", "-f", "-") }
	if r := create(); r.code == 0 {
		t.Fatal("was not held")
	}
	request := strings.TrimSpace(c.must(t, admin, "get", "accessrequests", "-o",
		`jsonpath={range .items[?(@.status.phase=="Pending")]}{.metadata.name}:{.spec.access.names}{"\n"}{end}`))
	var names []string
	for line := range strings.Lines(request) {
		if name, of, _ := strings.Cut(strings.TrimSpace(line), ":"); of == "" {
			names = append(names, name)
		}
	}
	if len(names) != 1 {
		t.Fatalf("pending requests without a name: %v, want 1", names)
	}
	c.approve(t, approver, names[0])
	c.phase(t, names[0], "Approved")
	var wg sync.WaitGroup
	results := make(chan result, 20)
	for range cap(results) {
		wg.Go(func() { results <- create() })
	}
	wg.Wait()
	close(results)
	passed := 0
	for r := range results {
		if r.code == 0 {
			passed++
		}
	}
	stored := 0
	for name := range strings.Lines(c.must(t, admin, "get", "configmaps", "-o", "name")) {
		if strings.Contains(name, "/once-") {
			stored++
		}
	}
	if passed != 1 || stored != 1 {
		t.Errorf("%d of %d passed and %d objects exist, want 1 and 1", passed, cap(results), stored)
	}
}

func cannotWait(t *testing.T, c *cluster) {
	c.policy(t, "holds", fmt.Sprintf(holdConfigMaps, 1, "2m"))
	before := c.must(t, admin, "get", "accessrequests", "-o", "name")
	c.refused(t, "a dry run opens no request", agent, "create", "configmap", "dry", "--dry-run=server")
	c.refused(t, "a dry run opens no request", agent, "delete", "--raw", "/api/v1/namespaces/default/configmaps?dryRun=All")
	if after := c.must(t, admin, "get", "accessrequests", "-o", "name"); after != before {
		t.Errorf("requests before:\n%safter:\n%s", before, after)
	}
}

// plugin: an approver looks and decides with kubectl holdfast, the agent says why.
func plugin(t *testing.T, c *cluster) {
	c.policy(t, "holds", fmt.Sprintf(holdConfigMaps, 1, "2m"))
	holdfast := func(who identity, args ...string) result {
		return c.program(t, filepath.Join(filepath.Dir(c.info.Kubectl), "kubectl-holdfast"), "", who, args...)
	}
	done := c.started(t, "create", "configmap", "looked-at", "--from-literal=a=b")
	request := c.pendingRequest(t, "looked-at")
	if r := holdfast(agent, "reason", request, "the tests need it"); r.code != 0 {
		t.Errorf("reason: %s%s", r.out, r.err)
	}
	for _, test := range []struct {
		args []string
		want []string
	}{
		{[]string{"get"}, []string{request, "bot", "create", "looked-at", "Pending", "0/1"}},
		{[]string{"describe", request}, []string{request, "human", "the tests need it", "holds/hold", "A second pair of eyes.", "+ data.a: \"b\"", "holdfast:approvers"}},
		{[]string{"agents"}, []string{"bot", "human"}},
	} {
		r := holdfast(approver, test.args...)
		for _, want := range test.want {
			if r.code != 0 || !strings.Contains(r.out, want) {
				t.Errorf("kubectl holdfast %v: exit %d, want %q in\n%s%s", test.args, r.code, want, r.out, r.err)
			}
		}
	}
	if r := holdfast(human, "approve", request); r.code == 0 || !strings.Contains(r.err, "not an approver") {
		t.Errorf("a stranger approves: exit %d %s%s", r.code, r.out, r.err)
	}
	if r := holdfast(approver, "approve", request, "-m", "fine"); r.code != 0 {
		t.Errorf("approve: exit %d %s%s", r.code, r.out, r.err)
	}
	if r := <-done; r.code != 0 {
		t.Errorf("after the approval: exit %d %s", r.code, r.err)
	}
}

// ledgerIsGuarded: nobody writes into AccessRequests and Reviews what is not theirs.
func ledgerIsGuarded(t *testing.T, c *cluster) {
	c.policy(t, "holds", fmt.Sprintf(holdConfigMaps, 1, "0s"))
	c.refused(t, "it waits for approval", agent, "create", "configmap", "guarded")
	request := c.pendingRequest(t, "guarded")
	merge := func(who identity, patch string, more ...string) result {
		return c.kubectl(t, who, append([]string{"patch", "accessrequest", request, "--type=merge", "-p", patch}, more...)...)
	}
	for _, test := range []struct {
		name string
		r    result
		want string
	}{
		{"agent approves itself", merge(agent, `{"status":{"phase":"Approved"}}`, "--subresource=status"), "may not"},
		{"admin approves by hand", merge(admin, `{"status":{"phase":"Approved"}}`, "--subresource=status"), "only Holdfast itself writes the status"},
		{"agent rewrites the rules", merge(agent, `{"spec":{"rules":[{"policy":"x","rule":"y","required":1,"approvers":{"users":["me"]}}]}}`), "only reason and withdrawn can change"},
		{"agent rewrites the labels", merge(agent, `{"metadata":{"labels":{"holdfast.dev/key":"x"}}}`), "the requester may write spec.reason and spec.withdrawn"},
		{"somebody else gives the reason", merge(human, `{"spec":{"reason":"x"}}`), "only the requester writes"},
		{"agent deletes it", c.kubectl(t, agent, "delete", "accessrequest", request), "may not"},
		{"somebody opens one", c.kubectlWith(t, "apiVersion: holdfast.dev/v1alpha1\nkind: AccessRequest\nmetadata: {name: mine}\nspec: {origin: Asked, agent: bot, requester: me, access: {verbs: [get], apiGroups: [''], resources: [pods]}, rules: [{policy: p, rule: r, required: 1, approvers: {users: [me]}}]}\n", human, "create", "-f", "-"), "is no agent, and only agents ask ahead"},
	} {
		if test.r.code == 0 || !strings.Contains(test.r.err, test.want) {
			t.Errorf("%s: exit %d %s, want %q", test.name, test.r.code, test.r.err, test.want)
		}
	}
	if r := merge(agent, `{"spec":{"reason":"the tests need it"}}`); r.code != 0 {
		t.Errorf("the agent's reason: %s", r.err)
	}
	if r := merge(agent, `{"spec":{"reason":"another one"}}`); r.code == 0 || !strings.Contains(r.err, "a reason is given once") {
		t.Errorf("a second reason: exit %d %s", r.code, r.err)
	}
	if r := merge(agent, `{"spec":{"withdrawn":true}}`); r.code != 0 {
		t.Errorf("withdrawing: %s", r.err)
	}
	c.phase(t, request, "Withdrawn")
	if r := c.review(t, approver, request, "Approve"); r.code == 0 || !strings.Contains(r.err, "is Withdrawn") {
		t.Errorf("a review of what is over: exit %d %s", r.code, r.err)
	}
	if r := c.review(t, approver, "nothing-1", "Approve"); r.code == 0 || !strings.Contains(r.err, `there is no AccessRequest "nothing-1"`) {
		t.Errorf("a review of nothing: exit %d %s", r.code, r.err)
	}
}

// suspendedWhileWaiting: an approval does not release a call of an agent that has been stopped
// meanwhile.
func suspendedWhileWaiting(t *testing.T, c *cluster) {
	c.policy(t, "holds", fmt.Sprintf(holdConfigMaps, 1, "2m"))
	done := c.started(t, "create", "configmap", "stopped")
	request := c.pendingRequest(t, "stopped")
	suspend := func(on bool) {
		c.must(t, admin, "patch", "agent", local.AgentName, "--type=merge", "-p", fmt.Sprintf(`{"spec":{"suspended":%t}}`, on))
	}
	t.Cleanup(func() { suspend(false); time.Sleep(time.Second) })
	suspend(true)
	time.Sleep(time.Second) // a request that starts a second later is denied; this one has started before
	c.approve(t, approver, request)
	if r := <-done; r.code == 0 || !strings.Contains(r.err, "is suspended") {
		t.Errorf("exit %d, want a refusal of the suspended agent: %s", r.code, r.err)
	}
	c.phase(t, request, "Approved")
	if out := c.must(t, admin, "get", "configmap", "stopped", "--ignore-not-found"); out != "" {
		t.Errorf("the change was made: %s", out)
	}
}
