package policy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

func bot() []*v1alpha1.Agent {
	return []*v1alpha1.Agent{{ObjectMeta: metav1.ObjectMeta{Name: "bot"}}}
}

func newPolicy(name string, change func(*v1alpha1.AgentPolicySpec)) *v1alpha1.AgentPolicy {
	p := &v1alpha1.AgentPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       v1alpha1.AgentPolicySpec{Agents: []v1alpha1.Pattern{"*"}, Mode: v1alpha1.Enforce, Default: v1alpha1.Allow},
	}
	change(&p.Spec)
	return p
}

func rules(r ...v1alpha1.Rule) func(*v1alpha1.AgentPolicySpec) {
	return func(s *v1alpha1.AgentPolicySpec) { s.Rules = r }
}

func setOf(t testing.TB, policies ...*v1alpha1.AgentPolicy) *Set {
	t.Helper()
	var compiled []*Policy
	for _, p := range policies {
		c, err := Compile(p)
		if err != nil {
			t.Fatalf("policy %s: %v", p.Name, err)
		}
		compiled = append(compiled, c)
	}
	return NewSet(compiled)
}

func deletion(name string) *decision.Request {
	return &decision.Request{
		Verb: "delete", Version: "v1", Resource: "namespaces", Name: name, Namespace: name,
		OldObject: map[string]any{"metadata": map[string]any{"name": name, "labels": map[string]any{"env": name}}},
	}
}

func evaluate(s *Set, r *decision.Request) Verdict {
	return s.Evaluate(&Input{Request: r, Agents: bot(), Deadline: time.Now().Add(time.Second)})
}

// summary is a verdict in one line.
func summary(v Verdict) string {
	out := fmt.Sprintf("%s %s", v.Action, v.Reason)
	for _, f := range v.Deciding {
		out += " " + f.String()
	}
	for _, f := range v.Observed {
		out += fmt.Sprintf(" (%s %s=%s)", f.Mode, f, f.Action)
	}
	return out
}

