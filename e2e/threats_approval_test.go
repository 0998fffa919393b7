package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// approvalThreats try to get more out of an approval than was approved.
func approvalThreats() []Threat {
	return []Threat{
		{
			ID: "T33", Title: "dry-run", Verdict: Effect, Effect: "same verdict, nothing opened, nothing used",
			Control: "a dry run succeeds and changes nothing",
			Off: func(s *scene) {
				s.prepare(newPod("victim"))
				s.succeed(httpDelete(pods+"/victim?dryRun=All", ""))
				s.succeed(httpPost(pods+"?dryRun=All", `{"metadata":{"name":"mine"},"spec":`+pinned+`}`))
				s.succeed(newDryConfigMap())
				if names := s.names(pods); !slices.Equal(names, []string{"victim"}) {
					s.t.Errorf("pods %v, want victim", names)
				}
			},
			On: dryRun,
		},
		{
			ID: "T34", Title: "held by dry-run, then real", Verdict: Effect, Effect: "held, nothing carried over",
			Off: func(s *scene) {
				s.prepare(newPod("victim"))
				s.succeed(httpDelete(pods+"/victim?dryRun=All", ""))
				s.succeed(httpDelete(pods+"/victim", ""))
				s.eventually("the pod is gone", func() error { return objectGone(pods+"/victim")(s, answer{}) })
			},
			On: func(s *scene) {
				s.prepare(newPod("victim"))
				s.expect(s.attempt(httpDelete(pods+"/victim?dryRun=All", "")), Unheld, holdDelete)
				a := s.attempt(httpDelete(pods+"/victim", ""))
				s.expect(a, Held, holdDelete)
				s.accessRequest(a)
				s.onlyRequests(v1alpha1.Pending)
				s.mustExist(pods + "/victim")
			},
		},
		{
			ID: "T35", Title: "approved, then the change or the target's spec changed", Verdict: Effect, Effect: "held anew, old approval unused",
			Off: func(s *scene) {
				s.prepare(newDeployment("web", 3))
				s.succeed(mergePatch(deployments+"/web", `{"spec":{"replicas":1}}`))
				s.eventually("it is scaled down", func() error { return fieldIs(deployments+"/web", "spec.replicas", 1)(s, answer{}) })
			},
			On: changedAfterApprovalAgain,
		},
		{
			ID: "T36", Title: "approved and used, then replayed", Verdict: Effect, Effect: "held anew",
			Off: func(s *scene) {
				s.prepare(newDeployment("web", 3))
				down := mergePatch(deployments+"/web", `{"spec":{"replicas":0}}`)
				s.succeed(down)
				s.prepare(mergePatch(deployments+"/web", `{"spec":{"replicas":3}}`))
				s.succeed(down)
				s.eventually("it is scaled down", func() error { return fieldIs(deployments+"/web", "spec.replicas", 0)(s, answer{}) })
			},
			On: replayed,
		},
		{
			ID: "T38", Title: "agent reviews its own request", Verdict: Denied,
			Control: "Holdfast's kinds are there, and nobody refuses the Review",
			Off: func(s *scene) {
				if a := s.review(s.agent, "somebodys-1"); !a.ok() {
					s.t.Errorf("the control failed: %s", a)
				}
			},
			On: func(s *scene) {
				s.prepare(newPod("victim"))
				request := s.accessRequest(s.attempt(httpDelete(pods+"/victim", "")))
				// The second is another agent of the same people.
				for _, who := range []*caller{s.agent, s.declare("t38-friend", "human")} {
					// The webhook that stamps Reviews says it, which is asked first of all.
					a := s.review(who, request)
					s.show(a)
					if a.code != http.StatusForbidden || !strings.Contains(a.status.Message, "agents may not review") {
						s.t.Errorf("want the Review refused: %s", a)
					}
					s.noReviews(request)
				}
				s.phase(request, v1alpha1.Pending)
				if a := s.attempt(httpDelete(pods+"/victim", "")); a.code != http.StatusTooManyRequests {
					s.t.Errorf("want it held still: %s", a)
				}
				s.mustExist(pods + "/victim")
			},
		},
		{
			ID: "T72", Title: "two identical approved requests at once", Verdict: Effect, Effect: "exactly one effect",
			Off: func(s *scene) {
				s.atOnce(2, func() answer { return s.attempt(generatedRunner("mine-")) })
				if names := s.names(runners); len(names) != 2 {
					s.t.Errorf("runners %v, want two", names)
				}
			},
			On: func(s *scene) {
				for round := range 3 {
					prefix := fmt.Sprintf("mine%d-", round)
					s.approve(s.accessRequest(s.attempt(generatedRunner(prefix))))
					answers := s.atOnce(8, func() answer { return s.attempt(generatedRunner(prefix)) })
					passed := 0
					for _, a := range answers {
						if a.ok() {
							passed++
						}
					}
					if made := s.made(prefix); made != 1 || passed != 1 {
						s.t.Errorf("round %d: %d of %d passed and %d exist, want one: %v", round, passed, len(answers), made, answers)
					}
				}
			},
		},
		{
			ID: "T73", Title: "approved request sent with ?timeout=3ms, cut off, or during an etcd stall", Verdict: Effect, Effect: "at most one effect",
			Beyond: "an etcd stall, which would reach all other cases",
			Off: func(s *scene) {
				// What was reported as failed may exist.
				for name, attempt := range map[string]func(call, int){
					"given-up-": func(c call, ms int) { s.send(s.agent, shortly(c, ms)) },
					"cut-off-":  s.cutOff,
				} {
					for try := 0; s.made(name) < 2; try++ {
						if try == 200 {
							s.t.Fatalf("%s: 200 attempts made fewer than two", name)
						}
						attempt(generatedRunner(name), 1+try%10)
					}
				}
			},
			On: func(s *scene) {
				for round := range 6 {
					prefix := fmt.Sprintf("mine%d-", round)
					s.approve(s.accessRequest(s.attempt(generatedRunner(prefix))))
					for try := range 8 {
						milliseconds := 1 + (round*8+try)%10
						s.send(s.agent, shortly(generatedRunner(prefix), milliseconds))
						s.cutOff(generatedRunner(prefix), milliseconds)
					}
					s.attempt(generatedRunner(prefix))
					if made := s.made(prefix); made > 1 {
						s.t.Errorf("round %d: %d exist, want one at most", round, made)
					}
				}
			},
		},
		ownerApproves(),
	}
}

