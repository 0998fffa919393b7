package e2e

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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
	// Rule is, as policy/rule, what must have led to a verdict other than Allowed.
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
	// Effect is nil once the attempt has had its effect, else it says what is missing.
	Effect func(*scene, answer) error
	// Target is the path of the object that must be as it was after a refusal.
	Target string
}

// Threats are the cases, in the order of the threat model.
func Threats() []Threat {
	all := slices.Concat(deletionThreats(), changeThreats(), placementThreats(), formThreats(), approvalThreats(), loadThreats())
	slices.SortFunc(all, func(a, b Threat) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// threatsAtOnce is how many cases are played at the same time.
const threatsAtOnce = 6

// TestThreats plays every case without Holdfast and then with it.
func TestThreats(t *testing.T) {
	t.Parallel() // it waits more than it works
	if testing.Short() {
		t.Skip("starts two control planes")
	}
	score := scoreboard{seen: map[string]map[string]bool{}}
	t.Run("off", func(t *testing.T) {
		c := up(t, func(config *local.Config) { config.Guard = false })
		play(t, newStage(t, c, false), &score)
	})
	t.Run("on", func(t *testing.T) {
		c := up(t, func(config *local.Config) {
			config.NoEvidence, config.NoAgent, config.Policies = true, true, "baseline"
		})
		s := newStage(t, c, true)
		play(t, s, &score)
	})
	fmt.Println(score.summary(Threats()))
}

// scoreboard notes which cases were seen as they should be.
type scoreboard struct {
	mu   sync.Mutex
	seen map[string]map[string]bool // by case, "off" and "on"
}

func (b *scoreboard) note(id, plane string, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen[id] == nil {
		b.seen[id] = map[string]bool{}
	}
	b.seen[id][plane] = ok
}

// summary counts the cases that were seen on both planes and names the others.
func (b *scoreboard) summary(cases []Threat) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var missing []string
	for _, c := range cases {
		if !b.seen[c.ID]["off"] || !b.seen[c.ID]["on"] {
			missing = append(missing, c.ID)
		}
	}
	out := fmt.Sprintf("threats: %d of %d cases covered", len(cases)-len(missing), len(cases))
	if len(missing) > 0 {
		out += "; not: " + strings.Join(missing, " ")
	}
	return out
}

// TestThreatsTable holds the table against itself.
func TestThreatsTable(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range Threats() {
		if seen[c.ID] || c.ID == "" || c.Title == "" || c.Verdict == "" {
			t.Errorf("case %q %q: want an ID of its own, a title and a verdict", c.ID, c.Title)
		}
		seen[c.ID] = true
		if (c.Verdict == Effect) != (c.Effect != "") {
			t.Errorf("%s: verdict %s beside effect %q", c.ID, c.Verdict, c.Effect)
		}
		if (len(c.Trials) > 0) == (c.Off != nil && c.On != nil) {
			t.Errorf("%s: want trials, or both Off and On", c.ID)
		}
		names := map[string]bool{}
		for _, trial := range c.Trials {
			if names[trial.Name] || (trial.Name == "" && len(c.Trials) > 1) {
				t.Errorf("%s: trial %q needs a name of its own", c.ID, trial.Name)
			}
			names[trial.Name] = true
			want := trial.verdict(&c)
			if (want == Allowed) != (trial.Rule == "") || want == Effect {
				t.Errorf("%s %s: verdict %s beside rule %q", c.ID, trial.Name, want, trial.Rule)
			}
			if trial.Effect == nil {
				t.Errorf("%s %s: nothing says whether it had its effect", c.ID, trial.Name)
			}
		}
	}
	for _, path := range packFiles(t) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for name := range strings.SplitSeq(string(data), "  - name: ") {
			rule, _, ok := strings.Cut(name, "\n")
			if !ok || strings.HasPrefix(name, "#") {
				continue
			}
			if !slices.ContainsFunc(Threats(), func(c Threat) bool {
				return slices.ContainsFunc(c.Trials, func(trial Trial) bool { return strings.HasSuffix(trial.Rule, "/"+rule) })
			}) {
				t.Errorf("%s: no case plays rule %s", path, rule)
			}
		}
	}
}

func packFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../manifests/policies/baseline/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("the baseline has %d files: %v", len(files), err)
	}
	return slices.DeleteFunc(files, func(name string) bool { return strings.HasSuffix(name, "_test.yaml") })
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
	cases := Threats()
	// Those that take minutes by themselves begin first.
	slices.SortStableFunc(cases, func(a, b Threat) int { return lengthOf(a.ID) - lengthOf(b.ID) })
	var group errgroup.Group
	group.SetLimit(threatsAtOnce)
	for _, c := range cases {
		group.Go(func() error {
			t.Run(c.ID, func(t *testing.T) {
				defer func() { score.note(c.ID, s.plane(), !t.Failed()) }()
				perform(t, s, &c)
			})
			return nil
		})
	}
	_ = group.Wait() // its functions return nothing
}

// lengthOf sorts the cases that take long before the others.
func lengthOf(id string) int {
	if id == "T68" {
		return 0
	}
	return 1
}

func perform(t *testing.T, s *stage, c *Threat) {
	t.Helper()
	story := c.Off
	if s.guarded {
		story = c.On
	}
	if story != nil {
		story(s.scene(t, c.ID, c.ID))
		return
	}
	for i, trial := range c.Trials {
		run := func(t *testing.T) {
			name := c.ID
			if trial.Agent != "" {
				name = trial.Agent
			}
			sc := s.scene(t, fmt.Sprintf("%s-%d", c.ID, i+1), name)
			trial.play(sc, trial.verdict(c))
		}
		if trial.Name == "" {
			run(t)
			continue
		}
		t.Run(trial.Name, run)
	}
}

// play makes the attempt and looks at what came of it.
func (trial *Trial) play(s *scene, want Verdict) {
	s.t.Helper()
	s.prepare(trial.Prepare...)
	if trial.Ready != nil {
		s.eventually("what is aimed at is there", func() error { return trial.Ready(s) })
	}
	if !s.guarded {
		a := s.attempt(trial.Attempt)
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
	s.expect(a, want, trial.Rule)
	if want == Allowed {
		s.eventually("what is allowed has its effect", func() error { return trial.Effect(s, a) })
		return
	}
	if err := trial.Effect(s, a); err == nil {
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

// expect holds an answer, and what the API server's audit log says of it, against a verdict.
func (s *scene) expect(a answer, want Verdict, rule string) {
	s.t.Helper()
	code, decided := map[Verdict]int{
		Denied: http.StatusForbidden, Held: http.StatusTooManyRequests, Unheld: http.StatusForbidden, Allowed: 0,
	}[want], map[Verdict]string{
		Denied: decision.Deny.String(), Held: decision.Hold.String(), Unheld: decision.Hold.String(), Allowed: decision.Allow.String(),
	}[want]
	if (want == Allowed && !a.ok()) || (want != Allowed && a.code != code) {
		s.t.Fatalf("want %s: %s", want, a)
	}
	if want != Allowed && !slices.Contains(a.rules(), rule) {
		s.t.Errorf("want %s by %s: %s", want, rule, a)
	}
	if retry := a.retryAfter(); (retry > 0) != (want == Held) {
		s.t.Errorf("want %s, which says retryAfterSeconds %d", want, retry)
	}
	if named := a.cause("HoldfastAccessRequest"); (named != "") != (want == Held) {
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

// effectTime is how long an effect may take: garbage collection and the namespace controller
// have to come by.
const effectTime = 90 * time.Second
