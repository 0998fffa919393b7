package engine

import (
	"context"
	"time"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// LoadGrants puts the approvals of what agents asked for ahead into force.
func (e *Engine) LoadGrants(g *access.Grants) { e.grants.Store(g) }

// granted returns an approval of what an agent asked for ahead that covers a request and asked
// the people of all the rules that hold it; nil where there is none. The index can be a moment
// old, so that storage has the last word.
func (e *Engine) granted(
	ctx context.Context, in Input, r *decision.Request, agents []string, rules []v1alpha1.HoldingRule,
) *v1alpha1.AccessRequest {
	index := e.grants.Load()
	if index == nil || in.Confirm == nil {
		return nil
	}
	for _, grant := range index.For(r.User, r, time.Now()) {
		if !access.Meets(grant, rules) {
			continue
		}
		if ok, err := in.Confirm(ctx, grant, agents); ok && err == nil {
			return grant
		}
	}
	return nil
}
