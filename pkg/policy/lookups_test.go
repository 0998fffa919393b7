package policy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/policy/reference"
)

func logs() *decision.Request {
	return &decision.Request{Verb: "get", Version: "v1", Resource: "pods", Subresource: "log", Namespace: "prod", Name: "web", User: decision.User{Name: "bot"}}
}

func TestTargetIsLookedUpOnce(t *testing.T) {
	t.Parallel()
	rule := func(name, when string) v1alpha1.Rule {
		return v1alpha1.Rule{Name: name, Action: v1alpha1.Deny, When: when, Match: v1alpha1.Match{
			Resources: []v1alpha1.Pattern{"pods/log"}, Versions: []v1alpha1.Pattern{"v1"},
		}}
	}
	s := setOf(t, newPolicy("p", rules(
		rule("a", `any(references(target), .kind == "Secret")`), rule("b", `target.metadata.name == "web"`), rule("none", `target == nil`),
	)))
	calls := 0
	in := func(r *decision.Request, object map[string]any, err error) *Input {
		return &Input{Request: r, Agents: bot(), Deadline: time.Now().Add(time.Second), Target: func() (map[string]any, error) { calls++; return object, err }}
	}
	pod := decode(t, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"containers":[{"name":"c","envFrom":[{"secretRef":{"name":"db"}}]}]}}`)
	for name, test := range map[string]struct {
		in    *Input
		want  string
		calls int
	}{
		"a pod":             {in(logs(), pod, nil), "Deny Rule p/a p/b", 1},
		"no pod":            {in(logs(), nil, nil), "Deny Rule p/none", 1},
		"an error":          {in(logs(), pod, errLookup), "Deny Evaluation p/a p/b p/none", 1},
		"nobody to ask":     {&Input{Request: logs(), Agents: bot(), Deadline: time.Now().Add(time.Second)}, "Deny Evaluation p/a p/b p/none", 0},
		"no rule that asks": {in(deletion("prod"), pod, nil), "Allow Default", 0},
	} {
		calls = 0
		if got := summary(s.Evaluate(test.in)); got != test.want || calls != test.calls {
			t.Errorf("%s: got %s after %d look-ups, want %s after %d", name, got, calls, test.want, test.calls)
		}
	}
}

func TestTargetWantsSubresources(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		resources []v1alpha1.Pattern
		versions  []v1alpha1.Pattern
		want      string
	}{
		{[]v1alpha1.Pattern{"pods/log"}, []v1alpha1.Pattern{"v1"}, ""},
		{[]v1alpha1.Pattern{"*"}, []v1alpha1.Pattern{"*"}, ""},
		{nil, []v1alpha1.Pattern{"*"}, ""},
		{[]v1alpha1.Pattern{"pods"}, []v1alpha1.Pattern{"v1"}, `spec.rules[0].when: Invalid value: "target == nil": target is nil but for subresources: name those in resources, as pods/log`},
		{[]v1alpha1.Pattern{"pods/log"}, nil, "spec.rules[0].match.versions: Required value: `when` looks into the object, whose fields depend on the version: name the versions it knows; others are denied"},
	} {
		_, err := Compile(newPolicy("p", rules(v1alpha1.Rule{Name: "r", Action: v1alpha1.Deny, When: `target == nil`,
			Match: v1alpha1.Match{Resources: test.resources, Versions: test.versions}})))
		if got := fmt.Sprint(err); (err == nil) != (test.want == "") || err != nil && got != test.want {
			t.Errorf("%v: got %v, want %s", test.resources, err, test.want)
		}
	}
}

// TestUnreadable: a rule that applied names what the agent may not read, and asks but once.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	rule := func(name, when string, action v1alpha1.Action) v1alpha1.Rule {
		return v1alpha1.Rule{Name: name, Action: action, When: when, Match: v1alpha1.Match{Versions: []v1alpha1.Pattern{"v1"}}}
	}
	s := setOf(t, newPolicy("p", rules(
		rule("all", `let hidden = filter(references(object), not mayRead(#)); len(hidden) > 0`, v1alpha1.Hold),
		rule("first", `any(references(object), not mayRead(#))`, v1alpha1.Hold),
		rule("not", `all(references(object), mayRead(#))`, v1alpha1.Hold),
		rule("none", `object.kind == "Pod"`, v1alpha1.Hold),
	)))
	var env []string
	for i := range 8 {
		env = append(env, fmt.Sprintf(`{"secretRef":{"name":"s%d"}},{"secretRef":{"name":"s%d"}}`, i, i))
	}
	q := &decision.Request{Verb: "create", Version: "v1", Resource: "pods", Namespace: "prod", Name: "web", User: decision.User{Name: "bot"}}
	q.Object = decode(t, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web","namespace":"prod"},"spec":{"containers":[{"name":"c","envFrom":[`+strings.Join(env, ",")+`]}]}}`)
	var asked []string
	in := &Input{Request: q, Agents: bot(), Deadline: time.Now().Add(time.Second), MayRead: func(r reference.Reference) (bool, error) {
		asked = append(asked, r.Name)
		return r.Name == "s0", nil
	}}
	v := s.Evaluate(in)
	if got := summary(v); got != "Hold Rule p/all p/first p/none" {
		t.Fatalf("got %s", got)
	}
	for i, want := range [][]string{{"Secret prod/s1", "Secret prod/s2", "Secret prod/s3", "Secret prod/s4", "Secret prod/s5"}, {"Secret prod/s1"}, nil} {
		var got []string
		for _, r := range v.Deciding[i].Unreadable {
			got = append(got, r.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", v.Deciding[i], got, want)
		}
	}
	if len(asked) != 8 {
		t.Errorf("asked %d times for 8 Secrets: %s", len(asked), asked)
	}
	in.MayRead = nil
	if got := summary(s.Evaluate(in)); got != "Deny Evaluation p/all p/first p/not" {
		t.Errorf("nobody to ask: got %s", got)
	}
	in.MayRead = func(reference.Reference) (bool, error) { return true, errLookup }
	if got := summary(s.Evaluate(in)); got != "Deny Evaluation p/all p/first p/not" {
		t.Errorf("an error: got %s", got)
	}
}
