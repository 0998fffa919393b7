package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-dev/holdfast/e2e/local"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// Verdict is what must happen to what an agent tries.
type Verdict string

// The verdicts.
const (
	// Denied: 403, and nothing has happened.
	Denied Verdict = "D"
	// Held: 429 with a time to come back, an AccessRequest that waits, and nothing has
	// happened. Once approved, the same request goes through and has its effect.
	Held Verdict = "H"
	// Unheld: 403 by a rule that holds, for what cannot wait; nothing is opened.
	Unheld Verdict = "H, refused"
	// Allowed: it goes through, and Holdfast was asked.
	Allowed Verdict = "A"
	// Unasked: it goes through; Holdfast has nothing to say, or is not asked.
	Unasked Verdict = "A, by RBAC"
	// Effect: what the case's Effect names.
	Effect Verdict = "E"
)

// Threat is one case of the threat model: what an agent who is cluster-admin tries, and what
// must come of it. It is played on a control plane without Holdfast, where it must succeed,
// and on one with Holdfast and its baseline policies, where its verdict must be seen.
type Threat struct {
	// ID and Title are those of the threat model.
	ID, Title string
	Verdict   Verdict
	// Effect is what must be seen where the verdict is Effect.
	Effect string
	// Control says what the control shows where it is not that the attempt succeeds.
	Control string
	// Beyond says what of the case is not played here, and which test plays it.
	Beyond string
	// Waits says what has to be there before the case can be played; it is not before.
	Waits string
	// Unseen: what is attempted does not reach the API server, so that Postgres has nothing
	// of it.
	Unseen bool
	// Alone: it is played when all others are over, since it would be in their way.
	Alone bool
	// AtOnce: its trials are in nobody's way, and played at the same time.
	AtOnce bool
	// Rules are those that lead to the verdict, where On does not say it in trials.
	Rules []string
	// Trials are the ways in which the agent tries; of most cases there is one.
	Trials []Trial
	// Off and On are played instead of Trials where those cannot tell the story.
	Off, On func(*scene)
}

// Trial is one attempt.
type Trial struct {
	// Name tells the trials of a case apart.
	Name string
	// Want is this trial's verdict. Default: the case's.
	Want Verdict
	// Rule is, as policy/rule, what must have led to a verdict other than Allowed; or the name
	// of a static policy of the API server's.
	Rule string
	// Policy is the spec of one more AgentPolicy, beside the baseline.
	Policy string
	// Agent is who tries, where it is not the case's own agent.
	Agent string
	// Prepare makes what the attempt is aimed at, as a person.
	Prepare []call
	// Ready says when what was prepared can be aimed at.
	Ready func(*scene) error
	// Attempt is what the agent sends.
	Attempt call
	// Passes looks at the control's answer where it cannot be a success: nil means that it
	// went past authorization and admission. The case's Control says why.
	Passes func(answer) error
	// Effect is nil once the attempt has had its effect, else it says what is missing.
	Effect func(*scene, answer) error
	// Target is the path of the object that must be as it was after a refusal.
	Target string
	// After removes what would be in the way of other cases, as a person, whatever came of
	// the attempt.
	After []call
}

// played says whether there is anything to play.
func (c *Threat) played() bool { return len(c.Trials) > 0 || c.On != nil }

// Threats are all cases of the threat model in its order: T01 to T80, and S01 to S39.
func Threats() []Threat {
	all := slices.Concat(
		deletionThreats(), changeThreats(), placementThreats(), formThreats(), approvalThreats(), loadThreats(),
		connectionThreats(), accessThreats(), clusterThreats(), ownThreats(), identityThreats(), engineThreats(), evidenceThreats(),
		mountThreats(), asOtherThreats(), fetchingThreats(), nodeThreats(), copyThreats(), readThreats(), grantThreats(),
	)
	slices.SortFunc(all, func(a, b Threat) int {
		if a.ID[:1] != b.ID[:1] {
			return strings.Compare(b.ID, a.ID) // routes around a rule before ways to a Secret
		}
		return strings.Compare(a.ID, b.ID)
	})
	return all
}

