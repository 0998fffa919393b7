package kube

import (
	"context"
	"fmt"
	"slices"
	"sync"

	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// waiters are the calls that wait for AccessRequests, by their names.
type waiters struct {
	mu sync.Mutex
	by map[string][]chan struct{}
}

func (w *waiters) add(name string) chan struct{} {
	changed := make(chan struct{})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.by[name] = append(w.by[name], changed)
	return changed
}

func (w *waiters) wake(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, changed := range w.by[name] {
		close(changed)
	}
	delete(w.by, name)
}

func (w *waiters) forget(name string, changed chan struct{}) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.by[name] = slices.DeleteFunc(w.by[name], func(c chan struct{}) bool { return c == changed })
	if len(w.by[name]) == 0 {
		delete(w.by, name)
	}
}

// NeedLeaderElection implements controller-runtime's LeaderElectionRunnable: calls wait in
// every replica.
func (l *Ledger) NeedLeaderElection() bool { return false }

// Start watches AccessRequests and wakes those who wait for one, until the context ends.
func (l *Ledger) Start(ctx context.Context) error {
	informer, err := l.Cached.GetInformer(ctx, &v1alpha1.AccessRequest{})
	if err != nil {
		return fmt.Errorf("watch AccessRequests: %w", err)
	}
	wake := func(object any) {
		if deleted, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
			object = deleted.Obj
		}
		if r, ok := object.(*v1alpha1.AccessRequest); ok {
			l.waiters.wake(r.Name)
		}
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		UpdateFunc: func(_, changed any) { wake(changed) },
		DeleteFunc: wake,
	})
	if err != nil {
		return fmt.Errorf("watch AccessRequests: %w", err)
	}
	<-ctx.Done()
	return informer.RemoveEventHandler(registration)
}

// Await returns when the AccessRequest has left the phase it was seen in, or the context
// has ended.
func (l *Ledger) Await(ctx context.Context, seen *v1alpha1.AccessRequest) {
	for ctx.Err() == nil {
		changed := l.waiters.add(seen.Name)
		// What changed before the waiter was there is seen here.
		var now v1alpha1.AccessRequest
		err := l.Cached.Get(ctx, client.ObjectKey{Name: seen.Name}, &now)
		if err == nil && now.Status.Phase != seen.Status.Phase && now.Status.Phase != "" {
			l.waiters.forget(seen.Name, changed)
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			l.waiters.forget(seen.Name, changed)
		}
	}
}
