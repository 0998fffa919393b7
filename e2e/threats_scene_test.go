package e2e

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/holdfast-dev/holdfast/e2e/local"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
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
	// seen is what the agent has sent, in order.
	seen *attempts
	// vars are more names that calls can have in braces.
	vars map[string]string
}

// attempts are what an agent has sent in one trial.
type attempts struct {
	mu       sync.Mutex
	attempts []attempted
	// shown stands for all in the results: the first whose verdict was looked at.
	shown *answer
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
	s.customKinds(t)
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

// scene makes a namespace, and the agent if it is not there.
func (s *stage) scene(t *testing.T, ns, agentName string) *scene {
	t.Helper()
	sc := &scene{stage: s, t: t, ns: strings.ToLower(ns), name: strings.ToLower(agentName), seen: &attempts{}, vars: map[string]string{}}
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
	return s.declareAs(name, owner, "cluster-admin")
}

// declareAs is declare with another ClusterRole.
func (s *scene) declareAs(name, owner, role string) *caller {
	s.t.Helper()
	account := "/api/v1/namespaces/" + local.AgentNamespace + "/serviceaccounts"
	for _, made := range []call{
		httpPost(account, `{"metadata":{"name":"`+name+`"}}`),
		httpPost("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", fmt.Sprintf(
			`{"metadata":{"name":"threats:%[1]s"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":%[3]q},"subjects":[{"kind":"ServiceAccount","namespace":%[2]q,"name":%[1]q}]}`,
			name, local.AgentNamespace, role)),
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
		s.eventually("Agent "+name+" is in force", func() error { return s.compiled(path + "/" + name) })
	}
	made := s.admin.as(s.t, fmt.Sprint(fieldOf(token.object(), "status.token")))
	made.agent = true
	return made
}

// user is the user name of the scene's agent.
func (s *scene) user() string { return "system:serviceaccount:" + local.AgentNamespace + ":" + s.name }

// compiled is nil once Holdfast has taken in the Agent or policy at path.
func (s *scene) compiled(path string) error {
	var object struct {
		Status struct{ Conditions []metav1.Condition }
	}
	a := s.send(s.admin, httpGet(path))
	if err := json.Unmarshal([]byte(a.body), &object); err != nil {
		return err
	}
	if !slices.ContainsFunc(object.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type == v1alpha1.ConditionCompiled && c.Status == metav1.ConditionTrue
	}) {
		return fmt.Errorf("not %s: %s", v1alpha1.ConditionCompiled, a)
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
	pairs := []string{"{ns}", s.ns, "{agent}", s.name}
	for name, value := range s.vars {
		pairs = append(pairs, "{"+name+"}", value)
	}
	return strings.NewReplacer(pairs...).Replace(text)
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
	a := as.send(s.t.Context(), s.filled(c))
	if as.agent {
		s.note(a.auditID, a.code)
	}
	return a
}

// filled is a call with the scene's names in it.
func (s *scene) filled(c call) call {
	c.path, c.body = s.expand(c.path), s.expand(c.body)
	for name, value := range c.header {
		c = c.with(name, s.expand(value))
	}
	return c
}

// note keeps that the agent has sent something, for the evidence of it. What Holdfast's own
// endpoints answered, or nobody, has no audit ID.
func (s *scene) note(auditID string, code int) {
	if auditID == "" {
		return
	}
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	s.seen.attempts = append(s.seen.attempts, attempted{Code: code, AuditID: auditID})
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
	name := a.heldAs()
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
	for _, who := range []identity{approver, approver2}[:s.required(request)] {
		if a := s.review(s.reviewers[who], request); !a.ok() {
			s.t.Fatalf("approve as %s: %s", who, a)
		}
	}
	s.phase(request, v1alpha1.Approved)
}

// required is how many people a request waits for.
func (s *scene) required(request string) int32 {
	s.t.Helper()
	most := int32(1)
	for _, r := range s.requests() {
		if r.Name == request {
			for _, rule := range r.Spec.Rules {
				most = max(most, rule.Required)
			}
		}
	}
	return most
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

// tlsServer is a server on loopback and the authority that signed its certificate, in PEM.
func tlsServer(t *testing.T, handler http.Handler) (url string, ca []byte) {
	t.Helper()
	server := httptest.NewTLSServer(handler)
	t.Cleanup(server.Close)
	return server.URL, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
}
