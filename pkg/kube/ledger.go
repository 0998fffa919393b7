package kube

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// keyLabel marks the AccessRequests of one identity and change.
const keyLabel = "holdfast.dev/key"

// MaxPending is how many requests of one agent may wait for people at the same time.
const MaxPending = 20

// Ledger keeps AccessRequests as objects of the API server, which every replica shares.
type Ledger struct {
	// cached answers from the watch, live from the API server's storage.
	cached cache.Cache
	live   client.Reader
	client client.Client
	now    func() time.Time

	mu       sync.Mutex
	watchers map[string][]chan struct{}
}

// NewLedger returns a ledger; Start lets Await wake up.
func NewLedger(cached cache.Cache, live client.Reader, c client.Client) *Ledger {
	return &Ledger{cached: cached, live: live, client: c, now: time.Now, watchers: map[string][]chan struct{}{}}
}

// NeedLeaderElection implements controller-runtime's LeaderElectionRunnable.
func (l *Ledger) NeedLeaderElection() bool { return false }

// Start watches AccessRequests and wakes those who wait for one, until the context ends.
func (l *Ledger) Start(ctx context.Context) error {
	informer, err := l.cached.GetInformer(ctx, &v1alpha1.AccessRequest{})
	if err != nil {
		return fmt.Errorf("watch AccessRequests: %w", err)
	}
	registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		UpdateFunc: func(_, changed any) { l.wake(changed) },
		DeleteFunc: l.wake,
	})
	if err != nil {
		return fmt.Errorf("watch AccessRequests: %w", err)
	}
	<-ctx.Done()
	return informer.RemoveEventHandler(registration)
}

func (l *Ledger) wake(object any) {
	if deleted, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = deleted.Obj
	}
	r, ok := object.(*v1alpha1.AccessRequest)
	if !ok {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range l.watchers[r.Name] {
		close(w)
	}
	delete(l.watchers, r.Name)
}

// Await returns when the AccessRequest has left the phase it was seen in, or the context
// has ended.
func (l *Ledger) Await(ctx context.Context, seen *v1alpha1.AccessRequest) {
	for ctx.Err() == nil {
		changed := make(chan struct{})
		l.mu.Lock()
		l.watchers[seen.Name] = append(l.watchers[seen.Name], changed)
		l.mu.Unlock()
		// What changed before the watcher was there is seen here.
		var now v1alpha1.AccessRequest
		err := l.cached.Get(ctx, client.ObjectKey{Name: seen.Name}, &now)
		if err == nil && now.Status.Phase != seen.Status.Phase && now.Status.Phase != "" {
			l.forget(seen.Name, changed)
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			l.forget(seen.Name, changed)
		}
	}
}

func (l *Ledger) forget(name string, changed chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, w := range l.watchers[name] {
		if w == changed {
			l.watchers[name] = append(l.watchers[name][:i], l.watchers[name][i+1:]...)
			break
		}
	}
	if len(l.watchers[name]) == 0 {
		delete(l.watchers, name)
	}
}

// Claim returns the one live AccessRequest for the draft's key, or opens one: pending,
// approved, denied and not yet over, or redeemed by the draft's own API request. It reads
// storage, not the cache: an approval that was used a moment ago must not be seen again.
func (l *Ledger) Claim(ctx context.Context, d *access.Draft) (*v1alpha1.AccessRequest, error) {
	const attempts = 5
	for range attempts {
		var list v1alpha1.AccessRequestList
		if err := l.live.List(ctx, &list, client.MatchingLabels{keyLabel: d.Key}); err != nil {
			return nil, fmt.Errorf("list AccessRequests: %w", err)
		}
		last := 0
		for i := range list.Items {
			r := &list.Items[i]
			last = max(last, number(r.Name))
			live, err := l.settle(ctx, d, r)
			if err != nil {
				return nil, err
			}
			if live != nil {
				return live, nil
			}
		}
		r, err := l.open(ctx, d, last+1)
		if apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) {
			continue
		}
		return r, err
	}
	return nil, access.ErrConflict
}

