package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/holdfast-dev/holdfast/e2e/local"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// identityThreats are about who the agent is taken for, and where it works.
func identityThreats() []Threat {
	return []Threat{
		{
			ID: "T37", Title: "approval used by another identity, or on another cluster", Verdict: Effect,
			Effect: "another identity is held anew; what another cluster approved is denied",
			Rules:  []string{holdDelete}, Beyond: "that the fingerprint has the cluster in it: TestNew in pkg/access/fingerprint",
			Off: func(s *scene) {
				s.prepare(newPod("victim"))
				s.agent = s.declare("t37-other", local.HumanUser)
				s.succeed(httpDelete(pods+"/victim", ""))
				s.eventually("the pod is gone", func() error { return objectGone(pods+"/victim")(s, answer{}) })
			},
			On: anothersApproval,
		},
		{
			ID: "T49", Title: "agent labels a namespace or object to fall out of a match", Verdict: Effect, Effect: "same verdict",
			Rules:  []string{holdDelete, denyNodeName},
			Beyond: "a policy of one's own that looks at labels, which needs a rule for the label beside it",
			Off: func(s *scene) {
				s.label()
				s.succeed(httpDelete(pods+"/victim", ""))
				s.succeed(httpPost(pods, unlabelled))
			},
			On: func(s *scene) {
				s.label()
				s.expect(s.attempt(httpDelete(pods+"/victim", "")), Held, holdDelete)
				s.expect(s.attempt(httpPost(pods, unlabelled)), Denied, denyNodeName)
				s.mustExist(pods + "/victim")
			},
		},
		{
			ID: "T50", Title: "agent works in kube-system", Verdict: Effect, Effect: "same",
			Trials: []Trial{
				{
					Name: "a delete", Want: Held, Rule: holdDelete, Prepare: []call{httpPost(kubeSystem+"/pods", `{"metadata":{"name":"{ns}"},"spec":`+podSpec("")+`}`)},
					Attempt: httpDelete(kubeSystem+"/pods/{ns}", ""), Effect: objectGone(kubeSystem + "/pods/{ns}"), Target: kubeSystem + "/pods/{ns}",
				},
				{
					Name: "a pod on a node", Want: Denied, Rule: denyNodeName,
					Attempt: httpPost(kubeSystem+"/pods", `{"metadata":{"name":"{ns}"},"spec":`+pinned+`}`), Effect: objectThere(kubeSystem + "/pods/{ns}"),
				},
				{
					Name: "a ConfigMap", Want: Allowed,
					Attempt: httpPost(kubeSystem+"/configmaps", `{"metadata":{"name":"{ns}"}}`), Effect: objectThere(kubeSystem + "/configmaps/{ns}"),
				},
			},
		},
		{
			ID: "T54", Title: "a new service account in the agent's namespace", Verdict: Effect, Effect: "it is an agent too",
			Rules: []string{holdDelete},
			Off: func(s *scene) {
				s.prepare(newPod("victim"))
				s.agent = s.newAccount("t54-new")
				s.succeed(httpDelete(pods+"/victim", ""))
				s.eventually("the pod is gone", func() error { return objectGone(pods+"/victim")(s, answer{}) })
			},
			On: newAccountOfAgents,
		},
		{
			ID: "T55", Title: "a user whose name looks like an agent's", Verdict: Effect, Effect: "not confused, and the other way round",
			Rules: []string{holdDelete},
			Off: func(s *scene) {
				for i, name := range append(lookalikes, s.user()) {
					s.prepare(newConfigMap(fmt.Sprintf("victim-%d", i)))
					if a := s.asUser(name, httpDelete(fmt.Sprintf(configMaps+"/victim-%d", i), "")); !a.ok() {
						s.t.Errorf("the control failed for %s: %s", name, a)
					}
				}
			},
			On: confused,
		},
	}
}

const kubeSystem = "/api/v1/namespaces/kube-system"

// anothersApproval: what one agent got approved is nothing for another, who sends the same; and
// an approval that is carried in from elsewhere is nobody's word.
func anothersApproval(s *scene) {
	s.prepare(newPod("victim"))
	approved := s.accessRequest(s.attempt(httpDelete(pods+"/victim", "")))
	s.approve(approved)
	first := *s
	s.name = "t37-other"
	s.agent = s.declare(s.name, local.HumanUser)
	a := s.attempt(httpDelete(pods+"/victim", ""))
	s.expect(a, Held, holdDelete)
	own := s.accessRequest(a)
	if own == approved {
		s.t.Error("the approval of one agent's request stands for another's")
	}
	first.phase(approved, v1alpha1.Approved)

	// As from a backup of another cluster: by people, since agents may not write any of it.
	status := fmt.Sprintf("%v", fieldOf(s.read(requests+"/"+approved).object(), "status.fingerprint"))
	restored := s.send(s.admin, mergePatch(requests+"/"+own+"/status", fmt.Sprintf(`{"status":{"phase":"Approved","fingerprint":%q}}`, status)))
	if restored.code != http.StatusForbidden {
		s.t.Errorf("want the status of another request refused: %s", restored)
	}
	again := s.attempt(httpDelete(pods+"/victim", ""))
	s.expect(again, Held, holdDelete)
	s.mustExist(pods + "/victim")
	s.phase(own, v1alpha1.Pending)
}

