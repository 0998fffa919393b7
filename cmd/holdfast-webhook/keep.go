package main

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/pflag"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/holdfast-dev/holdfast/pkg/engine"
	"github.com/holdfast-dev/holdfast/pkg/kube"
)

// keepConfig is what the flags say about keeping AccessRequests.
type keepConfig struct {
	maxPending, maxPendingAgent int
	settleAfter, retention      time.Duration
}

func (c *keepConfig) add(f *pflag.FlagSet) {
	f.IntVar(&c.maxPending, "max-pending", kube.DefaultMaxPending, "AccessRequests that may wait for people at the same time")
	f.IntVar(&c.maxPendingAgent, "max-pending-per-agent", kube.DefaultMaxPendingAgent, "AccessRequests of one Agent that may wait for people at the same time")
	f.DurationVar(&c.settleAfter, "settle-after", kube.DefaultSettleAfter, "how long after an approval was redeemed what came of it is looked for; longer than the API server's --request-timeout")
	f.DurationVar(&c.retention, "retention", kube.DefaultRetention, "how long AccessRequests and their Reviews are kept after their end")
}

func (c *keepConfig) validate() error {
	var errs []error
	if c.maxPending < 1 || c.maxPendingAgent < 1 {
		errs = append(errs, errors.New("--max-pending, --max-pending-per-agent: want at least 1"))
	}
	if c.settleAfter < time.Second || c.settleAfter > time.Hour {
		errs = append(errs, fmt.Errorf("--settle-after %s: want 1s to 1h", c.settleAfter))
	}
	if c.retention < time.Minute {
		errs = append(errs, fmt.Errorf("--retention %s: want at least 1m", c.retention))
	}
	return errors.Join(errs...)
}

// book is where AccessRequests are kept.
type book struct {
	ledger  *kube.Ledger
	objects *kube.Objects
	leader  *kube.Leader
}

// ledger makes the ledger, and who keeps it in order.
func (c *serveConfig) ledger(mgr manager.Manager, log *slog.Logger) (*book, error) {
	if err := c.keep.validate(); err != nil {
		return nil, err
	}
	objects, err := kube.NewObjects(mgr.GetConfig())
	if err != nil {
		return nil, err
	}
	counters, err := kube.NewLedgerMetrics(metrics.Registry)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	ledger := kube.NewLedger(kube.LedgerConfig{
		Cached: mgr.GetCache(), Live: mgr.GetAPIReader(), Client: mgr.GetClient(), Objects: objects,
		MaxPending: c.keep.maxPending, MaxPendingAgent: c.keep.maxPendingAgent, Metrics: counters,
	})
	keeper := kube.NewKeeper(kube.KeeperConfig{Ledger: ledger, Log: log, SettleAfter: c.keep.settleAfter, Retention: c.keep.retention})
	leader, err := kube.NewLeader(mgr.GetConfig(), engine.Namespace, "holdfast-webhook", log, keeper.Run)
	if err != nil {
		return nil, err
	}
	return &book{ledger: ledger, objects: objects, leader: leader}, nil
}
