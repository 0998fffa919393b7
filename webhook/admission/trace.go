package admission

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"

	admissionv1 "k8s.io/api/admission/v1"
)

// ProbePrefix begins the name of a Review that Holdfast's own account tries to make, as a dry
// run, with a traceparent header of its own: the trace ID follows in the name. An API server
// that has a tracing configuration asks about it under another trace ID.
const ProbePrefix = "holdfast-trace-probe-"

// Traces says whether the trace IDs of calls are those of the API server's requests. Without a
// tracing configuration it passes on what clients send, and anybody could make two requests
// look like one. The zero value trusts none.
type Traces struct {
	// OwnUser is Holdfast's own account: nobody else's probes count.
	OwnUser string
	trusted atomic.Bool
	probed  atomic.Int64
}

// Trusted says whether the last probe came under a trace ID of the API server's own.
func (t *Traces) Trusted() bool { return t != nil && t.trusted.Load() }

// Probed is how many probes have come.
func (t *Traces) Probed() int64 { return t.probed.Load() }

// of is the trace ID of a call; empty where it cannot be trusted.
func (t *Traces) of(r *http.Request, review *Review) string {
	if t == nil {
		return ""
	}
	id := traceOf(r)
	if sent, ok := strings.CutPrefix(review.Request.Name, ProbePrefix); ok && t.isProbe(review) {
		t.trusted.Store(id != "" && id != sent)
		t.probed.Add(1)
	}
	// The API server goes on with the traces of these two groups
	// (k8s.io/apiserver pkg/endpoints/filters/traces.go).
	ownTraces := func(group string) bool { return group == "system:masters" || group == "system:monitoring" }
	if !t.trusted.Load() || slices.ContainsFunc(review.Request.User.Groups, ownTraces) {
		return ""
	}
	return id
}

func (t *Traces) isProbe(r *Review) bool {
	return r.Operation == admissionv1.Create && r.Request.Resource == "reviews" && r.Request.DryRun && r.Request.User.Name == t.OwnUser && t.OwnUser != ""
}

// traceOf is the trace ID of a W3C traceparent header; empty where there is none.
func traceOf(r *http.Request) string {
	parts := strings.Split(r.Header.Get("Traceparent"), "-")
	if len(parts) != 4 || len(parts[1]) != 32 || strings.Trim(parts[1], "0") == "" {
		return ""
	}
	return parts[1]
}
