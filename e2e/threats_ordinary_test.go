package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/holdfast-dev/holdfast/e2e/local"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// replaceable are those of the ordinary manifests that can be replaced: not the Job, most of
// which cannot change, and not the claim: whoever replaces one by a manifest without its
// finalizer removes what protects its data while it is in use, and is held.
var replaceable, _, _ = strings.Cut(ordinaryManifests, sharedClaim)

// sharedClaim is one of the ordinary manifests.
const sharedClaim = `apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shared}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
`

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
` + sharedClaim + `apiVersion: batch/v1
kind: Job
metadata: {name: tidy}
spec: {ttlSecondsAfterFinished: 600, template: {spec: {restartPolicy: Never, containers: [{name: c, image: "registry.invalid/c:1"}]}}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 1, selector: {matchLabels: {app: web}}}
`

const ordinaryStatefulSet = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db}
spec:
  serviceName: db
  replicas: 1
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, image: "registry.invalid/db:1", volumeMounts: [{name: data, mountPath: /data}]}]}
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
`

// ordinaryJob is deleted after its end, with its pods.
const ordinaryJob = `
apiVersion: batch/v1
kind: Job
metadata: {name: tidy}
spec: {ttlSecondsAfterFinished: 600, template: {spec: {restartPolicy: Never, containers: [{name: c, image: "registry.invalid/c:1"}]}}}
`

// ordinaryDaemonSet uses a ConfigMap that the agent may read.
const ordinaryDaemonSet = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: each}
spec:
  selector: {matchLabels: {app: each}}
  template:
    metadata: {labels: {app: each}}
    spec: {containers: [{name: each, image: "registry.invalid/each:1", envFrom: [{configMapRef: {name: settings}}]}]}
