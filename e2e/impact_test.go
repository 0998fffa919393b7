package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/holdfast-dev/holdfast/e2e/local"
	"github.com/holdfast-dev/holdfast/pkg/access/impact"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/kube"
)

// secretValue is in the cluster, and must not reach Holdfast.
const secretValue = "the value of a Secret"

// TestImpact: what a change would do, as Holdfast's own account sees it.
func TestImpact(t *testing.T) {
	c := up(t, func(config *local.Config) { config.NoEvidence = true })
	s := newSurveyor(t, c)
	c.apply(t, fmt.Sprintf(impactManifests, base64.StdEncoding.EncodeToString([]byte(secretValue))))
	s.settled(t)
	for _, part := range []struct {
		name string
		run  func(*surveyor, *testing.T)
	}{
		{"Namespace", (*surveyor).deletedNamespace},
		{"Storage", (*surveyor).deletedStorage},
		{"Workloads", (*surveyor).changedWorkloads},
		{"RBAC", (*surveyor).newRights},
		{"Collections", (*surveyor).collections},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(s, t) })
	}
	s.sawNoSecret(t)
}

// surveyor asks with the rights of Holdfast's account, and keeps all that it is answered.
type surveyor struct {
	*cluster
	impacts *kube.Impacts
	mu      sync.Mutex
	bodies  bytes.Buffer
}

func newSurveyor(t *testing.T, c *cluster) *surveyor {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(c.info.Dir, "data", "holdfast", "webhook.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	s := &surveyor{cluster: c}
	config.WrapTransport = func(next http.RoundTripper) http.RoundTripper { return recorder{next, s} }
	if s.impacts, err = kube.NewImpacts(config); err != nil {
		t.Fatal(err)
	}
	return s
}

type recorder struct {
	next http.RoundTripper
	to   *surveyor
}

func (r recorder) RoundTrip(q *http.Request) (*http.Response, error) {
	response, err := r.next.RoundTrip(q)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	_ = response.Body.Close()
	response.Body = io.NopCloser(bytes.NewReader(body))
	r.to.mu.Lock()
	defer r.to.mu.Unlock()
	r.to.bodies.Write(body)
	return response, nil
}

func (s *surveyor) sawNoSecret(t *testing.T) {
	t.Helper()
	if !strings.Contains(s.bodies.String(), "token-1") {
		t.Error("what was answered does not even have the row of the Secret that is counted: nothing was recorded")
	}
	for _, value := range []string{secretValue, base64.StdEncoding.EncodeToString([]byte(secretValue))} {
		if strings.Contains(s.bodies.String(), value) {
			t.Errorf("Holdfast was sent %q", value)
		}
	}
}

// object is one that is stored, decoded as a webhook gets it.
func (s *surveyor) object(t *testing.T, args ...string) map[string]any {
	t.Helper()
	var o map[string]any
	if err := utiljson.Unmarshal([]byte(s.must(t, admin, append([]string{"get", "-o", "json"}, args...)...)), &o); err != nil {
		t.Fatal(err)
	}
	return o
}

// settled waits until the controllers have done what the manifests want.
func (s *surveyor) settled(t *testing.T) {
	t.Helper()
	for _, claim := range []string{"gone", "kept", "data-db-1"} {
		s.must(t, admin, "-n", "doomed", "wait", "--for=jsonpath={.status.phase}=Bound", "--timeout=60s", "pvc/"+claim)
	}
	eventually(t, 60*time.Second, "the pods are there", func() error {
		if n := len(s.podsOf(t, "app=web,pod-template-hash")) + len(s.podsOf(t, "app=db")) + len(s.podsOf(t, "batch.kubernetes.io/job-name=once")); n != 5 {
			return fmt.Errorf("%d pods", n)
		}
		return nil
	})
	s.must(t, admin, "wait", "--for=condition=Established", "--timeout=60s", "crd/widgets.shop.example.com")
	eventually(t, 60*time.Second, "the pod and the widgets are there", func() error {
		if r := s.kubectlWith(t, lateManifests, admin, "apply", "-f", "-"); r.code != 0 {
			return fmt.Errorf("%s", r.err)
		}
		return nil
	})
}

func (s *surveyor) podsOf(t *testing.T, selector string) []string {
	t.Helper()
	return strings.Fields(s.must(t, admin, "-n", "doomed", "get", "pods", "-l", selector, "-o", "jsonpath={.items[*].metadata.name}"))
}

// of asks, and checks the bounds that hold for every answer.
func (s *surveyor) of(t *testing.T, r *decision.Request, items ...v1alpha1.Item) impact.Impact {
	t.Helper()
	start := time.Now()
	got := s.impacts.Of(context.Background(), r, items)
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("it took %s", took)
	}
	return got
}

