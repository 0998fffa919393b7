package e2e

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// Collections that the cases are played in.
const (
	pods           = "/api/v1/namespaces/{ns}/pods"
	configMaps     = "/api/v1/namespaces/{ns}/configmaps"
	secrets        = "/api/v1/namespaces/{ns}/secrets"
	podTemplates   = "/api/v1/namespaces/{ns}/podtemplates"
	controllers    = "/api/v1/namespaces/{ns}/replicationcontrollers"
	deployments    = "/apis/apps/v1/namespaces/{ns}/deployments"
	statefulSets   = "/apis/apps/v1/namespaces/{ns}/statefulsets"
	replicaSets    = "/apis/apps/v1/namespaces/{ns}/replicasets"
	autoscalers    = "/apis/autoscaling/v2/namespaces/{ns}/horizontalpodautoscalers"
	autoscalersV1  = "/apis/autoscaling/v1/namespaces/{ns}/horizontalpodautoscalers"
	runners        = "/apis/" + runnerGroup + "/v1/namespaces/{ns}/runners"
	runnersV1beta1 = "/apis/" + runnerGroup + "/v1beta1/namespaces/{ns}/runners"
)

const (
	holdDelete     = "baseline-deletes/hold-delete"
	holdLifetime   = "baseline-deletes/hold-lifetime"
	denySecretEcho = "baseline-deletes/deny-secret-echo"
)

const container = `{"name":"c","image":"registry.invalid/c:1","resources":{"requests":{"cpu":"100m"},"limits":{"cpu":"200m"}}}`

// podSpec is a pod spec with more fields in front of its containers.
func podSpec(more string) string { return `{` + more + `"containers":[` + container + `]}` }

// newPod creates a pod; no kubelet runs it, and nothing schedules it.
func newPod(name string) call {
	return httpPost(pods, `{"metadata":{"name":"`+name+`","labels":{"app":"`+name+`"}},"spec":`+podSpec("")+`}`)
}

func newConfigMap(name string) call {
	return httpPost(configMaps, `{"metadata":{"name":"`+name+`"},"data":{"a":"b"}}`)
}

// workloadBody is the body of a Deployment, and of what is made like one.
func workloadBody(name string, replicas int) string {
	return fmt.Sprintf(`{"metadata":{"name":%[1]q},"spec":{"replicas":%[2]d,"selector":{"matchLabels":{"app":%[1]q}},"template":{"metadata":{"labels":{"app":%[1]q}},"spec":%[3]s}}}`,
		name, replicas, podSpec(""))
}

func newDeployment(name string, replicas int) call {
	return httpPost(deployments, workloadBody(name, replicas))
}

// runnerBody is the body of a Runner with a spec; the kind stands for somebody's own.
func runnerBody(version, name, spec string) string {
	return fmt.Sprintf(`{"apiVersion":%q,"kind":"Runner","metadata":{"name":%q},"spec":%s}`, runnerGroup+"/"+version, name, spec)
}