// settle returns the AccessRequest if it is live for the draft, after giving it its first
// status, or ending it, where that is due.
func (l *Ledger) settle(ctx context.Context, d *access.Draft, r *v1alpha1.AccessRequest) (*v1alpha1.AccessRequest, error) {
	now := l.now()
	switch r.Status.Phase {
	case "":
		return l.begin(ctx, d, r)
	case v1alpha1.Pending, v1alpha1.Approved:
		if over := access.Over(r, now); over != "" {
			return nil, ignoreConflict(l.update(ctx, r, access.End(r.Status, over, now)))
		}
		return r, nil
	case v1alpha1.Denied:
		if r.Status.ExpiresAt != nil && now.Before(r.Status.ExpiresAt.Time) {
			return r, nil
		}
	case v1alpha1.Redeemed:
		if d.TraceID != "" && r.Status.Redeemed != nil && r.Status.Redeemed.TraceID == d.TraceID {
			return r, nil
		}
	}
	return nil, nil //nolint:nilnil // over
}

func ignoreConflict(err error) error {
	if errors.Is(err, access.ErrConflict) {
		return nil
	}
	return err
}

// open creates the n-th AccessRequest for a key. The name is the lock: of two who try, one
// gets AlreadyExists.
func (l *Ledger) open(ctx context.Context, d *access.Draft, n int) (*v1alpha1.AccessRequest, error) {
	waiting, err := l.pending(ctx, d.Spec.Agent)
	if err != nil {
		return nil, err
	}
	if waiting >= MaxPending {
		return nil, access.ErrTooManyPending
	}
	r := &v1alpha1.AccessRequest{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", d.Key, n), Labels: map[string]string{keyLabel: d.Key}},
		Spec:       d.Spec,
	}
	if err := l.client.Create(ctx, r); err != nil {
		return nil, fmt.Errorf("open AccessRequest: %w", err)
	}
	return l.begin(ctx, d, r)
}

// begin gives an AccessRequest its first status.
func (l *Ledger) begin(ctx context.Context, d *access.Draft, r *v1alpha1.AccessRequest) (*v1alpha1.AccessRequest, error) {
	err := l.update(ctx, r, v1alpha1.AccessRequestStatus{
		Phase: v1alpha1.Pending, Fingerprint: d.Fingerprint, Change: d.Change(),
		ExpiresAt: &metav1.Time{Time: l.now().Add(d.ExpiresAfter)},
	})
	if errors.Is(err, access.ErrConflict) {
		// Another call of the same request was faster.
		err = l.live.Get(ctx, client.ObjectKeyFromObject(r), r)
	}
	return r, err
}

// pending counts the requests of an agent that wait for people, by the cache.
func (l *Ledger) pending(ctx context.Context, agent string) (int, error) {
	var list v1alpha1.AccessRequestList
	if err := l.cached.List(ctx, &list); err != nil {
		return 0, fmt.Errorf("list AccessRequests: %w", err)
	}
	n := 0
	for i := range list.Items {
		p := list.Items[i].Status.Phase
		if list.Items[i].Spec.Agent == agent && (p == v1alpha1.Pending || p == "") {
			n++
		}
	}
	return n, nil
}

// Redeem moves an approved AccessRequest to Redeemed by one conditional update; access.ErrConflict
// where it was changed since it was read.
func (l *Ledger) Redeem(ctx context.Context, r *v1alpha1.AccessRequest, by v1alpha1.Redemption) error {
	next := *r.Status.DeepCopy()
	next.Phase, next.Redeemed = v1alpha1.Redeemed, &by
	return l.update(ctx, r, next)
}

// update writes a status if nobody has changed the object since it was read, and if the
// move is legal.
func (l *Ledger) update(ctx context.Context, r *v1alpha1.AccessRequest, next v1alpha1.AccessRequestStatus) error {
	if next.Phase != r.Status.Phase {
		if err := access.Move(r.Status.Phase, next.Phase); err != nil {
			return err
		}
	}
	changed := r.DeepCopy()
	changed.Status = next
	if err := l.client.Status().Update(ctx, changed); err != nil {
		if apierrors.IsConflict(err) {
			return access.ErrConflict
		}
		return fmt.Errorf("update AccessRequest %s: %w", r.Name, err)
	}
	*r = *changed
	return nil
}

// number is the n of <key>-<n>.
func number(name string) int {
	n, err := strconv.Atoi(name[strings.LastIndexByte(name, '-')+1:])
	if err != nil {
		return 0
	}
	return n
}
