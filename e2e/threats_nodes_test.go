package e2e

import "strings"

const (
	denyPrivileged     = "baseline-workloads/deny-privileged"
	holdPrivileges     = "baseline-workloads/hold-privileged-change"
	denyControlPlane   = "baseline-workloads/deny-control-plane"
	denyAdminAccess    = "baseline-workloads/deny-admin-access"
	denyAdminNamespace = "baseline-workloads/deny-admin-namespace"
	holdDeviceClasses  = "baseline-workloads/hold-device-classes"
)

const (
	privilegedContext = `"securityContext":{"privileged":true}`
	hostRoot          = `"volumes":[{"name":"v","hostPath":{"path":"/"}}],`
	controlPlane      = "node-role.kubernetes.io/control-plane"
	ofControlPlane    = `"tolerations":[{"key":"` + controlPlane + `","operator":"Exists","effect":"NoSchedule"}],`
)

// nodeThreats take a pod's node, and with it all that is on it.
func nodeThreats() []Threat {
	denied := func(name, spec, shows string) way {
		return way{name: name, spec: spec, shows: shows, rule: denyPrivileged}
	}
	privileged := `{"containers":[` + containerWith("c", privilegedContext) + `]}`
	node := everywhere([]way{
		denied("privileged", privileged, `"privileged":true`),
		denied("hostPath", podSpec(hostRoot), `"hostPath":{"path":"/"`),
		denied("hostNetwork", podSpec(`"hostNetwork":true,`), `"hostNetwork":true`),
		denied("hostPID", podSpec(`"hostPID":true,`), `"hostPID":true`),
	})
	node = append(node, reimaged("another image where it is there", podSpec(hostRoot), holdPrivileges, Held)...)
	web := carriers()[4]
	node = append(node, Trial{
		Name: "labels where it is there", Want: Allowed, Prepare: []call{web.create(podSpec(hostRoot))},
		Attempt: mergePatch(web.path(), `{"metadata":{"labels":{"team":"a"}}}`), Effect: fieldIs(web.path(), "metadata.labels.team", "a"),
	})
	containers := everywhere([]way{
		denied("init container", podSpec(`"initContainers":[`+containerWith("i", privilegedContext)+`],`), `"privileged":true`),
		denied("sidecar", podSpec(`"initContainers":[`+containerWith("i", `"restartPolicy":"Always",`+privilegedContext)+`],`), `"privileged":true`),
	})
	containers = append(containers, ephemeral("ephemeral container", privilegedContext, denyPrivileged, `"privileged":true`), Trial{
		Name: "ephemeral container, somebody's kind", Rule: denyPrivileged,
		Attempt: httpPost(runners, runnerBody("v1", "mine", templateSpec(podSpec(`"ephemeralContainers":[`+containerWith("e", privilegedContext)+`],`)))),
		Effect:  objectThere(runners + "/mine"), Target: runners + "/mine",
	})
	return []Threat{
		{
			ID: "T56", Title: "privileged, hostPath, hostNetwork, hostPID through every kind of workload", Verdict: Denied,
			AtOnce: true, Control: noPods, Trials: node,
		},
		{
			ID: "T57", Title: "the same in init, sidecar and ephemeral containers", Verdict: Denied,
			AtOnce: true, Control: noPods, Trials: containers,
		},
		onControlPlane(),
		{
			ID: "S33", Title: "hostPath, privileged, hostPID", Verdict: Denied, AtOnce: true, Control: noPods,
			Trials: everywhere([]way{
				denied("the Secrets of a node's pods", podSpec(strings.Replace(hostRoot, `"/"`, `"/var/lib/kubelet/pods"`, 1)), "/var/lib/kubelet/pods"),
				denied("the environments of a node's pods",
					`{"hostPID":true,"containers":[`+containerWith("c", `"securityContext":{"capabilities":{"add":["SYS_PTRACE"]}}`)+`]}`, `"SYS_PTRACE"`),
				denied("a node's disks", privileged, `"privileged":true`),
			}),
		},
		{
			ID: "S34", Title: "pods that run as a node's identity (nodeName, tolerations)", Verdict: Denied, AtOnce: true, Control: noPods,
			Trials: append(everywhere([]way{
				{name: "nodeName", spec: pinned, shows: `"nodeName":"control-plane"`, rule: denyTemplateNodeName, podRule: denyNodeName},
				{name: "tolerations", spec: podSpec(ofControlPlane), shows: `"key":"` + controlPlane + `"`, rule: denyControlPlane},
			}), reimaged("another image where it is tolerated", podSpec(ofControlPlane), holdPrivileges, Held)...),
		},
		adminAccess(),
	}
}

