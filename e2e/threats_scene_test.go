package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/holdfast-dev/holdfast/e2e/local"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// stage is one control plane on which cases are played.
type stage struct {
	c       *cluster
	guarded bool
	// admin is of system:masters; person is a human with cluster-admin.
	admin, person *caller
	reviewers     map[identity]*caller
	audit         *auditIndex
}

// scene is where one trial is played: a namespace of its own, and an agent of its case.
type scene struct {
	*stage
	t *testing.T
	// ns is the trial's namespace, agent who tries in it, and name that agent's name.
	ns, name string
	agent    *caller
}

// runnerKind is somebody's kind, which may carry a pod template, in two versions.
const runnerKind = `
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: runners.%[1]s}
spec:
  group: %[1]s
  scope: Namespaced
  names: {plural: runners, singular: runner, kind: Runner, listKind: RunnerList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
  - name: v1beta1
    served: true
    storage: false
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
    subresources: {status: {}, scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}}
`

const runnerGroup = "threats.example.com"

// newStage makes what the cases share. Without Holdfast there are its kinds nevertheless,
// for the cases that write them.
func newStage(t *testing.T, c *cluster, guarded bool) *stage {
	t.Helper()
	s := &stage{
		c: c, guarded: guarded, audit: &auditIndex{path: c.info.AuditLog, events: map[string]auditv1.Event{}},
		admin: newCaller(t, c, admin), person: newCaller(t, c, human),
		reviewers: map[identity]*caller{approver: newCaller(t, c, approver), approver2: newCaller(t, c, approver2), human: newCaller(t, c, human)},
	}
	if !guarded {
		c.must(t, admin, "create", "-f", "../manifests/crds")
		for _, kind := range []string{"accessrequests", "reviews"} {
			c.must(t, admin, "wait", "--for=condition=Established", "--timeout=30s", "crd/"+kind+".holdfast.dev")
		}
		s.admin.await(t, "/apis/holdfast.dev/v1alpha1/reviews")
	}
	s.kind(t, runnerGroup)
	return s
}

// kind creates the kind Runner in a group.
func (s *stage) kind(t *testing.T, group string) {
	t.Helper()
	if r := s.c.kubectlWith(t, fmt.Sprintf(runnerKind, group), human, "create", "-f", "-"); r.code != 0 {
		t.Fatalf("create the kind Runner: %s", r.err)
	}
	s.admin.await(t, "/apis/"+group+"/v1/runners")
}

func (s *stage) plane() string {
	if s.guarded {
		return "on"
	}
	return "off"
}

// scene makes a namespace, and the agent if it is not there.
func (s *stage) scene(t *testing.T, ns, agentName string) *scene {
	t.Helper()
	sc := &scene{stage: s, t: t, ns: strings.ToLower(ns), name: strings.ToLower(agentName)}
	sc.agent = sc.declare(sc.name, local.HumanUser)
	sc.namespace(sc.ns)
	return sc
}

// namespace creates a namespace in which pods can be created.
func (s *scene) namespace(name string) {
	s.t.Helper()
	s.prepare(httpPost("/api/v1/namespaces", `{"metadata":{"name":"`+name+`"}}`))
	s.eventually("namespace "+name+" has its service account", func() error {
		return s.exists("/api/v1/namespaces/" + name + "/serviceaccounts/default")
	})
}

