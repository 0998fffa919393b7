package policy

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// pack compiles the policies of manifests/policies/<name>, one to a file.
func pack(t testing.TB, name string) *Set {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("../../manifests/policies", name, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("pack %s: %d files, %v", name, len(files), err)
	}
	var policies []*v1alpha1.AgentPolicy
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var p v1alpha1.AgentPolicy
		if err := yaml.UnmarshalStrict(data, &p); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		policies = append(policies, &p)
	}
	return setOf(t, policies...)
}

// decode decodes JSON as the webhook does; nil where there is none.
func decode(t testing.TB, text string) map[string]any {
	t.Helper()
	if text == "" {
		return nil
	}
	var v map[string]any
	if err := utiljson.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestPacksCompile(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"examples", "baseline"} {
		pack(t, name)
	}
}

// TestBaseline is every rule of the pack beside what it must let pass.
func TestBaseline(t *testing.T) {
	t.Parallel()
	const (
		nodeName = `{"spec":{"nodeName":"n","containers":[{"name":"c"}]}}`
		template = `{"spec":{"replicas":1,"template":{"spec":{"containers":[{"name":"c"}]}}}}`
		pinned   = `{"spec":{"replicas":1,"template":{"spec":{"nodeName":"n","containers":[{"name":"c"}]}}}}`
	)
	baseline := pack(t, "baseline")
	for _, test := range []struct {
		name                                  string
		verb                                  string
		group, version, resource, subresource string
		object, old, options                  string
		dryRun                                bool
		want                                  string
	}{
		{name: "delete a pod", verb: "delete", version: "v1", resource: "pods", old: nodeName, want: "Hold Rule baseline-deletes/hold-delete"},
		{name: "delete of a kind nobody knows", verb: "delete", group: "x.example.com", version: "v7", resource: "things", old: "{}", want: "Hold Rule baseline-deletes/hold-delete"},
		{name: "deletecollection", verb: "deletecollection", version: "v1", resource: "configmaps", old: "{}", want: "Hold Rule baseline-deletes/hold-delete"},
		{name: "evict", verb: "create", version: "v1", resource: "pods", subresource: "eviction", object: "{}", want: "Hold Rule baseline-deletes/hold-eviction"},
		{name: "finalize", verb: "update", version: "v1", resource: "namespaces", subresource: "finalize", object: "{}", old: "{}", want: "Deny Rule baseline-deletes/deny-finalize"},

		{name: "delete a secret", verb: "delete", version: "v1", resource: "secrets", old: "{}", options: `{"propagationPolicy":"Background"}`, want: "Hold Rule baseline-deletes/hold-delete"},
		{name: "delete a secret with no options", verb: "delete", version: "v1", resource: "secrets", old: "{}", want: "Hold Rule baseline-deletes/hold-delete"},
		{name: "delete a secret, dry", verb: "delete", version: "v1", resource: "secrets", old: "{}", dryRun: true, want: "Deny Rule baseline-deletes/deny-secret-echo"},
		{name: "delete secrets", verb: "deletecollection", version: "v1", resource: "secrets", old: "{}", want: "Deny Rule baseline-deletes/deny-secret-echo"},
		{name: "delete a secret, foreground", verb: "delete", version: "v1", resource: "secrets", old: "{}", options: `{"propagationPolicy":"Foreground"}`, want: "Deny Rule baseline-deletes/deny-secret-echo"},
		{name: "delete a secret, orphan", verb: "delete", version: "v1", resource: "secrets", old: "{}", options: `{"orphanDependents":true}`, want: "Deny Rule baseline-deletes/deny-secret-echo"},
		{name: "delete a secret with a finalizer", verb: "delete", version: "v1", resource: "secrets", old: `{"metadata":{"finalizers":["a"]}}`, want: "Deny Rule baseline-deletes/deny-secret-echo"},
		{name: "delete a secret of another version", verb: "delete", version: "v2", resource: "secrets", old: "{}", want: "Deny Version baseline-deletes/deny-secret-echo"},

		{name: "an owner", verb: "update", version: "v1", resource: "configmaps", object: `{"metadata":{"ownerReferences":[{"uid":"x"}]}}`, old: `{"metadata":{}}`, want: "Hold Rule baseline-deletes/hold-lifetime"},
		{name: "no finalizer", verb: "update", version: "v1", resource: "configmaps", object: `{"metadata":{}}`, old: `{"metadata":{"finalizers":["a"]}}`, want: "Hold Rule baseline-deletes/hold-lifetime"},
		{name: "no finalizer, by a status", verb: "update", group: "apps", version: "v1", resource: "deployments", subresource: "status", object: `{"metadata":{}}`, old: `{"metadata":{"finalizers":["a"]}}`, want: "Hold Rule baseline-deletes/hold-lifetime baseline-status/hold-status"},
		{name: "labels", verb: "update", version: "v1", resource: "configmaps", object: `{"metadata":{"labels":{"a":"b"},"ownerReferences":[{"uid":"x"}],"finalizers":["a"]}}`, old: `{"metadata":{"ownerReferences":[{"uid":"x"}],"finalizers":["a"]}}`, want: "Allow Default"},

		{name: "scale to zero", verb: "update", group: "apps", version: "v1", resource: "deployments", subresource: "scale", object: `{"spec":{}}`, old: `{"spec":{"replicas":1}}`, want: "Hold Rule baseline-scaling/hold-scale-down"},
		{name: "scale down", verb: "update", group: "x.example.com", version: "v1beta1", resource: "things", subresource: "scale", object: `{"spec":{"replicas":2}}`, old: `{"spec":{"replicas":3}}`, want: "Hold Rule baseline-scaling/hold-scale-down"},
		{name: "scale up from zero", verb: "update", group: "apps", version: "v1", resource: "deployments", subresource: "scale", object: `{"spec":{"replicas":1}}`, old: `{"spec":{}}`, want: "Allow Default"},
		{name: "replicas down", verb: "update", group: "apps", version: "v1", resource: "statefulsets", object: `{"spec":{"replicas":0}}`, old: `{"spec":{"replicas":1}}`, want: "Hold Rule baseline-scaling/hold-replicas-down"},
		{name: "replicas gone", verb: "update", group: "x.example.com", version: "v1", resource: "things", object: `{"spec":{}}`, old: `{"spec":{"replicas":1}}`, want: "Hold Rule baseline-scaling/hold-replicas-down"},
		{name: "replicas as text", verb: "update", group: "x.example.com", version: "v1", resource: "things", object: `{"spec":{"replicas":"0"}}`, old: `{"spec":{"replicas":1}}`, want: "Hold Rule baseline-scaling/hold-replicas-down"},
		{name: "replicas up", verb: "update", group: "apps", version: "v1", resource: "deployments", object: `{"spec":{"replicas":2}}`, old: `{"spec":{"replicas":1}}`, want: "Allow Default"},
		{name: "replicas that are an object", verb: "update", group: "x.example.com", version: "v1", resource: "things", object: `{"spec":{"replicas":{"min":0}}}`, old: `{"spec":{"replicas":{"min":1}}}`, want: "Allow Default"},
		{name: "max down", verb: "update", group: "autoscaling", version: "v1", resource: "horizontalpodautoscalers", object: `{"spec":{"maxReplicas":1}}`, old: `{"spec":{"maxReplicas":2}}`, want: "Hold Rule baseline-scaling/hold-autoscaler-max"},
		{name: "max up", verb: "update", group: "autoscaling", version: "v2", resource: "horizontalpodautoscalers", object: `{"spec":{"maxReplicas":3}}`, old: `{"spec":{"maxReplicas":2}}`, want: "Allow Default"},
		{name: "max in a version nobody knows", verb: "update", group: "autoscaling", version: "v3", resource: "horizontalpodautoscalers", object: `{"spec":{"maxReplicas":3}}`, old: `{"spec":{"maxReplicas":2}}`, want: "Deny Version baseline-scaling/hold-autoscaler-max"},

		{name: "resize", verb: "update", version: "v1", resource: "pods", subresource: "resize", object: nodeName, old: nodeName, want: "Hold Rule baseline-pods/hold-resize"},
		{name: "ephemeral container", verb: "update", version: "v1", resource: "pods", subresource: "ephemeralcontainers", object: nodeName, old: nodeName, want: "Hold Rule baseline-pods/hold-ephemeral-containers"},
		{name: "bind", verb: "create", version: "v1", resource: "pods", subresource: "binding", object: "{}", want: "Deny Rule baseline-pods/deny-binding"},
		{name: "bind, the old way", verb: "create", version: "v1", resource: "bindings", object: "{}", want: "Deny Rule baseline-pods/deny-binding"},
		{name: "pod on a node", verb: "create", version: "v1", resource: "pods", object: nodeName, want: "Deny Rule baseline-pods/deny-node-name"},
		{name: "pod", verb: "create", version: "v1", resource: "pods", object: `{"spec":{"containers":[{"name":"c"}]}}`, want: "Allow Default"},
		{name: "label of a scheduled pod", verb: "update", version: "v1", resource: "pods", object: `{"metadata":{"labels":{"a":"b"}},"spec":{"nodeName":"n","containers":[{"name":"c"}]}}`, old: nodeName, want: "Allow Default"},
		{name: "deployment", verb: "create", group: "apps", version: "v1", resource: "deployments", object: template, want: "Allow Default"},
		{name: "deployment on a node", verb: "create", group: "apps", version: "v1", resource: "deployments", object: pinned, want: "Deny Rule baseline-pods/deny-template-node-name"},
		{name: "deployment to a node", verb: "update", group: "apps", version: "v1", resource: "deployments", object: pinned, old: template, want: "Deny Rule baseline-pods/deny-template-node-name"},
		{name: "label of a deployment on a node", verb: "update", group: "apps", version: "v1", resource: "deployments", object: pinned, old: pinned, want: "Allow Default"},
		{name: "custom workload", verb: "create", group: "x.example.com", version: "v1", resource: "things", object: template, want: "Hold Rule baseline-pods/hold-custom-workloads"},
		{name: "custom workload of a new template", verb: "update", group: "x.k8s.io", version: "v1", resource: "things", object: template, old: "{}", want: "Hold Rule baseline-pods/hold-custom-workloads"},
		{name: "custom workload on a node", verb: "create", group: "x.example.com", version: "v1", resource: "things", object: pinned, want: "Deny Rule baseline-pods/deny-template-node-name"},
		{name: "custom workload as it was", verb: "update", group: "x.example.com", version: "v1", resource: "things", object: template, old: template, want: "Allow Default"},
		{name: "custom object", verb: "create", group: "x.example.com", version: "v1", resource: "things", object: `{"spec":{"size":3}}`, want: "Allow Default"},

		{name: "status", verb: "update", version: "v1", resource: "nodes", subresource: "status", object: "{}", old: "{}", want: "Hold Rule baseline-status/hold-status"},
		{name: "event", verb: "create", version: "v1", resource: "events", object: "{}", want: "Allow Default"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			q := &decision.Request{
				Verb: test.verb, Group: test.group, Version: test.version, Resource: test.resource, Subresource: test.subresource,
				Namespace: "n", Name: "x", DryRun: test.dryRun, User: decision.User{Name: "bot"},
			}
			q.Object, q.OldObject, q.Options = decode(t, test.object), decode(t, test.old), decode(t, test.options)
			got := summary(baseline.Evaluate(&Input{Request: q, Agents: bot(), Deadline: time.Now().Add(time.Minute)}))
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// BenchmarkBaseline is an ordinary request, which meets every rule for all kinds.
func BenchmarkBaseline(b *testing.B) {
	baseline := pack(b, "baseline")
	q := &decision.Request{Verb: "update", Group: "apps", Version: "v1", Resource: "deployments", Namespace: "n", Name: "x"}
	text := `{"metadata":{"name":"x","labels":{"a":"b"}},"spec":{"replicas":1,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i","env":[{"name":"A","value":"B"}],"resources":{"requests":{"cpu":"1"}}}],"volumes":[{"name":"v","emptyDir":{}}]}}}}`
	q.Object, q.OldObject = decode(b, text), decode(b, text)
	for b.Loop() {
		if v := baseline.Evaluate(&Input{Request: q, Agents: bot(), Deadline: time.Now().Add(time.Minute)}); v.Action != decision.Allow {
			b.Fatal(summary(v))
		}
	}
}
