package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Leader runs what one replica at a time has to do. Unlike controller-runtime's own election
// it does not end the process when it loses the lease: a webhook that goes away with every
// hiccup of the API server would stop all agents.
type Leader struct {
	lock  resourcelock.Interface
	tasks []func(context.Context) error
	log   *slog.Logger
}

// The lease's times are those of Kubernetes' own components.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// NewLeader returns a Leader with the Lease of that name. Each task runs from when this
// replica becomes leader until its context ends, and may be run again later.
func NewLeader(config *rest.Config, namespace, name string, log *slog.Logger, tasks ...func(context.Context) error) (*Leader, error) {
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("leader election: %w", err)
	}
	lock, err := resourcelock.NewFromKubeconfig(resourcelock.LeasesResourceLock, namespace, name,
		resourcelock.ResourceLockConfig{Identity: host + "_" + string(uuid.NewUUID())}, rest.CopyConfig(config), renewDeadline)
	if err != nil {
		return nil, fmt.Errorf("leader election: %w", err)
	}
	return &Leader{lock: lock, tasks: tasks, log: log}, nil
}

// NeedLeaderElection implements controller-runtime's LeaderElectionRunnable: it is the
// election.
func (l *Leader) NeedLeaderElection() bool { return false }

// Start stands for election until the context ends.
func (l *Leader) Start(ctx context.Context) error {
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: l.lock, LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: retryPeriod,
		ReleaseOnCancel: true, Name: "holdfast-webhook",
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: l.lead,
			OnStoppedLeading: func() { l.log.InfoContext(ctx, "stopped_leading") },
		},
	})
	if err != nil {
		return fmt.Errorf("leader election: %w", err)
	}
	for ctx.Err() == nil {
		elector.Run(ctx)
	}
	return nil
}

// lead runs the tasks, again where one fails, until the context ends.
func (l *Leader) lead(ctx context.Context) {
	l.log.InfoContext(ctx, "started_leading")
	for ctx.Err() == nil {
		group, ctx := errgroup.WithContext(ctx)
		for _, task := range l.tasks {
			group.Go(func() error { return task(ctx) })
		}
		if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
			l.log.ErrorContext(ctx, "leader_task_failed", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryPeriod):
		}
	}
}
