package engine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/policy"
)

// Authorize judges the request of somebody inside the net before RBAC does. It always returns
// a decision with an ID. Allow means that Holdfast has nothing against it, and RBAC decides,
// but for ReasonGranted and ReasonOwnRequest, which need no RBAC.
//
// What admission will see is left to it, but for who may ask at all. A read that a rule holds
// is refused, and the message says how to ask ahead: no read can wait.
func (e *Engine) Authorize(ctx context.Context, in Input) (d decision.Decision) {
	d = decision.Decision{ID: decision.NewID(), Reason: decision.ReasonInternal}
	defer func() {
		if recover() != nil {
			// What was panicked with can quote the request; it is not kept.
			d.Action, d.Reason, d.AccessRequest = decision.Deny, decision.ReasonInternal, ""
			d.Message = message(in.Request, &d, "deciding failed")
		}
	}()
	s := e.state.Load()
	if s == nil {
		if isBasic(in.Request) {
			return pass(d, decision.ReasonSelfReview)
		}
		return refuse(d, in.Request, decision.ReasonNotReady, notReady)
	}
	agents := s.Agents.Identify(in.Request.User)
	if len(agents) == 0 {
		if isBasic(in.Request) {
			return pass(d, decision.ReasonSelfReview)
		}
		return refuse(d, in.Request, decision.ReasonUndeclared, undeclared(s))
	}
	d.Agents = names(agents)
	if a := suspended(agents); a != nil {
		return refuse(d, in.Request, decision.ReasonSuspended, whySuspended(a))
	}
	switch {
	case isBasic(in.Request):
		return pass(d, decision.ReasonSelfReview)
	case isOwnKind(in.Request, "accessrequests"):
		if out, done := ownRequest(d, in); done {
			return out
		}
	}
	if !in.Aggregated && Admitted(in.Request) {
		if grant := e.granted(ctx, in, in.Request, d.Agents, nil); grant != nil {
			return pass(d, decision.ReasonGranted, grant)
		}
		return pass(d, decision.ReasonNoPolicy)
	}
	done, ok := e.turn(ctx, agents[0].Name)
	defer done()
	if !ok {
		return refuse(d, in.Request, decision.ReasonOverload, "too many decisions are under way; try again")
	}
	in.unseen = true
	if full := in.Request.FullResource(); !in.Aggregated && decision.OfKubelet(in.Request.Group, full) && decision.Connects(in.Request.Group, full) {
		// By the rules that admission will go by, where it is asked.
		connect := *in.Request
		connect.Verb = "connect"
		in.Request = &connect
	}
	return e.restrict(ctx, s, d, in, agents)
}

// restrict judges what nobody judges after the authorizer.
func (e *Engine) restrict(ctx context.Context, s *State, d decision.Decision, in Input, agents []*v1alpha1.Agent) decision.Decision {
	v := e.judge(ctx, s, in, agents)
	d = conclude(d, in.Request, v)
	if d.Action == decision.Deny {
		return d
	}
	var rules []v1alpha1.HoldingRule
	if d.Action == decision.Hold {
		rules = newHeld(agents, v).Rules
	}
	if grant := e.granted(ctx, in, in.Request, d.Agents, rules); grant != nil {
		return pass(d, decision.ReasonGranted, grant)
	}
	if d.Action == decision.Hold {
		d.Message = message(in.Request, &d, because(v.Deciding)+" "+howToAsk(lacking(in.Request, v.Deciding)))
	}
	return d
}

// pass lets RBAC decide; with a grant, it lets the request pass.
func pass(d decision.Decision, reason decision.Reason, grants ...*v1alpha1.AccessRequest) decision.Decision {
	d.Action, d.Reason, d.Message = decision.Allow, reason, ""
	for _, g := range grants {
		d.AccessRequest = g.Name
	}
	return d
}

func suspended(agents []*v1alpha1.Agent) *v1alpha1.Agent {
	i := slices.IndexFunc(agents, func(a *v1alpha1.Agent) bool { return a.Spec.Suspended })
	if i < 0 {
		return nil
	}
	return agents[i]
}

