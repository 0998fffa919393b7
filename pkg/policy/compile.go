// Package policy compiles AgentPolicies and judges requests by them.
//
// It is pure: what it knows of a request and of its namespace is handed to it. It refuses
// to compile a rule that could silently miss what its author meant, and it knows nothing of
// approvals and grants, which pkg/engine brings in.
package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/policy/expression"
)

// Policy is a compiled AgentPolicy. It is immutable.
type Policy struct {
	name     string
	agents   []v1alpha1.Pattern
	mode     v1alpha1.Mode
	fallback decision.Action
	// hold are the terms of a default of Hold.
	hold  Terms
	rules []*rule
	// asks are what agents may ask for ahead.
	asks []*requestable
	// broken: the policy does not compile, and there is no last good one.
	broken bool
}

// rule is a compiled rule.
type rule struct {
	policy  *Policy
	name    string
	match   v1alpha1.Match
	when    *expression.Program
	action  decision.Action
	message string
	hold    Terms
}

// Name is the name of the AgentPolicy.
func (p *Policy) Name() string { return p.name }

// observes says that the policy neither denies nor holds.
func (p *Policy) observes() bool { return p.mode == v1alpha1.Warn || p.mode == v1alpha1.Audit }

// Selects says whether the policy is for the Agent of that name.
func (p *Policy) Selects(agent string) bool {
	return slices.ContainsFunc(p.agents, func(a v1alpha1.Pattern) bool { return a.Matches(agent) })
}

// Terms are what the rule of that name asks for where it holds; those of a default of Hold
// where the name is empty. Nil where nothing of that name holds.
func (p *Policy) Terms(rule string) *Terms {
	if rule == "" && p.fallback == decision.Hold {
		return &p.hold
	}
	for _, r := range p.rules {
		if r.name == rule && r.action == decision.Hold {
			return &r.hold
		}
	}
	return nil
}

// Broken stands in for an AgentPolicy that does not compile and of which no earlier version
// is in force: it denies everything to the Agents that it selects, unless its mode is Warn
// or Audit.
func Broken(p *v1alpha1.AgentPolicy) *Policy {
	return &Policy{name: p.Name, agents: p.Spec.Agents, mode: modeOf(p), broken: true}
}

// Compile compiles an AgentPolicy. Its error is a field.ErrorList as an aggregate: each
// entry names the field, what stands there, and what would be right; for an expression with
// line and column.
func Compile(p *v1alpha1.AgentPolicy) (*Policy, error) {
	spec := field.NewPath("spec")
	var errs field.ErrorList
	compiled := &Policy{name: p.Name, agents: p.Spec.Agents, mode: modeOf(p), fallback: decision.Allow}
	compiled.hold, _ = termsOf(nil, p.Name, &v1alpha1.Rule{})
	if len(p.Spec.Agents) == 0 {
		errs = append(errs, field.Required(spec.Child("agents"), `name Agents, or "*" for all`))
	}
	if !slices.Contains([]v1alpha1.Mode{v1alpha1.Enforce, v1alpha1.Warn, v1alpha1.Audit}, compiled.mode) {
		errs = append(errs, field.NotSupported(spec.Child("mode"), p.Spec.Mode, []v1alpha1.Mode{v1alpha1.Enforce, v1alpha1.Warn, v1alpha1.Audit}))
	}
	if p.Spec.Default != "" {
		action, err := actionAt(spec.Child("default"), p.Spec.Default)
		errs = append(errs, err...)
		compiled.fallback = action
	}
	names := map[string]bool{}
	for i := range p.Spec.Rules {
		at := spec.Child("rules").Index(i)
		r, ruleErrs := compileRule(at, p.Name, &p.Spec.Rules[i])
		errs = append(errs, ruleErrs...)
		if names[r.name] {
			errs = append(errs, field.Duplicate(at.Child("name"), r.name))
		}
		names[r.name] = true
		r.policy = compiled
		compiled.rules = append(compiled.rules, r)
	}
	for i := range p.Spec.Requestable {
		at := spec.Child("requestable").Index(i)
		r, askErrs := compileRequestable(at, p.Name, &p.Spec.Requestable[i])
		errs = append(errs, askErrs...)
		if names[r.name] {
			errs = append(errs, field.Duplicate(at.Child("name"), r.name)) // reviews count by policy and name
		}
		names[r.name] = true
		r.policy = compiled
		compiled.asks = append(compiled.asks, r)
	}
	if len(errs) > 0 {
		return nil, errs.ToAggregate()
	}
	return compiled, nil
}

func modeOf(p *v1alpha1.AgentPolicy) v1alpha1.Mode {
	if p.Spec.Mode == "" {
		return v1alpha1.Enforce
	}
	return p.Spec.Mode
}

func actionAt(at *field.Path, a v1alpha1.Action) (decision.Action, field.ErrorList) {
	switch a {
	case v1alpha1.Allow:
		return decision.Allow, nil
	case v1alpha1.Hold:
		return decision.Hold, nil
	case v1alpha1.Deny:
		return decision.Deny, nil
	default:
		return decision.Deny, field.ErrorList{field.NotSupported(at, a, []v1alpha1.Action{v1alpha1.Allow, v1alpha1.Hold, v1alpha1.Deny})}
	}
}

