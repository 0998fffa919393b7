package engine

import (
	"time"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/policy"
)

// Held is what it takes to let a held request pass: every rule by its own approvers, within
// the shortest of their times.
type Held struct {
	// Agent is the first, by name, of the Agents that the identity belongs to.
	Agent string
	Rules []v1alpha1.HoldingRule
	// Wait is how long the agent's own command should wait for people.
	Wait time.Duration
	// ExpiresAfter is how long the request waits, and the approval stands.
	ExpiresAfter time.Duration
}

func newHeld(agents []*v1alpha1.Agent, v policy.Verdict) *Held {
	h := &Held{Agent: agents[0].Name}
	for _, f := range v.Deciding {
		if f.Terms == nil {
			continue
		}
		if len(h.Rules) == 0 || f.Terms.Wait < h.Wait {
			h.Wait = f.Terms.Wait
		}
		if len(h.Rules) == 0 || f.Terms.ExpiresAfter < h.ExpiresAfter {
			h.ExpiresAfter = f.Terms.ExpiresAfter
		}
		h.Rules = append(h.Rules, f.Terms.Rule)
	}
	return h
}

// Owner is the user who owns the Agent of that name; empty where there is none.
func (e *Engine) Owner(agent string) string {
	s := e.state.Load()
	if s == nil {
		return ""
	}
	for _, a := range s.Agents.All() {
		if a.Name == agent && a.Spec.Owner != nil {
			return a.Spec.Owner.Name
		}
	}
	return ""
}
