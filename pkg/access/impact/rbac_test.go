package impact

import (
	"fmt"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
)

func rule(verbs, groups, resources []string, names ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{Verbs: verbs, APIGroups: groups, Resources: resources, ResourceNames: names}
}

func list(s ...string) []string { return s }

var (
	dev = rbacv1.Subject{Kind: rbacv1.GroupKind, Name: "dev", APIGroup: rbacv1.GroupName}
	bot = rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: "agents", Name: "bot"}
	ann = rbacv1.Subject{Kind: rbacv1.UserKind, Name: `ann" in the whole cluster`, APIGroup: rbacv1.GroupName}
)

func TestRole(t *testing.T) {
	t.Parallel()
	core, star := list(""), list("*")
	read := rule(list("get", "list"), core, list("pods", "configmaps"))
	inProd := []Holders{{Namespace: "prod", Subjects: []rbacv1.Subject{dev}}}
	everywhere := []Holders{{Subjects: []rbacv1.Subject{dev}}}
	for name, c := range map[string]struct {
		before, after []rbacv1.PolicyRule
		holders       []Holders
		want          []string
	}{
		"new": {
			nil, []rbacv1.PolicyRule{rule(list("list", "get"), core, list("secrets"))}, inProd,
			list(`newly allows get, list on secrets in namespace "prod" to group "dev"`),
		},
		"nothing new": {
			[]rbacv1.PolicyRule{read}, []rbacv1.PolicyRule{rule(list("get"), core, list("pods")), rule(list("list", "get"), core, list("configmaps", "pods")), rule(list("list"), core, list("pods"), "x")},
			inProd, nil,
		},
		"one verb more for one of two": {
			[]rbacv1.PolicyRule{read}, []rbacv1.PolicyRule{read, rule(list("get", "delete"), core, list("pods"))}, inProd,
			list(`newly allows delete on pods in namespace "prod" to group "dev"`),
		},
		"named, and no longer named": {
			[]rbacv1.PolicyRule{rule(list("get"), core, list("configmaps"), "a")},
			[]rbacv1.PolicyRule{rule(list("get"), core, list("configmaps"), "b", "a", "c")}, inProd,
			list(`newly allows get on configmaps named "b", "c" in namespace "prod" to group "dev"`),
		},
		"all where one was named": {
			[]rbacv1.PolicyRule{rule(list("get"), core, list("configmaps"), "a")},
			[]rbacv1.PolicyRule{rule(list("get"), core, list("configmaps"))}, inProd,
			list(`newly allows get on configmaps in namespace "prod" to group "dev"`),
		},
		// RBAC takes an empty name for a request without one, not for all.
		"all where the empty name was": {
			[]rbacv1.PolicyRule{rule(list("list"), core, list("configmaps"), "")},
			[]rbacv1.PolicyRule{rule(list("list"), core, list("configmaps"))}, inProd,
			list(`newly allows list on configmaps in namespace "prod" to group "dev"`),
		},
		"a star where all was listed": {
			[]rbacv1.PolicyRule{read}, []rbacv1.PolicyRule{read, rule(star, star, star)}, everywhere,
			list(`newly allows everything (*) on every resource in the whole cluster to group "dev"`),
		},
		"a list where a star was": {
			[]rbacv1.PolicyRule{rule(star, star, star)}, []rbacv1.PolicyRule{read}, everywhere,
			list(`no longer allows everything (*) on every resource in the whole cluster to group "dev"`),
		},
		"stars of one place": {
			nil, []rbacv1.PolicyRule{rule(list("get"), list("apps"), star), rule(list("get"), star, list("jobs")), rule(list("get"), core, star)}, everywhere,
			list(`newly allows get on every resource of the core API group, jobs of every API group, every resource of API group apps in the whole cluster to group "dev"`),
		},
		"subresources": {
			[]rbacv1.PolicyRule{rule(list("update"), list("apps"), list("*/scale"))},
			[]rbacv1.PolicyRule{rule(list("update"), list("apps"), list("deployments/scale", "deployments/status", "deployments"))}, inProd,
			list(`newly allows update on deployments.apps, deployments.apps/status in namespace "prod" to group "dev"`,
				`no longer allows update on *.apps/scale in namespace "prod" to group "dev"`),
		},
		"what leads further comes first": {
			nil, []rbacv1.PolicyRule{
				rule(list("create"), core, list("configmaps", "pods/exec", "pods")),
				rule(list("impersonate"), core, list("users"), "jane"),
				rule(list("bind"), list("rbac.authorization.k8s.io"), list("clusterroles")),
				rule(list("update"), list("holdfast.dev"), list("agents")),
				rule(list("get"), core, list("configmaps")),
			}, everywhere,
			list(
				`newly allows bind on clusterroles.rbac.authorization.k8s.io in the whole cluster to group "dev"`,
				`newly allows create on pods, pods/exec in the whole cluster to group "dev"`,
				`newly allows impersonate on users named "jane" in the whole cluster to group "dev"`,
				`newly allows update on agents.holdfast.dev in the whole cluster to group "dev"`,
				`newly allows create, get on configmaps in the whole cluster to group "dev"`,
			),
		},
		"paths, which a RoleBinding does not give": {
			[]rbacv1.PolicyRule{{Verbs: list("get"), NonResourceURLs: list("/healthz/*")}},
			[]rbacv1.PolicyRule{{Verbs: list("get"), NonResourceURLs: list("/metrics", "/healthz/ping", "/healthz")}},
			[]Holders{inProd[0], everywhere[0]},
			list(
				`newly allows get on path /healthz, path /metrics in the whole cluster to group "dev"`,
				`no longer allows get on path /healthz/* in the whole cluster to group "dev"`,
			),
		},
		"paths beside resources with the same verbs": {
			nil, []rbacv1.PolicyRule{rule(list("get"), core, list("pods")), {Verbs: list("get"), NonResourceURLs: list("*")}},
			[]Holders{inProd[0], everywhere[0]},
			list(
				`newly allows get on path * in the whole cluster to group "dev"`,
				`newly allows get on pods in namespace "prod" to group "dev"`,
				`newly allows get on pods in the whole cluster to group "dev"`,
			),
		},
		"nobody": {
			nil, []rbacv1.PolicyRule{rule(list("get"), core, list("pods"))}, nil,
			list(`newly allows get on pods to nobody: nothing binds it`),
		},
		"nobody knows": {
			nil, []rbacv1.PolicyRule{rule(list("get"), core, list("pods"))}, []Holders{{Unclear: true}},
			list(`newly allows get on pods to whom it is bound, which is not known`),
		},
		"several holders": {
			nil, []rbacv1.PolicyRule{rule(list("get"), core, list("pods"))},
			[]Holders{{Namespace: "prod", Subjects: []rbacv1.Subject{dev, bot, dev}}, {Namespace: "test", Subjects: []rbacv1.Subject{ann, {Kind: "Robot", Name: "r"}}}},
			list(
				`newly allows get on pods in namespace "prod" to group "dev", service account "agents/bot"`,
				`newly allows get on pods in namespace "test" to Robot "r", user "ann\" in the whole cluster"`,
			),
		},
		"hostile words": {
			nil, []rbacv1.PolicyRule{rule(list("get on nothing,\n"), list("a b"), list(`c"d`), `e"`)}, inProd,
			list(`newly allows "get on nothing,\n" on "c\"d"."a b" named "e\"" in namespace "prod" to group "dev"`),
		},
	} {
		var r Report
		r.Role(c.before, c.after, c.holders)
		equal(t, name, r.Impact().Affected, c.want)
	}
}

