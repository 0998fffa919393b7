package admission

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/engine"
)

// The API server asks about a deletecollection object by object, and one denial leaves those
// before it deleted; it sends neither the selectors nor the whole. So the first call judges
// every object of the resource in the namespace, and the worst verdict is that of all.
const (
	// maxCollection is how many objects one deletecollection may be about.
	maxCollection = 500
	// maxJudged is how many collections are judged at the same time: each reads its objects.
	maxJudged = 2
	// judgedFor is how long a verdict that lets pass answers for the calls of one API
	// request, which the API server ends after a minute.
	judgedFor = time.Minute
	// maxRemembered bounds the API requests that are remembered, which makes 30 MB of UIDs
	// at the most.
	maxRemembered = 1000
)

// verdict is what has been decided about a collection as a whole.
type verdict struct {
	// worst is the decision about the object that is judged most strictly.
	worst decision.Decision
	held  *engine.Held
	items []v1alpha1.Item
}

// collections remembers which API requests were let pass with a whole collection, so that it
// is not judged again for each of its objects.
type collections struct {
	room *semaphore.Weighted
	now  func() time.Time

	mu     sync.Mutex
	passed map[string]passedCollection
}

type passedCollection struct {
	until time.Time
	// held are the UIDs that an approval covers; nil where no object is held.
	held map[types.UID]bool
	// accessRequest is the approval's name.
	accessRequest string
}

func newCollections() *collections {
	return &collections{room: semaphore.NewWeighted(maxJudged), now: time.Now, passed: map[string]passedCollection{}}
}

// collection judges a call about one object of a deletecollection; d and held are what the
// rules say about that object alone.
func (g *guardJudge) collection(ctx context.Context, r *Review, d decision.Decision, held *engine.Held) decision.Decision {
	uid := uidOf(r.Request.OldObject)
	if before, ok := g.collections.known(r); ok {
		if held == nil {
			return d
		}
		if before.held[uid] {
			d.Action, d.Reason, d.Message, d.AccessRequest = decision.Allow, decision.ReasonApproved, "", before.accessRequest
			return d
		}
	}
	if g.Objects == nil {
		return refuse(d, decision.ReasonNotHoldable, "collections cannot be judged here; delete the objects one by one")
	}
	v, err := g.whole(ctx, &r.Request)
	switch {
	case errors.Is(err, errTooMany):
		return refuse(d, decision.ReasonNotHoldable, fmt.Sprintf(
			"a deletecollection is judged by all objects of its kind in the namespace, and there are more than %d; delete them one by one", maxCollection))
	case err != nil:
		return refuse(d, decision.ReasonInternal, "the collection could not be read")
	}
	worst := v.worst
	worst.Warnings = d.Warnings
	switch {
	case worst.Action == decision.Deny:
		return worst
	case v.held == nil:
		g.collections.pass(r, passedCollection{})
		return d
	case g.Hold == nil:
		return worst
	case r.TraceID == "":
		return refuse(worst, decision.ReasonNotHoldable,
			"it would need approval, and without the API server's tracing configuration a collection cannot wait for that; delete the objects one by one")
	case !contains(v.items, uid):
		// It has been created since, or deleted: the next call sees it.
		return refuse(d, decision.ReasonNotHoldable, "the collection has changed while it was judged; try again")
	}
	out := g.Hold(ctx, r, worst, v.held, v.items)
	if out.Action == decision.Allow {
		pass := passedCollection{held: map[types.UID]bool{}, accessRequest: out.AccessRequest}
		for i := range v.items {
			pass.held[v.items[i].UID] = true
		}
		g.collections.pass(r, pass)
	}
	return out
}

var errTooMany = errors.New("too many objects")

// whole judges every object of the collection.
func (g *guardJudge) whole(ctx context.Context, r *decision.Request) (*verdict, error) {
	if err := g.collections.room.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer g.collections.room.Release(1)
	v := &verdict{worst: decision.Decision{Action: decision.Allow}}
	more, err := g.Objects.Collection(ctx, r, maxCollection, func(object map[string]any) error {
		one := *r
		one.OldObject, one.Object = object, nil
		meta, _ := object["metadata"].(map[string]any)
		one.Name, _ = meta["name"].(string)
		if one.Group == "" && one.Resource == "namespaces" {
			one.Namespace = one.Name
		}
		v.items = append(v.items, v1alpha1.Item{Name: one.Name, UID: uidOf(object)})
		d, held := g.decide(ctx, &one)
		if len(v.items) == 1 || d.Action < v.worst.Action {
			v.worst = d
		}
		v.held = v.held.With(held)
		return nil
	})
	if err != nil {
		return nil, err
	}
	if more {
		return nil, errTooMany
	}
	return v, nil
}

// key is what the calls of one API request have in common. Without a trace ID nothing is.
func (c *collections) key(r *Review) (string, bool) {
	q := &r.Request
	namespace := q.Namespace
	if q.Group == "" && q.Resource == "namespaces" {
		namespace = ""
	}
	return fmt.Sprintf("%q", []string{r.TraceID, q.User.Name, q.User.UID, q.Group, q.Version, q.Resource, namespace}), r.TraceID != ""
}

func (c *collections) known(r *Review) (passedCollection, bool) {
	key, ok := c.key(r)
	if !ok {
		return passedCollection{}, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p, ok := c.passed[key]
	return p, ok && c.now().Before(p.until)
}

func (c *collections) pass(r *Review, p passedCollection) {
	key, ok := c.key(r)
	if !ok {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p.until = c.now().Add(judgedFor)
	if len(c.passed) >= maxRemembered {
		for k, old := range c.passed {
			if c.now().After(old.until) {
				delete(c.passed, k)
			}
		}
	}
	if len(c.passed) < maxRemembered {
		c.passed[key] = p
	}
}

func uidOf(object map[string]any) types.UID {
	meta, _ := object["metadata"].(map[string]any)
	uid, _ := meta["uid"].(string)
	return types.UID(uid)
}

func contains(items []v1alpha1.Item, uid types.UID) bool {
	for i := range items {
		if items[i].UID == uid {
			return true
		}
	}
	return false
}
