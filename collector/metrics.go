package collector

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the collector's own, all named holdfast_collector_*.
type metrics struct {
	batches         *prometheus.CounterVec
	eventsReceived  *prometheus.CounterVec
	eventsPublished *prometheus.CounterVec
	quarantined     *prometheus.CounterVec
	redacted        prometheus.Counter
	removed         prometheus.Counter
	publishSeconds  prometheus.Histogram
	stored          prometheus.Counter
	duplicates      prometheus.Counter
	decisions       prometheus.Counter
	unverified      prometheus.Counter
	quarantineRows  prometheus.Counter
	redelivered     prometheus.Counter
	moveErrors      prometheus.Counter
	storeSeconds    prometheus.Histogram
	lastStored      prometheus.Gauge
}

const prefix = "holdfast_collector_"

func newMetrics(reg *prometheus.Registry, c *Collector) *metrics {
	counter := func(name, help string) prometheus.Counter {
		m := prometheus.NewCounter(prometheus.CounterOpts{Name: prefix + name, Help: help})
		reg.MustRegister(m)
		return m
	}
	vec := func(name, label, help string) *prometheus.CounterVec {
		m := prometheus.NewCounterVec(prometheus.CounterOpts{Name: prefix + name, Help: help}, []string{label})
		reg.MustRegister(m)
		return m
	}
	seconds := func(name, help string) prometheus.Histogram {
		m := prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: prefix + name, Help: help,
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
		})
		reg.MustRegister(m)
		return m
	}
	gauge := func(name, help string, value func() float64) {
		reg.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: prefix + name, Help: help}, value))
	}
	gauge("ready", "1 when a payload could be made durable now and the schema is there.",
		func() float64 { return oneIf(c.Ready() == nil) })
	gauge("redaction_enabled", "0 only in a binary that was built to store values as they are.",
		func() float64 { return oneIf(redactionOn) })
	gauge("stream_messages", "Messages in the stream that are not in the database yet.",
		func() float64 { return float64(c.cfg.Log.State().Messages) })
	gauge("stream_bytes", "What they take on disk.",
		func() float64 { return float64(c.cfg.Log.State().Bytes) })
	gauge("stream_max_bytes", "Where the stream begins to refuse.",
		func() float64 { return float64(c.cfg.Log.State().MaxBytes) })
	gauge("oldest_unstored_seconds", "Age of the oldest message that is not in the database yet; 0 when there is none.",
		func() float64 { return ageSeconds(c.cfg.Log.State().Oldest) })
	last := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: prefix + "last_stored_timestamp_seconds", Help: "When messages were last committed and acknowledged.",
	})
	reg.MustRegister(last)
	return &metrics{
		batches:         vec("batches_total", "result", "Payloads by what became of them: stored, quarantined, pushback, busy, broken_off, failed."),
		eventsReceived:  vec("events_received_total", "api_server", "Events that were decoded."),
		eventsPublished: vec("events_published_total", "api_server", "Events that were made durable in the stream."),
		quarantined:     vec("quarantined_total", "reason", "Payloads and items that were quarantined on arrival."),
		redacted:        counter("redacted_values_total", "Values that became digests."),
		removed:         counter("removed_bodies_total", "Bodies, or parts of them, that redaction took out whole."),
		publishSeconds:  seconds("publish_seconds", "From a packed payload to the last acknowledgement of the stream."),
		stored:          counter("rows_stored_total", "New rows of audit_events."),
		duplicates:      counter("rows_duplicate_total", "Events that were in audit_events already."),
		decisions:       counter("decision_rows_stored_total", "New rows of audit_decisions."),
		unverified:      counter("decisions_unverified_total", "Decisions in events that came, under Holdfast's names and without its signature: somebody else's webhook, or another key."),
		quarantineRows:  counter("quarantine_rows_stored_total", "New rows of quarantine."),
		redelivered:     counter("messages_redelivered_total", "Messages that the stream handed out again."),
		moveErrors:      counter("store_errors_total", "Failed attempts to move messages into the database."),
		storeSeconds:    seconds("store_seconds", "Writing what one fetch returned, to the commit."),
		lastStored:      last,
	}
}

func ageSeconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return time.Since(t).Seconds()
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
