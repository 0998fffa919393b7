package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

const (
	holdStorage        = "baseline-cluster/hold-storage"
	holdExternalIPs    = "baseline-cluster/hold-external-ips"
	holdExternalName   = "baseline-cluster/hold-external-name"
	holdEndpoints      = "baseline-cluster/hold-endpoints"
	holdNodes          = "baseline-controllers/hold-nodes"
	holdNodeLeases     = "baseline-controllers/hold-node-leases"
	holdPriorities     = "baseline-controllers/hold-priority-classes"
	holdSystemPriority = "baseline-controllers/hold-system-priority"
	holdJobEnd         = "baseline-controllers/hold-job-end"
	holdClaims         = "baseline-controllers/hold-claim-retention"
)

const (
	services       = "/api/v1/namespaces/{ns}/services"
	endpoints      = "/api/v1/namespaces/{ns}/endpoints"
	endpointSlices = "/apis/discovery.k8s.io/v1/namespaces/{ns}/endpointslices"
	volumes        = "/api/v1/persistentvolumes"
	storage        = "/apis/storage.k8s.io/v1"
	nodes          = "/api/v1/nodes"
	nodeLeases     = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases"
	priorities     = "/apis/scheduling.k8s.io/v1/priorityclasses"
	jobs           = "/apis/batch/v1/namespaces/{ns}/jobs"
)

// fieldHas is the effect that a field of an object has a text in it, as JSON has it.
func fieldHas(path, field, text string) func(*scene, answer) error {
	return func(s *scene, _ answer) error {
		a := s.read(path)
		if !a.ok() {
			return errors.New(a.String())
		}
		if got := fmt.Sprint(fieldOf(a.object(), field)); !strings.Contains(got, s.expand(text)) {
			return fmt.Errorf("%s of %s is %s, want %s in it", field, s.expand(path), got, text)
		}
		return nil
	}
}

// creates is the trial of making an object by a POST; its name is the last part of path.
func creates(name, rule, path, body string) Trial {
	collection := path[:strings.LastIndex(path, "/")]
	return Trial{Name: name, Rule: rule, Attempt: httpPost(collection, body), Effect: objectThere(path), Target: path, After: []call{httpDelete(path, "")}}
}

