package collector

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// Bounds of telling.
const (
	// tellQueue is how many testimonies wait to be told; each is of one payload. Beyond, they
	// are dropped and counted: nothing rests on them.
	tellQueue = 1000
	// tellMost is how many entries one call has, which is what the webhook takes.
	tellMost     = 1000
	tellAttempts = 5
	tellTimeout  = 5 * time.Second
	tellBackoff  = 500 * time.Millisecond
)

// Teller tells the webhook what the audit stream says of AccessRequests and Reviews. It never
// holds up audit events: what it cannot tell in time it forgets, and the webhook finds out by
// itself.
type Teller struct {
	url     string
	client  *http.Client
	log     *slog.Logger
	queue   chan decision.Testimony
	told    prometheus.Counter
	dropped prometheus.Counter
}

// NewTeller returns a Teller for a webhook's URL; client has the certificate that the webhook
// knows the collector by. Run tells.
func NewTeller(url string, client *http.Client, log *slog.Logger) *Teller {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
	}
	return &Teller{
		url: url, client: client, log: log, queue: make(chan decision.Testimony, tellQueue),
		told:    counter("testimony_told_total", "Things told to the webhook: ends of requests that were let pass, and Reviews under impersonation."),
		dropped: counter("testimony_dropped_total", "Things that could not be told to the webhook, which finds out by itself later."),
	}
}

// Tell queues a testimony and does not block.
func (t *Teller) Tell(said decision.Testimony) {
	if said.Len() == 0 {
		return
	}
	select {
	case t.queue <- said:
	default:
		t.dropped.Add(float64(said.Len()))
	}
}

// Run tells until the context ends.
func (t *Teller) Run(ctx context.Context) {
	for {
		var said decision.Testimony
		select {
		case <-ctx.Done():
			return
		case said = <-t.queue:
		}
		for said.Len() < tellMost/2 && len(t.queue) > 0 {
			said.Add(<-t.queue)
		}
		t.tell(ctx, said)
	}
}

// tell sends a testimony in calls that the webhook takes.
func (t *Teller) tell(ctx context.Context, said decision.Testimony) {
	for said.Len() > 0 {
		var call decision.Testimony
		n := min(len(said.Outcomes), tellMost)
		call.Outcomes, said.Outcomes = said.Outcomes[:n], said.Outcomes[n:]
		n = min(len(said.Impersonated), tellMost-n)
		call.Impersonated, said.Impersonated = said.Impersonated[:n], said.Impersonated[n:]
		if err := t.call(ctx, call); err != nil {
			t.dropped.Add(float64(call.Len()))
			t.log.WarnContext(ctx, "testimony_not_told", "entries", call.Len(), "error", err)
			continue
		}
		t.told.Add(float64(call.Len()))
	}
}

func (t *Teller) call(ctx context.Context, said decision.Testimony) error {
	body, err := json.Marshal(said)
	if err != nil {
		return fmt.Errorf("encode a testimony: %w", err)
	}
	for attempt := range tellAttempts {
		if attempt > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(tellBackoff << (attempt - 1)):
			}
		}
		if err = t.post(ctx, body); err == nil {
			return nil
		}
	}
	return err
}

func (t *Teller) post(ctx context.Context, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := t.client.Do(request)
	if err != nil {
		return err
	}
	_ = response.Body.Close() // only the status is wanted
	if response.StatusCode != http.StatusNoContent {
		return fmt.Errorf("the webhook answers %s", response.Status)
	}
	return nil
}
