package follow

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// faulty answers each list and watch with the next of its script: connections that break at
// a given moment are nothing that a real API server does on demand.
type faulty struct {
	client.WithWatch
	lists   []any // []v1alpha1.AccessRequest or error
	watches []any // []watch.Event, then closed; or error
}

func (f *faulty) List(_ context.Context, into client.ObjectList, _ ...client.ListOption) error {
	next := f.lists[0]
	f.lists = f.lists[1:]
	if err, ok := next.(error); ok {
		return err
	}
	list := into.(*v1alpha1.AccessRequestList)
	list.Items, list.ResourceVersion = next.([]v1alpha1.AccessRequest), "7"
	return nil
}

func (f *faulty) Watch(context.Context, client.ObjectList, ...client.ListOption) (watch.Interface, error) {
	next := f.watches[0]
	f.watches = f.watches[1:]
	if err, ok := next.(error); ok {
		return nil, err
	}
	events := make(chan watch.Event, 8)
	for _, e := range next.([]watch.Event) {
		events <- e
	}
	close(events)
	return watch.NewProxyWatcher(events), nil
}

func at(name, uid, version string) v1alpha1.AccessRequest {
	r := v1alpha1.AccessRequest{}
	r.Name, r.UID, r.ResourceVersion = name, types.UID(uid), version
	return r
}

func event(kind watch.EventType, r v1alpha1.AccessRequest) watch.Event {
	return watch.Event{Type: kind, Object: &r}
}

func TestRequestsOverLostConnections(t *testing.T) {
	t.Parallel()
	gone := apierrors.NewResourceExpired("too old").Status()
	f := &faulty{
		lists: []any{
			[]v1alpha1.AccessRequest{at("a", "1", "1"), at("b", "1", "1")},
			errors.New("connection refused"),
			[]v1alpha1.AccessRequest{at("a", "1", "2"), at("b", "2", "5"), at("c", "1", "3")},
			[]v1alpha1.AccessRequest{at("b", "2", "5")},
			[]v1alpha1.AccessRequest{at("b", "2", "9"), at("stop", "1", "1")},
		},
		watches: []any{
			[]watch.Event{event(watch.Modified, at("a", "1", "2")), event(watch.Bookmark, at("", "", "3"))},
			[]watch.Event{event(watch.Deleted, at("c", "1", "4")), event(watch.Deleted, at("never-seen", "1", "4"))},
			[]watch.Event{{Type: watch.Error, Object: &gone}},
		},
	}
	var seen []string
	lost := 0
	err := Requests(t.Context(), Config{
		Client: f, Pause: time.Millisecond, Lost: func(error) { lost++ },
		Snapshot: func(list []v1alpha1.AccessRequest) error {
			seen = append(seen, fmt.Sprintf("first %d", len(list)))
			return nil
		},
		Handler: func(old, next *v1alpha1.AccessRequest) error {
			switch {
			case old == nil && next.Name == "stop":
				return ErrStop
			case old == nil:
				seen = append(seen, "+"+next.Name+next.ResourceVersion)
			case next == nil:
				seen = append(seen, "-"+old.Name+old.ResourceVersion)
			default:
				seen = append(seen, "~"+next.Name+old.ResourceVersion+next.ResourceVersion)
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"first 2", "~a12", "-b1", "+b5", "+c3", "-c3", "-a2", "~b59"}
	if !slices.Equal(seen, want) {
		t.Errorf("got  %q\nwant %q", seen, want)
	}
	if lost != 1 {
		t.Errorf("told of %d lost connections, want 1: a watch that ends in good order is none", lost)
	}
}

func TestRequestsGivesUpOnRefusal(t *testing.T) {
	t.Parallel()
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "accessrequests"}, "", errors.New("no"))
	refused := errors.New("connection refused")
	stop := errors.New("the handler's")
	one := []v1alpha1.AccessRequest{at("a", "1", "1")}
	for name, c := range map[string]struct {
		client  *faulty
		handler error
		want    error
	}{
		"first list unreachable":  {&faulty{lists: []any{refused}}, nil, refused},
		"first list forbidden":    {&faulty{lists: []any{forbidden}}, nil, forbidden},
		"watch forbidden":         {&faulty{lists: []any{one}, watches: []any{forbidden}}, nil, forbidden},
		"later list forbidden":    {&faulty{lists: []any{one, forbidden}, watches: []any{[]watch.Event{}}}, nil, forbidden},
		"handler fails in list":   {&faulty{lists: []any{one}}, stop, stop},
		"handler fails on change": {&faulty{lists: []any{[]v1alpha1.AccessRequest{}}, watches: []any{[]watch.Event{event(watch.Added, at("a", "1", "1"))}}}, stop, stop},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := Requests(t.Context(), Config{
				Client: c.client, Pause: time.Millisecond,
				Handler: func(_, _ *v1alpha1.AccessRequest) error { return c.handler },
			})
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
}

func TestRequestsEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	f := &faulty{lists: []any{[]v1alpha1.AccessRequest{}, errors.New("refused")}, watches: []any{[]watch.Event{}}}
	err := Requests(ctx, Config{Client: f, Pause: time.Millisecond, Lost: func(error) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
