package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"time"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/holdfast-dev/holdfast/e2e/local"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

const (
	// webhookTimeout is how long the API server waits for Holdfast, but for holding.
	webhookTimeout = 10 * time.Second
	// mostMemory is what Holdfast may use at most while it judges what is huge.
	mostMemory = 1 << 30
)

// engineThreats are hard to judge, or come while policies change.
func engineThreats() []Threat {
	return []Threat{
		{
			ID: "T44", Title: "an expression that runs long", Verdict: Effect, Effect: "decided (deny) before the webhook's timeout",
			Off: func(s *scene) { s.succeed(manyKeys("mine", 3000)) },
			On: func(s *scene) {
				// Nine million comparisons.
				s.policy(`
  agents: ["{agent}"]
  rules:
  - name: long
    match: {verbs: [create], apiGroups: [""], versions: [v1], resources: [configmaps], namespaces: ["{ns}"]}
    when: 'any(keys(object.data), any(keys(object.data), # == "never"))'
    action: Hold
`)
				a, took := s.timed(manyKeys("mine", 3000))
				s.expect(a, Denied, "t44/long")
				if took > webhookTimeout/2 {
					s.t.Errorf("it took %s", took)
				}
				if s.exists(configMaps+"/mine") == nil {
					s.t.Error("it was denied, and is there")
				}
				s.expect(s.attempt(manyKeys("few", 3)), Allowed, "")
			},
		},
		{
			ID: "T45", Title: "an object of 3 MB", Verdict: Effect, Effect: "decided in time", Rules: []string{denyTemplateNodeName},
			Control: "what is larger than 1.5 MB etcd refuses, after admission; what is smaller is stored",
			Off: func(s *scene) {
				s.succeed(bigRunner("large", 1200, ""))
				tooLarge(s, s.attempt(bigRunner("largest", 2900, "")))
			},
			On: func(s *scene) {
				for _, of := range []struct {
					name string
					c    call
					want Verdict
				}{
					{"large", bigRunner("large", 1200, ""), Allowed},
					{"large, denied", bigRunner("pinned", 1200, `,"template":{"spec":`+pinned+`}`), Denied},
					{"largest", bigRunner("largest", 2900, ""), Effect},
					{"largest, denied", bigRunner("largest", 2900, `,"template":{"spec":`+pinned+`}`), Denied},
				} {
					a, took := s.timed(of.c)
					if took > webhookTimeout {
						s.t.Errorf("%s: it took %s", of.name, took)
					}
					if of.want != Effect {
						s.expect(a, of.want, map[Verdict]string{Denied: denyTemplateNodeName}[of.want])
						continue
					}
					tooLarge(s, a)
					s.eventually("it was decided", func() error { return s.decided(a, decision.Allow) })
				}
			},
		},
		{
			ID: "T46", Title: "deeply nested or huge maps", Verdict: Effect, Effect: "no panic, memory bounded",
			Off: func(s *scene) {
				for name, c := range hugeObjects() {
					if a := s.attempt(c); !a.ok() {
						s.t.Errorf("the control failed: %s: %s", name, a)
					}
				}
			},
			On: huge,
		},
		{
			ID: "T47", Title: "policies reload under load", Verdict: Effect, Effect: "old or new, never none",
			Off: func(s *scene) { s.succeed(newConfigMap("mine")) },
			On:  reloaded,
		},
		{
			ID: "T48", Title: "a policy that does not compile", Verdict: Effect, Effect: "refused at apply, last good one in force",
			Beyond:  "one that was stored while Holdfast was down: TestLastGoodStays in pkg/kube",
			Control: "without Holdfast it is stored, and nobody knows that it means nothing",
			Off: func(s *scene) {
				if a := s.send(s.person, httpPost(policies, `{"apiVersion":"holdfast.dev/v1alpha1","kind":"AgentPolicy","metadata":{"name":"{ns}"},"spec":`+denyConfigMaps("broken", brokenWhen)+`}`)); !a.ok() {
					s.t.Errorf("the control failed: %s", a)
				}
				s.succeed(newConfigMap("mine"))
			},
			On: func(s *scene) {
				s.prepare(httpPost(policies, `{"apiVersion":"holdfast.dev/v1alpha1","kind":"AgentPolicy","metadata":{"name":"{ns}"},"spec":`+denyConfigMaps("good", `true`)+`}`))
				defer s.tidy([]call{httpDelete(policies+"/{ns}", "")})
				s.eventually("it is in force", func() error { return s.compiled(policies + "/{ns}") })
				if a := s.send(s.person, mergePatch(policies+"/{ns}", `{"spec":`+denyConfigMaps("broken", brokenWhen)+`}`)); a.ok() || a.code >= 500 {
					s.t.Errorf("want it refused: %s", a)
				}
				s.expect(s.attempt(newConfigMap("mine")), Denied, "t48/good")
			},
		},
	}
}

