package collector

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/holdfast-dev/holdfast/pkg/audit"
)

// retryAfter is what a 503 asks for, in seconds. The API server obeys it inside of each
// attempt's 30 s.
const retryAfter = "1"

func (c *Collector) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/audit/{apiserver}", c.receive)
	return mux
}

func (c *Collector) healthHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeOK(w) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := c.Ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		writeOK(w)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(c.cfg.Registry, promhttp.HandlerOpts{}))
	return mux
}

// writeOK answers a health check. Who asked may have gone, which is no concern of ours.
func writeOK(w http.ResponseWriter) { _, _ = fmt.Fprintln(w, "ok") }

// receive answers 200 when everything that came is durable, 503 when it cannot be made so
// now, and 404 under a path that names no API server. Nothing else: what cannot be read is
// made durable as what it is.
func (c *Collector) receive(w http.ResponseWriter, req *http.Request) {
	ctx := req.Context()
	apiServer := req.PathValue("apiserver")
	if !audit.ValidServerName(apiServer) {
		http.Error(w, "the path's last element has to be the name of an API server: a DNS name of at most 63 characters", http.StatusNotFound)
		return
	}
	free, err := take(ctx, c.places.small)
	if err != nil {
		c.pushback(w, req, err)
		return
	}
	defer free()
	p, freeLarge, err := c.read(ctx, req)
	defer freeLarge()
	if err != nil {
		c.pushback(w, req, err)
		return
	}
	b := c.batch(apiServer, p)
	c.metrics.eventsReceived.WithLabelValues(apiServer).Add(float64(len(b.Records)))
	if err := c.publish(ctx, b); err != nil {
		c.pushback(w, req, err)
		return
	}
	c.metrics.eventsPublished.WithLabelValues(apiServer).Add(float64(len(b.Records)))
	for _, q := range b.Quarantine {
		c.metrics.quarantined.WithLabelValues(q.Reason).Inc()
		c.cfg.Logger.WarnContext(ctx, "quarantined", "api_server", apiServer, "reason", q.Reason, "length", q.Length)
	}
	result := "stored"
	if len(b.Quarantine) > 0 {
		result = "quarantined"
	}
	c.metrics.batches.WithLabelValues(result).Inc()
	w.WriteHeader(http.StatusOK)
}

func (c *Collector) publish(ctx context.Context, b audit.Batch) error {
	messages, err := audit.Pack(b, c.redactor)
	if err != nil {
		return fmt.Errorf("collector: %w", err)
	}
	begin := time.Now()
	err = c.cfg.Log.Publish(ctx, messages)
	c.metrics.publishSeconds.Observe(time.Since(begin).Seconds())
	if err != nil {
		return fmt.Errorf("collector: %w", err)
	}
	return nil
}

// pushback answers a payload that was not made durable.
func (c *Collector) pushback(w http.ResponseWriter, req *http.Request, err error) {
	result := "failed"
	switch {
	case errors.Is(err, errClient):
		result = "broken_off"
	case errors.Is(err, errBusy):
		result = "busy"
	case errors.Is(err, audit.ErrPushback):
		result = "pushback"
	}
	c.metrics.batches.WithLabelValues(result).Inc()
	c.cfg.Logger.WarnContext(req.Context(), "not_durable", "result", result, "error", err)
	w.Header().Set("Retry-After", retryAfter)
	// The rest of a body that nobody reads is not worth the connection.
	w.Header().Set("Connection", "close")
	http.Error(w, "cannot make audit events durable now: "+result, http.StatusServiceUnavailable)
}