// clusterThreats are about what everybody shares.
func clusterThreats() []Threat {
	service := httpPost(services, `{"metadata":{"name":"web"},"spec":{"ports":[{"port":80}]}}`)
	const mine = `"subsets":[{"addresses":[{"ip":"192.0.2.9"}],"ports":[{"port":80}]}]`
	const slice = `"addressType":"IPv4","endpoints":[{"addresses":["192.0.2.9"]}],"ports":[{"port":80}]`
	return []Threat{
		{
			ID: "T63", Title: "PersistentVolume, StorageClass, CSIDriver", Verdict: Held,
			Trials: []Trial{
				creates("a volume that is a node's root", holdStorage, volumes+"/{ns}", newVolume("{ns}")),
				{
					Name: "a volume that goes with its claim", Rule: holdStorage, Prepare: []call{httpPost(volumes, newVolume("{ns}"))},
					Attempt: mergePatch(volumes+"/{ns}", `{"spec":{"persistentVolumeReclaimPolicy":"Delete"}}`),
					Effect:  fieldIs(volumes+"/{ns}", "spec.persistentVolumeReclaimPolicy", "Delete"), Target: volumes + "/{ns}",
				},
				creates("a StorageClass with a Secret", holdStorage, storage+"/storageclasses/{ns}",
					`{"metadata":{"name":"{ns}"},"provisioner":"example.com/mine","parameters":{"csi.storage.k8s.io/provisioner-secret-name":"password","csi.storage.k8s.io/provisioner-secret-namespace":"{ns}"}}`),
				creates("a CSIDriver", holdStorage, storage+"/csidrivers/{ns}",
					`{"metadata":{"name":"{ns}"},"spec":{"attachRequired":false,"tokenRequests":[{"audience":"mine"}]}}`),
			},
		},
		{
			ID: "T64", Title: "Service externalIPs, Endpoints and EndpointSlices edits", Verdict: Held,
			Trials: []Trial{
				creates("a Service with externalIPs", holdExternalIPs, services+"/mine",
					`{"metadata":{"name":"mine"},"spec":{"ports":[{"port":80}],"externalIPs":["192.0.2.9"]}}`),
				{
					Name: "externalIPs, afterwards", Rule: holdExternalIPs, Prepare: []call{service},
					Attempt: mergePatch(services+"/web", `{"spec":{"externalIPs":["192.0.2.9"]}}`),
					Effect:  fieldIs(services+"/web", "spec.externalIPs.0", "192.0.2.9"), Target: services + "/web",
				},
				{
					Name: "Endpoints of a Service", Rule: holdEndpoints, Prepare: []call{service},
					Attempt: httpPost(endpoints, `{"metadata":{"name":"web"},`+mine+`}`), Effect: objectThere(endpoints + "/web"),
				},
				{
					Name: "Endpoints, edited", Rule: holdEndpoints, Prepare: []call{service, httpPost(endpoints, `{"metadata":{"name":"web"}}`)},
					Attempt: mergePatch(endpoints+"/web", `{`+mine+`}`), Effect: fieldIs(endpoints+"/web", "subsets.0.addresses.0.ip", "192.0.2.9"),
				},
				{
					Name: "an EndpointSlice of a Service", Rule: holdEndpoints, Prepare: []call{service},
					Attempt: httpPost(endpointSlices, `{"metadata":{"name":"web-mine","labels":{"kubernetes.io/service-name":"web"}},`+slice+`}`),
					Effect:  objectThere(endpointSlices + "/web-mine"), Target: endpointSlices + "/web-mine",
				},
				{
					Name: "an EndpointSlice, edited", Rule: holdEndpoints,
					Prepare: []call{httpPost(endpointSlices, `{"metadata":{"name":"web-mine"},`+strings.ReplaceAll(slice, "192.0.2.9", "192.0.2.8")+`}`)},
					Attempt: mergePatch(endpointSlices+"/web-mine", `{"endpoints":[{"addresses":["192.0.2.9"]}]}`),
					Effect:  fieldIs(endpointSlices+"/web-mine", "endpoints.0.addresses.0", "192.0.2.9"),
				},
				{
					Name: "a Service with none of it", Want: Allowed,
					Attempt: httpPost(services, `{"metadata":{"name":"mine"},"spec":{"ports":[{"port":80}]}}`), Effect: objectThere(services + "/mine"),
				},
				{
					Name: "its ports, beside externalIPs that were there", Want: Allowed,
					Prepare: []call{httpPost(services, `{"metadata":{"name":"web"},"spec":{"ports":[{"port":80}],"externalIPs":["192.0.2.9"]}}`)},
					Attempt: jsonPatch(services+"/web", `[{"op":"replace","path":"/spec/ports/0/port","value":81}]`),
					Effect:  fieldIs(services+"/web", "spec.ports.0.port", 81),
				},
			},
		},
		{
			ID: "S28", Title: "Service or EndpointSlice under a webhook or aggregated API", Verdict: Held,
			Beyond: "the selector of such a Service: to change one is ordinary work, and a policy of one's own holds it in the namespaces of webhooks",
			Trials: []Trial{
				{
					Name: "an EndpointSlice", Rule: holdEndpoints, Prepare: []call{service},
					Attempt: httpPost(endpointSlices, `{"metadata":{"name":"web-mine","labels":{"kubernetes.io/service-name":"web"}},`+slice+`}`),
					Effect:  objectThere(endpointSlices + "/web-mine"), Target: endpointSlices + "/web-mine",
				},
				{
					Name: "a Service that is somewhere else", Rule: holdExternalName, Prepare: []call{service},
					Attempt: mergePatch(services+"/web", `{"spec":{"type":"ExternalName","externalName":"mine.example.com","clusterIP":null,"clusterIPs":null}}`),
					Effect:  fieldIs(services+"/web", "spec.externalName", "mine.example.com"), Target: services + "/web",
				},
				{
					Name: "a new one that is", Want: Allowed,
					Attempt: httpPost(services, `{"metadata":{"name":"mine"},"spec":{"type":"ExternalName","externalName":"mine.example.com"}}`),
					Effect:  objectThere(services + "/mine"),
				},
			},
		},
		{
			ID:      "T75",
			Title:   "deletion by controllers: NoExecute taint, node delete or status, node Leases, PriorityClass preemption, ttlSecondsAfterFinished, StatefulSet PVC retention",
			Verdict: Held,
			Beyond:  "a priority class of the cluster's own, which whoever made it meant to be used",
			Trials:  append(nodeTrials(), deletingTrials()...),
		},
	}
}