func deletionThreats() []Threat {
	victim := []call{newPod("victim")}
	return []Threat{
		{
			ID: "T01", Title: "delete a pod, directly", Verdict: Held,
			Trials: []Trial{{
				Prepare: victim, Attempt: httpDelete(pods+"/victim", ""), Rule: holdDelete,
				Effect: objectGone(pods + "/victim"), Target: pods + "/victim",
			}},
		},
		{
			ID: "T02", Title: "the same by pods/eviction", Verdict: Held,
			Trials: []Trial{{
				Prepare: victim, Rule: "baseline-deletes/hold-eviction",
				Attempt: httpPost(pods+"/victim/eviction", `{"apiVersion":"policy/v1","kind":"Eviction","metadata":{"name":"victim"}}`),
				Effect:  objectGone(pods + "/victim"), Target: pods + "/victim",
			}},
		},
		{
			ID: "T03", Title: "deletecollection pods", Verdict: Effect, Effect: "the worst verdict over the collection",
			Trials: []Trial{
				{
					Name: "all are held", Want: Held, Rule: holdDelete,
					Prepare: []call{newPod("a"), newPod("b"), newPod("c")},
					Attempt: httpDelete(pods, ""), Effect: collectionEmpty(pods), Target: pods + "/a",
				},
				{
					Name: "one is denied", Want: Denied, Rule: "t03-2/deny-b",
					Prepare: []call{newPod("a"), newPod("b"), newPod("c")},
					Policy: `
  agents: ["{agent}"]
  rules:
  - name: deny-b
    match: {verbs: [delete, deletecollection], apiGroups: [""], versions: [v1], resources: [pods], namespaces: ["{ns}"]}
    when: oldObject.metadata.name == "b"
    action: Deny
`,
					Attempt: httpDelete(pods, ""), Effect: objectGone(pods + "/a"), Target: pods + "/a",
				},
			},
		},
		{
			ID: "T04", Title: "deletecollection with one held item", Verdict: Effect, Effect: "nothing deleted",
			Off: func(s *scene) {
				s.prepare(newPod("a"), newPod("b"), newPod("c"))
				s.succeed(httpDelete(pods, ""))
				s.eventually("the pods are gone", func() error { return collectionEmpty(pods)(s, answer{}) })
			},
			// Three have been approved; the fourth has not.
			On: func(s *scene) {
				s.prepare(newPod("a"), newPod("b"), newPod("c"))
				a := s.attempt(httpDelete(pods, ""))
				s.expect(a, Held, holdDelete)
				request := s.accessRequest(a)
				s.approve(request)
				s.prepare(newPod("d"))
				a = s.attempt(httpDelete(pods, ""))
				s.expect(a, Held, holdDelete)
				if names := s.names(pods); len(names) != 4 {
					s.t.Errorf("pods %v, want all four", names)
				}
				if anew := s.accessRequest(a); anew == request {
					s.t.Errorf("the approval of three pods stands for four")
				}
				s.phase(request, v1alpha1.Approved)
			},
		},
		{
			ID: "T05", Title: "deletecollection that matches nothing", Verdict: Effect, Effect: "audited",
			Off: deletesNothing, On: deletesNothing,
		},
		{
			ID: "T06", Title: "deletecollection with dryRun=All on secrets", Verdict: Denied,
			Trials: []Trial{
				{
					Name: "collection, dry run", Rule: denySecretEcho, Prepare: []call{newSecret()},
					Attempt: httpDelete(secrets+"?dryRun=All", ""), Effect: tellsSecret, Target: secrets + "/password",
				},
				{
					Name: "collection", Rule: denySecretEcho, Prepare: []call{newSecret()},
					Attempt: httpDelete(secrets, ""), Effect: tellsSecret, Target: secrets + "/password",
				},
				{
					Name: "one, foreground, dry run", Rule: denySecretEcho, Prepare: []call{newSecret()},
					Attempt: httpDelete(secrets+"/password?dryRun=All&propagationPolicy=Foreground", ""), Effect: tellsSecret, Target: secrets + "/password",
				},
			},
		},
		{
			ID: "S39", Title: "delete with propagationPolicy Foreground or Orphan, or with a finalizer, also as dry-run", Verdict: Denied,
			Trials: []Trial{
				echoes("foreground", "?propagationPolicy=Foreground", "", newSecret()),
				echoes("orphan", "?propagationPolicy=Orphan", "", newSecret()),
				echoes("orphan, in the body", "", `{"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":"Orphan"}`, newSecret()),
				echoes("with a finalizer", "", "", newSecret(), mergePatch(secrets+"/password", `{"metadata":{"finalizers":`+keepFinalizer+`}}`)),
				echoes("with a finalizer, dry run", "?dryRun=All", "", newSecret(), mergePatch(secrets+"/password", `{"metadata":{"finalizers":`+keepFinalizer+`}}`)),
				echoes("foreground, dry run", "?dryRun=All&propagationPolicy=Foreground", "", newSecret()),
			},
		},
		{
			ID: "T07", Title: "delete a namespace", Verdict: Held,
			Trials: []Trial{{
				Prepare: []call{
					httpPost("/api/v1/namespaces", `{"metadata":{"name":"{ns}-prod"}}`),
					httpPost("/api/v1/namespaces/{ns}-prod/configmaps", `{"metadata":{"name":"in-it"}}`),
				},
				Attempt: httpDelete("/api/v1/namespaces/{ns}-prod", ""), Rule: holdDelete,
				Effect: objectGone("/api/v1/namespaces/{ns}-prod"), Target: "/api/v1/namespaces/{ns}-prod",
			}},
		},
		{
			ID: "T08", Title: "namespaces/finalize", Verdict: Denied,
			// A namespace that goes, and waits for what is in it, is made to go without it.
			Trials: []Trial{{
				Prepare: []call{
					httpPost("/api/v1/namespaces", `{"metadata":{"name":"{ns}-stuck"}}`),
					httpPost("/api/v1/namespaces/{ns}-stuck/configmaps", `{"metadata":{"name":"keeps","finalizers":["example.com/keep"]}}`),
					httpDelete("/api/v1/namespaces/{ns}-stuck", ""),
				},
				Ready: func(s *scene) error {
					a := s.read("/api/v1/namespaces/{ns}-stuck")
					if !strings.Contains(a.body, "NamespaceFinalizersRemaining") {
						return errors.New(a.String())
					}
					return nil
				},
				Attempt: httpPut("/api/v1/namespaces/{ns}-stuck/finalize", `{"metadata":{"name":"{ns}-stuck"},"spec":{"finalizers":[]}}`),
				Rule:    "baseline-deletes/deny-finalize",
				Effect:  objectGone("/api/v1/namespaces/{ns}-stuck"), Target: "/api/v1/namespaces/{ns}-stuck",
			}},
		},
		ownerToNowhere(), changedOwner(), propagation(), removedFinalizer(), beingDeleted(),
	}
}

