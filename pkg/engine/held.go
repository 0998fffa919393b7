package engine

import (
	"cmp"
	"slices"
	"time"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
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

// With is what it takes to let several held requests pass together; either may be nil.
func (h *Held) With(other *Held) *Held {
	if h == nil || other == nil {
		return cmp.Or(h, other)
	}
	both := *h
	both.Wait, both.ExpiresAfter = min(h.Wait, other.Wait), min(h.ExpiresAfter, other.ExpiresAfter)
	both.Rules = slices.Clone(h.Rules)
	for _, rule := range other.Rules {
		if !slices.ContainsFunc(both.Rules, func(r v1alpha1.HoldingRule) bool { return r.Policy == rule.Policy && r.Rule == rule.Rule }) {
			both.Rules = append(both.Rules, rule)
		}
	}
	return &both
}

// Owners are the users who own the Agent of that name, or any other Agent that the requester
// is by their name alone.
func (e *Engine) Owners(agent, requester string) []string {
	s := e.state.Load()
	if s == nil {
		return nil
	}
	also := s.Agents.Identify(decision.User{Name: requester})
	var owners []string
	for _, a := range s.Agents.All() {
		if a.Spec.Owner != nil && (a.Name == agent || slices.Contains(also, a)) {
			owners = append(owners, a.Spec.Owner.Name)
		}
	}
	return owners
}
