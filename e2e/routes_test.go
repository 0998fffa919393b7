package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/holdfast-dev/holdfast/e2e/controlplane"
	"github.com/holdfast-dev/holdfast/e2e/local"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// holdRoutes holds every route by which the agent of these tests changes something.
const holdRoutes = `
  agents: ["*"]
  rules:
  - name: changes
    match: {verbs: [create, update, delete, deletecollection], apiGroups: [""], resources: [configmaps]}
    action: Hold
    message: A second pair of eyes.
    wait: 2m
  - name: namespaces
    match: {verbs: [delete], apiGroups: [""], resources: [namespaces]}
    action: Hold
    message: A second pair of eyes.
    wait: 2m
  - name: workloads
    match: {verbs: [create, update], apiGroups: ["", apps], resources: [deployments/scale, pods/eviction, pods/ephemeralcontainers]}
    action: Hold
    message: A second pair of eyes.
    wait: 2m
  - name: connections
    match: {verbs: [connect], apiGroups: [""], resources: [pods/exec]}
    action: Hold
    message: A second pair of eyes.
    wait: 2m
`

// agentUser is the agent in the API server's audit log.
const agentUser = "system:serviceaccount:" + local.AgentNamespace + ":" + local.AgentAccount

// kubectl is an unmodified one, of some version.
type kubectl struct{ version, path string }

// route is one way in which an agent changes something, in a namespace of its own.
type route struct {
	name string
	// before is what a person has made there, YAML; NS stands for the namespace throughout.
	before string
	// args and stdin are the agent's kubectl.
	args  []string
	stdin string
	// client is the agent where it is no kubectl.
	client func(ctx context.Context, c kubernetes.Interface, ns string) error
	// look are the arguments of a kubectl whose output is from until the change is approved,
	// and to afterwards.
	look     []string
	from, to string
}

const (
	routeOld = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: NS}\ndata: {a: old}\n"
	routeNew = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: NS}\ndata: {a: new}\n"
	routePod = "apiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: NS}\nspec: {containers: [{name: main, image: registry.example.com/x:1}]}\n"
	// There is no kubelet: a node is an object, and a pod on it goes only when nothing has to
	// be ended there.
	routePodOnNode  = "apiVersion: v1\nkind: Node\nmetadata: {name: NS}\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: p, namespace: NS}\nspec: {nodeName: NS, containers: [{name: main, image: registry.example.com/x:1}]}\n"
	routeDeployment = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: d, namespace: NS}\nspec:\n  replicas: 0\n  selector: {matchLabels: {app: d}}\n  template:\n    metadata: {labels: {app: d}}\n    spec: {containers: [{name: main, image: registry.example.com/x:1}]}\n"
	routeThree      = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one, namespace: NS, labels: {of: two}}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: two, namespace: NS, labels: {of: two}}\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: stays, namespace: NS}\n"
	routeEviction   = `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"p","namespace":"NS"},"deleteOptions":{"gracePeriodSeconds":0}}`
)

func routeValue() []string {
	return []string{"get", "configmap", "c", "-n", "NS", "--ignore-not-found", "-o", "jsonpath={.data.a}"}
}

func routePodName() []string {
	return []string{"get", "pod", "p", "-n", "NS", "--ignore-not-found", "-o", "name"}
}

func routeNames() []string {
	return []string{"get", "configmaps", "-n", "NS", "-o", `jsonpath={range .items[?(@.metadata.name!="kube-root-ca.crt")]}{.metadata.name} {end}`}
}

