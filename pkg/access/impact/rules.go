package impact

import (
	"cmp"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
)

// Bounds of the comparison of rules. The largest role that Kubernetes 1.37 comes with (admin)
// has 426 permissions and 251 words.
const (
	// maxPermissions is how many single permissions rules may have.
	maxPermissions = 20_000
	// maxCompared is how many times one may be compared with a word of another rule; it takes
	// less than a second.
	maxCompared = 20_000_000
)

// permission is the least that a rule can allow. A * in it stands for all there is.
type permission struct {
	verb, group, resource string
	// name of the one object; empty for all.
	name string
	// url is a path that is no resource; the others but verb are then empty.
	url string
}

// subtract returns the permissions of some rules that others do not give. ok is false where
// there are too many to compare.
//
// It is the comparison that RBAC itself makes against escalation (k8s.io/component-helpers
// auth/rbac/validation): a * is given by a * alone, however long the list without it.
func subtract(rules, others []rbacv1.PolicyRule) (left []permission, ok bool) {
	total := 1
	for i := range others {
		total += words(&others[i])
	}
	budget := float64(min(maxPermissions, maxCompared/total)) // products of lengths overflow an int
	for i := range rules {
		rule := &rules[i]
		resources := product(len(rule.APIGroups), len(rule.Resources), max(len(rule.ResourceNames), 1))
		if budget -= float64(len(rule.Verbs)) * (resources + float64(len(rule.NonResourceURLs))); budget < 0 {
			return nil, false
		}
		for p := range permissions(rule) {
			if !slices.ContainsFunc(others, func(other rbacv1.PolicyRule) bool { return gives(&other, p) }) {
				left = append(left, p)
			}
		}
	}
	slices.SortFunc(left, permission.compare)
	return slices.Compact(left), true
}

func product(lengths ...int) float64 {
	p := 1.0
	for _, n := range lengths {
		p *= float64(n)
	}
	return p
}

// words is how much a rule has to be compared with.
func words(r *rbacv1.PolicyRule) int {
	return len(r.Verbs) + len(r.APIGroups) + len(r.Resources) + len(r.ResourceNames) + len(r.NonResourceURLs)
}

func (p permission) compare(q permission) int {
	return cmp.Or(
		strings.Compare(p.url, q.url), strings.Compare(p.group, q.group), strings.Compare(p.resource, q.resource),
		strings.Compare(p.name, q.name), strings.Compare(p.verb, q.verb),
	)
}

// permissions are those of a rule, one by one.
func permissions(r *rbacv1.PolicyRule) func(yield func(permission) bool) {
	names := r.ResourceNames
	if len(names) == 0 {
		names = []string{""}
	}
	return func(yield func(permission) bool) {
		for _, verb := range r.Verbs {
			for _, url := range r.NonResourceURLs {
				if !yield(permission{verb: verb, url: url}) {
					return
				}
			}
			for _, group := range r.APIGroups {
				for _, resource := range r.Resources {
					for _, name := range names {
						if !yield(permission{verb: verb, group: group, resource: resource, name: name}) {
							return
						}
					}
				}
			}
		}
	}
}

// gives says whether a rule gives all of a permission.
func gives(r *rbacv1.PolicyRule, p permission) bool {
	if !anyOf(r.Verbs, p.verb) {
		return false
	}
	if p.url != "" {
		return slices.ContainsFunc(r.NonResourceURLs, func(url string) bool {
			head, star := strings.CutSuffix(url, "*")
			return url == p.url || star && strings.HasPrefix(p.url, head)
		})
	}
	if !anyOf(r.APIGroups, p.group) || len(r.ResourceNames) > 0 && (p.name == "" || !slices.Contains(r.ResourceNames, p.name)) {
		return false
	}
	if anyOf(r.Resources, p.resource) {
		return true
	}
	_, subresource, ok := strings.Cut(p.resource, "/")
	return ok && slices.Contains(r.Resources, "*/"+subresource)
}

func anyOf(list []string, s string) bool {
	return slices.Contains(list, "*") || slices.Contains(list, s)
}
