package policy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// Asking is what it takes before what somebody asks for is granted, and for how long.
type Asking struct {
	// Rules have to be satisfied, each by its own approvers: the entries of
	// spec.requestable, and the rules that would hold such a request.
	Rules []v1alpha1.HoldingRule
	// Duration is how long the grant lasts once it is approved.
	Duration time.Duration
	// ExpiresAfter is how long the ask waits for people.
	ExpiresAfter time.Duration
}

// Bounds of one ask.
const (
	// maxWishes is how many combinations of a verb, group, resource, namespace and name one
	// ask may have: each is judged.
	maxWishes = 1024
	// maxAskRules is what spec.rules of an AccessRequest takes.
	maxAskRules = 32
	// maxEntries and maxNames are what the lists of an Access take.
	maxEntries, maxNames = 16, 32
)

// Asked says what it takes to be granted the access, for somebody who is all those Agents.
// Every combination of a verb, group, resource, namespace and name has to be covered by an
// entry of spec.requestable of an enforcing policy that selects one of the Agents. All
// entries that cover it count, and so do the rules without `when` that would hold such a
// request, and a policy's default of Hold that would. What a rule without `when`, or a
// default, denies is refused at once, since no approval lifts that. Rules with `when` are
// left to the request itself.
//
// The error is for the agent: it names the field, or what no policy lets it ask for.
func (s *Set) Asked(agents []*v1alpha1.Agent, a *v1alpha1.Access) (Asking, error) {
	if errs := checkAccess(a); len(errs) > 0 {
		return Asking{}, errs.ToAggregate()
	}
	q := asking{set: s, most: maxMaxDuration, expires: maxExpires}
	for _, agent := range agents {
		for p := range s.selection(agent.Name).selected {
			if !p.observes() && !slices.Contains(q.policies, p) {
				q.policies = append(q.policies, p)
			}
		}
	}
	// The order of a map is none: of several refusals it is always the same that is told.
	slices.SortFunc(q.policies, func(a, b *Policy) int { return strings.Compare(a.name, b.name) })
	for _, w := range wishes(a) {
		if err := q.judge(&w); err != nil {
			return Asking{}, err
		}
	}
	return q.conclude(a)
}

// Refused says by which rule or default what is asked for would be denied whatever people
// approve; nil where nothing would. It does not ask whether it may be asked for.
func (s *Set) Refused(agents []*v1alpha1.Agent, a *v1alpha1.Access) error {
	if errs := checkAccess(a); len(errs) > 0 {
		return errs.ToAggregate()
	}
	for _, w := range wishes(a) {
		for _, agent := range agents {
			for p := range s.selection(agent.Name).selected {
				if _, err := p.holds(&w); err != nil && !p.observes() {
					return err
				}
			}
		}
	}
	return nil
}

// asking is the state of one Asked.
type asking struct {
	set      *Set
	policies []*Policy
	rules    []v1alpha1.HoldingRule
	most     time.Duration
	// by is the entry that allows no more than most.
	by      *requestable
	expires time.Duration
}

func (q *asking) judge(w *wish) error {
	for _, p := range q.policies {
		terms, err := p.holds(w)
		if err != nil {
			return err
		}
		for _, t := range terms {
			q.add(t)
		}
	}
	covered := false
	for _, p := range q.policies {
		for _, r := range p.asks {
			if !r.covers(w) {
				continue
			}
			covered = true
			q.add(&r.terms)
			if q.by == nil || r.most < q.most {
				q.by, q.most = r, r.most
			}
		}
	}
	if !covered {
		return fmt.Errorf("no policy lets the agent ask to %s; %s", w, q.offer())
	}
	return nil
}

func (q *asking) add(t *Terms) {
	q.expires = min(q.expires, t.ExpiresAfter)
	if !slices.ContainsFunc(q.rules, func(r v1alpha1.HoldingRule) bool { return r.Policy == t.Rule.Policy && r.Rule == t.Rule.Rule }) {
		q.rules = append(q.rules, t.Rule)
	}
}

// maxOffered is how many entries a refusal names.
const maxOffered = 5

// offer says what may be asked for.
func (q *asking) offer() string {
	var names []string
	for _, p := range q.policies {
		for _, r := range p.asks {
			names = append(names, p.name+"/"+r.name)
		}
	}
	const who = "a cluster admin says in spec.requestable of an AgentPolicy what may be asked for"
	switch {
	case len(names) == 0:
		return who
	case len(names) > maxOffered:
		return fmt.Sprintf("it may ask for what %s and %d more entries cover; %s", strings.Join(names[:maxOffered], ", "), len(names)-maxOffered, who)
	default:
		return fmt.Sprintf("it may ask for what %s covers; %s", strings.Join(names, ", "), who)
	}
}

