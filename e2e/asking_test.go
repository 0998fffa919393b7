package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/e2e/local"
)

const mayAsk = `
  agents: ["*"]
  requestable:
  - name: secrets
    verbs: [get, list]
    apiGroups: [""]
    resources: [secrets]
    namespaces: [default]
    maxDuration: 30m
    reasonRequired: %t
  rules:
  - name: never
    match: {verbs: [get], apiGroups: [""], resources: [secrets], names: [crown-jewels]}
    action: Deny
    message: Not even with approval.
`

// askFor is what kubectl create -f takes.
func askFor(access string) string {
	return "apiVersion: holdfast.dev/v1alpha1\nkind: AccessRequest\nmetadata: {generateName: asked-}\nspec:\n  reason: the tests need it\n  access: " + access + "\n"
}

const wantsDB = `{verbs: [get], apiGroups: [""], resources: [secrets], namespaces: [default], names: [db], duration: %s}`

// TestAsking: an agent asks ahead, people decide, and what is granted ends by itself.
func TestAsking(t *testing.T) {
	t.Parallel() // it waits more than it works
	c := up(t, func(config *local.Config) {
		config.NoEvidence = true
		config.WebhookArgs = []string{"--max-pending-per-agent=5"}
	})
	for _, part := range []struct {
		name string
		run  func(*testing.T, *cluster)
	}{
		{"WhoAndWhat", whoMayAskForWhat},
		{"Stamped", askedIsStamped},
		{"Granted", grantedAndOver},
		{"TakenBack", grantTakenBack},
		{"Bounded", asksAreBounded},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, c) })
	}
}

// ask asks as somebody with plain kubectl, and returns the name.
func (c *cluster) ask(t *testing.T, access string) string {
	t.Helper()
	r := c.kubectlWith(t, askFor(access), agent, "create", "-f", "-", "-o", "name")
	if r.code != 0 {
		t.Fatalf("ask: exit %d %s", r.code, r.err)
	}
	_, name, _ := strings.Cut(strings.TrimSpace(r.out), "/")
	return name
}

func (c *cluster) field(t *testing.T, request, path string) string {
	t.Helper()
	return c.must(t, admin, "get", "accessrequest", request, "-o", "jsonpath="+path)
}

func whoMayAskForWhat(t *testing.T, c *cluster) {
	c.policy(t, "asks", fmt.Sprintf(mayAsk, false))
	well := fmt.Sprintf(wantsDB, "10m")
	for _, test := range []struct {
		name string
		who  identity
		ask  string
		want string
	}{
		{"a person", human, askFor(well), "is no agent, and only agents ask ahead"},
		{"an admin", admin, askFor(well), "is no agent, and only agents ask ahead"},
		{"any verb", agent, askFor(strings.Replace(well, "[get]", `["*"]`, 1)), "want verbs by name"},
		{"to impersonate", agent, askFor(strings.Replace(well, "[get]", "[impersonate]", 1)), "an agent acts under its own name"},
		{"any name", agent, askFor(strings.Replace(well, "[db]", `["*"]`, 1)), "want names that are no patterns"},
		{"another namespace", agent, askFor(strings.Replace(well, "[default]", "[kube-system]", 1)), "no policy lets the agent ask to get secrets"},
		{"for too long", agent, askFor(strings.Replace(well, "10m", "2h", 1)), "want 1s to 30m0s, which is what asks/secrets allows"},
		{"what is denied", agent, askFor(strings.Replace(well, "[db]", "[crown-jewels]", 1)), "no approval lifts a denial: asks/never denies the agent"},
		{"to change Holdfast", agent, askFor(`{verbs: [update], apiGroups: [holdfast.dev], resources: [agents], names: [bot]}`), "agents may not change Agents"},
		{"under a name of Holdfast's", agent, strings.Replace(askFor(well), "generateName: asked-", "name: abc-1", 1), "want generateName asked-"},
		{"with Holdfast's label", agent, strings.Replace(askFor(well), "generateName: asked-", "generateName: asked-, labels: {holdfast.dev/key: abc}", 1), "is Holdfast's own; leave it out"},
		{"with a status", agent, askFor(well) + "status: {phase: Approved}\n", ""},
	} {
		r := c.kubectlWith(t, test.ask, test.who, "create", "-f", "-", "-o", "name")
		if (r.code == 0) != (test.want == "") || !strings.Contains(r.err, test.want) {
			t.Errorf("%s: exit %d %s%s, want %q", test.name, r.code, r.out, r.err, test.want)
		}
		if r.code == 0 { // the status that was written counts for nothing
			_, name, _ := strings.Cut(strings.TrimSpace(r.out), "/")
			c.phase(t, name, "Pending")
		}
	}
	c.must(t, human, "patch", "agent", "bot", "--type=merge", "-p", `{"spec":{"suspended":true}}`)
	eventually(t, 10*time.Second, "a suspended agent cannot ask", func() error {
		// It may not even read the schema by which kubectl would validate.
		r := c.kubectlWith(t, askFor(well), agent, "create", "-f", "-", "--dry-run=server", "--validate=false")
		if r.code == 0 || !strings.Contains(r.err, "suspended") {
			return fmt.Errorf("exit %d %s", r.code, r.err)
		}
		return nil
	})
	c.must(t, human, "patch", "agent", "bot", "--type=merge", "-p", `{"spec":{"suspended":false}}`)
	eventually(t, 10*time.Second, "and then it can again", func() error {
		if r := c.kubectlWith(t, askFor(well), agent, "create", "-f", "-", "--dry-run=server"); r.code != 0 {
			return fmt.Errorf("exit %d %s", r.code, r.err)
		}
		return nil
	})
}