func newDryConfigMap() call {
	c := newConfigMap("mine")
	c.path += "?dryRun=All"
	return c
}

// generatedRunner creates one more object each time that it is sent.
func generatedRunner(prefix string) call {
	return httpPost(runners, strings.Replace(runnerBody("v1", prefix, templateSpec(podSpec(""))), `"name"`, `"generateName"`, 1))
}

// shortly is a call that the API server gives up after some milliseconds, whatever may have
// come of it.
func shortly(c call, milliseconds int) call {
	c.path += fmt.Sprintf("?timeout=%dms", milliseconds)
	return c
}

// cutOff is a call whose client goes away after some milliseconds.
func (s *scene) cutOff(c call, milliseconds int) {
	ctx, cancel := context.WithTimeout(s.t.Context(), time.Duration(milliseconds)*time.Millisecond)
	defer cancel()
	_ = s.agent.send(ctx, s.filled(c)) // nobody is there to hear it
}

// dryRun: a dry run is judged like the real thing. It opens no request, and an approval for
// the real thing stays.
func dryRun(s *scene) {
	s.prepare(newPod("victim"))
	s.expect(s.attempt(httpDelete(pods+"/victim?dryRun=All", "")), Unheld, holdDelete)
	s.expect(s.attempt(httpPost(pods+"?dryRun=All", `{"metadata":{"name":"mine"},"spec":`+pinned+`}`)), Denied, denyNodeName)
	s.expect(s.attempt(newDryConfigMap()), Allowed, "")
	s.onlyRequests()

	request := s.accessRequest(s.attempt(httpDelete(pods+"/victim", "")))
	s.approve(request)
	s.expect(s.attempt(httpDelete(pods+"/victim?dryRun=All", "")), Unheld, holdDelete)
	s.phase(request, v1alpha1.Approved)
	s.onlyRequests(v1alpha1.Approved)
	s.mustExist(pods + "/victim")
	s.succeed(httpDelete(pods+"/victim", ""))
}

// changedAfterApprovalAgain: the approval is for that change of that object as it was.
func changedAfterApprovalAgain(s *scene) {
	web := deployments + "/web"
	down := mergePatch(web, `{"spec":{"replicas":1}}`)
	s.prepare(newDeployment("web", 3))
	approved := s.accessRequest(s.attempt(down))
	s.approve(approved)
	still := func(what string, c call) {
		s.t.Helper()
		before := s.snapshot(web)
		a := s.attempt(c)
		s.expect(a, Held, holdReplicas)
		if request := s.accessRequest(a); request == approved {
			s.t.Errorf("%s: the old approval stands for it", what)
		}
		if after := s.snapshot(web); after != before {
			s.t.Errorf("%s: the target has changed:\n%s\nbefore:\n%s", what, after, before)
		}
		s.phase(approved, v1alpha1.Approved)
	}
	still("another change", mergePatch(web, `{"spec":{"replicas":0}}`))
	still("one that carries more", mergePatch(web, `{"spec":{"replicas":1,"paused":true}}`))
	s.prepare(mergePatch(web, `{"spec":{"template":{"spec":{"serviceAccountName":"other"}}}}`))
	still("another spec of the target", down)

	// Deleted and made anew it is another object, even if it looks the same.
	s.prepare(newPod("victim"))
	approved = s.accessRequest(s.attempt(httpDelete(pods+"/victim", "")))
	s.approve(approved)
	s.prepare(httpDelete(pods+"/victim", ""), newPod("victim"))
	a := s.attempt(httpDelete(pods+"/victim", ""))
	s.expect(a, Held, holdDelete)
	if request := s.accessRequest(a); request == approved {
		s.t.Error("the approval stands for another object of that name")
	}
	s.mustExist(pods + "/victim")
}