// brokenWhen is no expression.
const brokenWhen = `object.data[`

// denyConfigMaps is a policy's spec with one rule, for the scene alone.
func denyConfigMaps(name, when string) string {
	return fmt.Sprintf(`{"agents":["{agent}"],"rules":[{"name":%q,"match":{"verbs":["create"],"apiGroups":[""],"versions":["v1"],"resources":["configmaps"],"namespaces":["{ns}"]},"when":%q,"action":"Deny"}]}`, name, when)
}

// manyKeys is a ConfigMap with so many keys.
func manyKeys(name string, n int) call {
	var data strings.Builder
	for i := range n {
		fmt.Fprintf(&data, `,"k%d":"v"`, i)
	}
	return httpPost(configMaps, `{"metadata":{"name":"`+name+`"},"data":{`+strings.TrimPrefix(data.String(), ",")+`}}`)
}

// bigRunner is somebody's object of so many KiB.
func bigRunner(name string, kib int, more string) call {
	return httpPost(runners, runnerBody("v1", name, `{"text":"`+strings.Repeat("x", kib<<10)+`"`+more+`}`))
}

// tooLarge says that the store refused an object, which comes after all who judge.
func tooLarge(s *scene, a answer) {
	s.t.Helper()
	if a.ok() || a.code == http.StatusForbidden || !strings.Contains(a.body, "too large") && !strings.Contains(a.body, "larger than max") {
		s.t.Errorf("want it refused as too large: %s", a)
	}
}

// timed is an attempt, and how long Holdfast took to decide, which the API server writes down
// of requests that take longer than half a second.
func (s *scene) timed(c call) (answer, time.Duration) {
	s.t.Helper()
	c.path += "?timeout=30s"
	began := time.Now()
	a := s.attempt(c)
	took := time.Since(began)
	for _, e := range s.audit.find(s.t, func(e *auditv1.Event) bool { return string(e.AuditID) == a.auditID }) {
		if webhooks, err := time.ParseDuration(e.Annotations["apiserver.latency.k8s.io/validating-webhook"]); err == nil {
			s.t.Logf("it took %s, of which the webhooks %s", took, webhooks)
			return a, webhooks
		}
	}
	return a, took
}

// decided is nil once the audit log has that decision of an attempt.
func (s *scene) decided(a answer, want decision.Action) error {
	for _, r := range s.audit.decisions(s.t, a.auditID) {
		if r.Decision == want.String() {
			return nil
		}
	}
	return fmt.Errorf("no decision %s of %s", want, a.auditID)
}

