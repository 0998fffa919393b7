package policy

import (
	"errors"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/policy/expression"
	"github.com/holdfast-dev/holdfast/pkg/policy/reference"
)

// Set is a fixed set of policies, indexed so that a request meets only the rules that its
// group and resource can match. It is immutable and safe for concurrent use.
type Set struct {
	policies []*Policy
	// observed: there are Warn or Audit policies among them.
	observed bool
	// exact are the rules that name groups and resources without a star, by both; wild are
	// the others. A rule stands in one of them.
	exact map[resource][]*rule
	wild  []*rule
	urls  []*rule
	// selections are the policies of each Agent, by its name, made when first asked for:
	// there are as many as there are declared Agents.
	selections sync.Map
}

type resource struct{ group, resource string }

// selection is what policies select one Agent.
type selection struct {
	selected map[*Policy]bool
	// always are those that decide even where no rule of theirs matches.
	always []*Policy
}

// NewSet indexes policies.
func NewSet(policies []*Policy) *Set {
	s := &Set{policies: slices.Clone(policies), exact: map[resource][]*rule{}}
	for _, p := range s.policies {
		s.observed = s.observed || p.observes()
		for _, r := range p.rules {
			s.index(r)
		}
	}
	return s
}

func (s *Set) index(r *rule) {
	if len(r.match.NonResourceURLs) > 0 {
		s.urls = append(s.urls, r)
		return
	}
	if !literal(r.match.APIGroups) || !literal(r.match.Resources) {
		s.wild = append(s.wild, r)
		return
	}
	for _, g := range r.match.APIGroups {
		for _, name := range r.match.Resources {
			key := resource{group: string(g), resource: string(name)}
			if !slices.Contains(s.exact[key], r) {
				s.exact[key] = append(s.exact[key], r)
			}
		}
	}
}

func literal(patterns []v1alpha1.Pattern) bool {
	return len(patterns) > 0 && !slices.ContainsFunc(patterns, func(p v1alpha1.Pattern) bool { return !p.Literal() })
}

// Len is the number of policies in the set.
func (s *Set) Len() int {
	if s == nil {
		return 0
	}
	return len(s.policies)
}

// Selecting is the number of policies that select the Agent of that name.
func (s *Set) Selecting(agent string) int { return len(s.selection(agent).selected) }

func (s *Set) selection(agent string) *selection {
	if found, ok := s.selections.Load(agent); ok {
		if sel, ok := found.(*selection); ok {
			return sel
		}
	}
	sel := &selection{selected: map[*Policy]bool{}}
	for _, p := range s.policies {
		if !p.Selects(agent) {
			continue
		}
		sel.selected[p] = true
		if p.broken || p.fallback != decision.Allow {
			sel.always = append(sel.always, p)
		}
	}
	s.selections.Store(agent, sel)
	return sel
}

// Input is what a verdict is made from.
type Input struct {
	Request *decision.Request
	// Agents are all Agents that the identity belongs to.
	Agents []*v1alpha1.Agent
	// Namespace returns the Namespace object of the request, or nil where it has none. It
	// is called at most once, and only if a rule that matches looks at it. Nil: unknown,
	// and such a rule fails.
	Namespace func() (map[string]any, error)
	// Unseen: the hook that asks sees no objects. Rules that look into them then deny every
	// change that they match, since nobody will see it later, and are about nothing else.
	Unseen bool
	// Target returns the object that a request for a subresource is about, such as the pod of
	// pods/log, or nil where there is none. It is called as Namespace is.
	Target func() (map[string]any, error)
	// MayRead says whether the agent may read what a reference names. It is asked once for
	// each kind, namespace and name, and only if a rule asks. Nil, and an error of it: unknown,
	// and such a rule fails.
	MayRead func(reference.Reference) (bool, error)
	// Deadline ends all evaluations.
	Deadline time.Time
}

// Finding is one rule, or one policy's default, that applies to a request.
type Finding struct {
	Policy string
	// Rule is empty for a policy's default, and for a policy as a whole.
	Rule    string
	Mode    v1alpha1.Mode
	Action  decision.Action
	Reason  decision.Reason
	Message string
	// Terms are what a finding whose action is Hold asks for.
	Terms *Terms
	// Unreadable are some of what the request refers to and the agent may not read, of a rule
	// that asked: kind, namespace and name.
	Unreadable []reference.Reference
}

// maxUnreadable is how many references a finding names.
const maxUnreadable = 5

// String is policy/rule, or the policy's name alone.
func (f Finding) String() string {
	if f.Rule == "" {
		return f.Policy
	}
	return f.Policy + "/" + f.Rule
}

// Verdict is what the policies say together.
type Verdict struct {
	Action decision.Action
	Reason decision.Reason
	// Deciding are the findings of enforcing policies that led to the Action, in order of
	// their names.
	Deciding []Finding
	// Observed are the findings of Warn and Audit policies that would have denied or held.
	Observed []Finding
}