func want(t *testing.T, name string, got impact.Impact, counts map[string]int64, sentences ...string) {
	t.Helper()
	if !slices.Equal(got.Affected, sentences) {
		t.Errorf("%s: got\n  %s\nwant\n  %s", name, strings.Join(got.Affected, "\n  "), strings.Join(sentences, "\n  "))
	}
	if !maps.Equal(got.Counts, counts) {
		t.Errorf("%s: counts %v, want %v", name, got.Counts, counts)
	}
}

// named is a sentence about these names.
func named(format string, names []string) string {
	slices.Sort(names)
	return fmt.Sprintf(format, `"`+strings.Join(names, `", "`)+`"`)
}

const (
	goneClaim = `cannot be undone: deletes persistentvolumeclaims "doomed/gone" (1Gi), bound to volume "pv-gone": its data is deleted (reclaim policy Delete)`
	keptClaim = `deletes persistentvolumeclaims "doomed/kept" (2Gi), bound to volume "pv-kept": its data is retained (reclaim policy Retain), and nothing in the cluster claims it any more`
	dbClaim   = `cannot be undone: deletes persistentvolumeclaims "doomed/data-db-%d" (1Gi), bound to volume "pv-db-%d": its data is deleted (reclaim policy Delete)`
)

func (s *surveyor) deletedNamespace(t *testing.T) {
	r := &decision.Request{Verb: "delete", Version: "v1", Resource: "namespaces", Namespace: "doomed", Name: "doomed"}
	counts := map[string]int64{
		"namespaces": 1, "persistentvolumeclaims": 4, "statefulsets.apps": 1, "widgets.shop.example.com": 2, "pods": 6, "secrets": 3,
		"configmaps": 1, "serviceaccounts": 1, "deployments.apps": 1, "replicasets.apps": 1, "jobs.batch": 1,
		"roles.rbac.authorization.k8s.io": 1, "rolebindings.rbac.authorization.k8s.io": 2, "services": 1,
	}
	got := s.of(t, r)
	want(t, "namespace", got, counts,
		fmt.Sprintf(dbClaim, 0, 0), fmt.Sprintf(dbClaim, 1, 1), goneClaim, keptClaim,
		`deletes statefulsets.apps "db"`, `deletes widgets.shop.example.com "left", "right"`)
	if again := s.of(t, r); again.Digest != got.Digest {
		t.Errorf("asked twice it has two digests")
	}
	r.Namespace, r.Name = "empty", "empty"
	want(t, "empty namespace", s.of(t, r), map[string]int64{"namespaces": 1, "configmaps": 1, "serviceaccounts": 1})
}

func (s *surveyor) deletedStorage(t *testing.T) {
	r := &decision.Request{Verb: "delete", Version: "v1", Resource: "persistentvolumeclaims", Namespace: "doomed", Name: "gone"}
	r.OldObject = s.object(t, "-n", "doomed", "pvc", "gone")
	want(t, "claim", s.of(t, r), map[string]int64{"persistentvolumeclaims": 1}, goneClaim,
		`persistentvolumeclaims "doomed/gone" is mounted by pods "alone"`)
	r = &decision.Request{Verb: "delete", Version: "v1", Resource: "persistentvolumes", Name: "pv-kept", OldObject: s.object(t, "pv", "pv-kept")}
	want(t, "volume", s.of(t, r), map[string]int64{"persistentvolumes": 1},
		`deletes persistentvolumes "pv-kept" (2Gi), bound to persistentvolumeclaims "doomed/kept": its data is retained (reclaim policy Retain), and nothing in the cluster claims it any more`)
	r = &decision.Request{
		Verb: "delete", Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions", Name: "widgets.shop.example.com",
		OldObject: s.object(t, "crd", "widgets.shop.example.com"),
	}
	want(t, "definition", s.of(t, r), map[string]int64{"customresourcedefinitions.apiextensions.k8s.io": 1, "widgets.shop.example.com": 2},
		`deletes widgets.shop.example.com "doomed/left", "doomed/right"`)
}

