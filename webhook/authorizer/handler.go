// Package authorizer answers the API server's authorization webhook: SubjectAccessReviews of
// what agents do, before RBAC is asked.
//
// It translates between reviews and the engine. It opens nothing and uses nothing up, since
// `kubectl auth can-i` asks the same question; and what it does not understand it denies.
package authorizer

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/engine"
)

// Cluster is what has to be looked up about a request.
type Cluster interface {
	// Namespace returns the Namespace object; nil and no error where there is none.
	Namespace(ctx context.Context, name string) (map[string]any, error)
	// Pod returns the Pod, in v1 and from storage; nil and no error where there is none.
	Pod(ctx context.Context, namespace, name string) (map[string]any, error)
	// Aggregated says whether a version of an API is served by another API server, to which
	// requests are passed on. An empty version asks for any of the group.
	Aggregated(group, version string) bool
	// Requester is who asked for the AccessRequest of that name; empty where there is none.
	Requester(ctx context.Context, name string) string
	// Permitted says whether RBAC lets the user make another request.
	Permitted(ctx context.Context, r *decision.Request) (bool, error)
	// Confirm says whether an approval of what was asked for ahead still stands in storage,
	// and none of the Agents that ask is suspended there.
	Confirm(ctx context.Context, grant *v1alpha1.AccessRequest, agents []string) (bool, error)
}

// Config of a Handler. Engine, Cluster and Log are required.
type Config struct {
	Engine  *engine.Engine
	Cluster Cluster
	// Key signs the records of decisions. Nil signs none, and nobody believes them.
	Key *decision.Key
	// Metrics counts. Nil counts nothing.
	Metrics *Metrics
	// Saw is told of each Agent that has made a request; it must not block. Nil tells nobody.
	Saw func(agent string)
	// Log takes refusals and failures; never bodies.
	Log *slog.Logger
}

// Handler is the HTTP handler. It answers every SubjectAccessReview that it understands with
// a decision, and everything else with a denial that says what is wrong, or an HTTP error.
type Handler struct {
	Config
	room *semaphore.Weighted
}

// maxUnderWay bounds the reviews that are in memory at the same time, in bytes of their
// encoded size; others wait their turn, for roomPatience at most.
const (
	maxUnderWay  = 4 * MaxReview
	roomPatience = 3 * time.Second
)

// NewHandler returns a handler.
func NewHandler(c Config) *Handler {
	return &Handler{Config: c, room: semaphore.NewWeighted(maxUnderWay)}
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, start := r.Context(), time.Now()
	defer func() {
		if recover() != nil {
			// What was panicked with can quote the request; it is not kept.
			h.Log.ErrorContext(ctx, "panic_in_authorizer")
			h.fail(w, http.StatusInternalServerError, "deciding failed")
		}
	}()
	weight := r.ContentLength
	if weight < 0 || weight > MaxReview {
		weight = MaxReview
	}
	if !h.enter(ctx, weight) {
		h.fail(w, http.StatusServiceUnavailable, "too many reviews are under way")
		return
	}
	defer h.room.Release(weight)

	body, err := readReview(r)
	if err != nil {
		h.refuse(ctx, w, err)
		return
	}
	request, err := DecodeReview(body)
	if err != nil {
		h.refuse(ctx, w, err)
		return
	}
	d := h.judge(ctx, request)
	h.Metrics.decided(d, time.Since(start))
	if d.Action != decision.Allow {
		h.Log.InfoContext(ctx, "request_refused", "webhook", decision.AuthorizerWebhook, "decision", d.ID,
			"action", d.Action.String(), "reason", string(d.Reason), "user", request.User.Name)
	}
	h.answer(ctx, w, Answer(&d, h.Key))
}

// enter takes a place in memory, at once or after waiting.
func (h *Handler) enter(ctx context.Context, weight int64) bool {
	if h.room.TryAcquire(weight) {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, roomPatience)
	defer cancel()
	return h.room.Acquire(ctx, weight) == nil
}

