package policy

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

func patterns(s string) []v1alpha1.Pattern {
	if s == "" {
		return nil
	}
	var out []v1alpha1.Pattern
	for p := range strings.SplitSeq(s, ",") {
		out = append(out, v1alpha1.Pattern(strings.Trim(p, "'")))
	}
	return out
}

// may is an entry: verbs, resources of the core group, namespaces and names.
func may(name, verbs, resources, namespaces, names string, change ...func(*v1alpha1.Requestable)) v1alpha1.Requestable {
	r := v1alpha1.Requestable{
		Name: name, Verbs: patterns(verbs), APIGroups: []v1alpha1.Pattern{""}, Resources: patterns(resources),
		Namespaces: patterns(namespaces), Names: patterns(names),
	}
	for _, c := range change {
		c(&r)
	}
	return r
}

func lasts(d time.Duration) func(*v1alpha1.Requestable) {
	return func(r *v1alpha1.Requestable) { r.MaxDuration = &metav1.Duration{Duration: d} }
}

func waits(d time.Duration) func(*v1alpha1.Requestable) {
	return func(r *v1alpha1.Requestable) { r.ExpiresAfter = &metav1.Duration{Duration: d} }
}

func asks(r ...v1alpha1.Requestable) func(*v1alpha1.AgentPolicySpec) {
	return func(s *v1alpha1.AgentPolicySpec) { s.Requestable = r }
}

// both makes one spec of several changes.
func both(changes ...func(*v1alpha1.AgentPolicySpec)) func(*v1alpha1.AgentPolicySpec) {
	return func(s *v1alpha1.AgentPolicySpec) {
		for _, c := range changes {
			c(s)
		}
	}
}

// to is an access to the core group; a list is separated by commas.
func to(verbs, resources, namespaces, names string) v1alpha1.Access {
	list := func(s string) []string {
		if s == "" {
			return nil
		}
		return strings.Split(s, ",")
	}
	return v1alpha1.Access{Verbs: list(verbs), APIGroups: []string{""}, Resources: list(resources), Namespaces: list(namespaces), Names: list(names)}
}

func during(a v1alpha1.Access, d time.Duration) v1alpha1.Access {
	a.Duration = &metav1.Duration{Duration: d}
	return a
}