func (s *surveyor) changedWorkloads(t *testing.T) {
	workload := func(verb, group, resource, name string, replicas int64) *decision.Request {
		r := &decision.Request{Verb: verb, Group: group, Version: "v1", Resource: resource, Namespace: "doomed", Name: name}
		r.OldObject = s.object(t, "-n", "doomed", resource, name)
		if verb == "update" {
			r.Object = s.object(t, "-n", "doomed", resource, name)
			spec, _ := r.Object["spec"].(map[string]any)
			spec["replicas"] = replicas
		}
		return r
	}
	web := s.podsOf(t, "app=web,pod-template-hash")
	want(t, "deployment", s.of(t, workload("delete", "apps", "deployments", "web", 0)),
		map[string]int64{"deployments.apps": 1, "replicasets.apps": 1, "pods": 2},
		named(`deletes pods %s of deployments.apps "doomed/web"`, web))

	r := workload("delete", "apps", "deployments", "web", 0)
	r.Options = map[string]any{"propagationPolicy": "Orphan"}
	want(t, "orphaning", s.of(t, r), map[string]int64{"deployments.apps": 1, "pods": 2},
		named(`leaves pods %s of deployments.apps "doomed/web" as they are, without it`, web))

	want(t, "scaled", s.of(t, workload("update", "apps", "deployments", "web", 5)), map[string]int64{"pods": 3},
		`scales deployments.apps "doomed/web" from 2 to 5 pods: 3 are started`)

	r = workload("update", "apps", "deployments", "web", 2)
	if got := s.of(t, r); got.Affected != nil || got.Counts != nil || got.Digest != "" {
		t.Errorf("of no change: %+v", got)
	}
	spec, _ := r.Object["spec"].(map[string]any)
	spec["template"] = map[string]any{"metadata": map[string]any{"labels": map[string]any{"app": "web", "v": "2"}}}
	want(t, "another template", s.of(t, r), map[string]int64{"pods": 2}, named(`replaces pods %s of deployments.apps "doomed/web"`, web))

	want(t, "stateful set", s.of(t, workload("delete", "apps", "statefulsets", "db", 0)),
		map[string]int64{"statefulsets.apps": 1, "pods": 2, "persistentvolumeclaims": 2},
		fmt.Sprintf(dbClaim, 0, 0), fmt.Sprintf(dbClaim, 1, 1), `deletes pods "db-0", "db-1" of statefulsets.apps "doomed/db"`)

	scale := func(n int64) map[string]any { return map[string]any{"spec": map[string]any{"replicas": n}} }
	r = workload("delete", "apps", "statefulsets", "db", 0)
	r.Verb, r.Subresource, r.OldObject, r.Object = "update", "scale", scale(2), scale(1)
	want(t, "scaled stateful set", s.of(t, r), map[string]int64{"pods": 1, "persistentvolumeclaims": 1},
		fmt.Sprintf(dbClaim, 1, 1), `scales statefulsets.apps "doomed/db" from 2 to 1 pods: 1 are deleted`)

	// What the API server does with a Job's pods where nobody says.
	want(t, "job", s.of(t, workload("delete", "batch", "jobs", "once", 0)), map[string]int64{"jobs.batch": 1, "pods": 1},
		named(`leaves pods %s of jobs.batch "doomed/once" as they are, without it`, s.podsOf(t, "batch.kubernetes.io/job-name=once")))

	pod := &decision.Request{Verb: "create", Version: "v1", Resource: "pods", Subresource: "eviction", Namespace: "doomed", Name: "db-0"}
	want(t, "eviction", s.of(t, pod), map[string]int64{"pods": 1},
		`deletes pods "doomed/db-0", which StatefulSet "db" owns: that decides whether another one takes its place`)
	pod = &decision.Request{Verb: "delete", Version: "v1", Resource: "pods", Namespace: "doomed", Name: "alone", OldObject: s.object(t, "-n", "doomed", "pod", "alone")}
	want(t, "pod", s.of(t, pod), map[string]int64{"pods": 1}, `deletes pods "doomed/alone", which nothing owns: nothing starts it again`)
}

