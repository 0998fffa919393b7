package kube

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/go-logr/logr"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

const (
	// followers is how many AccessRequests a follower is busy with at the same time. What is
	// slow, such as a receiver that hangs, holds no more than these.
	followers = 4
	// firstRetry and lastRetry are the waits after a failure: doubled each time, for as long
	// as the AccessRequest is there. After an outage of any length the last one is tried
	// again within five minutes.
	firstRetry = time.Second
	lastRetry  = 5 * time.Minute
)

// follower is a controller of AccessRequests that a Leader can run again and again, which
// those that a manager runs cannot be.
type follower struct {
	name       string
	cache      cache.Cache
	reconciler reconcile.Reconciler
	log        *slog.Logger
	// news says whether a change is worth a look.
	news func(was, is *v1alpha1.AccessRequest) bool
}

// follow reconciles every AccessRequest there is, and then each that changes, until the
// context ends.
func follow(ctx context.Context, f follower) error {
	again := true
	c, err := controller.NewUnmanaged(f.name, controller.Options{
		Reconciler: f.reconciler, MaxConcurrentReconciles: followers, SkipNameValidation: &again,
		Logger:      logr.FromSlogHandler(f.log.Handler()),
		RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](firstRetry, lastRetry),
	})
	if err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	if err := c.Watch(source.Func(f.watch)); err != nil {
		return fmt.Errorf("%s: %w", f.name, err)
	}
	return c.Start(ctx)
}

// watch fills the queue, and leaves nothing behind when the context ends.
func (f *follower) watch(ctx context.Context, queue workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	informer, err := f.cache.GetInformer(ctx, &v1alpha1.AccessRequest{})
	if err != nil {
		return fmt.Errorf("watch AccessRequests: %w", err)
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(o any) {
			if r, ok := o.(*v1alpha1.AccessRequest); ok {
				queue.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(r)})
			}
		},
		UpdateFunc: func(before, after any) {
			was, ok := before.(*v1alpha1.AccessRequest)
			is, also := after.(*v1alpha1.AccessRequest)
			if ok && also && f.news(was, is) {
				queue.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(is)})
			}
		},
	})
	if err != nil {
		return fmt.Errorf("watch AccessRequests: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = informer.RemoveEventHandler(registration) }) // the informer is still there, or has ended too
	return nil
}