func TestBinding(t *testing.T) {
	t.Parallel()
	rules := []rbacv1.PolicyRule{rule(list("get"), list(""), list("secrets"))}
	for name, c := range map[string]struct {
		namespace     string
		before, after []rbacv1.Subject
		want          []string
	}{
		"new":             {"prod", nil, []rbacv1.Subject{dev, bot}, list(`newly allows get on secrets in namespace "prod" to group "dev", service account "agents/bot"`)},
		"everywhere":      {"", nil, []rbacv1.Subject{bot}, list(`newly allows get on secrets in the whole cluster to service account "agents/bot"`)},
		"one more":        {"prod", []rbacv1.Subject{dev}, []rbacv1.Subject{dev, bot}, list(`newly allows get on secrets in namespace "prod" to service account "agents/bot"`)},
		"one for another": {"prod", []rbacv1.Subject{dev}, []rbacv1.Subject{bot}, list(`newly allows get on secrets in namespace "prod" to service account "agents/bot"`, `no longer allows get on secrets in namespace "prod" to group "dev"`)},
		"the same":        {"prod", []rbacv1.Subject{dev, bot}, []rbacv1.Subject{bot, dev}, nil},
		"removed":         {"prod", []rbacv1.Subject{dev}, nil, list(`no longer allows get on secrets in namespace "prod" to group "dev"`)},
	} {
		var r Report
		r.Binding(c.namespace, rules, c.before, c.after)
		equal(t, name, r.Impact().Affected, c.want)
	}
}

func TestDangling(t *testing.T) {
	t.Parallel()
	var r Report
	r.Dangling("ClusterRole", "later")
	equal(t, "dangling", r.Impact().Affected, list(`gives ClusterRole "later", which does not exist: whoever creates it decides what this allows`))
}

// Rules of any size take little time and memory; where they are too many, it says so.
func TestTooManyRules(t *testing.T) {
	t.Parallel()
	words := func(n int) []string {
		list := make([]string, n)
		for i := range list {
			list[i] = fmt.Sprint("w", i)
		}
		return list
	}
	// Of which the number of permissions is no int64.
	overflow := []rbacv1.PolicyRule{rule(words(1<<16), words(1<<16), words(1<<16), words(1<<16)...)}
	huge := []rbacv1.PolicyRule{rule(words(1000), words(1000), words(1000), words(1000)...)}
	wide := []rbacv1.PolicyRule{rule(words(50), words(10), words(30))}
	many := make([]rbacv1.Subject, 200_000)
	for i := range many {
		many[i] = rbacv1.Subject{Kind: rbacv1.UserKind, Name: fmt.Sprint("u", i)}
	}
	for name, c := range map[string]struct {
		tell func(*Report)
		want []string
	}{
		"in a role":    {func(r *Report) { r.Role(nil, huge, nil) }, list("not known: what the role newly allows; it has too many rules to compare: read the change")},
		"overflow":     {func(r *Report) { r.Role(nil, overflow, nil) }, list("not known: what the role newly allows; it has too many rules to compare: read the change")},
		"taken away":   {func(r *Report) { r.Role(huge, nil, nil) }, list("not known: what the role newly allows; it has too many rules to compare: read the change")},
		"to compare":   {func(r *Report) { r.Role([]rbacv1.PolicyRule{rule(words(5000), nil, nil)}, wide, nil) }, list("not known: what the role newly allows; it has too many rules to compare: read the change")},
		"in a binding": {func(r *Report) { r.Binding("", huge, nil, many[:1]) }, list("not known: what the binding allows; its role has too many rules to list")},
		"subjects": {
			func(r *Report) {
				r.Binding("", []rbacv1.PolicyRule{rule(list("get"), list(""), list("pods"))}, nil, many)
			},
			list("not known: all that it newly allows; it is too much to list: read the change"),
		},
	} {
		var r Report
		c.tell(&r)
		equal(t, name, r.Impact().Affected, c.want)
	}
}
