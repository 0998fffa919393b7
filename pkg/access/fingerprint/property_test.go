package fingerprint

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	certificatesv1 "k8s.io/api/certificates/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/randfill"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// kind is one whose objects are generated.
type kind struct {
	group, resource string
	object          any
}

var kinds = []kind{
	{"", "pods", &corev1.Pod{}},
	{"", "services", &corev1.Service{}},
	{"", "configmaps", &corev1.ConfigMap{}},
	{"", "secrets", &corev1.Secret{}},
	{"", "persistentvolumeclaims", &corev1.PersistentVolumeClaim{}},
	{"", "persistentvolumes", &corev1.PersistentVolume{}},
	{"", "namespaces", &corev1.Namespace{}},
	{"", "nodes", &corev1.Node{}},
	{"", "serviceaccounts", &corev1.ServiceAccount{}},
	{"", "replicationcontrollers", &corev1.ReplicationController{}},
	{"", "podtemplates", &corev1.PodTemplate{}},
	{"", "resourcequotas", &corev1.ResourceQuota{}},
	{"", "limitranges", &corev1.LimitRange{}},
	{"", "endpoints", &corev1.Endpoints{}}, //nolint:staticcheck // agents can still write it
	{"", "events", &corev1.Event{}},
	{"apps", "deployments", &appsv1.Deployment{}},
	{"apps", "statefulsets", &appsv1.StatefulSet{}},
	{"apps", "daemonsets", &appsv1.DaemonSet{}},
	{"apps", "replicasets", &appsv1.ReplicaSet{}},
	{"apps", "controllerrevisions", &appsv1.ControllerRevision{}},
	{"batch", "jobs", &batchv1.Job{}},
	{"batch", "cronjobs", &batchv1.CronJob{}},
	{"autoscaling", "horizontalpodautoscalers", &autoscalingv2.HorizontalPodAutoscaler{}},
	{"policy", "poddisruptionbudgets", &policyv1.PodDisruptionBudget{}},
	{"networking.k8s.io", "ingresses", &networkingv1.Ingress{}},
	{"networking.k8s.io", "networkpolicies", &networkingv1.NetworkPolicy{}},
	{"networking.k8s.io", "ingressclasses", &networkingv1.IngressClass{}},
	{"rbac.authorization.k8s.io", "roles", &rbacv1.Role{}},
	{"rbac.authorization.k8s.io", "rolebindings", &rbacv1.RoleBinding{}},
	{"rbac.authorization.k8s.io", "clusterroles", &rbacv1.ClusterRole{}},
	{"rbac.authorization.k8s.io", "clusterrolebindings", &rbacv1.ClusterRoleBinding{}},
	{"storage.k8s.io", "storageclasses", &storagev1.StorageClass{}},
	{"storage.k8s.io", "csidrivers", &storagev1.CSIDriver{}},
	{"storage.k8s.io", "volumeattachments", &storagev1.VolumeAttachment{}},
	{"scheduling.k8s.io", "priorityclasses", &schedulingv1.PriorityClass{}},
	{"node.k8s.io", "runtimeclasses", &nodev1.RuntimeClass{}},
	{"coordination.k8s.io", "leases", &coordinationv1.Lease{}},
	{"discovery.k8s.io", "endpointslices", &discoveryv1.EndpointSlice{}},
	{"certificates.k8s.io", "certificatesigningrequests", &certificatesv1.CertificateSigningRequest{}},
	{"flowcontrol.apiserver.k8s.io", "flowschemas", &flowcontrolv1.FlowSchema{}},
	{"admissionregistration.k8s.io", "validatingwebhookconfigurations", &admissionregistrationv1.ValidatingWebhookConfiguration{}},
	{"admissionregistration.k8s.io", "mutatingwebhookconfigurations", &admissionregistrationv1.MutatingWebhookConfiguration{}},
	{"admissionregistration.k8s.io", "validatingadmissionpolicies", &admissionregistrationv1.ValidatingAdmissionPolicy{}},
	{"example.com", "things", map[string]any{
		"spec":   map[string]any{"a": "b", "n": 1.5, "list": []any{"x", int64(1), nil, map[string]any{"k": true}}, "empty": map[string]any{}},
		"status": map[string]any{"without": "a subresource"},
	}},
}

