package e2e

import (
	"fmt"
	"strings"
)

// applied is a Deployment for server-side apply.
func applied(replicas int) string {
	return `{"apiVersion":"apps/v1","kind":"Deployment",` + strings.TrimPrefix(workloadBody("web", replicas), "{")
}

// formThreats are the forms in which one request can come: none is a way around a rule.
func formThreats() []Threat {
	threats := []Threat{
		{
			ID: "T26", Title: "server-side apply that creates", Verdict: Effect, Effect: "as create",
			Trials: []Trial{
				{
					Name: "what is denied", Want: Denied, Rule: denyNodeName,
					Attempt: applyPatch(pods+"/mine?fieldManager=agent", `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"mine"},"spec":`+pinned+`}`),
					Effect:  objectThere(pods + "/mine"), Target: pods + "/mine",
				},
				{
					Name: "what is held", Want: Held, Rule: holdCustom,
					Attempt: applyPatch(runners+"/mine?fieldManager=agent", runnerBody("v1", "mine", templateSpec(podSpec("")))),
					Effect:  objectThere(runners + "/mine"), Target: runners + "/mine",
				},
				{
					Name: "what is allowed", Want: Allowed,
					Attempt: applyPatch(deployments+"/web?fieldManager=agent", applied(2)),
					Effect:  objectThere(deployments + "/web"),
				},
			},
		},
		{
			ID: "T27", Title: "apply with force-conflicts", Verdict: Effect, Effect: "as update",
			Trials: []Trial{
				{
					Name: "down", Want: Held, Prepare: []call{applyPatch(deployments+"/web?fieldManager=person", applied(2))}, Rule: holdReplicas,
					Attempt: applyPatch(deployments+"/web?fieldManager=agent&force=true", applied(0)),
					Effect:  fieldIs(deployments+"/web", "spec.replicas", 0), Target: deployments + "/web",
				},
				{
					Name: "up", Want: Allowed, Prepare: []call{applyPatch(deployments+"/web?fieldManager=person", applied(2))},
					Attempt: applyPatch(deployments+"/web?fieldManager=agent&force=true", applied(3)),
					Effect:  fieldIs(deployments+"/web", "spec.replicas", 3),
				},
			},
		},
		putThatCreates(),
		patchForms(), otherVersions(), newKind(),
		{
			ID: "T32", Title: "generateName", Verdict: Effect, Effect: "rules without a name still match",
			Trials: []Trial{
				{
					Name: "what is denied", Want: Denied, Rule: denyNodeName,
					Attempt: httpPost(pods, `{"metadata":{"generateName":"mine-"},"spec":`+pinned+`}`),
					Effect:  objectNamed(pods, "mine-"),
				},
				{
					Name: "what is held", Want: Held, Rule: holdCustom,
					Attempt: httpPost(runners, strings.Replace(runnerBody("v1", "mine-", templateSpec(podSpec(""))), `"name"`, `"generateName"`, 1)),
					Effect:  objectNamed(runners, "mine-"),
				},
			},
		},
	}
	return threats
}

// putThatCreates: of some kinds a PUT makes what is not there. The baseline has no rule on
// those, so that two more policies tell a create from an update.
func putThatCreates() Threat {
	const services, limits = "/api/v1/namespaces/{ns}/services", "/api/v1/namespaces/{ns}/limitranges"
	const leases = "/apis/coordination.k8s.io/v1/namespaces/{ns}/leases"
	policy := func(name, verb, resource, action string) string {
		return fmt.Sprintf(`
  agents: ["{agent}"]
  rules:
  - {name: %s, match: {verbs: [%s], resources: [%s], namespaces: ["{ns}"]}, action: %s}
`, name, verb, resource, action)
	}
	return Threat{
		ID: "T28", Title: "PUT that creates", Verdict: Effect, Effect: "as create",
		Trials: []Trial{
			{
				Name: "what is denied", Want: Denied, Rule: "t28-1/deny-creates", Policy: policy("deny-creates", "create", "limitranges", "Deny"),
				Attempt: httpPut(limits+"/mine", `{"metadata":{"name":"mine"},"spec":{"limits":[{"type":"Pod","max":{"cpu":"1"}}]}}`),
				Effect:  objectThere(limits + "/mine"), Target: limits + "/mine",
			},
			{
				Name: "what is held", Want: Held, Rule: "t28-2/hold-creates", Policy: policy("hold-creates", "create", "services", "Hold"),
				Attempt: httpPut(services+"/mine", `{"metadata":{"name":"mine"},"spec":{"ports":[{"port":80}]}}`),
				Effect:  objectThere(services + "/mine"), Target: services + "/mine",
			},
			{
				Name: "what is denied as an update", Want: Allowed, Policy: policy("deny-updates", "update", "leases", "Deny"),
				Attempt: httpPut(leases+"/mine", `{"metadata":{"name":"mine"},"spec":{"holderIdentity":"me"}}`),
				Effect:  objectThere(leases + "/mine"),
			},
		},
	}
}

