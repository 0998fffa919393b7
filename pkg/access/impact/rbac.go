package impact

import (
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

const (
	noLongerAllows = "no longer allows "
	// maxRights is how many sentences one change of rights may make before they are cut.
	maxRights = 10_000
)

// Holders are those to whom a binding gives a role, and where.
type Holders struct {
	// Namespace is that of a RoleBinding; empty for a ClusterRoleBinding.
	Namespace string
	Subjects  []rbacv1.Subject
	// Unclear: there may be others that could not be read.
	Unclear bool
}

// Dangling says that a binding is of a role that does not exist.
func (r *Report) Dangling(kind, name string) {
	r.say(allowed, "gives %s %s, which does not exist: whoever creates it decides what this allows", word(kind), path("", name))
}

// Role says what a role that had the rules before and has those after allows now and did
// not, to its holders; and what it no longer allows. What they may through other roles is not
// known here: what is called new may have been allowed to them by another.
func (r *Report) Role(before, after []rbacv1.PolicyRule, holders []Holders) {
	added, known := subtract(after, before)
	taken, ok := subtract(before, after)
	if !known || !ok {
		r.Unclear("what the role newly allows", "it has too many rules to compare: read the change")
		return
	}
	if len(holders) == 0 {
		holders = []Holders{{}}
	}
	r.rights(NewlyAllows, clauses(added), holders)
	r.rights(noLongerAllows, clauses(taken), holders)
}

// Binding says what a binding of rules allows to those who are subjects after and were not
// before; and to whom it no longer does.
func (r *Report) Binding(namespace string, rules []rbacv1.PolicyRule, before, after []rbacv1.Subject) {
	all, ok := subtract(rules, nil)
	if !ok {
		r.Unclear("what the binding allows", "its role has too many rules to list")
		return
	}
	for begin, subjects := range map[string][]rbacv1.Subject{
		NewlyAllows: without(after, before), noLongerAllows: without(before, after),
	} {
		if len(subjects) > 0 {
			r.rights(begin, clauses(all), []Holders{{Namespace: namespace, Subjects: subjects}})
		}
	}
}

// without are the subjects of a list that are not in another.
func without(list, other []rbacv1.Subject) []rbacv1.Subject {
	there := make(map[rbacv1.Subject]bool, len(other))
	for _, s := range other {
		there[s] = true
	}
	return slices.DeleteFunc(slices.Clone(list), func(s rbacv1.Subject) bool { return there[s] })
}

// rights says what clauses are about, for all holders. Several subjects share a sentence.
func (r *Report) rights(begin string, clauses []clause, holders []Holders) {
	sentences := 0
	for _, h := range holders {
		sentences += len(clauses) * (1 + len(h.Subjects)/listed)
	}
	if sentences > maxRights {
		r.Unclear("all that it "+strings.TrimSpace(begin), "it is too much to list: read the change")
		return
	}
	for _, h := range holders {
		for _, c := range clauses {
			r.right(begin, c, h)
		}
	}
}

func (r *Report) right(begin string, c clause, h Holders) {
	if c.path && h.Namespace != "" {
		return // a RoleBinding gives no paths
	}
	k := c.rank
	if begin == noLongerAllows {
		k = named
	}
	switch {
	case len(h.Subjects) > 0:
	case h.Unclear:
		r.say(k, "%s%s to whom it is bound, which is not known", begin, c.text)
		return
	default:
		r.say(k, "%s%s to nobody: nothing binds it", begin, c.text)
		return
	}
	where := " in the whole cluster to "
	if h.Namespace != "" {
		where = " in namespace " + path("", h.Namespace) + " to "
	}
	texts := make([]string, 0, len(h.Subjects))
	for _, s := range h.Subjects {
		texts = append(texts, subject(s))
	}
	slices.Sort(texts)
	for part := range slices.Chunk(slices.Compact(texts), listed) {
		r.say(k, "%s%s%s%s", begin, c.text, where, strings.Join(part, ", "))
	}
}

func subject(s rbacv1.Subject) string {
	switch s.Kind {
	case rbacv1.ServiceAccountKind:
		return "service account " + path(s.Namespace, s.Name)
	case rbacv1.GroupKind:
		return "group " + path("", s.Name)
	case rbacv1.UserKind:
		return "user " + path("", s.Name)
	default:
		return word(s.Kind) + " " + path("", s.Name)
	}
}