// kubectlRoutes are those on which kubectl comes back by itself: it keeps the request's body.
func kubectlRoutes() []route {
	return []route{
		{
			name: "delete-namespace",
			args: []string{"delete", "namespace", "NS"},
			look: []string{"get", "namespace", "NS", "--ignore-not-found", "-o", "name"}, from: "namespace/NS\n",
		},
		{
			name: "create",
			args: []string{"create", "-f", "-"}, stdin: routeNew,
			look: routeValue(), to: "new",
		},
		{
			name: "create-generated-name",
			args: []string{"create", "-f", "-"}, stdin: "apiVersion: v1\nkind: ConfigMap\nmetadata: {generateName: made-, namespace: NS, labels: {made: here}}\n",
			look: []string{"get", "configmaps", "-n", "NS", "-l", "made=here", "-o", "jsonpath={.items[*].metadata.generateName}"}, to: "made-",
		},
		{
			name: "replace", before: routeOld,
			args: []string{"replace", "-f", "-"}, stdin: routeNew,
			look: routeValue(), from: "old", to: "new",
		},
		{
			name: "patch-json", before: routeOld,
			args: []string{"patch", "configmap", "c", "-n", "NS", "--type=json", "-p", `[{"op":"replace","path":"/data/a","value":"new"}]`},
			look: routeValue(), from: "old", to: "new",
		},
		{
			name: "patch-merge", before: routeOld,
			args: []string{"patch", "configmap", "c", "-n", "NS", "--type=merge", "-p", `{"data":{"a":"new"}}`},
			look: routeValue(), from: "old", to: "new",
		},
		{
			name: "patch-strategic", before: routeOld,
			args: []string{"patch", "configmap", "c", "-n", "NS", "--type=strategic", "-p", `{"data":{"a":"new"}}`},
			look: routeValue(), from: "old", to: "new",
		},
		{
			name: "apply-creates",
			args: []string{"apply", "--server-side", "-f", "-"}, stdin: routeNew,
			look: routeValue(), to: "new",
		},
		{
			name: "apply-updates", before: routeOld,
			args: []string{"apply", "--server-side", "--force-conflicts", "-f", "-"}, stdin: routeNew,
			look: routeValue(), from: "old", to: "new",
		},
		{
			name: "scale", before: routeDeployment,
			args: []string{"scale", "deployment", "d", "-n", "NS", "--replicas=2"},
			look: []string{"get", "deployment", "d", "-n", "NS", "-o", "jsonpath={.spec.replicas}"}, from: "0", to: "2",
		},
		{
			name: "drain", before: routePodOnNode, // evicts
			args: []string{"drain", "NS", "--force", "--grace-period=0"},
			look: routePodName(), from: "pod/p\n",
		},
		{
			name: "debug", before: routePod, // patches pods/ephemeralcontainers
			args: []string{"debug", "p", "-n", "NS", "--image=registry.example.com/debug:1", "--container=debugger", "--profile=general"},
			look: []string{"get", "pod", "p", "-n", "NS", "-o", "jsonpath={.spec.ephemeralContainers[*].name}"}, to: "debugger",
		},
	}
}

// clientRoutes are for programs alone, here with client-go of the control plane's version:
// kubectl deletes one by one what a selector finds.
func clientRoutes() []route {
	return []route{{
		name: "deletecollection", before: routeThree,
		client: func(ctx context.Context, c kubernetes.Interface, ns string) error {
			return c.CoreV1().ConfigMaps(ns).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{LabelSelector: "of=two"})
		},
		look: routeNames(), from: "one stays two ", to: "stays ",
	}}
}

// rawRoutes are those on which kubectl does not come back: with --raw it hands on a body that
// client-go cannot send twice (rest.withRetry: "we have an opaque reader"). It waits as long
// as one call does.
func rawRoutes() []route {
	return []route{
		{
			name: "raw-deletecollection", before: routeThree,
			args: []string{"delete", "--raw", "/api/v1/namespaces/NS/configmaps?labelSelector=of%3Dtwo"},
			look: routeNames(), from: "one stays two ", to: "stays ",
		},
		{
			name: "raw-eviction", before: routePodOnNode,
			args: []string{"create", "--raw", "/api/v1/namespaces/NS/pods/p/eviction", "-f", "-"}, stdin: routeEviction,
			look: routePodName(), from: "pod/p\n",
		},
	}
}

