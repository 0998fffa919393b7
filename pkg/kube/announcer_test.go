package kube

import (
	"cmp"
	"log/slog"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/holdfast-dev/holdfast/pkg/access/notice"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

var happened = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)

func heldRequest(change func(*v1alpha1.AccessRequest)) *v1alpha1.AccessRequest {
	r := &v1alpha1.AccessRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "key-1", UID: "u", CreationTimestamp: metav1.Time{Time: happened}},
		Spec: v1alpha1.AccessRequestSpec{
			Origin: v1alpha1.Intercepted, Agent: "bot", Requester: "claude@corp",
			Access: v1alpha1.Access{
				Verbs: []string{"update"}, APIGroups: []string{""}, Resources: []string{"configmaps"},
				Namespaces: []string{"prod"}, Names: []string{"settings"},
			},
			Rules: []v1alpha1.HoldingRule{{Policy: "holds", Rule: "hold", Message: "m"}, {Policy: "more", Rule: "r"}},
		},
		Status: v1alpha1.AccessRequestStatus{
			Phase: v1alpha1.Pending, Version: "v1", TargetUID: "t", Change: "+ data.a: canary", EndedAt: &metav1.Time{Time: happened},
			Reviews: []v1alpha1.ReviewCopy{
				{Name: "a", Reviewer: "jane", Verdict: v1alpha1.Approve, Comment: "canary", Time: metav1.Time{Time: happened}},
				{Name: "b", Reviewer: "joe", Verdict: v1alpha1.Approve, Time: metav1.Time{Time: happened}},
				{Name: "c", Reviewer: "jim", Verdict: v1alpha1.Reject, Comment: "canary", Time: metav1.Time{Time: happened}},
				{Name: "d", Reviewer: "mallory", Verdict: v1alpha1.Approve, Refused: "no approver", Time: metav1.Time{Time: happened}},
			},
		},
	}
	if change != nil {
		change(r)
	}
	return r
}

// TestWords: what each Event says.
func TestWords(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		occasion     notice.Occasion
		reason, note string
	}{
		{notice.Pending, "HoldfastHeld", "bot's request to update configmaps settings in prod waits for approval under holds/hold, more/r. To decide: kubectl holdfast describe key-1"},
		{notice.Approved, "HoldfastApproved", "bot's request to update configmaps settings in prod was approved, once, by jane, joe (AccessRequest key-1)"},
		{notice.Denied, "HoldfastDenied", "bot's request to update configmaps settings in prod was denied by jim (AccessRequest key-1)"},
		{notice.Expired, "HoldfastExpired", "bot's request to update configmaps settings in prod has expired (AccessRequest key-1)"},
		{notice.Withdrawn, "HoldfastWithdrawn", "bot's request to update configmaps settings in prod was withdrawn by the agent (AccessRequest key-1)"},
		{notice.Revoked, "HoldfastRevoked", "The approval of bot's request to update configmaps settings in prod was revoked by jim (AccessRequest key-1)"},
		{notice.Voided, "HoldfastVoided", "Review d of bot's request to update configmaps settings in prod is void, and does not count any more (AccessRequest key-1)"},
	} {
		reason, note := words(heldRequest(nil), notice.Notice{Occasion: test.occasion, Review: "d"})
		if reason != test.reason || note != test.note {
			t.Errorf("%s: %s %q, want %s %q", test.occasion, reason, note, test.reason, test.note)
		}
	}
	taken := heldRequest(func(r *v1alpha1.AccessRequest) { r.Status.Reviews = r.Status.Reviews[:2] })
	const want = "The approval of bot's request to update configmaps settings in prod was revoked (AccessRequest key-1)"
	if _, note := words(taken, notice.Notice{Occasion: notice.Revoked}); note != want {
		t.Errorf("%q, want %q", note, want)
	}
	long := heldRequest(func(r *v1alpha1.AccessRequest) { r.Spec.Agent = strings.Repeat("é", 600) })
	if _, note := words(long, notice.Notice{Occasion: notice.Pending}); note != strings.Repeat("é", 512) {
		t.Errorf("a long note is %q", note)
	}
}

func newAnnouncerTest(t *testing.T, r *v1alpha1.AccessRequest, now time.Time) (*Announcer, client.Client) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme, eventsv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}, meta.RESTScopeNamespace)
	mapper.Add(schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}, meta.RESTScopeRoot)
	mapper.Add(schema.GroupVersionKind{Group: "rbac.authorization.k8s.io", Version: "v1", Kind: "ClusterRole"}, meta.RESTScopeRoot)
	mapper.Add(schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "Deployment"}, meta.RESTScopeNamespace)
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "prod", UID: "n"}}
	c := fake.NewClientBuilder().WithScheme(scheme).WithRESTMapper(mapper).WithObjects(r, ns).WithStatusSubresource(r).Build()
	return NewAnnouncer(AnnouncerConfig{
		Cache: apiCache{Reader: c}, Client: c, Instance: "host", Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now },
	}), c
}