// Admitted says whether the API server will ask its admission webhooks about a request, if it
// is let pass. It does for its own API and that of custom resources; not for what it passes
// on to aggregated API servers, nor for what a kubelet does for those who call it directly.
func Admitted(r *decision.Request) bool {
	if r.NonResourceURL != "" || decision.OfKubelet(r.Group, r.FullResource()) {
		return false
	}
	switch r.Verb {
	case "create", "update", "patch", "delete", "deletecollection":
		return !decision.IsReview(r.Group)
	default:
		return decision.Connects(r.Group, r.FullResource())
	}
}

// basics are the paths that everybody may read: what there is, and whether the API server is
// well. They are those of the roles system:discovery and system:public-info-viewer.
var basics = []string{"/api", "/apis", "/openapi", "/version", "/healthz", "/livez", "/readyz"}

// isBasic says whether a request is discovery, or an identity asks about itself alone.
func isBasic(r *decision.Request) bool {
	if r.NonResourceURL == "" {
		return isSelfReview(r)
	}
	return (r.Verb == "get" || r.Verb == "head") && slices.ContainsFunc(basics, func(path string) bool {
		return r.NonResourceURL == path || strings.HasPrefix(r.NonResourceURL, path+"/")
	}) && !strings.Contains(r.NonResourceURL, "..")
}

func isOwnKind(r *decision.Request, resource string) bool {
	return r.Group == v1alpha1.Group && r.Resource == resource && r.Subresource == ""
}

// ownRequest is what an agent may do with AccessRequests, without any RBAC: ask, and look at
// and write into those of its own; the own-kinds webhook says what it may write. done is false
// for what it may not, and nobody need say so here.
func ownRequest(d decision.Decision, in Input) (out decision.Decision, done bool) {
	r := in.Request
	mine := r.Name != "" && in.Requester != nil && in.Requester(r.Name) == r.User.Name
	switch r.Verb {
	case "create":
		return pass(d, decision.ReasonOwnRequest), true
	case "get", "update", "patch":
		if mine {
			return pass(d, decision.ReasonOwnRequest), true
		}
		if r.Verb != "get" {
			return d, false
		}
		return refuse(d, r, decision.ReasonSelfProtection, "agents see the AccessRequests that they made, and there is none of that name"), true
	case "list", "watch":
		own := slices.ContainsFunc(r.FieldSelector, func(q decision.Requirement) bool {
			return q.Key == "spec.requester" && q.Operator == "In" && slices.Equal(q.Values, []string{r.User.Name})
		})
		if mine || own {
			return pass(d, decision.ReasonOwnRequest), true
		}
		return refuse(d, r, decision.ReasonSelfProtection, fmt.Sprintf(
			"agents see the AccessRequests that they made; add --field-selector spec.requester=%s", r.User.Name)), true
	default:
		return d, false
	}
}

// lacking is the request that the agent would have to be granted: one that is held for what it
// may not read passes once it may.
func lacking(r *decision.Request, findings []policy.Finding) *decision.Request {
	for _, f := range findings {
		for _, ref := range f.Unreadable {
			return readOf(r.User, ref)
		}
	}
	return r
}

// howToAsk says how an agent gets for a while what it may not do at once.
func howToAsk(r *decision.Request) string {
	verb := r.Verb
	if verb == "connect" {
		verb = "get" // as which the authorizer knows it, and it is asked for
	}
	if r.NonResourceURL != "" || !slices.Contains([]string{"get", "list", "watch"}, verb) {
		return "It cannot be asked for."
	}
	resource := r.Resource
	if r.Group != "" {
		resource += "." + r.Group
	}
	if r.Subresource != "" {
		resource += "/" + r.Subresource
	}
	ask := "To ask for it: kubectl holdfast request --verbs " + verb + " --resource " + resource
	if r.Name != "" {
		ask += "/" + r.Name
	}
	if r.Namespace != "" {
		ask += " -n " + r.Namespace
	}
	return ask + " --for 10m --reason '...'"
}

// unjudged is the part of a policy.Input that is the same for all that one request asks.
func (in *Input) unjudged(agents []*v1alpha1.Agent) *policy.Input {
	return &policy.Input{Request: in.Request, Agents: agents, Namespace: in.Namespace, Target: in.Target, Unseen: in.unseen}
}