func replayed(s *scene) {
	web := deployments + "/web"
	down := mergePatch(web, `{"spec":{"replicas":0}}`)
	s.prepare(newDeployment("web", 3))
	used := s.accessRequest(s.attempt(down))
	s.approve(used)
	s.succeed(down)
	s.prepare(mergePatch(web, `{"spec":{"replicas":3}}`))
	a := s.attempt(down)
	s.expect(a, Held, holdReplicas)
	if request := s.accessRequest(a); request == used {
		s.t.Error("the approval was used twice")
	}
	if err := fieldIs(web, "spec.replicas", 3)(s, answer{}); err != nil {
		s.t.Error(err)
	}
}

// ownerApproves: an owner who is an approver does not count for their own agent, and another
// approver does.
func ownerApproves() Threat {
	return Threat{
		ID: "T79", Title: "owner approves own agent, one person with two names by impersonation", Verdict: Effect, Effect: "not counted, flagged",
		Beyond:  "names by impersonation: TestTestimony/Impersonated, which needs the audit stream",
		Control: "Holdfast's kinds are there, and nobody refuses the Review",
		Off: func(s *scene) {
			if a := s.review(s.person, "somebodys-1"); !a.ok() {
				s.t.Errorf("the control failed: %s", a)
			}
		},
		On: func(s *scene) {
			s.name = "t79-owned"
			s.agent = s.declare(s.name, "approver")
			s.prepare(newPod("victim"))
			request := s.accessRequest(s.attempt(httpDelete(pods+"/victim", "")))
			a := s.review(s.reviewers[approver], request)
			if a.code != http.StatusForbidden || !strings.Contains(a.body, "the agent's owner does not count") {
				s.t.Errorf("want a refusal of the owner's review: %s", a)
			}
			s.noReviews(request)
			s.phase(request, v1alpha1.Pending)
			if a := s.attempt(httpDelete(pods+"/victim", "")); a.code != http.StatusTooManyRequests {
				s.t.Errorf("want it held still: %s", a)
			}
			s.mustExist(pods + "/victim")
			// The same person's word counts for somebody else's agent.
			if a := s.review(s.reviewers[approver2], request); !a.ok() {
				s.t.Errorf("the other approver: %s", a)
			}
			s.phase(request, v1alpha1.Approved)
			s.succeed(httpDelete(pods+"/victim", ""))
		},
	}
}

// mustExist is the state that nothing has happened.
func (s *scene) mustExist(path string) {
	s.t.Helper()
	a := s.read(path)
	if !a.ok() || fieldOf(a.object(), "metadata.deletionTimestamp") != nil {
		s.t.Errorf("%s should be there as it was: %s", s.expand(path), a)
	}
}

// onlyRequests says in which phases the agent's requests are, all of them.
func (s *scene) onlyRequests(want ...v1alpha1.Phase) {
	s.t.Helper()
	var got []v1alpha1.Phase
	for _, r := range s.requests() {
		got = append(got, r.Status.Phase)
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("the agent's requests are %v, want %v", got, want)
	}
}

// noReviews says that nobody's word is kept of a request.
func (s *scene) noReviews(request string) {
	s.t.Helper()
	list, ok := fieldOf(s.read("/apis/holdfast.dev/v1alpha1/reviews").object(), "items").([]any)
	if !ok {
		s.t.Fatal("reviews cannot be listed")
	}
	for _, r := range list {
		if fieldOf(r, "spec.accessRequest") == request {
			s.t.Errorf("there is a Review of %s: %v", request, r)
		}
	}
}

// made is how many Runners have names that start so.
func (s *scene) made(prefix string) int {
	s.t.Helper()
	n := 0
	for _, name := range s.names(runners) {
		if strings.HasPrefix(name, prefix) {
			n++
		}
	}
	return n
}

// atOnce makes n attempts at the same moment.
func (s *scene) atOnce(n int, attempt func() answer) []answer {
	s.t.Helper()
	answers := make([]answer, n)
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range answers {
		wg.Go(func() {
			<-start
			answers[i] = attempt()
		})
	}
	close(start)
	wg.Wait()
	return answers
}
