package collector

import (
	"context"
	"time"

	"github.com/holdfast-dev/holdfast/pkg/audit"
)

const (
	// fetchWait is how long one look into the log takes when it is empty.
	fetchWait = 2 * time.Second
	// backoffMin and backoffMax bound the wait after a failure.
	backoffMin = 250 * time.Millisecond
	backoffMax = 5 * time.Second
	// writeWithin bounds one transaction. The log hands messages out again after 30 s.
	writeWithin = 25 * time.Second
)

// move carries messages from the log into the database until ctx ends.
func (c *Collector) move(ctx context.Context) {
	wait := backoffMin
	for ctx.Err() == nil {
		err := c.moveOnce(ctx)
		if err == nil {
			wait = backoffMin
			continue
		}
		if ctx.Err() != nil {
			return
		}
		c.metrics.moveErrors.Inc()
		c.cfg.Logger.WarnContext(ctx, "mover_waits", "error", err, "wait", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, backoffMax)
	}
}

func (c *Collector) moveOnce(ctx context.Context) error {
	if !c.migrated.Load() {
		if err := c.cfg.Store.Migrate(ctx); err != nil {
			return err
		}
		c.migrated.Store(true)
		c.cfg.Logger.InfoContext(ctx, "schema_ready")
	}
	deliveries, err := c.cfg.Log.Fetch(ctx, fetchWait)
	if err != nil || len(deliveries) == 0 {
		return err
	}
	batches := make([]audit.Batch, len(deliveries))
	for i, d := range deliveries {
		batches[i] = c.unpack(ctx, d)
		if d.Attempt > 1 {
			c.metrics.redelivered.Inc()
		}
	}
	begin := time.Now()
	write, cancel := context.WithTimeout(ctx, writeWithin)
	defer cancel()
	written, err := c.cfg.Store.Write(write, batches)
	c.metrics.storeSeconds.Observe(time.Since(begin).Seconds())
	if err != nil {
		c.giveBack(ctx, deliveries)
		return err
	}
	c.metrics.stored.Add(float64(written.Stored))
	c.metrics.duplicates.Add(float64(written.Duplicates))
	c.metrics.decisions.Add(float64(written.Decisions))
	c.metrics.quarantineRows.Add(float64(written.Quarantined))
	failpoint("committed")
	for _, d := range deliveries {
		if err := d.Ack(ctx); err != nil {
			return err // it comes again, and lands once
		}
	}
	c.metrics.lastStored.SetToCurrentTime()
	return nil
}

// unpack makes a quarantine entry of a message that another version wrote. It was redacted
// before it was published, so it is kept whole.
func (c *Collector) unpack(ctx context.Context, d audit.Delivery) audit.Batch {
	b, err := audit.Unpack(d.Data)
	if err != nil {
		c.cfg.Logger.ErrorContext(ctx, "message_not_understood", "error", err)
		q := c.quarantine("message of another version", payload{data: d.Data, length: int64(len(d.Data))})
		q.Event = d.Data
		b = audit.Batch{Quarantine: []audit.Quarantine{q}}
	}
	b.ReceivedAt = d.StoredAt
	return b
}

// giveBack returns messages to the log, later the more often they have failed.
func (c *Collector) giveBack(ctx context.Context, deliveries []audit.Delivery) {
	for _, d := range deliveries {
		delay := backoffMin << min(d.Attempt, 6)
		if err := d.Nak(min(delay, backoffMax)); err != nil {
			c.cfg.Logger.WarnContext(ctx, "not_given_back", "error", err)
			return // without our word they come again after 30 s
		}
	}
}
