// Package admission answers the API server's admission webhook calls: the guard, which
// judges what agents do, and the check of Holdfast's own kinds.
//
// It translates between AdmissionReviews and the engine. It decides nothing by itself but
// the validity of Holdfast's own objects, and it never answers Allow to what it does not
// understand.
package admission

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// Judge decides one review. It must return a decision whatever happens; its zero value
// denies.
type Judge func(ctx context.Context, r *Review) decision.Decision

// Handler is the HTTP handler of one webhook. It answers every review with a decision, and
// everything that is no review with an HTTP error, which the API server takes for a failure.
type Handler struct {
	webhook string
	judge   Judge
	metrics *Metrics
	log     *slog.Logger
	room    *semaphore.Weighted
	traces  *Traces
	key     *decision.Key
}

// Config of a Handler.
type Config struct {
	// Webhook is the name under which the API server calls: decision.GuardWebhook or
	// decision.OwnWebhook.
	Webhook string
	// Judge decides.
	Judge Judge
	// Metrics counts. Nil counts nothing.
	Metrics *Metrics
	// Log takes refusals and failures; never objects.
	Log *slog.Logger
	// Traces says which trace IDs are those of the API server's requests. Nil takes none.
	Traces *Traces
	// Key signs the records of decisions. Nil signs none, and then nobody believes them.
	Key *decision.Key
}

// NewHandler returns a handler.
func NewHandler(c Config) *Handler {
	return &Handler{
		webhook: c.Webhook, judge: c.Judge, metrics: c.Metrics, log: c.Log,
		room: semaphore.NewWeighted(maxUnderWay), traces: c.Traces, key: c.Key,
	}
}

// roomPatience is how long a call waits for its place in memory before it fails.
const roomPatience = 5 * time.Second

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ctx, start := r.Context(), time.Now()
	defer func() {
		if recover() != nil {
			// What was panicked with can quote the request; it is not kept.
			h.log.ErrorContext(ctx, "panic_in_admission", "webhook", h.webhook)
			h.metrics.failed(h.webhook, writeError(w, errPanic))
		}
	}()
	weight := r.ContentLength
	if weight < 0 || weight > MaxReview {
		weight = MaxReview
	}
	waiting, cancel := context.WithTimeout(ctx, roomPatience)
	defer cancel()
	if err := h.room.Acquire(waiting, weight); err != nil {
		h.metrics.failed(h.webhook, writeError(w, err))
		return
	}
	defer h.room.Release(weight)

	review, err := h.decode(r)
	if err != nil {
		h.log.WarnContext(ctx, "review_refused", "webhook", h.webhook, "error", err)
		h.metrics.failed(h.webhook, writeError(w, err))
		return
	}
	review.Timeout = timeoutOf(r)
	review.TraceID = h.traces.of(r, review)
	d := h.judge(ctx, review)
	h.metrics.decided(h.webhook, d, time.Since(start))
	if d.Action != decision.Allow {
		h.log.InfoContext(ctx, "request_refused", "webhook", h.webhook, "decision", d.ID,
			"action", d.Action.String(), "reason", string(d.Reason), "user", review.Request.User.Name)
	}
	h.answer(ctx, w, review, d)
}

// defaultTimeout is what the API server waits for a webhook that says nothing else.
const defaultTimeout = 10 * time.Second

// timeoutOf is the call's own timeout parameter.
func timeoutOf(r *http.Request) time.Duration {
	timeout, err := time.ParseDuration(r.URL.Query().Get("timeout"))
	if err != nil || timeout <= 0 {
		return defaultTimeout
	}
	return timeout
}

var errPanic = errors.New("panic")

func (h *Handler) decode(r *http.Request) (*Review, error) {
	body, err := readReview(r)
	if err != nil {
		return nil, err
	}
	return DecodeReview(body)
}

func (h *Handler) answer(ctx context.Context, w http.ResponseWriter, r *Review, d decision.Decision) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(h.reviewOf(r, &d)); err != nil {
		h.log.WarnContext(ctx, "answer_not_written", "webhook", h.webhook, "decision", d.ID, "error", err)
	}
}

// reviewOf is the AdmissionReview that says a decision: allowed, or 403 with the rules as
// causes; and always with the decision's record, signed, as audit annotation.
func (h *Handler) reviewOf(r *Review, d *decision.Decision) *admissionv1.AdmissionReview {
	record := d.Record()
	record.Webhook = h.webhook
	key, value := h.key.Annotation(record)
	response := &admissionv1.AdmissionResponse{
		UID:              r.UID,
		Allowed:          d.Action == decision.Allow,
		Warnings:         d.Warnings,
		AuditAnnotations: map[string]string{key: value},
	}
	if response.Allowed && len(r.Patch) > 0 {
		kind := admissionv1.PatchTypeJSONPatch
		response.Patch, response.PatchType = r.Patch, &kind
	}
	if !response.Allowed {
		response.Result = status(r, d)
	}
	return &admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Response: response,
	}
}

// status is 403, or 429 where the client should try again: ordinary clients then do.
func status(r *Review, d *decision.Decision) *metav1.Status {
	code, reason := int32(http.StatusForbidden), metav1.StatusReasonForbidden
	details := &metav1.StatusDetails{Name: r.Request.Name, Group: r.Request.Group, Kind: r.Request.FullResource()}
	for _, c := range d.Causes {
		details.Causes = append(details.Causes, metav1.StatusCause{
			Type: metav1.CauseType("Holdfast" + string(c.Reason)), Field: c.Rule, Message: c.Message,
		})
	}
	details.Causes = append(details.Causes, metav1.StatusCause{Type: "HoldfastDecision", Message: d.ID})
	if d.AccessRequest != "" {
		details.Causes = append(details.Causes, metav1.StatusCause{Type: "HoldfastAccessRequest", Message: d.AccessRequest})
	}
	if d.Action == decision.Hold && d.RetryAfter > 0 {
		code, reason = http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests
		details.RetryAfterSeconds = int32(max(1, d.RetryAfter/time.Second)) //nolint:gosec // a minute at most
	}
	return &metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: reason,
		Message: d.Message, Details: details,
	}
}
