package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/holdfast-dev/holdfast/pkg/access/notice"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// markAttempts bounds how often a mark is tried against others who write the status. All of
// them together write a few times in an AccessRequest's life.
const markAttempts = 5

// Receiver is told what has happened to AccessRequests.
type Receiver interface {
	// Tell returns nil only once the receiver has the notice: it MUST NOT be lost after
	// that. It may be called again with the same notice. An error with a method
	// RetryAfter() time.Duration that is above 0 says when to try again.
	Tell(ctx context.Context, r *v1alpha1.AccessRequest, n notice.Notice) error
}

// NotifierConfig has no optional fields.
type NotifierConfig struct {
	// Cache watches the cluster.
	Cache cache.Cache
	// Client reads from the API server's storage, and writes status.notified.
	Client   client.Client
	Receiver Receiver
	Log      *slog.Logger
}

// Notifier tells a receiver of every AccessRequest what package notice says is due, at least
// once, and writes into status.notified what was taken. What is taken but not written down,
// because of a crash, is told again with the same ID.
//
// Decisions do not wait for it. It writes one field with a patch of its own, after the
// receiver has answered; somebody who moves the AccessRequest at that moment sees one
// conflict more.
type Notifier struct{ NotifierConfig }

// NewNotifier returns the controller.
func NewNotifier(c NotifierConfig) *Notifier { return &Notifier{c} }

// Run tells until the context ends; it is for a Leader, and can be run again. Two replicas
// that tell the same do no harm, but receivers would have to drop every second notice.
func (n *Notifier) Run(ctx context.Context) error {
	return follow(ctx, follower{name: "notifier", cache: n.Cache, reconciler: n, log: n.Log, news: func(_, is *v1alpha1.AccessRequest) bool {
		return len(notice.Due(is)) > 0
	}})
}

// Reconcile implements reconcile.Reconciler.
func (n *Notifier) Reconcile(ctx context.Context, q reconcile.Request) (reconcile.Result, error) {
	var r v1alpha1.AccessRequest
	if err := n.Cache.Get(ctx, q.NamespacedName, &r); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if len(notice.Due(&r)) == 0 {
		return reconcile.Result{}, nil
	}
	// The watch may not have seen yet what was written down after the last notice.
	if err := n.Client.Get(ctx, q.NamespacedName, &r); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	err := n.tell(ctx, &r)
	var later interface{ RetryAfter() time.Duration }
	if errors.As(err, &later) && later.RetryAfter() > 0 {
		n.Log.WarnContext(ctx, "notice_put_off", "access_request", r.Name, "retry_after", later.RetryAfter(), "error", err)
		return reconcile.Result{RequeueAfter: later.RetryAfter()}, nil
	}
	return reconcile.Result{}, err
}

// tell tells all that is due, and writes down what was taken, even if something else was not.
func (n *Notifier) tell(ctx context.Context, r *v1alpha1.AccessRequest) error {
	var taken []notice.Notice
	var errs []error
	for _, due := range notice.Due(r) {
		if err := n.Receiver.Tell(ctx, r, due); err != nil {
			errs = append(errs, fmt.Errorf("tell that AccessRequest %s is %s: %w", r.Name, due.Occasion, err))
			continue
		}
		taken = append(taken, due)
		n.Log.InfoContext(ctx, "notice_taken", "access_request", r.Name, "occasion", due.Occasion, "id", due.ID)
	}
	if err := n.mark(ctx, r, notice.Mark(r, taken)); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// mark writes status.notified, and nothing else, unless another replica has written it since
// r was read: that one's mark stands, and what it does not cover is told once more. A status
// that has changed otherwise is no hindrance: the mark says what was told, not what is.
func (n *Notifier) mark(ctx context.Context, r *v1alpha1.AccessRequest, told string) error {
	was := r.Status.Notified
	if told == was {
		return nil
	}
	now := r.DeepCopy()
	for range markAttempts {
		patch, err := json.Marshal(map[string]any{
			"metadata": map[string]any{"uid": now.UID, "resourceVersion": now.ResourceVersion},
			"status":   map[string]any{"notified": told},
		})
		if err != nil {
			return fmt.Errorf("encode the mark of AccessRequest %s: %w", r.Name, err)
		}
		err = n.Client.Status().Patch(ctx, now.DeepCopy(), client.RawPatch(types.MergePatchType, patch))
		if !apierrors.IsConflict(err) {
			if client.IgnoreNotFound(err) != nil {
				return fmt.Errorf("mark AccessRequest %s as told: %w", r.Name, err)
			}
			return nil
		}
		if err := n.Client.Get(ctx, client.ObjectKeyFromObject(r), now); err != nil {
			if apierrors.IsNotFound(err) {
				return nil
			}
			return fmt.Errorf("read AccessRequest %s again: %w", r.Name, err)
		}
		if now.UID != r.UID || now.Status.Notified != was {
			return nil
		}
	}
	return fmt.Errorf("mark AccessRequest %s as told: it kept changing", r.Name)
}
