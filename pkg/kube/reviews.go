package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/api/equality"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// settleAfter is how long after its redemption an approval counts as used: by then the API
// server has asked again whatever it asks again within one request.
const settleAfter = time.Minute

// Reviews moves AccessRequests on: when people have reviewed them, when their time is up,
// and when an approval has been redeemed for long enough to be used. Replicas that do it at
// the same time get in each other's way without harm: every move is a conditional update.
type Reviews struct {
	ledger *Ledger
	// facts about people, for the owner of an agent.
	facts func(agent string) access.Facts
}

// NewReviews returns the controller; facts says who is an agent, and who owns the agent of
// that name.
func NewReviews(l *Ledger, facts func(agent string) access.Facts) *Reviews {
	return &Reviews{ledger: l, facts: facts}
}

// SetupWithManager registers the controller.
func (c *Reviews) SetupWithManager(mgr ctrl.Manager) error {
	off := false
	return ctrl.NewControllerManagedBy(mgr).
		Named("reviews").
		For(&v1alpha1.AccessRequest{}).
		Watches(&v1alpha1.Review{}, handler.EnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
			review, ok := o.(*v1alpha1.Review)
			if !ok {
				return nil
			}
			return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: review.Spec.AccessRequest}}}
		})).
		WithOptions(controller.Options{NeedLeaderElection: &off}).
		Complete(c)
}

// Reconcile implements reconcile.Reconciler.
func (c *Reviews) Reconcile(ctx context.Context, q reconcile.Request) (reconcile.Result, error) {
	var r v1alpha1.AccessRequest
	if err := c.ledger.cached.Get(ctx, q.NamespacedName, &r); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	var reviews v1alpha1.ReviewList
	if err := c.ledger.cached.List(ctx, &reviews); err != nil {
		return reconcile.Result{}, fmt.Errorf("list Reviews: %w", err)
	}
	now := c.ledger.now()
	facts := c.facts(r.Spec.Agent)
	if facts.IsAgent == nil {
		return reconcile.Result{RequeueAfter: time.Second}, nil
	}
	next := access.Next(&r, reviews.Items, facts, now)
	if r.Status.Phase == v1alpha1.Redeemed && r.Status.Redeemed != nil && !now.Before(r.Status.Redeemed.Time.Add(settleAfter)) {
		next = access.End(next, v1alpha1.Used, now)
	}
	if !equality.Semantic.DeepEqual(r.Status, next) {
		err := c.ledger.update(ctx, &r, next)
		if errors.Is(err, access.ErrConflict) {
			return reconcile.Result{RequeueAfter: 50 * time.Millisecond}, nil
		}
		if err != nil {
			return reconcile.Result{}, client.IgnoreNotFound(err)
		}
	}
	return reconcile.Result{RequeueAfter: due(&r, now)}, nil
}

// due is when time alone will move the request on; 0 for never.
func due(r *v1alpha1.AccessRequest, now time.Time) time.Duration {
	switch r.Status.Phase {
	case v1alpha1.Pending, v1alpha1.Approved:
		if r.Status.ExpiresAt != nil {
			return max(r.Status.ExpiresAt.Sub(now), time.Millisecond)
		}
	case v1alpha1.Redeemed:
		if r.Status.Redeemed != nil {
			return max(r.Status.Redeemed.Time.Add(settleAfter).Sub(now), time.Millisecond)
		}
	}
	return 0
}