// patchForms: what counts is the object that comes of a patch, not how it is written.
func patchForms() Threat {
	threat := Threat{ID: "T29", Title: "JSON, merge, strategic patch of one field", Verdict: Effect, Effect: "the verdict on the merged object"}
	web := deployments + "/web"
	for _, to := range []struct {
		name     string
		replicas int
		want     Verdict
		rule     string
	}{{"down", 0, Held, holdReplicas}, {"up", 3, Allowed, ""}} {
		field := fmt.Sprintf(`{"spec":{"replicas":%d}}`, to.replicas)
		for _, patch := range []struct {
			name string
			call
		}{
			{"JSON", jsonPatch(web, fmt.Sprintf(`[{"op":"replace","path":"/spec/replicas","value":%d}]`, to.replicas))},
			{"JSON, in steps", jsonPatch(web, fmt.Sprintf(`[{"op":"remove","path":"/spec/replicas"},{"op":"add","path":"/spec/replicas","value":%d}]`, to.replicas))},
			{"merge", mergePatch(web, field)},
			{"strategic", strategicPatch(web, field)},
		} {
			threat.Trials = append(threat.Trials, Trial{
				Name: patch.name + ", " + to.name, Want: to.want, Rule: to.rule, Prepare: []call{newDeployment("web", 2)},
				Attempt: patch.call, Effect: fieldIs(web, "spec.replicas", to.replicas), Target: web,
			})
		}
	}
	// Null is the default, which is one.
	threat.Trials = append(threat.Trials, Trial{
		Name: "merge, null", Want: Held, Rule: holdReplicas, Prepare: []call{newDeployment("web", 2)},
		Attempt: mergePatch(web, `{"spec":{"replicas":null}}`), Effect: fieldIs(web, "spec.replicas", 1), Target: web,
	})
	return threat
}

func otherVersions() Threat {
	threat := Threat{ID: "T30", Title: "another API version of the kind", Verdict: Effect, Effect: "same"}
	for _, of := range []struct{ version, path string }{{"v1", runners}, {"v1beta1", runnersV1beta1}} {
		version, path := of.version, of.path
		made := []call{httpPost(runners, runnerBody("v1", "web", `{"replicas":2}`))}
		threat.Trials = append(threat.Trials,
			Trial{
				Name: "create in " + version, Want: Held, Rule: holdCustom,
				Attempt: httpPost(path, runnerBody(version, "mine", templateSpec(podSpec("")))), Effect: objectThere(runners + "/mine"), Target: runners + "/mine",
			},
			Trial{
				Name: "scale in " + version, Want: Held, Rule: holdScale, Prepare: made,
				Attempt: mergePatch(path+"/web/scale", `{"spec":{"replicas":0}}`), Effect: fieldIs(runners+"/web", "spec.replicas", 0), Target: runners + "/web",
			},
			Trial{
				Name: "delete in " + version, Want: Held, Rule: holdDelete, Prepare: made,
				Attempt: httpDelete(path+"/web", ""), Effect: objectGone(runners + "/web"), Target: runners + "/web",
			},
		)
	}
	return threat
}

// newKind is a kind that comes after the policies. RBAC decides under the baseline, and a
// policy's own default under another.
func newKind() Threat {
	const group = "t31.example.com"
	const path = "/apis/" + group + "/v1/namespaces/{ns}/runners"
	body := fmt.Sprintf(`{"apiVersion":%q,"kind":"Runner","metadata":{"name":"mine"},"spec":{"size":3}}`, group+"/v1")
	defined := func(s *scene) error {
		if s.exists(path) == nil {
			return nil
		}
		s.kind(s.t, group)
		return nil
	}
	return Threat{
		ID: "T31", Title: "a new CRD's kind", Verdict: Effect, Effect: "the policy's default",
		Trials: []Trial{
			{
				Name: "allow", Want: Allowed, Ready: defined, Attempt: httpPost(path, body), Effect: objectThere(path + "/mine"),
			},
			{
				Name: "deny", Want: Denied, Agent: "T31-strict", Rule: "t31-2",
				Policy: `
  agents: ["{agent}"]
  default: Deny
`,
				Ready: defined, Attempt: httpPost(path, body), Effect: objectThere(path + "/mine"), Target: path + "/mine",
			},
			{
				Name: "hold", Want: Held, Agent: "T31-careful", Rule: "t31-3",
				Policy: `
  agents: ["{agent}"]
  default: Hold
`,
				Ready: defined, Attempt: httpPost(path, body), Effect: objectThere(path + "/mine"), Target: path + "/mine",
			},
		},
	}
}
