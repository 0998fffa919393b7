package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// Defaults of KeeperConfig.
const (
	// DefaultSettleAfter is beyond the minute after which the API server ends a request
	// (--request-timeout), and what storage may take after that.
	DefaultSettleAfter = 70 * time.Second
	DefaultRetention   = 7 * 24 * time.Hour

	keeperEvery = time.Second
	// giveUpAfter is how long the keeper tries to find out what became of a request, beyond
	// SettleAfter.
	giveUpAfter = 10 * time.Minute
)

// KeeperConfig is what a Keeper needs. Ledger and Log are required.
type KeeperConfig struct {
	Ledger *Ledger
	Log    *slog.Logger
	// SettleAfter is how long an API request may go on after it was let pass; longer than
	// the API server's --request-timeout. What it changed is looked for only then. 0 is 70 s.
	SettleAfter time.Duration
	// Retention is how long an AccessRequest is kept after its end, with its Reviews. 0 is
	// a week.
	Retention time.Duration
}

// Keeper does what time alone brings about: it ends requests and approvals whose time is up,
// finds out what became of redeemed ones, and removes those that ended long ago. One replica
// does it at a time.
type Keeper struct{ KeeperConfig }

// sightings are when each redemption was seen first, by the decision's ID: settling waits by
// this process's own clock, so that no other clock can shorten the wait.
type sightings map[string]time.Time

// NewKeeper returns a Keeper; its Run is for a Leader.
func NewKeeper(c KeeperConfig) *Keeper {
	if c.SettleAfter <= 0 {
		c.SettleAfter = DefaultSettleAfter
	}
	if c.Retention <= 0 {
		c.Retention = DefaultRetention
	}
	return &Keeper{KeeperConfig: c}
}

