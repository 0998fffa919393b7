package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// GrantsConfig is what Grants need; all of it is required.
type GrantsConfig struct {
	// Cache watches AccessRequests, and Live reads storage.
	Cache cache.Cache
	Live  client.Reader
	// Load puts an index into force.
	Load func(*access.Grants)
	Log  *slog.Logger
}

// Grants keeps an index of the approvals of what agents asked for ahead equal to the cluster's
// AccessRequests, and asks storage whether one of them still stands.
type Grants struct {
	GrantsConfig
	dirty chan struct{}
}

// NewGrants returns an index; Start keeps it.
func NewGrants(c GrantsConfig) *Grants {
	return &Grants{GrantsConfig: c, dirty: make(chan struct{}, 1)}
}

// NeedLeaderElection implements controller-runtime's LeaderElectionRunnable: every replica
// decides, so every replica has the index.
func (g *Grants) NeedLeaderElection() bool { return false }

// Start keeps the index until the context ends.
func (g *Grants) Start(ctx context.Context) error {
	informer, err := g.Cache.GetInformer(ctx, &v1alpha1.AccessRequest{})
	if err == nil {
		_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc: g.mark, UpdateFunc: func(_, changed any) { g.mark(changed) }, DeleteFunc: g.mark,
		})
	}
	if err != nil {
		return fmt.Errorf("watch AccessRequests: %w", err)
	}
	if !g.Cache.WaitForCacheSync(ctx) {
		return errors.New("the caches did not sync")
	}
	for {
		if err := g.load(ctx); err != nil {
			g.Log.ErrorContext(ctx, "load_grants_failed", "error", err)
			g.mark(nil)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-g.dirty:
		}
		select { // many changes at once are few indexes
		case <-ctx.Done():
			return nil
		case <-time.After(settle):
		}
	}
}

// mark has the index made anew, unless what changed is an AccessRequest that is no grant.
func (g *Grants) mark(changed any) {
	if r, ok := changed.(*v1alpha1.AccessRequest); ok && r.Spec.Origin != v1alpha1.Asked {
		return
	}
	select {
	case g.dirty <- struct{}{}:
	default:
	}
}

func (g *Grants) load(ctx context.Context) error {
	var list v1alpha1.AccessRequestList
	if err := g.Cache.List(ctx, &list, client.MatchingFields{phaseField: string(v1alpha1.Approved)}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list AccessRequests: %w", err)
	}
	var asked []*v1alpha1.AccessRequest
	for i := range list.Items {
		if list.Items[i].Spec.Origin == v1alpha1.Asked {
			asked = append(asked, &list.Items[i])
		}
	}
	g.Load(access.NewGrants(asked))
	return nil
}

// Confirm says whether a grant stands in storage now, and every one of the Agents exists there
// and is not suspended.
func (g *Grants) Confirm(ctx context.Context, grant *v1alpha1.AccessRequest, agents []string) (bool, error) {
	var stored v1alpha1.AccessRequest
	if err := g.Live.Get(ctx, client.ObjectKeyFromObject(grant), &stored); err != nil {
		return false, ignoreNotFound(err)
	}
	if stored.UID != grant.UID || stored.Status.Phase != v1alpha1.Approved || access.Over(&stored, time.Now()) != "" {
		return false, nil
	}
	for _, name := range agents {
		var a v1alpha1.Agent
		if err := g.Live.Get(ctx, client.ObjectKey{Name: name}, &a); err != nil {
			return false, ignoreNotFound(err)
		}
		if a.Spec.Suspended {
			return false, nil
		}
	}
	return true, nil
}

// Requester is who asked for the AccessRequest of that name; empty where there is none. Where
// the cache does not know it, it may have been made a moment ago.
func (g *Grants) Requester(ctx context.Context, name string) string {
	var r v1alpha1.AccessRequest
	err := g.Cache.Get(ctx, client.ObjectKey{Name: name}, &r)
	if apierrors.IsNotFound(err) {
		err = g.Live.Get(ctx, client.ObjectKey{Name: name}, &r)
	}
	if err != nil {
		return ""
	}
	return r.Spec.Requester
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("confirm a grant: %w", err)
}