func compileRule(at *field.Path, policy string, r *v1alpha1.Rule) (*rule, field.ErrorList) {
	compiled := &rule{name: r.Name, match: r.Match, message: r.Message}
	errs := checkMatch(at.Child("match"), &r.Match)
	if r.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), "name the rule: decisions and audit events say it"))
	}
	action, actionErrs := actionAt(at.Child("action"), r.Action)
	compiled.action = action
	errs = append(errs, actionErrs...)
	terms, termErrs := termsOf(at, policy, r)
	compiled.hold = terms
	errs = append(errs, termErrs...)

	versions := at.Child("match", "versions")
	if r.When == "" {
		if len(r.Match.Versions) > 0 {
			errs = append(errs, field.Forbidden(versions, "a rule without `when` covers every version of a resource; leave versions out"))
		}
		return compiled, errs
	}
	program, err := expression.Compile(r.When)
	if err != nil {
		return compiled, append(errs, invalidExpression(at.Child("when"), r.When, err))
	}
	compiled.when = program
	errs = append(errs, checkObjects(at.Child("when"), r, program)...)
	if (program.Object || program.OldObject || program.Target) && len(r.Match.Versions) == 0 {
		errs = append(errs, field.Required(versions,
			"`when` looks into the object, whose fields depend on the version: name the versions it knows; others are denied"))
	}
	return compiled, errs
}

func invalidExpression(at *field.Path, source string, err error) *field.Error {
	shown := source
	var compile *expression.CompileError
	if errors.As(err, &compile) && compile.Line > 0 {
		shown = strings.TrimSpace(strings.Split(source, "\n")[compile.Line-1])
	}
	if len(shown) > 200 {
		shown = shown[:200] + "…"
	}
	return field.Invalid(at, shown, err.Error())
}

// checkObjects refuses expressions that look at an object which no request of the rule has.
func checkObjects(at *field.Path, r *v1alpha1.Rule, p *expression.Program) field.ErrorList {
	only := func(verbs ...v1alpha1.Pattern) bool {
		return len(r.Match.Verbs) > 0 && !slices.ContainsFunc(r.Match.Verbs, func(v v1alpha1.Pattern) bool { return !slices.Contains(verbs, v) })
	}
	switch {
	case p.Object && only("delete", "deletecollection"):
		return field.ErrorList{field.Invalid(at, r.When, "object is nil in a delete; look at oldObject")}
	case (p.Object || p.OldObject) && only("get", "list", "watch"):
		return field.ErrorList{field.Invalid(at, r.When, "a read has neither object nor oldObject; look at request")}
	case p.OldObject && only("create"):
		return field.ErrorList{field.Invalid(at, r.When, "oldObject is nil in a create; look at object")}
	case p.Target && len(r.Match.Resources) > 0 && !slices.ContainsFunc(r.Match.Resources, subresource):
		return field.ErrorList{field.Invalid(at, r.When, "target is nil but for subresources: name those in resources, as pods/log")}
	default:
		return nil
	}
}

// subresource says whether a pattern can match a resource's subresource.
func subresource(p v1alpha1.Pattern) bool { return strings.ContainsAny(string(p), "/*") }

// verbs are those of requests, as Kubernetes names them.
var verbs = []string{
	"create", "update", "patch", "delete", "deletecollection", "connect", "get", "list", "watch",
	"impersonate", "bind", "escalate", "approve", "sign", "attest", "use",
}

// checkVerb refuses what no request has. Constrained impersonation has verbs of several
// parts, such as impersonate-on:user:list.
func checkVerb(at *field.Path, p v1alpha1.Pattern) field.ErrorList {
	if strings.HasPrefix(string(p), "impersonate") || slices.ContainsFunc(verbs, p.Matches) {
		return nil
	}
	return field.ErrorList{field.NotSupported(at, p, verbs)}
}

// checkMatch refuses what could never match, or not what it seems to.
func checkMatch(at *field.Path, m *v1alpha1.Match) field.ErrorList {
	var errs field.ErrorList
	for name, list := range map[string][]v1alpha1.Pattern{"verbs": m.Verbs, "resources": m.Resources} {
		for i, p := range list {
			if lower := strings.ToLower(string(p)); lower != string(p) {
				errs = append(errs, field.Invalid(at.Child(name).Index(i), p, fmt.Sprintf("want lower case: %s", lower)))
			}
			if p == "" {
				errs = append(errs, field.Required(at.Child(name).Index(i), "want a name, or * for all"))
			}
		}
	}
	if len(m.NonResourceURLs) > 0 && len(m.APIGroups)+len(m.Versions)+len(m.Resources)+len(m.Namespaces)+len(m.Names)+
		len(m.FieldSelectors)+len(m.LabelSelectors) > 0 {
		errs = append(errs, field.Forbidden(at.Child("nonResourceURLs"),
			"no request is for a URL and for a resource: make two rules"))
	}
	for i, p := range m.NonResourceURLs {
		if !strings.HasPrefix(string(p), "/") && p != "*" {
			errs = append(errs, field.Invalid(at.Child("nonResourceURLs").Index(i), p, "want a path that starts with /, or *"))
		}
	}
	for i, p := range m.Verbs {
		if strings.ToLower(string(p)) == string(p) && p != "" {
			errs = append(errs, checkVerb(at.Child("verbs").Index(i), p)...)
		}
	}
	for i, p := range m.APIGroups {
		if p == "core" || strings.Contains(string(p), "/") {
			errs = append(errs, field.Invalid(at.Child("apiGroups").Index(i), p, `want a group without its version; the core group is ""`))
		}
	}
	slices.SortFunc(errs, func(a, b *field.Error) int { return strings.Compare(a.Field, b.Field) })
	return errs
}
