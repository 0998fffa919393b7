package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// threatsOut names a file for the results, as JSON. Beside it goes one of the same name that
// ends in .txt, with what is not covered and why, and the count as its last line.
const threatsOut = "HOLDFAST_THREATS_OUT"

// caseResult is what became of one case.
type caseResult struct {
	Case    string         `json:"case"`
	Title   string         `json:"title"`
	Wanted  string         `json:"verdict"`
	Trials  []*trialResult `json:"trials"`
	Covered bool           `json:"covered"`
	// Why says why not.
	Why string `json:"why,omitempty"`
}

// trialResult is one attempt, on both control planes.
type trialResult struct {
	Name string     `json:"name,omitempty"`
	Off  *attempted `json:"off,omitempty"`
	On   *attempted `json:"on,omitempty"`
	// Seen is the verdict that was seen.
	Seen string `json:"seen"`
	// Postgres: all that was attempted in it is there, with all decisions of Holdfast.
	Postgres bool `json:"postgres"`

	offOK, onOK bool
	all         []attempted
	missing     error
}

// attempted is one request of an agent, and what the API server's audit log has of it.
type attempted struct {
	Code     int      `json:"code"`
	AuditID  string   `json:"auditID"`
	Decision string   `json:"decision,omitempty"`
	Rules    []string `json:"rules,omitempty"`
}

// scoreboard notes what was seen of each case.
type scoreboard struct {
	mu     sync.Mutex
	trials map[string][]*trialResult // by case
}

// note keeps what was seen of a trial on one control plane.
func (b *scoreboard) note(s *scene, c *Threat, index int, name string, want Verdict) {
	s.seen.mu.Lock()
	sent, shown := slices.Clone(s.seen.attempts), s.seen.shown
	s.seen.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.trials[c.ID]) <= index {
		b.trials[c.ID] = append(b.trials[c.ID], &trialResult{})
	}
	r := b.trials[c.ID][index]
	r.Name = name
	first := representative(sent, shown)
	if !s.guarded {
		r.Off, r.offOK = first, !s.t.Failed()
		return
	}
	r.On, r.all, r.onOK = first, sent, !s.t.Failed()
	r.Seen = seenVerdict(s, shown, want)
}

// representative is the attempt that stands for all of a trial; nil where the API server saw
// none.
func representative(sent []attempted, shown *answer) *attempted {
	for _, a := range sent {
		if shown == nil || a.AuditID == shown.auditID {
			return &a
		}
	}
	return nil
}

// seenVerdict is the verdict as it was seen; that of a story is what its last line found.
func seenVerdict(s *scene, shown *answer, want Verdict) string {
	switch {
	case s.t.Failed():
		return "not as it should be"
	case want == Effect || shown == nil:
		return string(want)
	case shown.ok():
		return string(Allowed)
	case shown.code == http.StatusTooManyRequests:
		return string(Held)
	default:
		return string(want) // expect has looked at its decision
	}
}

// evidence looks for all attempts in Postgres: each has to be there, with each decision that
// the API server's audit log has of it.
func (b *scoreboard) evidence(t *testing.T, s *stage, db *pgxpool.Pool) {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	var ids []string
	for _, trials := range b.trials {
		for _, r := range trials {
			for i := range r.all {
				ids = append(ids, r.all[i].AuditID)
			}
		}
	}
	deadline := time.Now().Add(3 * time.Minute)
	for {
		stored, err := storedAttempts(t.Context(), db, ids)
		if err != nil {
			t.Fatal(err)
		}
		missing := b.compare(t, s, stored)
		if missing == nil {
			t.Logf("%d attempts, all of them in Postgres", len(ids))
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("not within three minutes: %v", missing)
			return
		}
		time.Sleep(500 * time.Millisecond)
	}
}

// compare says of each trial whether Postgres has it, and returns what it has not.
func (b *scoreboard) compare(t *testing.T, s *stage, stored map[string][]string) error {
	t.Helper()
	var missing []error
	for id, trials := range b.trials {
		for _, r := range trials {
			r.missing = nil
			for _, a := range r.all {
				have, there := stored[a.AuditID]
				if !there {
					r.missing = fmt.Errorf("%s %s: attempt %s is not in Postgres", id, r.Name, a.AuditID)
				}
				for _, d := range s.audit.decisions(t, a.AuditID) {
					if d.ID == forgedDecision {
						continue // it is no decision, and need not be kept
					}
					if !slices.ContainsFunc(have, func(text string) bool { return strings.Contains(text, d.ID) }) {
						r.missing = fmt.Errorf("%s %s: decision %s of attempt %s is not in Postgres", id, r.Name, d.ID, a.AuditID)
					}
					if r.On != nil && r.On.AuditID == a.AuditID {
						r.On.Decision, r.On.Rules = strictest(r.On.Decision, d.Decision), union(r.On.Rules, d.Rules)
					}
				}
			}
			r.Postgres = r.missing == nil && len(r.all) > 0
			if r.missing != nil {
				missing = append(missing, r.missing)
			}
		}
	}
	return errors.Join(missing...)
}

