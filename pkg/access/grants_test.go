package access

import (
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// grant is one of bot-user's, until a quarter past noon.
func grant(name string, change func(*v1alpha1.AccessRequest)) *v1alpha1.AccessRequest {
	r := pending(rule("one", 1, "ops"))
	r.Name, r.UID = name, types.UID(name)
	r.Spec.Origin, r.Spec.RequesterUID = v1alpha1.Asked, "u1"
	r.Spec.Access = v1alpha1.Access{
		Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"},
		Namespaces: []string{"prod"}, Names: []string{"db"}, Duration: &metav1.Duration{Duration: 15 * time.Minute},
	}
	r.Status.Phase, r.Status.ExpiresAt = v1alpha1.Approved, &metav1.Time{Time: noon.Add(15 * time.Minute)}
	if change != nil {
		change(r)
	}
	return r
}

func TestGrantLives(t *testing.T) {
	t.Parallel()
	user := decision.User{Name: "bot-user", UID: "u1"}
	get := &decision.Request{Verb: "get", Resource: "secrets", Namespace: "prod", Name: "db"}
	nobody := func(*v1alpha1.AccessRequest) {}
	for name, test := range map[string]struct {
		user   decision.User
		change func(*v1alpha1.AccessRequest)
		after  time.Duration
		want   bool
	}{
		"live":                  {user, nobody, 0, true},
		"to its last second":    {user, nobody, 15*time.Minute - time.Second, true},
		"over":                  {user, nobody, 15 * time.Minute, false},
		"without an end":        {user, func(r *v1alpha1.AccessRequest) { r.Status.ExpiresAt = nil }, 0, false},
		"pending":               {user, func(r *v1alpha1.AccessRequest) { r.Status.Phase = v1alpha1.Pending }, 0, false},
		"new":                   {user, func(r *v1alpha1.AccessRequest) { r.Status.Phase = "" }, 0, false},
		"revoked":               {user, func(r *v1alpha1.AccessRequest) { r.Status.Phase = v1alpha1.Revoked }, 0, false},
		"withdrawn":             {user, func(r *v1alpha1.AccessRequest) { r.Spec.Withdrawn = true }, 0, false},
		"being deleted":         {user, func(r *v1alpha1.AccessRequest) { r.DeletionTimestamp = &metav1.Time{Time: noon} }, 0, false},
		"held, not asked":       {user, func(r *v1alpha1.AccessRequest) { r.Spec.Origin = v1alpha1.Intercepted }, 0, false},
		"another user":          {decision.User{Name: "eve", UID: "u1"}, nobody, 0, false},
		"the next of that name": {decision.User{Name: "bot-user", UID: "u2"}, nobody, 0, false},
		"a UID that is gone":    {decision.User{Name: "bot-user"}, nobody, 0, false},
		"no UID was known":      {decision.User{Name: "bot-user", UID: "u2"}, func(r *v1alpha1.AccessRequest) { r.Spec.RequesterUID = "" }, 0, true},
		"asked by nobody":       {decision.User{}, func(r *v1alpha1.AccessRequest) { r.Spec.Requester, r.Spec.RequesterUID = "", "" }, 0, false},
	} {
		g := grant("g", test.change)
		got := NewGrants([]*v1alpha1.AccessRequest{g}).For(test.user, get, noon.Add(test.after))
		if (len(got) == 1) != test.want || Granted(g, test.user, get, noon.Add(test.after)) != test.want {
			t.Errorf("%s: %d grants, want %t", name, len(got), test.want)
		}
	}
	if (*Grants)(nil).For(user, get, noon) != nil {
		t.Error("no grants grant something")
	}
}

// TestGrantCovers: a grant is for what it names, and for nothing beside it. Requests are
// verb group resource namespace name; - is none.
func TestGrantCovers(t *testing.T) {
	t.Parallel()
	list, none := func(s ...string) []string { return s }, []string{}
	for name, test := range map[string]struct {
		grant   v1alpha1.Access
		request decision.Request
		want    bool
	}{
		"another verb":          {v1alpha1.Access{Verbs: list("get")}, decision.Request{Verb: "list"}, false},
		"one of several":        {v1alpha1.Access{Verbs: list("get", "list"), Names: list("db", "web")}, decision.Request{Verb: "list", Name: "web"}, true},
		"another group":         {v1alpha1.Access{Verbs: list("get")}, decision.Request{Verb: "get", Group: "x.io"}, false},
		"another resource":      {v1alpha1.Access{Verbs: list("get")}, decision.Request{Verb: "get", Resource: "configmaps"}, false},
		"its subresource":       {v1alpha1.Access{Verbs: list("get")}, decision.Request{Verb: "get", Subresource: "status"}, false},
		"another namespace":     {v1alpha1.Access{Verbs: list("get")}, decision.Request{Verb: "get", Namespace: "dev"}, false},
		"all namespaces":        {v1alpha1.Access{Verbs: list("list"), Names: none}, decision.Request{Verb: "list", Namespace: "-"}, false},
		"another name":          {v1alpha1.Access{Verbs: list("get")}, decision.Request{Verb: "get", Name: "web"}, false},
		"all of them":           {v1alpha1.Access{Verbs: list("list")}, decision.Request{Verb: "list", Name: "-"}, false},
		"a list of one":         {v1alpha1.Access{Verbs: list("list")}, decision.Request{Verb: "list"}, true},
		"a list":                {v1alpha1.Access{Verbs: list("list", "watch"), Names: none}, decision.Request{Verb: "watch", Name: "-"}, true},
		"one of a list":         {v1alpha1.Access{Verbs: list("list"), Names: none}, decision.Request{Verb: "list", Name: "db"}, false},
		"get is in no list":     {v1alpha1.Access{Verbs: list("list", "get"), Names: none}, decision.Request{Verb: "get"}, false},
		"a star is no pattern":  {v1alpha1.Access{Verbs: list("*"), Resources: list("*"), Names: list("*")}, decision.Request{Verb: "get"}, false},
		"update by update":      {v1alpha1.Access{Verbs: list("update")}, decision.Request{Verb: "update"}, true},
		"update by patch":       {v1alpha1.Access{Verbs: list("patch")}, decision.Request{Verb: "update"}, true},
		"patch by patch":        {v1alpha1.Access{Verbs: list("patch")}, decision.Request{Verb: "patch"}, true},
		"patch by update":       {v1alpha1.Access{Verbs: list("update")}, decision.Request{Verb: "patch"}, false},
		"delete":                {v1alpha1.Access{Verbs: list("delete")}, decision.Request{Verb: "delete"}, true},
		"not the collection":    {v1alpha1.Access{Verbs: list("delete")}, decision.Request{Verb: "deletecollection"}, false},
		"exec by create":        {v1alpha1.Access{Verbs: list("create"), Resources: list("pods/exec")}, decision.Request{Verb: "connect", Resource: "pods", Subresource: "exec"}, true},
		"exec by get":           {v1alpha1.Access{Verbs: list("get"), Resources: list("pods/exec")}, decision.Request{Verb: "connect", Resource: "pods", Subresource: "exec"}, true},
		"exec in another pod":   {v1alpha1.Access{Verbs: list("get"), Resources: list("pods/exec")}, decision.Request{Verb: "connect", Resource: "pods", Subresource: "exec", Name: "web"}, false},
		"exec by a get of pods": {v1alpha1.Access{Verbs: list("get"), Resources: list("pods")}, decision.Request{Verb: "connect", Resource: "pods", Subresource: "exec"}, false},
		"proxy":                 {v1alpha1.Access{Verbs: list("create"), Resources: list("services/proxy")}, decision.Request{Verb: "connect", Resource: "services", Subresource: "proxy"}, true},
		"proxy of another group": {v1alpha1.Access{Verbs: list("create"), APIGroups: list("x.io"), Resources: list("pods/exec")},
			decision.Request{Verb: "connect", Group: "x.io", Resource: "pods", Subresource: "exec"}, false},
		"another connection": {v1alpha1.Access{Verbs: list("create"), Resources: list("pods/x")}, decision.Request{Verb: "connect", Resource: "pods", Subresource: "x"}, false},
		"a create, any name": {v1alpha1.Access{Verbs: list("create"), Names: none}, decision.Request{Verb: "create", Name: "any"}, true},
		"a create, no name":  {v1alpha1.Access{Verbs: list("create"), Names: none}, decision.Request{Verb: "create", Name: "-"}, true},
		"a create by name":   {v1alpha1.Access{Verbs: list("create")}, decision.Request{Verb: "create"}, true},
		"of another name":    {v1alpha1.Access{Verbs: list("create")}, decision.Request{Verb: "create", Name: "web"}, false},
		"no eviction of any": {v1alpha1.Access{Verbs: list("create"), Resources: list("pods/eviction"), Names: none}, decision.Request{Verb: "create", Resource: "pods", Subresource: "eviction"}, false},
		"an eviction":        {v1alpha1.Access{Verbs: list("create"), Resources: list("pods/eviction")}, decision.Request{Verb: "create", Resource: "pods", Subresource: "eviction"}, true},
		"cluster-scoped":     {v1alpha1.Access{Verbs: list("get"), Resources: list("nodes"), Namespaces: none}, decision.Request{Verb: "get", Resource: "nodes", Namespace: "-"}, true},
		"not in a namespace": {v1alpha1.Access{Verbs: list("get"), Namespaces: none}, decision.Request{Verb: "get"}, false},
		"a Namespace":        {v1alpha1.Access{Verbs: list("get"), Resources: list("namespaces"), Namespaces: none}, decision.Request{Verb: "get", Resource: "namespaces", Namespace: "db"}, true},
		"another Namespace":  {v1alpha1.Access{Verbs: list("get"), Resources: list("namespaces"), Namespaces: none}, decision.Request{Verb: "get", Resource: "namespaces", Namespace: "x", Name: "x"}, false},
		"a path":             {v1alpha1.Access{Verbs: list("get"), Resources: list(""), Names: none, Namespaces: none}, decision.Request{Verb: "get", Resource: "-", Name: "-", Namespace: "-", NonResourceURL: "/metrics"}, false},
	} {
		g := grant("g", func(r *v1alpha1.AccessRequest) {
			a := &r.Spec.Access
			a.Verbs = test.grant.Verbs
			fill(&a.APIGroups, test.grant.APIGroups)
			fill(&a.Resources, test.grant.Resources)
			fill(&a.Namespaces, test.grant.Namespaces)
			fill(&a.Names, test.grant.Names)
		})
		q := test.request
		q.Resource, q.Namespace, q.Name = or(q.Resource, "secrets"), or(q.Namespace, "prod"), or(q.Name, "db")
		got := NewGrants([]*v1alpha1.AccessRequest{g}).For(decision.User{Name: "bot-user", UID: "u1"}, &q, noon)
		if (len(got) == 1) != test.want {
			t.Errorf("%s: %t, want %t", name, len(got) == 1, test.want)
		}
	}
}

func fill(into *[]string, with []string) {
	if with != nil {
		*into = with
	}
}

// or is s, another where s is empty, and nothing where it is a dash.
func or(s, another string) string {
	switch s {
	case "":
		return another
	case "-":
		return ""
	default:
		return s
	}
}

func TestGrantsFor(t *testing.T) {
	t.Parallel()
	g := NewGrants([]*v1alpha1.AccessRequest{
		grant("b", nil), grant("a", nil), pending(rule("one", 1, "ops")),
		grant("c", func(r *v1alpha1.AccessRequest) { r.Spec.Requester = "other" }),
	})
	var names string
	for _, r := range g.For(decision.User{Name: "bot-user", UID: "u1"}, &decision.Request{Verb: "get", Resource: "secrets", Namespace: "prod", Name: "db"}, noon) {
		names += r.Name
	}
	if names != "ab" {
		t.Errorf("grants %q, want ab", names)
	}
}

// TestNextAsked: what was asked ahead waits, is granted from its approval on for as long as
// was asked, and ends.
func TestNextAsked(t *testing.T) {
	t.Parallel()
	asked := func(change func(*v1alpha1.AccessRequest)) *v1alpha1.AccessRequest {
		return grant("r-1", func(r *v1alpha1.AccessRequest) {
			r.CreationTimestamp = metav1.Time{Time: noon.Add(-time.Minute)}
			r.Spec.ExpiresAfter = &metav1.Duration{Duration: time.Hour}
			r.Status = v1alpha1.AccessRequestStatus{}
			r.Status = Begin(r)
			if change != nil {
				change(r)
			}
		})
	}
	if s := asked(nil).Status; s.Phase != v1alpha1.Pending || !s.ExpiresAt.Equal(&metav1.Time{Time: noon.Add(59 * time.Minute)}) {
		t.Errorf("it begins %s until %s", s.Phase, s.ExpiresAt)
	}
	yes, no := review(1, "ann", "ops", v1alpha1.Approve), review(2, "ben", "ops", v1alpha1.Reject)
	approved := func(r *v1alpha1.AccessRequest) {
		r.Status.Phase, r.Status.ExpiresAt = v1alpha1.Approved, &metav1.Time{Time: noon.Add(15 * time.Minute)}
	}
	for name, test := range map[string]struct {
		change  func(*v1alpha1.AccessRequest)
		reviews []v1alpha1.Review
		after   time.Duration
		want    v1alpha1.Phase
		until   time.Duration
	}{
		"waits":                {nil, nil, 0, v1alpha1.Pending, 59 * time.Minute},
		"expires":              {nil, nil, 59 * time.Minute, v1alpha1.Expired, 59 * time.Minute},
		"never stamped":        {func(r *v1alpha1.AccessRequest) { r.Spec.ExpiresAfter = nil; r.Status = Begin(r) }, nil, 0, v1alpha1.Expired, -time.Minute},
		"denied":               {nil, []v1alpha1.Review{no}, 0, v1alpha1.Denied, 59 * time.Minute},
		"approved":             {nil, []v1alpha1.Review{yes}, 0, v1alpha1.Approved, 15 * time.Minute},
		"approved late":        {nil, []v1alpha1.Review{yes}, 58 * time.Minute, v1alpha1.Approved, 73 * time.Minute},
		"approved for nothing": {func(r *v1alpha1.AccessRequest) { r.Spec.Access.Duration = nil }, []v1alpha1.Review{yes}, 0, v1alpha1.Approved, 0},
		"stands":               {approved, []v1alpha1.Review{yes}, 14 * time.Minute, v1alpha1.Approved, 15 * time.Minute},
		"ends":                 {approved, []v1alpha1.Review{yes}, 15 * time.Minute, v1alpha1.Expired, 15 * time.Minute},
		"revoked":              {approved, []v1alpha1.Review{yes, no}, 0, v1alpha1.Revoked, 15 * time.Minute},
		"withdrawn":            {func(r *v1alpha1.AccessRequest) { approved(r); r.Spec.Withdrawn = true }, []v1alpha1.Review{yes}, 0, v1alpha1.Withdrawn, 15 * time.Minute},
	} {
		r := asked(test.change)
		got := Next(r, test.reviews, facts(), noon.Add(test.after))
		if got.Phase != test.want || !got.ExpiresAt.Equal(&metav1.Time{Time: noon.Add(test.until)}) {
			t.Errorf("%s: %s until %s, want %s until %s", name, got.Phase, got.ExpiresAt, test.want, noon.Add(test.until))
		}
		if got.Phase != r.Status.Phase {
			if err := Move(v1alpha1.Asked, r.Status.Phase, got.Phase); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// BenchmarkGrants: one of a thousand grants of others, and of one's own.
func BenchmarkGrants(b *testing.B) {
	user := decision.User{Name: "bot-user", UID: "u1"}
	get := &decision.Request{Verb: "get", Resource: "secrets", Namespace: "prod", Name: "db"}
	for name, requester := range map[string]func(i int) string{
		"others": func(i int) string { return fmt.Sprintf("bot-%d", i) },
		"own":    func(int) string { return "bot-user" },
	} {
		list := []*v1alpha1.AccessRequest{grant("g", nil)}
		for i := range 1000 {
			list = append(list, grant(fmt.Sprintf("g-%d", i), func(r *v1alpha1.AccessRequest) {
				r.Spec.Requester, r.Spec.Access.Names = requester(i), []string{"other"}
			}))
		}
		g := NewGrants(list)
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if len(g.For(user, get, noon)) != 1 {
					b.Fatal("not found")
				}
			}
		})
	}
}
