package e2e

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/e2e/local"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/kube"
)

// TestActivity: replicas write when an agent was last active, with the rights of Holdfast's
// own account, and never take a time back but one that cannot be.
func TestActivity(t *testing.T) {
	c := up(t, func(config *local.Config) { config.NoEvidence = true })
	c.own(t)
	own, err := c.run.Client(filepath.Join(c.info.Dir, "data", "holdfast", "webhook.kubeconfig"))
	if err != nil {
		t.Fatal(err)
	}
	// Nobody is this agent, so that the webhook itself has nothing to write about it.
	const idle = "idle"
	c.apply(t, "apiVersion: holdfast.dev/v1alpha1\nkind: Agent\nmetadata: {name: idle}\nspec: {subjects: [{kind: User, name: nobody-is-this}]}\n")
	c.must(t, admin, "wait", "--for=condition=Compiled", "--timeout=20s", "agent/"+idle)
	base := time.Now().Truncate(time.Second)
	replica := func(offset time.Duration) (a *kube.Activity, clock *atomic.Int64) {
		clock = &atomic.Int64{}
		clock.Store(base.Add(offset).Unix())
		a = kube.NewActivity(kube.ActivityConfig{
			Client: own, Log: slog.New(slog.NewTextHandler(testLog{t}, nil)),
			Now: func() time.Time { return time.Unix(clock.Load(), 0) }, Every: 600 * time.Millisecond,
		})
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		go func() { _ = a.Start(ctx) }() // it returns no error
		return a, clock
	}
	stored := func() time.Duration {
		var agent v1alpha1.Agent
		if err := own.Get(context.Background(), client.ObjectKey{Name: idle}, &agent); err != nil {
			t.Fatal(err)
		}
		if agent.Status.LastActivity == nil {
			return -1
		}
		return agent.Status.LastActivity.Sub(base)
	}
	becomes := func(name string, want time.Duration) {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for got := stored(); got != want; got = stored() {
			if time.Now().After(deadline) {
				t.Fatalf("%s: it is %s after the base, want %s", name, got, want)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	stays := func(name string, want time.Duration) {
		t.Helper()
		time.Sleep(time.Second) // ten times as long as it takes to look
		if got := stored(); got != want {
			t.Errorf("%s: it is %s after the base, want %s", name, got, want)
		}
	}
	first, clock := replica(0)
	stays("nobody was active", -1)
	first.Saw(idle)
	first.Saw("no-such-agent")
	becomes("the first activity", 0)

	// Its clock stands still: no time passes, and nothing may be written again.
	first.Saw(idle)
	stays("within the interval", 0)
	clock.Store(base.Add(10 * time.Second).Unix())
	first.Saw(idle)
	becomes("later", 10*time.Second)

	behind, _ := replica(5 * time.Second)
	behind.Saw(idle)
	stays("a replica whose clock is behind", 10*time.Second)

	var agent v1alpha1.Agent
	if err := own.Get(context.Background(), client.ObjectKey{Name: idle}, &agent); err != nil {
		t.Fatal(err)
	}
	wrong := agent.DeepCopy()
	wrong.Status.LastActivity = &metav1.Time{Time: base.Add(24 * time.Hour)}
	if err := own.Status().Patch(context.Background(), wrong, client.MergeFrom(&agent)); err != nil {
		t.Fatal(err)
	}
	clock.Store(base.Add(20 * time.Second).Unix())
	first.Saw(idle)
	becomes("after a clock that was a day ahead", 20*time.Second)

	if conditions := c.must(t, admin, "get", "agent", idle, "-o", "jsonpath={.status.conditions[*].type}"); conditions == "" {
		t.Error("the rest of the status is gone")
	}
}