// judge asks the engine.
func (h *Handler) judge(ctx context.Context, r *decision.Request) decision.Decision {
	in := engine.Input{
		Request:    r,
		Namespace:  func() (map[string]any, error) { return nil, nil }, //nolint:nilnil // cluster-scoped: none
		Aggregated: r.NonResourceURL == "" && h.Cluster.Aggregated(r.Group, r.Version),
		Requester:  func(name string) string { return h.Cluster.Requester(ctx, name) },
		Confirm:    h.Cluster.Confirm,
		Permitted:  h.Cluster.Permitted,
	}
	if name := r.Namespace; name != "" {
		in.Namespace = func() (map[string]any, error) { return h.Cluster.Namespace(ctx, name) }
	}
	if r.Group == "" && r.Resource == "pods" && r.Subresource != "" && r.Name != "" {
		in.Target = func() (map[string]any, error) { return h.Cluster.Pod(ctx, r.Namespace, r.Name) }
	}
	d := h.Engine.Authorize(ctx, in)
	if h.Saw != nil {
		for _, name := range d.Agents {
			h.Saw(name)
		}
	}
	return d
}

// readReview reads the body of a call, at most MaxReview.
func readReview(r *http.Request) ([]byte, error) {
	if r.Method != http.MethodPost {
		return nil, &ErrReview{Status: http.StatusMethodNotAllowed, Reason: "want POST"}
	}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		return nil, &ErrReview{Status: http.StatusUnsupportedMediaType, Reason: "want Content-Type application/json"}
	}
	tooLarge := &ErrReview{Status: http.StatusRequestEntityTooLarge, Reason: fmt.Sprintf("the review is larger than %d bytes", MaxReview)}
	if r.ContentLength > MaxReview {
		return nil, tooLarge
	}
	var body bytes.Buffer
	body.Grow(int(max(r.ContentLength, 0)) + bytes.MinRead) // what reading needs to find the end
	if _, err := body.ReadFrom(io.LimitReader(r.Body, MaxReview+1)); err != nil {
		return nil, fmt.Errorf("read the review: %w", err)
	}
	if body.Len() > MaxReview {
		return nil, tooLarge
	}
	return body.Bytes(), nil
}

// refuse answers what is no review that it knows: with a denial where the API server would
// take one in, so that the client is told, and with an HTTP error otherwise.
func (h *Handler) refuse(ctx context.Context, w http.ResponseWriter, err error) {
	h.Log.WarnContext(ctx, "review_refused", "webhook", decision.AuthorizerWebhook, "error", err)
	var bad *ErrReview
	if !errors.As(err, &bad) {
		h.fail(w, http.StatusServiceUnavailable, "the review could not be read")
		return
	}
	if bad.Status != http.StatusBadRequest {
		h.fail(w, bad.Status, bad.Reason)
		return
	}
	d := decision.Decision{ID: decision.NewID(), Reason: decision.ReasonBadRequest, Message: "Holdfast does not understand the request: " + bad.Reason}
	h.Metrics.decided(d, 0)
	answer := Answer(&d, h.Key)
	answer.Status.EvaluationError = bad.Reason
	h.answer(ctx, w, answer)
}

// Answer is the SubjectAccessReview that says a decision: denied; allowed by a grant, or for
// what every agent may; or neither, and RBAC decides.
func Answer(d *decision.Decision, key *decision.Key) *authorizationv1.SubjectAccessReview {
	review := &authorizationv1.SubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: authorizationv1.SchemeGroupVersion.String(), Kind: "SubjectAccessReview"},
	}
	switch {
	case d.Action != decision.Allow:
		review.Status.Denied = true
		// The record says the decision's ID already.
		sentence := strings.TrimSuffix(d.Message, fmt.Sprintf(" (decision %s)", d.ID))
		review.Status.Reason = key.AuthorizationReason(d.Record(), sentence)
	case d.Reason == decision.ReasonGranted:
		review.Status.Allowed = true
		review.Status.Reason = key.AuthorizationReason(d.Record(), "Holdfast: granted by AccessRequest "+d.AccessRequest)
	case d.Reason == decision.ReasonOwnRequest:
		review.Status.Allowed = true
		review.Status.Reason = key.AuthorizationReason(d.Record(), "Holdfast: agents may ask for access")
	}
	return review
}

func (h *Handler) answer(ctx context.Context, w http.ResponseWriter, review *authorizationv1.SubjectAccessReview) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(review); err != nil {
		h.Log.WarnContext(ctx, "answer_not_written", "webhook", decision.AuthorizerWebhook, "error", err)
	}
}

// fail answers with an HTTP error, which the API server takes for a failed call: under
// failurePolicy Deny nothing passes.
func (h *Handler) fail(w http.ResponseWriter, status int, why string) {
	h.Metrics.failed(status)
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	//nolint:errchkjson // the caller has gone if this fails
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: int32(status), Message: why, //nolint:gosec // an HTTP status
	})
}
