// Package kube connects Holdfast to the Kubernetes API: it watches Agents, AgentPolicies
// and Namespaces, hands every consistent set of them to the engine, and writes statuses.
//
// It refuses to let a bad object weaken what is in force: a policy that does not compile
// leaves its last good version standing, and while nothing has been loaded the engine
// denies.
package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"

	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/pkg/agent"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/engine"
	"github.com/holdfast-dev/holdfast/pkg/policy"
)

// settle is how long the loader lets changes gather: a hundred policies applied at once are
// a few loads. It delays a change by no more than that.
const settle = 20 * time.Millisecond

// Loader keeps an engine's state equal to the Agents and AgentPolicies of the cluster.
type Loader struct {
	cache  cache.Cache
	load   func(engine.State)
	loaded func(Snapshot)
	log    *slog.Logger
	dirty  chan struct{}
	// good are the last good versions of the policies, by UID.
	good map[types.UID]version
}

// version is a compiled policy, of the generation that was compiled or refused last.
type version struct {
	generation int64
	policy     *policy.Policy
	err        error
}

// Snapshot is what was loaded, for those who report on it.
type Snapshot struct {
	Agents   []*v1alpha1.Agent
	Policies []LoadedPolicy
	Set      *policy.Set
}

// LoadedPolicy is an AgentPolicy beside what became of it: Err is nil where it compiled.
type LoadedPolicy struct {
	Object *v1alpha1.AgentPolicy
	Err    error
}

// LoaderConfig has no optional fields but Loaded.
type LoaderConfig struct {
	// Cache watches the cluster.
	Cache cache.Cache
	// Load puts a state into force.
	Load func(engine.State)
	// Loaded is called after Load with what was loaded; it must not block.
	Loaded func(Snapshot)
	Log    *slog.Logger
}

// NewLoader returns a loader; Start runs it.
func NewLoader(c LoaderConfig) *Loader {
	if c.Loaded == nil {
		c.Loaded = func(Snapshot) {}
	}
	return &Loader{
		cache: c.Cache, load: c.Load, loaded: c.Loaded, log: c.Log,
		dirty: make(chan struct{}, 1), good: map[types.UID]version{},
	}
}

// NeedLeaderElection implements controller-runtime's LeaderElectionRunnable: every replica
// decides, so every replica loads.
func (l *Loader) NeedLeaderElection() bool { return false }

// Start watches until the context ends. The first load happens after both caches have
// synced, so that a set is never taken for complete before it is.
func (l *Loader) Start(ctx context.Context) error {
	notify := toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { l.mark() },
		UpdateFunc: func(old, changed any) {
			if matters(old, changed) {
				l.mark()
			}
		},
		DeleteFunc: func(any) { l.mark() },
	}
	for _, kind := range []client.Object{&v1alpha1.Agent{}, &v1alpha1.AgentPolicy{}} {
		informer, err := l.cache.GetInformer(ctx, kind)
		if err != nil {
			return fmt.Errorf("watch %T: %w", kind, err)
		}
		if _, err := informer.AddEventHandler(notify); err != nil {
			return fmt.Errorf("watch %T: %w", kind, err)
		}
	}
	if !l.cache.WaitForCacheSync(ctx) {
		return errors.New("the caches did not sync")
	}
	l.mark()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.dirty:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(settle):
		}
		if err := l.reload(ctx); err != nil {
			l.log.ErrorContext(ctx, "load_failed", "error", err)
			l.mark()
		}
	}
}

// matters says whether an object has changed in something that decisions are made by: its
// spec, which its generation counts, or its labels. Statuses are written all the time.
func matters(old, changed any) bool {
	before, ok := old.(client.Object)
	after, too := changed.(client.Object)
	return !ok || !too || before.GetUID() != after.GetUID() || before.GetGeneration() != after.GetGeneration() ||
		!maps.Equal(before.GetLabels(), after.GetLabels())
}

func (l *Loader) mark() {
	select {
	case l.dirty <- struct{}{}:
	default:
	}
}

func (l *Loader) reload(ctx context.Context) error {
	var agents v1alpha1.AgentList
	if err := l.cache.List(ctx, &agents); err != nil {
		return fmt.Errorf("list agents: %w", err)
	}
	var policies v1alpha1.AgentPolicyList
	if err := l.cache.List(ctx, &policies); err != nil {
		return fmt.Errorf("list agent policies: %w", err)
	}
	var s Snapshot
	for i := range agents.Items {
		s.Agents = append(s.Agents, &agents.Items[i])
	}
	compiled := make([]*policy.Policy, 0, len(policies.Items))
	good := make(map[types.UID]version, len(policies.Items))
	for i := range policies.Items {
		object := &policies.Items[i]
		v := l.compile(ctx, object)
		good[object.UID] = v
		if v.policy == nil {
			compiled = append(compiled, policy.Broken(object))
		} else {
			compiled = append(compiled, v.policy)
		}
		s.Policies = append(s.Policies, LoadedPolicy{Object: object, Err: v.err})
	}
	l.good = good
	s.Set = policy.NewSet(compiled)
	l.load(engine.State{Agents: agent.NewSet(s.Agents), Policies: s.Set})
	l.loaded(s)
	return nil
}

// compile compiles what has changed. A policy that does not compile keeps its last good
// version, if there is one.
func (l *Loader) compile(ctx context.Context, p *v1alpha1.AgentPolicy) version {
	last, known := l.good[p.UID]
	if known && last.generation == p.Generation {
		return last
	}
	compiled, err := policy.Compile(p)
	if err != nil {
		l.log.ErrorContext(ctx, "policy_does_not_compile", "policy", p.Name, "generation", p.Generation,
			"last_good", last.policy != nil, "error", err)
		return version{generation: p.Generation, policy: last.policy, err: err}
	}
	return version{generation: p.Generation, policy: compiled}
}
