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

// TestBaselineWays is every way by every workload kind: made, added, changed, and left alone.
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
				if v := try(t, pack, had, ""); !decides(v, way.action, way.rule) {
					t.Errorf("%s, made: got %s, want %s by %s", way.name, summary(v), way.action, way.rule)
				} else if way.rule == unreadableRule {
					for _, f := range v.Deciding {
						if f.String() == way.rule && (len(f.Unreadable) != 1 || !strings.Contains(f.Unreadable[0], "prod/")) {
							t.Errorf("%s: named %q", way.name, f.Unreadable)
						}
					}
				}
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

// TestBaselineOrdinaryPods: what pods may ask for, in every kind.
func TestBaselineOrdinaryPods(t *testing.T) {
	t.Parallel()
	pack := baseline(t)
	for kind, format := range workloads {
		for name, spec := range map[string]string{
			"plain":                   `{containers: [{name: c, image: %s}]}`,
			"usual":                   `{securityContext: {fsGroup: 1}, terminationGracePeriodSeconds: 30, nodeSelector: {disk: ssd}, tolerations: [{key: gpu, operator: Exists}], containers: [{name: c, image: %s, ports: [{containerPort: 80}], resources: {limits: {cpu: 1, memory: 1Gi}}, livenessProbe: {httpGet: {path: /, port: http}}, env: [{name: A, value: b}, {name: NODE, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}], volumes: [{name: a, emptyDir: {}}, {name: b, persistentVolumeClaim: {claimName: data}}]}`,
			"what it may read":        `{imagePullSecrets: [{name: mine}], containers: [{name: c, image: %s, envFrom: [{secretRef: {name: mine}}, {configMapRef: {name: mine}}]}], volumes: [{name: v, secret: {secretName: mine}}]}`,
			"its own service account": `{serviceAccountName: bot, containers: [{name: c, image: %s}]}`,
			"default":                 `{serviceAccountName: default, serviceAccount: default, containers: [{name: c, image: %s}]}`,
			"token of every pod":      `{containers: [{name: c, image: %s}], volumes: [{name: kube-api-access-x, projected: {sources: [{serviceAccountToken: {path: token, expirationSeconds: 3607}}, {configMap: {name: kube-root-ca.crt, items: [{key: ca.crt, path: ca.crt}]}}, {downwardAPI: {items: [{path: namespace, fieldRef: {fieldPath: metadata.namespace}}]}}]}}]}`,
			"away from masters":       `{affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: node-role.kubernetes.io/control-plane, operator: DoesNotExist}]}]}}}, containers: [{name: c, image: %s}]}`,
		} {
			made := fmt.Sprintf(format, fmt.Sprintf(spec, "a"), "", "")
			changed := fmt.Sprintf(format, fmt.Sprintf(spec, "b"), "", "")
			restarted := fmt.Sprintf(format, fmt.Sprintf(spec, "a"), "", `kubectl.kubernetes.io/restartedAt: "now"`)
			for _, change := range [][2]string{{made, ""}, {changed, made}, {restarted, made}} {
				v := try(t, pack, change[0], change[1])
				// Custom kinds are held for being such.
				if want := "Hold Rule " + custom; v.Action != decision.Allow && (kind != "Rollout" || summary(v) != want) {
					t.Errorf("%s, %s: got %s", kind, name, summary(v))
				}
			}
		}
	}
}