// declare gives an agent an identity with cluster-admin, and the Agent an owner.
func (s *scene) declare(name, owner string) *caller {
	s.t.Helper()
	account := "/api/v1/namespaces/" + local.AgentNamespace + "/serviceaccounts"
	for _, made := range []call{
		httpPost(account, `{"metadata":{"name":"`+name+`"}}`),
		httpPost("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", fmt.Sprintf(
			`{"metadata":{"name":"threats:%[1]s"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"},"subjects":[{"kind":"ServiceAccount","namespace":%[2]q,"name":%[1]q}]}`,
			name, local.AgentNamespace)),
	} {
		if a := s.send(s.admin, made); !a.ok() && a.code != http.StatusConflict {
			s.t.Fatalf("make agent %s: %s", name, a)
		}
	}
	token := s.send(s.admin, httpPost(account+"/"+name+"/token", `{"spec":{"expirationSeconds":7200}}`))
	if !token.ok() {
		s.t.Fatalf("token of agent %s: %s", name, token)
	}
	if s.guarded {
		path := "/apis/holdfast.dev/v1alpha1/agents"
		a := s.send(s.admin, httpPost(path, fmt.Sprintf(
			`{"apiVersion":"holdfast.dev/v1alpha1","kind":"Agent","metadata":{"name":%q},"spec":{"subjects":[{"kind":"ServiceAccount","namespace":%q,"name":%q}],"owner":{"kind":"User","name":%q}}}`,
			name, local.AgentNamespace, name, owner)))
		if !a.ok() && a.code != http.StatusConflict {
			s.t.Fatalf("declare agent %s: %s", name, a)
		}
		s.eventually("Agent "+name+" is in force", func() error { return s.condition(path+"/"+name, "Compiled") })
	}
	return s.admin.as(s.t, fmt.Sprint(fieldOf(token.object(), "status.token")))
}

// user is the user name of the scene's agent.
func (s *scene) user() string { return "system:serviceaccount:" + local.AgentNamespace + ":" + s.name }

func (s *scene) condition(path, name string) error {
	var object struct {
		Status struct{ Conditions []metav1.Condition }
	}
	a := s.send(s.admin, httpGet(path))
	if err := json.Unmarshal([]byte(a.body), &object); err != nil {
		return err
	}
	if !slices.ContainsFunc(object.Status.Conditions, func(c metav1.Condition) bool { return c.Type == name && c.Status == metav1.ConditionTrue }) {
		return fmt.Errorf("not %s: %s", name, a)
	}
	return nil
}

// policy puts an AgentPolicy into force until the end of the trial.
func (s *scene) policy(spec string) {
	s.t.Helper()
	s.c.policy(s.t, s.ns, s.expand(spec))
}

// expand fills in the scene's namespace and agent.
func (s *scene) expand(text string) string {
	return strings.NewReplacer("{ns}", s.ns, "{agent}", s.name).Replace(text)
}

// eventually is eventually with the time that controllers take.
func (s *scene) eventually(what string, try func() error) {
	s.t.Helper()
	eventually(s.t, effectTime, what, try)
}

// prepare sends calls as a person, which must succeed.
func (s *scene) prepare(calls ...call) {
	s.t.Helper()
	for _, c := range calls {
		if a := s.send(s.person, c); !a.ok() {
			s.t.Fatalf("prepare: %s %s: %s", c.method, s.expand(c.path), a)
		}
	}
}

// patience is the timeout that attempts give with their requests: a held one is answered two
// seconds before.
const patience = "4s"

// attempt sends a call as the agent, once, by a client that retries nothing. What the API
// server cut off for want of time is no answer, and sent again.
func (s *scene) attempt(c call) answer {
	s.t.Helper()
	if s.guarded && c.method != http.MethodGet && !strings.Contains(c.path, "timeout=") {
		separator := "?"
		if strings.Contains(c.path, "?") {
			separator = "&"
		}
		c.path += separator + "timeout=" + patience
	}
	for tries := 1; ; tries++ {
		a := s.send(s.agent, c)
		if a.err == nil && a.code != http.StatusGatewayTimeout || tries == 4 {
			return a
		}
	}
}

func (s *scene) send(as *caller, c call) answer {
	s.t.Helper()
	return as.send(s.t.Context(), call{c.method, s.expand(c.path), c.contentType, s.expand(c.body)})
}

// read returns an object; its code says whether it is there.
func (s *scene) read(path string) answer { return s.send(s.admin, httpGet(path)) }

func (s *scene) exists(path string) error {
	if a := s.read(path); !a.ok() {
		return errors.New(a.String())
	}
	return nil
}