// unlabelled is what is denied, with labels by which registrations often leave objects out.
var unlabelled = `{"metadata":{"name":"mine","labels":{"admission.kubernetes.io/ignore":"true","holdfast.dev/ignore":"true"}},"spec":` + pinned + `}`

// label is what an agent does to be left out, which is not forbidden.
func (s *scene) label() {
	s.t.Helper()
	s.prepare(newPod("victim"))
	const labels = `{"metadata":{"labels":{"admission.kubernetes.io/ignore":"true","control-plane":"true","holdfast.dev/ignore":"true"}}}`
	s.succeed(mergePatch("/api/v1/namespaces/{ns}", labels))
	s.succeed(mergePatch(pods+"/victim", labels))
}

// newAccount has the agent make a service account, and gives it a token and all rights.
func (s *scene) newAccount(name string) *caller {
	s.t.Helper()
	accounts := "/api/v1/namespaces/" + local.AgentNamespace + "/serviceaccounts"
	s.succeed(httpPost(accounts, `{"metadata":{"name":"`+name+`"}}`))
	s.prepare(httpPost(clusterBinds, fmt.Sprintf(
		`{"metadata":{"name":"threats:%[1]s"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"cluster-admin"},"subjects":[{"kind":"ServiceAccount","namespace":%[2]q,"name":%[1]q}]}`,
		name, local.AgentNamespace)))
	token := s.send(s.admin, httpPost(accounts+"/"+name+"/token", `{"spec":{}}`))
	if !token.ok() {
		s.t.Fatalf("token of %s: %s", name, token)
	}
	made := s.admin.as(s.t, fmt.Sprint(fieldOf(token.object(), "status.token")))
	made.agent = true
	return made
}

// newAccountOfAgents: nobody has declared it, and it may do nothing; once a name with a star
// declares it, it is an agent like the others.
func newAccountOfAgents(s *scene) {
	s.prepare(newPod("victim"))
	s.agent = s.newAccount("t54-new")
	s.name = "t54-new"
	a := s.attempt(httpDelete(pods+"/victim", ""))
	s.show(a)
	if a.code != http.StatusForbidden || !strings.Contains(a.body, "t54-new") {
		s.t.Errorf("want what nobody has declared denied: %s", a)
	}
	if a := s.attempt(newConfigMap("mine")); a.code != http.StatusForbidden {
		s.t.Errorf("want what nobody has declared denied: %s", a)
	}
	s.mustExist(pods + "/victim")
	s.prepare(httpPost(agents, `{"apiVersion":"holdfast.dev/v1alpha1","kind":"Agent","metadata":{"name":"t54-new"},"spec":{"subjects":[{"kind":"ServiceAccount","namespace":"agents","name":"t54-n*"}]}}`))
	s.eventually("it is declared", func() error { return s.compiled(agents + "/t54-new") })
	a = s.attempt(httpDelete(pods+"/victim", ""))
	s.expect(a, Held, holdDelete)
	s.accessRequest(a)
	s.succeed(newConfigMap("mine"))
}

// lookalikes are users who are no agents, whatever their names look like.
var lookalikes = []string{
	"t55", "agents:t55", "agent:t55", "system:serviceaccount:agents2:t55", "system:serviceaccount:Agents:t55", "system:serviceaccount:agent:s:t55",
	"xsystem:serviceaccount:agents:t55", "system:serviceaccounts:agents:t55", "system:serviceaccount:agents\u200b:t55",
}

// asUser sends a call under another name: as the API server has it after authentication, with
// all rights and none of the groups that a service account's name comes with.
func (s *scene) asUser(name string, c call) answer {
	s.t.Helper()
	a := s.send(s.admin, c.with("Impersonate-User", name).with("Impersonate-Group", "system:masters"))
	s.note(a.auditID, a.code)
	return a
}

// confused: who only looks like an agent is not one, and Holdfast is not even asked; who has an
// agent's name is that agent, whatever groups they come with.
func confused(s *scene) {
	for i, name := range lookalikes {
		s.prepare(newConfigMap(fmt.Sprintf("victim-%d", i)))
		a := s.asUser(name, httpDelete(fmt.Sprintf(configMaps+"/victim-%d", i), ""))
		if !a.ok() {
			s.t.Errorf("user %q is taken for an agent: %s", name, a)
			continue
		}
		if records := s.audit.decisions(s.t, a.auditID); len(records) > 0 {
			s.t.Errorf("Holdfast was asked about user %q: %+v", name, records)
		}
	}
	s.prepare(newConfigMap("victim"))
	a := s.asUser(s.user(), httpDelete(configMaps+"/victim?timeout="+patience, ""))
	s.expect(a, Held, holdDelete)
	s.eventually("it is this agent's request", func() error {
		for _, r := range s.audit.decisions(s.t, a.auditID) {
			if r.Decision == decision.Hold.String() && len(r.Agents) == 1 && r.Agents[0] == s.name {
				return nil
			}
		}
		return errors.New("no decision names the agent")
	})
	s.mustExist(configMaps + "/victim")
}
