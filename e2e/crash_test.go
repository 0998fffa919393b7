package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/e2e/local"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// TestWebhookCrash kills the webhook while calls wait in it, and between redeeming an approval
// and answering: nothing happens twice, and everything that is approved happens once.
func TestWebhookCrash(t *testing.T) {
	t.Parallel() // it waits more than it works
	armed := filepath.Join(t.TempDir(), "armed")
	c := up(t, func(config *local.Config) {
		config.NoEvidence = true
		config.APIServerArgs = []string{"--request-timeout=15s"}
		config.WebhookTags = []string{"failpoints"}
		config.WebhookEnv = []string{"HOLDFAST_FAILPOINT=redeemed", "HOLDFAST_FAILPOINT_FILE=" + armed}
		config.WebhookArgs = []string{"--settle-after=" + settleAfter.String()}
	})
	t.Run("WhileTenWait", func(t *testing.T) { whileTenWait(t, c) })
	t.Run("EtcdStalls", func(t *testing.T) { etcdStalls(t, c) })
	t.Run("BetweenRedeemAndAnswer", func(t *testing.T) { betweenRedeemAndAnswer(t, c, armed) })
}

// waiting is how many calls wait in the webhook.
func (c *cluster) waiting(t *testing.T) (int, error) {
	t.Helper()
	answer, err := http.Get(c.info.WebhookHealthURL + "/metrics")
	if err != nil {
		return 0, err
	}
	defer answer.Body.Close()
	data, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if value, ok := strings.CutPrefix(line, "holdfast_hold_waiting "); ok {
			var n float64
			_, err := fmt.Sscan(value, &n)
			return int(n), err
		}
	}
	return 0, fmt.Errorf("no metric holdfast_hold_waiting")
}

func whileTenWait(t *testing.T, c *cluster) {
	const calls = 10
	ns := c.namespace(t)
	c.policy(t, "waits", strings.Replace(holdEverything, "wait: 0s", "wait: 2m", 1))
	var group errgroup.Group
	for i := range calls {
		manifest := fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: r%d-, namespace: %s, labels: {round: '%d'}}\n", i, ns, i)
		group.Go(func() error {
			// The API server refuses a call whose webhook dies, and kubectl gives up: the agent
			// tries again, as it would.
			var last result
			for range 20 {
				if last = c.kubectlWith(t, manifest, agent, "create", "-f", "-"); last.code == 0 {
					return nil
				}
				if !strings.Contains(last.err, "failed calling webhook") {
					break
				}
				time.Sleep(500 * time.Millisecond)
			}
			return fmt.Errorf("call %d: %s", i, last.err)
		})
	}
	eventually(t, 30*time.Second, "ten calls wait", func() error {
		n, err := c.waiting(t)
		if err == nil && n != calls {
			err = fmt.Errorf("%d wait", n)
		}
		return err
	})
	if err := c.run.Kill(local.Webhook); err != nil {
		t.Fatal(err)
	}
	if err := c.run.Start(t.Context(), local.Webhook); err != nil {
		t.Fatal(err)
	}
	objects, people := c.objects(t, admin), c.objects(t, approver)
	var list v1alpha1.AccessRequestList
	if err := objects.List(t.Context(), &list, client.MatchingFields{"status.phase": "Pending"}); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != calls {
		t.Errorf("%d AccessRequests wait after the crash, want %d", len(list.Items), calls)
	}
	for i := range list.Items {
		review := &v1alpha1.Review{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "review-"},
			Spec:       v1alpha1.ReviewSpec{AccessRequest: list.Items[i].Name, Verdict: v1alpha1.Approve},
		}
		if err := people.Create(t.Context(), review); err != nil {
			t.Fatal(err)
		}
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	for i := range calls {
		if n := effects(t, c, ns)[fmt.Sprint(i)]; n != 1 {
			t.Errorf("call %d: %d objects, want 1", i, n)
		}
	}
}

func betweenRedeemAndAnswer(t *testing.T, c *cluster, armed string) {
	ns := c.namespace(t)
	c.policy(t, "holds", holdEverything)
	c.configMaps(t, ns, "patched", "deleted")
	agentMaps := c.impatient(t, agent).CoreV1().ConfigMaps(ns)
	sends := map[string]func() error{
		"create": func() error {
			_, err := agentMaps.Create(t.Context(), configMap("created", "x"), metav1.CreateOptions{})
			return err
		},
		"patch": func() error {
			_, err := agentMaps.Patch(t.Context(), "patched", "application/merge-patch+json", []byte(`{"data":{"a":"new"}}`), metav1.PatchOptions{})
			return err
		},
		"delete": func() error { return agentMaps.Delete(t.Context(), "deleted", metav1.DeleteOptions{}) },
	}
	requests := map[string]string{}
	for name, send := range sends {
		request := c.held(t, send)
		requests[name] = request
		if err := approval(t.Context(), c.objects(t, approver), request); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(armed, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := send(); err == nil || !strings.Contains(err.Error(), "failed calling webhook") {
			t.Fatalf("%s: error %v, want that of a webhook that died", name, err)
		}
		eventually(t, 10*time.Second, "the webhook is dead", func() error {
			if pid := c.run.PID(local.Webhook); pid != 0 {
				return fmt.Errorf("process %d", pid)
			}
			return nil
		})
		if err := c.run.Start(t.Context(), local.Webhook); err != nil {
			t.Fatal(err)
		}
		c.phase(t, request, "Redeemed")
		if second := requestIn(send()); second == "" || second == request {
			t.Errorf("%s: right after the crash it is let pass by %q, want it held anew", name, second)
		}
	}
	for name, send := range sends {
		c.settled(t, requests[name], v1alpha1.Approved, "changed nothing")
		if err := send(); err != nil {
			t.Errorf("%s: on the approval that stands again: %v", name, err)
		}
		if err := send(); err == nil {
			t.Errorf("%s: passes twice", name)
		}
	}
}

// etcdStalls: storage that stands still in the middle of an approved request, at ten different
// moments, lets nothing happen twice.
func etcdStalls(t *testing.T, c *cluster) {
	const rounds = 10
	ns := c.namespace(t)
	c.policy(t, "stalls", holdEverything)
	requests := approvedRounds(t, c, ns, rounds)
	agentMaps := c.impatient(t, agent).CoreV1().ConfigMaps(ns)
	send := func(i int) error {
		_, err := agentMaps.Create(t.Context(), generated(i), metav1.CreateOptions{})
		return err
	}
	etcd := c.run.PID(local.Etcd)
	failed := 0
	for i := range rounds {
		done := make(chan error, 1)
		go func() { done <- send(i) }()
		time.Sleep(time.Duration(2*i) * time.Millisecond)
		if err := syscall.Kill(etcd, syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond)
		if err := syscall.Kill(etcd, syscall.SIGCONT); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			failed++
		}
		_ = send(i) // held anew, or let pass where the first had not been redeemed
	}
	eventually(t, settleAfter+30*time.Second, "nothing is redeemed any more", func() error {
		var list v1alpha1.AccessRequestList
		if err := c.objects(t, admin).List(t.Context(), &list, client.MatchingFields{"status.phase": "Redeemed"}); err != nil || len(list.Items) > 0 {
			return fmt.Errorf("%d are, %w", len(list.Items), err)
		}
		return nil
	})
	for i := range rounds {
		_ = send(i) // goes through where the approval stands
		if n := effects(t, c, ns)[fmt.Sprint(i)]; n != 1 {
			t.Errorf("round %d: %d objects of approval %s, want 1", i, n, requests[i])
		}
	}
	t.Logf("%d rounds, %d of which failed at first", rounds, failed)
}