`

const ordinaryClaim = `{"apiVersion":"v1","kind":"PersistentVolumeClaim","metadata":{"name":"empty"},"spec":{"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}}}`

const ordinaryEvent = `{"apiVersion":"v1","kind":"Event","metadata":{"name":"did"},"involvedObject":{"kind":"Pod","namespace":"ordinary","name":"solo"},"reason":"Did","message":"m","type":"Normal"}`

const ordinaryLease = `{"apiVersion":"coordination.k8s.io/v1","kind":"Lease","metadata":{"name":"lead"},"spec":{"holderIdentity":"me"}}`

// ordinarySurroundings are what somebody else has set up: limits, a pod that runs on a node
// whose kubelet cannot be reached, and a Secret, which nobody refers to.
const ordinarySurroundings = `
apiVersion: v1
kind: ResourceQuota
metadata: {name: most}
spec: {hard: {pods: "100"}}
---
apiVersion: v1
kind: LimitRange
metadata: {name: each}
spec: {limits: [{type: Container, default: {cpu: 100m}}]}
---
apiVersion: v1
kind: Secret
metadata: {name: other}
data: {a: Yg==}
---
apiVersion: v1
kind: Node
metadata: {name: unreachable}
status: {addresses: [{type: InternalIP, address: 127.0.0.1}], daemonEndpoints: {kubeletEndpoint: {Port: 1}}}
---
apiVersion: v1
kind: Pod
metadata: {name: placed}
spec: {nodeName: unreachable, containers: [{name: c, image: "registry.invalid/c:1", env: [{name: A, value: B}]}]}
`

// step is one command of a job.
type step struct {
	// args are kubectl's, between spaces.
	args  string
	stdin string
	// fails is part of what it says where it cannot succeed, for a reason that is not
	// Holdfast's.
	fails string
	// code is how it may exit besides. Default: 0.
	code int
}

// ordinaryJobs are what agents do without a person, in this order.
var ordinaryJobs = []struct {
	name  string
	steps []step
}{
	{"know the cluster", []step{
		{args: "version"}, {args: "api-resources"}, {args: "api-versions"}, {args: "cluster-info"},
		{args: "get --raw /readyz"}, {args: "get --raw /openapi/v3"},
	}},
	{"know the kinds", []step{{args: "explain deployment.spec.template"}, {args: "explain ingress --recursive"}, {args: "explain runner --api-version=" + runnerGroup + "/v1"}}},
	{"know its own rights", []step{{args: "auth can-i create pods"}, {args: "auth can-i --list"}, {args: "auth whoami"}}},
	{"apply manifests", []step{
		{args: "apply -f -", stdin: ordinaryManifests},
		{args: "apply -f -", stdin: strings.ReplaceAll(ordinaryManifests, "web:1", "web:2")},
		{args: "apply -f - --dry-run=server", stdin: ordinaryManifests},
		{args: "replace -f -", stdin: strings.ReplaceAll(replaceable, "web:1", "web:2")},
	}},
	{"apply manifests on the server", []step{{args: "apply --server-side --force-conflicts -f -", stdin: strings.ReplaceAll(ordinaryManifests, "web:1", "web:3")}}},
	{"see what would change", []step{
		{args: "diff -f -", stdin: ordinaryManifests, code: 1},
		{args: "diff --server-side --force-conflicts -f -", stdin: ordinaryManifests, code: 1},
		{args: "create deployment dry --image=registry.invalid/dry:1 --dry-run=server"},
	}},
	{"scale up", []step{
		{args: "create deployment other --image=registry.invalid/other:1"},
		{args: "scale deployment web --replicas=3"},
		{args: `patch deployment web -p {"spec":{"replicas":4}}`},
	}},
	{"change images, variables and resources", []step{
		{args: "set image deployment/web web=registry.invalid/web:4"},
		{args: "set env deployment/web A=B"},
		{args: "set env deployment/web --from=configmap/settings"},
		{args: "set resources deployment/web --requests=cpu=10m"},
	}},
	{"roll out", []step{
		{args: "rollout restart deployment/web"}, {args: "rollout status deployment/web --watch=false"}, {args: "rollout history deployment/web"},
		{args: "rollout history deployment/web --revision=1"}, {args: "rollout undo deployment/web"}, {args: "rollout pause deployment/web"}, {args: "rollout resume deployment/web"},
	}},
	{"scale by load", []step{{args: "autoscale deployment web --min=2 --max=5"}, {args: `patch hpa web -p {"spec":{"maxReplicas":6}}`}}},
	{"make services reachable", []step{
		{args: "expose deployment other --port=80"},
		{args: `patch service other -p {"spec":{"ports":[{"port":80,"targetPort":8080}]}}`},
		{args: `patch service web -p {"spec":{"selector":{"app":"web","track":"stable"}}}`},
		{args: "create ingress other --class=any --rule=example.com/*=other:80"},
		{args: `patch networkpolicy web -p {"spec":{"policyTypes":["Ingress","Egress"]}}`},
	}},
	{"run jobs", []step{
		{args: "create job once --image=registry.invalid/once:1"}, {args: "create job now --from=cronjob/nightly"},
		{args: "apply -f -", stdin: ordinaryJob},
		{args: "create cronjob hourly --image=registry.invalid/hourly:1 --schedule=@hourly"},
		// Suspending a CronJob ends nothing. Suspending a Job deletes its pods: no ordinary work.
		{args: `patch cronjob nightly -p {"spec":{"suspend":true}}`}, {args: "label job once team=a"},
	}},
	{"run pods, and debug copies of them", []step{
		{args: "run solo --image=registry.invalid/solo:1"},
		// The default profile adds SYS_PTRACE, which the Pod Security Standard baseline forbids:
		// with it a copy is denied, and that is no ordinary work.
		{args: "debug solo --image=registry.invalid/shell:1 --copy-to=solo-debug --profile=baseline"},
		{args: "debug solo --copy-to=solo-changed --set-image=*=registry.invalid/shell:1 --profile=restricted"},
	}},
	{"keep state", []step{
		{args: "apply -f -", stdin: ordinaryStatefulSet}, {args: "scale statefulset db --replicas=2"}, {args: "rollout restart statefulset/db"},
		{args: "apply -f -", stdin: ordinaryDaemonSet},
	}},
	{"label and annotate", []step{
		{args: "label deployment web team=a"}, {args: "label pod solo team=a"}, {args: "label pod solo team-"}, {args: "annotate service web note=b"},
		{args: "annotate deployment web kubernetes.io/change-cause=c"},
	}},
	{"configure", []step{
		{args: "create configmap more --from-literal=a=b"},
		{args: `patch configmap more --type=json -p [{"op":"replace","path":"/data/a","value":"c"}]`},
		// To write a Secret is free, and a claim of an empty volume.
		{args: "create secret generic own --from-literal=a=b"}, {args: "create -f -", stdin: ordinaryClaim},
		{args: "create serviceaccount helper"}, {args: "label serviceaccount helper a=b"},
		{args: "create namespace ordinary-more"}, {args: "label namespace ordinary-more team=a"},
	}},
	{"tell others", []step{
		{args: "create -f -", stdin: ordinaryEvent}, {args: "create -f -", stdin: ordinaryLease},
		{args: `patch lease lead --type=merge -p {"spec":{"holderIdentity":"you"}}`},
	}},
	{"use custom kinds", []step{{args: "apply -f -", stdin: runnerBody("v1", "mine", `{"size":3,"replicas":1}`)}, {args: "scale runner mine --replicas=2"}}},
	{"read logs and load", []step{
		// Not on a node: there is nothing to read, and nothing is wrong.
		{args: "logs solo"},
		{args: "logs deployment/web"},
		{args: "logs placed --tail=10", fails: "127.0.0.1:1"},
		{args: "logs placed -c c --previous", fails: "127.0.0.1:1"},
		{args: "top pods", fails: "Metrics API not available"},
		{args: "get --raw /apis/metrics.k8s.io/v1beta1/pods", fails: "could not find the requested resource"},
	}},
	{"read everything but Secrets", []step{
		{args: "get all -A"}, {args: "get all -A -o yaml"}, {args: "get pods -A -o wide --show-labels"}, {args: "get pods --chunk-size=1"},
		{args: "get pods --field-selector=status.phase=Pending -l app=web"},
		{args: "get resourcequotas,limitranges"}, {args: "get events -A"}, {args: "events"},
		{args: "describe all -A"}, {args: "describe nodes"}, {args: "describe namespaces"}, {args: "describe serviceaccounts"}, {args: "describe quota,limits,ingress,networkpolicy,pdb,pvc,configmap,lease,events"},
	}},
	{"wait and watch", []step{
		{args: "wait --for=create deployment/web --timeout=5s"}, {args: "wait --for=jsonpath={.spec.replicas}=4 deployment/web --timeout=5s"},
		{args: "wait --for=delete deployment/never --timeout=5s"},
		{args: "get --raw /api/v1/namespaces/ordinary/pods?watch=true&timeoutSeconds=1"},
	}},
}

// tolerated is a denied request that kubectl makes on its own, and does well without: describe
// serviceaccounts looks for Secrets of tokens, as clusters before 1.24 have them.
const tolerated = "/api/v1/namespaces/ordinary/secrets?"

// unlisted are what agents do not list: Secrets, and the AccessRequests of others.
var unlisted = []string{"secrets", "accessrequests.holdfast.dev"}

// TestOrdinaryWork: an agent who is cluster-admin does ordinary work under the baseline, and
// never waits, is never refused, and opens no AccessRequest.
func TestOrdinaryWork(t *testing.T) {
	t.Parallel() // it waits more than it works
	c := up(t, func(config *local.Config) {
		config.NoEvidence, config.NoAgent, config.Policies = true, true, "baseline"
	})
	s := newStage(t, c, true).scene(t, "ordinary", "ordinary")
	if r := c.kubectlWith(t, ordinarySurroundings, admin, "create", "-n", s.ns, "-f", "-"); r.code != 0 {
		t.Fatal(r.err)
	}
	kubeconfig, commands := s.kubeconfig(), 0
	for _, job := range ordinaryJobs {
		t.Run(job.name, func(t *testing.T) {
			for _, step := range job.steps {
				commands++
				if err := s.ordinary(t, kubeconfig, &step); err != nil {
					t.Error(err)
				}
			}
		})
	}
	kinds := s.listEverything(t, kubeconfig)
	requests := s.undisturbed(t)
	if t.Failed() {
		return
	}
	fmt.Printf("ordinary work: %d jobs in %d commands of kubectl, and lists of %d kinds: %d requests, none held, none denied\n",
		len(ordinaryJobs), commands, kinds, requests)
}

// ordinary runs a step as the agent.
func (s *scene) ordinary(t *testing.T, kubeconfig string, step *step) error {
	cmd := exec.CommandContext(t.Context(), s.c.info.Kubectl, append([]string{"--kubeconfig", kubeconfig}, strings.Fields(step.args)...)...)
	cmd.Stdin = strings.NewReader(step.stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		return err
	}
	code := cmd.ProcessState.ExitCode()
	if step.fails != "" && code != 0 && strings.Contains(out.String(), step.fails) || step.fails == "" && (code == 0 || code == step.code) {
		return nil
	}
	return fmt.Errorf("kubectl %s: exit %d\n%.2000s", step.args, code, &out)
}

// listEverything lists each kind that can be, in all namespaces, and returns how many.
func (s *scene) listEverything(t *testing.T, kubeconfig string) int {
	t.Helper()
	kinds := strings.Fields(s.c.must(t, admin, "api-resources", "--verbs=list", "-o", "name"))
	kinds = slices.DeleteFunc(kinds, func(kind string) bool { return slices.Contains(unlisted, kind) })
	var group errgroup.Group
	group.SetLimit(4)
	for _, kind := range kinds {
		group.Go(func() error { return s.ordinary(t, kubeconfig, &step{args: "get " + kind + " -A -o yaml"}) })
	}
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
	if len(kinds) < 50 {
		t.Errorf("%d kinds can be listed; want all of them", len(kinds))
	}
	return len(kinds)
}

// undisturbed looks into the API server's audit log for anything that was held or denied, and
// returns how many requests the agent made.
func (s *scene) undisturbed(t *testing.T) int {
	t.Helper()
	events := s.audit.find(t, func(e *auditv1.Event) bool { return e.User.Username == s.user() })
	judged := 0
	for _, e := range events {
		if e.Verb == "list" && strings.HasPrefix(e.RequestURI, tolerated) {
			continue
		}
		if code := e.ResponseStatus.Code; code == http.StatusForbidden || code == http.StatusTooManyRequests {
			t.Errorf("%s %s: HTTP %d %s", e.Verb, e.RequestURI, code, e.ResponseStatus.Message)
		}
		for _, r := range s.audit.decisions(t, string(e.AuditID)) {
			judged++
			if r.Decision != decision.Allow.String() {
				t.Errorf("%s %s: %+v", e.Verb, e.RequestURI, r)
			}
		}
	}
	if judged < 60 {
		t.Errorf("Holdfast judged %d writes; want all of them", judged)
	}
	s.onlyRequests()
	return len(events)
}