func TestAsked(t *testing.T) {
	t.Parallel()
	rule := func(name string, action v1alpha1.Action, verbs, resources, names string) v1alpha1.Rule {
		return v1alpha1.Rule{Name: name, Action: action, Match: v1alpha1.Match{Verbs: patterns(verbs), Resources: patterns(resources), Names: patterns(names)}}
	}
	when := func(r v1alpha1.Rule) v1alpha1.Rule { r.When = `agent.name == "bot"`; return r }
	fallback := func(a v1alpha1.Action) func(*v1alpha1.AgentPolicySpec) {
		return func(s *v1alpha1.AgentPolicySpec) { s.Default = a }
	}
	secrets := may("secrets", "get,list", "secrets", "prod-*", "")
	getDB := to("get", "secrets", "prod-a", "db")
	one := func(changes ...func(*v1alpha1.AgentPolicySpec)) []*v1alpha1.AgentPolicy {
		return []*v1alpha1.AgentPolicy{newPolicy("p", both(changes...))}
	}
	for name, test := range map[string]struct {
		policies []*v1alpha1.AgentPolicy
		access   v1alpha1.Access
		want     string
	}{
		"covered":             {one(asks(secrets)), getDB, "p/secrets 10m0s 1h0m0s"},
		"in all combinations": {one(asks(secrets)), to("get", "secrets", "prod-a,prod-b", "db,web"), "p/secrets 10m0s 1h0m0s"},
		"but for one": {one(asks(secrets)), to("get", "secrets", "prod-a,dev", "db"),
			`no policy lets the agent ask to get secrets "db" in namespace "dev"; it may ask for what p/secrets covers; a cluster admin says in spec.requestable of an AgentPolicy what may be asked for`},
		"nothing may be asked": {one(), getDB,
			`no policy lets the agent ask to get secrets "db" in namespace "prod-a"; a cluster admin says in spec.requestable of an AgentPolicy what may be asked for`},
		"of another agent": {one(asks(secrets), func(s *v1alpha1.AgentPolicySpec) { s.Agents = patterns("other") }), getDB,
			`no policy lets the agent ask to get secrets "db" in namespace "prod-a"; a cluster admin says in spec.requestable of an AgentPolicy what may be asked for`},
		"a policy that warns": {one(asks(secrets), func(s *v1alpha1.AgentPolicySpec) { s.Mode = v1alpha1.Warn }), getDB,
			`no policy lets the agent ask to get secrets "db" in namespace "prod-a"; a cluster admin says in spec.requestable of an AgentPolicy what may be asked for`},
		"several entries": {one(asks(secrets, may("db", "*", "*", "", "db", waits(time.Minute), lasts(5*time.Minute)))), getDB, "p/db p/secrets 5m0s 1m0s"},
		"entries each for a part": {one(asks(may("a", "get", "secrets", "a", ""), may("b", "get", "secrets", "b", ""))),
			to("get", "secrets", "a,b", "db"), "p/a p/b 10m0s 1h0m0s"},
		"how long":      {one(asks(secrets)), during(getDB, time.Hour), "p/secrets 1h0m0s 1h0m0s"},
		"too long":      {one(asks(secrets)), during(getDB, time.Hour+1), `spec.access.duration: Invalid value: "1h0m0.000000001s": want 1s to 1h0m0s, which is what p/secrets allows`},
		"for no time":   {one(asks(secrets)), during(getDB, -time.Second), `spec.access.duration: Invalid value: "-1s": want 1s to 1h0m0s, which is what p/secrets allows`},
		"a list of all": {one(asks(secrets)), to("list", "secrets", "prod-a", ""), "p/secrets 10m0s 1h0m0s"},
		"a list of all where names are named": {one(asks(may("s", "list", "secrets", "", "db"))), to("list", "secrets", "prod-a", ""),
			`no policy lets the agent ask to list secrets in namespace "prod-a"; it may ask for what p/s covers; a cluster admin says in spec.requestable of an AgentPolicy what may be asked for`},
		"everywhere": {one(asks(secrets)), to("list", "secrets", "", ""),
			`no policy lets the agent ask to list secrets; it may ask for what p/secrets covers; a cluster admin says in spec.requestable of an AgentPolicy what may be asked for`},
		"a Namespace": {one(asks(may("ns", "delete", "namespaces", "prod-*", ""))), to("delete", "namespaces", "", "prod-a"), "p/ns 10m0s 1h0m0s"},
		"held as well": {one(asks(may("cm", "*", "configmaps", "", "")), rules(rule("hold", v1alpha1.Hold, "update", "configmaps", ""))),
			to("patch", "configmaps", "a", "x"), "p/cm p/hold 10m0s 1h0m0s"},
		"held by another policy": {[]*v1alpha1.AgentPolicy{newPolicy("p", asks(secrets)), newPolicy("q", rules(rule("hold", v1alpha1.Hold, "get", "secrets", "db")))},
			getDB, "p/secrets q/hold 10m0s 1h0m0s"},
		"held where it warns": {[]*v1alpha1.AgentPolicy{newPolicy("p", asks(secrets)), newPolicy("q", both(rules(rule("hold", v1alpha1.Hold, "get", "*", "")), func(s *v1alpha1.AgentPolicySpec) { s.Mode = v1alpha1.Audit }))},
			getDB, "p/secrets 10m0s 1h0m0s"},
		"held on a condition": {one(asks(secrets), rules(when(rule("hold", v1alpha1.Hold, "get", "secrets", "")))), getDB, "p/secrets 10m0s 1h0m0s"},
		"held by default":     {one(asks(secrets), fallback(v1alpha1.Hold)), getDB, "p/ p/secrets 10m0s 1h0m0s"},
		"a rule before the default": {one(asks(secrets), fallback(v1alpha1.Hold), rules(rule("allow", v1alpha1.Allow, "get", "secrets", ""))),
			getDB, "p/secrets 10m0s 1h0m0s"},
		"perhaps a rule before the default": {one(asks(secrets), fallback(v1alpha1.Hold), rules(when(rule("allow", v1alpha1.Allow, "get", "secrets", "")))),
			getDB, "p/ p/secrets 10m0s 1h0m0s"},
		"denied": {one(asks(secrets), rules(rule("deny", v1alpha1.Deny, "get", "secrets", "db"))), getDB,
			`no approval lifts a denial: p/deny denies the agent to get secrets "db" in namespace "prod-a"`},
		"denied, with its message": {[]*v1alpha1.AgentPolicy{newPolicy("p", asks(secrets)), newPolicy("q", func(s *v1alpha1.AgentPolicySpec) {
			r := rule("deny", v1alpha1.Deny, "get", "*", "")
			r.Message = "Never."
			s.Rules = []v1alpha1.Rule{r}
		})}, getDB, `no approval lifts a denial: q/deny denies the agent to get secrets "db" in namespace "prod-a": Never.`},
		"denied on a condition": {one(asks(secrets), rules(when(rule("deny", v1alpha1.Deny, "get", "secrets", "")))), getDB, "p/secrets 10m0s 1h0m0s"},
		"denied by default": {[]*v1alpha1.AgentPolicy{newPolicy("p", asks(secrets)), newPolicy("q", fallback(v1alpha1.Deny))}, getDB,
			`no approval lifts a denial: no rule of policy q allows the agent to get secrets "db" in namespace "prod-a"`},
		"perhaps denied by default": {one(asks(secrets), fallback(v1alpha1.Deny), rules(when(rule("allow", v1alpha1.Allow, "get", "secrets", "")))), getDB, "p/secrets 10m0s 1h0m0s"},
		"an exec": {one(asks(may("exec", "get,create", "pods/exec", "", "")), rules(rule("hold", v1alpha1.Hold, "connect", "pods/exec", ""))),
			to("create", "pods/exec", "a", "x"), "p/exec p/hold 10m0s 1h0m0s"},
		"an exec that is denied": {one(asks(may("exec", "get,create", "pods/exec", "", "")), rules(rule("deny", v1alpha1.Deny, "connect", "pods/*", ""))),
			to("get", "pods/exec", "a", "x"), `no approval lifts a denial: p/deny denies the agent to get pods/exec "x" in namespace "a"`},
		"a create of what may be held by name": {one(asks(may("cm", "create", "configmaps", "", "")), rules(rule("hold", v1alpha1.Hold, "create", "configmaps", "prod-*"))),
			to("create", "configmaps", "a", ""), "p/cm p/hold 10m0s 1h0m0s"},
		"a create of what may be denied by name": {one(asks(may("cm", "create", "configmaps", "", "")), rules(rule("deny", v1alpha1.Deny, "create", "configmaps", "prod-*"))),
			to("create", "configmaps", "a", ""), "p/cm 10m0s 1h0m0s"},
		"a create by another name": {one(asks(may("cm", "create", "configmaps", "", "")), rules(rule("hold", v1alpha1.Hold, "create", "configmaps", "prod-*"))),
			to("create", "configmaps", "a", "dev"), "p/cm 10m0s 1h0m0s"},
		"no verbs":       {one(asks(secrets)), to("", "secrets", "a", "b"), "spec.access.verbs: Required value: say what you would do: get, list, watch, create, update, patch, delete"},
		"no resources":   {one(asks(secrets)), to("get", "", "a", "b"), "spec.access.resources: Required value: say which resources, in plural, such as configmaps or pods/exec"},
		"no names":       {one(asks(secrets)), to("list,get", "secrets", "prod-a", ""), `spec.access.names: Required value: name the objects to get secrets in namespace "prod-a"`},
		"an eviction":    {one(asks(may("e", "*", "*", "", ""))), to("create", "pods/eviction", "a", ""), `spec.access.names: Required value: name the objects to create pods/eviction in namespace "a"`},
		"all verbs":      {one(asks(secrets)), to("*", "secrets", "a", "b"), `spec.access.verbs[0]: Invalid value: "*": want verbs by name: an approver has to see what is granted`},
		"escalate":       {one(asks(may("e", "*", "*", "", ""))), to("escalate", "roles", "a", "b"), `spec.access.verbs[0]: Invalid value: "escalate": no grant hands out rights: ask to create, update or patch the role or binding itself`},
		"impersonate":    {one(asks(may("e", "*", "*", "", ""))), to("get,impersonate-on:user:list", "users", "", "b"), `spec.access.verbs[1]: Invalid value: "impersonate-on:user:list": an agent acts under its own name: ask for what it would do as somebody else`},
		"a collection":   {one(asks(may("e", "*", "*", "", ""))), to("deletecollection", "pods", "a", ""), `spec.access.verbs[0]: Invalid value: "deletecollection": want delete, with the names of the objects`},
		"connect":        {one(asks(may("e", "*", "*", "", ""))), to("connect", "pods/exec", "a", "b"), `spec.access.verbs[0]: Invalid value: "connect": want get or create, of pods/exec, pods/attach, pods/portforward or a proxy subresource`},
		"sign":           {one(asks(may("e", "*", "*", "", ""))), to("sign", "signers", "", "b"), `spec.access.verbs[0]: Invalid value: "sign": certificates are approved and signed by people`},
		"another verb":   {one(asks(may("e", "*", "*", "", ""))), to("use", "pods", "a", "b"), `spec.access.verbs[0]: Unsupported value: "use": supported values: "get", "list", "watch", "create", "update", "patch", "delete"`},
		"all resources":  {one(asks(secrets)), to("get", "*", "a", "b"), `spec.access.resources[0]: Invalid value: "*": want a resource by name: an approver has to see what is granted`},
		"some names":     {one(asks(secrets)), to("get", "secrets", "a", "b*"), `spec.access.names[0]: Invalid value: "b*": want names that are no patterns: an approver has to see what is granted`},
		"all namespaces": {one(asks(secrets)), to("get", "secrets", "*", "b"), `spec.access.namespaces[0]: Invalid value: "*": want names that are no patterns: an approver has to see what is granted`},
		"a Namespace in one": {one(asks(may("ns", "*", "*", "", ""))), to("get", "namespaces", "a", "a"),
			"spec.access.namespaces: Forbidden: Namespaces are in no namespace: put theirs into names, and ask for other resources by themselves"},
		"too many": {one(asks(may("e", "*", "*", "", ""))), to("get,list,watch,update", "a,b,c,d,e,f,g,h", "a,b,c,d,e,f,g,h", "a,b,c,d,e"),
			"spec.access: Forbidden: has 1280 combinations of a verb, group, resource, namespace and name; ask for at most 1024 at a time"},
		"too many of one list": {one(asks(secrets)), to("get", "secrets", strings.Repeat("a,", 16)+"a", "a"), "spec.access.namespaces: Too many: 17: must have at most 16 items"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := setOf(t, test.policies...).Asked(bot(), &test.access)
			text := ""
			for _, r := range got.Rules {
				text += r.Policy + "/" + r.Rule + " "
			}
			text += fmt.Sprintf("%s %s", got.Duration, got.ExpiresAfter)
			if err != nil {
				text = err.Error()
			}
			if text != test.want {
				t.Errorf("got  %s\nwant %s", text, test.want)
			}
		})
	}
}

