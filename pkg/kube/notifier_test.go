package kube

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/holdfast-dev/holdfast/pkg/access/notice"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// later is a receiver that says when to come back.
type later struct{ after time.Duration }

func (l later) Error() string             { return "come back later" }
func (l later) RetryAfter() time.Duration { return l.after }

// ear is a receiver that takes nothing while it has errors for an occasion.
type ear struct {
	errs  map[notice.Occasion]error
	heard []string
	// during runs while a notice is on its way.
	during func()
}

func (e *ear) Tell(_ context.Context, _ *v1alpha1.AccessRequest, n notice.Notice) error {
	if e.during != nil {
		e.during()
	}
	e.heard = append(e.heard, n.ID)
	return e.errs[n.Occasion]
}

// apiCache answers from a fake API at once, and watches what it is given to watch.
type apiCache struct {
	client.Reader
	cache.Informers
}

// notifierTest is a Notifier over an API with one AccessRequest, whose answers to patches
// can be faults.
type notifierTest struct {
	*Notifier
	ear    *ear
	stored client.WithWatch
	// onPatch runs before a patch; its error is the answer.
	onPatch func() error
}

func newNotifierTest(t *testing.T, s v1alpha1.AccessRequestStatus) *notifierTest {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	r := &v1alpha1.AccessRequest{ObjectMeta: metav1.ObjectMeta{Name: "key-1", UID: "u"}, Status: s}
	f := &notifierTest{ear: &ear{errs: map[notice.Occasion]error{}}}
	f.stored = fake.NewClientBuilder().WithScheme(scheme).WithObjects(r).WithStatusSubresource(r).Build()
	faulty := interceptor.NewClient(f.stored, interceptor.Funcs{
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			if f.onPatch != nil {
				if err := f.onPatch(); err != nil {
					return err
				}
			}
			return c.SubResource(sub).Patch(ctx, o, p, opts...)
		},
	})
	f.Notifier = NewNotifier(NotifierConfig{Cache: apiCache{Reader: f.stored}, Client: faulty, Receiver: f.ear, Log: slog.New(slog.DiscardHandler)})
	return f
}

func (f *notifierTest) reconcile(t *testing.T) (reconcile.Result, error) {
	t.Helper()
	return f.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: "key-1"}})
}

func (f *notifierTest) status(t *testing.T) v1alpha1.AccessRequestStatus {
	t.Helper()
	var r v1alpha1.AccessRequest
	if err := f.stored.Get(t.Context(), client.ObjectKey{Name: "key-1"}, &r); err != nil {
		t.Fatal(err)
	}
	return r.Status
}

// change changes the status as others do while a notice is on its way.
func (f *notifierTest) change(t *testing.T, change func(*v1alpha1.AccessRequestStatus)) {
	t.Helper()
	var r v1alpha1.AccessRequest
	if err := f.stored.Get(t.Context(), client.ObjectKey{Name: "key-1"}, &r); err != nil {
		t.Fatal(err)
	}
	change(&r.Status)
	if err := f.stored.Status().Update(t.Context(), &r); err != nil {
		t.Fatal(err)
	}
}

func (f *notifierTest) heard(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(f.ear.heard, want) {
		t.Fatalf("heard %q, want %q", f.ear.heard, want)
	}
}

func pendingStatus() v1alpha1.AccessRequestStatus {
	return v1alpha1.AccessRequestStatus{Phase: v1alpha1.Pending, Fingerprint: "f", Change: "c"}
}

// TestNotifierKeepsTrying: what is not taken is not marked, and is told until it is taken.
func TestNotifierKeepsTrying(t *testing.T) {
	t.Parallel()
	f := newNotifierTest(t, pendingStatus())
	down := errors.New("connection refused")
	f.ear.errs[notice.Pending] = down
	for range 3 {
		if _, err := f.reconcile(t); !errors.Is(err, down) {
			t.Fatalf("error %v, want %v: the queue has to try again", err, down)
		}
	}
	f.ear.errs[notice.Pending] = later{30 * time.Second}
	if result, err := f.reconcile(t); err != nil || result.RequeueAfter != 30*time.Second {
		t.Fatalf("%+v, %v, want to come back after what the receiver said", result, err)
	}
	f.ear.errs[notice.Pending] = later{}
	if _, err := f.reconcile(t); err == nil {
		t.Fatal("a refusal that does not say when to come back is forgotten")
	}
	if got := f.status(t).Notified; got != "" {
		t.Fatalf("notified %q before anything was taken", got)
	}
	f.ear.errs[notice.Pending] = nil
	if result, err := f.reconcile(t); err != nil || result.RequeueAfter != 0 {
		t.Fatalf("%+v, %v", result, err)
	}
	want := pendingStatus()
	want.Notified = "Pending"
	if got := f.status(t); got.Notified != want.Notified || got.Phase != want.Phase || got.Change != want.Change || got.Fingerprint != want.Fingerprint {
		t.Errorf("status %+v, want %+v", got, want)
	}
	if _, err := f.reconcile(t); err != nil {
		t.Fatal(err)
	}
	f.heard(t, slices.Repeat([]string{"u.pending"}, 6)...)
}

