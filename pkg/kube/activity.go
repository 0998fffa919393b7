package kube

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

const (
	// activityBatch is how many agents are written about in one go: 100 every ten seconds,
	// one after the other, so that approvals, which are written by the same client, do not
	// wait behind them.
	activityBatch = 100
	// clockSkew is by how much the clocks of replicas may differ. A time that lies further
	// ahead was written by a clock that was wrong, and is the only one that is taken back.
	clockSkew = 5 * time.Minute
)

// Activity writes into the statuses of Agents when they were last active. Every replica runs
// one, for what it has seen itself; together they keep the latest.
type Activity struct {
	client client.Client
	log    *slog.Logger
	now    func() time.Time
	every  time.Duration

	mu sync.Mutex
	// seen is what has not been written yet, and written when this replica last wrote, by
	// the names of Agents.
	seen, written map[string]time.Time
}

// ActivityConfig has no optional fields but Now and Every.
type ActivityConfig struct {
	// Client reads Agents, and patches their statuses.
	Client client.Client
	Log    *slog.Logger
	// Now is the clock. Default: time.Now.
	Now func() time.Time
	// Every is how often one replica writes about one Agent at most. Default: a minute.
	Every time.Duration
}

// NewActivity returns an Activity; Start writes what it is told.
func NewActivity(c ActivityConfig) *Activity {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Every <= 0 {
		c.Every = time.Minute
	}
	return &Activity{
		client: c.Client, log: c.Log, now: c.Now, every: c.Every,
		seen: map[string]time.Time{}, written: map[string]time.Time{},
	}
}

// Saw notes that the Agent of that name has just been active. It does no I/O, and what it
// keeps is bounded by the number of Agents there are.
func (a *Activity) Saw(agent string) {
	now := a.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.seen[agent] = now
}

// NeedLeaderElection implements controller-runtime's LeaderElectionRunnable.
func (a *Activity) NeedLeaderElection() bool { return false }

// Start writes until the context ends. What was seen since the last writing is then lost: it
// is a minute at most.
func (a *Activity) Start(ctx context.Context) error {
	tick := time.NewTicker(a.every / 6)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			a.flush(ctx)
		}
	}
}

func (a *Activity) flush(ctx context.Context) {
	for name, at := range a.due() {
		done, err := a.write(ctx, name, at)
		if err != nil && ctx.Err() == nil {
			a.log.WarnContext(ctx, "activity_not_written", "agent", name, "error", err)
		}
		if done {
			a.forget(name, at)
		}
	}
}

// due is what may be written now, at most activityBatch of it.
func (a *Activity) due() map[string]time.Time {
	now := a.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	for name, at := range a.written {
		if now.Sub(at) >= a.every {
			delete(a.written, name)
		}
	}
	due := map[string]time.Time{}
	for name, at := range a.seen {
		if _, lately := a.written[name]; !lately && len(due) < activityBatch {
			due[name] = at
		}
	}
	return due
}

func (a *Activity) forget(name string, at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.seen[name].Equal(at) {
		delete(a.seen, name)
	}
}

// write writes a time into an Agent's status, unless a later one is there. done is false
// where that has to be tried again.
func (a *Activity) write(ctx context.Context, name string, at time.Time) (done bool, err error) {
	var agent v1alpha1.Agent
	err = a.client.Get(ctx, client.ObjectKey{Name: name}, &agent)
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("read Agent %s: %w", name, err)
	}
	at = at.Truncate(time.Second) // as it is stored
	now := a.now()
	if last := agent.Status.LastActivity; last != nil && last.Sub(now) <= clockSkew {
		switch {
		case !at.After(last.Time):
			return true, nil
		case now.Sub(last.Time) < a.every:
			return false, nil // another replica has just written
		}
	}
	updated := agent.DeepCopy()
	updated.Status.LastActivity = &metav1.Time{Time: at}
	// On what was read alone: two replicas do not overwrite the later time with the earlier.
	patch := client.MergeFromWithOptions(&agent, client.MergeFromWithOptimisticLock{})
	err = a.client.Status().Patch(ctx, updated, patch)
	switch {
	case apierrors.IsNotFound(err):
		return true, nil
	case apierrors.IsConflict(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("write into the status of Agent %s: %w", name, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.written[name] = now
	return true, nil
}
