package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-dev/holdfast/collector"
	"github.com/holdfast-dev/holdfast/pkg/audit"
	"github.com/holdfast-dev/holdfast/pkg/jetstream"
	"github.com/holdfast-dev/holdfast/pkg/postgres"
)

// faulty loses acknowledgements while it is told to, as a process does that dies between the
// commit and the acknowledgement.
type faulty struct {
	*jetstream.Log
	lose atomic.Bool
	lost atomic.Int64
}

var errDied = errors.New("died before the acknowledgement")

func (f *faulty) Fetch(ctx context.Context, wait time.Duration) ([]audit.Delivery, error) {
	out, err := f.Log.Fetch(ctx, wait)
	for i := range out {
		ack := out[i].Ack
		out[i].Ack = func(ctx context.Context) error {
			if f.lose.Load() {
				f.lost.Add(1)
				return errDied
			}
			return ack(ctx)
		}
	}
	return out, err
}

// assemble builds what serve builds, with a log that can be made to fail.
func (w *world) assemble(t *testing.T) (*faulty, *collector.Collector) {
	t.Helper()
	cfg, err := w.o.collector(t.Context(), slog.Default())
	if err != nil {
		t.Fatal(err)
	}
	log, err := jetstream.Start(t.Context(), jetstream.Config{URL: w.o.natsURL, MaxBytes: w.o.streamMaxBytes, AckWait: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(log.Stop)
	store, err := postgres.Open(t.Context(), postgres.Config{URL: w.o.databaseURL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	f := &faulty{Log: log}
	cfg.Log, cfg.Store, cfg.Registry = f, store, prometheus.NewRegistry()
	c, err := collector.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Stop(context.Background()) })
	return f, c
}

func TestDiesBetweenCommitAndAck(t *testing.T) {
	t.Parallel()
	w := setup(t)
	f, c := w.assemble(t)
	w.ready(t)
	f.lose.Store(true)
	for i := range 5 {
		if got := w.post(t, list(fmt.Sprint("crash", i), 20, nil)); got.code != 200 {
			t.Fatalf("post: got %d", got.code)
		}
	}
	w.wants(t, "SELECT count(*) FROM audit_events", "100")
	w.eventually(t, "acks lost", func() bool { return f.lost.Load() > 0 })
	c.Stop(t.Context())
	f, _ = w.assemble(t) // another process
	w.eventually(t, "stream empty", func() bool {
		return f.State().Messages == 0 && f.Ready() == nil && w.metric("rows_duplicate_total") != "0"
	})
	if got := w.query(t, "SELECT count(*) || '/' || count(DISTINCT audit_id) FROM audit_events"); got != "100/100" {
		t.Errorf("rows: got %s, want 100/100", got)
	}
	if got := w.metric("messages_redelivered_total"); got == "0" || got == "" {
		t.Errorf("messages_redelivered_total: got %q, want some", got)
	}
}

// TestRestartUnderLoad restarts NATS and the collector while a client sends as the API server
// does: until it has its 200.
func TestRestartUnderLoad(t *testing.T) {
	t.Parallel()
	w := setup(t)
	stop := w.serve(t)
	w.ready(t)
	const batches, each = 60, 50
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := range batches {
			body := list(fmt.Sprint("load", i), each, nil)
			for range 200 {
				if code, err := w.tryPost(body); err == nil && code == 200 {
					break
				}
				time.Sleep(50 * time.Millisecond)
			}
		}
	}()
	for range 3 {
		time.Sleep(300 * time.Millisecond)
		w.nats.stop()
		time.Sleep(100 * time.Millisecond)
		w.nats.start(t)
		time.Sleep(200 * time.Millisecond)
		stop()
		stop = w.serve(t)
	}
	<-done
	w.wants(t, "SELECT count(*) || '/' || count(DISTINCT audit_id) FROM audit_events", fmt.Sprintf("%d/%d", batches*each, batches*each))
}
