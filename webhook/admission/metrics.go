package admission

import (
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// Metrics of the admission webhook. Labels are bounded: names of webhooks, actions, reasons
// and HTTP statuses.
type Metrics struct {
	decisions *prometheus.CounterVec
	failures  *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
}

// NewMetrics registers the metrics of the admission webhook.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		decisions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_admission_decisions_total",
			Help: "Decisions by webhook, action and reason.",
		}, []string{"webhook", "action", "reason"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_admission_failures_total",
			Help: "Calls that were answered with an HTTP error instead of a decision, by webhook and status.",
		}, []string{"webhook", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "holdfast_admission_duration_seconds",
			Help:    "Time from a call's headers to its decision.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10},
		}, []string{"webhook"}),
	}
	for _, c := range []prometheus.Collector{m.decisions, m.failures, m.seconds} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) decided(webhook string, d decision.Decision, took time.Duration) {
	if m == nil {
		return
	}
	m.decisions.WithLabelValues(webhook, d.Action.String(), string(d.Reason)).Inc()
	m.seconds.WithLabelValues(webhook).Observe(took.Seconds())
}

func (m *Metrics) failed(webhook string, status int) {
	if m == nil {
		return
	}
	m.failures.WithLabelValues(webhook, strconv.Itoa(status)).Inc()
}