// askedIsStamped: who asks, and what it takes, is Holdfast's to say.
func askedIsStamped(t *testing.T, c *cluster) {
	c.policy(t, "asks", fmt.Sprintf(mayAsk, true))
	c.policy(t, "strict", "  agents: [\"*\"]\n  default: Hold\n")
	r := c.kubectlWith(t, strings.Replace(strings.Replace(askFor(fmt.Sprintf(wantsDB, "10m")), "reason: the tests need it",
		`{origin: Intercepted, requester: jane, agent: other, withdrawn: true, rules: [], `, 1), "\n  access: ", "access: ", 1)+"  }\n", agent, "create", "-f", "-", "-o", "name")
	if r.code != 0 {
		t.Fatalf("ask: %s", r.err)
	}
	_, name, _ := strings.Cut(strings.TrimSpace(r.out), "/")
	c.phase(t, name, "Pending")
	uid := c.must(t, admin, "get", "serviceaccount", "bot", "-n", local.AgentNamespace, "-o", "jsonpath={.metadata.uid}")
	got := c.field(t, name, "{.spec.origin} {.spec.agent} {.spec.requester} {.spec.requesterUID} {.spec.withdrawn} {.spec.expiresAfter} {range .spec.rules[*]}{.policy}/{.rule} {end}")
	want := fmt.Sprintf("Asked bot system:serviceaccount:agents:bot %s  1h0m0s asks/secrets strict/ ", uid)
	if got != want {
		t.Errorf("stamped %q, want %q", got, want)
	}
	for _, patch := range []string{`{"spec":{"requesterUID":"x"}}`, `{"spec":{"expiresAfter":"100h"}}`, `{"spec":{"access":{"duration":"24h"}}}`} {
		if r := c.kubectl(t, agent, "patch", "accessrequest", name, "--type=merge", "-p", patch); r.code == 0 || !strings.Contains(r.err, "only reason and withdrawn can change") {
			t.Errorf("%s: exit %d %s", patch, r.code, r.err)
		}
	}
	// The reason is wanted before the approval.
	c.approve(t, approver, name)
	eventually(t, 10*time.Second, "the review is counted", func() error {
		if got := c.field(t, name, "{.status.reviews[*].reviewer} {.status.phase}"); got != "approver Pending" {
			return fmt.Errorf("%s", got)
		}
		return nil
	})
	c.must(t, agent, "patch", "accessrequest", name, "--type=merge", "-p", `{"spec":{"reason":"to debug"}}`)
	c.phase(t, name, "Approved")
	if r := c.review(t, approver2, name, "Deny"); r.code != 0 {
		t.Error(r.err)
	}
	c.phase(t, name, "Revoked")
}