func (s *surveyor) newRights(t *testing.T) {
	rbac := func(verb, resource, namespace, name string, change func(o map[string]any)) *decision.Request {
		r := &decision.Request{Verb: verb, Group: "rbac.authorization.k8s.io", Version: "v1", Resource: resource, Namespace: namespace, Name: name}
		args := []string{resource, name}
		if namespace != "" {
			args = append(args, "-n", namespace)
		}
		r.OldObject, r.Object = s.object(t, args...), s.object(t, args...)
		change(r.Object)
		if verb == "create" {
			r.OldObject = nil
		}
		return r
	}
	rules := func(o map[string]any) {
		o["rules"] = []any{map[string]any{"apiGroups": []any{""}, "resources": []any{"configmaps", "secrets"}, "verbs": []any{"get"}}}
	}
	want(t, "role", s.of(t, rbac("update", "roles", "doomed", "reader", rules)), nil,
		`newly allows get on secrets in namespace "doomed" to group "dev"`)
	subjects := func(o map[string]any) {
		o["subjects"] = []any{map[string]any{"kind": "ServiceAccount", "namespace": "agents", "name": "bot"}}
	}
	want(t, "role binding", s.of(t, rbac("update", "rolebindings", "doomed", "readers", subjects)), nil,
		`newly allows get on configmaps in namespace "doomed" to service account "agents/bot"`,
		`no longer allows get on configmaps in namespace "doomed" to group "dev"`)
	want(t, "cluster role binding", s.of(t, rbac("create", "clusterrolebindings", "", "cluster-admin", subjects)), nil,
		`newly allows everything (*) on every resource in the whole cluster to service account "agents/bot"`,
		`newly allows everything (*) on path * in the whole cluster to service account "agents/bot"`)
	// A new ClusterRole whose rules are added to one that is bound.
	aggregated := rbac("create", "clusterroles", "", "to-aggregate", func(o map[string]any) {
		o["metadata"] = map[string]any{
			"name": "more", "labels": map[string]any{"e2e.example.com/aggregate": "yes"},
		}
	})
	aggregated.Name = "more"
	want(t, "aggregation", s.of(t, aggregated), nil,
		`newly allows watch on leases.coordination.k8s.io in namespace "doomed" to user "ann"`,
		`newly allows watch on leases.coordination.k8s.io to nobody: nothing binds it`)
	dangling := rbac("create", "rolebindings", "doomed", "readers", func(o map[string]any) {
		o["roleRef"] = map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "missing"}
	})
	want(t, "dangling", s.of(t, dangling), nil, `gives Role "missing", which does not exist: whoever creates it decides what this allows`)
}

func (s *surveyor) collections(t *testing.T) {
	items := func(resource string, names ...string) []v1alpha1.Item {
		var list []v1alpha1.Item
		for _, name := range names {
			o := s.object(t, "-n", "doomed", resource, name)
			metadata, _ := o["metadata"].(map[string]any)
			item := v1alpha1.Item{Name: name}
			item.UID = types.UID(fmt.Sprint(metadata["uid"]))
			list = append(list, item)
		}
		return list
	}
	collection := func(group, resource string) *decision.Request {
		return &decision.Request{Verb: "deletecollection", Group: group, Version: "v1", Resource: resource, Namespace: "doomed"}
	}
	want(t, "claims", s.of(t, collection("", "persistentvolumeclaims"), items("pvc", "gone", "kept")...), map[string]int64{"persistentvolumeclaims": 2},
		goneClaim, keptClaim)
	want(t, "secrets", s.of(t, collection("", "secrets"), items("secret", "token-1", "token-2")...), map[string]int64{"secrets": 2})
	want(t, "stateful sets", s.of(t, collection("apps", "statefulsets"), items("sts", "db")...), map[string]int64{"statefulsets.apps": 1},
		`deletes statefulsets.apps "db"`)
}