// newVolume is of a class of its own, lest a claim that waits somewhere takes it.
func newVolume(name string) string {
	return `{"metadata":{"name":"` + name + `"},"spec":{"capacity":{"storage":"1Gi"},"accessModes":["ReadWriteOnce"],"hostPath":{"path":"/"},"persistentVolumeReclaimPolicy":"Retain","storageClassName":"` + name + `"}}`
}

// nodeTrials take pods' nodes away.
func nodeTrials() []Trial {
	node := []call{httpPost(nodes, `{"metadata":{"name":"{ns}"}}`)}
	gone := []call{httpDelete(nodes+"/{ns}", "")}
	lease := `{"metadata":{"name":"{ns}"},"spec":{"holderIdentity":"{ns}","leaseDurationSeconds":40}}`
	return []Trial{
		{
			Name: "a NoExecute taint", Rule: holdNodes, Prepare: node, After: gone,
			Attempt: mergePatch(nodes+"/{ns}", `{"spec":{"taints":[{"key":"example.com/mine","effect":"NoExecute"}]}}`),
			Effect:  fieldHas(nodes+"/{ns}", "spec.taints", "example.com/mine"),
		},
		{
			Name: "a label that DaemonSets select", Rule: holdNodes, Prepare: []call{httpPost(nodes, `{"metadata":{"name":"{ns}","labels":{"example.com/for":"all"}}}`)}, After: gone,
			Attempt: mergePatch(nodes+"/{ns}", `{"metadata":{"labels":{"example.com/for":null}}}`),
			Effect: func(s *scene, a answer) error {
				if fieldHas(nodes+"/{ns}", "metadata.labels", "example.com/for")(s, a) == nil {
					return errors.New("the label is there")
				}
				return nil
			},
		},
		{
			Name: "a node, deleted", Rule: holdDelete, Prepare: node, After: gone,
			Attempt: httpDelete(nodes+"/{ns}", ""), Effect: objectGone(nodes + "/{ns}"),
		},
		{
			Name: "a node's status", Rule: holdStatus, Prepare: node, After: gone,
			Attempt: strategicPatch(nodes+"/{ns}/status", `{"status":{"conditions":[{"type":"example.com/Mine","status":"False"}]}}`),
			Effect:  fieldHas(nodes+"/{ns}", "status.conditions", "example.com/Mine"),
		},
		{
			Name: "a node of one's own", Rule: holdNodes, After: gone,
			Attempt: node[0], Effect: objectThere(nodes + "/{ns}"),
		},
		creates("a node's Lease", holdNodeLeases, nodeLeases+"/{ns}", lease),
		{
			Name: "a node's Lease, renewed for it", Rule: holdNodeLeases, Prepare: []call{httpPost(nodeLeases, lease)}, After: []call{httpDelete(nodeLeases+"/{ns}", "")},
			Attempt: mergePatch(nodeLeases+"/{ns}", `{"spec":{"leaseDurationSeconds":4000}}`),
			Effect:  fieldIs(nodeLeases+"/{ns}", "spec.leaseDurationSeconds", 4000), Target: nodeLeases + "/{ns}",
		},
		{
			Name: "a node's Lease, deleted", Rule: holdDelete, Prepare: []call{httpPost(nodeLeases, lease)},
			Attempt: httpDelete(nodeLeases+"/{ns}", ""), Effect: objectGone(nodeLeases + "/{ns}"), Target: nodeLeases + "/{ns}",
		},
	}
}

