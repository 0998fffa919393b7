package e2e

import (
	"fmt"
	"strings"
)

const (
	denyPrivileged   = "baseline-workloads/deny-privileged"
	denyControlPlane = "baseline-workloads/deny-control-plane"
	denyAdminAccess  = "baseline-workloads/deny-admin-access"
	denyAdminSpace   = "baseline-workloads/deny-admin-namespace"
	holdDevices      = "baseline-workloads/hold-device-classes"
	holdPrivileged   = "baseline-workloads/hold-privileged-change"
)

// carrier is a kind whose objects bring pods about.
type carrier struct {
	name, path string
	// body is of an object of the name mine, with a pod spec.
	body func(podSpec string) string
}

func (c carrier) create(podSpec string) call { return httpPost(c.path, c.body(podSpec)) }

const (
	daemonSets = "/apis/apps/v1/namespaces/{ns}/daemonsets"
	cronJobs   = "/apis/batch/v1/namespaces/{ns}/cronjobs"
)

// carriers are the built-in kinds that bring pods about.
func carriers() []carrier {
	wrapped := func(before, after string) func(string) string {
		return func(spec string) string { return `{"metadata":{"name":"mine"},` + before + spec + after + `}` }
	}
	selected := func(spec string) string { return `{"metadata":{"name":"mine"},"spec":` + templateSpec(spec) + `}` }
	once := func(spec string) string { return strings.Replace(spec, `{`, `{"restartPolicy":"Never",`, 1) }
	return []carrier{
		{"Pod", pods, wrapped(`"spec":`, "")},
		{"Deployment", deployments, selected},
		{"ReplicaSet", replicaSets, selected},
		{"StatefulSet", statefulSets, selected},
		{"DaemonSet", daemonSets, selected},
		{"Job", jobs, func(spec string) string { return wrapped(`"spec":{"template":{"spec":`, `}}`)(once(spec)) }},
		{"CronJob", cronJobs, func(spec string) string {
			return wrapped(`"spec":{"schedule":"0 3 * * *","jobTemplate":{"spec":{"template":{"spec":`, `}}}}`)(once(spec))
		}},
		{"ReplicationController", controllers, wrapped(`"spec":{"selector":{"app":"w"},"template":{"metadata":{"labels":{"app":"w"}},"spec":`, `}}`)},
		{"PodTemplate", podTemplates, wrapped(`"template":{"spec":`, `}`)},
	}
}

// carries is the trial of bringing a pod spec about by a kind.
func carries(of carrier, what, rule, spec string) Trial {
	name := of.name
	if what != "" {
		name = what + ", " + of.name
	}
	return Trial{Name: name, Rule: rule, Attempt: of.create(spec), Effect: objectThere(of.path + "/mine"), Target: of.path + "/mine"}
}

// fromNode are pod specs that take what is their node's.
func fromNode() []struct{ name, spec string } {
	return []struct{ name, spec string }{
		{"privileged", podSpecWith(`"securityContext":{"privileged":true}`)},
		{"hostPath", podSpec(`"volumes":[{"name":"root","hostPath":{"path":"/"}}],`)},
		{"hostNetwork", podSpec(`"hostNetwork":true,`)},
		{"hostPID", podSpec(`"hostPID":true,`)},
	}
}

// podSpecWith is a pod spec with more fields in its container.
func podSpecWith(more string) string { return `{"containers":[` + containerWith("c", more) + `]}` }

func containerWith(name, more string) string {
	return fmt.Sprintf(`{"name":%q,"image":"registry.invalid/c:1",%s}`, name, more)
}

