package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/e2e/local"
)

const (
	// toldNothing is in what is held, and must not be in what is told.
	toldNothing = "c2VjcmV0LWNhbmFyeQ"
	// hookToken is in the receiver's address and in the header.
	hookToken = "hook-token-canary"
)

const holdAndTell = `
  agents: ["*"]
  rules:
  - name: hold
    match: {verbs: [create, update, delete], apiGroups: [""], resources: [configmaps, namespaces]}
    action: Hold
    message: A second pair of eyes.
    approvers: {groups: ["holdfast:approvers"]}
    required: 1
    wait: 0s
  - name: brief
    match: {verbs: [create], apiGroups: [""], resources: [configmaps], names: [brief]}
    action: Hold
    approvers: {groups: ["holdfast:approvers"]}
    wait: 0s
    expiresAfter: 1m
`

// told is a CloudEvent as a receiver reads it.
type told struct {
	SpecVersion, ID, Source, Type, Subject string
	Data                                   struct {
		Agent, Requester, Phase string
		Commands                struct{ Describe, Approve, Deny string }
		Rules                   []struct{ Policy, Rule, Message string }
		Reviews                 []struct{ Reviewer, Verdict, Comment string }
	}
}

// chat is a receiver that can be down.
type chat struct {
	*httptest.Server
	mu sync.Mutex
	// down is what it answers instead of taking an event; 0 while it is up.
	down     int
	attempts []told
	taken    []told
	bodies   []string
}

func newChat(t *testing.T) *chat {
	t.Helper()
	c := &chat{}
	c.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var event told
		if err == nil {
			err = json.Unmarshal(body, &event)
		}
		if err != nil || r.URL.Path != "/"+hookToken || r.Header.Get("Authorization") != "Bearer "+hookToken ||
			r.Header.Get("Content-Type") != "application/cloudevents+json; charset=UTF-8" {
			t.Errorf("%s %s %v: %v", r.Method, r.URL, r.Header, err)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.attempts, c.bodies = append(c.attempts, event), append(c.bodies, string(body))
		if c.down != 0 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(c.down)
			return
		}
		c.taken = append(c.taken, event)
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(c.Close)
	return c
}

func (c *chat) is(down int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

// tried waits until an event has been sent so many times.
func (c *chat) tried(t *testing.T, request, occasion string, times int) {
	t.Helper()
	eventually(t, 30*time.Second, "the event is sent", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		n := 0
		for _, e := range c.attempts {
			if e.Subject == request && e.Type == "dev.holdfast.accessrequest."+occasion {
				n++
			}
		}
		if n < times {
			return fmt.Errorf("%d attempts to tell that %s is %s, want %d", n, request, occasion, times)
		}
		return nil
	})
}

// took waits until the receiver has taken exactly these events about a request.
func (c *chat) took(t *testing.T, request string, occasions ...string) []told {
	t.Helper()
	var events []told
	eventually(t, 70*time.Second, "the events are taken", func() error {
		c.mu.Lock()
		defer c.mu.Unlock()
		events = nil
		var got []string
		for _, e := range c.taken {
			if e.Subject == request {
				events = append(events, e)
				got = append(got, strings.TrimPrefix(e.Type, "dev.holdfast.accessrequest."))
			}
		}
		if !slices.Equal(got, occasions) {
			return fmt.Errorf("took %q about %s, want %q", got, request, occasions)
		}
		return nil
	})
	return events
}

