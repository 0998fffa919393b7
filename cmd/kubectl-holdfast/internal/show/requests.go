package show

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// Table says how a table is printed.
type Table struct {
	// Wide adds columns.
	Wide bool
	// NoHeaders leaves the first line out.
	NoHeaders bool
	// Now is the time from which ages are counted.
	Now time.Time
}

// Sort puts what waits for people first, longest waiting first, and then the rest, newest
// first.
func Sort(list []v1alpha1.AccessRequest) {
	slices.SortStableFunc(list, func(a, b v1alpha1.AccessRequest) int {
		pa, pb := Pending(&a), Pending(&b)
		switch {
		case pa && !pb:
			return -1
		case pb && !pa:
			return 1
		}
		c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
		if !pa {
			c = -c
		}
		if c == 0 {
			c = strings.Compare(a.Name, b.Name)
		}
		return c
	})
}

// Pending says whether a request waits for people. One without a phase has just been made.
func Pending(r *v1alpha1.AccessRequest) bool {
	return r.Status.Phase == v1alpha1.Pending || r.Status.Phase == ""
}

// Requests prints a line for each request, in the order given.
func Requests(w io.Writer, list []v1alpha1.AccessRequest, t Table) error {
	header := []string{"NAME", "AGENT", "VERB", "OBJECT", "FOR", "PHASE", "APPROVALS", "AGE", "LEFT"}
	if t.Wide {
		header = append(header, "ENDS", "REQUESTER", "RULES")
	}
	rows := make([][]string, 0, len(list))
	for i := range list {
		r := &list[i]
		row := []string{
			r.Name, r.Spec.Agent, strings.Join(r.Spec.Access.Verbs, ","), object(&r.Spec.Access),
			lasts(r), phase(r), Approvals(r), age(r.CreationTimestamp, t.Now), left(r, t.Now),
		}
		if t.Wide {
			row = append(row, ends(r), r.Spec.Requester, ruleNames(r))
		}
		rows = append(rows, row)
	}
	return table(w, header, rows, t.NoHeaders)
}

// table prints rows under a header; every cell is made visible.
func table(w io.Writer, header []string, rows [][]string, noHeaders bool) error {
	tw := printers.GetNewTabWriter(w)
	if !noHeaders {
		printf(tw, "%s\n", strings.Join(header, "\t"))
	}
	for _, row := range rows {
		for i := range row {
			row[i] = Line(row[i])
		}
		printf(tw, "%s\n", strings.Join(row, "\t"))
	}
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// Wants is the request in a phrase: verb and object.
func Wants(r *v1alpha1.AccessRequest) string {
	return Line(strings.Join(r.Spec.Access.Verbs, ",") + " " + object(&r.Spec.Access))
}

// object is what the request is about, close to how kubectl names it: a resource, its group,
// a name, a subresource and the namespace.
func object(a *v1alpha1.Access) string {
	resources := make([]string, 0, len(a.Resources))
	for _, resource := range a.Resources {
		main, sub, _ := strings.Cut(resource, "/")
		switch {
		case len(a.APIGroups) > 1:
			main += ".{" + strings.Join(a.APIGroups, ",") + "}"
		case len(a.APIGroups) == 1 && a.APIGroups[0] != "":
			main += "." + a.APIGroups[0]
		}
		if len(a.Names) > 0 {
			main += "/" + some(a.Names)
		}
		if sub != "" {
			main += "/" + sub
		}
		resources = append(resources, main)
	}
	s := some(resources)
	if len(a.Namespaces) > 0 {
		s += " -n " + some(a.Namespaces)
	}
	return s
}

// maxListed is how many of several names a cell shows.
const maxListed = 3

// some joins names, and counts those over maxListed.
func some(names []string) string {
	if len(names) > maxListed {
		return fmt.Sprintf("%s,+%d", strings.Join(names[:maxListed], ","), len(names)-maxListed)
	}
	return strings.Join(names, ",")
}

// Asked says whether the agent asks ahead; else it was held.
func Asked(r *v1alpha1.AccessRequest) bool { return r.Spec.Origin == v1alpha1.Asked }

// Granted says whether it is a grant: approved for a time, and not for one change.
func Granted(r *v1alpha1.AccessRequest) bool {
	return Asked(r) && r.Status.Phase == v1alpha1.Approved
}

// lasts is how long an approval is for: once, or, where it was asked ahead, a time.
func lasts(r *v1alpha1.AccessRequest) string {
	switch {
	case !Asked(r):
		return "once"
	case r.Spec.Access.Duration == nil:
		return "<unknown>"
	default:
		return duration.HumanDuration(r.Spec.Access.Duration.Duration)
	}
}

// ends is when its time is over.
func ends(r *v1alpha1.AccessRequest) string {
	if left(r, time.Time{}) == "-" {
		return "-"
	}
	return r.Status.ExpiresAt.UTC().Format(time.RFC3339)
}

func phase(r *v1alpha1.AccessRequest) string {
	if r.Status.Phase == "" {
		return "New"
	}
	return string(r.Status.Phase)
}

// Approvals is for each rule, in their order, how many approvals it has of how many. It says
// so where a rule wants the agent's reason, and there is none.
func Approvals(r *v1alpha1.AccessRequest) string {
	counts := make([]string, 0, len(r.Spec.Rules))
	reason := ""
	for i := range r.Spec.Rules {
		rule := &r.Spec.Rules[i]
		counts = append(counts, fmt.Sprintf("%d/%d", approvals(r, rule), max(rule.Required, 1)))
		if rule.ReasonRequired && r.Spec.Reason == "" {
			reason = "+reason"
		}
	}
	return strings.Join(counts, ",") + reason
}

func approvals(r *v1alpha1.AccessRequest, rule *v1alpha1.HoldingRule) int {
	n := 0
	for i := range r.Status.Reviews {
		c := &r.Status.Reviews[i]
		if c.Refused == "" && c.Verdict == v1alpha1.Approve && slices.Contains(c.Rules, access.RuleName(rule)) {
			n++
		}
	}
	return n
}

func ruleNames(r *v1alpha1.AccessRequest) string {
	names := make([]string, 0, len(r.Spec.Rules))
	for i := range r.Spec.Rules {
		names = append(names, access.RuleName(&r.Spec.Rules[i]))
	}
	return strings.Join(names, ",")
}

func age(t metav1.Time, now time.Time) string {
	if t.IsZero() {
		return "<unknown>"
	}
	return duration.HumanDuration(max(now.Sub(t.Time), 0))
}

// left is how long a request, or an approval that nobody has used, still stands. By our
// clock: where it says over and the phase does not, Holdfast decides by its own.
func left(r *v1alpha1.AccessRequest, now time.Time) string {
	if r.Status.ExpiresAt == nil || (!Pending(r) && r.Status.Phase != v1alpha1.Approved) {
		return "-"
	}
	d := r.Status.ExpiresAt.Sub(now)
	if d <= 0 {
		return "over"
	}
	return duration.HumanDuration(d)
}
