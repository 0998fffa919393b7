package e2e

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/e2e/load"
	"github.com/holdfast-dev/holdfast/e2e/local"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

const (
	floodRequests    = 2000
	floodConnections = 20
	// floodCap is how many requests of one agent may wait for people.
	floodCap = 20
	// quiet is how long the others write before the flood.
	quiet = 5 * time.Second
)

const holdFlood = `
  agents: ["*"]
  rules:
  - name: creates
    match: {verbs: [create], apiGroups: [""], resources: [configmaps]}
    action: Hold
    wait: 2m
`

// twoAgents makes two Agents of what was one, each with its own account.
const twoAgents = `
apiVersion: holdfast.dev/v1alpha1
kind: Agent
metadata: {name: bot}
spec: {owner: {kind: User, name: human}, subjects: [{kind: ServiceAccount, namespace: agents, name: bot}]}
---
apiVersion: holdfast.dev/v1alpha1
kind: Agent
metadata: {name: other}
spec: {subjects: [{kind: ServiceAccount, namespace: agents, name: other}]}
`

// TestFlood: an agent that has gone wrong fills its own places and nobody else's. How long the
// others' writes take is measured by make bench.
func TestFlood(t *testing.T) {
	c := up(t, func(config *local.Config) { config.NoEvidence = true })
	other, worker := c.account(t, local.AgentNamespace, "other"), c.account(t, "default", "worker")
	c.must(t, human, "create", "namespace", "flood")
	c.apply(t, twoAgents)
	c.must(t, admin, "wait", "--for=condition=Compiled", "--timeout=20s", "agent/bot", "agent/other")
	c.policy(t, "floods", holdFlood)

	ended := make(chan struct{})
	before, during := make(chan struct{}), make(chan struct{})
	writers := map[identity]func(<-chan struct{}) <-chan written{}
	for _, who := range []identity{human, worker} {
		config := c.restConfig(t, who)
		name := strings.ReplaceAll(string(who), ":", "-")
		writers[who] = func(until <-chan struct{}) <-chan written {
			done := make(chan written, 1)
			go func() {
				answers, err := load.Steady{Namespace: "default", Name: name, Every: 100 * time.Millisecond}.Run(context.Background(), config, until)
				done <- written{answers, err}
			}()
			return done
		}
	}
	quietly := map[identity]<-chan written{human: writers[human](before), worker: writers[worker](before)}
	time.Sleep(quiet)
	close(before)
	for who, done := range quietly {
		(<-done).check(t, who, "before the flood")
	}

	meanwhile := map[identity]<-chan written{human: writers[human](during), worker: writers[worker](during)}
	flood := make(chan written, 1)
	config := c.restConfig(t, agent)
	go func() {
		answers, err := load.Flood{Namespace: "flood", Prefix: "f-", Connections: floodConnections, Requests: floodRequests}.Run(context.Background(), config, ended)
		flood <- written{answers, err}
	}()
	eventually(t, time.Minute, "the flood has filled the agent's places", func() error {
		if n := c.pendingOf(t, "bot"); n != floodCap {
			return fmt.Errorf("%d requests of it are pending, want %d", n, floodCap)
		}
		return nil
	})
	c.anotherIsReleased(t, other)
	select {
	case w := <-flood:
		t.Fatalf("the flood has ended too early: %d answers, %v", len(w.answers), w.err)
	default:
	}
	close(ended)
	of := <-flood
	close(during)
	for who, done := range meanwhile {
		(<-done).check(t, who, "during the flood")
	}
	if of.err != nil {
		t.Fatal(of.err)
	}
	checkFlood(t, c, of.answers)
}

// written is what came back for somebody's writes.
type written struct {
	answers []load.Answer
	err     error
}

// check fails for every write that did not go through.
func (w written) check(t *testing.T, who identity, when string) {
	t.Helper()
	if w.err != nil {
		t.Errorf("%s %s: %v", who, when, w.err)
	}
	for _, a := range w.answers {
		if !a.OK() {
			t.Errorf("%s %s: %d %s", who, when, a.Code, a.Status.Message)
		}
	}
	if len(w.answers) < 20 {
		t.Errorf("%s %s: %d writes, too few to mean anything", who, when, len(w.answers))
	}
	t.Logf("%s %s: %d writes, p50 %s, p99 %s", who, when, len(w.answers), load.Quantile(w.answers, 0.5), load.Quantile(w.answers, 0.99))
}

// pendingOf counts the requests of an Agent that wait, and fails where they are too many.
func (c *cluster) pendingOf(t *testing.T, name string) int {
	t.Helper()
	n := 0
	for _, requests := range c.requestsIn(t) {
		for _, r := range requests {
			if r.Spec.Agent == name && (r.Status.Phase == v1alpha1.Pending || r.Status.Phase == "") {
				n++
			}
		}
	}
	if n > floodCap {
		t.Errorf("%d requests of Agent %s are pending, want %d at most", n, name, floodCap)
	}
	return n
}

// anotherIsReleased holds, approves and releases what another agent does, a few times.
func (c *cluster) anotherIsReleased(t *testing.T, who identity) {
	t.Helper()
	for i := range 3 {
		name := fmt.Sprintf("of-another-%d", i)
		done := make(chan result, 1)
		go func() { done <- c.kubectl(t, who, "create", "configmap", name) }()
		c.approve(t, approver, c.pendingRequest(t, name))
		if r := <-done; r.code != 0 {
			t.Errorf("another agent's create during the flood: exit %d %s", r.code, r.err)
		}
		c.must(t, admin, "get", "configmap", name)
		c.pendingOf(t, "bot")
	}
}

// checkFlood: as many were held as may wait, all others refused, each with its reason.
func checkFlood(t *testing.T, c *cluster, answers []load.Answer) {
	t.Helper()
	held := map[string]bool{}
	refused, slowed := 0, 0
	for _, a := range answers {
		request := a.Cause("HoldfastAccessRequest")
		switch {
		case a.Code == http.StatusTooManyRequests && request != "" && !held[request]:
			held[request] = true
		case a.Code == http.StatusForbidden && strings.Contains(a.Status.Message, "too many requests wait for people already"):
			refused++
		case a.Code == http.StatusTooManyRequests && a.Cause("HoldfastDecision") == "":
			slowed++ // by the API server's priority and fairness
		default:
			t.Fatalf("answered %d %+v", a.Code, a.Status)
		}
	}
	t.Logf("%d requests of the flood: %d held, %d refused, %d slowed down", len(answers), len(held), refused, slowed)
	if len(answers) < floodRequests || len(held) != floodCap {
		t.Errorf("%d requests were sent and %d held, want %d and %d", len(answers), len(held), floodRequests, floodCap)
	}
	if refused == 0 {
		t.Error("nothing was refused: the flood has not got through to Holdfast")
	}
	if n := c.pendingOf(t, "bot"); n != floodCap {
		t.Errorf("%d requests are pending after the flood, want %d", n, floodCap)
	}
	if got := c.must(t, admin, "get", "configmaps", "-n", "flood", "-o", `jsonpath={.items[*].metadata.name}`); got != "kube-root-ca.crt" {
		t.Errorf("the flood has made %s", got)
	}
}
