// Package follow watches AccessRequests for a person at a terminal, over lost connections
// and expired watches, for as long as they look.
//
// It keeps nothing on disk and retries only what may pass: what the API server refuses is
// an error at once.
package follow

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// ErrStop ends Requests without an error when a Handler returns it.
var ErrStop = errors.New("seen enough")

// Handler is told of each change: old is nil for a request that is new, next for one that
// is gone. An error ends Requests, which returns it, but for ErrStop.
type Handler func(old, next *v1alpha1.AccessRequest) error

// Config says what is followed.
type Config struct {
	// Client of the API server.
	Client client.WithWatch
	// Options select the requests; a field selector, for instance.
	Options []client.ListOption
	// Snapshot, where it is set, is told of the requests that are there at first; Handler
	// then hears only of changes.
	Snapshot func([]v1alpha1.AccessRequest) error
	// Handler is told of changes.
	Handler Handler
	// Lost, where it is set, is told why the connection broke, before it is made again.
	Lost func(error)
	// Pause before the connection is made again. Zero is a second.
	Pause time.Duration
}

// Requests follows until the context ends, whose error it then returns, or Handler stops it.
// The first list must succeed; after it, errors that may pass are told to Lost and retried.
func Requests(ctx context.Context, c Config) error {
	if c.Pause == 0 {
		c.Pause = time.Second
	}
	f := follower{Config: c, known: map[string]v1alpha1.AccessRequest{}}
	for first := true; ; first = false {
		version, err := f.list(ctx, first)
		if err == nil {
			err = f.watch(ctx, version)
		}
		switch {
		case errors.Is(err, ErrStop):
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil && (first && version == "" || !passing(err)):
			return err
		case err != nil && c.Lost != nil:
			c.Lost(err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(c.Pause):
		}
	}
}

// follower remembers what it has told of, by name; bounded by what the cluster holds.
type follower struct {
	Config
	known map[string]v1alpha1.AccessRequest
}

// handled is an error of a handler: not one to retry.
type handled struct{ error }

func (h handled) Unwrap() error { return h.error }

// passing says whether trying again may help.
func passing(err error) bool {
	var own handled
	if errors.As(err, &own) {
		return false
	}
	return !apierrors.IsForbidden(err) && !apierrors.IsUnauthorized(err) &&
		!apierrors.IsNotFound(err) && !apierrors.IsBadRequest(err)
}

// list tells of what has changed since the last version seen, and returns the version to
// watch from.
func (f *follower) list(ctx context.Context, first bool) (version string, err error) {
	var list v1alpha1.AccessRequestList
	if err := f.Client.List(ctx, &list, f.Options...); err != nil {
		return "", fmt.Errorf("list AccessRequests: %w", err)
	}
	if first && f.Snapshot != nil {
		for i := range list.Items {
			f.known[list.Items[i].Name] = list.Items[i]
		}
		if err := f.Snapshot(list.Items); err != nil {
			return "", handled{err}
		}
		return list.ResourceVersion, nil
	}
	there := make(map[string]bool, len(list.Items))
	for i := range list.Items {
		there[list.Items[i].Name] = true
		if err := f.tell(&list.Items[i]); err != nil {
			return "", err
		}
	}
	for name := range f.known {
		if !there[name] {
			if err := f.gone(name); err != nil {
				return "", err
			}
		}
	}
	return list.ResourceVersion, nil
}

// watch tells of changes until the API server ends the watch, which is no error.
func (f *follower) watch(ctx context.Context, version string) error {
	options := append([]client.ListOption{}, f.Options...)
	options = append(options, &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: version}})
	w, err := f.Client.Watch(ctx, &v1alpha1.AccessRequestList{}, options...)
	if err != nil {
		return fmt.Errorf("watch AccessRequests: %w", err)
	}
	defer w.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case event, ok := <-w.ResultChan():
			if !ok {
				return nil
			}
			if err := f.event(event); err != nil {
				return err
			}
		}
	}
}

func (f *follower) event(event watch.Event) error {
	r, ok := event.Object.(*v1alpha1.AccessRequest)
	switch {
	case event.Type == watch.Error:
		err := apierrors.FromObject(event.Object)
		if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
			// An old version: the next list tells what was missed.
			return nil
		}
		return fmt.Errorf("watch AccessRequests: %w", err)
	case !ok:
		return nil
	case event.Type == watch.Deleted:
		return f.gone(r.Name)
	case event.Type == watch.Added, event.Type == watch.Modified:
		return f.tell(r)
	}
	return nil
}

func (f *follower) tell(next *v1alpha1.AccessRequest) error {
	old, seen := f.known[next.Name]
	switch {
	case seen && old.UID == next.UID && old.ResourceVersion == next.ResourceVersion:
		return nil
	case seen && old.UID != next.UID:
		if err := f.gone(next.Name); err != nil {
			return err
		}
		seen = false
	}
	f.known[next.Name] = *next.DeepCopy()
	if !seen {
		return own(f.Handler(nil, next))
	}
	return own(f.Handler(&old, next))
}

func (f *follower) gone(name string) error {
	old, seen := f.known[name]
	if !seen {
		return nil
	}
	delete(f.known, name)
	return own(f.Handler(&old, nil))
}

func own(err error) error {
	if err == nil {
		return nil
	}
	return handled{err}
}

// One is Config.Options for that request alone. Who made it is selected by, too: agents may
// list what they asked for themselves, and nothing else.
func One(r *v1alpha1.AccessRequest) []client.ListOption {
	return []client.ListOption{client.MatchingFields{"metadata.name": r.Name, "spec.requester": r.Spec.Requester}}
}