// hugeObjects are deep, or wide, in ways that the API server itself takes.
func hugeObjects() map[string]call {
	nested := func(open, end string, n int) string { return strings.Repeat(open, n) + "1" + strings.Repeat(end, n) }
	var wide strings.Builder
	for i := range 60000 {
		fmt.Fprintf(&wide, `"k%d":{},`, i)
	}
	specs := strings.Repeat(`{"template":{"spec":{"containers":[{"name":"c"}]}}},`, 15000)
	return map[string]call{
		"deep maps":  httpPost(runners, runnerBody("v1", "deep-maps", nested(`{"a":`, `}`, 2000))),
		"deep lists": httpPost(runners, runnerBody("v1", "deep-lists", `{"a":`+nested(`[`, `]`, 2000)+`}`)),
		"wide":       httpPost(runners, runnerBody("v1", "wide", `{`+wide.String()+`"z":1}`)),
		"pod specs":  httpPost(runners, runnerBody("v1", "specs", `{"a":[`+strings.TrimSuffix(specs, ",")+`]}`)),
	}
}

// huge: Holdfast decides each, and is the same process afterwards.
func huge(s *scene) {
	before := s.c.run.PID(local.Webhook)
	for name, c := range hugeObjects() {
		a, took := s.timed(c)
		if !a.ok() && a.code != http.StatusForbidden && a.code != http.StatusTooManyRequests {
			s.t.Errorf("%s: want a decision: %s", name, a)
		}
		if took > webhookTimeout {
			s.t.Errorf("%s: it took %s", name, took)
		}
		if a.heldAs() != "" && name != "pod specs" {
			s.t.Errorf("%s has no pods, and is held: %s", name, a)
		}
		s.eventually("it is in the audit log", func() error {
			if len(s.audit.decisions(s.t, a.auditID)) == 0 {
				return fmt.Errorf("%s: no decision of %s", name, a.auditID)
			}
			return nil
		})
	}
	if after := s.c.run.PID(local.Webhook); after != before {
		s.t.Errorf("Holdfast was process %d and is %d", before, after)
	}
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", before))
	if err != nil {
		s.t.Log("its memory is not to be seen here")
		return
	}
	for line := range strings.Lines(string(data)) {
		var kib int
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err == nil && kib<<10 > mostMemory {
			s.t.Errorf("Holdfast used %d MiB", kib>>10)
		}
	}
	s.expect(s.attempt(newConfigMap("mine")), Allowed, "")
}

// reloaded: one policy is changed over and over, between two rules that deny the same, while
// the agent tries.
func reloaded(s *scene) {
	spec := func(name string) string { return `{"spec":` + denyConfigMaps(name, `true`) + `}` }
	s.prepare(httpPost(policies, `{"apiVersion":"holdfast.dev/v1alpha1","kind":"AgentPolicy","metadata":{"name":"{ns}"},"spec":`+denyConfigMaps("old", `true`)+`}`))
	defer s.tidy([]call{httpDelete(policies+"/{ns}", "")})
	s.eventually("it is in force", func() error { return s.compiled(policies + "/{ns}") })
	s.expect(s.attempt(newConfigMap("first")), Denied, "t47/old")
	var done atomic.Bool
	var olds, news atomic.Int32
	tried := make(chan struct{})
	go func() {
		defer close(tried)
		s.atOnce(4, func() (last answer) {
			for i := 0; !done.Load(); i++ {
				last = s.attempt(newConfigMap("mine"))
				switch rules := last.rules(); {
				case last.code != http.StatusForbidden:
					s.t.Errorf("want it denied: %s", last)
				case strings.Contains(fmt.Sprint(rules), "t47/old"):
					olds.Add(1)
				case strings.Contains(fmt.Sprint(rules), "t47/new"):
					news.Add(1)
				default:
					s.t.Errorf("want it denied by the old rule or the new: %s", last)
				}
			}
			return last
		})
	}()
	for i := range 30 {
		s.prepare(mergePatch(policies+"/{ns}", spec([]string{"new", "old"}[i%2])))
		time.Sleep(100 * time.Millisecond)
	}
	done.Store(true)
	<-tried
	if olds.Load() == 0 || news.Load() == 0 {
		s.t.Errorf("%d were denied by the old rule and %d by the new: want some of each", olds.Load(), news.Load())
	}
}
