package policytest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// Seen is what became of a request, in the words of expect.
type Seen struct {
	Decision string   `json:"decision"`
	Reason   string   `json:"reason"`
	Rules    []string `json:"rules,omitempty"`
	// Message is the agent's, without the decision's ID.
	Message   string     `json:"message,omitempty"`
	Warnings  []string   `json:"warnings,omitempty"`
	Observed  []string   `json:"observed,omitempty"`
	Required  int        `json:"required,omitempty"`
	Approvers *approvers `json:"approvers,omitempty"`
	// ReasonRequired and Duration are of asks.
	ReasonRequired bool   `json:"reasonRequired,omitempty"`
	Duration       string `json:"duration,omitempty"`

	// hit are the rules, and the policies whose defaults, applied as they are meant to: not
	// by an error, and not for want of a version.
	hit []string
}

func seen(d *decision.Decision, holding []v1alpha1.HoldingRule) Seen {
	s := Seen{
		Decision: d.Action.String(), Reason: string(d.Reason), Warnings: d.Warnings, Observed: d.Observed,
		Message: strings.TrimSuffix(d.Message, fmt.Sprintf(" (decision %s)", d.ID)),
	}
	for _, c := range d.Causes {
		s.Rules = append(s.Rules, c.Rule)
		if c.Reason == decision.ReasonRule || c.Reason == decision.ReasonDefault || c.Reason == decision.ReasonSelfProtection {
			s.hit = append(s.hit, c.Rule)
		}
	}
	for _, o := range d.Observed {
		rule, _, _ := strings.Cut(o, "=")
		s.hit = append(s.hit, rule)
	}
	if len(holding) > 0 {
		s.people(holding)
	}
	return s
}

// people notes who has to approve.
func (s *Seen) people(rules []v1alpha1.HoldingRule) {
	s.Approvers = &approvers{}
	for i := range rules {
		s.Required = max(s.Required, int(rules[i].Required))
		s.ReasonRequired = s.ReasonRequired || rules[i].ReasonRequired
		s.Approvers.Groups = append(s.Approvers.Groups, rules[i].Approvers.Groups...)
		s.Approvers.Users = append(s.Approvers.Users, rules[i].Approvers.Users...)
	}
	s.Approvers.Groups, s.Approvers.Users = set(s.Approvers.Groups), set(s.Approvers.Users)
}

// set is a list sorted and without repeats.
func set(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}

// Difference is one field of expect that is not as wanted.
type Difference struct {
	Field string `json:"field"`
	Want  string `json:"want"`
	Got   string `json:"got"`
}

// differences are those of one expectation.
type differences []Difference

func (d *differences) note(same bool, field, want, got string) {
	if !same {
		*d = append(*d, Difference{field, want, got})
	}
}

func (d *differences) rules(one *string, all *[]string, got []string) {
	if one != nil {
		wanted := []string{*one}
		if *one == "" {
			wanted = nil
		}
		d.note(sameRules(wanted, got), "rule", list(wanted), list(got))
	}
	if all != nil {
		d.note(sameRules(*all, got), "rules", list(*all), list(got))
	}
}

func (d *differences) people(required *int, who *approvers, got *Seen) {
	if required != nil {
		d.note(*required == got.Required, "required", strconv.Itoa(*required), strconv.Itoa(got.Required))
	}
	if who != nil {
		d.note(who.same(got.Approvers), "approvers", who.String(), got.Approvers.String())
	}
}

func (e *expect) written() *yaml.Node { return e.node }

// compare is where what was seen is not what is expected.
func (e *expect) compare(got *Seen) []Difference {
	var diff differences
	note := diff.note
	note(e.Decision == got.Decision, "decision", shown(e.Decision), got.Decision)
	diff.rules(e.Rule, e.Rules, got.Rules)
	note(e.Reason == "" || e.Reason == got.Reason, "reason", e.Reason, got.Reason)
	if e.Message != nil {
		note(sameText(*e.Message, got.Message), "message", shown(*e.Message), shown(got.Message))
	}
	note(e.matches == nil || e.matches.MatchString(got.Message), "messageMatches", e.MessageMatches, shown(got.Message))
	if e.Warnings != nil {
		same := len(*e.Warnings) == len(got.Warnings)
		for i := 0; same && i < len(got.Warnings); i++ {
			same = sameText((*e.Warnings)[i], got.Warnings[i])
		}
		note(same, "warnings", list(*e.Warnings), list(got.Warnings))
	}
	if e.Observed != nil {
		note(slices.Equal(set(*e.Observed), set(got.Observed)), "observed", list(*e.Observed), list(got.Observed))
	}
	diff.people(e.Required, e.Approvers, got)
	return diff
}

// sameRules matches wanted patterns and rules one to one, in order of their names.
func sameRules(wanted, got []string) bool {
	if len(wanted) != len(got) {
		return false
	}
	left := slices.Clone(got)
	// Those without a star first, so that a pattern takes no rule that is named.
	wanted = slices.Clone(wanted)
	slices.SortStableFunc(wanted, func(a, b string) int { return strings.Count(a, "*") - strings.Count(b, "*") })
	for _, w := range wanted {
		at := slices.IndexFunc(left, v1alpha1.Pattern(w).Matches)
		if at < 0 {
			return false
		}
		left = slices.Delete(left, at, at+1)
	}
	return true
}

// sameText compares a text with one that may start or end with an ellipsis, for more text.
func sameText(want, got string) bool {
	for _, dots := range []string{"…", "..."} {
		head, before := strings.CutPrefix(want, dots)
		head, after := strings.CutSuffix(head, dots)
		switch {
		case before && after:
			return strings.Contains(got, strings.TrimSpace(head))
		case before:
			return strings.HasSuffix(got, strings.TrimSpace(head))
		case after:
			return strings.HasPrefix(got, strings.TrimSpace(head))
		}
	}
	return want == got
}

func (a *approvers) same(b *approvers) bool {
	if b == nil {
		b = &approvers{}
	}
	return slices.Equal(set(a.Groups), set(b.Groups)) && slices.Equal(set(a.Users), set(b.Users))
}

func (a *approvers) String() string {
	if a == nil || len(a.Groups)+len(a.Users) == 0 {
		return none
	}
	var parts []string
	if len(a.Groups) > 0 {
		parts = append(parts, "groups "+strings.Join(set(a.Groups), ", "))
	}
	if len(a.Users) > 0 {
		parts = append(parts, "users "+strings.Join(set(a.Users), ", "))
	}
	return strings.Join(parts, "; ")
}

// none stands for what is not there.
const none = "(none)"

func shown(s string) string {
	if s == "" {
		return none
	}
	return s
}

func list(l []string) string { return shown(strings.Join(l, ", ")) }