// TestNotify: whoever decides is told, through a receiver's outage and a crash of Holdfast.
func TestNotify(t *testing.T) {
	t.Parallel() // it waits more than it works
	receiver := newChat(t)
	header := filepath.Join(t.TempDir(), "header")
	if err := os.WriteFile(header, []byte("Authorization: Bearer "+hookToken), 0o600); err != nil {
		t.Fatal(err)
	}
	c := up(t, func(config *local.Config) {
		config.NoEvidence = true
		config.WebhookArgs = []string{"--notify-url", receiver.URL + "/" + hookToken, "--notify-header-file", header}
	})
	c.policy(t, "tells", holdAndTell)
	c.refused(t, "it waits for approval", agent, "create", "configmap", "brief") // for a minute
	brief := c.pendingRequest(t, "brief")
	t.Run("Approved", func(t *testing.T) { toldOfApproval(t, c, receiver) })
	t.Run("Denied", func(t *testing.T) { toldOfDenial(t, c, receiver) })
	t.Run("Ended", func(t *testing.T) { toldOfEnds(t, c, receiver) })
	t.Run("Namespace", func(t *testing.T) { toldInNamespace(t, c, receiver) })
	t.Run("Crash", func(t *testing.T) { toldAfterCrash(t, c, receiver) })
	receiver.took(t, brief, "pending", "expired")
	c.announced(t, "default", "configmap/brief", "HoldfastExpired", "HoldfastHeld")

	receiver.mu.Lock()
	defer receiver.mu.Unlock()
	for _, body := range receiver.bodies {
		if strings.Contains(body, toldNothing) {
			t.Errorf("an event tells what is in the object: %s", body)
		}
	}
	if events := c.must(t, admin, "get", "events", "-A", "-o", "yaml"); strings.Contains(events, toldNothing) {
		t.Error("an Event tells what is in the object")
	}
	log, err := os.ReadFile(c.run.LogPath(local.Webhook))
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(log), hookToken) {
		t.Error("the log has the receiver's address or header")
	}
}

// announced waits for exactly these reasons among what kubectl events shows of an object.
func (c *cluster) announced(t *testing.T, namespace, object string, reasons ...string) {
	t.Helper()
	eventually(t, 20*time.Second, "the Events are there", func() error {
		out := c.must(t, admin, "events", "-n", namespace, "--for", object, "-o", `jsonpath={range .items[*]}{.reason}{"\n"}{end}`)
		got := strings.Fields(out)
		if slices.Sort(got); !slices.Equal(got, reasons) {
			return fmt.Errorf("%s in %s: Events %q, want %q", object, namespace, got, reasons)
		}
		return nil
	})
}

func toldOfApproval(t *testing.T, c *cluster, receiver *chat) {
	receiver.is(http.StatusServiceUnavailable)
	create := []string{"create", "configmap", "told", "--from-literal=a=" + toldNothing}
	c.refused(t, "it waits for approval", agent, create...)
	request := c.pendingRequest(t, "told")
	receiver.tried(t, request, "pending", 3)
	receiver.took(t, request)
	if marked := c.must(t, admin, "get", "accessrequest", request, "-o", "jsonpath={.status.notified}"); marked != "" {
		t.Errorf("notified %q while the receiver is down", marked)
	}
	receiver.is(0)
	pending := receiver.took(t, request, "pending")[0]
	uid := c.must(t, admin, "get", "accessrequest", request, "-o", "jsonpath={.metadata.uid}")
	system := c.must(t, admin, "get", "namespace", "kube-system", "-o", "jsonpath={.metadata.uid}")
	if pending.SpecVersion != "1.0" || pending.ID != uid+".pending" || pending.Source != "urn:uuid:"+system ||
		pending.Data.Agent != "bot" || pending.Data.Requester != "system:serviceaccount:agents:bot" || pending.Data.Phase != "Pending" ||
		len(pending.Data.Rules) != 1 || pending.Data.Rules[0].Message != "A second pair of eyes." ||
		pending.Data.Commands.Approve != "kubectl holdfast approve "+request {
		t.Errorf("told %+v", pending)
	}
	c.must(t, admin, "wait", "--for=jsonpath={.status.notified}=Pending", "--timeout=20s", "accessrequest/"+request)

	c.approve(t, approver, request)
	approved := receiver.took(t, request, "pending", "approved")[1]
	if approved.ID != uid+".approved" || len(approved.Data.Reviews) != 1 || approved.Data.Reviews[0].Reviewer != "approver" ||
		approved.Data.Reviews[0].Comment != "because I say so" || approved.Data.Commands.Approve != "" {
		t.Errorf("told %+v", approved)
	}
	c.must(t, agent, create...)
	c.phase(t, request, "Redeemed")
	c.announced(t, "default", "configmap/told", "HoldfastApproved", "HoldfastHeld")
	c.announced(t, "default", "accessrequest/"+request, "HoldfastApproved", "HoldfastHeld")
	// Using the approval is nothing that people are told.
	receiver.took(t, request, "pending", "approved")
}