// snapshot is what of an object only its users change: controllers write status and
// annotations at any time.
func (s *scene) snapshot(path string) string {
	s.t.Helper()
	if path == "" {
		return ""
	}
	a := s.read(path)
	if a.code == http.StatusNotFound {
		return "not there"
	}
	object := a.object()
	if !a.ok() || object == nil {
		s.t.Fatalf("read %s: %s", path, a)
	}
	kept := map[string]any{}
	for _, field := range []string{
		"metadata.uid", "metadata.deletionTimestamp", "metadata.finalizers", "metadata.ownerReferences", "metadata.labels",
		"spec", "data", "template",
	} {
		kept[field] = fieldOf(object, field)
	}
	data, err := json.Marshal(kept)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(data)
}

// names are those of the objects in a collection.
func (s *scene) names(path string) []string {
	s.t.Helper()
	a := s.read(path)
	items, ok := fieldOf(a.object(), "items").([]any)
	if !a.ok() || !ok {
		s.t.Fatalf("list %s: %s", path, a)
	}
	var names []string
	for _, item := range items {
		names = append(names, fmt.Sprint(fieldOf(item, "metadata.name")))
	}
	return names
}

// requests are the AccessRequests of the scene's agent.
func (s *scene) requests() []v1alpha1.AccessRequest {
	s.t.Helper()
	var list v1alpha1.AccessRequestList
	a := s.read("/apis/holdfast.dev/v1alpha1/accessrequests")
	if err := json.Unmarshal([]byte(a.body), &list); err != nil || !a.ok() {
		s.t.Fatalf("list AccessRequests: %s", a)
	}
	return slices.DeleteFunc(list.Items, func(r v1alpha1.AccessRequest) bool { return r.Spec.Agent != s.name })
}

// accessRequest is the one that an answer names, which must wait, and be this agent's.
func (s *scene) accessRequest(a answer) string {
	s.t.Helper()
	name := a.cause("HoldfastAccessRequest")
	if name == "" {
		s.t.Fatalf("names no AccessRequest: %s", a)
	}
	for _, r := range s.requests() {
		if r.Name == name {
			if r.Status.Phase != v1alpha1.Pending || r.Spec.Requester != s.user() {
				s.t.Fatalf("AccessRequest %s of %s is %s", name, r.Spec.Requester, r.Status.Phase)
			}
			return name
		}
	}
	s.t.Fatalf("there is no AccessRequest %s of agent %s", name, s.name)
	return ""
}

// review makes a Review that approves, as somebody.
func (s *scene) review(as *caller, request string) answer {
	s.t.Helper()
	return s.send(as, httpPost("/apis/holdfast.dev/v1alpha1/reviews", fmt.Sprintf(
		`{"apiVersion":"holdfast.dev/v1alpha1","kind":"Review","metadata":{"generateName":"review-"},"spec":{"accessRequest":%q,"verdict":"Approve"}}`, request)))
}

// approve approves, and returns once Holdfast has taken it in.
func (s *scene) approve(request string) {
	s.t.Helper()
	if a := s.review(s.reviewers[approver], request); !a.ok() {
		s.t.Fatalf("approve: %s", a)
	}
	s.phase(request, v1alpha1.Approved)
}

func (s *scene) phase(request string, want v1alpha1.Phase) {
	s.t.Helper()
	s.eventually("AccessRequest "+request+" is "+string(want), func() error {
		return fieldIs("/apis/holdfast.dev/v1alpha1/accessrequests/"+request, "status.phase", want)(s, answer{})
	})
}

// kubeconfig writes the agent's identity for kubectl.
func (s *scene) kubeconfig() string {
	s.t.Helper()
	config := s.agent.config
	const only = "only"
	path := filepath.Join(s.t.TempDir(), "kubeconfig")
	err := clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{only: {Server: config.Host, CertificateAuthorityData: config.CAData, CertificateAuthority: config.CAFile}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{only: {Token: config.BearerToken}},
		Contexts:       map[string]*clientcmdapi.Context{only: {Cluster: only, AuthInfo: only, Namespace: s.ns}},
		CurrentContext: only,
	}, path)
	if err != nil {
		s.t.Fatal(err)
	}
	return path
}

