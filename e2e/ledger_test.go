package e2e

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/e2e/local"
	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/kube"
)

// TestLedger: replicas that share nothing but the API server, and whose clocks differ, agree.
func TestLedger(t *testing.T) {
	t.Parallel() // it waits more than it works
	c := up(t, func(config *local.Config) {
		config.NoEvidence = true
		config.WebhookArgs = []string{"--max-pending-per-agent=30"}
	})
	c.policy(t, "holds", holdEverything+"  - {name: hold-apps, match: {verbs: [create], apiGroups: [apps]}, action: Hold, wait: 0s}\n")
	for name, run := range map[string]func(*testing.T, *cluster){
		"OneRedeems": oneRedeems, "ClockSkew": clockSkew, "WakesOtherReplicas": wakesOtherReplicas,
		"TwoPeopleAtOnce": twoPeopleAtOnce, "Cap": pendingCap, "LargeObject": largeObject, "Retention": retention,
	} {
		t.Run(name, func(t *testing.T) { run(t, c) })
	}
}

// replica is a Ledger of a process of its own, with a clock that is ahead.
func (c *cluster) replica(t *testing.T, ahead time.Duration) *kube.Ledger {
	t.Helper()
	config := c.config(t, filepath.Join(c.info.Dir, "data", "holdfast", "webhook.kubeconfig"))
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), corev1.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	objects, err := kube.NewObjects(config)
	if err != nil {
		t.Fatal(err)
	}
	live, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	cached, err := cache.New(config, cache.Options{Scheme: scheme})
	if err != nil {
		t.Fatal(err)
	}
	if err := kube.Index(t.Context(), cached); err != nil {
		t.Fatal(err)
	}
	ledger := kube.NewLedger(kube.LedgerConfig{
		Cached: cached, Live: live, Client: live, Objects: objects, Now: func() time.Time { return time.Now().Add(ahead) },
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = cached.Start(ctx) })
	running.Go(func() { _ = ledger.Start(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	if !cached.WaitForCacheSync(ctx) {
		t.Fatal("the cache did not sync")
	}
	return ledger
}

// draftOf is a held create of a ConfigMap that nobody sends.
func draftOf(key string) *access.Draft {
	return &access.Draft{
		Key: key, Fingerprint: "fp-" + key, Version: "v1", ExpiresAfter: time.Hour, TraceID: "trace",
		Show: func(context.Context, *v1alpha1.AccessRequestStatus) {},
		Spec: v1alpha1.AccessRequestSpec{
			Origin: v1alpha1.Intercepted, Agent: "bot", Requester: "system:serviceaccount:agents:bot",
			Access: v1alpha1.Access{Verbs: []string{"create"}, APIGroups: []string{""}, Resources: []string{"configmaps"}, Namespaces: []string{"default"}, Names: []string{key}},
			Rules: []v1alpha1.HoldingRule{{
				Policy: "p", Rule: "r", Required: 1, Approvers: v1alpha1.Approvers{Groups: []string{local.Approvers}},
			}},
		},
	}
}

func claim(t *testing.T, l *kube.Ledger, d *access.Draft, want v1alpha1.Phase) *v1alpha1.AccessRequest {
	t.Helper()
	r, err := l.Claim(t.Context(), d)
	if err != nil || r.Status.Phase != want {
		t.Fatalf("claim: %+v, %v; want one that is %s", r, err, want)
	}
	return r
}

// oneRedeems: of many who redeem one approval at the same time, in two replicas, one does.
func oneRedeems(t *testing.T, c *cluster) {
	replicas := []*kube.Ledger{c.replica(t, 0), c.replica(t, 0)}
	people := c.objects(t, approver)
	for round := range 10 {
		d := draftOf(fmt.Sprintf("race%d", round))
		if err := approval(t.Context(), people, claim(t, replicas[0], d, v1alpha1.Pending).Name); err != nil {
			t.Fatal(err)
		}
		var redeemed, conflicts atomic.Int32
		var wg sync.WaitGroup
		for i := range 40 {
			wg.Go(func() {
				l := replicas[i%2]
				one := *d
				one.TraceID = fmt.Sprintf("trace-%d", i)
				r, err := l.Claim(context.Background(), &one)
				if err != nil || r.Status.Phase != v1alpha1.Approved {
					return
				}
				err = l.Redeem(context.Background(), r, v1alpha1.Redemption{DecisionID: fmt.Sprint(i), TraceID: one.TraceID, Time: metav1.NowMicro()})
				switch {
				case err == nil:
					redeemed.Add(1)
				case errors.Is(err, access.ErrConflict):
					conflicts.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := redeemed.Load(); n != 1 {
			t.Errorf("round %d: %d redeemed one approval, %d met a conflict", round, n, conflicts.Load())
		}
	}
}

// clockSkew: a replica whose clock is ahead ends a request early, and all others follow; it
// cannot have an approval settled before the API request is over.
func clockSkew(t *testing.T, c *cluster) {
	right, ahead := c.replica(t, 0), c.replica(t, 2*time.Hour)
	d := draftOf("skew")
	first := claim(t, right, d, v1alpha1.Pending)
	if left := time.Until(first.Status.ExpiresAt.Time); left < 58*time.Minute || left > time.Hour {
		t.Errorf("it expires in %s, want an hour by the API server's clock", left)
	}
	second := claim(t, ahead, d, v1alpha1.Pending)
	if second.Name == first.Name {
		t.Error("the replica that is ahead still takes the request for one that waits")
	}
	c.phase(t, first.Name, "Expired")
	if third := claim(t, right, d, v1alpha1.Pending); third.Name != second.Name {
		t.Errorf("the replicas disagree: %s and %s", third.Name, second.Name)
	}
	if err := approval(t.Context(), c.objects(t, approver), second.Name); err != nil {
		t.Fatal(err)
	}
	if err := right.Redeem(t.Context(), claim(t, right, d, v1alpha1.Approved), v1alpha1.Redemption{DecisionID: "D", TraceID: "trace", Time: metav1.NowMicro()}); err != nil {
		t.Fatal(err)
	}
	keeper := kube.NewKeeper(kube.KeeperConfig{Ledger: ahead, Log: slog.New(slog.DiscardHandler), SettleAfter: time.Minute})
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
	defer cancel()
	if err := keeper.Run(ctx); err != nil {
		t.Fatal(err)
	}
	c.phase(t, second.Name, "Redeemed")
}

// wakesOtherReplicas: a call that waits in one replica is released by what happens in another.
func wakesOtherReplicas(t *testing.T, c *cluster) {
	here, there := c.replica(t, 0), c.replica(t, 0)
	r := claim(t, here, draftOf("wakes"), v1alpha1.Pending)
	woken := make(chan time.Time, 1)
	go func() {
		there.Await(t.Context(), r)
		woken <- time.Now()
	}()
	select {
	case <-woken:
		t.Fatal("it does not wait")
	case <-time.After(time.Second):
	}
	if err := approval(t.Context(), c.objects(t, approver), r.Name); err != nil {
		t.Fatal(err)
	}
	select {
	case <-woken:
	case <-time.After(10 * time.Second):
		t.Error("it is not woken")
	}
}

// twoPeopleAtOnce: an Approve and a Deny in the same moment never leave an approval standing.
func twoPeopleAtOnce(t *testing.T, c *cluster) {
	l := c.replica(t, 0)
	first, second := c.objects(t, approver), c.objects(t, approver2)
	for round := range 10 {
		r := claim(t, l, draftOf(fmt.Sprintf("two%d", round)), v1alpha1.Pending)
		errs := make(chan error, 2)
		for who, verdict := range map[client.Client]v1alpha1.Verdict{first: v1alpha1.Approve, second: v1alpha1.Reject} {
			go func() {
				errs <- who.Create(t.Context(), &v1alpha1.Review{
					ObjectMeta: metav1.ObjectMeta{GenerateName: "review-"},
					Spec:       v1alpha1.ReviewSpec{AccessRequest: r.Name, Verdict: verdict},
				})
			}()
		}
		one, other := <-errs, <-errs
		eventually(t, 10*time.Second, "the request is over", func() error {
			var now v1alpha1.AccessRequest
			if err := first.Get(t.Context(), client.ObjectKey{Name: r.Name}, &now); err != nil {
				return err
			}
			if p := now.Status.Phase; p != v1alpha1.Denied && p != v1alpha1.Revoked {
				return fmt.Errorf("it is %s (approve and deny: %w)", p, errors.Join(one, other))
			}
			return nil
		})
	}
}

// pendingCap: an agent that asks for more than may wait is refused, and opens nothing.
func pendingCap(t *testing.T, c *cluster) {
	ns := c.namespace(t)
	agentMaps := c.impatient(t, agent).CoreV1().ConfigMaps(ns)
	var held, refused atomic.Int32
	var wg sync.WaitGroup
	for i := range 60 {
		wg.Go(func() {
			_, err := agentMaps.Create(t.Context(), configMap(fmt.Sprintf("n%d", i), "x"), metav1.CreateOptions{})
			switch {
			case requestIn(err) != "":
				held.Add(1)
			case err != nil && strings.Contains(err.Error(), "too many requests wait for people already"):
				refused.Add(1)
			default:
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	var list v1alpha1.AccessRequestList
	if err := c.objects(t, admin).List(t.Context(), &list, client.MatchingFields{"status.phase": "Pending"}); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 30 || held.Load() == 0 || refused.Load() == 0 {
		t.Errorf("%d requests wait, want 30; %d were held and %d refused", len(list.Items), held.Load(), refused.Load())
	}
	for i := range list.Items {
		if err := approval(t.Context(), c.objects(t, approver), list.Items[i].Name); err != nil {
			t.Fatal(err)
		}
	}
}

// largeObject: nearly as much as the API server takes is held in time, and shown in bounds.
func largeObject(t *testing.T, c *cluster) {
	ns := c.namespace(t)
	labels := map[string]string{"app": "large"}
	large := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "large"},
		Spec: appsv1.DeploymentSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{
					Name: "c", Image: "registry.example.com/c", Env: []corev1.EnvVar{{Name: "A", Value: strings.Repeat("x", 2900<<10)}},
				}}},
			},
		},
	}
	_, err := c.impatient(t, agent).AppsV1().Deployments(ns).Create(t.Context(), large, metav1.CreateOptions{})
	request := requestIn(err)
	if request == "" {
		t.Fatalf("error %.300v, want one that names an AccessRequest", err)
	}
	var r v1alpha1.AccessRequest
	if err := c.objects(t, admin).Get(t.Context(), client.ObjectKey{Name: request}, &r); err != nil {
		t.Fatal(err)
	}
	if n := len(r.Status.Change); n == 0 || n > 16<<10 || !strings.Contains(r.Status.Change, "more bytes") || r.Status.ChangeDigest == "" {
		t.Errorf("the change has %d bytes and digest %q, want at most %d that say what is missing", n, r.Status.ChangeDigest, 16<<10)
	}
}

// retention: what ended long ago is removed, with its Reviews; what has not is kept.
func retention(t *testing.T, c *cluster) {
	ledger := c.replica(t, 0)
	waits := claim(t, ledger, draftOf("waits"), v1alpha1.Pending)
	d := draftOf("ended")
	ended := claim(t, ledger, d, v1alpha1.Pending)
	if r := c.review(t, approver, ended.Name, "Approve"); r.code != 0 {
		t.Fatal(r.err)
	}
	c.phase(t, ended.Name, "Approved")
	later := c.replica(t, 8*24*time.Hour)
	if now := claim(t, later, d, v1alpha1.Pending); now.Name == ended.Name {
		t.Fatal("a week later the approval stands")
	}
	keep := func(ahead time.Duration) {
		keeper := kube.NewKeeper(kube.KeeperConfig{Ledger: c.replica(t, ahead), Log: slog.New(slog.DiscardHandler), Retention: 24 * time.Hour})
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if err := keeper.Run(ctx); err != nil {
			t.Fatal(err)
		}
	}
	keep(0)
	c.must(t, admin, "get", "accessrequest", waits.Name)
	keep(10 * 24 * time.Hour)
	if out := c.must(t, admin, "get", "accessrequest", ended.Name, "--ignore-not-found"); out != "" {
		t.Errorf("it is still there: %s", out)
	}
	eventually(t, 30*time.Second, "its Review goes with it", func() error {
		out := c.must(t, admin, "get", "reviews", "-o", `jsonpath={range .items[*]}{.spec.accessRequest}{"\n"}{end}`)
		if strings.Contains(out, ended.Name) {
			return errors.New(out)
		}
		return nil
	})
}