// workloadThreats bring about pods that take what is not theirs.
func workloadThreats() []Threat {
	const privileged = `"securityContext":{"privileged":true}`
	const plain = `"containers":[{"name":"c","image":"registry.invalid/c:1"}]`
	through := Threat{
		ID: "T56", Title: "privileged, hostPath, hostNetwork, hostPID through every kind of workload", Verdict: Denied, Waits: waitsPodSecurity,
	}
	for _, what := range fromNode() {
		for _, of := range carriers() {
			through.Trials = append(through.Trials, carries(of, what.name, denyPrivileged, what.spec))
		}
	}
	through.Trials = append(through.Trials, Trial{
		Name: "one's own image in such a pod", Want: Held, Rule: holdPrivileged, Prepare: []call{carriers()[4].create(fromNode()[0].spec)},
		Attempt: jsonPatch(daemonSets+"/mine", `[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"registry.invalid/mine:1"}]`),
		Effect:  fieldIs(daemonSets+"/mine", "spec.template.spec.containers.0.image", "registry.invalid/mine:1"), Target: daemonSets + "/mine",
	})
	inside := Threat{ID: "T57", Title: "the same in init, sidecar and ephemeral containers", Verdict: Denied, Waits: waitsPodSecurity}
	for _, kind := range []carrier{carriers()[0], carriers()[1], carriers()[6]} {
		inside.Trials = append(inside.Trials,
			carries(kind, "init", denyPrivileged, `{"initContainers":[`+containerWith("i", privileged)+`],`+plain+`}`),
			carries(kind, "sidecar", denyPrivileged, `{"initContainers":[`+containerWith("i", `"restartPolicy":"Always",`+privileged)+`],`+plain+`}`),
		)
	}
	inside.Trials = append(inside.Trials, Trial{
		Name: "ephemeral", Rule: denyPrivileged, Prepare: []call{newPod("victim")},
		Attempt: strategicPatch(pods+"/victim/ephemeralcontainers", `{"spec":{"ephemeralContainers":[`+containerWith("mine", privileged)+`]}}`),
		Effect:  fieldIs(pods+"/victim", "spec.ephemeralContainers.0.name", "mine"), Target: pods + "/victim",
	})
	host := Threat{ID: "S33", Title: "hostPath, privileged, hostPID", Verdict: Denied, Waits: waitsPodSecurity}
	for _, i := range []int{1, 0, 3} {
		host.Trials = append(host.Trials, carries(carriers()[0], fromNode()[i].name, denyPrivileged, fromNode()[i].spec))
	}
	asNode := Threat{
		ID: "S34", Title: "pods that run as a node's identity (nodeName, tolerations)", Verdict: Denied, Waits: waitsPodSecurity,
		Trials: []Trial{
			carries(carriers()[0], "nodeName", denyNodeName, pinned),
			carries(carriers()[4], "nodeName", denyTemplateNodeName, pinned),
		},
	}
	near := Threat{ID: "T59", Title: "pod pinned to a control-plane node", Verdict: Denied, Waits: waitsPodSecurity}
	for _, what := range []struct{ name, more string }{
		{"selected", `"nodeSelector":{"node-role.kubernetes.io/control-plane":""},`},
		{"tolerated", `"tolerations":[{"key":"node-role.kubernetes.io/control-plane","operator":"Exists","effect":"NoSchedule"}],`},
		{"all tolerated", `"tolerations":[{"operator":"Exists"}],`},
		{"by affinity", `"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"node-role.kubernetes.io/control-plane","operator":"Exists"}]}]}}},`},
	} {
		for _, kind := range []carrier{carriers()[0], carriers()[1], carriers()[4]} {
			near.Trials = append(near.Trials, carries(kind, what.name, denyControlPlane, podSpec(what.more)))
		}
		if strings.HasSuffix(what.name, "tolerated") {
			asNode.Trials = append(asNode.Trials, carries(carriers()[4], what.name, denyControlPlane, podSpec(what.more)))
		}
	}
	near.Trials = append(near.Trials, carries(carriers()[0], "by its name", denyNodeName, pinned))
	return []Threat{
		through, inside, near, host, asNode,
		{
			ID: "S37", Title: "ResourceClaims with admin access", Verdict: Denied, Waits: waitsPodSecurity,
			Trials: []Trial{
				adminAccess("a claim", "resourceclaims", `{"devices":{"requests":[{"name":"all","exactly":{"deviceClassName":"mine","allocationMode":"All","adminAccess":true}}]}}`),
				{
					Name: "the label of the namespace", Rule: denyAdminSpace,
					Attempt: mergePatch("/api/v1/namespaces/{ns}", `{"metadata":{"labels":{"resource.kubernetes.io/admin-access":"true"}}}`),
					Effect:  fieldHas("/api/v1/namespaces/{ns}", "metadata.labels", "admin-access:true"), Target: "/api/v1/namespaces/{ns}",
				},
				heldAs(creates("a DeviceClass", holdDevices, "/apis/resource.k8s.io/v1/deviceclasses/{ns}", `{"metadata":{"name":"{ns}"},"spec":{}}`)),
				adminAccess("a template", "resourceclaimtemplates", `{"spec":{"devices":{"requests":[{"name":"all","exactly":{"deviceClassName":"mine","allocationMode":"All","adminAccess":true}}]}}}`),
			},
		},
	}
}

// heldAs is a trial that is held where the others of its case are denied.
func heldAs(trial Trial) Trial {
	trial.Want = Held
	return trial
}

// adminAccess is asked for in a namespace that a person has labelled for it.
func adminAccess(name, resource, spec string) Trial {
	path := "/apis/resource.k8s.io/v1/namespaces/{ns}/" + resource
	return Trial{
		Name: name, Rule: denyAdminAccess,
		Prepare: []call{mergePatch("/api/v1/namespaces/{ns}", `{"metadata":{"labels":{"resource.kubernetes.io/admin-access":"true"}}}`)},
		Attempt: httpPost(path, `{"metadata":{"name":"mine"},"spec":`+spec+`}`), Effect: objectThere(path + "/mine"), Target: path + "/mine",
	}
}
