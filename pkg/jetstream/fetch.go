package jetstream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdfast-dev/holdfast/pkg/audit"
)

const (
	// fetchTarget is when Fetch stops collecting, in bytes. With the four messages that were
	// asked for last it returns at most 8 + 4 × 8 MiB.
	fetchTarget = 8 << 20
	// fetchAtOnce is how many messages are asked for at once after the first.
	fetchAtOnce = 4
	// fetchMost bounds the messages of one Fetch.
	fetchMost = 32
)

// Fetch waits for at most wait until there is a message, and returns it with those that are
// there already. No message in time is an empty result, no error. An error means that the
// server could not be asked; messages that were handed out come again after Config.AckWait.
func (l *Log) Fetch(ctx context.Context, wait time.Duration) ([]audit.Delivery, error) {
	l.mu.Lock()
	consumer, notReady := l.consumer, l.notReady
	l.mu.Unlock()
	if notReady != nil {
		return nil, notReady
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	first, err := consumer.Fetch(1, jetstream.FetchContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("jetstream: fetching: %w", err)
	}
	out, size, err := drain(first, nil)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	for size < fetchTarget && len(out) < fetchMost {
		more, err := consumer.FetchNoWait(fetchAtOnce)
		if err != nil {
			break // what is there is worth returning
		}
		before, n := len(out), 0
		out, n, err = drain(more, out)
		size += n
		if err != nil || len(out) < before+fetchAtOnce {
			break
		}
	}
	return out, nil
}

func drain(batch jetstream.MessageBatch, out []audit.Delivery) ([]audit.Delivery, int, error) {
	size := 0
	for m := range batch.Messages() {
		meta, err := m.Metadata()
		if err != nil {
			return out, size, fmt.Errorf("jetstream: message without metadata: %w", err)
		}
		size += len(m.Data())
		out = append(out, audit.Delivery{
			Data: m.Data(), StoredAt: meta.Timestamp, Attempt: meta.NumDelivered,
			Ack: func(context.Context) error { return m.Ack() },
			Nak: m.NakWithDelay,
		})
	}
	err := batch.Error()
	if errors.Is(err, nats.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, jetstream.ErrNoMessages) || err == nil {
		return out, size, nil
	}
	if len(out) > 0 {
		return out, size, nil
	}
	return nil, 0, fmt.Errorf("jetstream: fetching: %w", err)
}
