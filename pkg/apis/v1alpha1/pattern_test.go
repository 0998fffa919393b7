package v1alpha1

import (
	"regexp"
	"strings"
	"testing"
)

func TestPatternMatches(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		pattern, in string
		want        bool
	}{
		{"", "", true},
		{"", "a", false},
		{"*", "", true},
		{"*", "pods/exec", true},
		{"prod-*", "prod-a", true},
		{"prod-*", "prod-", true},
		{"prod-*", "prod", false},
		{"*-prod", "a-prod", true},
		{"*-prod", "a-prod-b", false},
		{"a*a", "a", false},
		{"a*a", "aa", true},
		{"a*b*c", "a-b-b-c", true},
		{"a*b*c", "acb", false},
		{"**", "x", true},
		{"a.c", "abc", false},
	} {
		if got := Pattern(test.pattern).Matches(test.in); got != test.want {
			t.Errorf("Pattern(%q).Matches(%q) = %t, want %t", test.pattern, test.in, got, test.want)
		}
	}
}

func TestSelects(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		agents []Pattern
		agent  string
		want   bool
	}{
		{[]Pattern{"*"}, "bot", true},
		{[]Pattern{"ci-*", "bot"}, "bot", true},
		{[]Pattern{"ci-*"}, "bot", false},
		{nil, "bot", false},
	} {
		p := &AgentPolicy{Spec: AgentPolicySpec{Agents: c.agents}}
		if got := p.Selects(c.agent); got != c.want {
			t.Errorf("%v selects %s: %t, want %t", c.agents, c.agent, got, c.want)
		}
	}
}

func FuzzPatternMatches(f *testing.F) {
	f.Add("a*b*", "acbd")
	f.Add("*a*", "bab")
	f.Fuzz(func(t *testing.T, pattern, in string) {
		if len(pattern) > 64 || len(in) > 256 {
			return
		}
		oracle, err := regexp.Compile("(?s)^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$")
		if err != nil || strings.ContainsRune(in+pattern, '�') {
			return
		}
		if got, want := Pattern(pattern).Matches(in), oracle.MatchString(in); got != want {
			t.Errorf("Pattern(%q).Matches(%q) = %t, a regular expression says %t", pattern, in, got, want)
		}
	})
}