// threatsAtOnce is how many cases are played at the same time.
const threatsAtOnce = 6

// trialsAtOnce is how many trials of a case are, where they may. Of one agent ten calls may
// wait.
const trialsAtOnce = 6

// TestThreats plays every case without Holdfast and then with it, and looks for what was
// attempted in Postgres.
func TestThreats(t *testing.T) {
	t.Parallel() // it waits more than it works
	if testing.Short() {
		t.Skip("starts two control planes")
	}
	score := scoreboard{trials: map[string][]*trialResult{}}
	t.Run("off", func(t *testing.T) {
		c := up(t, func(config *local.Config) { config.Guard, config.NoEvidence = false, true })
		play(t, newStage(t, c, false), &score)
	})
	t.Run("on", func(t *testing.T) {
		c := up(t, func(config *local.Config) { config.NoAgent, config.Policies = true, "baseline" })
		s := newStage(t, c, true)
		play(t, s, &score)
		t.Run("evidence", func(t *testing.T) { score.evidence(t, s, c.database(t)) })
	})
	score.report(t)
}

func (trial *Trial) verdict(c *Threat) Verdict {
	if trial.Want != "" {
		return trial.Want
	}
	return c.Verdict
}

// play plays all cases on one control plane.
func play(t *testing.T, s *stage, score *scoreboard) {
	t.Helper()
	cases := slices.DeleteFunc(Threats(), func(c Threat) bool { return c.Waits != "" || !c.played() })
	// Those that take minutes by themselves begin first.
	slices.SortStableFunc(cases, func(a, b Threat) int { return lengthOf(a.ID) - lengthOf(b.ID) })
	run := func(c *Threat) { t.Run(c.ID, func(t *testing.T) { perform(t, s, c, score) }) }
	var group errgroup.Group
	group.SetLimit(threatsAtOnce)
	for _, c := range cases {
		if !c.Alone {
			group.Go(func() error {
				run(&c)
				return nil
			})
		}
	}
	_ = group.Wait() // its functions return nothing
	for _, c := range cases {
		if c.Alone {
			run(&c)
		}
	}
}

// lengthOf sorts the cases that take long before the others.
func lengthOf(id string) int {
	if id == "T68" {
		return 0
	}
	return 1
}

func perform(t *testing.T, s *stage, c *Threat, score *scoreboard) {
	t.Helper()
	story := c.Off
	if s.guarded {
		story = c.On
	}
	if story != nil {
		sc := s.scene(t, c.ID, c.ID)
		defer func() { score.note(sc, c, 0, "", c.Verdict) }()
		story(sc)
		return
	}
	var group errgroup.Group
	group.SetLimit(1)
	if c.AtOnce {
		group.SetLimit(trialsAtOnce)
	}
	for i, trial := range c.Trials {
		run := func(t *testing.T) {
			name := c.ID
			if trial.Agent != "" {
				name = trial.Agent
			}
			sc := s.scene(t, fmt.Sprintf("%s-%d", c.ID, i+1), name)
			defer func() { score.note(sc, c, i, trial.Name, trial.verdict(c)) }()
			trial.play(sc, trial.verdict(c))
		}
		if trial.Name == "" {
			run(t)
			continue
		}
		group.Go(func() error {
			t.Run(trial.Name, run)
			return nil
		})
	}
	_ = group.Wait() // its functions return nothing
}