func toldOfDenial(t *testing.T, c *cluster, receiver *chat) {
	c.must(t, human, "create", "configmap", "guarded-well", "--from-literal=a=b")
	c.refused(t, "it waits for approval", agent, "patch", "configmap", "guarded-well", "--type=merge", "-p", `{"data":{"a":"`+toldNothing+`"}}`)
	request := c.pendingRequest(t, "guarded-well")
	receiver.took(t, request, "pending")
	if r := c.review(t, approver, request, "Deny"); r.code != 0 {
		t.Fatal(r.err)
	}
	receiver.took(t, request, "pending", "denied")
	c.announced(t, "default", "configmap/guarded-well", "HoldfastDenied", "HoldfastHeld")
	for _, object := range []string{"configmap/guarded-well", "accessrequest/" + request} {
		if out := c.must(t, admin, "describe", object); !strings.Contains(out, "HoldfastHeld") || !strings.Contains(out, "was denied by approver") {
			t.Errorf("describe %s shows no Events of Holdfast:\n%s", object, out)
		}
	}
}

// toldOfEnds: the agent took it back, an approval was taken back.
func toldOfEnds(t *testing.T, c *cluster, receiver *chat) {
	for _, test := range []struct {
		object    string
		end       func(request string) result
		occasions []string
		reasons   []string
	}{
		{
			"regretted", func(request string) result {
				return c.kubectl(t, agent, "patch", "accessrequest", request, "--type=merge", "-p", `{"spec":{"withdrawn":true}}`)
			},
			[]string{"pending", "withdrawn"}, []string{"HoldfastHeld", "HoldfastWithdrawn"},
		},
		{
			"rethought", func(request string) result {
				c.approve(t, approver, request)
				receiver.took(t, request, "pending", "approved")
				return c.review(t, approver2, request, "Deny")
			},
			[]string{"pending", "approved", "revoked"}, []string{"HoldfastApproved", "HoldfastHeld", "HoldfastRevoked"},
		},
	} {
		c.refused(t, "it waits for approval", agent, "create", "configmap", test.object)
		request := c.pendingRequest(t, test.object)
		receiver.took(t, request, "pending")
		if r := test.end(request); r.code != 0 {
			t.Fatalf("%s: %s", test.object, r.err)
		}
		receiver.took(t, request, test.occasions...)
		c.announced(t, "default", "configmap/"+test.object, test.reasons...)
	}
}

// toldInNamespace: of a Namespace, and of what has no name yet, in the namespace itself.
func toldInNamespace(t *testing.T, c *cluster, receiver *chat) {
	c.must(t, human, "create", "namespace", "shop")
	c.refused(t, "it waits for approval", agent, "delete", "namespace", "shop", "--wait=false")
	receiver.took(t, c.pendingRequest(t, "shop"), "pending")
	c.announced(t, "shop", "namespace/shop", "HoldfastHeld")
	const unnamed = "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: some-, namespace: shop}\n"
	if r := c.kubectlWith(t, unnamed, agent, "create", "-f", "-"); r.code == 0 {
		t.Fatal("was not held")
	}
	c.announced(t, "shop", "namespace/shop", "HoldfastHeld", "HoldfastHeld")
}

// toldAfterCrash: the receiver is down, and Holdfast is killed before it comes back.
func toldAfterCrash(t *testing.T, c *cluster, receiver *chat) {
	receiver.is(http.StatusTooManyRequests)
	c.refused(t, "it waits for approval", agent, "delete", "configmap", "guarded-well")
	request := c.pendingRequest(t, "guarded-well")
	receiver.tried(t, request, "pending", 1)
	if err := c.run.Kill(local.Webhook); err != nil {
		t.Fatal(err)
	}
	receiver.is(0)
	if err := c.run.Start(t.Context(), local.Webhook); err != nil {
		t.Fatal(err)
	}
	// The lease of the one that was killed runs out first.
	receiver.took(t, request, "pending")
	c.announced(t, "default", "accessrequest/"+request, "HoldfastHeld")
}
