package reference

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// object reads a manifest.
func object(t testing.TB, text string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := yaml.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return v
}

// find is what an object refers to, one reference a line; paths only where asked for.
func find(t testing.TB, v any, paths bool) []string {
	t.Helper()
	refs, err := Find(v, "", func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, r := range refs {
		line := r.Via + " " + r.String()
		if paths {
			line += " at " + r.Path
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	return lines
}

// workloads are all kinds that carry a pod spec, with the place of it; %s is the spec.
var workloads = map[string]struct{ manifest, path string }{
	"Pod":                   {`{apiVersion: v1, kind: Pod, metadata: {name: w, namespace: prod}, spec: %s}`, "spec"},
	"PodTemplate":           {`{apiVersion: v1, kind: PodTemplate, metadata: {name: w, namespace: prod}, template: {spec: %s}}`, "template.spec"},
	"ReplicationController": {`{apiVersion: v1, kind: ReplicationController, metadata: {name: w, namespace: prod}, spec: {template: {spec: %s}}}`, "spec.template.spec"},
	"Deployment":            {`{apiVersion: apps/v1, kind: Deployment, metadata: {name: w, namespace: prod}, spec: {template: {spec: %s}}}`, "spec.template.spec"},
	"ReplicaSet":            {`{apiVersion: apps/v1, kind: ReplicaSet, metadata: {name: w, namespace: prod}, spec: {template: {spec: %s}}}`, "spec.template.spec"},
	"StatefulSet":           {`{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: w, namespace: prod}, spec: {template: {spec: %s}}}`, "spec.template.spec"},
	"DaemonSet":             {`{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: w, namespace: prod}, spec: {template: {spec: %s}}}`, "spec.template.spec"},
	"Job":                   {`{apiVersion: batch/v1, kind: Job, metadata: {name: w, namespace: prod}, spec: {template: {spec: %s}}}`, "spec.template.spec"},
	"CronJob":               {`{apiVersion: batch/v1, kind: CronJob, metadata: {name: w, namespace: prod}, spec: {jobTemplate: {spec: {template: {spec: %s}}}}}`, "spec.jobTemplate.spec.template.spec"},
	"Rollout":               {`{apiVersion: argoproj.io/v1alpha1, kind: Rollout, metadata: {name: w, namespace: prod}, spec: {template: {spec: %s}}}`, "spec.template.spec"},
	"a list of templates":   {`{apiVersion: x.example.com/v1, kind: Crew, metadata: {name: w, namespace: prod}, spec: {workers: [{podTemplate: {spec: %s}}]}}`, "spec.workers[0].podTemplate.spec"},
}

// ways are all ways of a pod spec, each with what it refers to and where.
var ways = []struct{ name, spec, want string }{
	{"volume", `{containers: [{name: c}], volumes: [{name: v, secret: {secretName: db}}]}`, "Volume Secret prod/db at volumes[0].secret.secretName"},
	{"optional volume", `{containers: [{name: c}], volumes: [{name: v, secret: {secretName: db, optional: true}}]}`, "Volume Secret prod/db at volumes[0].secret.secretName"},
	{"volume with a subPath", `{containers: [{name: c, volumeMounts: [{name: v, mountPath: /a, subPath: key}]}], volumes: [{name: v, secret: {secretName: db, items: [{key: key, path: key}]}}]}`, "Volume Secret prod/db at volumes[0].secret.secretName"},
	{"config map volume", `{containers: [{name: c}], volumes: [{name: v, configMap: {name: settings}}]}`, "Volume ConfigMap prod/settings at volumes[0].configMap.name"},
	{"projected secret", `{containers: [{name: c}], volumes: [{name: v, projected: {sources: [{secret: {name: db}}]}}]}`, "Projected Secret prod/db at volumes[0].projected.sources[0].secret.name"},
	{"projected config map", `{containers: [{name: c}], volumes: [{name: v, projected: {sources: [{configMap: {name: settings}}]}}]}`, "Projected ConfigMap prod/settings at volumes[0].projected.sources[0].configMap.name"},
	{"token", `{containers: [{name: c}], volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t}}]}}]}`, "ProjectedToken ServiceAccount prod/default at volumes[0].projected.sources[0].serviceAccountToken"},
	{"token with an audience", `{serviceAccountName: robot, containers: [{name: c}], volumes: [{name: v, projected: {sources: [{serviceAccountToken: {path: t, audience: vault}}]}}]}`,
		"AudienceToken ServiceAccount prod/robot at volumes[0].projected.sources[0].serviceAccountToken|ServiceAccountName ServiceAccount prod/robot at serviceAccountName"},
	{"pod certificate", `{containers: [{name: c}], volumes: [{name: v, projected: {sources: [{podCertificate: {signerName: a/b}}]}}]}`, "PodCertificate ServiceAccount prod/default at volumes[0].projected.sources[0].podCertificate"},
	{"trust bundle", `{containers: [{name: c}], volumes: [{name: v, projected: {sources: [{clusterTrustBundle: {name: b}}, {downwardAPI: {}}]}}]}`, ""},
	{"csi", `{containers: [{name: c}], volumes: [{name: v, csi: {driver: d, nodePublishSecretRef: {name: db}}}]}`, "CSI Secret prod/db at volumes[0].csi.nodePublishSecretRef.name"},
	{"csi attributes", `{containers: [{name: c}], volumes: [{name: v, csi: {driver: file.csi.azure.com, volumeAttributes: {secretName: db, secretNamespace: other}}}]}`, "CSI Secret other/db at volumes[0].csi.volumeAttributes.secretName"},
	{"secrets store", `{containers: [{name: c}], volumes: [{name: v, csi: {driver: secrets-store.csi.k8s.io, volumeAttributes: {secretProviderClass: vault}}}]}`, "CSI Secret prod/* at volumes[0].csi.volumeAttributes.secretProviderClass"},
	{"flexVolume", `{containers: [{name: c}], volumes: [{name: v, flexVolume: {driver: d, secretRef: {name: db}}}]}`, "Volume Secret prod/db at volumes[0].flexVolume.secretRef.name"},
	{"cephfs", `{containers: [{name: c}], volumes: [{name: v, cephfs: {secretRef: {name: db}}}]}`, "Volume Secret prod/db at volumes[0].cephfs.secretRef.name"},
	{"rbd", `{containers: [{name: c}], volumes: [{name: v, rbd: {secretRef: {name: db}}}]}`, "Volume Secret prod/db at volumes[0].rbd.secretRef.name"},
	{"iscsi", `{containers: [{name: c}], volumes: [{name: v, iscsi: {secretRef: {name: db}}}]}`, "Volume Secret prod/db at volumes[0].iscsi.secretRef.name"},
	{"scaleIO", `{containers: [{name: c}], volumes: [{name: v, scaleIO: {secretRef: {name: db}}}]}`, "Volume Secret prod/db at volumes[0].scaleIO.secretRef.name"},
	{"storageos", `{containers: [{name: c}], volumes: [{name: v, storageos: {secretRef: {name: db}}}]}`, "Volume Secret prod/db at volumes[0].storageos.secretRef.name"},
	{"azureFile", `{containers: [{name: c}], volumes: [{name: v, azureFile: {secretName: db, shareName: s}}]}`, "Volume Secret prod/db at volumes[0].azureFile.secretName"},
	{"a source that comes later", `{containers: [{name: c}], volumes: [{name: v, newVolume: {authSecretRef: {name: db}}}]}`, "Volume Secret prod/db at volumes[0].newVolume.authSecretRef.name"},
	{"env", `{containers: [{name: c}, {name: d, env: [{name: A, value: b}, {name: B, valueFrom: {secretKeyRef: {name: db, key: k}}}]}]}`, "Env Secret prod/db at containers[1].env[1].valueFrom.secretKeyRef.name"},
	{"env of an init container", `{containers: [{name: c}], initContainers: [{name: i, env: [{name: B, valueFrom: {secretKeyRef: {name: db, key: k}}}]}]}`, "Env Secret prod/db at initContainers[0].env[0].valueFrom.secretKeyRef.name"},
	{"env of a sidecar", `{containers: [{name: c}], initContainers: [{name: i, restartPolicy: Always, env: [{name: B, valueFrom: {secretKeyRef: {name: db, key: k}}}]}]}`, "Env Secret prod/db at initContainers[0].env[0].valueFrom.secretKeyRef.name"},
	{"env of an ephemeral container", `{containers: [{name: c}], ephemeralContainers: [{name: e, env: [{name: B, valueFrom: {secretKeyRef: {name: db, key: k}}}]}]}`, "Env Secret prod/db at ephemeralContainers[0].env[0].valueFrom.secretKeyRef.name"},
	{"env of a config map", `{containers: [{name: c, env: [{name: B, valueFrom: {configMapKeyRef: {name: settings, key: k}}}]}]}`, "Env ConfigMap prod/settings at containers[0].env[0].valueFrom.configMapKeyRef.name"},
	{"envFrom", `{containers: [{name: c, envFrom: [{prefix: P, secretRef: {name: db}}, {configMapRef: {name: settings}}]}]}`,
		"EnvFrom ConfigMap prod/settings at containers[0].envFrom[1].configMapRef.name|EnvFrom Secret prod/db at containers[0].envFrom[0].secretRef.name"},
	{"imagePullSecrets", `{imagePullSecrets: [{name: registry}], containers: [{name: c}]}`, "ImagePull Secret prod/registry at imagePullSecrets[0].name"},
	{"service account", `{serviceAccountName: robot, containers: [{name: c}]}`, "ServiceAccountName ServiceAccount prod/robot at serviceAccountName"},
	{"service account by its old name", `{serviceAccount: robot, containers: [{name: c}]}`, "ServiceAccountName ServiceAccount prod/robot at serviceAccount"},
	{"nodeName", `{nodeName: n1, containers: [{name: c}]}`, "NodeName Node n1 at nodeName"},
	{"control plane by selector", `{nodeSelector: {node-role.kubernetes.io/control-plane: ""}, containers: [{name: c}]}`, "ControlPlane Node * at nodeSelector[node-role.kubernetes.io/control-plane]"},
	{"control plane by toleration", `{tolerations: [{key: gpu, operator: Exists}, {key: node-role.kubernetes.io/master, effect: NoSchedule}], containers: [{name: c}]}`, "ControlPlane Node * at tolerations[1]"},
	{"every toleration", `{tolerations: [{operator: Exists}], containers: [{name: c}]}`, "ControlPlane Node * at tolerations[0]"},
	{"toleration of eviction", `{tolerations: [{operator: Exists, effect: NoExecute}, {key: node.kubernetes.io/not-ready, operator: Exists}], containers: [{name: c}]}`, ""},
	{"control plane by affinity", `{containers: [{name: c}], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: node-role.kubernetes.io/control-plane, operator: Exists}]}]}}}}`,
		"ControlPlane Node * at affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0]"},
	{"control plane by preference", `{containers: [{name: c}], affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 1, preference: {matchExpressions: [{key: node-role.kubernetes.io/etcd, operator: In, values: ["true"]}]}}]}}}`,
		"ControlPlane Node * at affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].preference.matchExpressions[0]"},
	{"away from the control plane", `{containers: [{name: c}], affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: node-role.kubernetes.io/control-plane, operator: DoesNotExist}]}]}}}}`, ""},
	{"clone", `{containers: [{name: c}], volumes: [{name: v, ephemeral: {volumeClaimTemplate: {spec: {dataSource: {kind: PersistentVolumeClaim, name: data}}}}}]}`,
		"Clone PersistentVolumeClaim prod/data at volumes[0].ephemeral.volumeClaimTemplate.spec.dataSource.name"},
	{"snapshot", `{containers: [{name: c}], volumes: [{name: v, ephemeral: {volumeClaimTemplate: {spec: {dataSourceRef: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: s, namespace: other}}}}}]}`,
		"VolumeSnapshot PersistentVolumeClaim other/* at volumes[0].ephemeral.volumeClaimTemplate.spec.dataSourceRef.name"},
	{"nothing", `{containers: [{name: c, image: i, env: [{name: A, value: b}, {name: N, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]}], volumes: [{name: e, emptyDir: {}}, {name: p, persistentVolumeClaim: {claimName: data}}, {name: h, hostPath: {path: /}}]}`, ""},
	{"empty names", `{serviceAccountName: "", nodeName: "", imagePullSecrets: [{}], containers: [{name: c, envFrom: [{secretRef: {}}]}], volumes: [{name: v, secret: {}}]}`, ""},
}

// TestPods is every workload kind by every way.
func TestPods(t *testing.T) {
	t.Parallel()
	for kind, workload := range workloads {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			for _, way := range ways {
				var want []string
				if way.want != "" {
					for _, line := range strings.Split(way.want, "|") {
						want = append(want, strings.Replace(line, " at ", " at "+workload.path+".", 1))
					}
				}
				got := find(t, object(t, fmt.Sprintf(workload.manifest, way.spec)), true)
				if !slices.Equal(got, want) {
					t.Errorf("%s: got %q, want %q", way.name, got, want)
				}
			}
		})
	}
}

// TestOtherPods are workloads whose containers stand under other names.
func TestOtherPods(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ manifest, want string }{
		"a workflow": {`{apiVersion: argoproj.io/v1alpha1, kind: Workflow, metadata: {namespace: prod}, spec: {serviceAccountName: robot, templates: [{container: {image: i, env: [{name: A, valueFrom: {secretKeyRef: {name: db, key: k}}}]}}, {script: {image: i, envFrom: [{secretRef: {name: db2}}]}, sidecars: [{image: i, envFrom: [{secretRef: {name: db3}}]}]}], podSpecPatch: "x: y", volumes: [{name: v, projected: {sources: [{secret: {name: db4}}, {serviceAccountToken: {audience: a}}]}}]}}`,
			"AudienceToken ServiceAccount prod/default|Env Secret prod/db|EnvFrom Secret prod/db2|EnvFrom Secret prod/db3|Field Secret prod/*|Projected Secret prod/db4|ServiceAccountName ServiceAccount prod/robot"},
		"a pipeline run": {`{apiVersion: tekton.dev/v1, kind: PipelineRun, metadata: {namespace: prod}, spec: {taskRunTemplate: {serviceAccountName: robot, podTemplate: {imagePullSecrets: [{name: registry}], tolerations: []}}, workspaces: [{name: w, secret: {secretName: db}}, {name: x, projected: {sources: [{secret: {name: db2}}]}}]}}`,
			"Field Secret prod/db|Field Secret prod/db2|ImagePull Secret prod/registry|ServiceAccountName ServiceAccount prod/robot"},
		"a task":            {`{apiVersion: tekton.dev/v1, kind: Task, metadata: {namespace: prod}, spec: {steps: [{name: s, image: i, env: [{name: A, valueFrom: {secretKeyRef: {name: db, key: k}}}]}]}}`, "Env Secret prod/db"},
		"Knative":           {`{apiVersion: serving.knative.dev/v1, kind: Service, metadata: {namespace: prod}, spec: {template: {spec: {serviceAccountName: robot, containers: [{image: i, envFrom: [{secretRef: {name: db}}]}]}}}}`, "EnvFrom Secret prod/db|ServiceAccountName ServiceAccount prod/robot"},
		"env without a pod": {`{apiVersion: x.example.com/v1, kind: Thing, metadata: {namespace: prod}, spec: {env: [{name: A, valueFrom: {secretKeyRef: {name: db, key: k}}}], envFrom: [{configMapRef: {name: settings}}]}}`, "Field ConfigMap prod/settings|Field Secret prod/db"},
	} {
		if got := strings.Join(find(t, object(t, test.manifest), false), "|"); got != test.want {
			t.Errorf("%s:\n got %s\nwant %s", name, got, test.want)
		}
	}
}
