package engine

import (
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/policy"
)

// maxReasons is how many rules a message spells out; the rest are counted.
const maxReasons = 3

// message is one sentence that says who may not do what, why, and under which decision to
// look it up.
func message(r *decision.Request, d *decision.Decision, why string) string {
	return fmt.Sprintf("%s may not %s: %s (decision %s)", who(r, d.Agents), what(r), why, d.ID)
}

func who(r *decision.Request, agents []string) string {
	switch len(agents) {
	case 0:
		return fmt.Sprintf("%q", r.User.Name)
	case 1:
		return fmt.Sprintf("agent %s", agents[0])
	default:
		return "agents " + strings.Join(agents, ", ")
	}
}

func what(r *decision.Request) string {
	if r.NonResourceURL != "" {
		return r.Verb + " " + r.NonResourceURL
	}
	object := r.FullResource()
	if r.Group != "" {
		object += "." + r.Group
	}
	if r.Name != "" {
		object += fmt.Sprintf(" %q", r.Name)
	}
	// A Namespace object is said to be in itself.
	if r.Namespace != "" && (r.Group != "" || r.Resource != "namespaces") {
		object += fmt.Sprintf(" in namespace %q", r.Namespace)
	}
	return r.Verb + " " + object
}

func because(findings []policy.Finding) string {
	var reasons []string
	if blind := count(findings, decision.ReasonUnseen); blind > 0 {
		// One reason, however many rules have it.
		findings = slices.DeleteFunc(slices.Clone(findings), func(f policy.Finding) bool { return f.Reason == decision.ReasonUnseen })
		reasons = append(reasons, fmt.Sprintf(
			"%d rules would look into the object, and it goes to another API server, where Holdfast does not see it", blind))
	}
	for i, f := range findings {
		if i == maxReasons {
			reasons = append(reasons, fmt.Sprintf("and %d more rules", len(findings)-i))
			break
		}
		reasons = append(reasons, explain(f))
	}
	return strings.Join(reasons, "; ")
}

func count(findings []policy.Finding, r decision.Reason) (n int) {
	for i := range findings {
		if findings[i].Reason == r {
			n++
		}
	}
	return n
}

func explain(f policy.Finding) string {
	switch {
	case f.Reason == decision.ReasonDefault:
		return fmt.Sprintf("no rule of policy %s allows it", f.Policy)
	case f.Rule == "":
		return fmt.Sprintf("policy %s: %s", f.Policy, f.Message)
	}
	why := fmt.Sprintf("rule %s", f)
	if f.Message != "" {
		why += ": " + f.Message
	}
	if len(f.Unreadable) > 0 {
		var names []string
		for _, r := range f.Unreadable {
			names = append(names, r.String())
		}
		why += fmt.Sprintf(" It may not read %s.", strings.Join(names, ", "))
	}
	return why
}

// warning is shown beside the answer of a request that passes.
func warning(r *decision.Request, f policy.Finding) string {
	verb := "deny"
	if f.Action == decision.Hold {
		verb = "hold"
	}
	return fmt.Sprintf("Holdfast would %s this %s (policy in mode Warn): %s", verb, r.Verb, explain(f))
}

func undeclared(s *State) string {
	if s.Agents.Len() == 0 {
		return "no Agent has been declared yet; a cluster admin declares one with kind Agent"
	}
	return "no Agent declares this identity; a cluster admin adds it to the subjects of one"
}

func whySuspended(a *v1alpha1.Agent) string {
	if a.Spec.Owner == nil {
		return fmt.Sprintf("Agent %s is suspended; a cluster admin can resume it", a.Name)
	}
	return fmt.Sprintf("Agent %s is suspended; its owner is %s", a.Name, a.Spec.Owner.Name)
}
