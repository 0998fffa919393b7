package collector

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// TestTeller: what is told arrives although the webhook is away at first, in calls that it
// takes, and telling never blocks.
func TestTeller(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	got, largest, failures := map[string]bool{}, 0, 2
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if failures > 0 {
			failures--
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		var said decision.Testimony
		if err := json.NewDecoder(r.Body).Decode(&said); err != nil {
			t.Error(err)
		}
		largest = max(largest, said.Len())
		for _, o := range said.Outcomes {
			got[o.DecisionID] = true
		}
		for _, i := range said.Impersonated {
			got[i.Review] = true
		}
		w.WriteHeader(http.StatusNoContent)
	}))
	t.Cleanup(server.Close)
	teller := NewTeller(server.URL, server.Client(), slog.New(slog.DiscardHandler))
	teller.Tell(decision.Testimony{}) // nothing to tell
	var many decision.Testimony
	for i := range tellMost + 7 {
		many.Outcomes = append(many.Outcomes, decision.Outcome{DecisionID: fmt.Sprint(i)})
	}
	many.Impersonated = []decision.Impersonated{{Review: "r"}}
	teller.Tell(many)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { teller.Run(ctx); close(done) }()
	deadline := time.Now().Add(20 * time.Second)
	for testutil.ToFloat64(teller.told) < float64(many.Len()) && time.Now().Before(deadline) {
		time.Sleep(10 * time.Millisecond)
	}
	cancel()
	<-done
	mu.Lock()
	defer mu.Unlock()
	if len(got) != many.Len() || largest > tellMost || testutil.ToFloat64(teller.dropped) != 0 {
		t.Errorf("%d of %d arrived, %d at most in one call, %v dropped", len(got), many.Len(), largest, testutil.ToFloat64(teller.dropped))
	}
}

// TestTellerDrops: with nobody who listens the queue fills, and what is beyond is counted.
func TestTellerDrops(t *testing.T) {
	t.Parallel()
	teller := NewTeller("https://127.0.0.1:1", http.DefaultClient, slog.New(slog.DiscardHandler))
	for range tellQueue + 3 {
		teller.Tell(decision.Testimony{Outcomes: []decision.Outcome{{DecisionID: "D"}}})
	}
	if n := testutil.ToFloat64(teller.dropped); n != 3 {
		t.Errorf("%v dropped, want 3", n)
	}
}
