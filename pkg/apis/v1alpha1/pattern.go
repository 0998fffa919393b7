package v1alpha1

import "strings"

// Matches says whether the whole of s fits the pattern: * stands for any run of characters,
// the empty one and slashes included, and every other character for itself. It takes time
// linear in both for patterns with one star, and their product at worst.
func (p Pattern) Matches(s string) bool {
	pattern := string(p)
	head, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == s
	}
	if !strings.HasPrefix(s, head) {
		return false
	}
	s = s[len(head):]
	for {
		part, after, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(s, part)
		}
		at := strings.Index(s, part)
		if at < 0 {
			return false
		}
		s, rest = s[at+len(part):], after
	}
}

// Literal says whether the pattern has no star, so that it matches itself alone.
func (p Pattern) Literal() bool { return !strings.Contains(string(p), "*") }

// Prefix returns what stands before the pattern's first star: all that it matches starts
// with it.
func (p Pattern) Prefix() string {
	head, _, _ := strings.Cut(string(p), "*")
	return head
}

// AnyMatches says whether one of the patterns matches s. No patterns match anything.
func AnyMatches(patterns []Pattern, s string) bool {
	if len(patterns) == 0 {
		return true
	}
	for _, p := range patterns {
		if p.Matches(s) {
			return true
		}
	}
	return false
}

// Selects says whether the policy is for the Agent of that name. A policy that names no
// agents is for none.
func (p *AgentPolicy) Selects(agent string) bool {
	return len(p.Spec.Agents) > 0 && AnyMatches(p.Spec.Agents, agent)
}
