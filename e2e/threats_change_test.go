package e2e

import "fmt"

const (
	holdScale      = "baseline-scaling/hold-scale-down"
	holdReplicas   = "baseline-scaling/hold-replicas-down"
	holdAutoscaler = "baseline-scaling/hold-autoscaler-max"
	holdStatus     = "baseline-status/hold-status"
)

// scalable are objects with two replicas, each with what makes it.
func scalable() []struct {
	name, path string
	made       call
} {
	return []struct {
		name, path string
		made       call
	}{
		{"deployments", deployments + "/web", newDeployment("web", 2)},
		{"statefulsets", statefulSets + "/web", httpPost(statefulSets, workloadBody("web", 2))},
		{"replicasets", replicaSets + "/web", httpPost(replicaSets, workloadBody("web", 2))},
		{"replicationcontrollers", controllers + "/web", httpPost(controllers,
			`{"metadata":{"name":"web"},"spec":{"replicas":2,"selector":{"app":"web"},"template":{"metadata":{"labels":{"app":"web"}},"spec":`+podSpec("")+`}}}`)},
		{"somebody's kind", runners + "/web", httpPost(runners, runnerBody("v1", "web", `{"replicas":2}`))},
	}
}

// autoscaler is the body of an autoscaler of up to five replicas, in the fields that both
// versions have.
func autoscaler(most int) string {
	return fmt.Sprintf(`{"metadata":{"name":"web"},"spec":{"scaleTargetRef":{"apiVersion":"apps/v1","kind":"Deployment","name":"web"},"minReplicas":1,"maxReplicas":%d}}`, most)
}