// succeed is an attempt that must go through: a control, or what has been approved.
func (s *scene) succeed(c call) answer {
	s.t.Helper()
	a := s.attempt(c)
	if !a.ok() {
		s.t.Fatalf("%s %s as the agent: %s", c.method, s.expand(c.path), a)
	}
	return a
}

// deletesNothing goes through, and is written down although admission never sees it.
func deletesNothing(s *scene) {
	s.prepare(newPod("other"))
	a := s.succeed(httpDelete(pods+"?labelSelector=app%3Dnone", ""))
	s.eventually("it is in the audit log", func() error {
		events := s.audit.find(s.t, func(e *auditv1.Event) bool { return string(e.AuditID) == a.auditID })
		if len(events) != 1 {
			return fmt.Errorf("%d events of %s", len(events), a.auditID)
		}
		e := events[0]
		if e.Verb != "deletecollection" || e.User.Username != s.user() || e.ObjectRef == nil || e.ObjectRef.Namespace != s.ns ||
			!strings.Contains(e.RequestURI, "labelSelector=app%3Dnone") || e.ResponseStatus == nil || e.ResponseStatus.Code != 200 {
			return fmt.Errorf("event %+v", e)
		}
		return nil
	})
	if names := s.names(pods); !slices.Equal(names, []string{"other"}) {
		s.t.Errorf("pods %v, want other alone", names)
	}
}

const threatSecret = "correct horse battery staple"

func newSecret() call {
	return httpPost(secrets, `{"metadata":{"name":"password"},"stringData":{"password":"`+threatSecret+`"}}`)
}

// tellsSecret is the effect that an answer has the Secret's value.
func tellsSecret(_ *scene, a answer) error {
	if !strings.Contains(a.body, base64.StdEncoding.EncodeToString([]byte(threatSecret))) {
		return errors.New("the answer does not have the value")
	}
	return nil
}

// echoes is a delete whose answer is the Secret.
func echoes(name, query, body string, prepare ...call) Trial {
	return Trial{
		Name: name, Rule: denySecretEcho, Prepare: prepare,
		Attempt: httpDelete(secrets+"/password"+query, body), Effect: tellsSecret, Target: secrets + "/password",
	}
}

const noOwner = `[{"apiVersion":"v1","kind":"ConfigMap","name":"never-was","uid":"00000000-0000-4000-8000-000000000000"}]`

func ownerToNowhere() Threat {
	return Threat{
		ID: "T09", Title: "ownerReference to a missing owner (garbage collection as delete)", Verdict: Held,
		Trials: []Trial{
			{
				Name: "of the object", Prepare: []call{newConfigMap("victim")}, Rule: holdLifetime,
				Attempt: mergePatch(configMaps+"/victim", `{"metadata":{"ownerReferences":`+noOwner+`}}`),
				Effect:  objectGone(configMaps + "/victim"), Target: configMaps + "/victim",
			},
			{
				Name: "by way of its status", Prepare: []call{newDeployment("victim", 1)}, Rule: holdLifetime,
				Attempt: mergePatch(deployments+"/victim/status", `{"metadata":{"ownerReferences":`+noOwner+`}}`),
				Effect:  objectGone(deployments + "/victim"), Target: deployments + "/victim",
			},
		},
	}
}