// Evaluate judges a request by all policies of all its Agents: Deny beats Hold beats Allow,
// whatever the order. No policy at all is Allow with ReasonNoPolicy: RBAC decides. An
// expression that fails, or a version that a rule does not know, is a denial by that rule.
func (s *Set) Evaluate(in *Input) Verdict {
	e := &evaluation{in: in}
	selected := false
	e.deadline = in.Deadline
	for _, agent := range in.Agents {
		sel := s.selection(agent.Name)
		selected = selected || len(sel.selected) > 0
		e.judge(s, sel, agent)
	}
	if !s.observed {
		return e.verdict(selected)
	}
	// Those who only look come last, with time of their own: they take none from those who
	// decide.
	e.observing, e.deadline = true, time.Now().Add(observing)
	for _, agent := range in.Agents {
		e.judge(s, s.selection(agent.Name), agent)
	}
	return e.verdict(selected)
}

// observing is how long the rules of Warn and Audit policies may take together.
const observing = 100 * time.Millisecond

// evaluation is the state of one Evaluate.
type evaluation struct {
	in *Input
	// agent is the one whose turn it is.
	agent *v1alpha1.Agent
	// variables are made for the first rule that looks at any: most requests meet none.
	variables *expression.Variables
	findings  []Finding
	// observing: it is the turn of Warn and Audit policies; deadline ends the turn.
	observing bool
	deadline  time.Time
	// namespaced: Input.Namespace has been asked; targeted: Input.Target.
	namespaced, targeted    bool
	namespaceErr, targetErr error
}

func (e *evaluation) judge(s *Set, sel *selection, agent *v1alpha1.Agent) {
	e.agent = agent
	var matched []*Policy
	consider := func(rules []*rule) {
		for _, r := range rules {
			if r.policy.observes() == e.observing && sel.selected[r.policy] && e.apply(r) {
				matched = append(matched, r.policy)
			}
		}
	}
	if e.in.Request.NonResourceURL != "" {
		consider(s.urls)
	} else {
		consider(s.exact[resource{group: e.in.Request.Group, resource: e.in.Request.FullResource()}])
	}
	consider(s.wild)
	for _, p := range sel.always {
		switch {
		case p.observes() != e.observing:
		case p.broken:
			e.add(Finding{Policy: p.name, Mode: p.mode, Action: decision.Deny, Reason: decision.ReasonPolicyInvalid,
				Message: "the policy does not compile, and no earlier version of it is in force"})
		case !slices.Contains(matched, p):
			e.add(Finding{Policy: p.name, Mode: p.mode, Action: p.fallback, Reason: decision.ReasonDefault, Terms: &p.hold})
		}
	}
}

// apply adds the rule's finding, if it applies, and says whether it does.
func (e *evaluation) apply(r *rule) bool {
	if !r.matches(e.in.Request) {
		return false
	}
	f := Finding{Policy: r.policy.name, Rule: r.name, Mode: r.policy.mode, Action: r.action, Reason: decision.ReasonRule, Message: r.message, Terms: &r.hold}
	if r.when == nil {
		e.add(f)
		return true
	}
	if e.in.Unseen && (r.when.Object || r.when.OldObject) {
		if !changes(e.in.Request) {
			return false
		}
		f.Action, f.Reason = decision.Deny, decision.ReasonUnseen
		f.Message = "the rule looks into the object, which nobody but its own API server sees"
		e.add(f)
		return true
	}
	if !v1alpha1.AnyMatches(r.match.Versions, e.in.Request.Version) {
		f.Action, f.Reason = decision.Deny, decision.ReasonVersion
		f.Message = "the rule does not know version " + e.in.Request.Version + " of this resource"
		e.add(f)
		return true
	}
	applies, err := e.run(r.when)
	switch {
	case err != nil:
		f.Action, f.Reason, f.Message = decision.Deny, decision.ReasonEvaluation, err.Error()
		e.add(f)
		return true
	case applies:
		f.Unreadable = unreadable(e.variables.Reads.Refused())
		e.add(f)
	}
	return applies
}

// unreadable are the first of what references are to, each once.
func unreadable(refs []reference.Reference) []reference.Reference {
	var first []reference.Reference
	for _, r := range refs {
		what := reference.Reference{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}
		if len(first) < maxUnreadable && !slices.Contains(first, what) {
			first = append(first, what)
		}
	}
	return first
}

var (
	errNamespaceUnknown = errors.New("the request's namespace could not be looked up")
	errTargetUnknown    = errors.New("the object of the request could not be looked up")
)

// prepare makes the variables, with the Agent whose turn it is.
func (e *evaluation) prepare() {
	if e.variables == nil {
		e.variables = &expression.Variables{
			Request: expression.RequestVariable(e.in.Request),
			Reads:   expression.NewReads(e.in.MayRead), Searches: expression.NewSearches(),
		}
		if e.in.Request.Object != nil {
			e.variables.Object = e.in.Request.Object
		}
		if e.in.Request.OldObject != nil {
			e.variables.OldObject = e.in.Request.OldObject
		}
	}
	e.variables.Agent = expression.Agent{Name: e.agent.Name, Labels: e.agent.Labels}
	if e.agent.Spec.Owner != nil {
		e.variables.Agent.Owner = e.agent.Spec.Owner.Name
	}
}

