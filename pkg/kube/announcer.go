package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/access/notice"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

const (
	reportingController = "holdfast.dev/webhook"
	// announceWithin is how old what happened may be for an Event: what is older is not
	// announced by a replica that has just become leader. It is below the hour for which API
	// servers keep Events (--event-ttl), so that an Event that is gone is not made again. Of
	// what has no time a new leader makes a new one: that a Review is void bears repeating.
	announceWithin = 30 * time.Minute
	// maxNote is what the API server takes, in bytes.
	maxNote = 1024
)

// AnnouncerConfig has one optional field, Now.
type AnnouncerConfig struct {
	// Cache watches the cluster.
	Cache cache.Cache
	// Client creates Events; its RESTMapper says which kind a resource has.
	Client client.Client
	// Instance is the name of this replica; at most 128 bytes.
	Instance string
	Log      *slog.Logger
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// Announcer makes a Kubernetes Event of whatever package notice says has happened: one about
// the AccessRequest, in namespace default like all Events of cluster-scoped objects, and one
// about the object concerned, for those who look there.
//
// That object is the one the agent named, in its own namespace, also where it is to be
// created: kubectl events --for finds it by kind and name, and kubectl describe by the UID,
// once there is one. Where the agent names none, because the API server makes up the name or
// because it is a collection, it is the Namespace. An Event about a Namespace is in that
// namespace.
//
// An Event's name is made of what it tells, so that it is there once however often it is
// made: by a leader that starts, or by two that both think they are. client-go's recorder
// makes up a new name each time, and forgets what it could not write. Events are for
// looking, and may be lost, and who may write Events can forge and remove them; what must
// arrive goes through the Notifier.
//
// They say who asked for what and who decided. Neither the change nor what anybody wrote
// about it is in them: more people read Events than AccessRequests.
type Announcer struct{ AnnouncerConfig }

// NewAnnouncer returns the controller.
func NewAnnouncer(c AnnouncerConfig) *Announcer {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Announcer{c}
}

// Run announces until the context ends; it is for a Leader, and can be run again.
func (a *Announcer) Run(ctx context.Context) error {
	return follow(ctx, follower{name: "announcer", cache: a.Cache, reconciler: a, log: a.Log, news: func(was, is *v1alpha1.AccessRequest) bool {
		return was.Status.Phase != is.Status.Phase || len(notice.Of(was)) != len(notice.Of(is))
	}})
}

// Reconcile implements reconcile.Reconciler.
func (a *Announcer) Reconcile(ctx context.Context, q reconcile.Request) (reconcile.Result, error) {
	var r v1alpha1.AccessRequest
	if err := a.Cache.Get(ctx, q.NamespacedName, &r); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	for _, n := range notice.Of(&r) {
		if n.Time.IsZero() {
			n.Time = a.Now()
		}
		if a.Now().Sub(n.Time) > announceWithin {
			continue
		}
		if err := a.announce(ctx, &r, n); err != nil {
			return reconcile.Result{}, err
		}
	}
	return reconcile.Result{}, nil
}

func (a *Announcer) announce(ctx context.Context, r *v1alpha1.AccessRequest, n notice.Notice) error {
	own := corev1.ObjectReference{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "AccessRequest", Name: r.Name, UID: r.UID,
	}
	if err := a.create(ctx, r, n, own, nil); err != nil {
		return fmt.Errorf("announce that AccessRequest %s is %s: %w", r.Name, n.Occasion, err)
	}
	object, err := a.concerned(ctx, r)
	if err != nil {
		return fmt.Errorf("find the object that AccessRequest %s concerns: %w", r.Name, err)
	}
	if object == nil {
		return nil
	}
	err = a.create(ctx, r, n, *object, &own)
	if apierrors.IsForbidden(err) || apierrors.IsNotFound(err) || apierrors.IsInvalid(err) {
		// Its namespace is being deleted, or is not there yet, or the object's name is none
		// that Events can have.
		a.Log.InfoContext(ctx, "object_not_told", "access_request", r.Name, "kind", object.Kind, "error", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("announce to %s %s that AccessRequest %s is %s: %w", object.Kind, object.Name, r.Name, n.Occasion, err)
	}
	return nil
}

// concerned is the object that an AccessRequest is about; nil where it is about none, about
// several, or about one whose kind the API server does not have any more.
func (a *Announcer) concerned(ctx context.Context, r *v1alpha1.AccessRequest) (*corev1.ObjectReference, error) {
	w := r.Spec.Access
	if len(w.APIGroups) != 1 || len(w.Resources) != 1 || len(w.Names) > 1 || len(w.Namespaces) > 1 {
		return nil, nil //nolint:nilnil // about several
	}
	namespace := strings.Join(w.Namespaces, "")
	if len(w.Names) == 0 {
		return a.namespace(ctx, namespace)
	}
	resource, _, _ := strings.Cut(w.Resources[0], "/")
	kind, err := a.Client.RESTMapper().KindFor(schema.GroupVersionResource{Group: w.APIGroups[0], Version: r.Status.Version, Resource: resource})
	if meta.IsNoMatchError(err) {
		return nil, nil //nolint:nilnil // not any more
	}
	if err != nil {
		return nil, err
	}
	object := &corev1.ObjectReference{Namespace: namespace, Name: w.Names[0], UID: r.Status.TargetUID}
	object.APIVersion, object.Kind = kind.ToAPIVersionAndKind()
	if kind.GroupKind() == (schema.GroupKind{Kind: "Namespace"}) {
		object.Namespace = object.Name
	}
	return object, nil
}

// namespace is the reference of a Namespace; nil where there is none.
func (a *Announcer) namespace(ctx context.Context, name string) (*corev1.ObjectReference, error) {
	if name == "" {
		return nil, nil //nolint:nilnil // cluster-scoped
	}
	var ns corev1.Namespace
	err := a.Cache.Get(ctx, client.ObjectKey{Name: name}, &ns)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // not any more
	}
	if err != nil {
		return nil, err
	}
	return &corev1.ObjectReference{APIVersion: "v1", Kind: "Namespace", Namespace: name, Name: name, UID: ns.UID}, nil
}

// create creates an Event, if it is not there.
func (a *Announcer) create(
	ctx context.Context, r *v1alpha1.AccessRequest, n notice.Notice, regarding corev1.ObjectReference, related *corev1.ObjectReference,
) error {
	kind := corev1.EventTypeWarning
	switch n.Occasion {
	case notice.Pending, notice.Approved, notice.Withdrawn:
		kind = corev1.EventTypeNormal
	}
	namespace := regarding.Namespace
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	reason, note := words(r, n)
	about := sha256.Sum256([]byte(n.ID + "\x00" + regarding.Kind + "\x00" + regarding.Name))
	err := a.Client.Create(ctx, &eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "holdfast-" + hex.EncodeToString(about[:16])},
		EventTime:  metav1.MicroTime{Time: n.Time},
		Type:       kind, Reason: reason, Note: note, Action: string(n.Occasion),
		ReportingController: reportingController, ReportingInstance: a.Instance,
		Regarding: regarding, Related: related,
	})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}

