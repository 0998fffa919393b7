package e2e

const (
	denyNodeName         = "baseline-pods/deny-node-name"
	denyTemplateNodeName = "baseline-pods/deny-template-node-name"
	denyBinding          = "baseline-pods/deny-binding"
	holdCustom           = "baseline-pods/hold-custom-workloads"
)

// pinned is a pod spec that goes past the scheduler.
var pinned = podSpec(`"nodeName":"control-plane",`)

// templateSpec is a spec with a pod template, as workloads have it.
func templateSpec(podSpec string) string {
	return `{"selector":{"matchLabels":{"app":"w"}},"template":{"metadata":{"labels":{"app":"w"}},"spec":` + podSpec + `}}`
}

// placementThreats put pods where, or by whom, they should not be.
func placementThreats() []Threat {
	binding := `{"apiVersion":"v1","kind":"Binding","metadata":{"name":"victim"},"target":{"apiVersion":"v1","kind":"Node","name":"control-plane"}}`
	return []Threat{
		{
			ID: "T25", Title: "pods/binding, nodeName preset", Verdict: Denied,
			Trials: []Trial{
				{
					Name: "pods/binding", Prepare: []call{newPod("victim")}, Rule: denyBinding,
					Attempt: httpPost(pods+"/victim/binding", binding),
					Effect:  fieldIs(pods+"/victim", "spec.nodeName", "control-plane"), Target: pods + "/victim",
				},
				{
					Name: "bindings", Prepare: []call{newPod("victim")}, Rule: denyBinding,
					Attempt: httpPost("/api/v1/namespaces/{ns}/bindings", binding),
					Effect:  fieldIs(pods+"/victim", "spec.nodeName", "control-plane"), Target: pods + "/victim",
				},
				{
					Name: "nodeName of a pod", Rule: denyNodeName,
					Attempt: httpPost(pods, `{"metadata":{"name":"mine"},"spec":`+pinned+`}`),
					Effect:  objectThere(pods + "/mine"), Target: pods + "/mine",
				},
				{
					Name: "nodeName of a template", Rule: denyTemplateNodeName,
					Attempt: httpPost(deployments, `{"metadata":{"name":"mine"},"spec":`+templateSpec(pinned)+`}`),
					Effect:  objectThere(deployments + "/mine"), Target: deployments + "/mine",
				},
				{
					Name: "nodeName into a template", Prepare: []call{newDeployment("web", 1)}, Rule: denyTemplateNodeName,
					Attempt: mergePatch(deployments+"/web", `{"spec":{"template":{"spec":{"nodeName":"control-plane"}}}}`),
					Effect:  fieldIs(deployments+"/web", "spec.template.spec.nodeName", "control-plane"), Target: deployments + "/web",
				},
			},
		},
		{
			ID: "T58", Title: "a workload kind of somebody's CRD that carries a pod template", Verdict: Held,
			Trials: []Trial{
				{
					Name: "where Deployments have it", Rule: holdCustom,
					Attempt: httpPost(runners, runnerBody("v1", "mine", templateSpec(podSpec("")))),
					Effect:  objectThere(runners + "/mine"), Target: runners + "/mine",
				},
				{
					Name: "in a list", Rule: holdCustom,
					Attempt: httpPost(runners, runnerBody("v1", "mine", `{"replicatedJobs":[{"name":"a"},{"name":"b","jobTemplate":{"spec":`+templateSpec(podSpec(""))+`}}]}`)),
					Effect:  objectThere(runners + "/mine"), Target: runners + "/mine",
				},
				{
					Name: "without containers", Rule: holdCustom,
					Attempt: httpPost(runners, runnerBody("v1", "mine", `{"workers":{"podTemplate":{"spec":{"dnsPolicy":"Default"}}}}`)),
					Effect:  objectThere(runners + "/mine"), Target: runners + "/mine",
				},
				{
					Name: "afterwards", Rule: holdCustom, Prepare: []call{httpPost(runners, runnerBody("v1", "web", `{"replicas":1}`))},
					Attempt: mergePatch(runners+"/web", `{"spec":`+templateSpec(podSpec(""))+`}`),
					Effect:  fieldIs(runners+"/web", "spec.template.spec.containers.0.name", "c"), Target: runners + "/web",
				},
				{
					Name: "that says nothing of pods", Want: Allowed,
					Attempt: httpPost(runners, runnerBody("v1", "mine", `{"containers":["a name"],"size":3}`)),
					Effect:  objectThere(runners + "/mine"),
				},
				{
					Name: "whose template stays as it is", Want: Allowed,
					Prepare: []call{httpPost(runners, runnerBody("v1", "web", templateSpec(podSpec(""))))},
					Attempt: mergePatch(runners+"/web", `{"spec":{"replicas":3}}`),
					Effect:  fieldIs(runners+"/web", "spec.replicas", 3),
				},
			},
		},
	}
}