// TestBaselineObjects are ways that need no pod.
func TestBaselineObjects(t *testing.T) {
	t.Parallel()
	pack := baseline(t)
	const (
		ingress   = `{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {namespace: prod%s}, spec: {rules: [{host: a}]}}`
		issuer    = `{apiVersion: cert-manager.io/v1, kind: Issuer, metadata: {namespace: prod%s}, spec: {vault: {server: "https://%s", auth: {tokenSecretRef: {name: db, key: k}}}}}`
		secret    = `{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: prod%s}, type: %s}`
		namespace = `{apiVersion: v1, kind: Namespace, metadata: {name: n, labels: {%s}}}`
		claim     = `{apiVersion: resource.k8s.io/v1, kind: ResourceClaim, metadata: {namespace: prod}, spec: {devices: {requests: [%s]}}}`
		template  = `{apiVersion: resource.k8s.io/v1, kind: ResourceClaimTemplate, metadata: {namespace: prod}, spec: {spec: {devices: {requests: [%s]}}}}`
	)
	snippet := func(text string) string {
		return fmt.Sprintf(ingress, `, annotations: {nginx.ingress.kubernetes.io/configuration-snippet: "`+text+`"}`)
	}
	token := fmt.Sprintf(secret, `, annotations: {kubernetes.io/service-account.name: %s}`, "kubernetes.io/service-account-token")
	for _, test := range []struct {
		name, object, old string
		// want is the action and its rule; empty is Allow.
		want string
	}{
		{"S09 token secret", fmt.Sprintf(token, "robot"), "", "Deny baseline-secrets/deny-token-secrets"},
		{"S09 token secret for another", fmt.Sprintf(token, "robot"), fmt.Sprintf(token, "bot"), "Deny baseline-secrets/deny-token-secrets"},
		{"label of a token secret", strings.Replace(fmt.Sprintf(token, "robot"), "name: s,", "name: s, labels: {a: b},", 1), fmt.Sprintf(token, "robot"), "Hold baseline-reads/hold-secret-changes"},
		{"S09 S21 token by a template", `{apiVersion: bitnami.com/v1alpha1, kind: SealedSecret, metadata: {namespace: prod}, spec: {template: {type: kubernetes.io/service-account-token, metadata: {annotations: {kubernetes.io/service-account.name: robot}}}}}`, "", "Deny baseline-secrets/deny-token-secrets"},
		{"T74 bootstrap token", fmt.Sprintf(secret, "", "bootstrap.kubernetes.io/token"), "", "Deny baseline-secrets/deny-bootstrap-tokens"},
		{"T74 bootstrap token changed", fmt.Sprintf(secret, ", labels: {a: b}", "bootstrap.kubernetes.io/token"), fmt.Sprintf(secret, "", "bootstrap.kubernetes.io/token"), "Deny baseline-secrets/deny-bootstrap-tokens"},
		{"secret", fmt.Sprintf(secret, "", "Opaque"), "", ""},
		{"S24 release", fmt.Sprintf(secret, "", "helm.sh/release.v1"), "", ""},

		{"ingress", fmt.Sprintf(ingress, ""), "", ""},
		{"ingress with an annotation", fmt.Sprintf(ingress, `, annotations: {nginx.ingress.kubernetes.io/rewrite-target: /}`), "", ""},
		{"S19 ingress with TLS", `{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {namespace: prod}, spec: {tls: [{secretName: db}]}}`, "", "Hold " + unreadableRule},
		{"ingress with TLS of its own", `{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {namespace: prod}, spec: {tls: [{secretName: mine}]}}`, "", ""},
		{"rules of an ingress with TLS", `{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {namespace: prod}, spec: {rules: [{host: b}], tls: [{secretName: db}]}}`, `{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {namespace: prod}, spec: {tls: [{secretName: db}]}}`, ""},
		{"S19 gateway", `{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {namespace: prod}, spec: {listeners: [{tls: {certificateRefs: [{name: db, namespace: other}]}}]}}`, "", "Hold " + unreadableRule},
		{"S19 grant", `{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {namespace: prod}, spec: {to: [{group: "", kind: Secret}]}}`, "", "Hold " + unreadableRule},
		{"S19 snippet", snippet("a"), "", "Hold " + fetching},
		{"S19 snippet added", snippet("a"), fmt.Sprintf(ingress, ""), "Hold " + fetching},
		{"S19 snippet changed", snippet("b"), snippet("a"), "Hold " + fetching},
		{"backends of an ingress with a snippet", strings.Replace(snippet("a"), "host: a", "host: b", 1), snippet("a"), ""},
		{"S22 auth-secret", fmt.Sprintf(ingress, `, annotations: {nginx.ingress.kubernetes.io/auth-secret: other/db}`), "", "Hold " + fetching},

		{"S20 provider class", `{apiVersion: secrets-store.csi.x-k8s.io/v1, kind: SecretProviderClass, metadata: {namespace: prod}, spec: {provider: vault}}`, "", "Hold " + fetching},
		{"S20 storage class", `{apiVersion: storage.k8s.io/v1, kind: StorageClass, provisioner: p, parameters: {csi.storage.k8s.io/node-stage-secret-name: db, csi.storage.k8s.io/node-stage-secret-namespace: other}}`, "", "Hold " + unreadableRule},
		{"storage class", `{apiVersion: storage.k8s.io/v1, kind: StorageClass, provisioner: p, parameters: {type: ssd}}`, "", "Hold baseline-cluster/hold-storage"},
		{"S20 volume", `{apiVersion: v1, kind: PersistentVolume, spec: {csi: {driver: d, volumeHandle: h, nodePublishSecretRef: {name: db, namespace: other}}}}`, "", "Hold " + unreadableRule},
		{"S21 external secret", `{apiVersion: external-secrets.io/v1, kind: ExternalSecret, metadata: {namespace: prod}, spec: {data: [{secretKey: a, remoteRef: {key: b}}]}}`, "", "Hold " + fetching},
		{"S21 store", `{apiVersion: external-secrets.io/v1, kind: SecretStore, metadata: {namespace: prod}, spec: {provider: {kubernetes: {remoteNamespace: other}}}}`, "", "Hold " + fetching},
		{"S21 push secret", `{apiVersion: external-secrets.io/v1alpha1, kind: PushSecret, metadata: {namespace: prod}, spec: {selector: {secret: {name: db}}}}`, "", "Hold " + unreadableRule},
		{"S21 sealed for all", `{apiVersion: bitnami.com/v1alpha1, kind: SealedSecret, metadata: {namespace: prod, annotations: {sealedsecrets.bitnami.com/cluster-wide: "true"}}, spec: {}}`, "", "Hold " + fetching},
		{"S21 vault", `{apiVersion: secrets.hashicorp.com/v1beta1, kind: VaultStaticSecret, metadata: {namespace: prod}, spec: {path: a}}`, "", "Hold " + fetching},
		{"S21 issuer", fmt.Sprintf(issuer, "", "vault"), "", "Hold " + unreadableRule},
		{"S21 issuer with another server", fmt.Sprintf(issuer, "", "evil"), fmt.Sprintf(issuer, "", "vault"), "Hold " + unreadableRule},
		{"label of an issuer", fmt.Sprintf(issuer, ", labels: {a: b}", "vault"), fmt.Sprintf(issuer, "", "vault"), ""},
		{"certificate", `{apiVersion: cert-manager.io/v1, kind: Certificate, metadata: {namespace: prod}, spec: {secretName: new, dnsNames: [a]}}`, "", ""},
		{"S22 reflector", `{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: prod, annotations: {reflector.v1.k8s.emberstack.com/reflects: other/db}}}`, "", "Hold " + fetching},
		{"S22 replicator", `{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: prod, annotations: {replicator.v1.mittwald.de/replicate-from: other/db}}}`, "", "Hold " + fetching},
		{"S22 permission to copy", `{apiVersion: v1, kind: Secret, metadata: {name: db, namespace: prod, annotations: {replicator.v1.mittwald.de/replication-allowed: "true"}}}`, `{apiVersion: v1, kind: Secret, metadata: {name: db, namespace: prod}}`, "Hold " + fetching},
		{"S22 injector", `{apiVersion: apps/v1, kind: Deployment, metadata: {namespace: prod}, spec: {template: {metadata: {annotations: {vault.hashicorp.com/agent-inject: "true"}}, spec: {containers: [{name: c, image: i}]}}}}`, "", "Hold " + fetching},
		{"S23 kyverno clone", `{apiVersion: kyverno.io/v1, kind: ClusterPolicy, spec: {rules: [{generate: {kind: Secret, name: mine, namespace: prod, clone: {namespace: other, name: db}}}]}}`, "", "Hold " + fetching},
		{"S23 kyverno call", `{apiVersion: kyverno.io/v1, kind: ClusterPolicy, spec: {rules: [{context: [{name: a, apiCall: {urlPath: /api/v1/secrets}}]}]}}`, "", "Hold " + fetching},
		{"S23 deployer", `{apiVersion: argoproj.io/v1alpha1, kind: Application, metadata: {namespace: argocd}, spec: {source: {repoURL: "https://x"}}}`, "", "Hold " + fetching},
		{"S35 clone", `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: prod}, spec: {dataSource: {kind: PersistentVolumeClaim, name: data}}}`, "", "Hold " + clones},
		{"S35 of a snapshot", `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: prod}, spec: {dataSourceRef: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: s}}}`, "", "Hold " + clones},
		{"S35 snapshot", `{apiVersion: snapshot.storage.k8s.io/v1, kind: VolumeSnapshot, metadata: {namespace: prod}, spec: {source: {persistentVolumeClaimName: data}}}`, "", "Hold " + clones},
		{"S35 of a set", `{apiVersion: apps/v1, kind: StatefulSet, metadata: {namespace: prod}, spec: {volumeClaimTemplates: [{spec: {dataSource: {kind: PersistentVolumeClaim, name: data}}}]}}`, "", "Hold " + clones},
		{"S35 backup", `{apiVersion: velero.io/v1, kind: Backup, metadata: {namespace: velero}, spec: {}}`, "", "Hold " + fetching},
		{"claim", `{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {namespace: prod}, spec: {storageClassName: fast}}`, "", ""},
		{"S32 pod certificate request", `{apiVersion: certificates.k8s.io/v1beta1, kind: PodCertificateRequest, metadata: {namespace: prod}, spec: {serviceAccountName: robot}}`, "", "Deny baseline-access/deny-certificates"},
		{"S18 service account", `{apiVersion: v1, kind: ServiceAccount, metadata: {namespace: prod}, imagePullSecrets: [{name: db}]}`, "", "Hold " + unreadableRule},
		{"service account", `{apiVersion: v1, kind: ServiceAccount, metadata: {namespace: prod}}`, "", ""},

		{"S37 admin access", fmt.Sprintf(claim, `{name: a, exactly: {deviceClassName: gpu, adminAccess: true}}`), "", "Deny baseline-workloads/deny-admin-access"},
		{"S37 admin access, the old way", fmt.Sprintf(claim, `{name: a, deviceClassName: gpu, adminAccess: true}`), "", "Deny baseline-workloads/deny-admin-access"},
		{"S37 admin access by a template", fmt.Sprintf(template, `{name: a, exactly: {adminAccess: true}}`), "", "Deny baseline-workloads/deny-admin-access"},
		{"a device", fmt.Sprintf(claim, `{name: a, exactly: {deviceClassName: gpu}}, {name: b, firstAvailable: [{deviceClassName: gpu}]}`), "", ""},
		{"a device by a template", fmt.Sprintf(template, `{name: a, exactly: {deviceClassName: gpu, adminAccess: false}}`), "", ""},
		{"no devices", `{apiVersion: resource.k8s.io/v1, kind: ResourceClaim, metadata: {namespace: prod}, spec: {}}`, "", ""},
		{"S37 device class", `{apiVersion: resource.k8s.io/v1, kind: DeviceClass, spec: {}}`, "", "Hold baseline-workloads/hold-device-classes"},
		{"S37 namespace", fmt.Sprintf(namespace, `resource.kubernetes.io/admin-access: "true"`), "", "Deny baseline-workloads/deny-admin-namespace"},
		{"S37 namespace labelled", fmt.Sprintf(namespace, `resource.kubernetes.io/admin-access: "true"`), fmt.Sprintf(namespace, ""), "Deny baseline-workloads/deny-admin-namespace"},
		{"namespace", fmt.Sprintf(namespace, "team: a"), "", ""},

		{"S33 apparmor by an annotation", `{apiVersion: v1, kind: Pod, metadata: {namespace: prod, annotations: {container.apparmor.security.beta.kubernetes.io/c: unconfined}}, spec: {containers: [{name: c, image: i}]}}`, "", "Deny " + privileged},
		{"T58 privileged custom workload", `{apiVersion: x.example.com/v1, kind: Runner, metadata: {namespace: prod}, spec: {podTemplate: {spec: {hostPID: true}}}}`, "", "Deny " + privileged},
		{"T58 workflow", `{apiVersion: argoproj.io/v1alpha1, kind: Workflow, metadata: {namespace: prod}, spec: {templates: [{container: {image: i}}]}}`, "", "Hold " + custom},

		{"config map", `{apiVersion: v1, kind: ConfigMap, metadata: {namespace: prod}, data: {secretName: db, a.yaml: "secretRef: {name: db}"}}`, "", ""},
		{"service", `{apiVersion: v1, kind: Service, metadata: {namespace: prod}, spec: {ports: [{port: 80}]}}`, "", ""},
		{"scaled up", `{apiVersion: apps/v1, kind: Deployment, metadata: {namespace: prod}, spec: {replicas: 3, template: {spec: {containers: [{name: c, image: i, envFrom: [{secretRef: {name: db}}]}]}}}}`, `{apiVersion: apps/v1, kind: Deployment, metadata: {namespace: prod}, spec: {replicas: 2, template: {spec: {containers: [{name: c, image: i, envFrom: [{secretRef: {name: db}}]}]}}}}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			v := try(t, pack, test.object, test.old)
			action, rule, _ := strings.Cut(test.want, " ")
			if test.want == "" && v.Action != decision.Allow || test.want != "" && (v.Action.String() != action || !decides(v, v.Action, rule)) {
				t.Errorf("got %s, want %s", summary(v), test.want)
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
