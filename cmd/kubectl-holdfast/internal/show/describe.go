package show

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// Description is what an approver wants to see of one request.
type Description struct {
	// Request itself.
	Request *v1alpha1.AccessRequest
	// Agent that asks; nil where it could not be read, and then NoAgent says why.
	Agent   *v1alpha1.Agent
	NoAgent string
	// Now is the time from which ages are counted.
	Now time.Time
	// Palette colours it.
	Palette Palette
}

// Print writes the description: who wants what and why, what it changes, what it waits for,
// and what can be done.
func (d *Description) Print(w io.Writer) {
	d.who(w)
	d.reason(w)
	d.rules(w)
	d.impact(w)
	d.change(w)
	d.reviews(w)
	d.next(w)
}

func (d *Description) heading(w io.Writer, s string) {
	printf(w, "\n%s\n", d.Palette.paint(bold, s))
}

func (d *Description) who(w io.Writer) {
	r := d.Request
	field := func(name, value string) { printf(w, "%-11s %s\n", name+":", value) }
	field("Name", Line(r.Name))
	field("Phase", d.phase())
	field("Agent", d.agent())
	field("Requester", Line(r.Spec.Requester))
	field("Wants to", d.Palette.paint(bold, Wants(r)))
	if a := r.Spec.Access; len(a.Names) > maxListed {
		field("Names", Line(strings.Join(a.Names, ", ")))
	}
	switch r.Spec.Origin {
	case v1alpha1.Intercepted:
		field("Origin", "Intercepted: the agent made this request, and it is held")
	case v1alpha1.Asked:
		field("Origin", "Asked: the agent asks before it acts")
	default:
		field("Origin", Line(string(r.Spec.Origin)))
	}
	if r.Spec.Access.Duration != nil {
		field("For", r.Spec.Access.Duration.Duration.String()+", counted from the approval")
	}
	if c := r.Status.Redeemed; c != nil {
		field("Let pass", fmt.Sprintf("%s, decision %s", when(c.Time.Time, d.Now), Line(c.DecisionID)))
	}
}

func (d *Description) phase() string {
	r := d.Request
	code := map[v1alpha1.Phase]string{
		v1alpha1.Pending: yellow, v1alpha1.Approved: green, v1alpha1.Used: green, v1alpha1.Redeemed: green,
		v1alpha1.Denied: red, v1alpha1.Revoked: red,
	}[r.Status.Phase]
	s := Line(phase(r))
	if code != "" {
		s = d.Palette.paint(code, s)
	}
	s += ", asked " + when(r.CreationTimestamp.Time, d.Now)
	switch l := left(r, d.Now); {
	case l == "over":
		s += fmt.Sprintf(", over since %s", clock(r.Status.ExpiresAt.Time))
	case l != "-":
		s += fmt.Sprintf(", %s left (until %s)", l, clock(r.Status.ExpiresAt.Time))
	case r.Status.Phase == v1alpha1.Denied && r.Status.ExpiresAt != nil && r.Status.ExpiresAt.After(d.Now):
		s += fmt.Sprintf("; the same request is refused until %s", clock(r.Status.ExpiresAt.Time))
	case r.Status.EndedAt != nil:
		s += ", ended " + when(r.Status.EndedAt.Time, d.Now)
	}
	return s
}

func (d *Description) agent() string {
	s := Line(d.Request.Spec.Agent)
	switch {
	case d.Agent == nil:
		return s + " (" + Line(d.NoAgent) + ")"
	case d.Agent.Spec.Owner == nil:
		s += ", which has no owner"
	default:
		s += ", owned by " + Line(owner(d.Agent))
	}
	if d.Agent.Spec.Suspended {
		s += ", " + d.Palette.paint(red, "suspended")
	}
	return s
}

func (d *Description) reason(w io.Writer) {
	d.heading(w, "Reason, in the agent's words:")
	if d.Request.Spec.Reason == "" {
		printf(w, "  none given\n")
		return
	}
	quote(w, "  ", d.Request.Spec.Reason, nil)
}

