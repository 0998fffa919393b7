package policy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/policy/reference"
)

// manifest decodes YAML as the webhook decodes JSON; nil where there is none.
func manifest(t testing.TB, text string) map[string]any {
	t.Helper()
	if text == "" {
		return nil
	}
	data, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	var v map[string]any
	if err := utiljson.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// try judges the change of an object by an agent that may read what is called mine, and
// nothing else. The resource is the kind's.
func try(t testing.TB, s *Set, object, old string) Verdict {
	t.Helper()
	q := &decision.Request{Verb: "create", Namespace: "prod", Name: "w", User: decision.User{Name: "system:serviceaccount:prod:bot"}}
	q.Object, q.OldObject = manifest(t, object), manifest(t, old)
	if q.OldObject != nil {
		q.Verb = "update"
	}
	group, version, ok := strings.Cut(q.Object["apiVersion"].(string), "/")
	if !ok {
		group, version = "", group
	}
	q.Group, q.Version = group, version
	q.Resource = strings.ToLower(q.Object["kind"].(string)) + "s"
	if strings.HasSuffix(q.Resource, "sss") {
		q.Resource = strings.TrimSuffix(q.Resource, "s") + "es"
	}
	return s.Evaluate(&Input{Request: q, Agents: bot(), Deadline: time.Now().Add(time.Minute), MayRead: func(r reference.Reference) (bool, error) {
		return r.Name == "mine", nil
	}})
}

// decides says whether a rule is among those that led to the action.
func decides(v Verdict, action decision.Action, rule string) bool {
	if v.Action != action {
		return false
	}
	for _, f := range v.Deciding {
		if f.String() == rule && f.Reason == decision.ReasonRule {
			return true
		}
	}
	return false
}

// workloads are the kinds that carry a pod spec: %[1]s is the spec, as it stands in a Pod,
// %[2]s what is in the metadata of the object and %[3]s in that of the template.
var workloads = map[string]string{
	"Pod":                   `{apiVersion: v1, kind: Pod, metadata: {name: w, namespace: prod, annotations: {%[2]s %[3]s}}, spec: %[1]s}`,
	"PodTemplate":           `{apiVersion: v1, kind: PodTemplate, metadata: {name: w, namespace: prod, annotations: {%[2]s}}, template: {metadata: {annotations: {%[3]s}}, spec: %[1]s}}`,
	"ReplicationController": `{apiVersion: v1, kind: ReplicationController, metadata: {name: w, namespace: prod, annotations: {%[2]s}}, spec: {template: {metadata: {annotations: {%[3]s}}, spec: %[1]s}}}`,
	"Deployment":            `{apiVersion: apps/v1, kind: Deployment, metadata: {name: w, namespace: prod, annotations: {%[2]s}}, spec: {template: {metadata: {annotations: {%[3]s}}, spec: %[1]s}}}`,
	"ReplicaSet":            `{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: w, namespace: prod, annotations: {%[2]s}}, spec: {template: {metadata: {annotations: {%[3]s}}, spec: %[1]s}}}`,
	"StatefulSet":           `{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: w, namespace: prod, annotations: {%[2]s}}, spec: {template: {metadata: {annotations: {%[3]s}}, spec: %[1]s}}}`,
	"DaemonSet":             `{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: w, namespace: prod, annotations: {%[2]s}}, spec: {template: {metadata: {annotations: {%[3]s}}, spec: %[1]s}}}`,
	"Job":                   `{apiVersion: batch/v1, kind: Job, metadata: {name: w, namespace: prod, annotations: {%[2]s}}, spec: {template: {metadata: {annotations: {%[3]s}}, spec: %[1]s}}}`,
	"CronJob":               `{apiVersion: batch/v1, kind: CronJob, metadata: {name: w, namespace: prod, annotations: {%[2]s}}, spec: {jobTemplate: {spec: {template: {metadata: {annotations: {%[3]s}}, spec: %[1]s}}}}}`,
	"Rollout":               `{apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {name: w, namespace: prod, annotations: {%[2]s}}, spec: {template: {metadata: {annotations: {%[3]s}}, spec: %[1]s}}}`,
}

const (
	unreadableRule = "baseline-secrets/hold-unreadable"
	fetching       = "baseline-secrets/hold-fetching"
	account        = "baseline-secrets/hold-service-account"
	tokens         = "baseline-secrets/hold-tokens"
	clones         = "baseline-secrets/hold-clones"
	privileged     = "baseline-workloads/deny-privileged"
	privileges     = "baseline-workloads/hold-privileged-change"
	controlPlane   = "baseline-workloads/deny-control-plane"
	custom         = "baseline-pods/hold-custom-workloads"
)

// ways are what a pod spec may ask for, by case: in a spec, %s is the image.
var ways = []struct {
	name, spec string
	action     decision.Action
	rule       string
	// again is the rule that decides when an object that has it already gets another image.
	again string
}{
	{"S04 volume", `{containers: [{name: c, image: %s}], volumes: [{name: v, secret: {secretName: db}}]}`, decision.Hold, unreadableRule, unreadableRule},
	{"S04 volume, optional", `{containers: [{name: c, image: %s}], volumes: [{name: v, secret: {secretName: db, optional: true}}]}`, decision.Hold, unreadableRule, unreadableRule},
	{"S04 projected", `{containers: [{name: c, image: %s}], volumes: [{name: v, projected: {sources: [{secret: {name: db}}]}}]}`, decision.Hold, unreadableRule, unreadableRule},
	{"S04 subPath", `{containers: [{name: c, image: %s, volumeMounts: [{name: v, mountPath: /a, subPath: k}]}], volumes: [{name: v, secret: {secretName: db}}]}`, decision.Hold, unreadableRule, unreadableRule},
	{"S05 env", `{containers: [{name: c, image: %s, env: [{name: A, valueFrom: {secretKeyRef: {name: db, key: k}}}]}]}`, decision.Hold, unreadableRule, unreadableRule},
	{"S05 envFrom", `{containers: [{name: c, image: %s, envFrom: [{secretRef: {name: db}}]}]}`, decision.Hold, unreadableRule, unreadableRule},
	{"S05 env of an init container", `{initContainers: [{name: i, image: i, env: [{name: A, valueFrom: {secretKeyRef: {name: db, key: k}}}]}], containers: [{name: c, image: %s}]}`, decision.Hold, unreadableRule, unreadableRule},
	{"S05 env of a sidecar", `{initContainers: [{name: i, image: i, restartPolicy: Always, envFrom: [{secretRef: {name: db}}]}], containers: [{name: c, image: %s}]}`, decision.Hold, unreadableRule, unreadableRule},
	{"S05 env of an ephemeral container", `{ephemeralContainers: [{name: e, image: i, envFrom: [{secretRef: {name: db}}]}], containers: [{name: c, image: %s}]}`, decision.Hold, unreadableRule, unreadableRule},
	{"S16 config map", `{containers: [{name: c, image: %s, envFrom: [{configMapRef: {name: db}}]}]}`, decision.Hold, unreadableRule, unreadableRule},
	{"S07 service account", `{serviceAccountName: robot, containers: [{name: c, image: %s}]}`, decision.Hold, account, account},
	{"S07 service account by its old name", `{serviceAccount: robot, containers: [{name: c, image: %s}]}`, decision.Hold, account, account},
	{"S10 token with an audience", `{containers: [{name: c, image: %s}], volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t, audience: vault}}]}}]}`, decision.Hold, tokens, tokens},
	{"S18 image pull secret", `{imagePullSecrets: [{name: db}], containers: [{name: c, image: %s}]}`, decision.Hold, unreadableRule, unreadableRule},
	{"S20 csi", `{containers: [{name: c, image: %s}], volumes: [{name: v, csi: {driver: d, nodePublishSecretRef: {name: db}}}]}`, decision.Hold, unreadableRule, unreadableRule},
	{"S20 secrets store", `{containers: [{name: c, image: %s}], volumes: [{name: v, csi: {driver: secrets-store.csi.k8s.io, volumeAttributes: {secretProviderClass: a}}}]}`, decision.Hold, unreadableRule, unreadableRule},
	{"S20 cephfs", `{containers: [{name: c, image: %s}], volumes: [{name: v, cephfs: {monitors: [m], secretRef: {name: db}}}]}`, decision.Hold, unreadableRule, unreadableRule},
	{"S32 pod certificate", `{containers: [{name: c, image: %s}], volumes: [{name: v, projected: {sources: [{podCertificate: {signerName: a/b, keyType: ED25519}}]}}]}`, decision.Hold, tokens, tokens},
	{"S33 T56 hostPath", `{containers: [{name: c, image: %s}], volumes: [{name: v, hostPath: {path: /}}]}`, decision.Deny, privileged, privileges},
	{"S33 T56 privileged", `{containers: [{name: c, image: %s, securityContext: {privileged: true}}]}`, decision.Deny, privileged, privileges},
	{"S33 T56 hostPID", `{hostPID: true, containers: [{name: c, image: %s}]}`, decision.Deny, privileged, privileges},
	{"T56 hostNetwork", `{hostNetwork: true, containers: [{name: c, image: %s}]}`, decision.Deny, privileged, privileges},
	{"T56 hostPort", `{containers: [{name: c, image: %s, ports: [{containerPort: 80, hostPort: 80}]}]}`, decision.Deny, privileged, privileges},
	{"T56 capability", `{containers: [{name: c, image: %s, securityContext: {capabilities: {add: [SYS_ADMIN]}}}]}`, decision.Deny, privileged, privileges},
	{"T57 privileged init container", `{initContainers: [{name: i, image: i, securityContext: {privileged: true}}], containers: [{name: c, image: %s}]}`, decision.Deny, privileged, privileges},
	{"T57 privileged sidecar", `{initContainers: [{name: i, image: i, restartPolicy: Always, securityContext: {privileged: true}}], containers: [{name: c, image: %s}]}`, decision.Deny, privileged, privileges},
	{"T57 privileged ephemeral container", `{ephemeralContainers: [{name: e, image: i, securityContext: {privileged: true}}], containers: [{name: c, image: %s}]}`, decision.Deny, privileged, privileges},
	{"T59 selector", `{nodeSelector: {node-role.kubernetes.io/control-plane: ""}, containers: [{name: c, image: %s}]}`, decision.Deny, controlPlane, privileges},
	{"T59 S34 toleration", `{tolerations: [{key: node-role.kubernetes.io/control-plane, operator: Exists, effect: NoSchedule}], containers: [{name: c, image: %s}]}`, decision.Deny, controlPlane, privileges},
	{"T59 S34 every toleration", `{tolerations: [{operator: Exists}], containers: [{name: c, image: %s}]}`, decision.Deny, controlPlane, privileges},
	{"T59 affinity", `{affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: node-role.kubernetes.io/master, operator: Exists}]}]}}}, containers: [{name: c, image: %s}]}`, decision.Deny, controlPlane, privileges},
	{"S35 clone", `{containers: [{name: c, image: %s}], volumes: [{name: v, ephemeral: {volumeClaimTemplate: {spec: {dataSource: {kind: PersistentVolumeClaim, name: data}}}}}]}`, decision.Hold, clones, ""},
}

// TestBaselineWays is every way by every workload kind: added, changed, taken out, and left
// alone. What is made with one from the start, objects without pods and what passes are in
// the suites beside the pack; this is the product of all ways and all changes, which no suite
// spells out.
func TestBaselineWays(t *testing.T) {
	t.Parallel()
	pack := baseline(t)
	const plain = `{containers: [{name: c, image: %s}]}`
	for kind, format := range workloads {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			with := func(spec, image, metadata, template string) string {
				return fmt.Sprintf(format, fmt.Sprintf(spec, image), metadata, template)
			}
			for _, way := range ways {
				had := with(way.spec, "a", "", "")
				if v := try(t, pack, had, with(plain, "a", "", "")); !decides(v, way.action, way.rule) {
					t.Errorf("%s, added: got %s, want %s by %s", way.name, summary(v), way.action, way.rule)
				}
				want := way.again
				if kind == "Rollout" && want == "" {
					want = custom
				}
				if v := try(t, pack, with(way.spec, "b", "", ""), had); want != "" && !decides(v, decision.Hold, want) || want == "" && v.Action != decision.Allow {
					t.Errorf("%s, another image: got %s, want Hold by %q", way.name, summary(v), want)
				}
				if v := try(t, pack, with(way.spec, "a", "team: a,", ""), had); v.Action != decision.Allow {
					t.Errorf("%s, metadata: got %s, want Allow", way.name, summary(v))
				}
				if v := try(t, pack, with(plain, "a", "", ""), had); v.Action != decision.Allow && kind != "Rollout" {
					t.Errorf("%s, taken out: got %s, want Allow", way.name, summary(v))
				}
				// Of a custom kind all of the spec is what its controller is told.
				restarted := with(way.spec, "a", "", `kubectl.kubernetes.io/restartedAt: "now"`)
				if v := try(t, pack, restarted, had); v.Action != decision.Allow && kind != "Rollout" {
					t.Errorf("%s, restarted: got %s, want Allow", way.name, summary(v))
				}
			}
		})
	}
}