// lateManifests need what impactManifests make. The pod has the labels of a Deployment that
// does not own it.
const lateManifests = `
apiVersion: shop.example.com/v1
kind: Widget
metadata: {name: left, namespace: doomed}
---
apiVersion: shop.example.com/v1
kind: Widget
metadata: {name: right, namespace: doomed}
---
apiVersion: v1
kind: Pod
metadata: {name: alone, namespace: doomed, labels: {app: web}}
spec:
  containers: [{name: c, image: none}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: gone}}]
`

// impactManifests are applied, so that kubectl keeps a copy of each in its annotations. The
// volumes name their claims.
const impactManifests = `
apiVersion: v1
kind: Namespace
metadata: {name: doomed}
---
apiVersion: v1
kind: Namespace
metadata: {name: empty}
---
apiVersion: v1
kind: Secret
metadata: {name: token-1, namespace: doomed}
data: {token: %[1]s}
---
apiVersion: v1
kind: Secret
metadata: {name: token-2, namespace: doomed}
data: {token: %[1]s}
---
apiVersion: v1
kind: Secret
metadata: {name: token-3, namespace: doomed}
data: {token: %[1]s}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: pv-gone}
spec:
  {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], persistentVolumeReclaimPolicy: Delete, hostPath: {path: /tmp/gone}, claimRef: {namespace: doomed, name: gone}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: pv-kept}
spec:
  {capacity: {storage: 2Gi}, accessModes: [ReadWriteOnce], persistentVolumeReclaimPolicy: Retain, hostPath: {path: /tmp/kept}, claimRef: {namespace: doomed, name: kept}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: pv-db-0}
spec:
  {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], persistentVolumeReclaimPolicy: Delete, hostPath: {path: /tmp/db-0}, claimRef: {namespace: doomed, name: data-db-0}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: pv-db-1}
spec:
  {capacity: {storage: 1Gi}, accessModes: [ReadWriteOnce], persistentVolumeReclaimPolicy: Delete, hostPath: {path: /tmp/db-1}, claimRef: {namespace: doomed, name: data-db-1}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: gone, namespace: doomed}
spec: {storageClassName: "", accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: kept, namespace: doomed}
spec: {storageClassName: "", accessModes: [ReadWriteOnce], resources: {requests: {storage: 2Gi}}}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: doomed}
spec: {clusterIP: None, selector: {app: db}, ports: [{port: 80}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: doomed}
spec:
  replicas: 2
  serviceName: db
  podManagementPolicy: Parallel
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete, whenScaled: Delete}
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: c, image: none}]}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {storageClassName: "", accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: doomed}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, image: none}]}
---
apiVersion: batch/v1
kind: Job
metadata: {name: once, namespace: doomed}
spec:
  template:
    spec: {restartPolicy: Never, containers: [{name: c, image: none}]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: doomed}
rules: [{apiGroups: [""], resources: [configmaps], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: readers, namespace: doomed}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: Group, name: dev}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: to-aggregate}
rules: [{apiGroups: [coordination.k8s.io], resources: [leases], verbs: [watch]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: aggregate}
aggregationRule: {clusterRoleSelectors: [{matchLabels: {e2e.example.com/aggregate: "yes"}}]}
rules: []
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: aggregated, namespace: doomed}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: aggregate}
subjects: [{apiGroup: rbac.authorization.k8s.io, kind: User, name: ann}]
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.shop.example.com}
spec:
  group: shop.example.com
  scope: Namespaced
  names: {kind: Widget, plural: widgets}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
`
