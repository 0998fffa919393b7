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
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// keyLabel marks the AccessRequests of one identity and change.
const keyLabel = "holdfast.dev/key"

// Defaults of LedgerConfig.
const (
	DefaultMaxPending      = 500
	DefaultMaxPendingAgent = 20
)

// LedgerConfig is what a Ledger needs. Cached, Live, Client and Objects are required.
type LedgerConfig struct {
	// Cached answers from the watch, Live from the API server's storage.
	Cached cache.Cache
	Live   client.Reader
	Client client.Client
	// Objects looks at the objects that AccessRequests are for.
	Objects *Objects
	// MaxPending is how many requests may wait for people at the same time in all, and
	// MaxPendingAgent how many of one agent; 0 are the defaults, 500 and 20. Replicas that
	// open requests in the same instant may each go one beyond.
	MaxPending, MaxPendingAgent int
	// Metrics counts. Nil counts nothing.
	Metrics *LedgerMetrics
	// Now is the clock. Nil is time.Now.
	Now func() time.Time
}

// Ledger keeps AccessRequests as objects of the API server, which every replica shares.
type Ledger struct {
	LedgerConfig
	waiters waiters
	// opening lets one request after the other be counted and opened.
	opening sync.Mutex
	places  places
}

// NewLedger returns a ledger; Start lets Await wake up.
func NewLedger(c LedgerConfig) *Ledger {
	if c.MaxPending <= 0 {
		c.MaxPending = DefaultMaxPending
	}
	if c.MaxPendingAgent <= 0 {
		c.MaxPendingAgent = DefaultMaxPendingAgent
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Ledger{LedgerConfig: c, waiters: waiters{by: map[string][]chan struct{}{}}}
}

// Claim returns the one live AccessRequest for the draft, or opens one: redeemed by the
// draft's own API request, approved, denied and not yet over, or pending. It reads storage,
// not the cache: an approval that was used a moment ago must not be seen again.
func (l *Ledger) Claim(ctx context.Context, d *access.Draft) (*v1alpha1.AccessRequest, error) {
	if err := l.flooded(ctx, d); err != nil {
		return nil, err
	}
	const attempts = 5
	for range attempts {
		found, last, err := l.stored(ctx, d.Key)
		if err != nil {
			return nil, err
		}
		var best *v1alpha1.AccessRequest
		for _, r := range found {
			live, err := l.live(ctx, d, r)
			if err != nil {
				return nil, err
			}
			if live != nil && (best == nil || rank(live) < rank(best)) {
				best = live
			}
		}
		if best != nil {
			return best, nil
		}
		if r, err := l.repeated(ctx, d); r != nil || err != nil {
			return r, err
		}
		r, err := l.open(ctx, d, last+1)
		if apierrors.IsAlreadyExists(err) || errors.Is(err, access.ErrConflict) {
			continue
		}
		return r, err
	}
	return nil, access.ErrConflict
}

// stored returns the AccessRequests of a key that may be live, as they are stored now, and the
// number of the last one that there is. The cache says which there are, and storage, by name,
// what has become of them: a list from storage would wait until the API server's watch cache
// is as new as all that was written, of any kind, which takes it up to 100 ms
// (k8s.io/apiserver, pkg/storage/cacher/progress). Names count up without a gap, so that what
// the cache has not seen yet has the next number.
func (l *Ledger) stored(ctx context.Context, key string) (found []*v1alpha1.AccessRequest, last int, err error) {
	var known v1alpha1.AccessRequestList
	if err := l.Cached.List(ctx, &known, client.MatchingFields{keyField: key}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, 0, fmt.Errorf("list AccessRequests: %w", err)
	}
	var look []string
	for i := range known.Items {
		k := &known.Items[i]
		last = max(last, number(k.Name))
		// An end is for good, also where the cache is old; a denial answers until it expires.
		if !access.Ended(k.Status.Phase) || k.Status.Phase == v1alpha1.Denied {
			look = append(look, k.Name)
		}
	}
	for _, name := range look {
		r, err := l.get(ctx, name)
		if err != nil {
			return nil, 0, err
		}
		if r != nil && r.Spec.Origin != v1alpha1.Asked {
			found = append(found, r)
		}
	}
	for {
		r, err := l.get(ctx, nameOf(key, last+1))
		if err != nil {
			return nil, 0, err
		}
		if r == nil {
			return found, last, nil
		}
		last++
		if r.Spec.Origin != v1alpha1.Asked { // what was asked ahead is for no one change
			found = append(found, r)
		}
	}
}

// get reads an AccessRequest from storage; nil and no error where there is none.
func (l *Ledger) get(ctx context.Context, name string) (*v1alpha1.AccessRequest, error) {
	var r v1alpha1.AccessRequest
	err := l.Live.Get(ctx, client.ObjectKey{Name: name}, &r)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, fmt.Errorf("get AccessRequest %s: %w", name, err)
	}
	return &r, nil
}

