package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/holdfast-dev/holdfast/e2e/load"
	"github.com/holdfast-dev/holdfast/e2e/local"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

const (
	// namespace is where everything is written.
	namespace = "bench"
	// patience is how long anything but a build may take.
	patience = 30 * time.Second
)

// Prefixes of the names of what the agent creates say what becomes of it: what no rule
// matches is allowed.
const (
	waitsInline = "inline-" // held, and the call waits
	heldAtOnce  = "held-"   // held, and answered at once
	denied      = "denied-"
	allowed     = "allowed-"
	flooded     = "flood-" // held, and the call waits
)

// plane is a control plane with Holdfast on it, and those who take part.
type plane struct {
	run *local.Local
	// admin may do everything.
	admin client.WithWatch
	// configs are those of agent, human, approver and worker, a service account that is no
	// agent.
	configs map[string]*rest.Config
	// requests follows the AccessRequests.
	requests *follower
}

// clusterFigures measures what only a whole control plane shows, by the clock, one request at
// a time but for the flood.
func clusterFigures() (figures []Figure, err error) {
	ctrllog.SetLogger(logr.Discard())
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	dir, err := os.MkdirTemp("", "holdfast-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	run, err := local.Up(ctx, local.Config{
		Dir: dir, Guard: true, NoEvidence: true, Policies: "none", Progress: os.Stderr,
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel() // the API server would wait for the watches before it stops
		err = errors.Join(err, run.Down(context.WithoutCancel(ctx)))
	}()
	p := &plane{run: run}
	if err := p.prepare(ctx); err != nil {
		return nil, err
	}
	for _, measure := range []func(context.Context, *plane) ([]Figure, error){holdRelease, heldRequest, redeem, read, flood} {
		measured, err := measure(ctx, p)
		if err != nil {
			return nil, err
		}
		figures = append(figures, measured...)
	}
	return figures, nil
}

// prepare makes clients, accounts, the namespace and the policy.
func (p *plane) prepare(ctx context.Context) error {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}
	info := p.run.Info()
	p.configs = map[string]*rest.Config{}
	for who, path := range map[string]string{
		"admin": info.AdminKubeconfig, "agent": info.AgentKubeconfig, "human": info.HumanKubeconfig, "approver": info.ApproverKubeconfig,
	} {
		config, err := clientcmd.BuildConfigFromFlags("", path)
		if err != nil {
			return err
		}
		config.QPS = -1
		p.configs[who] = config
	}
	var err error
	if p.admin, err = client.NewWithWatch(p.configs["admin"], client.Options{Scheme: scheme}); err != nil {
		return err
	}
	if err := p.makeWorker(ctx); err != nil {
		return err
	}
	if err := p.admin.Create(ctx, benchPolicy()); err != nil {
		return err
	}
	if err := until(ctx, "the policy is in force", func() (bool, error) {
		var now v1alpha1.AgentPolicy
		if err := p.admin.Get(ctx, client.ObjectKey{Name: "bench"}, &now); err != nil {
			return false, err
		}
		for _, c := range now.Status.Conditions {
			if c.Type == v1alpha1.ConditionCompiled {
				return c.Status == metav1.ConditionTrue, nil
			}
		}
		return false, nil
	}); err != nil {
		return err
	}
	p.requests, err = follow(ctx, p.admin, &v1alpha1.AccessRequestList{}, func(o client.Object) string {
		if r, ok := o.(*v1alpha1.AccessRequest); ok && len(r.Spec.Access.Names) == 1 {
			return r.Spec.Access.Names[0]
		}
		return ""
	})
	return err
}

// makeWorker makes a service account that may write and is no agent.
func (p *plane) makeWorker(ctx context.Context) error {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "worker"}}
	for _, object := range []client.Object{
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}},
		account,
		&rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "worker"},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "edit"},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: "worker"}},
		},
	} {
		if err := p.admin.Create(ctx, object); err != nil {
			return err
		}
	}
	token := &authenticationv1.TokenRequest{}
	if err := p.admin.SubResource("token").Create(ctx, account, token); err != nil {
		return err
	}
	config := rest.AnonymousClientConfig(p.configs["human"])
	config.BearerToken = token.Status.Token
	p.configs["worker"] = config
	return nil
}