// TestRoutes: whatever an agent does with an ordinary client, now or three minor versions ago,
// waits for people, and goes through without the agent doing anything.
func TestRoutes(t *testing.T) {
	t.Parallel() // it waits more than it works
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute) // a cold build
	defer cancel()
	older, err := controlplane.BuildOlderKubectl(ctx, controlplane.BuildConfig{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	c := up(t, func(config *local.Config) { config.NoEvidence = true })
	c.policy(t, "routes", holdRoutes)
	kubectls := []kubectl{{controlplane.Version, c.info.Kubectl}, {controlplane.OlderVersion, older}}
	for _, k := range kubectls {
		t.Run(k.version, func(t *testing.T) {
			k.isOf(t, c)
			comeBack := kubectlRoutes()
			if k.version == controlplane.Version {
				comeBack = append(comeBack, clientRoutes()...)
			}
			t.Run("ComesBack", func(t *testing.T) { newWave(t, c, k, comeBack).comesBack(t) })
			t.Run("WaitsInOneCall", func(t *testing.T) { newWave(t, c, k, rawRoutes()).waitsInOneCall(t) })
			t.Run("AtOnce", func(t *testing.T) { atOnce(t, c, k) })
		})
	}
	t.Run("NoRetries", func(t *testing.T) { noRetries(t, c) })
	t.Run("AnswersAtOnce", func(t *testing.T) { answersAtOnce(t, c) })
}

// isOf fails where the program is not the kubectl that it should be.
func (k kubectl) isOf(t *testing.T, c *cluster) {
	t.Helper()
	var version struct{ ClientVersion struct{ GitVersion string } }
	out := c.program(t, k.path, "", admin, "version", "--client", "-o", "json").out
	if err := json.Unmarshal([]byte(out), &version); err != nil || version.ClientVersion.GitVersion != k.version {
		t.Fatalf("%s is %s (%v), want %s", k.path, out, err, k.version)
	}
}

// wave are routes that are gone at the same time.
type wave struct {
	c      *cluster
	k      kubectl
	routes []*running
}

// running is a route whose command runs.
type running struct {
	route
	ns   string
	done <-chan result
	// request is the AccessRequest that was opened for it.
	request string
}

// in puts a route's namespace into a text.
func (s *running) in(text string) string { return strings.ReplaceAll(text, "NS", s.ns) }

func (s *running) ins(texts []string) []string {
	var replaced []string
	for _, text := range texts {
		replaced = append(replaced, s.in(text))
	}
	return replaced
}

// newWave makes what has to be there before, starts all commands, and returns when each of
// them has its one AccessRequest and has changed nothing.
func newWave(t *testing.T, c *cluster, k kubectl, routes []route) *wave {
	t.Helper()
	w := &wave{c: c, k: k}
	var manifest strings.Builder
	for _, r := range routes {
		s := &running{route: r, ns: strings.ReplaceAll(k.version, ".", "-") + "-" + r.name}
		w.routes = append(w.routes, s)
		fmt.Fprintf(&manifest, "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n---\n%s", s.ns, s.in(r.before))
	}
	c.prepare(t, manifest.String())
	for _, s := range w.routes {
		c.complete(t, s.ns)
		s.done = w.start(t, s)
	}
	w.opened(t)
	if len(w.routes) == 0 {
		t.FailNow()
	}
	for _, s := range w.routes {
		if got := c.must(t, admin, s.ins(s.look)...); got != s.in(s.from) {
			t.Errorf("%s: %q before the approval, want %q", s.name, got, s.in(s.from))
		}
	}
	return w
}

// prepare has a person make what is in a manifest. Pods need their namespace's service account,
// which a controller makes. The apply is server-side: of what has been applied client-side,
// kubectl's server-side apply makes two requests, since it takes over the managed fields, and
// people would have to approve each.
func (c *cluster) prepare(t *testing.T, manifest string) {
	t.Helper()
	eventually(t, 30*time.Second, "what the agent changes is there", func() error {
		if r := c.kubectlWith(t, manifest, human, "apply", "--server-side", "-f", "-"); r.code != 0 {
			return errors.New(r.err)
		}
		return nil
	})
}

func (w *wave) start(t *testing.T, s *running) <-chan result {
	t.Helper()
	done := make(chan result, 1)
	if s.client == nil {
		go func() { done <- w.c.program(t, w.k.path, s.in(s.stdin), agent, s.ins(s.args)...) }()
		return done
	}
	client, err := kubernetes.NewForConfig(w.c.restConfig(t, agent))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if err := s.client(context.Background(), client, s.ns); err != nil {
			done <- result{err: err.Error(), code: 1}
			return
		}
		done <- result{}
	}()
	return done
}

// requestsIn are the AccessRequests by namespace: of what is in it, or of itself.
func (c *cluster) requestsIn(t *testing.T) map[string][]v1alpha1.AccessRequest {
	t.Helper()
	var list v1alpha1.AccessRequestList
	if err := json.Unmarshal([]byte(c.must(t, admin, "get", "accessrequests", "-o", "json")), &list); err != nil {
		t.Fatal(err)
	}
	in := map[string][]v1alpha1.AccessRequest{}
	for _, r := range list.Items {
		of := r.Spec.Access.Namespaces
		if len(of) == 0 {
			of = r.Spec.Access.Names
		}
		if len(of) == 1 {
			in[of[0]] = append(in[of[0]], r)
		}
	}
	return in
}

