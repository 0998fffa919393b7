package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/e2e/local/process"
)

// up brings a run up that ends with the test.
func up(t *testing.T, config Config) *Local {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	// Longer than a Unix socket's path may be, and with what a shell and a URL would mind.
	config.Dir = filepath.Join(t.TempDir(), strings.Repeat("long", 30), "it's a dir")
	config.Progress = os.Stderr
	l, err := Up(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := l.Down(ctx); err != nil {
			t.Error(err)
		}
	})
	return l
}

func identitiesOf(t *testing.T, l *Local) []process.Identity {
	t.Helper()
	var ids []process.Identity
	for _, name := range l.Parts() {
		id, err := process.Identify(l.PID(name))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		ids = append(ids, id)
	}
	return ids
}

func configMap(name string) client.Object {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
}

// TestEverything brings everything up, kills and starts parts, and takes it down.
func TestEverything(t *testing.T) {
	t.Parallel()
	l := up(t, Config{Guard: true})
	info := l.Info()
	status, err := Status(t.Context(), info.Dir)
	if err != nil || !status.Up() || len(status.Parts) != len(partNames())-1 {
		t.Fatalf("%+v, %v", status, err)
	}
	webhookKilled(t, l)
	for _, name := range []string{Postgres, NATS, Collector} {
		if err := l.Kill(name); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{Postgres, NATS, Collector} {
		if err := l.Start(t.Context(), name); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "events are in Postgres", func() bool { return rows(t, info.DatabaseURL) > 0 })
	ids := identitiesOf(t, l)
	folders := l.store.get().Remove
	if len(folders) != 1 {
		t.Errorf("folders to remove: %q", folders)
	}
	if err := l.Down(t.Context()); err != nil {
		t.Error(err)
	}
	for _, id := range ids {
		if id.Alive() {
			t.Errorf("process %d is still there", id.PID)
		}
	}
	for _, folder := range folders {
		if _, err := os.Stat(folder); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there", folder)
		}
	}
	if err := l.Down(t.Context()); err != nil {
		t.Errorf("second Down: %v", err)
	}
}

// webhookKilled: agents are stopped while the webhook is dead, people are not.
func webhookKilled(t *testing.T, l *Local) {
	t.Helper()
	agent, err := l.Client(l.Info().AgentKubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	human, err := l.Client(l.Info().HumanKubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	if err := agent.Create(t.Context(), configMap("agent")); err != nil {
		t.Errorf("agent under the baseline: %v", err)
	}
	if err := agent.Delete(t.Context(), configMap("agent"), client.DryRunAll); err == nil || !strings.Contains(err.Error(), "baseline-deletes/hold-delete") {
		t.Errorf("an agent deletes: %v, want the rule of the baseline", err)
	}

	if err := l.Kill(Webhook); err != nil {
		t.Fatal(err)
	}
	if err := agent.Create(t.Context(), configMap("agent-alone")); err == nil {
		t.Error("an agent writes while Holdfast is down")
	}
	if err := human.Create(t.Context(), configMap("human")); err != nil {
		t.Errorf("a person cannot write while Holdfast is down: %v", err)
	}
	if err := l.Start(t.Context(), Webhook); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the agent can write again", func() bool {
		return agent.Create(t.Context(), configMap("agent-again")) == nil
	})
}

func rows(t *testing.T, url string) int {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		return 0
	}
	defer conn.Close(t.Context())
	var n int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM audit_events").Scan(&n); err != nil {
		return 0
	}
	return n
}

// TestGuardOff: the same control plane, nothing of Holdfast, and identities with the rights
// that they are said to have.
func TestGuardOff(t *testing.T) {
	t.Parallel()
	l := up(t, Config{APIServerArgs: []string{"event-ttl=2h"}})
	info := l.Info()
	if got := strings.Join(l.Parts(), " "); got != "etcd kube-apiserver kube-controller-manager" {
		t.Errorf("parts: %s", got)
	}
	if _, err := Up(t.Context(), Config{Dir: info.Dir}); !errors.Is(err, ErrRunning) {
		t.Errorf("second Up: %v", err)
	}
	secrets := func(kubeconfig string) error {
		c, err := l.Client(kubeconfig)
		if err != nil {
			t.Fatal(err)
		}
		return c.List(t.Context(), &corev1.SecretList{})
	}
	for _, kubeconfig := range []string{info.AdminKubeconfig, info.AgentKubeconfig, info.HumanKubeconfig} {
		if err := secrets(kubeconfig); err != nil {
			t.Errorf("%s: %v", kubeconfig, err)
		}
	}
	for _, kubeconfig := range []string{info.ApproverKubeconfig, info.Approver2Kubeconfig} {
		if err := secrets(kubeconfig); !apierrors.IsForbidden(err) {
			t.Errorf("%s: %v, want forbidden", kubeconfig, err)
		}
	}
	// The controllers work: a namespace goes, its service account came.
	admin, err := l.Client(info.AdminKubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "prod"}}
	if err := admin.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	eventually(t, "prod has a service account", func() bool {
		return admin.Get(t.Context(), client.ObjectKey{Namespace: "prod", Name: "default"}, &corev1.ServiceAccount{}) == nil
	})
	if err := admin.Delete(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	eventually(t, "prod is gone", func() bool {
		return apierrors.IsNotFound(admin.Get(t.Context(), client.ObjectKeyFromObject(namespace), namespace))
	})
	if data, err := os.ReadFile(info.AuditLog); err != nil || !strings.Contains(string(data), "/api/v1/namespaces/prod") {
		t.Errorf("audit log: %d bytes, %v", len(data), err)
	}
}

// TestFailureLeavesNothing: a part that cannot start takes the run down, with its own words.
func TestFailureLeavesNothing(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	dir := t.TempDir()
	_, err := Up(t.Context(), Config{Dir: dir, APIServerArgs: []string{"no-such-flag=1"}})
	if err == nil || !strings.Contains(err.Error(), "unknown flag: --no-such-flag") {
		t.Errorf("got %v", err)
	}
	s, _, err := readState(layout(dir))
	if err != nil || s.Phase != phaseFailed || !strings.Contains(s.Error, "no-such-flag") {
		t.Errorf("state %+v, %v", s, err)
	}
	for _, p := range s.Parts {
		if p.Identity.Alive() || p.State == partUp {
			t.Errorf("%s is left: %+v", p.Name, p)
		}
	}
	if _, err := Up(t.Context(), Config{Dir: dir, APIServerArgs: []string{"secure-port=1"}}); err == nil || !strings.Contains(err.Error(), "chosen by the control plane itself") {
		t.Errorf("got %v", err)
	}
}