// grantedAndOver: from its approval on, for as long as was asked.
func grantedAndOver(t *testing.T, c *cluster) {
	c.policy(t, "asks", fmt.Sprintf(mayAsk, false))
	name := c.ask(t, fmt.Sprintf(wantsDB, "4s"))
	c.phase(t, name, "Pending")
	for _, who := range []identity{agent, human} { // the requester, and the owner
		if r := c.review(t, who, name, "Approve"); r.code == 0 {
			t.Errorf("%s approved", who)
		}
	}
	c.approve(t, approver, name)
	c.phase(t, name, "Approved")
	times := strings.Fields(c.field(t, name, "{.status.reviews[0].time} {.status.expiresAt}"))
	reviewed, err := time.Parse(time.RFC3339, times[0])
	if err != nil {
		t.Fatal(err)
	}
	until, err := time.Parse(time.RFC3339, times[1])
	if err != nil {
		t.Fatal(err)
	}
	if lasts := until.Sub(reviewed); lasts < 4*time.Second || lasts > 7*time.Second {
		t.Errorf("granted until %s after the review, want the 4s that were asked for", lasts)
	}
	c.phase(t, name, "Expired")
	if r := c.review(t, approver2, name, "Approve"); r.code == 0 || !strings.Contains(r.err, "is Expired") {
		t.Errorf("approved after its end: exit %d %s", r.code, r.err)
	}
	// Events say what happened.
	for _, reason := range []string{"HoldfastAsked", "HoldfastApproved", "HoldfastExpired"} {
		eventually(t, 10*time.Second, reason, func() error {
			if out := c.must(t, admin, "get", "events.events.k8s.io", "-n", "default", "-o", `jsonpath={range .items[*]}{.regarding.name} {.reason}{"\n"}{end}`); !strings.Contains(out, name+" "+reason) {
				return fmt.Errorf("Events:\n%s", out)
			}
			return nil
		})
	}
}

// grantTakenBack: by a Deny, or by the agent.
func grantTakenBack(t *testing.T, c *cluster) {
	c.policy(t, "asks", fmt.Sprintf(mayAsk, false))
	granted := func() string {
		name := c.ask(t, fmt.Sprintf(wantsDB, "10m"))
		c.phase(t, name, "Pending")
		c.approve(t, approver, name)
		c.phase(t, name, "Approved")
		return name
	}
	revoked, withdrawn := granted(), granted()
	if r := c.review(t, approver, revoked, "Deny"); r.code != 0 {
		t.Error(r.err)
	}
	c.phase(t, revoked, "Revoked")
	if r := c.kubectl(t, human, "patch", "accessrequest", withdrawn, "--type=merge", "-p", `{"spec":{"withdrawn":true}}`); r.code == 0 {
		t.Error("somebody else withdrew it")
	}
	c.must(t, agent, "patch", "accessrequest", withdrawn, "--type=merge", "-p", `{"spec":{"withdrawn":true}}`)
	c.phase(t, withdrawn, "Withdrawn")
	denied := c.ask(t, fmt.Sprintf(wantsDB, "10m"))
	c.phase(t, denied, "Pending")
	if r := c.review(t, approver, denied, "Deny"); r.code != 0 {
		t.Error(r.err)
	}
	c.phase(t, denied, "Denied")
	// Unlike a change that was denied, it can be asked for again.
	again := c.ask(t, fmt.Sprintf(wantsDB, "10m"))
	c.phase(t, again, "Pending")
	c.must(t, agent, "patch", "accessrequest", again, "--type=merge", "-p", `{"spec":{"withdrawn":true}}`)
	c.phase(t, again, "Withdrawn")
}

// asksAreBounded: of many asks in the same moment, no more wait than may.
func asksAreBounded(t *testing.T, c *cluster) {
	c.policy(t, "asks", fmt.Sprintf(mayAsk, false))
	waiting := func() int {
		return strings.Count(c.must(t, admin, "get", "accessrequests", "--field-selector=status.phase=Pending", "-o", "name"), "\n")
	}
	before := waiting()
	const tries = 12
	results := make(chan result, tries)
	for range tries {
		go func() { results <- c.kubectlWith(t, askFor(fmt.Sprintf(wantsDB, "10m")), agent, "create", "-f", "-") }()
	}
	made := 0
	for range tries {
		switch r := <-results; {
		case r.code == 0:
			made++
		case !strings.Contains(r.err, "too many requests wait for people already"):
			t.Errorf("exit %d %s", r.code, r.err)
		}
	}
	if made == 0 || before+made > 5 {
		t.Errorf("%d waited, and %d more were made; want 5 at most", before, made)
	}
}