// generate returns an object of the kind as a webhook decodes it. It depends on the seed alone.
func generate(t testing.TB, k kind, seed int64) map[string]any {
	t.Helper()
	v := k.object
	if _, ok := v.(map[string]any); !ok {
		v = reflect.New(reflect.TypeOf(v).Elem()).Interface()
		fill := randfill.NewWithSeed(seed).NilChance(.25).NumElements(1, 2).MaxDepth(14).Funcs(
			func(q *resource.Quantity, c randfill.Continue) {
				*q = *resource.NewQuantity(c.Int63n(1000), resource.DecimalSI)
			},
			func(s *metav1.Time, c randfill.Continue) { *s = metav1.Unix(c.Int63n(1<<31), 0) },
			func(s *metav1.MicroTime, c randfill.Continue) {
				*s = metav1.NewMicroTime(time.Unix(c.Int63n(1<<31), 0))
			},
			func(s *intstr.IntOrString, c randfill.Continue) { *s = intstr.FromInt32(c.Int31()) },
			func(s *runtime.RawExtension, _ randfill.Continue) { s.Raw = []byte(`{"kind":"Any","a":[1]}`) },
			func(s *string, c randfill.Continue) { *s = fmt.Sprintf("s%x", c.Int63n(1<<40)) },
			func(f *metav1.FieldsV1, _ randfill.Continue) { f.SetRawBytes([]byte(`{}`)) },
		)
		fill.Fill(v)
	}
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	o := map[string]any{}
	if err := utiljson.Unmarshal(raw, &o); err != nil {
		t.Fatal(err)
	}
	o["apiVersion"], o["kind"] = strings.TrimPrefix(k.group+"/v1", "/"), fmt.Sprintf("Kind of %s", k.resource)
	meta, _ := o["metadata"].(map[string]any)
	if meta == nil {
		meta = map[string]any{}
		o["metadata"] = meta
	}
	delete(meta, "generateName")
	meta["name"], meta["namespace"], meta["uid"] = "name", "ns", "uid-1"
	return o
}

func requestFor(k kind, verb string, old, object map[string]any) *decision.Request {
	return &decision.Request{
		User: decision.User{Name: "bot", UID: "u"}, Verb: verb, Group: k.group, Version: "v1", Resource: k.resource,
		Namespace: "ns", Name: "name", OldObject: old, Object: object,
	}
}

// edit is one change of an object; made returns a copy with it.
type edit struct {
	path []any
	how  string
}

// edits are those of every leaf: another value, and none; and another order of every list.
func edits(v any, path []any) []edit {
	at := slices.Clone(path)
	switch v := v.(type) {
	case map[string]any:
		var out []edit
		for _, k := range slices.Sorted(maps.Keys(v)) {
			out = append(out, edits(v[k], append(at, k))...)
		}
		return append(out, edit{at, "add"})
	case []any:
		var out []edit
		for i := range v {
			out = append(out, edits(v[i], append(at, i))...)
		}
		if len(v) > 1 && !same(v[0], v[1]) {
			out = append(out, edit{at, "swap"})
		}
		return append(out, edit{at, "add"})
	default:
		return []edit{{at, "change"}, {at, "remove"}}
	}
}

// made copies what is on the path alone.
func (e edit) made(v any, path []any) any {
	if len(path) == 0 {
		return e.changed(v)
	}
	switch v := v.(type) {
	case map[string]any:
		m := maps.Clone(v)
		k, _ := path[0].(string)
		if m[k] = e.made(v[k], path[1:]); len(path) == 1 && e.how == "remove" {
			delete(m, k)
		}
		return m
	case []any:
		list := slices.Clone(v)
		i, _ := path[0].(int)
		if list[i] = e.made(v[i], path[1:]); len(path) == 1 && e.how == "remove" {
			list = slices.Delete(list, i, i+1)
		}
		return list
	}
	return v
}

func (e edit) changed(v any) any {
	switch v := v.(type) {
	case map[string]any:
		m := maps.Clone(v)
		m["added"] = nil
		return m
	case []any:
		list := slices.Clone(v)
		if e.how == "swap" {
			list[0], list[1] = list[1], list[0]
			return list
		}
		return append(list, nil)
	case string:
		return v + "x"
	case bool:
		return !v
	case int64:
		return v + 1
	case float64:
		return v + 1
	default:
		return "x"
	}
}

// dropped are the paths whose change has no effect on the fingerprint, and why.
func dropped(k kind, verb string, path []any) bool {
	field := func(i int) string {
		if i < len(path) {
			s, _ := path[i].(string)
			return s
		}
		return ""
	}
	switch {
	case verb == "create" && field(0) == "metadata":
		return slices.Contains(anew, field(1)) // the API server's own
	case verb == "create" && field(0) == "status":
		return k.group != "example.com" && k.resource != "nodes" // reset by the API server
	case verb == "update" && field(0) == "metadata":
		return slices.Contains(moved, field(1)) // moves with every update
	}
	return false
}

// sampled bounds the edits of one object: a pod has thousands of leaves.
func sampled(all []edit) []edit {
	const most = 60
	if len(all) <= most {
		return all
	}
	var out []edit
	for i := range most {
		out = append(out, all[i*len(all)/most])
	}
	return out
}

