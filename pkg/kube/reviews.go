package kube

import (
	"context"
	"errors"
	"fmt"
	"strings"
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

// Fields by which the cache finds objects; the API server selects AccessRequests by the same
// name.
const (
	phaseField   = "status.phase"
	keyField     = "metadata.labels." + keyLabel
	requestField = "spec.accessRequest"
)

// voidedAnnotation says on a Review why it does not count although it was well when it was
// made. Nobody but Holdfast can write it after that.
const voidedAnnotation = "holdfast.dev/voided"

// Reviews moves AccessRequests on when people have reviewed them. Every replica does it, so
// that none of the calls that wait has to wait for a leader; replicas that do it at the same
// time get in each other's way without harm: every move is a conditional update.
type Reviews struct {
	ledger *Ledger
	// facts about people, for a request.
	facts func(r *v1alpha1.AccessRequest) access.Facts
}

// NewReviews returns the controller; facts says who is an agent, and who owns the agents of a
// request.
func NewReviews(l *Ledger, facts func(r *v1alpha1.AccessRequest) access.Facts) *Reviews {
	return &Reviews{ledger: l, facts: facts}
}

// Index lets a cache find AccessRequests and Reviews as a Ledger asks for them. It has to be
// called before the cache starts.
func Index(ctx context.Context, indexer client.FieldIndexer) error {
	err := errors.Join(
		indexer.IndexField(ctx, &v1alpha1.AccessRequest{}, phaseField, func(o client.Object) []string {
			r, ok := o.(*v1alpha1.AccessRequest)
			if !ok {
				return nil
			}
			return []string{string(r.Status.Phase)}
		}),
		indexer.IndexField(ctx, &v1alpha1.AccessRequest{}, keyField, func(o client.Object) []string {
			return []string{o.GetLabels()[keyLabel]}
		}),
		indexer.IndexField(ctx, &v1alpha1.Review{}, requestField, func(o client.Object) []string {
			v, ok := o.(*v1alpha1.Review)
			if !ok {
				return nil
			}
			return []string{v.Spec.AccessRequest}
		}),
	)
	if err != nil {
		return fmt.Errorf("index AccessRequests and Reviews: %w", err)
	}
	return nil
}

// SetupWithManager registers the controller. The manager's cache has to have been given to
// Index.
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
		WithOptions(controller.Options{NeedLeaderElection: &off, MaxConcurrentReconciles: 4}).
		Complete(c)
}

// Reconcile implements reconcile.Reconciler.
func (c *Reviews) Reconcile(ctx context.Context, q reconcile.Request) (reconcile.Result, error) {
	var r v1alpha1.AccessRequest
	if err := c.ledger.Cached.Get(ctx, q.NamespacedName, &r); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	c.ledger.places.give(r.Name) // it is stored, and counted there
	if r.Status.Phase == "" {
		return c.begin(ctx, &r)
	}
	var reviews v1alpha1.ReviewList
	if err := c.ledger.Cached.List(ctx, &reviews, client.MatchingFields{requestField: r.Name}); err != nil {
		return reconcile.Result{}, fmt.Errorf("list Reviews: %w", err)
	}
	facts := c.facts(&r)
	if facts.IsAgent == nil {
		return reconcile.Result{RequeueAfter: time.Second}, nil
	}
	facts.Voided = voidedOf(reviews.Items)
	next := access.Next(&r, reviews.Items, facts, c.ledger.Now())
	if equality.Semantic.DeepEqual(r.Status, next) {
		return reconcile.Result{}, nil
	}
	err := c.ledger.update(ctx, &r, next)
	if errors.Is(err, access.ErrConflict) {
		return reconcile.Result{RequeueAfter: 50 * time.Millisecond}, nil
	}
	return reconcile.Result{}, client.IgnoreNotFound(err)
}

// begin gives what was asked ahead its first status. What was held gets it from who opened it.
func (c *Reviews) begin(ctx context.Context, r *v1alpha1.AccessRequest) (reconcile.Result, error) {
	if r.Spec.Origin != v1alpha1.Asked {
		return reconcile.Result{}, nil
	}
	err := c.ledger.update(ctx, r, access.Begin(r))
	if err == nil {
		c.ledger.Metrics.opens()
	}
	return reconcile.Result{}, client.IgnoreNotFound(ignoreConflict(err))
}

func voidedOf(reviews []v1alpha1.Review) map[string]string {
	voided := map[string]string{}
	for i := range reviews {
		if why := reviews[i].Annotations[voidedAnnotation]; why != "" {
			voided[reviews[i].Name] = access.VoidedPrefix + strings.TrimPrefix(why, access.VoidedPrefix)
		}
	}
	return voided
}

// Void marks a Review as one that does not count, and why; what rests on it follows. A Review
// that is gone, or marked already, is left as it is.
func (l *Ledger) Void(ctx context.Context, review, why string) error {
	var v v1alpha1.Review
	if err := l.Live.Get(ctx, client.ObjectKey{Name: review}, &v); err != nil {
		return client.IgnoreNotFound(err)
	}
	if v.Annotations[voidedAnnotation] != "" {
		return nil
	}
	marked := v.DeepCopy()
	if marked.Annotations == nil {
		marked.Annotations = map[string]string{}
	}
	marked.Annotations[voidedAnnotation] = why
	if err := l.Client.Patch(ctx, marked, client.MergeFrom(&v)); err != nil {
		return client.IgnoreNotFound(err)
	}
	l.Metrics.void()
	return nil
}