// play makes the attempt and looks at what came of it.
func (trial *Trial) play(s *scene, want Verdict) {
	s.t.Helper()
	defer s.tidy(trial.After)
	s.prepare(trial.Prepare...)
	if trial.Ready != nil {
		s.eventually("what is aimed at is there", func() error { return trial.Ready(s) })
	}
	if !s.guarded {
		a := s.attempt(trial.Attempt)
		if trial.Passes != nil {
			if err := trial.Passes(a); err != nil {
				s.t.Fatalf("the control failed: %v", err)
			}
			return
		}
		if !a.ok() {
			s.t.Fatalf("the control failed: %s", a)
		}
		s.eventually("the control has its effect", func() error { return trial.Effect(s, a) })
		return
	}
	if trial.Policy != "" {
		s.policy(trial.Policy)
	}
	before := s.snapshot(trial.Target)
	a := s.attempt(trial.Attempt)
	if want == Unasked {
		s.unasked(a, trial.Passes)
	} else {
		s.expect(a, want, trial.Rule)
	}
	if want == Allowed || want == Unasked {
		if trial.Effect == nil {
			return // there is nobody to have it on
		}
		s.eventually("what is allowed has its effect", func() error { return trial.Effect(s, a) })
		return
	}
	if trial.Effect != nil && trial.Effect(s, a) == nil {
		s.t.Errorf("%s, and yet it had its effect", a)
	}
	if after := s.snapshot(trial.Target); after != before {
		s.t.Errorf("the target has changed:\n%s\nbefore:\n%s", after, before)
	}
	if want == Held {
		s.approve(s.accessRequest(a))
		again := s.attempt(trial.Attempt)
		if !again.ok() {
			s.t.Fatalf("approved, and yet: %s", again)
		}
		s.eventually("what was approved has its effect", func() error { return trial.Effect(s, again) })
	}
}

// unasked says that a request went through, or as far as its control can go.
func (s *scene) unasked(a answer, passes func(answer) error) {
	s.t.Helper()
	s.show(a)
	if passes != nil {
		if err := passes(a); err != nil {
			s.t.Error(err)
		}
	} else if !a.ok() {
		s.t.Fatalf("want it let pass: %s", a)
	}
}

// staticPolicy is how the names end of what the API server reads from Holdfast's files.
const staticPolicy = ".static.k8s.io"

// tidy sends calls as a person; what was never made cannot be removed.
func (s *scene) tidy(calls []call) {
	for _, c := range calls {
		c = s.filled(c)
		// The test's own context may have ended.
		_ = s.person.send(context.WithoutCancel(s.t.Context()), c)
	}
}

// expect holds an answer, and what the API server's audit log says of it, against a verdict.
func (s *scene) expect(a answer, want Verdict, rule string) {
	s.t.Helper()
	s.show(a)
	code, decided := map[Verdict]int{
		Denied: http.StatusForbidden, Held: http.StatusTooManyRequests, Unheld: http.StatusForbidden, Allowed: 0,
	}[want], map[Verdict]string{
		Denied: decision.Deny.String(), Held: decision.Hold.String(), Unheld: decision.Hold.String(), Allowed: decision.Allow.String(),
	}[want]
	if (want == Allowed && !a.ok()) || (want != Allowed && a.code != code) {
		s.t.Fatalf("want %s: %s", want, a)
	}
	if strings.HasSuffix(rule, staticPolicy) {
		if !strings.Contains(a.status.Message, rule) {
			s.t.Errorf("want %s by %s: %s", want, rule, a)
		}
		return // and Holdfast was not asked any more
	}
	if want != Allowed && !slices.Contains(a.rules(), rule) {
		s.t.Errorf("want %s by %s: %s", want, rule, a)
	}
	if retry := a.retryAfter(); (retry > 0) != (want == Held) {
		s.t.Errorf("want %s, which says retryAfterSeconds %d", want, retry)
	}
	if named := a.heldAs(); (named != "") != (want == Held) {
		s.t.Errorf("want %s, which names AccessRequest %q", want, named)
	}
	s.eventually("the audit log has the decision", func() error {
		records := s.audit.decisions(s.t, a.auditID)
		if !slices.ContainsFunc(records, func(r decision.Record) bool {
			return r.Decision == decided && (want == Allowed || slices.Contains(r.Rules, rule))
		}) {
			return fmt.Errorf("audit event %s has decisions %+v, want %s by %s", a.auditID, records, decided, rule)
		}
		return nil
	})
}

// show lets an answer stand for its trial in the results, if it is the first.
func (s *scene) show(a answer) {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	if s.seen.shown == nil {
		s.seen.shown = &a
	}
}

// effectTime is how long an effect may take: garbage collection and the namespace controller
// have to come by.
const effectTime = 90 * time.Second
