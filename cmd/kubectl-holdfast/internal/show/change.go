package show

import (
	"fmt"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// Change is a line that says what became of a request between two versions of it; empty
// where nothing did that people care about. A nil old is a request that is new to us, a nil
// next one that is gone.
func Change(old, next *v1alpha1.AccessRequest, now time.Time) string {
	r := next
	if r == nil {
		r = old
	}
	what := news(old, next, now)
	if what == "" {
		return ""
	}
	return fmt.Sprintf("%s  %s  %s  %s: %s", now.Format(time.TimeOnly), Line(r.Name), Line(r.Spec.Agent), Wants(r), what)
}

func news(old, next *v1alpha1.AccessRequest, now time.Time) string {
	if next == nil {
		return "removed"
	}
	if old == nil {
		return Standing(next, now)
	}
	var parts []string
	if old.Spec.Reason != next.Spec.Reason {
		parts = append(parts, "reason given: "+short(next.Spec.Reason))
	}
	if !old.Spec.Withdrawn && next.Spec.Withdrawn && next.Status.Phase != v1alpha1.Withdrawn {
		parts = append(parts, "the agent withdraws it")
	}
	known := map[string]string{}
	for _, c := range old.Status.Reviews {
		known[c.Name] = c.Refused
	}
	for _, c := range next.Status.Reviews {
		if refused, seen := known[c.Name]; !seen || refused != c.Refused {
			parts = append(parts, review(&c))
		}
	}
	if old.Status.Phase != next.Status.Phase || len(parts) > 0 {
		parts = append(parts, Standing(next, now))
	}
	return strings.Join(parts, "; ")
}

func review(c *v1alpha1.ReviewCopy) string {
	verb := "approves"
	if c.Verdict == v1alpha1.Reject {
		verb = "denies"
	}
	s := Line(c.Reviewer) + " " + verb
	if c.Refused != "" {
		s += " (does not count: " + Line(c.Refused) + ")"
	}
	return s
}

// Standing is where a request stands, in a phrase.
func Standing(r *v1alpha1.AccessRequest, now time.Time) string {
	s := Line(phase(r))
	switch r.Status.Phase {
	case v1alpha1.Pending:
		if missing := access.Missing(r, r.Status.Reviews); len(missing) > 0 {
			s += ", " + Line(strings.Join(missing, ", "))
		}
	case v1alpha1.Denied, v1alpha1.Revoked:
		if c := access.Denial(&r.Status); c != nil {
			s += " by " + Line(c.Reviewer)
			if c.Comment != "" {
				s += ": " + short(c.Comment)
			}
		}
	case v1alpha1.Redeemed:
		s += ", the agent's request was let pass"
	}
	if r.Status.Message != "" && (r.Status.Phase != v1alpha1.Revoked || access.Denial(&r.Status) == nil) {
		s += " (" + Line(r.Status.Message) + ")"
	}
	if l := left(r, now); l != "-" && l != "over" {
		s += ", " + l + " left"
	} else if l == "over" {
		s += ", its time is over"
	}
	return s
}

// short is the beginning of a text in quotes, on one line.
func short(s string) string {
	const most = 80
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return `"` + Line(s) + `"`
}

// when is a time as distance and clock.
func when(t, now time.Time) string {
	if t.IsZero() {
		return "at an unknown time"
	}
	return fmt.Sprintf("%s ago (%s)", duration.HumanDuration(max(now.Sub(t), 0)), clock(t))
}