// TestAskedTerms: whom an entry asks for goes into the request as it stands.
func TestAskedTerms(t *testing.T) {
	t.Parallel()
	s := setOf(t, newPolicy("p", asks(may("db", "get", "secrets", "", "db", func(r *v1alpha1.Requestable) {
		r.Approvers, r.Required, r.AllowOwner, r.ReasonRequired = &v1alpha1.Approvers{Groups: []string{"dba"}}, 2, true, true
	}))))
	access := to("get", "secrets", "a", "db")
	got, err := s.Asked(bot(), &access)
	if err != nil {
		t.Fatal(err)
	}
	if want := "[{Policy:p Rule:db Approvers:{Groups:[dba] Users:[]} Required:2 AllowOwner:true ReasonRequired:true Message:}]"; fmt.Sprintf("%+v", got.Rules) != want {
		t.Errorf("got %+v, want %s", got.Rules, want)
	}
	broken := NewSet([]*Policy{Broken(newPolicy("b", rules()))})
	if _, err := broken.Asked(bot(), &access); err == nil || !strings.Contains(err.Error(), "policy b does not compile") {
		t.Errorf("a policy that does not compile: %v", err)
	}
}

func TestCompileRequestable(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*v1alpha1.Requestable)
		want   string
	}{
		"well":               {func(*v1alpha1.Requestable) {}, ""},
		"a day":              {lasts(24 * time.Hour), ""},
		"more than a day":    {lasts(25 * time.Hour), `spec.requestable[0].maxDuration: Invalid value: "25h0m0s": want 1s to 24h0m0s`},
		"waits for years":    {waits(10000 * time.Hour), `spec.requestable[0].expiresAfter: Invalid value: "10000h0m0s": want 1m to 168h0m0s`},
		"no name":            {func(r *v1alpha1.Requestable) { r.Name = "" }, "spec.requestable[0].name: Required value: name the entry: approvers and audit events see it"},
		"the name of a rule": {func(r *v1alpha1.Requestable) { r.Name = "rule" }, `spec.requestable[0].name: Duplicate value: "rule"`},
		"no verbs":           {func(r *v1alpha1.Requestable) { r.Verbs = nil }, "spec.requestable[0].verbs: Required value: say which verbs may be asked for, or * for all of get, list, watch, create, update, patch, delete"},
		"verbs never asked": {func(r *v1alpha1.Requestable) { r.Verbs = patterns("impersonate") },
			`spec.requestable[0].verbs[0]: Unsupported value: "impersonate": supported values: "get", "list", "watch", "create", "update", "patch", "delete"`},
		"no resources":     {func(r *v1alpha1.Requestable) { r.Resources = nil }, "spec.requestable[0].resources: Required value: say which resources may be asked for, or * for all"},
		"upper case":       {func(r *v1alpha1.Requestable) { r.Resources = patterns("Secrets") }, `spec.requestable[0].resources[0]: Invalid value: "Secrets": want lower case: secrets`},
		"the core group":   {func(r *v1alpha1.Requestable) { r.APIGroups = patterns("core") }, `spec.requestable[0].apiGroups[0]: Invalid value: "core": want a group without its version; the core group is ""`},
		"too few people":   {func(r *v1alpha1.Requestable) { r.Approvers, r.Required = &v1alpha1.Approvers{Users: []string{"a"}}, 2 }, "spec.requestable[0].required: Invalid value: 2: only 1 users are approvers, and no group: nobody else could approve"},
		"a short question": {waits(time.Minute), ""},
	} {
		entry := may("entry", "get", "secrets", "", "")
		test.change(&entry)
		rule := v1alpha1.Rule{Name: "rule", Action: v1alpha1.Allow}
		_, err := Compile(newPolicy("p", both(rules(rule), asks(entry))))
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", name, got, test.want)
		}
	}
}

