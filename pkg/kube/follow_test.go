package kube

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	framework "k8s.io/client-go/tools/cache/testing"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// oneInformer is a cache that watches AccessRequests alone, and counts who listens.
type oneInformer struct {
	cache.Informers
	toolscache.SharedIndexInformer
	listeners *atomic.Int32
}

func (o oneInformer) GetInformer(context.Context, client.Object, ...cache.InformerGetOption) (cache.Informer, error) {
	return o, nil
}

func (o oneInformer) AddEventHandler(h toolscache.ResourceEventHandler) (toolscache.ResourceEventHandlerRegistration, error) {
	o.listeners.Add(1)
	return o.SharedIndexInformer.AddEventHandler(h)
}

func (o oneInformer) RemoveEventHandler(r toolscache.ResourceEventHandlerRegistration) error {
	o.listeners.Add(-1)
	return o.SharedIndexInformer.RemoveEventHandler(r)
}

// TestFollow: each term of a leader sees all there is and what changes, tries again what
// failed, and leaves nothing behind.
func TestFollow(t *testing.T) {
	t.Parallel()
	source := framework.NewFakeControllerSource()
	stored := map[string]*v1alpha1.AccessRequest{}
	modify := func(name string, s v1alpha1.AccessRequestStatus) {
		r := &v1alpha1.AccessRequest{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: s}
		if stored[name] == nil {
			source.Add(r)
		} else {
			source.Modify(r)
		}
		stored[name] = r
	}
	modify("key-1", v1alpha1.AccessRequestStatus{Phase: v1alpha1.Pending})
	modify("key-2", v1alpha1.AccessRequestStatus{Phase: v1alpha1.Pending})
	informer := toolscache.NewSharedIndexInformer(source, &v1alpha1.AccessRequest{}, 0, toolscache.Indexers{})
	go informer.RunWithContext(t.Context())
	watched := oneInformer{SharedIndexInformer: informer, listeners: &atomic.Int32{}}

	calls := make(chan string, 10)
	var failing atomic.Bool
	f := follower{
		name: "test", cache: apiCache{Informers: watched}, log: slog.New(slog.DiscardHandler),
		news: func(was, is *v1alpha1.AccessRequest) bool { return was.Status.Phase != is.Status.Phase },
		reconciler: reconcile.Func(func(_ context.Context, q reconcile.Request) (reconcile.Result, error) {
			calls <- q.Name
			if q.Name == "key-1" && failing.Swap(false) {
				return reconcile.Result{}, errors.New("not now")
			}
			return reconcile.Result{}, nil
		}),
	}
	called := func(what string, want ...string) {
		t.Helper()
		var got []string
		for range want {
			select {
			case name := <-calls:
				got = append(got, name)
			case <-time.After(10 * time.Second):
				t.Fatalf("%s: looked at %q, want %q", what, got, want)
			}
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Fatalf("%s: looked at %q, want %q", what, got, want)
		}
	}
	for term, phase := range []v1alpha1.Phase{v1alpha1.Approved, v1alpha1.Used} {
		ctx, resign := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		failing.Store(term == 0)
		go func() { ended <- follow(ctx, f) }()
		called("what is there already", "key-1", "key-2")
		if term == 0 {
			called("what failed", "key-1")
		}
		modify("key-2", v1alpha1.AccessRequestStatus{Phase: v1alpha1.Pending, Message: string(phase)}) // no news
		modify("key-1", v1alpha1.AccessRequestStatus{Phase: phase})
		called("what changed", "key-1")
		resign()
		if err := <-ended; err != nil {
			t.Fatalf("term %d ended with %v", term, err)
		}
		for start := time.Now(); watched.listeners.Load() != 0; time.Sleep(time.Millisecond) {
			if time.Since(start) > 10*time.Second {
				t.Fatal("still listens after its term")
			}
		}
		if len(calls) > 0 {
			t.Errorf("term %d: looked at no news", term)
		}
	}
}
