package policytest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// grants are what the user of a test was granted: each is what an ask for it would have
// become, once people have approved it.
func (b *builder) grants(user decision.User) *access.Grants {
	agents := b.suite.state.Agents.Identify(user)
	requests := make([]*v1alpha1.AccessRequest, 0, len(b.test.Grants))
	for i, g := range b.test.Grants {
		field := fmt.Sprintf("grants[%d]", i)
		switch {
		case g == nil:
			b.problem(field, "is empty: want verbs and resources")
			continue
		case len(agents) == 0:
			b.problem(field, "%q is no agent, and only agents are granted anything", user.Name)
			continue
		case !b.complete(field, &g.Access):
			continue
		}
		asked, err := b.suite.state.Policies.Asked(agents, &g.Access)
		if err != nil {
			b.problem(field, "cannot be asked for: %s", strings.ReplaceAll(err.Error(), "spec.access.", ""))
			continue
		}
		rules := asked.Rules
		if g.Rules != nil {
			rules = b.approved(field+".rules", *g.Rules, asked.Rules)
		}
		requests = append(requests, &v1alpha1.AccessRequest{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("grant-%d", i)},
			Spec:       v1alpha1.AccessRequestSpec{Origin: v1alpha1.Asked, Agent: agents[0].Name, Requester: user.Name, Access: g.Access, Rules: rules},
			Status:     v1alpha1.AccessRequestStatus{Phase: v1alpha1.Approved, ExpiresAt: &metav1.Time{Time: time.Now().Add(24 * time.Hour)}},
		})
	}
	return access.NewGrants(requests)
}

// approved are those of the rules that a test names.
func (b *builder) approved(field string, named []string, all []v1alpha1.HoldingRule) []v1alpha1.HoldingRule {
	var rules []v1alpha1.HoldingRule
	for _, name := range named {
		at := slices.IndexFunc(all, func(r v1alpha1.HoldingRule) bool { return ruleName(r) == name })
		if at < 0 {
			names := ruleNames(all)
			b.problem(field, "has %q%s, whose approvers nobody would ask: want of %s", name, suggest(name, names), strings.Join(names, ", "))
			continue
		}
		rules = append(rules, all[at])
	}
	return rules
}

func ruleName(r v1alpha1.HoldingRule) string {
	if r.Rule == "" {
		return r.Policy
	}
	return r.Policy + "/" + r.Rule
}

func ruleNames(rules []v1alpha1.HoldingRule) []string {
	names := make([]string, len(rules))
	for i := range rules {
		names[i] = ruleName(rules[i])
	}
	return names
}

// complete fills in what a test leaves out of an access, as in a request: the groups of
// built-in resources, and the namespace where they are in one. An empty list stands for none.
func (b *builder) complete(field string, a *v1alpha1.Access) bool {
	if a.APIGroups == nil {
		for _, resource := range a.Resources {
			main, _, _ := strings.Cut(resource, "/")
			kind, err := b.loader.kinds.ofResource(main, nil, "")
			if err != nil {
				b.problem(join(field, "apiGroups"), "%q is no built-in resource: say its group", main)
				return false
			}
			if !slices.Contains(a.APIGroups, kind.Group) {
				a.APIGroups = append(a.APIGroups, kind.Group)
			}
		}
	}
	namespaced := slices.ContainsFunc(a.Resources, func(resource string) bool {
		main, _, _ := strings.Cut(resource, "/")
		return !b.loader.kinds.cluster.Has(main)
	})
	if a.Namespaces == nil && namespaced {
		a.Namespaces = []string{defaultNamespace}
	}
	return true
}

// askCase is one ask to judge.
type askCase struct {
	ask    *ask
	user   decision.User
	access v1alpha1.Access
}

// ask makes the case of an ask; nil where something is wrong with it.
func (b *builder) ask(a *ask) *askCase {
	if a.Name == "" {
		b.problem("name", "is missing: name the test")
	}
	if a.Expect == nil {
		if !b.loader.update {
			b.problem("expect", "is missing: want allowed: true, or refused with what the agent is told; --update writes what is seen")
		}
		a.Expect = &askExpect{}
	}
	c := &askCase{ask: a, user: b.user(), access: a.Access}
	if !b.complete("access", &c.access) || b.failed {
		return nil
	}
	return c
}

// Decisions of asks, in Seen: people decide the rest.
const (
	allowed = "Allowed"
	refused = "Refused"
)

func (c *askCase) run(s *suite) *Result {
	result := &Result{File: s.file, Line: c.ask.line, Name: c.ask.Name, entry: &c.ask.entry}
	asked, err := s.engine.Asked(c.user, &c.access)
	if err != nil {
		result.Got = Seen{Decision: refused, Message: err.Error()}
	} else {
		result.Got = Seen{Decision: allowed, Rules: ruleNames(asked.Rules), Duration: asked.Duration.String()}
		result.Got.people(asked.Rules)
		// What holds the request itself is not exercised by asking for it.
		result.Got.hit = slices.DeleteFunc(slices.Clone(result.Got.Rules), func(name string) bool { return !s.requestable(name) })
	}
	result.Diff = c.ask.Expect.compare(&result.Got)
	result.OK = len(result.Diff) == 0
	return result
}

func (e *askExpect) written() *yaml.Node { return e.node }

func (e *askExpect) compare(got *Seen) []Difference {
	want := refused
	if e.Allowed != nil && *e.Allowed {
		want = allowed
	}
	if e.node == nil {
		want = ""
	}
	var diff differences
	diff.note(want == got.Decision, "decision", shown(want), got.Decision)
	if e.Refused != nil {
		diff.note(sameText(*e.Refused, got.Message), "refused", shown(*e.Refused), shown(got.Message))
	}
	diff.rules(e.Rule, e.Rules, got.Rules)
	diff.people(e.Required, e.Approvers, got)
	if e.ReasonRequired != nil {
		diff.note(*e.ReasonRequired == got.ReasonRequired, "reasonRequired", fmt.Sprint(*e.ReasonRequired), fmt.Sprint(got.ReasonRequired))
	}
	if e.Duration != nil {
		diff.note(e.Duration.Duration.String() == got.Duration, "duration", e.Duration.Duration.String(), shown(got.Duration))
	}
	return diff
}

// renewed is what was seen: an ask has one case.
func (e *askExpect) renewed(all []*Seen) *yaml.Node {
	got := all[0]
	n := flow(&yaml.Node{Kind: yaml.MappingNode})
	if e.node != nil {
		n = clone(e.node)
	}
	if got.Decision == refused {
		for _, field := range []string{"allowed", "rule", "rules", "required", "approvers", "reasonRequired", "duration"} {
			remove(n, field)
		}
		set1(n, "refused", scalar(got.Message))
		return n
	}
	remove(n, "refused")
	set1(n, "allowed", &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: "true"})
	if e.node == nil {
		setRules(n, all, "rule")
	}
	for _, d := range e.compare(got) {
		switch d.Field {
		case "rule", "rules":
			setRules(n, all, d.Field)
		case "required", "approvers":
			setPeople(n, d.Field, got)
		case "reasonRequired":
			set1(n, d.Field, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!bool", Value: fmt.Sprint(got.ReasonRequired)})
		case "duration":
			set1(n, d.Field, scalar(got.Duration))
		}
	}
	return n
}