// TestConcerned: the object whose Events say what was held.
func TestConcerned(t *testing.T) {
	t.Parallel()
	access := func(group, resource, namespace, name string) func(*v1alpha1.AccessRequest) {
		return func(r *v1alpha1.AccessRequest) {
			r.Spec.Access.APIGroups, r.Spec.Access.Resources = []string{group}, []string{resource}
			r.Spec.Access.Namespaces, r.Spec.Access.Names = nil, nil
			if namespace != "" {
				r.Spec.Access.Namespaces = []string{namespace}
			}
			if name != "" {
				r.Spec.Access.Names = []string{name}
			}
		}
	}
	for _, test := range []struct {
		name   string
		change func(*v1alpha1.AccessRequest)
		want   *corev1.ObjectReference
	}{
		{"an object", nil, &corev1.ObjectReference{APIVersion: "v1", Kind: "ConfigMap", Namespace: "prod", Name: "settings", UID: "t"}},
		{
			"a create: no UID yet", func(r *v1alpha1.AccessRequest) { r.Status.TargetUID = "" },
			&corev1.ObjectReference{APIVersion: "v1", Kind: "ConfigMap", Namespace: "prod", Name: "settings"},
		},
		{"a subresource", access("apps", "deployments/scale", "prod", "web"), &corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "prod", Name: "web", UID: "t"}},
		{"cluster-scoped", access("rbac.authorization.k8s.io", "clusterroles", "", "admin"), &corev1.ObjectReference{APIVersion: "rbac.authorization.k8s.io/v1", Kind: "ClusterRole", Name: "admin", UID: "t"}},
		{"a Namespace", access("", "namespaces", "", "prod"), &corev1.ObjectReference{APIVersion: "v1", Kind: "Namespace", Namespace: "prod", Name: "prod", UID: "t"}},
		{"no name: its Namespace", access("", "configmaps", "prod", ""), &corev1.ObjectReference{APIVersion: "v1", Kind: "Namespace", Namespace: "prod", Name: "prod", UID: "n"}},
		{"no name, in a namespace that is gone", access("", "configmaps", "gone", ""), nil},
		{"no name, cluster-scoped", access("", "namespaces", "", ""), nil},
		{"a kind that is gone", access("example.com", "things", "prod", "x"), nil},
		{"several names", func(r *v1alpha1.AccessRequest) { r.Spec.Access.Names = []string{"a", "b"} }, nil},
		{"several namespaces", func(r *v1alpha1.AccessRequest) { r.Spec.Access.Namespaces = []string{"a", "b"} }, nil},
		{"several resources", func(r *v1alpha1.AccessRequest) { r.Spec.Access.Resources = []string{"a", "b"} }, nil},
		{"several groups", func(r *v1alpha1.AccessRequest) { r.Spec.Access.APIGroups = []string{"a", "b"} }, nil},
		{
			"asked ahead", func(r *v1alpha1.AccessRequest) {
				r.Spec.Origin, r.Status.Version, r.Status.TargetUID = v1alpha1.Asked, "", ""
			},
			&corev1.ObjectReference{APIVersion: "v1", Kind: "ConfigMap", Namespace: "prod", Name: "settings"},
		},
	} {
		r := heldRequest(test.change)
		a, _ := newAnnouncerTest(t, r, happened)
		got, err := a.concerned(t.Context(), r)
		if err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: %+v, %v, want %+v", test.name, got, err, test.want)
		}
	}
}

// TestAnnounce: both Events are there, once, however often they are made; not of long ago,
// and with nothing of the change or of what reviewers wrote.
func TestAnnounce(t *testing.T) {
	t.Parallel()
	r := heldRequest(nil)
	a, c := newAnnouncerTest(t, r, happened.Add(announceWithin))
	request := reconcile.Request{NamespacedName: client.ObjectKeyFromObject(r)}
	for range 2 {
		if _, err := a.Reconcile(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	list := func(c client.Client) []eventsv1.Event {
		t.Helper()
		var list eventsv1.EventList
		if err := c.List(t.Context(), &list); err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(list.Items, func(a, b eventsv1.Event) int { return cmp.Compare(a.Namespace, b.Namespace) })
		return list.Items
	}
	events := list(c)
	if len(events) != 2 {
		t.Fatalf("%d Events, want 2", len(events))
	}
	own := corev1.ObjectReference{APIVersion: "holdfast.dev/v1alpha1", Kind: "AccessRequest", Name: "key-1", UID: "u"}
	object := corev1.ObjectReference{APIVersion: "v1", Kind: "ConfigMap", Namespace: "prod", Name: "settings", UID: "t"}
	for i, want := range []eventsv1.Event{
		{ObjectMeta: metav1.ObjectMeta{Namespace: "default"}, Regarding: own},
		{ObjectMeta: metav1.ObjectMeta{Namespace: "prod"}, Regarding: object, Related: &own},
	} {
		got := events[i]
		if strings.Contains(got.String(), "canary") {
			t.Errorf("says too much: %+v", got)
		}
		if got.Namespace != want.Namespace || got.Regarding != want.Regarding || !reflect.DeepEqual(got.Related, want.Related) ||
			got.Type != "Normal" || got.Reason != "HoldfastHeld" || got.Action != "pending" || !got.EventTime.Time.Equal(happened) ||
			got.ReportingController != "holdfast.dev/webhook" || got.ReportingInstance != "host" {
			t.Errorf("%+v, want %+v", got, want)
		}
	}
	r.Status.Phase = v1alpha1.Denied
	if err := c.Status().Update(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if _, err := a.Reconcile(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	denied := 0
	for _, e := range list(c) {
		if e.Reason == "HoldfastDenied" && e.Type == "Warning" {
			denied++
		}
	}
	if denied != 2 {
		t.Errorf("%d Events of a denial, want 2", denied)
	}

	late, empty := newAnnouncerTest(t, heldRequest(nil), happened.Add(announceWithin+time.Second))
	if _, err := late.Reconcile(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	if old := list(empty); len(old) != 0 {
		t.Errorf("%d Events of what is long past", len(old))
	}
}