func changedOwner() Threat {
	// What is owned goes with its owner; without its owner reference it stays.
	owned := func(s *scene) error {
		owner := s.read(configMaps + "/owner")
		a := s.send(s.person, httpPost(configMaps, fmt.Sprintf(
			`{"metadata":{"name":"owned","ownerReferences":[{"apiVersion":"v1","kind":"ConfigMap","name":"owner","uid":%q}]}}`,
			fieldOf(owner.object(), "metadata.uid"))))
		if !a.ok() {
			return errors.New(a.String())
		}
		return nil
	}
	return Threat{
		ID: "T10", Title: "change ownerReferences", Verdict: Held,
		Trials: []Trial{
			{
				Name: "take them away", Prepare: []call{newConfigMap("owner")}, Ready: owned, Rule: holdLifetime,
				Attempt: jsonPatch(configMaps+"/owned", `[{"op":"remove","path":"/metadata/ownerReferences"}]`),
				Effect:  fieldIs(configMaps+"/owned", "metadata.ownerReferences", nil), Target: configMaps + "/owned",
			},
			{
				Name: "let them block the owner", Prepare: []call{newConfigMap("owner")}, Ready: owned, Rule: holdLifetime,
				Attempt: jsonPatch(configMaps+"/owned", `[{"op":"add","path":"/metadata/ownerReferences/0/blockOwnerDeletion","value":true}]`),
				Effect:  fieldIs(configMaps+"/owned", "metadata.ownerReferences.0.blockOwnerDeletion", true), Target: configMaps + "/owned",
			},
		},
	}
}

func propagation() Threat {
	threat := Threat{ID: "T11", Title: "any propagationPolicy", Verdict: Effect, Effect: "the verdict of delete"}
	for _, options := range []struct{ name, query, body string }{
		{"none", "", ""},
		{"background", "?propagationPolicy=Background", ""},
		{"foreground", "?propagationPolicy=Foreground", ""},
		{"orphan", "?propagationPolicy=Orphan", ""},
		{"orphan, in the body", "", `{"apiVersion":"v1","kind":"DeleteOptions","propagationPolicy":"Orphan"}`},
		{"orphan, the old way", "", `{"apiVersion":"v1","kind":"DeleteOptions","orphanDependents":true}`},
		{"no grace", "?gracePeriodSeconds=0", ""},
	} {
		threat.Trials = append(threat.Trials, Trial{
			Name: options.name, Want: Held, Rule: holdDelete, Prepare: []call{newConfigMap("victim")},
			Attempt: httpDelete(configMaps+"/victim"+options.query, options.body),
			Effect:  objectGone(configMaps + "/victim"), Target: configMaps + "/victim",
		})
	}
	return threat
}

const keepFinalizer = `["example.com/keep"]`

func removedFinalizer() Threat {
	kept := httpPost(configMaps, `{"metadata":{"name":"victim","finalizers":`+keepFinalizer+`}}`)
	return Threat{
		ID: "T12", Title: "remove a finalizer", Verdict: Held,
		Trials: []Trial{
			{
				Name: "merge patch", Prepare: []call{kept}, Rule: holdLifetime,
				Attempt: mergePatch(configMaps+"/victim", `{"metadata":{"finalizers":null}}`),
				Effect:  fieldIs(configMaps+"/victim", "metadata.finalizers", nil), Target: configMaps + "/victim",
			},
			{
				Name: "replace", Prepare: []call{kept}, Rule: holdLifetime,
				Attempt: httpPut(configMaps+"/victim", `{"metadata":{"name":"victim"}}`),
				Effect:  fieldIs(configMaps+"/victim", "metadata.finalizers", nil), Target: configMaps + "/victim",
			},
		},
	}
}

func beingDeleted() Threat {
	going := []call{
		httpPost(configMaps, `{"metadata":{"name":"going","finalizers":`+keepFinalizer+`}}`), httpDelete(configMaps+"/going", ""),
	}
	workloadGoing := []call{
		newDeployment("going", 2), mergePatch(deployments+"/going", `{"metadata":{"finalizers":`+keepFinalizer+`}}`), httpDelete(deployments+"/going", ""),
	}
	return Threat{
		ID: "T13", Title: "update an object that is being deleted", Verdict: Effect, Effect: "same verdict",
		Trials: []Trial{
			{
				Name: "its finalizer", Want: Held, Prepare: going, Rule: holdLifetime,
				Attempt: jsonPatch(configMaps+"/going", `[{"op":"remove","path":"/metadata/finalizers"}]`),
				Effect:  objectGone(configMaps + "/going"), Target: configMaps + "/going",
			},
			{
				Name: "its replicas", Want: Held, Prepare: workloadGoing, Rule: holdReplicas,
				Attempt: mergePatch(deployments+"/going", `{"spec":{"replicas":0}}`),
				Effect:  fieldIs(deployments+"/going", "spec.replicas", 0), Target: deployments + "/going",
			},
			{
				Name: "its labels", Want: Allowed, Prepare: going,
				Attempt: mergePatch(configMaps+"/going", `{"metadata":{"labels":{"a":"b"}}}`),
				Effect:  fieldIs(configMaps+"/going", "metadata.labels.a", "b"),
			},
		},
	}
}