func (q *asking) conclude(a *v1alpha1.Access) (Asking, error) {
	if len(q.rules) > maxAskRules {
		return Asking{}, fmt.Errorf("%d rules would have to be satisfied, and one ask takes %d: ask for less at a time", len(q.rules), maxAskRules)
	}
	slices.SortFunc(q.rules, func(a, b v1alpha1.HoldingRule) int {
		return cmp.Or(strings.Compare(a.Policy, b.Policy), strings.Compare(a.Rule, b.Rule))
	})
	out := Asking{Rules: q.rules, Duration: min(defaultDuration, q.most), ExpiresAfter: q.expires}
	if a.Duration != nil {
		out.Duration = a.Duration.Duration
	}
	if out.Duration > q.most || out.Duration < minDuration {
		return Asking{}, field.Invalid(field.NewPath("spec", "access", "duration"), out.Duration.String(),
			fmt.Sprintf("want %s to %s, which is what %s/%s allows", minDuration, q.most, q.by.policy.name, q.by.name))
	}
	return out, nil
}

// holds are the terms of all that would hold the wish as a request; an error says what would
// deny it.
func (p *Policy) holds(w *wish) (terms []*Terms, err error) {
	if p.broken {
		return nil, fmt.Errorf("no approval lifts a denial: policy %s does not compile, and no earlier version of it is in force", p.name)
	}
	surely, perhaps := false, false
	for _, r := range p.rules {
		by, always := r.wished(w)
		if !by {
			continue
		}
		perhaps = true
		if r.when != nil {
			continue
		}
		surely = surely || always
		switch r.action {
		case decision.Deny:
			if always {
				return nil, fmt.Errorf("no approval lifts a denial: %s/%s denies the agent to %s", p.name, r.name, explained(w, r.message))
			}
		case decision.Hold:
			terms = append(terms, &r.hold)
		case decision.Allow:
		}
	}
	switch {
	case p.fallback == decision.Deny && !perhaps:
		return nil, fmt.Errorf("no approval lifts a denial: no rule of policy %s allows the agent to %s", p.name, w)
	case p.fallback == decision.Hold && !surely:
		terms = append(terms, &p.hold)
	}
	return terms, nil
}

func explained(w *wish, message string) string {
	if message == "" {
		return w.String()
	}
	return fmt.Sprintf("%s: %s", w, message)
}

// wished says whether the rule, but for its `when`, is about requests for the wish: about
// some of them, or about all, always.
func (r *rule) wished(w *wish) (some, always bool) {
	q := decision.Request{Group: w.group, Resource: w.resource, Namespace: w.within(), Name: w.name}
	q.Resource, q.Subresource, _ = strings.Cut(w.resource, "/")
	for _, q.Verb = range w.verbs() {
		if r.matches(&q) {
			return true, true
		}
		if !w.anyName() {
			continue
		}
		// The rule may name what is created.
		wide := *r
		wide.match.Names = nil
		if w.isNamespace() {
			wide.match.Namespaces = nil
		}
		some = some || wide.matches(&q)
	}
	return some, false
}

// wish is one combination of what is asked for.
type wish struct{ verb, group, resource, namespace, name string }

// wishes are all combinations of an access.
func wishes(a *v1alpha1.Access) []wish {
	or := func(list []string) []string {
		if len(list) == 0 {
			return []string{""}
		}
		return list
	}
	var all []wish
	for _, verb := range a.Verbs {
		for _, group := range a.APIGroups {
			for _, resource := range a.Resources {
				for _, namespace := range or(a.Namespaces) {
					for _, name := range or(a.Names) {
						all = append(all, wish{verb, group, resource, namespace, name})
					}
				}
			}
		}
	}
	return all
}

// verbs are those under which the request comes to be judged.
func (w *wish) verbs() []string {
	switch {
	case w.verb == "update" || w.verb == "patch":
		return []string{"update", "patch"}
	case (w.verb == "get" || w.verb == "create") && decision.Connects(w.group, w.resource):
		return []string{w.verb, "connect"}
	default:
		return []string{w.verb}
	}
}

// anyName: a create without a name is for objects of any name.
func (w *wish) anyName() bool { return w.verb == "create" && w.name == "" }

func (w *wish) isNamespace() bool {
	return w.group == "" && (w.resource == "namespaces" || strings.HasPrefix(w.resource, "namespaces/"))
}

// within is the namespace by which rules know it: for a Namespace object its own name.
func (w *wish) within() string {
	if w.isNamespace() {
		return w.name
	}
	return w.namespace
}

func (w *wish) String() string {
	text := w.verb + " " + w.resource
	if w.group != "" {
		main, sub, _ := strings.Cut(w.resource, "/")
		text = w.verb + " " + strings.TrimSuffix(main+"."+w.group+"/"+sub, "/")
	}
	if w.name != "" {
		text += fmt.Sprintf(" %q", w.name)
	}
	if w.namespace != "" {
		text += fmt.Sprintf(" in namespace %q", w.namespace)
	}
	return text
}

