// Package agent says who is an agent: it identifies authenticated users by the declared
// Agents, and renders the net, the condition under which the API server asks Holdfast at
// all.
//
// It looks at authenticated names and groups only, never at what a client may set. It does
// no I/O and knows nothing of policies.
package agent

import (
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

const (
	accountPrefix = "system:serviceaccount:"
	accountGroup  = "system:serviceaccounts:"
	systemPrefix  = "system:"
)

// Set identifies users by a fixed list of Agents. It is immutable and safe for concurrent
// use; the zero value knows no agents.
type Set struct {
	agents []*v1alpha1.Agent
	// accounts are the subjects of kind ServiceAccount by namespace, the others are looked
	// at one by one.
	accounts map[string][]member
	users    map[string][]int
	patterns []member
	groups   []member
}

// member ties a name's pattern to the index of an Agent.
type member struct {
	pattern v1alpha1.Pattern
	agent   int
}

// NewSet makes a Set of the Agents, which it keeps and which must not change afterwards.
func NewSet(agents []*v1alpha1.Agent) *Set {
	s := &Set{
		agents:   slices.Clone(agents),
		accounts: map[string][]member{},
		users:    map[string][]int{},
	}
	slices.SortFunc(s.agents, func(a, b *v1alpha1.Agent) int { return strings.Compare(a.Name, b.Name) })
	for i, a := range s.agents {
		for _, subject := range a.Spec.Subjects {
			s.add(i, subject)
		}
	}
	return s
}

func (s *Set) add(i int, subject v1alpha1.Subject) {
	m := member{pattern: v1alpha1.Pattern(subject.Name), agent: i}
	switch subject.Kind {
	case v1alpha1.ServiceAccountSubject:
		s.accounts[subject.Namespace] = append(s.accounts[subject.Namespace], m)
	case v1alpha1.UserSubject:
		if m.pattern.Literal() {
			s.users[subject.Name] = append(s.users[subject.Name], i)
		} else {
			s.patterns = append(s.patterns, m)
		}
	case v1alpha1.GroupSubject:
		s.groups = append(s.groups, m)
	}
}

// Len is the number of Agents in the set.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return len(s.agents)
}

// All returns the Agents in order of their names. The slice must not be changed.
func (s *Set) All() []*v1alpha1.Agent {
	if s == nil {
		return nil
	}
	return s.agents
}

// Identify returns the Agents that the user belongs to, in order of their names; none for
// people and for everyone who is not declared. A suspended Agent is returned like any other.
func (s *Set) Identify(u decision.User) []*v1alpha1.Agent {
	if s.Len() == 0 {
		return nil
	}
	var found []int
	if namespace, name, ok := splitAccount(u.Name); ok {
		for _, m := range s.accounts[namespace] {
			if m.pattern.Matches(name) {
				found = append(found, m.agent)
			}
		}
	}
	found = append(found, s.users[u.Name]...)
	for _, m := range s.patterns {
		if matchesName(m.pattern, u.Name) {
			found = append(found, m.agent)
		}
	}
	for _, m := range s.groups {
		if slices.ContainsFunc(u.Groups, func(g string) bool { return matchesName(m.pattern, g) }) {
			found = append(found, m.agent)
		}
	}
	if len(found) == 0 {
		return nil
	}
	slices.Sort(found)
	found = slices.Compact(found)
	agents := make([]*v1alpha1.Agent, len(found))
	for i, at := range found {
		agents[i] = s.agents[at]
	}
	return agents
}

// matchesName keeps a pattern such as *-bot from reaching into the names that Kubernetes
// itself gives: they match only patterns that spell out their prefix.
func matchesName(p v1alpha1.Pattern, name string) bool {
	if strings.HasPrefix(name, systemPrefix) && !strings.HasPrefix(p.Prefix(), systemPrefix) {
		return false
	}
	return p.Matches(name)
}

// splitAccount takes a service account's user name apart; ok is false for other names.
func splitAccount(user string) (namespace, name string, ok bool) {
	rest, ok := strings.CutPrefix(user, accountPrefix)
	if !ok {
		return "", "", false
	}
	namespace, name, ok = strings.Cut(rest, ":")
	return namespace, name, ok && namespace != "" && name != "" && !strings.Contains(name, ":")
}