// TestNotifierCrash: between taking and writing down. The same is told again, with one ID.
func TestNotifierCrash(t *testing.T) {
	t.Parallel()
	f := newNotifierTest(t, pendingStatus())
	crash := errors.New("killed")
	f.onPatch = func() error { return crash }
	if _, err := f.reconcile(t); !errors.Is(err, crash) {
		t.Fatalf("error %v, want %v", err, crash)
	}
	f.onPatch = nil
	if _, err := f.reconcile(t); err != nil {
		t.Fatal(err)
	}
	f.heard(t, "u.pending", "u.pending")
	if got := f.status(t).Notified; got != "Pending" {
		t.Errorf("notified %q", got)
	}
}

// TestNotifierConflict: the request is approved while its Pending is on its way. The mark
// touches nothing of that, and Approved is told next.
func TestNotifierConflict(t *testing.T) {
	t.Parallel()
	f := newNotifierTest(t, pendingStatus())
	once := true
	f.ear.during = func() {
		if once {
			once = false
			f.change(t, func(s *v1alpha1.AccessRequestStatus) {
				s.Phase, s.Reviews = v1alpha1.Approved, []v1alpha1.ReviewCopy{{Name: "a", Reviewer: "jane", Verdict: v1alpha1.Approve}}
			})
		}
	}
	conflicts := 0
	f.onPatch = func() error {
		conflicts++
		return nil
	}
	if _, err := f.reconcile(t); err != nil {
		t.Fatal(err)
	}
	if conflicts != 2 {
		t.Errorf("%d attempts to mark, want one that meets the conflict and one that does not", conflicts)
	}
	s := f.status(t)
	if s.Phase != v1alpha1.Approved || len(s.Reviews) != 1 || s.Notified != "Pending" {
		t.Fatalf("the mark has changed more than itself: %+v", s)
	}
	if _, err := f.reconcile(t); err != nil {
		t.Fatal(err)
	}
	f.heard(t, "u.pending", "u.approved")
	if got := f.status(t).Notified; got != "Approved" {
		t.Errorf("notified %q", got)
	}
}

// TestNotifierOtherReplica: two who both think they lead. The newer mark stands.
func TestNotifierOtherReplica(t *testing.T) {
	t.Parallel()
	f := newNotifierTest(t, pendingStatus())
	f.ear.during = func() {
		f.ear.during = nil
		f.change(t, func(s *v1alpha1.AccessRequestStatus) { s.Phase, s.Notified = v1alpha1.Denied, "Denied" })
	}
	if _, err := f.reconcile(t); err != nil {
		t.Fatal(err)
	}
	if got := f.status(t).Notified; got != "Denied" {
		t.Errorf("notified %q, want Denied: the older mark has replaced the newer one", got)
	}
	if _, err := f.reconcile(t); err != nil {
		t.Fatal(err)
	}
	f.heard(t, "u.pending")
}

// TestNotifierGivesUpMarking: it does not fight for a status that never holds still.
func TestNotifierGivesUpMarking(t *testing.T) {
	t.Parallel()
	f := newNotifierTest(t, pendingStatus())
	attempts := 0
	f.onPatch = func() error {
		attempts++
		return apierrors.NewConflict(schema.GroupResource{Resource: "accessrequests"}, "key-1", nil)
	}
	_, err := f.reconcile(t)
	const want = "mark AccessRequest key-1 as told: it kept changing"
	if err == nil || err.Error() != want || attempts != markAttempts {
		t.Errorf("error %v after %d attempts, want %q after %d", err, attempts, want, markAttempts)
	}
}

// TestNotifierGone: an AccessRequest that is deleted while it is told.
func TestNotifierGone(t *testing.T) {
	t.Parallel()
	f := newNotifierTest(t, pendingStatus())
	f.ear.during = func() {
		if err := f.stored.Delete(t.Context(), &v1alpha1.AccessRequest{ObjectMeta: metav1.ObjectMeta{Name: "key-1"}}); err != nil {
			t.Error(err)
		}
	}
	if _, err := f.reconcile(t); err != nil {
		t.Errorf("error %v for one that is gone", err)
	}
}

// TestNotifierPart: what was taken is marked, even if something else was not.
func TestNotifierPart(t *testing.T) {
	t.Parallel()
	s := pendingStatus()
	s.Notified = "Pending"
	s.Phase = v1alpha1.Revoked
	s.Reviews = []v1alpha1.ReviewCopy{{Name: "v", Verdict: v1alpha1.Approve, Refused: "voided: made by mallory"}}
	f := newNotifierTest(t, s)
	f.ear.errs[notice.Revoked] = errors.New("no")
	_, err := f.reconcile(t)
	const want = "tell that AccessRequest key-1 is revoked: no"
	if err == nil || err.Error() != want {
		t.Fatalf("error %v, want %s", err, want)
	}
	if got := f.status(t).Notified; got != "Pending voided=1" {
		t.Fatalf("notified %q", got)
	}
	f.ear.errs = nil
	if _, err := f.reconcile(t); err != nil {
		t.Fatal(err)
	}
	f.heard(t, "u.revoked", "u.voided.v", "u.revoked")
	if got := f.status(t).Notified; got != "Revoked voided=1" {
		t.Errorf("notified %q", got)
	}
}
