package kube

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// LedgerMetrics are what becomes of AccessRequests. Each is counted by the replica that moves
// it, so that the sum over all replicas is right. A nil LedgerMetrics counts nothing.
type LedgerMetrics struct {
	opened   prometheus.Counter
	phases   *prometheus.CounterVec
	rearmed  prometheus.Counter
	voided   prometheus.Counter
	decision prometheus.Histogram
	release  prometheus.Histogram
}

// NewLedgerMetrics registers the metrics.
func NewLedgerMetrics(r prometheus.Registerer) (*LedgerMetrics, error) {
	m := &LedgerMetrics{
		opened: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_access_requests_opened_total", Help: "AccessRequests that were opened, for held requests or by agents that ask ahead.",
		}),
		phases: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "holdfast_access_requests_phase_total", Help: "AccessRequests that came to a phase.",
		}, []string{"phase"}),
		rearmed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_access_requests_rearmed_total",
			Help: "Approvals that stand again, because the API request that they let pass had no effect.",
		}),
		voided: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "holdfast_reviews_voided_total", Help: "Reviews that were voided after they had been made.",
		}),
		decision: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "holdfast_access_requests_decision_seconds",
			Help:    "Time from the opening of an AccessRequest to people's decision, approved or denied.",
			Buckets: []float64{1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 4 * 3600, 24 * 3600},
		}),
		release: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "holdfast_access_requests_release_seconds",
			Help:    "Time from the approving Review to the request that it let pass.",
			Buckets: []float64{.5, 1, 2, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600},
		}),
	}
	for _, c := range []prometheus.Collector{m.opened, m.phases, m.rearmed, m.voided, m.decision, m.release} {
		if err := r.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *LedgerMetrics) opens() {
	if m != nil {
		m.opened.Inc()
	}
}

func (m *LedgerMetrics) void() {
	if m != nil {
		m.voided.Inc()
	}
}

// moved counts a status that has been written.
func (m *LedgerMetrics) moved(r *v1alpha1.AccessRequest, before *v1alpha1.AccessRequestStatus, now time.Time) {
	if m == nil || r.Status.Phase == before.Phase {
		return
	}
	m.phases.WithLabelValues(string(r.Status.Phase)).Inc()
	switch {
	case before.Phase == v1alpha1.Pending && (r.Status.Phase == v1alpha1.Approved || r.Status.Phase == v1alpha1.Denied):
		m.decision.Observe(now.Sub(r.CreationTimestamp.Time).Seconds())
	case before.Phase == v1alpha1.Approved && r.Status.Phase == v1alpha1.Redeemed:
		if at := lastReview(&r.Status); !at.IsZero() {
			m.release.Observe(max(now.Sub(at), 0).Seconds())
		}
	case before.Phase == v1alpha1.Redeemed && r.Status.Phase == v1alpha1.Approved:
		m.rearmed.Inc()
	}
}

// lastReview is when the last Review that counts was made, to the second.
func lastReview(s *v1alpha1.AccessRequestStatus) time.Time {
	var last time.Time
	for i := range s.Reviews {
		if c := &s.Reviews[i]; c.Refused == "" && c.Time.After(last) {
			last = c.Time.Time
		}
	}
	return last
}