// Run works until the context ends.
func (k *Keeper) Run(ctx context.Context) error {
	seen := sightings{}
	tick := time.NewTicker(keeperEvery)
	defer tick.Stop()
	for {
		if err := k.pass(ctx, seen); err != nil && ctx.Err() == nil {
			k.Log.WarnContext(ctx, "access_requests_not_kept", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// settling is how many redemptions are settled at the same time: to find out about a create
// takes seconds.
const settling = 16

// pass goes through all AccessRequests once.
func (k *Keeper) pass(ctx context.Context, seen sightings) error {
	var list v1alpha1.AccessRequestList
	// What is listed is only looked at; what is changed is copied.
	if err := k.Ledger.Cached.List(ctx, &list, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list AccessRequests: %w", err)
	}
	var errs []error
	redeemed := map[string]bool{}
	var settlements errgroup.Group
	settlements.SetLimit(settling)
	for i := range list.Items {
		r := &list.Items[i]
		if by := r.Status.Redeemed; r.Status.Phase == v1alpha1.Redeemed && by != nil {
			redeemed[by.DecisionID] = true
			if seen[by.DecisionID].IsZero() {
				seen[by.DecisionID] = time.Now()
			}
			if age := time.Since(seen[by.DecisionID]); age >= k.SettleAfter {
				r := r.DeepCopy()
				settlements.Go(func() error { return k.settle(ctx, r, age) })
			}
			continue
		}
		errs = append(errs, k.age(ctx, r))
	}
	maps.DeleteFunc(seen, func(id string, _ time.Time) bool { return !redeemed[id] })
	return errors.Join(append(errs, settlements.Wait())...)
}

// age ends what is over, and removes what ended long ago.
func (k *Keeper) age(ctx context.Context, r *v1alpha1.AccessRequest) error {
	now := k.Ledger.Now()
	if over := access.Over(r, now); over != "" {
		r := r.DeepCopy()
		err := k.Ledger.update(ctx, r, access.End(r.Status, over, now))
		return client.IgnoreNotFound(ignoreConflict(err))
	}
	ended := r.Status.EndedAt
	if !access.Ended(r.Status.Phase) || ended == nil || now.Before(ended.Add(k.Retention)) {
		return nil
	}
	// A Denied request answers for its change until it expires.
	if until := r.Status.ExpiresAt; until != nil && now.Before(until.Time) {
		return nil
	}
	err := k.Ledger.Client.Delete(ctx, r.DeepCopy(), client.Preconditions{UID: &r.UID})
	return client.IgnoreNotFound(err)
}

// settle finds out what became of the API request that redeemed an approval, once it must be
// over.
func (k *Keeper) settle(ctx context.Context, r *v1alpha1.AccessRequest, age time.Duration) error {
	outcome, why, err := k.outcome(ctx, r)
	if err != nil {
		if age < k.SettleAfter+giveUpAfter {
			return fmt.Errorf("settle AccessRequest %s: %w", r.Name, err)
		}
		outcome, why = access.Unknown, "what became of the request could not be found out"
	}
	return k.Ledger.settle(ctx, r, outcome, why)
}

// settle writes what became of a redeemed request.
func (l *Ledger) settle(ctx context.Context, r *v1alpha1.AccessRequest, o access.Outcome, why string) error {
	err := l.update(ctx, r, access.Settle(r.Status, o, why, l.Now()))
	return client.IgnoreNotFound(ignoreConflict(err))
}

const (
	whyUnchanged = "the request that was let pass changed nothing"
	whyChanged   = "the object has changed since the request was let pass"
	whyOnce      = "requests of this kind are let pass once, whatever comes of them"
)

// outcome looks at what is stored. In doubt it is Unknown, and the approval is spent.
func (k *Keeper) outcome(ctx context.Context, r *v1alpha1.AccessRequest) (access.Outcome, string, error) {
	ref := refOf(r)
	switch verb := r.Spec.Access.Verbs[0]; {
	case verb == "deletecollection":
		return k.collection(ctx, r, ref)
	case verb == "update" || verb == "delete":
		now, err := k.Ledger.Objects.Metadata(ctx, ref)
		switch {
		case err != nil:
			return access.Unknown, "", err
		case now != nil && r.Status.TargetUID != "" && now.UID == r.Status.TargetUID &&
			r.Status.Redeemed.ResourceVersion != "" && now.ResourceVersion == r.Status.Redeemed.ResourceVersion:
			return access.NoEffect, whyUnchanged, nil
		default:
			return access.Unknown, whyChanged, nil
		}
	case verb == "create" && !isSubresource(r):
		return k.creation(ctx, r, ref)
	default:
		return access.Unknown, whyOnce, nil
	}
}

func isSubresource(r *v1alpha1.AccessRequest) bool {
	return refOf(r).Resource != r.Spec.Access.Resources[0]
}

func (k *Keeper) creation(ctx context.Context, r *v1alpha1.AccessRequest, ref Ref) (access.Outcome, string, error) {
	created, err := k.Ledger.Objects.Appeared(ctx, ref, r.Status.GenerateName, r.Status.Redeemed.ResourceVersion)
	switch {
	case errors.Is(err, errHistory):
		return access.Unknown, "whether the request that was let pass created anything is no longer known", nil
	case err != nil:
		return access.Unknown, "", err
	case created:
		return access.Effect, "the object has been created", nil
	default:
		return access.NoEffect, whyUnchanged, nil
	}
}

// collection: nothing happened where every object is still there, and none is being deleted.
func (k *Keeper) collection(ctx context.Context, r *v1alpha1.AccessRequest, ref Ref) (access.Outcome, string, error) {
	there, err := k.Ledger.Objects.alive(ctx, ref)
	if err != nil {
		return access.Unknown, "", err
	}
	for i := range r.Status.Items {
		if !there[r.Status.Items[i].UID] {
			return access.Effect, "objects of the collection have been deleted since", nil
		}
	}
	return access.NoEffect, whyUnchanged, nil
}

// alive are the UIDs of the objects of a collection that are not being deleted.
func (o *Objects) alive(ctx context.Context, r Ref) (map[types.UID]bool, error) {
	there := map[types.UID]bool{}
	err := o.eachMetadata(ctx, r, func(uid types.UID, deleting bool) { there[uid] = !deleting })
	return there, err
}

// Settle takes what the audit stream says of the API request in which a decision let an
// AccessRequest pass: its HTTP status. It only speeds up what the Keeper finds out by
// itself; what proves nothing changes nothing.
func (l *Ledger) Settle(ctx context.Context, accessRequest, decisionID string, status int) error {
	var r v1alpha1.AccessRequest
	if err := l.Live.Get(ctx, client.ObjectKey{Name: accessRequest}, &r); err != nil {
		return client.IgnoreNotFound(err)
	}
	if r.Status.Phase != v1alpha1.Redeemed || r.Status.Redeemed == nil || r.Status.Redeemed.DecisionID != decisionID {
		return nil
	}
	outcome := access.OutcomeOf(&r.Spec.Access, status)
	if outcome == access.Unknown {
		return nil
	}
	why := fmt.Sprintf("the audit event of decision %s says %d", decisionID, status)
	return l.settle(ctx, &r, outcome, why)
}
