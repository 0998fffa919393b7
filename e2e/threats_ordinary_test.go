package e2e

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// ordinaryManifests are what an agent makes and changes all day.
const ordinaryManifests = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers: [{name: web, image: "registry.invalid/web:1"}]
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80}]}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
data: {a: b}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web}
spec: {rules: [{http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: nightly}
spec: {schedule: "0 3 * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: "registry.invalid/c:1"}]}}}}}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: store}
spec:
  serviceName: store
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store}}
    spec: {containers: [{name: store, image: "registry.invalid/store:1"}]}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shared}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: batch/v1
kind: Job
metadata: {name: tidy}
spec: {ttlSecondsAfterFinished: 600, template: {spec: {restartPolicy: Never, containers: [{name: c, image: "registry.invalid/c:1"}]}}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
`

// ordinaryWork passes under the baseline, with no hold and no denial.
func ordinaryWork(t *testing.T, st *stage) {
	s := st.scene(t, "ordinary", "ordinary")
	for _, work := range []struct {
		stdin string
		args  string
	}{
		{ordinaryManifests, "apply -f -"},
		{strings.ReplaceAll(ordinaryManifests, "web:1", "web:2"), "apply -f -"},
		{strings.ReplaceAll(ordinaryManifests, "web:1", "web:3"), "apply --server-side --force-conflicts -f -"},
		{ordinaryManifests, "diff --server-side --force-conflicts -f -"},
		{"", "create deployment other --image=registry.invalid/other:1"},
		{"", "scale deployment web --replicas=3"},
		{"", `patch deployment web -p {"spec":{"replicas":4}}`},
		{"", "set image deployment/web web=registry.invalid/web:4"},
		{"", "set env deployment/web A=B"},
		{"", "rollout restart deployment/web"},
		{"", "rollout undo deployment/web"},
		{"", "autoscale deployment web --min=2 --max=5"},
		{"", `patch hpa web -p {"spec":{"maxReplicas":6}}`},
		{"", "expose deployment other --port=80"},
		{"", "create job once --image=registry.invalid/once:1"},
		{"", "create job now --from=cronjob/nightly"},
		{"", "run solo --image=registry.invalid/solo:1"},
		{"", "label deployment web team=a"},
		{"", "label pod solo team=a"},
		{"", "annotate service web note=b"},
		{"", "create configmap more --from-literal=a=b"},
		{"", `patch configmap more --type=json -p [{"op":"replace","path":"/data/a","value":"c"}]`},
		{"", "create serviceaccount helper"},
		{"", "create namespace ordinary-more"},
		{"", "label namespace ordinary-more team=a"},
		{`{"apiVersion":"v1","kind":"Event","metadata":{"name":"did"},"involvedObject":{"kind":"Pod","namespace":"ordinary","name":"solo"},"reason":"Did","message":"m","type":"Normal"}`, "create -f -"},
		{`{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"lead"},"spec":{"holderIdentity":"me"}}`, "create -f -"},
		{"", `patch lease lead --type=merge -p {"spec":{"holderIdentity":"you"}}`},
		{runnerBody("v1", "mine", `{"size":3,"replicas":1}`), "apply -f -"},
		{"", "scale runner mine --replicas=2"},
		{"", "auth can-i create pods"},
		{"", "get all"},
		{"", "get nodes,events,configmaps,roles,storageclasses,persistentvolumes,certificatesigningrequests"},
		{"", `patch service web -p {"spec":{"selector":{"app":"web","track":"stable"}}}`},
		{"", "patch serviceaccount helper -p {\"metadata\":{\"labels\":{\"a\":\"b\"}}}"},
		{"", "wait --for=create deployment/web --timeout=5s"},
		{"", "create deployment dry --image=registry.invalid/dry:1 --dry-run=server"},
	} {
		cmd := exec.CommandContext(t.Context(), s.c.info.Kubectl, append([]string{"--kubeconfig", s.kubeconfig()}, strings.Fields(work.args)...)...)
		cmd.Stdin = strings.NewReader(work.stdin)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		err := cmd.Run()
		// diff exits with 1 where there is a difference.
		if err != nil && (!strings.HasPrefix(work.args, "diff ") || cmd.ProcessState.ExitCode() != 1) {
			t.Errorf("kubectl %s: %v\n%s", work.args, err, &out)
		}
	}
	judged := 0
	for _, e := range s.audit.find(t, func(e *auditv1.Event) bool { return e.User.Username == s.user() }) {
		for _, r := range s.audit.decisions(t, string(e.AuditID)) {
			judged++
			if r.Decision != decision.Allow.String() {
				t.Errorf("%s %s: %+v", e.Verb, e.RequestURI, r)
			}
		}
	}
	if judged < 30 {
		t.Errorf("Holdfast judged %d writes; want all of them", judged)
	}
	s.onlyRequests()
}
