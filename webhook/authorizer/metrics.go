package authorizer

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// Metrics of the authorizer webhook. Labels are bounded: actions, reasons and HTTP statuses.
type Metrics struct {
	decisions *prometheus.CounterVec
	failures  *prometheus.CounterVec
	seconds   prometheus.Histogram
}

// NewMetrics registers the metrics of the authorizer webhook.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_authorizer_decisions_total",
			Help: "Decisions by action and reason; Allow leaves the request to RBAC but for reasons Granted and OwnRequest.",
		}, []string{"action", "reason"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_authorizer_failures_total",
			Help: "Calls that were answered with an HTTP error instead of a decision, by status.",
		}, []string{"status"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "holdfast_authorizer_duration_seconds",
			Help:    "Time from a call's headers to its decision.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
		}),
	}
	for _, c := range []prometheus.Collector{m.decisions, m.failures, m.seconds} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) decided(d decision.Decision, took time.Duration) {
	if m == nil {
		return
	}
	m.decisions.WithLabelValues(d.Action.String(), string(d.Reason)).Inc()
	m.seconds.Observe(took.Seconds())
}

func (m *Metrics) failed(status int) {
	if m == nil {
		return
	}
	m.failures.WithLabelValues(strconv.Itoa(status)).Inc()
}