// changeThreats are changes that end pods, or are no business of an agent's.
func changeThreats() []Threat {
	scale := Threat{ID: "T14", Title: "deployments/scale to 0", Verdict: Held}
	replicas := Threat{ID: "T15", Title: "patch spec.replicas to 0", Verdict: Held}
	for _, of := range scalable() {
		scale.Trials = append(scale.Trials, Trial{
			Name: of.name, Prepare: []call{of.made}, Rule: holdScale,
			Attempt: mergePatch(of.path+"/scale", `{"spec":{"replicas":0}}`),
			Effect:  fieldIs(of.path, "spec.replicas", 0), Target: of.path,
		})
		replicas.Trials = append(replicas.Trials, Trial{
			Name: of.name, Prepare: []call{of.made}, Rule: holdReplicas,
			Attempt: mergePatch(of.path, `{"spec":{"replicas":0}}`),
			Effect:  fieldIs(of.path, "spec.replicas", 0), Target: of.path,
		})
	}
	scale.Trials = append(scale.Trials, Trial{
		Name: "by replacing the scale", Prepare: []call{newDeployment("web", 2)}, Rule: holdScale,
		Attempt: httpPut(deployments+"/web/scale", `{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{"name":"web","namespace":"{ns}"},"spec":{}}`),
		Effect:  fieldIs(deployments+"/web", "spec.replicas", 0), Target: deployments + "/web",
	})
	return []Threat{
		scale, replicas,
		{
			ID: "T16", Title: "HPA with maxReplicas lowered", Verdict: Held,
			Beyond: "a new HPA with fewer than there are: to make one is ordinary work",
			Trials: []Trial{{
				Prepare: []call{httpPost(autoscalers, autoscaler(5))}, Rule: holdAutoscaler,
				Attempt: mergePatch(autoscalers+"/web", `{"spec":{"maxReplicas":1}}`),
				Effect:  fieldIs(autoscalers+"/web", "spec.maxReplicas", 1), Target: autoscalers + "/web",
			}},
		},
		{
			ID: "T17", Title: "pods/resize", Verdict: Held,
			Trials: []Trial{{
				Prepare: []call{newPod("victim")}, Rule: "baseline-pods/hold-resize",
				Attempt: strategicPatch(pods+"/victim/resize", `{"spec":{"containers":[{"name":"c","resources":{"requests":{"cpu":"1m"},"limits":{"cpu":"2m"}}}]}}`),
				Effect:  fieldIs(pods+"/victim", "spec.containers.0.resources.limits.cpu", "2m"), Target: pods + "/victim",
			}},
		},
		{
			ID: "T18", Title: "pods/ephemeralcontainers", Verdict: Held,
			Trials: []Trial{{
				Prepare: []call{newPod("victim")}, Rule: "baseline-pods/hold-ephemeral-containers",
				Attempt: strategicPatch(pods+"/victim/ephemeralcontainers", `{"spec":{"ephemeralContainers":[{"name":"mine","image":"registry.invalid/mine:1"}]}}`),
				Effect:  fieldIs(pods+"/victim", "spec.ephemeralContainers.0.name", "mine"), Target: pods + "/victim",
			}},
		},
		{
			ID: "T24", Title: "patch */status", Verdict: Effect, Effect: "by policy, never silently allowed",
			Trials: []Trial{
				{
					Name: "of a pod", Want: Held, Prepare: []call{newPod("victim")}, Rule: holdStatus,
					Attempt: mergePatch(pods+"/victim/status", `{"status":{"phase":"Failed"}}`),
					Effect:  fieldIs(pods+"/victim", "status.phase", "Failed"),
				},
				{
					Name: "of a node", Want: Held, Rule: holdStatus,
					Prepare: []call{httpPost("/api/v1/nodes", `{"metadata":{"name":"{ns}"}}`)},
					Attempt: mergePatch("/api/v1/nodes/{ns}/status", `{"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.7"}]}}`),
					Effect:  fieldIs("/api/v1/nodes/{ns}", "status.addresses.0.address", "192.0.2.7"),
				},
				{
					Name: "of somebody's kind", Want: Held, Rule: holdStatus,
					Prepare: []call{httpPost(runners, runnerBody("v1", "web", `{"replicas":1}`))},
					Attempt: mergePatch(runners+"/web/status", `{"status":{"ready":true}}`),
					Effect:  fieldIs(runners+"/web", "status.ready", true),
				},
				{
					Name: "a policy that denies", Want: Denied, Rule: "t24-4/deny-status",
					Policy: `
  agents: ["{agent}"]
  rules:
  - {name: deny-status, match: {verbs: [update], resources: ["*/status"], namespaces: ["{ns}"]}, action: Deny}
`,
					Prepare: []call{newPod("victim")},
					Attempt: mergePatch(pods+"/victim/status", `{"status":{"phase":"Failed"}}`),
					Effect:  fieldIs(pods+"/victim", "status.phase", "Failed"),
				},
			},
		},
		{
			ID: "T80", Title: "object fields under another API version (autoscaling/v1 and v2)", Verdict: Effect, Effect: "same verdict or D",
			Trials: []Trial{
				{
					Name: "v2", Want: Held, Prepare: []call{httpPost(autoscalers, autoscaler(5))}, Rule: holdAutoscaler,
					Attempt: httpPut(autoscalers+"/web", autoscaler(1)),
					Effect:  fieldIs(autoscalers+"/web", "spec.maxReplicas", 1), Target: autoscalers + "/web",
				},
				{
					Name: "v1", Want: Held, Prepare: []call{httpPost(autoscalers, autoscaler(5))}, Rule: holdAutoscaler,
					Attempt: httpPut(autoscalersV1+"/web", autoscaler(1)),
					Effect:  fieldIs(autoscalers+"/web", "spec.maxReplicas", 1), Target: autoscalers + "/web",
				},
				{
					Name: "a version that a rule does not know", Want: Denied, Rule: "t80-3/v2-alone",
					// metrics is a field of v2; in v1 the same stands elsewhere, and goes by unseen.
					Policy: `
  agents: ["{agent}"]
  rules:
  - name: v2-alone
    match: {verbs: [update], apiGroups: [autoscaling], versions: [v2], resources: [horizontalpodautoscalers], namespaces: ["{ns}"]}
    when: object.spec.metrics != oldObject.spec.metrics
    action: Hold
`,
					Prepare: []call{httpPost(autoscalers, autoscaler(5))},
					Attempt: mergePatch(autoscalersV1+"/web", `{"spec":{"targetCPUUtilizationPercentage":1}}`),
					Effect:  fieldIs(autoscalersV1+"/web", "spec.targetCPUUtilizationPercentage", 1), Target: autoscalers + "/web",
				},
			},
		},
	}
}