// benchPolicy has a rule for each prefix.
func benchPolicy() *v1alpha1.AgentPolicy {
	rule := func(prefix string, action v1alpha1.Action, wait time.Duration) v1alpha1.Rule {
		return v1alpha1.Rule{
			Name: prefix + "rule", Action: action, Wait: &metav1.Duration{Duration: wait},
			Match: v1alpha1.Match{
				Verbs: []v1alpha1.Pattern{"create"}, APIGroups: []v1alpha1.Pattern{""}, Resources: []v1alpha1.Pattern{"configmaps"},
				Names: []v1alpha1.Pattern{v1alpha1.Pattern(prefix + "*")},
			},
		}
	}
	deny := rule(denied, v1alpha1.Deny, 0)
	deny.Wait = nil
	return &v1alpha1.AgentPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "bench"},
		Spec: v1alpha1.AgentPolicySpec{Agents: []v1alpha1.Pattern{"*"}, Rules: []v1alpha1.Rule{
			rule(waitsInline, v1alpha1.Hold, 2*time.Minute), rule(heldAtOnce, v1alpha1.Hold, 0), deny, rule(flooded, v1alpha1.Hold, 2*time.Minute),
		}},
	}
}

// approve sends an approver's Review.
func approve(ctx context.Context, approver *load.Conn, request string) error {
	review := map[string]any{
		"apiVersion": v1alpha1.GroupVersion.String(), "kind": "Review", "metadata": map[string]any{"generateName": "review-"},
		"spec": map[string]any{"accessRequest": request, "verdict": v1alpha1.Approve},
	}
	a, err := approver.Send(ctx, time.Now(), http.MethodPost, "/apis/"+v1alpha1.GroupVersion.String()+"/reviews", review)
	if err == nil && !a.OK() {
		err = fmt.Errorf("approve %s: %d %s", request, a.Code, a.Status.Message)
	}
	return err
}

// until asks until the answer is yes.
func until(ctx context.Context, what string, ask func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		yes, err := ask()
		if yes {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: not within %s: %w", what, patience, errors.Join(ctx.Err(), err))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// follower keeps what a watch has seen last, by a key.
type follower struct {
	mu      sync.Mutex
	last    map[string]seen
	changed chan struct{}
}

// seen is an object and when the watch brought it.
type seen struct {
	object client.Object
	at     time.Time
}

// follow watches until the context ends.
func follow(ctx context.Context, c client.WithWatch, list client.ObjectList, key func(client.Object) string, options ...client.ListOption) (*follower, error) {
	watcher, err := c.Watch(ctx, list, options...)
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	f := &follower{last: map[string]seen{}, changed: make(chan struct{})}
	go func() {
		defer watcher.Stop()
		for event := range watcher.ResultChan() {
			at := time.Now()
			object, ok := event.Object.(client.Object)
			if !ok {
				continue
			}
			f.mu.Lock()
			f.last[key(object)] = seen{object, at}
			close(f.changed)
			f.changed = make(chan struct{})
			f.mu.Unlock()
		}
	}()
	return f, nil
}

// await returns when an object has been seen that is as wanted.
func (f *follower) await(ctx context.Context, key string, want func(client.Object) bool) (seen, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		f.mu.Lock()
		s, ok := f.last[key]
		changed := f.changed
		f.mu.Unlock()
		if ok && want(s.object) {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return seen{}, fmt.Errorf("wait for %s: %w", key, ctx.Err())
		case <-changed:
		}
	}
}

// awaitRequest returns the name of the AccessRequest for an object once it is in a phase.
func (p *plane) awaitRequest(ctx context.Context, object string, phase v1alpha1.Phase) (string, error) {
	s, err := p.requests.await(ctx, object, func(o client.Object) bool {
		r, ok := o.(*v1alpha1.AccessRequest)
		return ok && r.Status.Phase == phase
	})
	if err != nil {
		return "", err
	}
	return s.object.GetName(), nil
}