// opened waits until each route has a pending AccessRequest.
func (w *wave) opened(t *testing.T) {
	t.Helper()
	eventually(t, 30*time.Second, "every command is held", func() error {
		var errs []error
		w.waiting(t)
		requests := w.c.requestsIn(t)
		for _, s := range w.routes {
			of := requests[s.ns]
			if len(of) != 1 || of[0].Status.Phase != v1alpha1.Pending {
				errs = append(errs, fmt.Errorf("%s has %d AccessRequests, want one that is pending", s.name, len(of)))
				continue
			}
			s.request = of[0].Name
		}
		return errors.Join(errs...)
	})
}

// waiting fails for routes whose command has ended, and goes on without them.
func (w *wave) waiting(t *testing.T) {
	t.Helper()
	w.routes = slices.DeleteFunc(w.routes, func(s *running) bool {
		select {
		case r := <-s.done:
			t.Errorf("%s did not wait: exit %d\n%s%s", s.name, r.code, r.out, r.err)
			return true
		default:
			return false
		}
	})
}

// comesBack lets every command be told to come back at least once, approves, and looks.
func (w *wave) comesBack(t *testing.T) {
	// One call waits ten seconds, and the answer is in the log when that is over.
	eventually(t, time.Minute, "every client was told to come back", func() error {
		var errs []error
		w.waiting(t)
		answers := w.c.answers(t)
		for _, s := range w.routes {
			if answers[s.ns][http.StatusTooManyRequests] == 0 {
				errs = append(errs, fmt.Errorf("%s: no 429 in %v", s.name, answers[s.ns]))
			}
		}
		return errors.Join(errs...)
	})
	w.goesThrough(t)
	answers := w.c.answers(t)
	for _, s := range w.routes {
		if got := answers[s.ns]; got[http.StatusTooManyRequests] == 0 || got[http.StatusOK]+got[http.StatusCreated] != 1 {
			t.Errorf("%s: answers %v, want 429s and one success", s.name, got)
		}
	}
}

// waitsInOneCall approves while the first and only call waits.
func (w *wave) waitsInOneCall(t *testing.T) {
	w.goesThrough(t)
	answers := w.c.answers(t)
	for _, s := range w.routes {
		if got := answers[s.ns]; len(got) != 1 || got[http.StatusOK]+got[http.StatusCreated] != 1 {
			t.Errorf("%s: answers %v, want one success and nothing else", s.name, got)
		}
	}
}

// goesThrough approves everything, and looks at what came of it.
func (w *wave) goesThrough(t *testing.T) {
	t.Helper()
	w.waiting(t)
	for _, s := range w.routes {
		w.c.approve(t, approver, s.request)
	}
	for _, s := range w.routes {
		t.Run(s.name, func(t *testing.T) {
			select {
			case r := <-s.done:
				if r.code != 0 {
					t.Fatalf("exit %d after the approval\n%s%s", r.code, r.out, r.err)
				}
			case <-time.After(time.Minute): // clients are told to come back after a few seconds
				t.Fatalf("still waits; the AccessRequests are %+v", w.c.requestsIn(t)[s.ns])
			}
			eventually(t, 20*time.Second, "the change is there", func() error {
				if got := w.c.must(t, admin, s.ins(s.look)...); got != s.in(s.to) {
					return fmt.Errorf("%q, want %q", got, s.in(s.to))
				}
				return nil
			})
			of := w.c.requestsIn(t)[s.ns]
			if len(of) != 1 || of[0].Name != s.request {
				t.Fatalf("%d AccessRequests were opened, want %s alone", len(of), s.request)
			}
			if p := of[0].Status.Phase; p != v1alpha1.Redeemed && p != v1alpha1.Used {
				t.Errorf("the approval is %s, want it spent", p)
			}
		})
	}
}

// answers counts what the API server answered to the agent's changes, by namespace and code.
func (c *cluster) answers(t *testing.T) map[string]map[int32]int {
	t.Helper()
	by := map[string]map[int32]int{}
	for _, e := range c.auditLog(t) {
		if e.User.Username != agentUser || e.ObjectRef == nil || e.ResponseStatus == nil || e.Stage != "ResponseComplete" {
			continue
		}
		switch e.Verb {
		case "create", "update", "patch", "delete", "deletecollection":
		default:
			continue
		}
		if by[e.ObjectRef.Namespace] == nil {
			by[e.ObjectRef.Namespace] = map[int32]int{}
		}
		by[e.ObjectRef.Namespace][e.ResponseStatus.Code]++
	}
	return by
}