// flooded returns access.ErrTooManyPending, by the cache alone, where as many requests wait as
// may and none is for this change: refusing a flood costs the API server no requests. What the
// cache does not know yet can be refused a moment too early.
func (l *Ledger) flooded(ctx context.Context, d *access.Draft) error {
	if verb := d.Spec.Access.Verbs[0]; verb == "delete" || verb == "deletecollection" {
		return nil // a later call of a request that was let pass may have another key
	}
	err := l.room(ctx, l.Cached, d.Spec.Agent)
	if !errors.Is(err, access.ErrTooManyPending) {
		return err
	}
	var known v1alpha1.AccessRequestList
	if err := l.Cached.List(ctx, &known, client.MatchingFields{keyField: d.Key}, client.UnsafeDisableDeepCopy); err != nil {
		return fmt.Errorf("list AccessRequests: %w", err)
	}
	if len(known.Items) > 0 {
		return nil
	}
	return err
}

// rank is the order in which live requests of one change answer for it: an approval that
// stands again goes before a request that was opened while it had been redeemed.
func rank(r *v1alpha1.AccessRequest) int {
	switch r.Status.Phase {
	case v1alpha1.Redeemed:
		return 0
	case v1alpha1.Approved:
		return 1
	case v1alpha1.Denied:
		return 2
	default:
		return 3
	}
}

// repeated finds the AccessRequest that this very API request has redeemed already, where
// another key may hide it: in a collection that has lost its first objects, or a delete whose
// options the API server has filled in.
func (l *Ledger) repeated(ctx context.Context, d *access.Draft) (*v1alpha1.AccessRequest, error) {
	if verb := d.Spec.Access.Verbs[0]; verb != "delete" && verb != "deletecollection" {
		return nil, nil //nolint:nilnil // it has one key throughout
	}
	var list v1alpha1.AccessRequestList
	if err := l.Live.List(ctx, &list, client.MatchingFields{"status.phase": string(v1alpha1.Redeemed)}); err != nil {
		return nil, fmt.Errorf("list AccessRequests: %w", err)
	}
	for i := range list.Items {
		if access.Repeated(&list.Items[i], d, l.Now()) {
			return &list.Items[i], nil
		}
	}
	return nil, nil //nolint:nilnil // there is none
}

