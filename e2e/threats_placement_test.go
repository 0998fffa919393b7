package e2e

const (
	denyNodeName         = "baseline-pods/deny-node-name"
	denyTemplateNodeName = "baseline-pods/deny-template-node-name"
	denyBinding          = "baseline-pods/deny-binding"
	holdCustom           = "baseline-pods/hold-custom-workloads"
)

// pinned is a pod spec that goes past the scheduler.
var pinned = podSpec(`"nodeName":"control-plane",`)

// template is a spec with a pod template, as workloads have it.
func template(podSpec string) string {
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
					Attempt: post(pods+"/victim/binding", binding),
					Effect:  is(pods+"/victim", "spec.nodeName", "control-plane"), Target: pods + "/victim",
				},
				{
					Name: "bindings", Prepare: []call{newPod("victim")}, Rule: denyBinding,
					Attempt: post("/api/v1/namespaces/{ns}/bindings", binding),
					Effect:  is(pods+"/victim", "spec.nodeName", "control-plane"), Target: pods + "/victim",
				},
				{
					Name: "nodeName of a pod", Rule: denyNodeName,
					Attempt: post(pods, `{"metadata":{"name":"mine"},"spec":`+pinned+`}`),
					Effect:  there(pods + "/mine"), Target: pods + "/mine",
				},
				{
					Name: "nodeName of a template", Rule: denyTemplateNodeName,
					Attempt: post(deployments, `{"metadata":{"name":"mine"},"spec":`+template(pinned)+`}`),
					Effect:  there(deployments + "/mine"), Target: deployments + "/mine",
				},
				{
					Name: "nodeName into a template", Prepare: []call{newDeployment("web", 1)}, Rule: denyTemplateNodeName,
					Attempt: mergePatch(deployments+"/web", `{"spec":{"template":{"spec":{"nodeName":"control-plane"}}}}`),
					Effect:  is(deployments+"/web", "spec.template.spec.nodeName", "control-plane"), Target: deployments + "/web",
				},
			},
		},
		{
			ID: "T58", Title: "a workload kind of somebody's CRD that carries a pod template", Verdict: Held,
			Trials: []Trial{
				{
					Name: "where Deployments have it", Rule: holdCustom,
					Attempt: post(runners, runner("v1", "mine", template(podSpec("")))),
					Effect:  there(runners + "/mine"), Target: runners + "/mine",
				},
				{
					Name: "in a list", Rule: holdCustom,
					Attempt: post(runners, runner("v1", "mine", `{"replicatedJobs":[{"name":"a"},{"name":"b","jobTemplate":{"spec":`+template(podSpec(""))+`}}]}`)),
					Effect:  there(runners + "/mine"), Target: runners + "/mine",
				},
				{
					Name: "without containers", Rule: holdCustom,
					Attempt: post(runners, runner("v1", "mine", `{"workers":{"podTemplate":{"spec":{"hostNetwork":true}}}}`)),
					Effect:  there(runners + "/mine"), Target: runners + "/mine",
				},
				{
					Name: "afterwards", Rule: holdCustom, Prepare: []call{post(runners, runner("v1", "web", `{"replicas":1}`))},
					Attempt: mergePatch(runners+"/web", `{"spec":`+template(podSpec(""))+`}`),
					Effect:  is(runners+"/web", "spec.template.spec.containers.0.name", "c"), Target: runners + "/web",
				},
				{
					Name: "that says nothing of pods", Want: Allowed,
					Attempt: post(runners, runner("v1", "mine", `{"containers":["a name"],"size":3}`)),
					Effect:  there(runners + "/mine"),
				},
				{
					Name: "whose template stays as it is", Want: Allowed,
					Prepare: []call{post(runners, runner("v1", "web", template(podSpec(""))))},
					Attempt: mergePatch(runners+"/web", `{"spec":{"replicas":3}}`),
					Effect:  is(runners+"/web", "spec.replicas", 3),
				},
			},
		},
	}
}
