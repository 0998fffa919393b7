package engine

import (
	"fmt"
	"slices"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/policy"
)

// Asked is what it takes to be granted what an agent asks for ahead.
type Asked struct {
	policy.Asking
	// Agents are the names of those that the identity belongs to, in order; there is one at
	// least.
	Agents []string
}

// Refusal is why somebody cannot ask. It is an error whose text is for them.
type Refusal struct {
	// Reason is for programs.
	Reason decision.Reason
	// Agents are the names of those that the identity belongs to.
	Agents []string
	why    string
}

func (r *Refusal) Error() string { return r.why }

// Asked says what it takes to be granted the access; a *Refusal where the user cannot ask for
// it. It is pure: nothing is opened by it, and the same question has the same answer while the
// same Agents and policies are in force.
func (e *Engine) Asked(u decision.User, a *v1alpha1.Access) (Asked, error) {
	s := e.state.Load()
	if s == nil {
		return Asked{}, &Refusal{Reason: decision.ReasonNotReady, why: notReady}
	}
	agents := s.Agents.Identify(u)
	if len(agents) == 0 {
		return Asked{}, &Refusal{Reason: decision.ReasonNotAgent, why: fmt.Sprintf(
			"%q is no agent, and only agents ask ahead; what people may do, RBAC says", u.Name)}
	}
	out := Asked{Agents: names(agents)}
	refuse := func(reason decision.Reason, why string) (Asked, error) {
		return Asked{}, &Refusal{Reason: reason, Agents: out.Agents, why: why}
	}
	if agent := suspended(agents); agent != nil {
		return refuse(decision.ReasonSuspended, whySuspended(agent))
	}
	if err := e.protection.Refused(agents, a); err != nil {
		return refuse(decision.ReasonSelfProtection, err.Error())
	}
	if slices.Contains(a.APIGroups, v1alpha1.Group) && slices.ContainsFunc(a.Verbs, writes) {
		return refuse(decision.ReasonSelfProtection, "no approval lifts a denial: agents may not change Agents, policies or anything else of Holdfast")
	}
	var err error
	if out.Asking, err = s.Policies.Asked(agents, a); err != nil {
		return refuse(decision.ReasonInvalidObject, err.Error())
	}
	return out, nil
}

func writes(verb string) bool { return verb != "get" && verb != "list" && verb != "watch" }

// isAsking says whether a request asks for approval, or says more about what was asked: the
// own-kinds webhook judges those, and a policy stops them by a rule, never by its default.
func isAsking(r *decision.Request) bool {
	return isOwnKind(r, "accessrequests") && (r.Verb == "create" || r.Verb == "update")
}