// deletingTrials have other controllers delete.
func deletingTrials() []Trial {
	job := func(more string) call {
		return httpPost(jobs, `{"metadata":{"name":"once"},"spec":{`+more+`"template":{"spec":`+podSpec(`"restartPolicy":"Never",`)+`}}}`)
	}
	ofJob := func(name, patch, field string, is any) Trial {
		return Trial{
			Name: name, Rule: holdJobEnd, Prepare: []call{job(`"parallelism":2,`)},
			Attempt: mergePatch(jobs+"/once", patch), Effect: fieldIs(jobs+"/once", field, is), Target: jobs + "/once",
		}
	}
	const critical = `"priorityClassName":"system-cluster-critical",`
	const retention = "spec.persistentVolumeClaimRetentionPolicy.whenScaled"
	return []Trial{
		{
			Name: "a PriorityClass", Rule: holdPriorities, After: []call{httpDelete(priorities+"/{ns}", "")},
			Attempt: httpPost(priorities, `{"metadata":{"name":"{ns}"},"value":1000000}`),
			Effect:  objectThere(priorities + "/{ns}"), Target: priorities + "/{ns}",
		},
		{
			Name: "a pod above all others", Rule: holdSystemPriority,
			Attempt: httpPost(pods, `{"metadata":{"name":"mine"},"spec":`+podSpec(critical)+`}`),
			Effect:  objectThere(pods + "/mine"), Target: pods + "/mine",
		},
		{
			Name: "a Deployment's pods above all others", Rule: holdSystemPriority, Prepare: []call{newDeployment("web", 1)},
			Attempt: mergePatch(deployments+"/web", `{"spec":{"template":{"spec":{"priorityClassName":"system-node-critical"}}}}`),
			Effect:  fieldIs(deployments+"/web", "spec.template.spec.priorityClassName", "system-node-critical"), Target: deployments + "/web",
		},
		ofJob("a Job's time to live", `{"spec":{"ttlSecondsAfterFinished":0}}`, "spec.ttlSecondsAfterFinished", 0),
		ofJob("a Job, suspended", `{"spec":{"suspend":true}}`, "spec.suspend", true),
		ofJob("a Job's parallelism", `{"spec":{"parallelism":0}}`, "spec.parallelism", 0),
		{
			Name: "a new Job's time to live", Want: Allowed,
			Attempt: job(`"ttlSecondsAfterFinished":60,`), Effect: objectThere(jobs + "/once"),
		},
		{
			Name: "claims that go with a StatefulSet", Rule: holdClaims,
			Attempt: httpPost(statefulSets, strings.Replace(workloadBody("web", 1), `"spec":{`, `"spec":{"persistentVolumeClaimRetentionPolicy":{"whenDeleted":"Delete"},`, 1)),
			Effect:  objectThere(statefulSets + "/web"), Target: statefulSets + "/web",
		},
		{
			Name: "claims that go with its last pods", Rule: holdClaims, Prepare: []call{httpPost(statefulSets, workloadBody("web", 1))},
			Attempt: mergePatch(statefulSets+"/web", `{"spec":{"persistentVolumeClaimRetentionPolicy":{"whenScaled":"Delete"}}}`),
			Effect:  fieldIs(statefulSets+"/web", retention, "Delete"), Target: statefulSets + "/web",
		},
	}
}

// thereOr makes an object as a person unless there is one.
func thereOr(path string, made call) func(*scene) error {
	return func(s *scene) error {
		if s.exists(path) == nil {
			return nil
		}
		if a := s.send(s.person, made); !a.ok() && a.code != http.StatusConflict {
			return errors.New(a.String())
		}
		return nil
	}
}