func TestEvaluate(t *testing.T) {
	t.Parallel()
	match := v1alpha1.Match{Verbs: []v1alpha1.Pattern{"delete"}, APIGroups: []v1alpha1.Pattern{""}, Resources: []v1alpha1.Pattern{"namespaces"}}
	deny := v1alpha1.Rule{Name: "deny", Match: match, Action: v1alpha1.Deny}
	allow := v1alpha1.Rule{Name: "allow", Match: match, Action: v1alpha1.Allow}
	when := func(name, expression string) v1alpha1.Rule {
		r := v1alpha1.Rule{Name: name, Match: match, When: expression, Action: v1alpha1.Deny}
		r.Match.Versions = []v1alpha1.Pattern{"v1"}
		return r
	}
	mode := func(m v1alpha1.Mode, r ...v1alpha1.Rule) func(*v1alpha1.AgentPolicySpec) {
		return func(s *v1alpha1.AgentPolicySpec) { s.Mode, s.Rules = m, r }
	}
	strict := func(r ...v1alpha1.Rule) func(*v1alpha1.AgentPolicySpec) {
		return func(s *v1alpha1.AgentPolicySpec) { s.Default, s.Rules = v1alpha1.Deny, r }
	}
	other := deletion("prod")
	other.Version = "v2"
	for name, test := range map[string]struct {
		request  *decision.Request
		policies []*v1alpha1.AgentPolicy
		want     string
	}{
		"no policy":                   {deletion("prod"), nil, "Allow NoPolicy"},
		"no rule matches":             {deletion("prod"), []*v1alpha1.AgentPolicy{newPolicy("p", rules())}, "Allow Default"},
		"a rule denies":               {deletion("prod"), []*v1alpha1.AgentPolicy{newPolicy("p", rules(deny))}, "Deny Rule p/deny"},
		"deny beats allow":            {deletion("prod"), []*v1alpha1.AgentPolicy{newPolicy("p", rules(allow, deny))}, "Deny Rule p/deny"},
		"over policies too":           {deletion("prod"), []*v1alpha1.AgentPolicy{newPolicy("a", rules(allow)), newPolicy("b", rules(deny))}, "Deny Rule b/deny"},
		"default deny":                {deletion("prod"), []*v1alpha1.AgentPolicy{newPolicy("p", strict())}, "Deny Default p"},
		"allow lifts the own default": {deletion("prod"), []*v1alpha1.AgentPolicy{newPolicy("p", strict(allow))}, "Allow Rule p/allow"},
		"but not another's default":   {deletion("prod"), []*v1alpha1.AgentPolicy{newPolicy("p", strict()), newPolicy("q", rules(allow))}, "Deny Default p"},
		"warn observes":               {deletion("prod"), []*v1alpha1.AgentPolicy{newPolicy("p", mode(v1alpha1.Warn, deny))}, "Allow Default (Warn p/deny=Deny)"},
		"audit observes":              {deletion("prod"), []*v1alpha1.AgentPolicy{newPolicy("p", mode(v1alpha1.Audit, deny))}, "Allow Default (Audit p/deny=Deny)"},
		"warn beside enforce":         {deletion("prod"), []*v1alpha1.AgentPolicy{newPolicy("p", mode(v1alpha1.Warn, deny)), newPolicy("q", rules(deny))}, "Deny Rule q/deny (Warn p/deny=Deny)"},
		"when is true":                {deletion("prod"), []*v1alpha1.AgentPolicy{newPolicy("p", rules(when("w", `oldObject.metadata.labels["env"] == "prod"`)))}, "Deny Rule p/w"},
		"when is false":               {deletion("dev"), []*v1alpha1.AgentPolicy{newPolicy("p", rules(when("w", `oldObject.metadata.labels["env"] == "prod"`)))}, "Allow Default"},
		"when fails":                  {deletion("prod"), []*v1alpha1.AgentPolicy{newPolicy("p", rules(when("w", `oldObject.spec.replicas < 3`)))}, "Deny Evaluation p/w"},
		"when fails in warn":          {deletion("prod"), []*v1alpha1.AgentPolicy{newPolicy("p", mode(v1alpha1.Warn, when("w", `oldObject.spec.replicas < 3`)))}, "Allow Default (Warn p/w=Deny)"},
		"a failing allow rule denies": {deletion("prod"), []*v1alpha1.AgentPolicy{newPolicy("p", rules(func() v1alpha1.Rule { r := when("w", `oldObject.a < 3`); r.Action = v1alpha1.Allow; return r }()))}, "Deny Evaluation p/w"},
		"another version":             {other, []*v1alpha1.AgentPolicy{newPolicy("p", rules(when("w", `oldObject.metadata.labels["env"] == "dev"`)))}, "Deny Version p/w"},
		"namespace unknown":           {deletion("prod"), []*v1alpha1.AgentPolicy{newPolicy("p", rules(when("w", `namespace.metadata.name == "x"`)))}, "Deny Evaluation p/w"},
		"another agent's policy": {deletion("prod"), []*v1alpha1.AgentPolicy{newPolicy("p", func(s *v1alpha1.AgentPolicySpec) {
			s.Agents, s.Rules = []v1alpha1.Pattern{"other"}, []v1alpha1.Rule{deny}
		})}, "Allow NoPolicy"},
		"policy by glob":                {deletion("prod"), []*v1alpha1.AgentPolicy{newPolicy("p", func(s *v1alpha1.AgentPolicySpec) { s.Agents, s.Rules = []v1alpha1.Pattern{"b*"}, []v1alpha1.Rule{deny} })}, "Deny Rule p/deny"},
		"all versions by the core rule": {other, []*v1alpha1.AgentPolicy{newPolicy("p", rules(deny))}, "Deny Rule p/deny"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := summary(evaluate(setOf(t, test.policies...), test.request)); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestBrokenPolicyDenies(t *testing.T) {
	t.Parallel()
	for mode, want := range map[v1alpha1.Mode]string{
		v1alpha1.Enforce: "Deny PolicyInvalid p",
		"":               "Deny PolicyInvalid p",
		v1alpha1.Warn:    "Allow Default (Warn p=Deny)",
	} {
		p := newPolicy("p", func(s *v1alpha1.AgentPolicySpec) { s.Mode = mode })
		if got := summary(evaluate(NewSet([]*Policy{Broken(p)}), deletion("prod"))); got != want {
			t.Errorf("mode %q: got %s, want %s", mode, got, want)
		}
	}
}

func TestMatches(t *testing.T) {
	t.Parallel()
	scale := decision.Request{Verb: "update", Group: "apps", Version: "v1", Resource: "deployments", Subresource: "scale", Namespace: "web", Name: "front"}
	for _, test := range []struct {
		match v1alpha1.Match
		want  bool
	}{
		{v1alpha1.Match{}, true},
		{v1alpha1.Match{Verbs: []v1alpha1.Pattern{"update"}}, true},
		{v1alpha1.Match{Verbs: []v1alpha1.Pattern{"patch"}}, true},
		{v1alpha1.Match{Verbs: []v1alpha1.Pattern{"create", "delete"}}, false},
		{v1alpha1.Match{Resources: []v1alpha1.Pattern{"deployments"}}, false},
		{v1alpha1.Match{Resources: []v1alpha1.Pattern{"deployments/scale"}}, true},
		{v1alpha1.Match{Resources: []v1alpha1.Pattern{"*/scale"}}, true},
		{v1alpha1.Match{Resources: []v1alpha1.Pattern{"*"}}, true},
		{v1alpha1.Match{APIGroups: []v1alpha1.Pattern{""}}, false},
		{v1alpha1.Match{APIGroups: []v1alpha1.Pattern{"", "apps"}, Resources: []v1alpha1.Pattern{"deployments/scale"}}, true},
		{v1alpha1.Match{Namespaces: []v1alpha1.Pattern{"we*"}, Names: []v1alpha1.Pattern{"front"}}, true},
		{v1alpha1.Match{Namespaces: []v1alpha1.Pattern{"other"}}, false},
		{v1alpha1.Match{Names: []v1alpha1.Pattern{"back"}}, false},
		{v1alpha1.Match{NonResourceURLs: []v1alpha1.Pattern{"*"}}, false},
	} {
		p := newPolicy("p", rules(v1alpha1.Rule{Name: "r", Match: test.match, Action: v1alpha1.Deny}))
		if got := evaluate(setOf(t, p), &scale).Action == decision.Deny; got != test.want {
			t.Errorf("%+v matches: %t, want %t", test.match, got, test.want)
		}
	}
	// What goes to another API server is judged as what it is: a patch.
	patch := scale
	patch.Verb = "patch"
	for verb, want := range map[v1alpha1.Pattern]bool{"update": true, "patch": true, "create": false} {
		p := newPolicy("p", rules(v1alpha1.Rule{Name: "r", Match: v1alpha1.Match{Verbs: []v1alpha1.Pattern{verb}}, Action: v1alpha1.Deny}))
		if got := evaluate(setOf(t, p), &patch).Action == decision.Deny; got != want {
			t.Errorf("a patch matches verb %s: %t, want %t", verb, got, want)
		}
	}
	url := decision.Request{Verb: "get", NonResourceURL: "/metrics"}
	for pattern, want := range map[v1alpha1.Pattern]bool{"/metrics": true, "/m*": true, "/healthz": false, "*": true} {
		p := newPolicy("p", rules(v1alpha1.Rule{Name: "r", Match: v1alpha1.Match{NonResourceURLs: []v1alpha1.Pattern{pattern}}, Action: v1alpha1.Deny}))
		if got := evaluate(setOf(t, p), &url).Action == decision.Deny; got != want {
			t.Errorf("URL pattern %s matches: %t, want %t", pattern, got, want)
		}
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	rule := func(change func(*v1alpha1.Rule)) *v1alpha1.AgentPolicy {
		r := v1alpha1.Rule{Name: "r", Action: v1alpha1.Deny}
		change(&r)
		return newPolicy("p", rules(r))
	}
	for _, test := range []struct {
		policy *v1alpha1.AgentPolicy
		want   string
	}{
		{rule(func(r *v1alpha1.Rule) { r.When, r.Match.Versions = `oject == nil`, []v1alpha1.Pattern{"v1"} }),
			`spec.rules[0].when: Invalid value: "oject == nil": line 1, column 1: unknown name oject`},
		{rule(func(r *v1alpha1.Rule) { r.When = `object == nil` }),
			"spec.rules[0].match.versions: Required value: `when` looks into the object, whose fields depend on the version: name the versions it knows; others are denied"},
		{rule(func(r *v1alpha1.Rule) { r.Match.Versions = []v1alpha1.Pattern{"v1"} }),
			"spec.rules[0].match.versions: Forbidden: a rule without `when` covers every version of a resource; leave versions out"},
		{rule(func(r *v1alpha1.Rule) { r.Action = "Explode" }),
			`spec.rules[0].action: Unsupported value: "Explode": supported values: "Allow", "Hold", "Deny"`},
		{rule(func(r *v1alpha1.Rule) { r.Match.Verbs = []v1alpha1.Pattern{"DELETE"} }),
			`spec.rules[0].match.verbs[0]: Invalid value: "DELETE": want lower case: delete`},
		{rule(func(r *v1alpha1.Rule) {
			r.Match.NonResourceURLs, r.Match.Resources = []v1alpha1.Pattern{"/x"}, []v1alpha1.Pattern{"pods"}
		}),
			`spec.rules[0].match.nonResourceURLs: Forbidden: no request is for a URL and for a resource: make two rules`},
		{rule(func(r *v1alpha1.Rule) { r.Match.Verbs = []v1alpha1.Pattern{"deletes"} }),
			`spec.rules[0].match.verbs[0]: Unsupported value: "deletes": supported values: "create", "update", "patch", "delete", "deletecollection", "connect", "get", "list", "watch", "impersonate", "bind", "escalate", "approve", "sign", "attest", "use"`},
		{rule(func(r *v1alpha1.Rule) { r.Match.APIGroups = []v1alpha1.Pattern{"core"} }),
			`spec.rules[0].match.apiGroups[0]: Invalid value: "core": want a group without its version; the core group is ""`},
		{rule(func(r *v1alpha1.Rule) {
			r.Match.Verbs, r.Match.Versions, r.When = []v1alpha1.Pattern{"delete"}, []v1alpha1.Pattern{"v1"}, `object == nil`
		}),
			`spec.rules[0].when: Invalid value: "object == nil": object is nil in a delete; look at oldObject`},
		{rule(func(r *v1alpha1.Rule) { r.Wait = &metav1.Duration{Duration: time.Second} }),
			`spec.rules[0]: Forbidden: approvers, required, allowOwner, reasonRequired, wait and expiresAfter are for rules whose action is Hold`},
		{rule(func(r *v1alpha1.Rule) { r.Action, r.Wait = v1alpha1.Hold, &metav1.Duration{Duration: time.Hour} }),
			`spec.rules[0].wait: Invalid value: "1h0m0s": want 0s to 10m0s: clients do not retry for longer`},
		{rule(func(r *v1alpha1.Rule) {
			r.Action, r.Required, r.Approvers = v1alpha1.Hold, 2, &v1alpha1.Approvers{Users: []string{"ann"}}
		}),
			`spec.rules[0].required: Invalid value: 2: only 1 users are approvers, and no group: nobody else could approve`},
		{newPolicy("p", rules(v1alpha1.Rule{Name: "a", Action: v1alpha1.Deny}, v1alpha1.Rule{Name: "a", Action: v1alpha1.Deny})),
			`spec.rules[1].name: Duplicate value: "a"`},
	} {
		if _, err := Compile(test.policy); err == nil || err.Error() != test.want {
			t.Errorf("got  %v\nwant %s", err, test.want)
		}
	}
}

// TestDeadlineIsShared gives one decision many slow rules.
func TestDeadlineIsShared(t *testing.T) {
	t.Parallel()
	items := make([]any, 5000)
	for i := range items {
		items[i] = int64(i)
	}
	var all []v1alpha1.Rule
	for i := range 100 {
		all = append(all, v1alpha1.Rule{
			Name: fmt.Sprintf("r%d", i), Action: v1alpha1.Deny, Match: v1alpha1.Match{Versions: []v1alpha1.Pattern{"*"}},
			When: `any(object.items, any(object.items, # == -1))`,
		})
	}
	s := setOf(t, newPolicy("p", rules(all...)))
	r := deletion("prod")
	r.Object = map[string]any{"items": items}
	start := time.Now()
	v := s.Evaluate(&Input{Request: r, Agents: bot(), Deadline: start.Add(200 * time.Millisecond)})
	if took := time.Since(start); took > 2*time.Second || v.Action != decision.Deny || v.Reason != decision.ReasonEvaluation {
		t.Errorf("%s %s after %s, want Deny Evaluation soon after 200ms", v.Action, v.Reason, took)
	}
}

// TestObserversDoNotDecide: slow rules of an Audit policy take nothing from the enforcing ones.
func TestObserversDoNotDecide(t *testing.T) {
	t.Parallel()
	items := make([]any, 5000)
	for i := range items {
		items[i] = int64(i)
	}
	slow := newPolicy("a-slow", func(s *v1alpha1.AgentPolicySpec) { s.Mode = v1alpha1.Audit })
	for i := range 30 {
		slow.Spec.Rules = append(slow.Spec.Rules, v1alpha1.Rule{
			Name: fmt.Sprintf("r%d", i), Action: v1alpha1.Deny, Match: v1alpha1.Match{Versions: []v1alpha1.Pattern{"*"}},
			When: `any(object.items, any(object.items, # == -1))`,
		})
	}
	enforcing := newPolicy("b-enforce", rules(v1alpha1.Rule{
		Name: "x", Action: v1alpha1.Deny, Match: v1alpha1.Match{Versions: []v1alpha1.Pattern{"*"}}, When: `object.items[0] == 7`,
	}))
	r := deletion("prod")
	r.Object = map[string]any{"items": items}
	start := time.Now()
	v := setOf(t, slow, enforcing).Evaluate(&Input{Request: r, Agents: bot(), Deadline: start.Add(200 * time.Millisecond)})
	if v.Action != decision.Allow || v.Reason != decision.ReasonDefault || len(v.Observed) != 30 {
		t.Errorf("%s %s, %d observed, want Allow Default and 30 observed", v.Action, v.Reason, len(v.Observed))
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %s: observing has no budget of its own", took)
	}
}

// TestIndexAgreesWithScan compares the index with a look at every rule.
func TestIndexAgreesWithScan(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	pick := func(from ...string) []v1alpha1.Pattern {
		var out []v1alpha1.Pattern
		for _, f := range from {
			if r.IntN(3) == 0 {
				out = append(out, v1alpha1.Pattern(f))
			}
		}
		return out
	}
	var all []v1alpha1.Rule
	for i := range 300 {
		all = append(all, v1alpha1.Rule{Name: fmt.Sprintf("r%d", i), Action: v1alpha1.Deny, Match: v1alpha1.Match{
			Verbs: pick("create", "delete", "*"), APIGroups: pick("", "apps", "a*"), Resources: pick("pods", "deployments", "pods/*", "*"),
		}})
	}
	p := newPolicy("p", rules(all...))
	s := setOf(t, p)
	for _, verb := range []string{"create", "update", "delete"} {
		for _, group := range []string{"", "apps", "batch"} {
			for _, sub := range []string{"", "exec"} {
				q := &decision.Request{Verb: verb, Group: group, Version: "v1", Resource: "pods", Subresource: sub}
				var want []string
				for i := range all {
					if (&rule{match: all[i].Match}).matches(q) {
						want = append(want, "p/"+all[i].Name)
					}
				}
				var got []string
				for _, f := range evaluate(s, q).Deciding {
					got = append(got, f.String())
				}
				if slices.Sort(want); !slices.Equal(got, want) {
					t.Errorf("%s %s/%s: the index finds %v, a scan %v", verb, group, q.FullResource(), got, want)
				}
			}
		}
	}
}

func FuzzCompile(f *testing.F) {
	f.Add("r", "delete", "namespaces", "v1", `object.metadata.name == "x"`, "Deny")
	f.Add("", "GET", "", "*", `1 +`, "Allow")
	f.Fuzz(func(t *testing.T, name, verb, res, version, when, action string) {
		p := newPolicy("p", rules(v1alpha1.Rule{Name: name, When: when, Action: v1alpha1.Action(action), Match: v1alpha1.Match{
			Verbs: []v1alpha1.Pattern{v1alpha1.Pattern(verb)}, Resources: []v1alpha1.Pattern{v1alpha1.Pattern(res)},
			Versions: []v1alpha1.Pattern{v1alpha1.Pattern(version)},
		}}))
		compiled, err := Compile(p)
		if err != nil {
			if compiled != nil || !strings.Contains(err.Error(), "spec.") {
				t.Fatalf("error %v beside %v: want one that names the field, and no policy", err, compiled)
			}
			return
		}
		evaluate(NewSet([]*Policy{compiled}), deletion("prod"))
	})
}

var errLookup = errors.New("lookup failed")

func TestNamespaceIsLookedUpOnce(t *testing.T) {
	t.Parallel()
	rule := func(name string) v1alpha1.Rule {
		return v1alpha1.Rule{Name: name, Action: v1alpha1.Deny, When: `namespace.metadata.labels.env == "prod"`}
	}
	s := setOf(t, newPolicy("p", rules(rule("a"), rule("b"))))
	calls := 0
	in := &Input{Request: deletion("prod"), Agents: bot(), Deadline: time.Now().Add(time.Second), Namespace: func() (map[string]any, error) {
		calls++
		return map[string]any{"metadata": map[string]any{"labels": map[string]any{"env": "prod"}}}, nil
	}}
	if got := summary(s.Evaluate(in)); got != "Deny Rule p/a p/b" || calls != 1 {
		t.Errorf("got %s after %d look-ups, want Deny Rule p/a p/b after 1", got, calls)
	}
	in.Namespace = func() (map[string]any, error) { return nil, errLookup }
	if got := summary(s.Evaluate(in)); got != "Deny Evaluation p/a p/b" {
		t.Errorf("got %s, want Deny Evaluation p/a p/b", got)
	}
}
