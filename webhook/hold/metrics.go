package hold

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// Metrics of held requests. What becomes of AccessRequests is counted where they are kept. A
// nil Metrics counts nothing.
type Metrics struct {
	waiting prometheus.Gauge
	held    *prometheus.CounterVec
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		waiting: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "holdfast_hold_waiting", Help: "Calls that wait for people at the moment.",
		}),
		held: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_hold_decisions_total",
			Help: "Calls for requests that a policy holds, by what became of them: reason Approved is a request let pass, Pending one that has to come back, any other the cause of a refusal.",
		}, []string{"action", "reason"}),
	}
	for _, c := range []prometheus.Collector{m.waiting, m.held} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) waits(n float64) {
	if m != nil {
		m.waiting.Add(n)
	}
}

func (m *Metrics) decided(d decision.Decision) {
	if m != nil {
		m.held.WithLabelValues(d.Action.String(), string(d.Reason)).Inc()
	}
}