// caller sends requests as somebody, by a plain HTTP client: it retries nothing.
type caller struct {
	config *rest.Config
	client *http.Client
}

func newCaller(t *testing.T, c *cluster, who identity) *caller {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig(who))
	if err != nil {
		t.Fatal(err)
	}
	return callerOf(t, config)
}

func callerOf(t *testing.T, config *rest.Config) *caller {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	client.Timeout = time.Minute
	return &caller{config: config, client: client}
}

// as is a caller to the same API server with a token.
func (c *caller) as(t *testing.T, token string) *caller {
	t.Helper()
	config := rest.AnonymousClientConfig(c.config)
	config.BearerToken = token
	return callerOf(t, config)
}

// await waits until what was just defined can be listed.
func (c *caller) await(t *testing.T, path string) {
	t.Helper()
	eventually(t, 30*time.Second, path+" is served", func() error {
		if a := c.send(t.Context(), httpGet(path)); !a.ok() {
			return errors.New(a.String())
		}
		return nil
	})
}

// call is one request. In path and body {ns} and {agent} stand for the scene's.
type call struct{ method, path, contentType, body string }

func httpGet(path string) call        { return call{http.MethodGet, path, "", ""} }
func httpPost(path, body string) call { return call{http.MethodPost, path, "application/json", body} }
func httpPut(path, body string) call  { return call{http.MethodPut, path, "application/json", body} }
func httpDelete(path, body string) call {
	return call{http.MethodDelete, path, "application/json", body}
}
func mergePatch(path, body string) call {
	return call{http.MethodPatch, path, "application/merge-patch+json", body}
}
func jsonPatch(path, body string) call {
	return call{http.MethodPatch, path, "application/json-patch+json", body}
}
func strategicPatch(path, body string) call {
	return call{http.MethodPatch, path, "application/strategic-merge-patch+json", body}
}
func applyPatch(path, body string) call {
	return call{http.MethodPatch, path, "application/apply-patch+yaml", body}
}

// answer is what came of a call.
type answer struct {
	code    int
	body    string
	auditID string
	// status is what a refusal says.
	status metav1.Status
	err    error
}

func (c *caller) send(ctx context.Context, q call) answer {
	request, err := http.NewRequestWithContext(ctx, q.method, strings.TrimSuffix(c.config.Host, "/")+q.path, strings.NewReader(q.body))
	if err != nil {
		return answer{err: err}
	}
	if q.contentType != "" && q.body != "" {
		request.Header.Set("Content-Type", q.contentType)
	}
	response, err := c.client.Do(request)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	a := answer{code: response.StatusCode, body: string(body), auditID: response.Header.Get("Audit-Id"), err: err}
	if !a.ok() {
		// What is no Status leaves an empty one.
		_ = json.Unmarshal(body, &a.status)
	}
	return a
}

func (a answer) ok() bool { return a.err == nil && a.code >= 200 && a.code < 300 }

func (a answer) String() string {
	if a.err != nil {
		return "no answer: " + a.err.Error()
	}
	return fmt.Sprintf("HTTP %d %.1000s", a.code, a.body)
}

func (a answer) object() any {
	var object any
	if json.Unmarshal([]byte(a.body), &object) != nil {
		return nil
	}
	return object
}

// rules are those that a refusal names, as policy/rule.
func (a answer) rules() []string {
	var rules []string
	if a.status.Details != nil {
		for _, c := range a.status.Details.Causes {
			rules = append(rules, c.Field)
		}
	}
	return rules
}

func (a answer) cause(kind string) string {
	if a.status.Details != nil {
		for _, c := range a.status.Details.Causes {
			if string(c.Type) == kind {
				return c.Message
			}
		}
	}
	return ""
}

