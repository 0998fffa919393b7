package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/e2e/local"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// holdEverything holds what the tests of single use do, and answers at once.
const holdEverything = `
  agents: ["*"]
  rules:
  - name: hold
    match: {verbs: [create, update, delete, deletecollection], apiGroups: [""], resources: [configmaps, pods, pods/eviction]}
    action: Hold
    wait: 0s
`

// settleAfter is beyond the API server's --request-timeout of these tests.
const settleAfter = 17 * time.Second

// TestOneEffect: one approval has one effect, whatever is tried, and none is lost where there
// was none.
func TestOneEffect(t *testing.T) {
	t.Parallel() // it waits more than it works
	c := up(t, func(config *local.Config) {
		config.NoEvidence = true // what follows needs nothing but the API server
		config.APIServerArgs = []string{"--request-timeout=15s"}
		config.WebhookArgs = []string{"--settle-after=" + settleAfter.String(), "--max-pending=2000", "--max-pending-per-agent=2000"}
	})
	c.policy(t, "holds", holdEverything)
	t.Run("group", func(t *testing.T) {
		for name, run := range map[string]func(*testing.T, *cluster){
			"ManyAtOnce": manyAtOnce, "UnscheduledPod": unscheduledPod, "ConflictingPatch": conflictingPatch,
			"QuotaGivesBack": quotaGivesBack, "Recreated": recreated, "RidingAlong": ridingAlong,
			"AnotherIdentity": anotherIdentity, "Revoked": revoked, "Collection": collection,
			"FailedUpdateGivesBack": failedUpdateGivesBack, "LargeCollection": largeCollection, "Stricter": stricter, "ForgedTrace": forgedTrace,
		} {
			t.Run(name, func(t *testing.T) { t.Parallel(); run(t, c) })
		}
	})
	t.Run("CutOff", func(t *testing.T) { cutOff(t, c) })
}

// namespace makes a namespace for one test.
func (c *cluster) namespace(t *testing.T) string {
	t.Helper()
	name := strings.ToLower(strings.NewReplacer("/", "-", "_", "-").Replace(t.Name()))
	c.must(t, human, "create", "namespace", name)
	return name
}

// complete waits for the ConfigMap that a controller puts into every namespace: with it a
// collection becomes another one.
func (c *cluster) complete(t *testing.T, ns string) {
	t.Helper()
	maps := c.impatient(t, human).CoreV1().ConfigMaps(ns)
	eventually(t, 20*time.Second, "the namespace is complete", func() error {
		_, err := maps.Get(t.Context(), "kube-root-ca.crt", metav1.GetOptions{})
		return err
	})
}

// generated is a ConfigMap whose name the API server makes up: each that passes is another
// object, so that effects can be counted.
func generated(round int) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: fmt.Sprintf("r%d-", round), Labels: map[string]string{"round": fmt.Sprint(round)}}}
}

