package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/engine"
	"github.com/holdfast-dev/holdfast/pkg/kube"
	"github.com/holdfast-dev/holdfast/webhook/authorizer"
)

// reads is what the authorizer looks up in the cluster.
type reads struct {
	kube.Namespaces
	kube.Pods
	kube.Permissions
	*kube.APIServices
	*kube.Grants
}

func newReads(ctx context.Context, mgr manager.Manager, decider *engine.Engine, log *slog.Logger) (*reads, error) {
	services, err := kube.NewAPIServices(ctx, mgr.GetCache())
	if err != nil {
		return nil, err
	}
	return &reads{
		Namespaces:  kube.Namespaces{Cached: mgr.GetClient(), Live: mgr.GetAPIReader()},
		Pods:        kube.Pods{Live: mgr.GetAPIReader()},
		Permissions: kube.Permissions{Client: mgr.GetClient()},
		APIServices: services,
		Grants: kube.NewGrants(kube.GrantsConfig{
			Cache: mgr.GetCache(), Live: mgr.GetAPIReader(), Load: decider.LoadGrants, Log: log,
		}),
	}, nil
}

func (h *hooks) authorizer(key *decision.Key) (http.Handler, error) {
	counters, err := authorizer.NewMetrics(metrics.Registry)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	return authorizer.NewHandler(authorizer.Config{
		Engine: h.decider, Cluster: h.reads, Key: key, Metrics: counters, Saw: h.saw, Log: h.log,
	}), nil
}