// BenchmarkAsked is the largest ask, in the midst of many rules.
func BenchmarkAsked(b *testing.B) {
	var list []v1alpha1.Rule
	for i := range 250 {
		list = append(list, v1alpha1.Rule{Name: fmt.Sprintf("r%d", i), Action: v1alpha1.Hold, Match: v1alpha1.Match{Resources: patterns("x*,*y"), Names: patterns("a*b")}})
	}
	s := setOf(b, newPolicy("p", both(rules(list...), asks(may("e", "*", "*", "", "")))))
	access := to("get,update", strings.TrimSuffix(strings.Repeat("pods,", 16), ","), strings.TrimSuffix(strings.Repeat("ns,", 16), ","), "a,b")
	for b.Loop() {
		if _, err := s.Asked(bot(), &access); err != nil {
			b.Fatal(err)
		}
	}
}

// TestDocs: the policy of docs/approvals.md compiles, and lets ask for what is asked for there.
func TestDocs(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/approvals.md")
	if err != nil {
		t.Fatal(err)
	}
	block := func(start, end string) string {
		_, rest, ok := strings.Cut(string(data), start)
		body, _, found := strings.Cut(rest, end)
		if !ok || !found {
			t.Fatalf("there is nothing between %q and %q", start, end)
		}
		return body
	}
	var p v1alpha1.AgentPolicy
	if err := yaml.UnmarshalStrict([]byte(block("```yaml\n", "```")), &p); err != nil {
		t.Fatal(err)
	}
	var r v1alpha1.AccessRequest
	if err := yaml.UnmarshalStrict([]byte(block("kubectl create -f - <<EOF\n", "EOF\n")), &r); err != nil {
		t.Fatal(err)
	}
	got, err := setOf(t, &p).Asked(bot(), &r.Spec.Access)
	if err != nil || got.Duration != 10*time.Minute || len(got.Rules) != 1 || !got.Rules[0].ReasonRequired {
		t.Errorf("%+v, %v", got, err)
	}
}
