package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/holdfast-dev/holdfast/cmd/internal/keyfile"
	"github.com/holdfast-dev/holdfast/pkg/agent"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/engine"
	"github.com/holdfast-dev/holdfast/pkg/kube"
	"github.com/holdfast-dev/holdfast/webhook/admission"
	"github.com/holdfast-dev/holdfast/webhook/registration"
	"github.com/holdfast-dev/holdfast/webhook/testimony"
)

// assemble puts the webhook together, and returns what has to run.
func (c *serveConfig) assemble(ctx context.Context, mgr manager.Manager, log *slog.Logger) ([]manager.Runnable, error) {
	watched, err := readNet(c.netFile)
	if err != nil {
		return nil, err
	}
	server, err := c.server()
	if err != nil {
		return nil, err
	}
	decider := engine.New(engine.Config{})
	statuses := kube.NewStatusWriter(mgr.GetClient(), watched, log)
	loader := kube.NewLoader(kube.LoaderConfig{Cache: mgr.GetCache(), Load: decider.Load, Loaded: statuses.Offer, Log: log})
	// Namespaces are watched from the start: the first decision that needs one must not
	// wait for the first list of them.
	if _, err := mgr.GetCache().GetInformer(ctx, &corev1.Namespace{}); err != nil {
		return nil, fmt.Errorf("watch namespaces: %w", err)
	}
	cluster, err := clusterID(ctx, mgr.GetAPIReader())
	if err != nil {
		return nil, err
	}
	tell, err := c.notify.tasks(mgr, log, cluster)
	if err != nil {
		return nil, err
	}
	book, err := c.ledger(mgr, log, tell...)
	if err != nil {
		return nil, err
	}
	facts := factsOf(decider)
	if err := errors.Join(kube.Index(ctx, mgr.GetFieldIndexer()), kube.NewReviews(book.ledger, facts).SetupWithManager(mgr)); err != nil {
		return nil, err
	}
	reads, err := newReads(ctx, mgr, decider, log)
	if err != nil {
		return nil, err
	}
	activity := kube.NewActivity(kube.ActivityConfig{Client: mgr.GetClient(), Log: log})
	runnables := []manager.Runnable{server, book.ledger, book.leader, loader, statuses, activity, reads.Grants, health(c.healthListen, c.listen, decider)}
	var traces *admission.Traces
	if c.trustTraces {
		var prober manager.Runnable
		if traces, prober, err = newTraces(ctx, mgr, log); err != nil {
			return nil, err
		}
		runnables = append(runnables, prober)
	}
	hooks := &hooks{config: c, mgr: mgr, log: log, decider: decider, book: book, net: watched, traces: traces, saw: activity.Saw, reads: reads}
	return runnables, hooks.register(server, cluster)
}

// hooks are what the API server, and the collector, call.
type hooks struct {
	config  *serveConfig
	mgr     manager.Manager
	log     *slog.Logger
	decider *engine.Engine
	book    *book
	net     *agent.Net
	traces  *admission.Traces
	// saw is told which Agent has made a request.
	saw func(agent string)
	// reads is what the authorizer looks up, and grants.
	reads *reads
}

func (h *hooks) register(server webhook.Server, cluster string) error {
	counters, err := admission.NewMetrics(metrics.Registry)
	if err != nil {
		return fmt.Errorf("register metrics: %w", err)
	}
	holder, err := newHolder(h.config, cluster, h.book)
	if err != nil {
		return err
	}
	own := admission.OwnConfig{
		IsAgent: h.decider.IsAgent, Facts: factsOf(h.decider), AccessRequest: lookUp(h.mgr.GetAPIReader()), Gone: h.book.objects.Gone,
		Asks: h.decider, Room: h.book.ledger.Reserve, Net: h.net,
	}
	key, err := keyfile.Decision(h.config.keyDecision)
	if err != nil {
		return err
	}
	for path, hook := range map[string]admission.Config{
		registration.GuardPath: {Webhook: decision.GuardWebhook, Judge: admission.Guard(admission.GuardConfig{
			Engine: h.decider, Objects: h.book.objects, Hold: holder, Saw: h.saw,
			Namespaces: h.reads.Namespaces, Confirm: h.reads.Confirm, Permitted: h.reads.Permitted,
		})},
		registration.OwnPath:   {Webhook: decision.OwnWebhook, Judge: admission.Own(own)},
		registration.StampPath: {Webhook: decision.StampWebhook, Judge: admission.Stamp(own)},
	} {
		hook.Metrics, hook.Log, hook.Traces, hook.Key = counters, h.log, h.traces, key
		server.Register(path, admission.NotBy(h.config.collectorName, admission.NewHandler(hook)))
	}
	authorize, err := h.authorizer(key)
	if err != nil {
		return err
	}
	server.Register(registration.AuthorizePath, admission.NotBy(h.config.collectorName, authorize))
	server.Register(registration.TestimonyPath, testimony.NewHandler(h.book.ledger, h.config.collectorName, h.log))
	return nil
}