func (e *evaluation) run(p *expression.Program) (bool, error) {
	e.prepare()
	if p.Namespace && !e.namespaced {
		e.namespaced = true
		e.namespaceErr = lookUp(e.in.Namespace, &e.variables.Namespace)
	}
	if p.Namespace && e.namespaceErr != nil {
		return false, errNamespaceUnknown
	}
	if p.Target && !e.targeted {
		e.targeted = true
		e.targetErr = lookUp(e.in.Target, &e.variables.Target)
	}
	if p.Target && e.targetErr != nil {
		return false, errTargetUnknown
	}
	return p.Run(e.variables, e.deadline)
}

var errNobodyKnows = errors.New("there is nobody to ask")

// lookUp sets a variable to an object that has to be asked for; nil where there is none.
func lookUp(ask func() (map[string]any, error), variable *any) error {
	if ask == nil {
		return errNobodyKnows
	}
	object, err := ask()
	if err != nil {
		return err
	}
	if object != nil {
		*variable = object
	}
	return nil
}

// add keeps one finding for a rule that applies through several Agents: the strictest.
func (e *evaluation) add(f Finding) {
	for i := range e.findings {
		if e.findings[i].Policy == f.Policy && e.findings[i].Rule == f.Rule {
			if f.Action < e.findings[i].Action {
				e.findings[i] = f
			}
			return
		}
	}
	e.findings = append(e.findings, f)
}

func (e *evaluation) verdict(selected bool) Verdict {
	v := Verdict{Action: decision.Allow, Reason: decision.ReasonDefault}
	if !selected {
		v.Reason = decision.ReasonNoPolicy
	}
	slices.SortFunc(e.findings, func(a, b Finding) int { return strings.Compare(a.String(), b.String()) })
	for _, f := range e.findings {
		if f.Mode == v1alpha1.Enforce {
			v.Action = decision.Strictest(v.Action, f.Action)
		} else if f.Action != decision.Allow {
			v.Observed = append(v.Observed, f)
		}
	}
	for _, f := range e.findings {
		if f.Mode == v1alpha1.Enforce && f.Action == v.Action {
			v.Deciding = append(v.Deciding, f)
		}
	}
	if len(v.Deciding) > 0 {
		v.Reason = v.Deciding[0].Reason
	}
	return v
}

// matches says whether the request is one that the rule is about, but for versions and
// `when`.
func (r *rule) matches(q *decision.Request) bool {
	if !r.matchesVerb(q.Verb) {
		return false
	}
	if len(r.match.NonResourceURLs) > 0 {
		return q.NonResourceURL != "" && v1alpha1.AnyMatches(r.match.NonResourceURLs, q.NonResourceURL)
	}
	if q.NonResourceURL != "" {
		// Rules that name nothing of a resource are for URLs too.
		return len(r.match.APIGroups)+len(r.match.Resources)+len(r.match.Namespaces)+len(r.match.Names)+
			len(r.match.FieldSelectors)+len(r.match.LabelSelectors) == 0
	}
	return v1alpha1.AnyMatches(r.match.APIGroups, q.Group) &&
		v1alpha1.AnyMatches(r.match.Resources, q.FullResource()) &&
		v1alpha1.AnyMatches(r.match.Namespaces, q.Namespace) &&
		v1alpha1.AnyMatches(r.match.Names, q.Name) &&
		selects(r.match.FieldSelectors, q.FieldSelector) &&
		selects(r.match.LabelSelectors, q.LabelSelector)
}

// selects says whether one requirement of a selector matches one of the patterns. No patterns
// match anything.
func selects(patterns []v1alpha1.Pattern, selector []decision.Requirement) bool {
	return len(patterns) == 0 || slices.ContainsFunc(selector, func(q decision.Requirement) bool {
		return v1alpha1.AnyMatches(patterns, q.String())
	})
}

// changes says whether a request is to change an object. Reviews of access and of tokens are
// none, although they are created, nor is what is asked of a kubelet.
func changes(q *decision.Request) bool {
	switch q.Verb {
	case "connect":
		return true
	case "create", "update", "patch", "delete", "deletecollection":
		return q.NonResourceURL == "" && !decision.IsReview(q.Group) && !decision.OfKubelet(q.Group, q.FullResource())
	default:
		return false
	}
}

// matchesVerb takes update and patch for one verb: admission cannot tell them apart, and has
// update for both; the authorizer, which can, must not judge less by the rules for it.
func (r *rule) matchesVerb(verb string) bool {
	if v1alpha1.AnyMatches(r.match.Verbs, verb) {
		return true
	}
	return verb == "update" && v1alpha1.AnyMatches(r.match.Verbs, "patch") ||
		verb == "patch" && v1alpha1.AnyMatches(r.match.Verbs, "update")
}
