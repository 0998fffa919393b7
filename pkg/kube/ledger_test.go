package kube

import (
	"context"
	"errors"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// moving is storage in which requests without a status get theirs after every look.
type moving struct {
	client.Reader
	requests []v1alpha1.AccessRequest
}

func (m *moving) List(_ context.Context, list client.ObjectList, options ...client.ListOption) error {
	var o client.ListOptions
	o.ApplyOptions(options)
	want, _ := o.FieldSelector.RequiresExactMatch(phaseField)
	found := list.(*v1alpha1.AccessRequestList) //nolint:errcheck // the ledger lists nothing else
	for i := range m.requests {
		if string(m.requests[i].Status.Phase) == want {
			found.Items = append(found.Items, m.requests[i])
		}
	}
	for i := range m.requests {
		if m.requests[i].Status.Phase == "" {
			m.requests[i].Status.Phase = v1alpha1.Pending
		}
	}
	return nil
}

// A request that gets its first status while the waiting ones are counted counts once: not
// twice, and above all not never.
func TestRoomCountsWhatMoves(t *testing.T) {
	t.Parallel()
	request := func(name, agent string, p v1alpha1.Phase) (r v1alpha1.AccessRequest) {
		r.Name, r.Spec.Agent, r.Status.Phase = name, agent, p
		return r
	}
	for name, test := range map[string]struct {
		own, all int
		want     error
	}{
		"the agent's last place":   {own: 4, all: 9},
		"no place for this agent":  {own: 3, all: 9, want: access.ErrTooManyPending},
		"the last place":           {own: 9, all: 5},
		"no place for anybody":     {own: 9, all: 4, want: access.ErrTooManyPending},
		"no place for more at all": {own: 1, all: 1, want: access.ErrTooManyPending},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := NewLedger(LedgerConfig{MaxPendingAgent: test.own, MaxPending: test.all})
			from := &moving{requests: []v1alpha1.AccessRequest{
				request("a", "bot", v1alpha1.Pending), request("b", "bot", ""), request("c", "bot", ""),
				request("d", "other", ""), request("e", "bot", v1alpha1.Approved),
			}}
			if err := l.room(t.Context(), from, "bot"); !errors.Is(err, test.want) {
				t.Errorf("%v, want %v", err, test.want)
			}
		})
	}
}

// Of agents that ask at the same moment, no more get a place than there are: what the API
// server has not stored yet counts, for as long as it may still be stored.
func TestReserve(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	stored := &moving{requests: []v1alpha1.AccessRequest{{Spec: v1alpha1.AccessRequestSpec{Agent: "bot"}, Status: v1alpha1.AccessRequestStatus{Phase: v1alpha1.Pending}}}}
	l := NewLedger(LedgerConfig{Live: stored, MaxPendingAgent: 3, MaxPending: 4, Now: func() time.Time { return now }})
	for _, test := range []struct {
		agent, name string
		after       time.Duration
		want        error
	}{
		{"bot", "a", 0, nil},
		{"bot", "b", 0, nil},
		{"bot", "b", 0, nil}, // again
		{"bot", "c", 0, access.ErrTooManyPending},
		{"other", "d", 0, nil},
		{"other", "e", 0, access.ErrTooManyPending}, // of all
		{"bot", "c", placeFor, nil},                 // the others never came
	} {
		now = now.Add(test.after)
		if err := l.Reserve(t.Context(), test.agent, test.name); !errors.Is(err, test.want) {
			t.Errorf("%s for %s: %v, want %v", test.name, test.agent, err, test.want)
		}
	}
}
