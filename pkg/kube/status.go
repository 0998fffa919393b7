package kube

import (
	"context"
	"fmt"
	"log/slog"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/pkg/agent"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// StatusWriter writes into the statuses of Agents and AgentPolicies what was loaded.
// Replicas that write the same do not get into each other's way.
type StatusWriter struct {
	client client.Client
	net    *agent.Net
	log    *slog.Logger
	latest chan Snapshot
}

// NewStatusWriter returns a writer; net is what the API server was told to ask about, or nil
// where that is not known.
func NewStatusWriter(c client.Client, net *agent.Net, log *slog.Logger) *StatusWriter {
	return &StatusWriter{client: c, net: net, log: log, latest: make(chan Snapshot, 1)}
}

// Offer hands over a snapshot and does not block; only the newest is written.
func (w *StatusWriter) Offer(s Snapshot) {
	for {
		select {
		case w.latest <- s:
			return
		default:
		}
		select {
		case <-w.latest:
		default:
		}
	}
}

// NeedLeaderElection implements controller-runtime's LeaderElectionRunnable.
func (w *StatusWriter) NeedLeaderElection() bool { return false }

// Start writes until the context ends.
func (w *StatusWriter) Start(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case s := <-w.latest:
			w.write(ctx, s)
		}
	}
}

func (w *StatusWriter) write(ctx context.Context, s Snapshot) {
	for _, a := range s.Agents {
		updated := a.DeepCopy()
		policies := int32(s.Set.Selecting(a.Name)) //nolint:gosec // bounded by the number of policies
		updated.Status.Policies = &policies
		meta.SetStatusCondition(&updated.Status.Conditions, w.compiledAgent(a))
		meta.SetStatusCondition(&updated.Status.Conditions, w.inNet(a))
		if !equality.Semantic.DeepEqual(a.Status, updated.Status) {
			w.patch(ctx, updated, a)
		}
	}
	for _, p := range s.Policies {
		var agents int32
		for _, a := range s.Agents {
			if p.Object.Selects(a.Name) {
				agents++
			}
		}
		updated := p.Object.DeepCopy()
		updated.Status.Agents = &agents
		meta.SetStatusCondition(&updated.Status.Conditions, compiledPolicy(p))
		if !equality.Semantic.DeepEqual(p.Object.Status, updated.Status) {
			w.patch(ctx, updated, p.Object)
		}
	}
}

func (w *StatusWriter) patch(ctx context.Context, updated, old client.Object) {
	err := w.client.Status().Patch(ctx, updated, client.MergeFrom(old))
	if err != nil && !apierrors.IsNotFound(err) && ctx.Err() == nil {
		w.log.WarnContext(ctx, "status_not_written", "kind", fmt.Sprintf("%T", old), "name", old.GetName(), "error", err)
	}
}

func (w *StatusWriter) compiledAgent(a *v1alpha1.Agent) metav1.Condition {
	if err := agent.Validate(a).ToAggregate(); err != nil {
		return condition(v1alpha1.ConditionCompiled, a.Generation, metav1.ConditionFalse, "Invalid", err.Error())
	}
	return condition(v1alpha1.ConditionCompiled, a.Generation, metav1.ConditionTrue, "InForce", "The subjects are identified as this agent.")
}

func (w *StatusWriter) inNet(a *v1alpha1.Agent) metav1.Condition {
	if w.net == nil {
		return condition(v1alpha1.ConditionInNet, a.Generation, metav1.ConditionUnknown, "NetUnknown",
			"Holdfast was not told which net the API server has (--net-file).")
	}
	missing := w.net.Missing(a)
	if len(missing) == 0 {
		return condition(v1alpha1.ConditionInNet, a.Generation, metav1.ConditionTrue, "Covered", "The API server asks Holdfast about every subject.")
	}
	var names []string
	for _, s := range missing {
		names = append(names, strings.TrimPrefix(fmt.Sprintf("%s %s/%s", s.Kind, s.Namespace, s.Name), "/"))
	}
	return condition(v1alpha1.ConditionInNet, a.Generation, metav1.ConditionFalse, "OutsideNet", fmt.Sprintf(
		"The API server does not ask Holdfast about: %s. Render the registrations again (holdfast-webhook render).", strings.Join(names, ", ")))
}

func compiledPolicy(p LoadedPolicy) metav1.Condition {
	if p.Err != nil {
		return condition(v1alpha1.ConditionCompiled, p.Object.Generation, metav1.ConditionFalse, "Invalid", p.Err.Error())
	}
	return condition(v1alpha1.ConditionCompiled, p.Object.Generation, metav1.ConditionTrue, "InForce",
		fmt.Sprintf("%d rules are in force.", len(p.Object.Spec.Rules)))
}

func condition(kind string, generation int64, status metav1.ConditionStatus, reason, message string) metav1.Condition {
	const longest = 32768
	if len(message) > longest {
		message = message[:longest]
	}
	return metav1.Condition{Type: kind, Status: status, ObservedGeneration: generation, Reason: reason, Message: message}
}
