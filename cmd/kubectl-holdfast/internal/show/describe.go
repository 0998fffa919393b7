package show

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/access/impact"
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
	d.items(w)
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
	if r.Status.Message != "" {
		field("Because", Line(r.Status.Message))
	}
	field("Agent", d.agent())
	field("Requester", Line(r.Spec.Requester))
	field("Wants to", d.Palette.paint(bold, Wants(r)))
	d.wanted(field)
	if r.Status.GenerateName != "" {
		field("Name of it", "made up by the API server, from "+Line(r.Status.GenerateName))
	}
	if r.Status.TargetUID != "" {
		field("UID of it", Line(string(r.Status.TargetUID))+"; another object of that name is not meant")
	}
	if r.Status.Version != "" {
		field("Version", Line(r.Status.Version)+" of its API")
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
	if Granted(r) && r.Status.ExpiresAt != nil {
		field("Ends at", clock(r.Status.ExpiresAt.Time))
	}
	if c := r.Status.Redeemed; c != nil {
		field("Let pass", fmt.Sprintf("%s, decision %s", when(c.Time.Time, d.Now), Line(c.DecisionID)))
	}
}

// wanted is what the phrase before it leaves out: long lists, and of what was asked ahead all
// there is, since an approval grants every combination of it.
func (d *Description) wanted(field func(name, value string)) {
	a := &d.Request.Spec.Access
	list := func(name string, items []string, none string) {
		switch {
		case len(items) == 0 && none != "" && Asked(d.Request):
			field(name, none)
		case len(items) > maxListed || len(items) > 1 && Asked(d.Request):
			field(name, Line(strings.Join(items, ", ")))
		}
	}
	list("Resources", a.Resources, "")
	list("Namespaces", a.Namespaces, "none: what is cluster-scoped, or all namespaces at once")
	list("Names", a.Names, "none: lists of all, or new objects of any name")
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
	if Asked(r) {
		d.heading(w, "Asked under:")
	} else {
		d.heading(w, "Held by:")
	}
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

// Needs is what a rule asks for, in a phrase.
func Needs(rule *v1alpha1.HoldingRule) string {
	d := Description{}
	return fmt.Sprintf("%s needs %d of: %s", Line(access.RuleName(rule)), max(rule.Required, 1), d.approvers(rule))
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

// impact says what would be affected: first in sentences, then in numbers.
func (d *Description) impact(w io.Writer) {
	s := &d.Request.Status
	if len(s.Impact) == 0 && len(s.Affected) == 0 {
		return
	}
	d.heading(w, "Impact:")
	for _, sentence := range s.Affected {
		printf(w, "  %s\n", d.Palette.sentence(Line(sentence)))
	}
	if impact.Cut(s.Affected) {
		d.digest(w, s.AffectedDigest)
	}
	names := slices.SortedFunc(maps.Keys(s.Impact), impact.Compare)
	width := 0
	for _, name := range names {
		width = max(width, len(Line(name)))
	}
	if len(names) > 0 && len(s.Affected) > 0 {
		printf(w, "  In numbers:\n")
	}
	for _, name := range names {
		line := fmt.Sprintf("%-*s  %d", width, Line(name), s.Impact[name])
		if impact.Stateful(name) && s.Impact[name] > 0 {
			line = d.Palette.paint(red, line)
		}
		printf(w, "  %s\n", line)
	}
}

// sentence colours what cannot be undone, and what an approver should look at twice.
func (p Palette) sentence(s string) string {
	switch {
	case strings.HasPrefix(s, impact.Irreversible):
		return p.paint(red, s)
	case strings.HasPrefix(s, impact.Unknown), strings.HasPrefix(s, impact.NewlyAllows):
		return p.paint(yellow, s)
	}
	return s
}

// digest stands where something is cut: by it two of which the beginnings look alike are told
// apart.
func (d *Description) digest(w io.Writer, digest string) {
	const shown = 16 // 64 bits
	printf(w, "  Digest of the whole: %s\n", Line(digest[:min(shown, len(digest))]))
}

// items are the objects of a collection, some on a line.
func (d *Description) items(w io.Writer) {
	const perLine = 5
	items := d.Request.Status.Items
	if len(items) == 0 {
		return
	}
	d.heading(w, fmt.Sprintf("Items, %d, and no others:", len(items)))
	for part := range slices.Chunk(items, perLine) {
		names := make([]string, 0, perLine)
		for _, item := range part {
			names = append(names, Line(item.Name))
		}
		printf(w, "  %s\n", strings.Join(names, ", "))
	}
}

// cutMark begins the last line of a change that was cut (pkg/access/fingerprint, Diff).
const cutMark = "... cut: "

func (d *Description) change(w io.Writer) {
	if Asked(d.Request) {
		return // there is none yet
	}
	d.heading(w, "Change:")
	change := strings.TrimRight(d.Request.Status.Change, "\n")
	if change == "" {
		printf(w, "  none recorded\n")
		return
	}
	quote(w, "  ", change, d.Palette.Diff)
	if strings.HasPrefix(change[strings.LastIndexByte(change, '\n')+1:], cutMark) {
		d.digest(w, d.Request.Status.ChangeDigest)
	}
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
	case Granted(d.Request):
		d.heading(w, "To end the grant, or to stop the agent altogether:")
		printf(w, "  kubectl holdfast revoke %s -m COMMENT\n", name)
		printf(w, "  kubectl holdfast suspend agent/%s\n", Line(d.Request.Spec.Agent))
	case d.Request.Status.Phase == v1alpha1.Approved:
		d.heading(w, "To take the approval back before it is used, or to stop the agent altogether:")
		printf(w, "  kubectl holdfast revoke %s -m COMMENT\n", name)
		printf(w, "  kubectl holdfast suspend agent/%s\n", Line(d.Request.Spec.Agent))
	}
}

// clock is a time as people of several zones can compare it.
func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
