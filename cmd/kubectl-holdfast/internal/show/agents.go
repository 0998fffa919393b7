package show

import (
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// Agents prints a line for each agent: who it is, who answers for it, whether it is stopped,
// whether its requests reach Holdfast, which policies judge it, and when it was last active.
// known are all policies; where they could not be read it is nil, and the number that
// Holdfast counted stands for their names.
func Agents(w io.Writer, list []v1alpha1.Agent, known *v1alpha1.AgentPolicyList, t Table) error {
	header := []string{"NAME", "SUBJECTS", "OWNER", "SUSPENDED", "IN-NET", "POLICIES", "LAST-ACTIVITY", "AGE"}
	if t.Wide {
		header = append(header, "COMPILED", "MESSAGE")
	}
	rows := make([][]string, 0, len(list))
	for i := range list {
		a := &list[i]
		row := []string{
			a.Name, subjects(a.Spec.Subjects, t.Wide), owner(a), strconv.FormatBool(a.Spec.Suspended),
			condition(a, v1alpha1.ConditionInNet), policies(a, known, t.Wide), lastActivity(a, t.Now), age(a.CreationTimestamp, t.Now),
		}
		if t.Wide {
			row = append(row, condition(a, v1alpha1.ConditionCompiled), complaint(a))
		}
		rows = append(rows, row)
	}
	return table(w, header, rows, t.NoHeaders)
}

// subjects are written as the API server names them where that is short: sa:namespace/name.
func subjects(list []v1alpha1.Subject, all bool) string {
	names := make([]string, 0, len(list))
	for _, s := range list {
		switch s.Kind {
		case v1alpha1.ServiceAccountSubject:
			names = append(names, "sa:"+s.Namespace+"/"+s.Name)
		default:
			names = append(names, strings.ToLower(string(s.Kind))+":"+s.Name)
		}
	}
	if all {
		return strings.Join(names, ",")
	}
	return some(names)
}

func owner(a *v1alpha1.Agent) string {
	if a.Spec.Owner == nil {
		return "<none>"
	}
	return a.Spec.Owner.Name
}

func condition(a *v1alpha1.Agent, kind string) string {
	if c := meta.FindStatusCondition(a.Status.Conditions, kind); c != nil {
		return string(c.Status)
	}
	return "Unknown"
}

// policies are the names of those that select an agent.
func policies(a *v1alpha1.Agent, known *v1alpha1.AgentPolicyList, all bool) string {
	switch {
	case known == nil && a.Status.Policies == nil:
		return "<unknown>"
	case known == nil:
		return strconv.Itoa(int(*a.Status.Policies))
	}
	var names []string
	for i := range known.Items {
		if known.Items[i].Selects(a.Name) {
			names = append(names, known.Items[i].Name)
		}
	}
	slices.Sort(names)
	switch {
	case len(names) == 0:
		return "<none>"
	case all:
		return strings.Join(names, ",")
	default:
		return some(names)
	}
}

// lastActivity is how long ago the agent last tried to change something, as far as Holdfast
// has seen.
func lastActivity(a *v1alpha1.Agent, now time.Time) string {
	if a.Status.LastActivity == nil {
		return "<none>"
	}
	return age(*a.Status.LastActivity, now)
}

// complaint is the message of the first condition that is not True.
func complaint(a *v1alpha1.Agent) string {
	for _, c := range a.Status.Conditions {
		if c.Status != "True" && c.Message != "" {
			return c.Message
		}
	}
	return ""
}