// never says why a verb can never be asked for; empty for those that can, or are unknown.
func never(verb string) string {
	switch {
	case strings.Contains(verb, "*"):
		return "want verbs by name: an approver has to see what is granted"
	case verb == "escalate" || verb == "bind":
		return "no grant hands out rights: ask to create, update or patch the role or binding itself"
	case strings.HasPrefix(verb, "impersonate"):
		return "an agent acts under its own name: ask for what it would do as somebody else"
	case verb == "approve" || verb == "sign" || verb == "attest":
		return "certificates are approved and signed by people"
	case verb == "deletecollection":
		return "want delete, with the names of the objects"
	case verb == "connect":
		return "want get or create, of pods/exec, pods/attach, pods/portforward or a proxy subresource"
	default:
		return ""
	}
}

// checkAccess refuses what is not concrete.
func checkAccess(a *v1alpha1.Access) field.ErrorList {
	at := field.NewPath("spec", "access")
	var errs field.ErrorList
	for name, list := range map[string][]string{"verbs": a.Verbs, "apiGroups": a.APIGroups, "resources": a.Resources} {
		if len(list) == 0 {
			errs = append(errs, field.Required(at.Child(name), map[string]string{
				"verbs": "say what you would do: " + strings.Join(Askable, ", "), "resources": "say which resources, in plural, such as configmaps or pods/exec",
				"apiGroups": `say the groups of the resources; the core group is ""`,
			}[name]))
		}
	}
	combinations := 1
	for _, l := range []struct {
		name  string
		list  []string
		most  int
		check func(at *field.Path, s string) *field.Error
	}{
		{"verbs", a.Verbs, maxEntries, checkAskedVerb},
		{"apiGroups", a.APIGroups, maxEntries, checkAskedGroup},
		{"resources", a.Resources, maxEntries, checkAskedResource},
		{"namespaces", a.Namespaces, maxEntries, checkAskedName},
		{"names", a.Names, maxNames, checkAskedName},
	} {
		if len(l.list) > l.most {
			return append(errs, field.TooMany(at.Child(l.name), len(l.list), l.most))
		}
		combinations *= max(1, len(l.list))
		for i, s := range l.list {
			if err := l.check(at.Child(l.name).Index(i), s); err != nil {
				errs = append(errs, err)
			}
		}
	}
	slices.SortStableFunc(errs, func(a, b *field.Error) int { return strings.Compare(a.Field, b.Field) })
	switch {
	case len(errs) > 0:
		return errs
	case combinations > maxWishes:
		return field.ErrorList{field.Forbidden(at, fmt.Sprintf("has %d combinations of a verb, group, resource, namespace and name; ask for at most %d at a time", combinations, maxWishes))}
	default:
		return checkNames(at, a)
	}
}

// checkNames: what acts on one object names it.
func checkNames(at *field.Path, a *v1alpha1.Access) field.ErrorList {
	for _, w := range wishes(a) {
		switch nameless := w.verb == "list" || w.verb == "watch" || w.verb == "create" && !strings.Contains(w.resource, "/"); {
		case w.name == "" && !nameless:
			return field.ErrorList{field.Required(at.Child("names"), fmt.Sprintf("name the objects to %s", w.String()))}
		case w.isNamespace() && w.namespace != "":
			return field.ErrorList{field.Forbidden(at.Child("namespaces"), "Namespaces are in no namespace: put theirs into names, and ask for other resources by themselves")}
		}
	}
	return nil
}

func checkAskedVerb(at *field.Path, s string) *field.Error {
	if why := never(s); why != "" {
		return field.Invalid(at, s, why)
	}
	if !slices.Contains(Askable, s) {
		return field.NotSupported(at, s, Askable)
	}
	return nil
}

func checkAskedGroup(at *field.Path, s string) *field.Error {
	switch {
	case strings.Contains(s, "*"):
		return field.Invalid(at, s, "want a group by name: an approver has to see what is granted")
	case s == "core" || strings.Contains(s, "/"):
		return field.Invalid(at, s, `want a group without its version; the core group is ""`)
	default:
		return nil
	}
}

func checkAskedResource(at *field.Path, s string) *field.Error {
	switch {
	case s == "":
		return field.Required(at, "want a resource in plural, such as configmaps or pods/exec")
	case strings.Contains(s, "*"):
		return field.Invalid(at, s, "want a resource by name: an approver has to see what is granted")
	case strings.ToLower(s) != s:
		return field.Invalid(at, s, "want lower case: "+strings.ToLower(s))
	default:
		return nil
	}
}

func checkAskedName(at *field.Path, s string) *field.Error {
	switch {
	case s == "":
		return field.Required(at, "want a name; leave the list out for what has none")
	case strings.Contains(s, "*"):
		return field.Invalid(at, s, "want names that are no patterns: an approver has to see what is granted")
	default:
		return nil
	}
}
