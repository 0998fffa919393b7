// Package engine decides: it is the one place where identities, policies and approvals
// meet. Every hook of the API server asks the same engine.
//
// It fails closed. What it cannot decide, because nothing is loaded, an expression fails or
// its own code panics, it denies; and the zero value of everything it returns is a denial.
// It does no I/O: what it looks up is handed to it.
package engine

import (
	"context"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/agent"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/policy"
)

// Config bounds an engine. The zero value has the defaults.
type Config struct {
	// Slots is how many decisions are evaluated at the same time; the others wait. 0 means
	// four for each processor.
	Slots int
	// Patience is how long a decision waits for its turn before it is denied. It has to be
	// well below what the API server waits, so that the denial reaches somebody. 0 means 3 s.
	Patience time.Duration
	// Budget is how long the expressions of one decision may take together. 0 means 1 s.
	Budget time.Duration
}

// State is what an engine decides by. It is replaced as a whole and never changed.
type State struct {
	Agents   *agent.Set
	Policies *policy.Set
}

// Engine decides requests. It is safe for concurrent use.
type Engine struct {
	state      atomic.Pointer[State]
	protection *policy.Set
	grants     atomic.Pointer[access.Grants]
	slots      chan struct{}
	// turns are the slots that each Agent may take, by its name: half of all, so that one
	// that is slow to judge leaves room for the others.
	turns    sync.Map
	patience time.Duration
	budget   time.Duration
}

// New returns an engine with nothing loaded: until Load it denies.
func New(c Config) *Engine {
	if c.Slots <= 0 {
		c.Slots = 4 * runtime.GOMAXPROCS(0)
	}
	if c.Patience <= 0 {
		c.Patience = 3 * time.Second
	}
	if c.Budget <= 0 {
		c.Budget = time.Second
	}
	return &Engine{protection: selfProtection(), slots: make(chan struct{}, c.Slots), patience: c.Patience, budget: c.Budget}
}

// Load puts a new state into force: each decision is made by the old one or by the new one.
func (e *Engine) Load(s State) { e.state.Store(&s) }

// Ready says whether a state has been loaded.
func (e *Engine) Ready() bool { return e.state.Load() != nil }

// IsAgent says whether the user is a declared agent. It is false while nothing is loaded.
func (e *Engine) IsAgent(u decision.User) bool {
	s := e.state.Load()
	return s != nil && len(s.Agents.Identify(u)) > 0
}

// Input is one request and what may have to be looked up about it.
type Input struct {
	Request *decision.Request
	// Namespace returns the Namespace object of the request; nil where there is none.
	Namespace func() (map[string]any, error)
	// Target returns the object that a read of a subresource, such as a log, is of; nil where
	// there is none.
	Target func() (map[string]any, error)
	// Permitted says whether RBAC lets the user make another request, such as to read a Secret
	// that the object refers to. Nil: RBAC is not asked, and what policies allow is allowed.
	Permitted func(ctx context.Context, r *decision.Request) (bool, error)
	// Confirm says whether an approval of what was asked for ahead still stands in storage,
	// and none of the Agents is suspended there. Nil confirms none.
	Confirm func(ctx context.Context, grant *v1alpha1.AccessRequest, agents []string) (bool, error)
	// Aggregated: the request goes to another API server, which admission does not see. For
	// Authorize alone.
	Aggregated bool
	// Requester returns who asked for the AccessRequest of that name; empty where there is
	// none. For Authorize alone.
	Requester func(name string) string

	// unseen: there are no objects to look into.
	unseen bool
}