func (a answer) retryAfter() int32 {
	if a.status.Details == nil {
		return 0
	}
	return a.status.Details.RetryAfterSeconds
}

// fieldOf follows a path of keys and indexes through decoded JSON; nil where it ends early.
func fieldOf(v any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		switch now := v.(type) {
		case map[string]any:
			v = now[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(now) {
				return nil
			}
			v = now[i]
		default:
			return nil
		}
	}
	return v
}

// objectGone is the effect that an object is not there any more.
func objectGone(path string) func(*scene, answer) error {
	return func(s *scene, _ answer) error {
		if a := s.read(path); a.code != http.StatusNotFound {
			return fmt.Errorf("%s is there: HTTP %d", s.expand(path), a.code)
		}
		return nil
	}
}

// objectThere is the effect that an object is there.
func objectThere(path string) func(*scene, answer) error {
	return func(s *scene, _ answer) error { return s.exists(path) }
}

// fieldIs is the effect that a field of an object has a value; nil: that it has none.
func fieldIs(path, field string, want any) func(*scene, answer) error {
	return func(s *scene, _ answer) error {
		a := s.read(path)
		if !a.ok() {
			return errors.New(a.String())
		}
		got := fieldOf(a.object(), field)
		if (want == nil) != (got == nil) || (want != nil && fmt.Sprint(got) != s.expand(fmt.Sprint(want))) {
			return fmt.Errorf("%s of %s is %v, want %v", field, s.expand(path), got, want)
		}
		return nil
	}
}

// objectNamed is the effect that the collection has an object whose name starts so.
func objectNamed(path, prefix string) func(*scene, answer) error {
	return func(s *scene, _ answer) error {
		if names := s.names(path); !slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, prefix) }) {
			return fmt.Errorf("%s has %v, want %s…", s.expand(path), names, prefix)
		}
		return nil
	}
}

// collectionEmpty is the effect that nothing is left of a collection.
func collectionEmpty(path string) func(*scene, answer) error {
	return func(s *scene, _ answer) error {
		if names := s.names(path); len(names) > 0 {
			return fmt.Errorf("%s has %v", s.expand(path), names)
		}
		return nil
	}
}

// auditIndex reads the API server's audit log as it grows.
type auditIndex struct {
	path string

	mu     sync.Mutex
	offset int64
	rest   []byte
	events map[string]auditv1.Event // what was complete, by audit ID
}

// find reads what is new and returns the events for which want is true.
func (x *auditIndex) find(t *testing.T, want func(*auditv1.Event) bool) []auditv1.Event {
	t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.read(t)
	var found []auditv1.Event
	for _, e := range x.events {
		if want(&e) {
			found = append(found, e)
		}
	}
	return found
}

// decisions are Holdfast's, in the audit event of a request.
func (x *auditIndex) decisions(t *testing.T, auditID string) []decision.Record {
	t.Helper()
	x.mu.Lock()
	x.read(t)
	event := x.events[auditID]
	x.mu.Unlock()
	var records []decision.Record
	for key, value := range event.Annotations {
		r, err := decision.ParseAnnotation(key, value)
		if err == nil {
			records = append(records, r)
		}
	}
	return records
}

func (x *auditIndex) read(t *testing.T) {
	t.Helper()
	f, err := os.Open(x.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Seek(x.offset, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	x.offset += int64(len(data))
	x.rest = append(x.rest, data...)
	for {
		line, rest, ok := bytes.Cut(x.rest, []byte("\n"))
		if !ok {
			return // a last line without its end is being written
		}
		x.rest = rest
		var e auditv1.Event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("audit log: %v", err)
		}
		if e.Stage == auditv1.StageResponseComplete {
			x.events[string(e.AuditID)] = e
		}
	}
}

// tlsServer is a server on loopback and the authority that signed its certificate, in PEM.
func tlsServer(t *testing.T, handler http.Handler) (url string, ca []byte) {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	return server.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}
