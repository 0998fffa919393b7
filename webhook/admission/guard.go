package admission

import (
	"context"
	"errors"
	"fmt"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/engine"
)

// Namespaces looks up a Namespace object by name; nil and no error where there is none.
type Namespaces interface {
	Namespace(ctx context.Context, name string) (map[string]any, error)
}

// Objects looks at what is stored. An error is not for the agent's eyes.
type Objects interface {
	// Collection shows every object of the collection that a deletecollection is about,
	// decoded and in the request's version, to visit, whose error ends it. It says whether
	// there are more than most, of which it shows none beyond.
	Collection(ctx context.Context, r *decision.Request, most int, visit func(object map[string]any) error) (more bool, err error)
	// UID is that of the object which a request for a subresource is about; empty and no
	// error where there is none.
	UID(ctx context.Context, r *decision.Request) (string, error)
}

// Held is a request that people have to approve.
type Held struct {
	Review *Review
	// Terms are what it takes.
	Terms *engine.Held
	// Items are those of the whole collection, for a deletecollection; nil for anything else.
	Items []v1alpha1.Item
	// Again judges the request anew, after a wait in which an Agent may have been suspended,
	// a policy changed, or a collection become another one. Where it returns no terms, its
	// decision is final.
	Again func(ctx context.Context) (decision.Decision, *engine.Held)
}

// Hold finds out whether people have approved a held request, waiting for them a while, and
// returns the decision that comes of it.
type Hold func(ctx context.Context, d decision.Decision, held Held) decision.Decision

// GuardConfig is what the judge of agents needs to know. Engine is required.
type GuardConfig struct {
	Engine *engine.Engine
	// Namespaces is needed by rules that look at the request's namespace.
	Namespaces Namespaces
	// Objects is needed for collections, which are refused without it.
	Objects Objects
	// Confirm says whether an approval of what was asked for ahead still stands, in storage.
	// Nil: none counts.
	Confirm func(ctx context.Context, grant *v1alpha1.AccessRequest, agents []string) (bool, error)
	// Permitted says whether RBAC lets the user make another request, to read a Secret that
	// the object refers to. Nil: RBAC is not asked.
	Permitted func(ctx context.Context, r *decision.Request) (bool, error)
	// Hold holds. Without it, what a policy holds is refused.
	Hold Hold
	// Saw is told of each Agent that has made a request; it must not block. Nil tells nobody.
	Saw func(agent string)
}

// Guard returns the Judge of what agents do.
func Guard(c GuardConfig) Judge {
	g := &guardJudge{GuardConfig: c, collections: newCollections()}
	return g.judge
}

// guardJudge judges what agents do.
type guardJudge struct {
	GuardConfig
	collections *collections
}

func (g *guardJudge) judge(ctx context.Context, r *Review) decision.Decision {
	d, held := g.decide(ctx, &r.Request)
	for _, name := range d.Agents {
		if g.Saw != nil {
			g.Saw(name)
		}
	}
	if r.Request.Verb == "deletecollection" && d.Action != decision.Deny {
		return g.collection(ctx, r, d, held)
	}
	if held == nil || g.Hold == nil {
		return d
	}
	targeted, err := g.target(ctx, r)
	if err != nil {
		return refuse(d, decision.ReasonInternal, "the object that it is about could not be looked up")
	}
	return g.Hold(ctx, d, Held{
		Review: targeted, Terms: held,
		Again: func(ctx context.Context) (decision.Decision, *engine.Held) { return g.decide(ctx, &r.Request) },
	})
}

func (g *guardJudge) decide(ctx context.Context, r *decision.Request) (decision.Decision, *engine.Held) {
	in := engine.Input{Request: r, Namespace: func() (map[string]any, error) { return nil, nil }, Confirm: g.Confirm, Permitted: g.Permitted} //nolint:nilnil // cluster-scoped: none
	if name := r.Namespace; name != "" && g.Namespaces != nil {
		in.Namespace = func() (map[string]any, error) { return g.Namespaces.Namespace(ctx, name) }
	}
	return g.Engine.Decide(ctx, in)
}

// errNoTarget: there is nothing of which the subresource could be.
var errNoTarget = errors.New("no object")

// target returns the review of a create on a subresource, such as an eviction, with the UID
// of the object: an approval is for that object, and not for the next one of its name. Others
// are returned as they are.
func (g *guardJudge) target(ctx context.Context, r *Review) (*Review, error) {
	q := &r.Request
	if q.Verb != "create" || q.Subresource == "" || q.OldObject != nil || g.Objects == nil {
		return r, nil
	}
	uid, err := g.Objects.UID(ctx, q)
	if err != nil {
		return nil, err
	}
	if uid == "" {
		return nil, errNoTarget
	}
	targeted := *r
	targeted.Request.OldObject = map[string]any{"metadata": map[string]any{"uid": uid}}
	return &targeted, nil
}

// refuse turns a decision into a denial that says why it could not be anything else.
func refuse(d decision.Decision, reason decision.Reason, why string) decision.Decision {
	d.Action, d.Reason, d.RetryAfter, d.Warnings = decision.Deny, reason, 0, nil
	d.Message = fmt.Sprintf("%s (decision %s)", why, d.ID)
	return d
}