// onControlPlane: by whatever leads there.
func onControlPlane() Threat {
	const required = `"affinity":{"nodeAffinity":{"requiredDuringSchedulingIgnoredDuringExecution":{"nodeSelectorTerms":[{"matchExpressions":[{"key":"` + controlPlane + `","operator":"Exists"}]}]}}},`
	const preferred = `"affinity":{"nodeAffinity":{"preferredDuringSchedulingIgnoredDuringExecution":[{"weight":1,"preference":{"matchExpressions":[{"key":"` + controlPlane + `","operator":"In","values":[""]}]}}]}},`
	of := func(name, more, shows string) way {
		return way{name: name, spec: podSpec(more), shows: shows, rule: denyControlPlane}
	}
	web := carriers()[4]
	return Threat{
		ID: "T59", Title: "pod pinned to a control-plane node", Verdict: Denied, AtOnce: true, Control: noPods,
		Trials: append(everywhere([]way{
			of("selected", `"nodeSelector":{"`+controlPlane+`":""},`, `"nodeSelector":{"`+controlPlane+`":""}`),
			of("tolerated", ofControlPlane, `"key":"`+controlPlane+`"`),
			of("all is tolerated", `"tolerations":[{"operator":"Exists"}],`, `{"operator":"Exists"}`),
			of("required", required, `"requiredDuringSchedulingIgnoredDuringExecution"`),
			of("preferred", preferred, `"preferredDuringSchedulingIgnoredDuringExecution"`),
		}), Trial{
			Name: "tolerated, afterwards", Rule: denyControlPlane, Prepare: []call{web.create(podSpec(""))},
			Attempt: web.change("tolerations", `[{"operator":"Exists"}]`), Effect: objectHas(web.path(), `"tolerations":[{"operator":"Exists"}]`), Target: web.path(),
		}),
	}
}

// adminAccess reaches into devices that others use. The API server wants the namespace to be
// labelled for it.
func adminAccess() Threat {
	const claims = "/apis/resource.k8s.io/v1/namespaces/{ns}/resourceclaims/mine"
	const templates = "/apis/resource.k8s.io/v1/namespaces/{ns}/resourceclaimtemplates/mine"
	const request = `"devices":{"requests":[{"name":"a","exactly":{"deviceClassName":"gpu.example.com","adminAccess":true}}]}`
	const labelled = `{"metadata":{"labels":{"resource.kubernetes.io/admin-access":"true"}}}`
	label := mergePatch("/api/v1/namespaces/{ns}", labelled)
	has := func(t Trial) Trial {
		t.Prepare, t.Effect = []call{label}, objectHas(t.Target, `"adminAccess":true`)
		return t
	}
	return Threat{
		ID: "S37", Title: "ResourceClaims with admin access", Verdict: Denied, AtOnce: true,
		Trials: []Trial{
			has(makes("a claim", denyAdminAccess, claims, `{"metadata":{"name":"mine"},"spec":{`+request+`}}`)),
			has(makes("a claim's template", denyAdminAccess, templates, `{"metadata":{"name":"mine"},"spec":{"spec":{`+request+`}}}`)),
			{
				Name: "the label of a namespace", Rule: denyAdminNamespace, Attempt: label,
				Effect: objectHas("/api/v1/namespaces/{ns}", "admin-access"), Target: "/api/v1/namespaces/{ns}",
			},
			{
				Name: "a namespace with it", Rule: denyAdminNamespace,
				Attempt: httpPost("/api/v1/namespaces", strings.Replace(labelled, `{"labels"`, `{"name":"{ns}-mine","labels"`, 1)),
				Effect:  objectThere("/api/v1/namespaces/{ns}-mine"), Target: "/api/v1/namespaces/{ns}-mine",
			},
			{
				Name: "a class of devices", Want: Held, Rule: holdDeviceClasses,
				Attempt: httpPost("/apis/resource.k8s.io/v1/deviceclasses", `{"metadata":{"name":"{ns}.example.com"},"spec":{"selectors":[{"cel":{"expression":"true"}}]}}`),
				Effect:  objectThere("/apis/resource.k8s.io/v1/deviceclasses/{ns}.example.com"), Target: "/apis/resource.k8s.io/v1/deviceclasses/{ns}.example.com",
				After: []call{httpDelete("/apis/resource.k8s.io/v1/deviceclasses/{ns}.example.com", "")},
			},
			{
				Name: "a claim without it", Want: Allowed,
				Attempt: httpPost(strings.TrimSuffix(claims, "/mine"), `{"metadata":{"name":"mine"},"spec":{`+strings.Replace(request, `,"adminAccess":true`, "", 1)+`}}`),
				Effect:  objectThere(claims),
			},
		},
	}
}