// approvedRounds holds and approves one create for each round.
func approvedRounds(t *testing.T, c *cluster, ns string, rounds int) (requests []string) {
	t.Helper()
	agentClient, approverClient := c.impatient(t, agent), c.objects(t, approver)
	requests = make([]string, rounds)
	var group errgroup.Group
	group.SetLimit(8)
	for i := range rounds {
		group.Go(func() error {
			_, err := agentClient.CoreV1().ConfigMaps(ns).Create(t.Context(), generated(i), metav1.CreateOptions{})
			if requests[i] = requestIn(err); requests[i] == "" {
				return fmt.Errorf("round %d was not held: %w", i, err)
			}
			return approval(t.Context(), approverClient, requests[i])
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	return requests
}

// effects counts the objects of each round.
func effects(t *testing.T, c *cluster, ns string) map[string]int {
	t.Helper()
	list, err := c.impatient(t, human).CoreV1().ConfigMaps(ns).List(t.Context(), metav1.ListOptions{LabelSelector: "round"})
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]int{}
	for i := range list.Items {
		found[list.Items[i].Labels["round"]]++
	}
	return found
}

// manyAtOnce sends what was approved once a hundred times at the same moment, fifty times.
func manyAtOnce(t *testing.T, c *cluster) {
	const rounds, calls = 50, 100
	ns := c.namespace(t)
	approvedRounds(t, c, ns, rounds)
	agentClient := c.impatient(t, agent)
	passed := make([]int, rounds)
	for i := range rounds {
		var wg sync.WaitGroup
		var mu sync.Mutex
		for range calls {
			wg.Go(func() {
				_, err := agentClient.CoreV1().ConfigMaps(ns).Create(t.Context(), generated(i), metav1.CreateOptions{})
				if err == nil {
					mu.Lock()
					passed[i]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	stored := effects(t, c, ns)
	for i := range rounds {
		if n := stored[fmt.Sprint(i)]; passed[i] != 1 || n != 1 {
			t.Errorf("round %d: %d of %d passed and %d objects exist, want 1 and 1", i, passed[i], calls, n)
		}
	}
}

// cutOff sends what was approved with timeouts of 1 to 10 ms, and longer ones so that some get
// as far as storage, two hundred times: what the client is told has failed may have been
// stored. At most one effect comes of an approval, and where there was none, it still stands
// when all is settled.
func cutOff(t *testing.T, c *cluster) {
	const rounds = 200
	ns := c.namespace(t)
	requests := approvedRounds(t, c, ns, rounds)
	agentClient := c.impatient(t, agent)
	send := func(i int, timeout time.Duration) error {
		q := agentClient.CoreV1().RESTClient().Post().Namespace(ns).Resource("configmaps").Body(generated(i))
		if timeout > 0 {
			q = q.Param("timeout", timeout.String())
		}
		return q.Do(t.Context()).Error()
	}
	reported := make([]int, rounds)
	var group errgroup.Group
	group.SetLimit(16)
	for i := range rounds {
		group.Go(func() error {
			// Of every tenth approval the effect comes first, and the attack after it.
			if i%10 == 0 && send(i, 5*time.Second) == nil {
				reported[i]++
			}
			for ms := 1; ms <= 100; ms += 1 + ms/10*4 {
				if send(i, time.Duration(ms)*time.Millisecond) == nil {
					reported[i]++
				}
			}
			return nil
		})
	}
	_ = group.Wait() // the attempts are meant to fail
	stored := effects(t, c, ns)
	twice, hidden := 0, 0
	for i := range rounds {
		n := stored[fmt.Sprint(i)]
		if n > 1 {
			twice++
			t.Errorf("round %d: %d objects of one approval", i, n)
		}
		if n > reported[i] {
			hidden++
		}
	}
	// All are settled in the end: used where there was an effect, approved where there was none.
	objects := c.objects(t, admin)
	var again, used int
	eventually(t, settleAfter+40*time.Second, "all approvals are settled", func() error {
		again, used = 0, 0
		for i, name := range requests {
			var r v1alpha1.AccessRequest
			if err := objects.Get(t.Context(), client.ObjectKey{Name: name}, &r); err != nil {
				return err
			}
			switch r.Status.Phase {
			case v1alpha1.Used:
				used++
			case v1alpha1.Approved:
				again++
				if stored[fmt.Sprint(i)] > 0 {
					t.Fatalf("round %d has had its effect, and its approval stands: %s", i, r.Status.Message)
				}
			default:
				return fmt.Errorf("%s is %s", name, r.Status.Phase)
			}
		}
		return nil
	})
	for i := range rounds {
		_ = send(i, 0) // goes through where the approval stands
	}
	for round, n := range effects(t, c, ns) {
		if n != 1 {
			t.Errorf("round %s: %d objects of one approval in the end", round, n)
		}
	}
	t.Logf("%d rounds: %d stored, of which %d were reported as failed; %d approvals used, %d stood again; %d twice", rounds, len(stored), hidden, used, again, twice)
	if again == 0 || len(stored) == 0 {
		t.Errorf("the attack was none: %d approvals stood again, %d had an effect", again, len(stored))
	}
}

// unscheduledPod: the API server asks several times within one DELETE of a pod that no node
// has. One approval is enough.
func unscheduledPod(t *testing.T, c *cluster) {
	ns := c.namespace(t)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "lonely"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "registry.example.com/c"}}}}
	people := c.impatient(t, human).CoreV1().Pods(ns)
	c.eventuallyAccount(t, ns)
	if _, err := people.Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	agentPods := c.impatient(t, agent).CoreV1().Pods(ns)
	request := requestIn(agentPods.Delete(t.Context(), "lonely", metav1.DeleteOptions{}))
	if err := approval(t.Context(), c.objects(t, approver), request); err != nil {
		t.Fatal(err)
	}
	if err := agentPods.Delete(t.Context(), "lonely", metav1.DeleteOptions{}); err != nil {
		t.Fatalf("after the approval: %v", err)
	}
	if _, err := people.Get(t.Context(), "lonely", metav1.GetOptions{}); err == nil {
		t.Error("the pod is still there")
	}
	calls := 0
	for _, e := range c.auditLog(t) {
		if e.ObjectRef == nil || e.ObjectRef.Namespace != ns || e.Verb != "delete" || e.ResponseStatus.Code != 200 {
			continue
		}
		for key := range e.Annotations {
			if strings.HasPrefix(key, "guard.holdfast.dev/d-") {
				calls++
			}
		}
	}
	if calls < 2 {
		t.Errorf("the API server asked %d times within the DELETE: the test shows nothing", calls)
	}
}

// eventuallyAccount waits for the namespace's default service account, without which no pod
// can be created.
func (c *cluster) eventuallyAccount(t *testing.T, ns string) {
	t.Helper()
	people := c.impatient(t, human)
	eventually(t, 20*time.Second, "the default service account", func() error {
		_, err := people.CoreV1().ServiceAccounts(ns).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
}

func configMap(name, value string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{"a": value}}
}

// must1 creates ConfigMaps as a person.
func (c *cluster) configMaps(t *testing.T, ns string, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := c.impatient(t, human).CoreV1().ConfigMaps(ns).Create(t.Context(), configMap(name, "old"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

// quotaGivesBack: what a ResourceQuota refuses after the approval let it pass has had no
// effect, and the approval stands.
func quotaGivesBack(t *testing.T, c *cluster) {
	ns := c.namespace(t)
	people := c.impatient(t, human)
	agentMaps := c.impatient(t, agent).CoreV1().ConfigMaps(ns)
	request := c.held(t, func() error {
		_, err := agentMaps.Create(t.Context(), configMap("wanted", "x"), metav1.CreateOptions{})
		return err
	})
	if err := approval(t.Context(), c.objects(t, approver), request); err != nil {
		t.Fatal(err)
	}
	c.quota(t, ns, "0")
	if _, err := agentMaps.Create(t.Context(), configMap("wanted", "x"), metav1.CreateOptions{}); err == nil || !strings.Contains(err.Error(), "exceeded quota") {
		t.Fatalf("error %v, want the quota's", err)
	}
	c.settled(t, request, v1alpha1.Approved, "changed nothing")
	if err := people.CoreV1().ResourceQuotas(ns).Delete(t.Context(), "none", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, 10*time.Second, "the same create passes on the same approval", func() error {
		_, err := agentMaps.Create(t.Context(), configMap("wanted", "x"), metav1.CreateOptions{})
		return err
	})
	c.settled(t, request, v1alpha1.Used, "created")
}

// quota allows that many ConfigMaps in a namespace, and returns when it is in force.
func (c *cluster) quota(t *testing.T, ns, n string) {
	t.Helper()
	c.must(t, human, "-n", ns, "create", "quota", "none", "--hard=count/configmaps="+n)
	eventually(t, 20*time.Second, "the quota is in force", func() error {
		if out := c.must(t, human, "-n", ns, "get", "quota", "none", "-o", "jsonpath={.status.hard}"); out == "" {
			return errors.New("no status")
		}
		return nil
	})
}

// held sends something of the agent's that has to be held, and returns the AccessRequest.
func (c *cluster) held(t *testing.T, send func() error) string {
	t.Helper()
	err := send()
	request := requestIn(err)
	if request == "" {
		t.Fatalf("error %v, want one that names an AccessRequest", err)
	}
	return request
}

// settled waits until it is known what came of an approval.
func (c *cluster) settled(t *testing.T, request string, phase v1alpha1.Phase, message string) {
	t.Helper()
	objects := c.objects(t, admin)
	eventually(t, settleAfter+30*time.Second, "the approval is settled", func() error {
		var r v1alpha1.AccessRequest
		if err := objects.Get(t.Context(), client.ObjectKey{Name: request}, &r); err != nil {
			return err
		}
		if r.Status.Phase != phase || !strings.Contains(r.Status.Message, message) {
			return fmt.Errorf("%s is %s (%s), want %s (%s)", request, r.Status.Phase, r.Status.Message, phase, message)
		}
		return nil
	})
}

// failedUpdateGivesBack: an update that the API server let pass and then refused leaves the
// approval standing.
func failedUpdateGivesBack(t *testing.T, c *cluster) {
	ns := c.namespace(t)
	c.configMaps(t, ns, "one")
	agentMaps := c.impatient(t, agent).CoreV1().ConfigMaps(ns)
	remove := func() error {
		// The dry run of a later webhook cannot be had here: a precondition that fails does.
		return agentMaps.Delete(t.Context(), "one", metav1.DeleteOptions{})
	}
	request := c.held(t, remove)
	if err := approval(t.Context(), c.objects(t, approver), request); err != nil {
		t.Fatal(err)
	}
	hook := c.refusingWebhook(t, ns)
	if err := remove(); err == nil || !strings.Contains(err.Error(), "refused by the test") {
		t.Fatalf("error %v, want the later webhook's", err)
	}
	hook()
	c.settled(t, request, v1alpha1.Approved, "changed nothing")
	if err := remove(); err != nil {
		t.Errorf("on the approval that stands again: %v", err)
	}
}

// recreated: an approval is for one object, and not for the next one of its name.
func recreated(t *testing.T, c *cluster) {
	ns := c.namespace(t)
	c.configMaps(t, ns, "victim", "gone")
	people, agentMaps := c.impatient(t, human).CoreV1().ConfigMaps(ns), c.impatient(t, agent).CoreV1().ConfigMaps(ns)
	remove := func() error { return agentMaps.Delete(t.Context(), "victim", metav1.DeleteOptions{}) }
	first := c.held(t, remove)
	if err := approval(t.Context(), c.objects(t, approver), first); err != nil {
		t.Fatal(err)
	}
	if err := people.Delete(t.Context(), "victim", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	c.configMaps(t, ns, "victim")
	second := c.held(t, remove)
	if second == first {
		t.Error("the approval of the old object is asked about the new one")
	}
	c.phase(t, first, "Approved")
	if r := c.review(t, approver, second, "Approve"); r.code != 0 {
		t.Errorf("the new one can be approved: %s", r.err)
	}
	// What is gone, or is another one by now, cannot be approved.
	third := c.held(t, func() error { return agentMaps.Delete(t.Context(), "gone", metav1.DeleteOptions{}) })
	if err := people.Delete(t.Context(), "gone", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if r := c.review(t, approver, third, "Approve"); r.code == 0 || !strings.Contains(r.err, `configmaps "gone" is gone`) {
		t.Errorf("approving what is gone: exit %d %s", r.code, r.err)
	}
	c.configMaps(t, ns, "gone")
	if r := c.review(t, approver, third, "Approve"); r.code == 0 || !strings.Contains(r.err, `configmaps "gone" has been deleted and made again since`) {
		t.Errorf("approving what was made again: exit %d %s", r.code, r.err)
	}
}

// ridingAlong: an edit by somebody else after the approval has the agent's change held anew.
func ridingAlong(t *testing.T, c *cluster) {
	ns := c.namespace(t)
	c.configMaps(t, ns, "shared")
	people, agentMaps := c.impatient(t, human).CoreV1().ConfigMaps(ns), c.impatient(t, agent).CoreV1().ConfigMaps(ns)
	patch := func() error {
		_, err := agentMaps.Patch(t.Context(), "shared", "application/merge-patch+json", []byte(`{"data":{"a":"new"}}`), metav1.PatchOptions{})
		return err
	}
	first := c.held(t, patch)
	if err := approval(t.Context(), c.objects(t, approver), first); err != nil {
		t.Fatal(err)
	}
	if _, err := people.Patch(t.Context(), "shared", "application/merge-patch+json", []byte(`{"data":{"b":"rides along"}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	if second := c.held(t, patch); second == first {
		t.Error("the change is let pass on an object that is another one by now")
	}
	c.phase(t, first, "Approved")
}

// anotherIdentity: an approval is for one identity, also within one Agent.
func anotherIdentity(t *testing.T, c *cluster) {
	ns := c.namespace(t)
	send := func(kubeconfig *cluster, who identity) error {
		_, err := kubeconfig.impatient(t, who).CoreV1().ConfigMaps(ns).Create(t.Context(), configMap("mine", "x"), metav1.CreateOptions{})
		return err
	}
	first := c.held(t, func() error { return send(c, agent) })
	if err := approval(t.Context(), c.objects(t, approver), first); err != nil {
		t.Fatal(err)
	}
	c.must(t, human, "-n", local.AgentNamespace, "create", "serviceaccount", "twin")
	c.must(t, human, "create", "clusterrolebinding", "twin", "--clusterrole=cluster-admin", "--serviceaccount="+local.AgentNamespace+":twin")
	token := strings.TrimSpace(c.must(t, human, "-n", local.AgentNamespace, "create", "token", "twin"))
	config := c.config(t, c.kubeconfig(agent))
	config.BearerToken, config.BearerTokenFile = token, ""
	twin := clientset(t, config)
	_, err := twin.CoreV1().ConfigMaps(ns).Create(t.Context(), configMap("mine", "x"), metav1.CreateOptions{})
	if second := requestIn(err); second == "" || second == first {
		t.Errorf("error %v, want another AccessRequest than %s", err, first)
	}
	c.phase(t, first, "Approved")
	if err := send(c, agent); err != nil {
		t.Errorf("the identity that it is for: %v", err)
	}
}

// revoked: an approver takes back an approval, their own too, before it is used.
func revoked(t *testing.T, c *cluster) {
	ns := c.namespace(t)
	agentMaps := c.impatient(t, agent).CoreV1().ConfigMaps(ns)
	create := func() error {
		_, err := agentMaps.Create(t.Context(), configMap("taken-back", "x"), metav1.CreateOptions{})
		return err
	}
	first := c.held(t, create)
	if err := approval(t.Context(), c.objects(t, approver), first); err != nil {
		t.Fatal(err)
	}
	if r := c.review(t, human, first, "Deny"); r.code == 0 || !strings.Contains(r.err, "not an approver") {
		t.Errorf("a stranger takes it back: exit %d %s", r.code, r.err)
	}
	if r := c.review(t, approver, first, "Deny"); r.code != 0 {
		t.Fatalf("taking it back: %s", r.err)
	}
	c.phase(t, first, "Revoked")
	if second := c.held(t, create); second == first {
		t.Error("the approval that was taken back is asked about")
	}
}

// collection: nothing of a collection is deleted before all of it is approved, and then
// exactly that.
func collection(t *testing.T, c *cluster) {
	ns := c.namespace(t)
	c.complete(t, ns)
	c.configMaps(t, ns, "c1", "c2", "c3")
	people, agentMaps := c.impatient(t, human).CoreV1().ConfigMaps(ns), c.impatient(t, agent).CoreV1().ConfigMaps(ns)
	remove := func() error {
		return agentMaps.DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{})
	}
	left := func(want int) {
		t.Helper()
		list, err := people.List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != want {
			t.Errorf("%d objects are left, %v; want %d", len(list.Items), err, want)
		}
	}
	first := c.held(t, remove)
	left(4) // with the API server's own certificate
	if items := c.must(t, admin, "get", "accessrequest", first, "-o", "jsonpath={.status.items[*].name}"); items != "c1 c2 c3 kube-root-ca.crt" {
		t.Errorf("the request is for %q", items)
	}
	if err := approval(t.Context(), c.objects(t, approver), first); err != nil {
		t.Fatal(err)
	}
	c.configMaps(t, ns, "c4")
	second := c.held(t, remove)
	left(5)
	if second == first {
		t.Error("the approval is taken for a collection with another object")
	}
	if err := approval(t.Context(), c.objects(t, approver), second); err != nil {
		t.Fatal(err)
	}
	if err := remove(); err != nil {
		t.Fatalf("after the approval: %v", err)
	}
	for _, name := range []string{"c1", "c2", "c3", "c4"} {
		if _, err := people.Get(t.Context(), name, metav1.GetOptions{}); err == nil {
			t.Errorf("%s is still there", name)
		}
	}
	c.settled(t, second, v1alpha1.Used, "")
}

// largeCollection: what cannot be judged as a whole is denied as a whole.
func largeCollection(t *testing.T, c *cluster) {
	ns := c.namespace(t)
	people := c.impatient(t, human).CoreV1().ConfigMaps(ns)
	var group errgroup.Group
	group.SetLimit(16)
	for i := range 501 {
		group.Go(func() error {
			_, err := people.Create(t.Context(), configMap(fmt.Sprintf("c%d", i), ""), metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	err := c.impatient(t, agent).CoreV1().ConfigMaps(ns).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{})
	if err == nil || !strings.Contains(err.Error(), "more than 500") {
		t.Errorf("error %v, want one that says more than 500", err)
	}
	list, err := people.List(context.Background(), metav1.ListOptions{})
	if err != nil || len(list.Items) < 501 {
		t.Errorf("%d objects are left, %v; want all 501", len(list.Items), err)
	}
}

// conflictingPatch: a PATCH that conflicts three times is tried again within its one API
// request, and passes on one approval.
func conflictingPatch(t *testing.T, c *cluster) {
	ns := c.namespace(t)
	c.configMaps(t, ns, "busy")
	people, agentMaps := c.impatient(t, human).CoreV1().ConfigMaps(ns), c.impatient(t, agent).CoreV1().ConfigMaps(ns)
	patch := func() error {
		_, err := agentMaps.Patch(t.Context(), "busy", "application/merge-patch+json", []byte(`{"data":{"a":"new"}}`), metav1.PatchOptions{})
		return err
	}
	request := c.held(t, patch)
	if err := approval(t.Context(), c.objects(t, approver), request); err != nil {
		t.Fatal(err)
	}
	// Before it lets the first three calls pass, a later webhook edits the object.
	calls := 0
	c.laterWebhook(t, ns, "UPDATE", func() string {
		if calls++; calls <= 3 {
			edit := fmt.Sprintf(`{"metadata":{"annotations":{"edit":"%d"}}}`, calls)
			if _, err := people.Patch(context.Background(), "busy", "application/merge-patch+json", []byte(edit), metav1.PatchOptions{}); err != nil {
				return err.Error()
			}
		}
		return ""
	})
	if err := patch(); err != nil {
		t.Fatalf("after the approval: %v", err)
	}
	now, err := people.Get(t.Context(), "busy", metav1.GetOptions{})
	if err != nil || now.Data["a"] != "new" || now.Annotations["edit"] != "3" || calls != 4 {
		t.Errorf("%v, %v after %d calls; want the change after three conflicts", now.Data, err, calls)
	}
}

// sentUnder is the agent's create of a ConfigMap with a name of the API server's, under a
// trace ID of the agent's own.
func (c *cluster) sentUnder(t *testing.T, ns, trace string) error {
	t.Helper()
	config := c.config(t, c.kubeconfig(agent))
	config.Wrap(func(rt http.RoundTripper) http.RoundTripper { return traced{rt, trace} })
	_, err := clientset(t, config).CoreV1().ConfigMaps(ns).Create(t.Context(), generated(0), metav1.CreateOptions{})
	return err
}

// forgedTrace: two requests under one trace ID, which their client chose, are two requests.
func forgedTrace(t *testing.T, c *cluster) {
	const trace = "0af7651916cd43dd8448eb211c80319c"
	ns := c.namespace(t)
	request := c.held(t, func() error { return c.sentUnder(t, ns, trace) })
	if err := approval(t.Context(), c.objects(t, approver), request); err != nil {
		t.Fatal(err)
	}
	if err := c.sentUnder(t, ns, trace); err != nil {
		t.Fatalf("on the approval: %v", err)
	}
	if second := c.held(t, func() error { return c.sentUnder(t, ns, trace) }); second == request {
		t.Error("the second request is taken for the first")
	}
	if n := effects(t, c, ns)["0"]; n != 1 {
		t.Errorf("%d objects of one approval", n)
	}
}

// TestUntrustedTraces: without a tracing configuration the API server passes on the trace IDs
// that clients send. Holdfast notices, and goes by what it can see.
func TestUntrustedTraces(t *testing.T) {
	t.Parallel() // it waits more than it works
	c := up(t, func(config *local.Config) {
		config.NoEvidence = true
		config.APIServerArgs = []string{"--tracing-config-file="}
	})
	c.policy(t, "holds", holdEverything)
	t.Run("ForgedTrace", func(t *testing.T) { forgedTrace(t, c) })
	t.Run("UnscheduledPod", func(t *testing.T) { unscheduledPod(t, c) })
	t.Run("Collection", func(t *testing.T) {
		ns := c.namespace(t)
		c.configMaps(t, ns, "c1")
		err := c.impatient(t, agent).CoreV1().ConfigMaps(ns).DeleteCollection(t.Context(), metav1.DeleteOptions{}, metav1.ListOptions{})
		if err == nil || !strings.Contains(err.Error(), "without the API server's tracing configuration") {
			t.Errorf("error %v, want one that says why it cannot wait", err)
		}
	})
}

// stricter: an approval by rules that ask for more by now is none.
func stricter(t *testing.T, c *cluster) {
	ns := c.namespace(t)
	const policy = `
  agents: ["*"]
  rules:
  - name: hold
    match: {verbs: [create], apiGroups: ["apps"], resources: [deployments], namespaces: ["%s"]}
    action: Hold
    wait: 0s
    required: %d
`
	c.policy(t, "grows", fmt.Sprintf(policy, ns, 1))
	manifest := func() error {
		r := c.kubectl(t, agent, "-n", ns, "create", "deployment", "web", "--image=registry.example.com/web")
		if r.code == 0 {
			return nil
		}
		return errors.New(r.err)
	}
	first := c.held(t, manifest)
	if err := approval(t.Context(), c.objects(t, approver), first); err != nil {
		t.Fatal(err)
	}
	c.policy(t, "grows", fmt.Sprintf(policy, ns, 2))
	eventually(t, 20*time.Second, "the stricter rule is in force", func() error {
		second := requestIn(manifest())
		if second == "" {
			t.Fatal("it passes on one approval, and two are asked for")
		}
		if second == first {
			return errors.New("the approval by the old rule is asked about")
		}
		return nil
	})
	c.phase(t, first, "Expired")
}
