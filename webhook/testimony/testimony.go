// Package testimony takes what the collector has seen in the audit stream: how API requests
// ended that an approval let pass, and which Reviews were made under impersonation.
//
// Nothing rests on it: it speeds up what the ledger finds out by itself, and it can only take
// away what a Review said. It takes it from the collector's certificate and from nobody else,
// and it answers for no decision.
package testimony

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

const (
	// maxBody bounds a call, in bytes: a thousand entries of names that have 253 characters at
	// most.
	maxBody = 2 << 20
	// MaxEntries bounds what one call says.
	MaxEntries = 1000
)

// Ledger acts on what is said.
type Ledger interface {
	// Settle takes the HTTP status of the API request in which a decision let an
	// AccessRequest pass. What proves nothing changes nothing.
	Settle(ctx context.Context, accessRequest, decisionID string, status int) error
	// Void marks a Review as one that does not count, and why.
	Void(ctx context.Context, review, why string) error
}

// Handler is the HTTP handler. It answers 204 when all has been acted on, 400 for what is no
// testimony, 403 to everybody but the collector, and 503 where something has to be said again.
type Handler struct {
	ledger Ledger
	client string
	log    *slog.Logger
}

// NewHandler returns a handler. client is the common name of the collector's certificate; the
// server MUST have verified it.
func NewHandler(l Ledger, client string, log *slog.Logger) *Handler {
	return &Handler{ledger: l, client: client, log: log}
}

// ServeHTTP implements http.Handler.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.TLS == nil || len(r.TLS.VerifiedChains) == 0 || r.TLS.VerifiedChains[0][0].Subject.CommonName != h.client {
		http.Error(w, "only the collector may testify", http.StatusForbidden)
		return
	}
	if r.Method != http.MethodPost {
		http.Error(w, "want POST", http.StatusMethodNotAllowed)
		return
	}
	t, err := decode(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := h.act(r.Context(), t); err != nil {
		h.log.WarnContext(r.Context(), "testimony_not_acted_on", "error", err)
		http.Error(w, "not acted on; say it again", http.StatusServiceUnavailable)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

// decode reads a Testimony and nothing else; its errors quote nothing.
func decode(body io.Reader) (*decision.Testimony, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, errors.New("the body broke off")
	}
	if len(data) > maxBody {
		return nil, fmt.Errorf("the body has more than %d bytes", maxBody)
	}
	var t decision.Testimony
	if err := json.Unmarshal(data, &t); err != nil {
		return nil, errors.New("the body is no testimony in JSON")
	}
	if t.Len() > MaxEntries {
		return nil, fmt.Errorf("%d entries: want at most %d", t.Len(), MaxEntries)
	}
	return &t, nil
}

func (h *Handler) act(ctx context.Context, t *decision.Testimony) error {
	var errs []error
	for _, o := range t.Outcomes {
		errs = append(errs, h.ledger.Settle(ctx, o.AccessRequest, o.DecisionID, o.Status))
	}
	for _, i := range t.Impersonated {
		h.log.WarnContext(ctx, "review_under_impersonation", "review", i.Review, "by", i.By, "as", i.As)
		errs = append(errs, h.ledger.Void(ctx, i.Review, fmt.Sprintf("%q made it in the name of %q", i.By, i.As)))
	}
	return errors.Join(errs...)
}