// live returns the AccessRequest if it is live for the draft, after giving it its first
// status, or ending it, where that is due.
func (l *Ledger) live(ctx context.Context, d *access.Draft, r *v1alpha1.AccessRequest) (*v1alpha1.AccessRequest, error) {
	now := l.Now()
	switch r.Status.Phase {
	case "":
		return l.begin(ctx, d, r)
	case v1alpha1.Pending, v1alpha1.Approved:
		if over := access.Over(r, now); over != "" {
			return nil, ignoreConflict(l.update(ctx, r, access.End(r.Status, over, now)))
		}
		if !access.Meets(r, d.Spec.Rules) {
			next := access.End(r.Status, v1alpha1.Expired, now)
			next.Message = "the rules that hold this change ask for more by now; it is held anew"
			return nil, ignoreConflict(l.update(ctx, r, next))
		}
		return r, nil
	case v1alpha1.Denied:
		if r.Status.ExpiresAt != nil && now.Before(r.Status.ExpiresAt.Time) {
			return r, nil
		}
	case v1alpha1.Redeemed:
		if access.Repeated(r, d, now) {
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
	r := &v1alpha1.AccessRequest{
		ObjectMeta: metav1.ObjectMeta{Name: nameOf(d.Key, n), Labels: map[string]string{keyLabel: d.Key}},
		Spec:       d.Spec,
	}
	if err := l.create(ctx, r); err != nil {
		return nil, err
	}
	return l.begin(ctx, d, r)
}

func (l *Ledger) create(ctx context.Context, r *v1alpha1.AccessRequest) error {
	l.opening.Lock()
	defer l.opening.Unlock()
	if err := l.room(ctx, l.Live, r.Spec.Agent); err != nil {
		return err
	}
	if err := l.Client.Create(ctx, r); err != nil {
		return fmt.Errorf("open AccessRequest: %w", err)
	}
	l.Metrics.opens()
	return nil
}

// Reserve keeps a place for an AccessRequest that an agent makes itself, under that name; it
// returns access.ErrTooManyPending where no more may wait. Whoever asks twice for one name
// gets one place.
func (l *Ledger) Reserve(ctx context.Context, agent, name string) error {
	l.opening.Lock()
	defer l.opening.Unlock()
	l.places.give(name)
	if err := l.room(ctx, l.Live, agent); err != nil {
		return err
	}
	l.places.keep(name, agent, l.Now())
	return nil
}

// room returns access.ErrTooManyPending where no more may wait. A request that has no status
// yet waits, too, and is looked for first: one that gets its status between the two looks is
// seen by both, and counted once. The other way round neither would see it.
func (l *Ledger) room(ctx context.Context, from client.Reader, agent string) error {
	all, own := l.places.kept(agent, l.Now())
	for _, phase := range []v1alpha1.Phase{"", v1alpha1.Pending} {
		var list v1alpha1.AccessRequestList
		if err := from.List(ctx, &list, client.MatchingFields{phaseField: string(phase)}, client.UnsafeDisableDeepCopy); err != nil {
			return fmt.Errorf("list AccessRequests: %w", err)
		}
		for i := range list.Items {
			r := &list.Items[i]
			all[r.Name] = true
			if r.Spec.Agent == agent {
				own[r.Name] = true
			}
		}
	}
	if len(own) >= l.MaxPendingAgent || len(all) >= l.MaxPending {
		return access.ErrTooManyPending
	}
	return nil
}

// begin gives an AccessRequest its first status. It expires by the API server's clock, on
// which all replicas agree.
func (l *Ledger) begin(ctx context.Context, d *access.Draft, r *v1alpha1.AccessRequest) (*v1alpha1.AccessRequest, error) {
	s := v1alpha1.AccessRequestStatus{
		Phase: v1alpha1.Pending, Fingerprint: d.Fingerprint, Version: d.Version, GenerateName: d.GenerateName, Items: d.Items,
		ExpiresAt: &metav1.Time{Time: r.CreationTimestamp.Add(d.ExpiresAfter)},
	}
	if len(d.Items) == 0 {
		s.TargetUID = d.UID
	}
	d.Show(ctx, &s)
	err := l.update(ctx, r, s)
	if errors.Is(err, access.ErrConflict) {
		// Another call of the same request was faster.
		err = l.Live.Get(ctx, client.ObjectKeyFromObject(r), r)
	}
	if err != nil {
		return nil, fmt.Errorf("begin AccessRequest: %w", err)
	}
	return r, nil
}

// Redeem moves an approved AccessRequest to Redeemed by one conditional update;
// access.ErrConflict where it was changed since it was read.
func (l *Ledger) Redeem(ctx context.Context, r *v1alpha1.AccessRequest, by v1alpha1.Redemption) error {
	if by.ResourceVersion == "" && r.Spec.Access.Verbs[0] == "create" {
		// Where it is not known, the approval is spent whatever comes of it.
		by.ResourceVersion, _ = l.Objects.Since(ctx, refOf(r))
	}
	next := *r.Status.DeepCopy()
	next.Phase, next.Redeemed, next.Message = v1alpha1.Redeemed, &by, ""
	return l.update(ctx, r, next)
}

// refOf is what an AccessRequest for one request is about.
func refOf(r *v1alpha1.AccessRequest) Ref {
	a := &r.Spec.Access
	first := func(list []string) string {
		if len(list) == 0 {
			return ""
		}
		return list[0]
	}
	resource, _, _ := strings.Cut(first(a.Resources), "/")
	return Ref{
		GroupVersionResource: schema.GroupVersionResource{Group: first(a.APIGroups), Version: r.Status.Version, Resource: resource},
		Namespace:            first(a.Namespaces), Name: first(a.Names),
	}
}

// update writes a status if nobody has changed the object since it was read, and if the
// move is legal.
func (l *Ledger) update(ctx context.Context, r *v1alpha1.AccessRequest, next v1alpha1.AccessRequestStatus) error {
	before := r.Status.DeepCopy()
	if next.Phase != before.Phase {
		if err := access.Move(r.Spec.Origin, before.Phase, next.Phase); err != nil {
			return err
		}
	}
	changed := r.DeepCopy()
	changed.Status = next
	if err := l.Client.Status().Update(ctx, changed); err != nil {
		if apierrors.IsConflict(err) {
			return access.ErrConflict
		}
		return fmt.Errorf("update AccessRequest %s: %w", r.Name, err)
	}
	l.Metrics.moved(changed, before, l.Now())
	*r = *changed
	return nil
}

// nameOf is the name of a key's n-th AccessRequest.
func nameOf(key string, n int) string { return fmt.Sprintf("%s-%d", key, n) }

// number is the n of <key>-<n>.
func number(name string) int {
	n, err := strconv.Atoi(name[strings.LastIndexByte(name, '-')+1:])
	if err != nil {
		return 0
	}
	return n
}