func (d *Description) rules(w io.Writer) {
	r := d.Request
	d.heading(w, "Held by:")
	for i := range r.Spec.Rules {
		rule := &r.Spec.Rules[i]
		printf(w, "  %s: %d of %d approvals\n", Line(access.RuleName(rule)), approvals(r, rule), max(rule.Required, 1))
		if rule.Message != "" {
			printf(w, "    %s\n", Line(rule.Message))
		}
		printf(w, "    May approve: %s\n", d.approvers(rule))
	}
	if !Pending(r) {
		return
	}
	d.heading(w, "Still missing:")
	for _, s := range access.Missing(r, r.Status.Reviews) {
		printf(w, "  %s\n", d.Palette.paint(yellow, Line(s)))
	}
	if len(access.Missing(r, r.Status.Reviews)) == 0 {
		printf(w, "  nothing: Holdfast is about to approve it\n")
	}
}

// approvers says who counts for a rule; the requester and agents never do.
func (d *Description) approvers(rule *v1alpha1.HoldingRule) string {
	var who []string
	for _, g := range rule.Approvers.Groups {
		who = append(who, "group "+Line(g))
	}
	for _, u := range rule.Approvers.Users {
		who = append(who, "user "+Line(u))
	}
	if len(who) == 0 {
		return "nobody: the rule names no approvers, so this can only be withdrawn or expire"
	}
	s := strings.Join(who, ", ")
	if d.Agent != nil && d.Agent.Spec.Owner != nil && !rule.AllowOwner {
		s += fmt.Sprintf("; not the owner, %s", Line(owner(d.Agent)))
	}
	return s
}

// first are resources whose loss cannot be undone by applying a manifest again.
var first = []string{"persistentvolumeclaims", "persistentvolumes", "statefulsets"}

func (d *Description) impact(w io.Writer) {
	counts := d.Request.Status.Impact
	if len(counts) == 0 {
		return
	}
	d.heading(w, "Impact:")
	rank := func(name string) int {
		resource, _, _ := strings.Cut(name, ".")
		if i := slices.Index(first, resource); i >= 0 {
			return i
		}
		return len(first)
	}
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		if c := rank(a) - rank(b); c != 0 {
			return c
		}
		return strings.Compare(a, b)
	})
	width := 0
	for _, name := range names {
		width = max(width, len(Line(name)))
	}
	for _, name := range names {
		s := fmt.Sprintf("%-*s  %d", width, Line(name), counts[name])
		if rank(name) < len(first) && counts[name] > 0 {
			s = d.Palette.paint(red, s)
		}
		printf(w, "  %s\n", s)
	}
}

func (d *Description) change(w io.Writer) {
	d.heading(w, "Change:")
	if d.Request.Status.Change == "" {
		printf(w, "  none recorded\n")
		return
	}
	quote(w, "  ", d.Request.Status.Change, d.Palette.diff)
}

func (d *Description) reviews(w io.Writer) {
	d.heading(w, "Reviews:")
	if len(d.Request.Status.Reviews) == 0 {
		printf(w, "  none so far\n")
		return
	}
	for i := range d.Request.Status.Reviews {
		c := &d.Request.Status.Reviews[i]
		who := Line(c.Reviewer)
		if c.Group != "" {
			who += " of " + Line(c.Group)
		}
		printf(w, "  %s by %s, %s\n", d.verdict(c.Verdict), who, when(c.Time.Time, d.Now))
		switch {
		case c.Refused != "":
			printf(w, "    %s\n", d.Palette.paint(yellow, "does not count: "+Line(c.Refused)))
		case len(c.Rules) > 0:
			printf(w, "    counts for %s\n", Line(strings.Join(c.Rules, ", ")))
		}
		if c.Comment != "" {
			quote(w, "    ", c.Comment, nil)
		}
	}
}

func (d *Description) verdict(v v1alpha1.Verdict) string {
	switch v {
	case v1alpha1.Approve:
		return d.Palette.paint(green, "Approve")
	case v1alpha1.Reject:
		return d.Palette.paint(red, "Deny")
	}
	return Line(string(v))
}

// next are the commands that make sense now.
func (d *Description) next(w io.Writer) {
	name := Line(d.Request.Name)
	switch {
	case Pending(d.Request):
		d.heading(w, "To decide:")
		printf(w, "  kubectl holdfast approve %s [-m COMMENT]\n", name)
		printf(w, "  kubectl holdfast deny %s -m COMMENT\n", name)
	case d.Request.Status.Phase == v1alpha1.Approved:
		d.heading(w, "To stop it before it is used:")
		printf(w, "  kubectl holdfast suspend agent/%s\n", Line(d.Request.Spec.Agent))
	}
}

// clock is a time as people of several zones can compare it.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