// TestEachChangeCounts: another value of any leaf, one that is gone or added, another order
// of a list, gives another fingerprint; but for what is dropped, which gives the same.
func TestEachChangeCounts(t *testing.T) {
	t.Parallel()
	h := setup(t)
	for i, k := range kinds {
		t.Run(k.group+"/"+k.resource, func(t *testing.T) {
			t.Parallel()
			object := generate(t, k, int64(i))
			for verb, old := range map[string]map[string]any{"create": nil, "update": object} {
				base := mustSum(t, h, requestFor(k, verb, old, object))
				seen := map[string]edit{base: {how: "none"}}
				for _, e := range sampled(edits(object, nil)) {
					changed, _ := e.made(object, e.path).(map[string]any)
					got := mustSum(t, h, requestFor(k, verb, old, changed))
					switch first, again := seen[got]; {
					case dropped(k, verb, e.path):
						if got != base {
							t.Errorf("%s: %s of %v counts", verb, e.how, e.path)
						}
					case again && !equal(first, e, object):
						t.Errorf("%s: %s of %v and %s of %v have one fingerprint", verb, e.how, e.path, first.how, first.path)
					}
					if got != base {
						seen[got] = e
					}
				}
				if len(seen) < 4 {
					t.Errorf("%s: only %d fingerprints: the test tests nothing", verb, len(seen))
				}
			}
		})
	}
}

// equal says whether two edits make the same object, as the removal of either of two equal
// elements does.
func equal(a, b edit, object map[string]any) bool {
	return a.how != "none" && same(a.made(object, a.path), b.made(object, b.path))
}

// TestUnrelatedEdits: an edit of the old object that the update leaves alone counts where it
// is of the spec, or whatever the kind has for one, labels, finalizers or ownerReferences.
func TestUnrelatedEdits(t *testing.T) {
	t.Parallel()
	h := setup(t)
	for i, k := range kinds {
		t.Run(k.group+"/"+k.resource, func(t *testing.T) {
			t.Parallel()
			object := generate(t, k, int64(1000+i))
			base := mustSum(t, h, requestFor(k, "update", object, annotate(object)))
			for _, e := range sampled(edits(object, nil)) {
				first, _ := append(e.path, "")[0].(string)
				second, _ := append(e.path, "", "")[1].(string)
				if len(e.path) < 2 && first == "metadata" || first == "status" || second == "uid" ||
					first == "" && e.how == "add" {
					continue
				}
				counts := first != "metadata" || second == "labels" || second == "finalizers" || second == "ownerReferences"
				edited, _ := e.made(object, e.path).(map[string]any)
				got := mustSum(t, h, requestFor(k, "update", edited, annotate(edited)))
				if (got != base) != counts {
					t.Errorf("%s of %v: counts %t, want %t", e.how, e.path, got != base, counts)
				}
			}
		})
	}
}

// annotate returns a copy of an object with one more annotation.
func annotate(o map[string]any) map[string]any {
	o = maps.Clone(o)
	meta := enter(o, "metadata")
	annotations := maps.Clone(object(meta["annotations"]))
	if annotations == nil {
		annotations = map[string]any{}
	}
	annotations["the-change"] = "1"
	meta["annotations"] = annotations
	return o
}

// TestCreatedTwice: what the API server fills in anew gives the same fingerprint, for every
// kind, with a name and without.
func TestCreatedTwice(t *testing.T) {
	t.Parallel()
	h := setup(t)
	for i, k := range kinds {
		for _, generated := range []bool{false, true} {
			twin := func(seed int64, suffix string) *decision.Request {
				o := generate(t, k, int64(i))
				meta := metadata(o)
				maps.Copy(meta, map[string]any{
					"uid": fmt.Sprintf("uid-%d", seed), "creationTimestamp": fmt.Sprintf("2026-01-01T00:00:0%dZ", seed),
					"resourceVersion": fmt.Sprint(seed), "generation": seed, "selfLink": fmt.Sprint(seed),
					"managedFields": []any{map[string]any{"manager": "m", "time": fmt.Sprint(seed)}},
				})
				r := requestFor(k, "create", nil, o)
				if generated {
					meta["generateName"], meta["name"] = "name-", "name-"+suffix
					r.Name = "name-" + suffix
				}
				if k.resource == "namespaces" {
					r.Namespace = r.Name
					meta["labels"] = map[string]any{"kubernetes.io/metadata.name": r.Name}
				}
				return r
			}
			a, b := twin(1, "bcdfg"), twin(2, "24567")
			if sumA, sumB := mustSum(t, h, a), mustSum(t, h, b); sumA != sumB {
				t.Errorf("%s, name generated %t: two fingerprints\n%s", k.resource, generated, difference(a.Object, b.Object))
			}
			diffA, digestA := Diff(a, 1<<20)
			diffB, digestB := Diff(b, 1<<20)
			if diffA != diffB || digestA != digestB {
				t.Errorf("%s, name generated %t: two diffs", k.resource, generated)
			}
		}
	}
}

func difference(a, b any) string {
	d := &differ{max: 4000, clip: 100}
	d.compare(a, b, nil)
	return d.end()
}

func mustSum(t testing.TB, h *Hasher, r *decision.Request) string {
	t.Helper()
	sum, err := h.Sum(r)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Verb, r.Resource, err)
	}
	return sum
}