// words are the reason and the note of an Event.
func words(r *v1alpha1.AccessRequest, n notice.Notice) (reason, note string) {
	what := fmt.Sprintf("%s's request to %s", r.Spec.Agent, wish(r.Spec.Access))
	if r.Spec.Origin == v1alpha1.Asked {
		if reason, note = askedWords(r, n, what); reason != "" {
			return reason, clip(note, maxNote)
		}
	}
	switch n.Occasion {
	case notice.Pending:
		reason, note = "HoldfastHeld", fmt.Sprintf("%s waits for approval under %s. To decide: kubectl holdfast describe %s", what, ruleNames(r), r.Name)
	case notice.Approved:
		reason, note = "HoldfastApproved", fmt.Sprintf("%s was approved, once, by %s (AccessRequest %s)", what, reviewers(r, v1alpha1.Approve), r.Name)
	case notice.Denied:
		reason, note = "HoldfastDenied", fmt.Sprintf("%s was denied by %s (AccessRequest %s)", what, reviewers(r, v1alpha1.Reject), r.Name)
	case notice.Expired:
		reason, note = "HoldfastExpired", fmt.Sprintf("%s has expired (AccessRequest %s)", what, r.Name)
	case notice.Withdrawn:
		reason, note = "HoldfastWithdrawn", fmt.Sprintf("%s was withdrawn by the agent (AccessRequest %s)", what, r.Name)
	case notice.Revoked:
		by := ""
		if access.Denial(&r.Status) != nil {
			by = " by " + reviewers(r, v1alpha1.Reject)
		}
		reason, note = "HoldfastRevoked", fmt.Sprintf("The approval of %s was revoked%s (AccessRequest %s)", what, by, r.Name)
	case notice.Voided:
		reason, note = "HoldfastVoided", fmt.Sprintf("Review %s of %s is void, and does not count any more (AccessRequest %s)", n.Review, what, r.Name)
	}
	return reason, clip(note, maxNote)
}

// askedWords are those for what was asked ahead, where they are others.
func askedWords(r *v1alpha1.AccessRequest, n notice.Notice, what string) (reason, note string) {
	switch n.Occasion {
	case notice.Pending:
		lasts := ""
		if d := r.Spec.Access.Duration; d != nil {
			lasts = " for " + d.Duration.String()
		}
		return "HoldfastAsked", fmt.Sprintf("%s%s waits for approval under %s. To decide: kubectl holdfast describe %s", what, lasts, ruleNames(r), r.Name)
	case notice.Approved:
		until := ""
		if r.Status.ExpiresAt != nil {
			until = " until " + r.Status.ExpiresAt.UTC().Format(time.RFC3339)
		}
		return "HoldfastApproved", fmt.Sprintf("%s was granted%s by %s (AccessRequest %s)", what, until, reviewers(r, v1alpha1.Approve), r.Name)
	default:
		return "", ""
	}
}

// wish is such as "delete namespaces prod-a" or "create configmaps in default".
func wish(a v1alpha1.Access) string {
	text := strings.Join(a.Verbs, ",") + " " + strings.Join(a.Resources, ",")
	if len(a.Names) > 0 {
		text += " " + strings.Join(a.Names, ",")
	}
	if len(a.Namespaces) > 0 {
		text += " in " + strings.Join(a.Namespaces, ",")
	}
	return text
}

func ruleNames(r *v1alpha1.AccessRequest) string {
	names := make([]string, 0, len(r.Spec.Rules))
	for i := range r.Spec.Rules {
		names = append(names, access.RuleName(&r.Spec.Rules[i]))
	}
	return strings.Join(names, ", ")
}

// reviewers are those whose verdict counts.
func reviewers(r *v1alpha1.AccessRequest, verdict v1alpha1.Verdict) string {
	var names []string
	for _, c := range r.Status.Reviews {
		if c.Refused == "" && c.Verdict == verdict {
			names = append(names, c.Reviewer)
		}
	}
	if len(names) == 0 {
		return "nobody who is named"
	}
	return strings.Join(names, ", ")
}

// clip cuts a text to at most n bytes, between two characters.
func clip(s string, n int) string {
	return strings.ToValidUTF8(s[:min(len(s), n)], "")
}