func strictest(a, b string) string {
	one, errA := decision.ParseAction(a)
	other, errB := decision.ParseAction(b)
	switch {
	case errA != nil:
		return b
	case errB != nil:
		return a
	default:
		return decision.Strictest(one, other).String()
	}
}

func union(a, b []string) []string {
	all := slices.Concat(a, b)
	slices.Sort(all)
	return slices.Compact(all)
}

// storedAttempts are the IDs of the decisions that Postgres has, by audit ID, and what was
// answered; an attempt that Holdfast decided nothing of has no ID.
func storedAttempts(ctx context.Context, db *pgxpool.Pool, ids []string) (map[string][]string, error) {
	rows, err := db.Query(ctx, `
		SELECT e.audit_id, coalesce(d.decision_id, '') || ' ' || coalesce(e.response_message, '')
		FROM audit_events e LEFT JOIN audit_decisions d USING (stage_timestamp, event_digest)
		WHERE e.stage IN ('ResponseComplete', 'Panic') AND e.audit_id = ANY($1)`, ids)
	if err != nil {
		return nil, err
	}
	stored := map[string][]string{}
	var id, made string
	_, err = pgx.ForEachRow(rows, []any{&id, &made}, func() error {
		stored[id] = append(stored[id], made)
		return nil
	})
	return stored, err
}

// results are those of all cases of the threat model, played or not.
func (b *scoreboard) results(cases []Threat) []caseResult {
	b.mu.Lock()
	defer b.mu.Unlock()
	results := make([]caseResult, 0, len(cases))
	for _, c := range cases {
		r := caseResult{Case: c.ID, Title: c.Title, Wanted: c.wanted(), Trials: b.trials[c.ID]}
		r.Why = c.uncovered(r.Trials)
		r.Covered = r.Why == ""
		results = append(results, r)
	}
	return results
}

// wanted is the verdict in words.
func (c *Threat) wanted() string {
	if c.Verdict == Effect {
		return string(Effect) + " " + c.Effect
	}
	return string(c.Verdict)
}

// uncovered says why a case is not covered by its results; empty where it is.
func (c *Threat) uncovered(trials []*trialResult) string {
	switch {
	case c.Waits != "":
		return "not played yet: waits for " + c.Waits
	case !c.played():
		return "not played yet"
	case len(trials) < max(1, len(c.Trials)):
		return "not all of it was played"
	}
	for _, r := range trials {
		name := ""
		if r.Name != "" {
			name = ": " + r.Name
		}
		switch {
		case !r.offOK:
			return "the control is not as it should be" + name
		case !r.onOK:
			return "the verdict is not as it should be" + name
		case !r.Postgres && !c.Unseen:
			return "the attempt is not in Postgres" + name
		}
	}
	return ""
}

// summary is one line for each case that is not covered, and the count as the last line.
func summary(results []caseResult) string {
	var out strings.Builder
	covered := 0
	for _, r := range results {
		if r.Covered {
			covered++
			continue
		}
		fmt.Fprintf(&out, "%s %s: %s\n", r.Case, r.Title, r.Why)
	}
	fmt.Fprintf(&out, "threats: %d of %d covered, %d not\n", covered, len(results), len(results)-covered)
	return out.String()
}

// report prints the summary, and writes the results where the environment says.
func (b *scoreboard) report(t *testing.T) {
	t.Helper()
	results := b.results(Threats())
	text := summary(results)
	fmt.Print(text)
	path := os.Getenv(threatsOut)
	if path == "" {
		return
	}
	data, err := json.MarshalIndent(results, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{
		path: string(data) + "\n", strings.TrimSuffix(path, filepath.Ext(path)) + ".txt": text,
	} {
		if err := os.WriteFile(name, []byte(content), 0o644); err != nil { //nolint:gosec // results are for everybody
			t.Fatal(err)
		}
	}
}
