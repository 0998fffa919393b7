package kube

import (
	"context"
	"slices"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/holdfast-dev/holdfast/pkg/access/impact"
)

// rbacPages is how many pages of roles or bindings are looked at: 5,000 of them.
const rbacPages = 20

// rbacPath is a collection of RBAC's objects.
func rbacPath(resource, namespace string) listPath {
	return listPath{group: rbacv1.GroupName, version: "v1", resource: resource, namespace: namespace}
}

// rbacRole is a Role or ClusterRole; rbacBinding a RoleBinding or ClusterRoleBinding.
type (
	rbacRole    = rbacv1.ClusterRole
	rbacBinding = rbacv1.RoleBinding
)

// decoded are the old and the new object; empty where there is none.
func decoded[T any](s *survey) (before, after T, ok bool) {
	for _, part := range []struct {
		from map[string]any
		into *T
	}{{s.request.OldObject, &before}, {s.request.Object, &after}} {
		if part.from == nil {
			continue
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(part.from, part.into); err != nil {
			s.report.Unclear("what it newly allows", "the object is not understood")
			return before, after, false
		}
	}
	return before, after, true
}

// binding says what is newly allowed to whom by a binding.
func (s *survey) binding(ctx context.Context) {
	before, after, ok := decoded[rbacBinding](s)
	if !ok {
		return
	}
	ref := after.RoleRef
	if s.request.Object == nil {
		ref = before.RoleRef
	}
	at := rbacPath("clusterroles", "")
	if ref.Kind == "Role" {
		at = rbacPath("roles", s.request.Namespace)
	}
	var role rbacRole
	switch err := s.api.get(ctx, at, ref.Name, asWhole, &role); {
	case isNotFound(err):
		s.report.Dangling(ref.Kind, ref.Name)
	case err != nil:
		s.report.Unclear("what the binding allows", why(err))
	default:
		s.report.Binding(s.request.Namespace, role.Rules, before.Subjects, after.Subjects)
	}
}

// role says what is newly allowed to whom by a role, and by those that it is aggregated to.
func (s *survey) role(ctx context.Context) {
	before, after, ok := decoded[rbacRole](s)
	if !ok {
		return
	}
	name := s.request.Name
	if s.request.Resource == "roles" {
		s.report.Role(before.Rules, after.Rules, s.holders(ctx, "Role", name))
		return
	}
	others, err := listPages[rbacRole](ctx, s.api, rbacPath("clusterroles", ""), asWhole, rbacPages)
	if err != nil {
		s.report.Unclear("to which other roles its rules are added (aggregation)", why(err))
	}
	if others.Metadata.Continue != "" {
		s.report.Unclear("all roles to which its rules are added (aggregation)", "there are too many to look at")
	}
	if after.AggregationRule != nil {
		after.Rules = aggregated(after.AggregationRule, others.Items)
	}
	s.report.Role(before.Rules, after.Rules, s.holders(ctx, "ClusterRole", name))
	for _, to := range aggregates(after, others.Items) {
		s.report.Role(to.Rules, slices.Concat(to.Rules, after.Rules), s.holders(ctx, "ClusterRole", to.Name))
	}
}

// aggregated are the rules that a ClusterRole gets from others.
func aggregated(a *rbacv1.AggregationRule, roles []rbacRole) []rbacv1.PolicyRule {
	var rules []rbacv1.PolicyRule
	for i := range roles {
		if selectsRole(a, &roles[i]) {
			rules = append(rules, roles[i].Rules...)
		}
	}
	return rules
}

// aggregates are the ClusterRoles to which the rules of one are added, directly or through
// another.
func aggregates(role rbacRole, roles []rbacRole) []rbacRole {
	var to []rbacRole
	next := []rbacRole{role}
	seen := map[string]bool{role.Name: true}
	for len(next) > 0 {
		from := next[0]
		next = next[1:]
		for i := range roles {
			if !seen[roles[i].Name] && selectsRole(roles[i].AggregationRule, &from) {
				seen[roles[i].Name] = true
				to = append(to, roles[i])
				next = append(next, roles[i])
			}
		}
	}
	return to
}

func selectsRole(a *rbacv1.AggregationRule, role *rbacRole) bool {
	if a == nil {
		return false
	}
	return slices.ContainsFunc(a.ClusterRoleSelectors, func(s metav1.LabelSelector) bool {
		selector, err := metav1.LabelSelectorAsSelector(&s)
		return err == nil && selector.Matches(labels.Set(role.Labels))
	})
}

// holders are those to whom a role is bound.
func (s *survey) holders(ctx context.Context, kind, name string) []impact.Holders {
	namespace := s.request.Namespace // empty for a ClusterRole, which can be bound in any
	paths := []listPath{rbacPath("rolebindings", namespace)}
	if kind == "ClusterRole" {
		paths = append(paths, rbacPath("clusterrolebindings", ""))
	}
	var holders []impact.Holders
	for _, at := range paths {
		l, err := listPages[rbacBinding](ctx, s.api, at, asWhole, rbacPages)
		if err != nil {
			s.report.Unclear("to whom "+at.resource+" give what is changed", why(err))
			holders = append(holders, impact.Holders{Unclear: true})
			continue
		}
		if l.Metadata.Continue != "" {
			s.report.Unclear("all "+at.resource+" that give what is changed", "there are too many to look at")
			holders = append(holders, impact.Holders{Unclear: true})
		}
		for i := range l.Items {
			b := &l.Items[i]
			if b.RoleRef.Kind == kind && b.RoleRef.Name == name && len(b.Subjects) > 0 {
				holders = append(holders, impact.Holders{Namespace: b.Namespace, Subjects: b.Subjects})
			}
		}
	}
	return holders
}