// Decide judges the request of somebody inside the net. It always returns a decision with
// an ID; whatever goes wrong on the way is a denial that says so.
//
// Where the action is Hold, the second result says what it takes; otherwise it is nil. A
// caller that cannot hold has to refuse.
func (e *Engine) Decide(ctx context.Context, in Input) (d decision.Decision, held *Held) {
	d = decision.Decision{ID: decision.NewID(), Reason: decision.ReasonInternal, DryRun: in.Request.DryRun}
	defer func() {
		if recover() != nil {
			// What was panicked with can quote the request; it is not kept.
			d.Action, d.Reason, held = decision.Deny, decision.ReasonInternal, nil
			d.Message = message(in.Request, &d, "deciding failed")
		}
	}()
	if isSelfReview(in.Request) {
		d.Action, d.Reason = decision.Allow, decision.ReasonSelfReview
		return d, nil
	}
	s := e.state.Load()
	if s == nil {
		return refuse(d, in.Request, decision.ReasonNotReady, notReady), nil
	}
	agents := s.Agents.Identify(in.Request.User)
	if len(agents) == 0 {
		return refuse(d, in.Request, decision.ReasonUndeclared, undeclared(s)), nil
	}
	d.Agents = names(agents)
	if a := suspended(agents); a != nil {
		return refuse(d, in.Request, decision.ReasonSuspended, whySuspended(a)), nil
	}
	done, ok := e.turn(ctx, agents[0].Name)
	defer done()
	if !ok {
		return refuse(d, in.Request, decision.ReasonOverload, "too many decisions are under way; try again"), nil
	}
	v := e.judge(ctx, s, in, agents)
	d = conclude(d, in.Request, v)
	if d.Action != decision.Hold {
		return d, nil
	}
	held = newHeld(agents, v)
	if grant := e.granted(ctx, in, in.Request, d.Agents, held.Rules); grant != nil {
		return pass(d, decision.ReasonGranted, grant), nil
	}
	return d, held
}

const notReady = "Holdfast has not loaded its Agents and policies yet; try again in a moment"

// turn waits for a slot, the Agent's and one of all, and returns what gives back those that
// it got.
func (e *Engine) turn(ctx context.Context, agent string) (done func(), ok bool) {
	until := time.Now().Add(e.patience)
	own, known := e.turns.Load(agent)
	if !known {
		own, _ = e.turns.LoadOrStore(agent, make(chan struct{}, max(1, cap(e.slots)/2)))
	}
	turn, ok := own.(chan struct{})
	if !ok || !take(ctx, turn, until) {
		return func() {}, false
	}
	if !take(ctx, e.slots, until) {
		return func() { <-turn }, false
	}
	return func() { <-e.slots; <-turn }, true
}

// take takes a place, at once or after waiting, and says whether it got one.
func take(ctx context.Context, places chan<- struct{}, until time.Time) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
	}
	patience := time.NewTimer(time.Until(until))
	defer patience.Stop()
	select {
	case places <- struct{}{}:
		return true
	case <-patience.C:
	case <-ctx.Done():
	}
	return false
}

// judge asks the protection of Holdfast itself first, which no policy can lift, and then
// the policies.
func (e *Engine) judge(ctx context.Context, s *State, in Input, agents []*v1alpha1.Agent) policy.Verdict {
	input := in.unjudged(agents)
	input.Deadline = time.Now().Add(e.budget)
	input.MayRead = e.mayRead(ctx, s, in, agents)
	if v := e.protection.Evaluate(input); v.Action != decision.Allow {
		v.Reason = decision.ReasonSelfProtection
		return v
	}
	v := s.Policies.Evaluate(input)
	if isAsking(in.Request) && !slices.ContainsFunc(v.Deciding, func(f policy.Finding) bool { return f.Reason != decision.ReasonDefault }) {
		v.Action, v.Deciding = decision.Allow, nil // nobody could ask for what a default stops
	}
	return v
}

// conclude turns a verdict into a decision.
func conclude(d decision.Decision, r *decision.Request, v policy.Verdict) decision.Decision {
	d.Action, d.Reason = v.Action, v.Reason
	for _, f := range v.Deciding {
		d.Causes = append(d.Causes, decision.Cause{Rule: f.String(), Reason: f.Reason, Message: f.Message})
	}
	for _, f := range v.Observed {
		d.Observed = append(d.Observed, f.String()+"="+f.Action.String())
		if f.Mode == v1alpha1.Warn {
			d.Warnings = append(d.Warnings, warning(r, f))
		}
	}
	if d.Action != decision.Allow {
		d.Message = message(r, &d, because(v.Deciding))
	}
	return d
}

func refuse(d decision.Decision, r *decision.Request, reason decision.Reason, why string) decision.Decision {
	d.Action, d.Reason = decision.Deny, reason
	d.Message = message(r, &d, why)
	return d
}

// isSelfReview says whether an identity asks about itself alone: what it may do, and who it
// is. Everybody may ask that.
func isSelfReview(r *decision.Request) bool {
	if r.Verb != "create" || r.Subresource != "" {
		return false
	}
	switch r.Group {
	case "authorization.k8s.io":
		return r.Resource == "selfsubjectaccessreviews" || r.Resource == "selfsubjectrulesreviews"
	case "authentication.k8s.io":
		return r.Resource == "selfsubjectreviews"
	default:
		return false
	}
}