// TestBaselineLarge: the largest objects that people have pass in time. It runs alone, since
// it is about time.
func TestBaselineLarge(t *testing.T) {
	pack := baseline(t)
	for _, of := range []string{`apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition`, `apiVersion: x.example.com/v1, kind: Thing`} {
		large := func(description string) string {
			var b strings.Builder
			fmt.Fprintf(&b, "{%s, metadata: {name: w}, spec: {", of)
			for i := range 3000 {
				fmt.Fprintf(&b, "field%d: {type: object, description: %s, x: [a, b], properties: {a: {type: string}}}, ", i, description)
			}
			return b.String() + "}}"
		}
		start := time.Now()
		v := try(t, pack, large("b"), large("a"))
		if v.Action != decision.Allow {
			t.Errorf("%s: got %s after %s", of, summary(v), time.Since(start))
		}
	}
}

// BenchmarkBaselineLarge is such an object.
func BenchmarkBaselineLarge(b *testing.B) {
	pack := baseline(b)
	spec := map[string]any{}
	for i := range 5000 {
		spec[fmt.Sprint("field", i)] = map[string]any{"type": "object", "x": []any{"a", "b"}, "properties": map[string]any{"a": map[string]any{"type": "string"}}}
	}
	q := &decision.Request{Verb: "update", Group: "x.example.com", Version: "v1", Resource: "things", Namespace: "n", Name: "x"}
	q.Object = map[string]any{"apiVersion": "x.example.com/v1", "kind": "Thing", "spec": spec}
	q.OldObject = map[string]any{"apiVersion": "x.example.com/v1", "kind": "Thing", "spec": spec, "a": "b"}
	for b.Loop() {
		if v := pack.Evaluate(&Input{Request: q, Agents: bot(), Deadline: time.Now().Add(time.Minute)}); v.Action != decision.Allow {
			b.Fatal(summary(v))
		}
	}
}
