package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/holdfast-dev/holdfast/e2e/local"
)

// externalVariable names a folder with the kubeconfigs that holdfast-local writes, of a
// cluster on which Holdfast runs already. The tests that stop parts of Holdfast are skipped
// there.
const externalVariable = "HOLDFAST_E2E_DIR"

// identity is who runs a kubectl.
type identity string

const (
	admin identity = "admin"
	agent identity = "agent"
	human identity = "human"
)

// cluster is a control plane with Holdfast on it.
type cluster struct {
	info local.Info
	// run is nil for a cluster that the tests did not start.
	run *local.Local
	// accounts are the kubeconfigs of service accounts that a test has made.
	accounts map[identity]string
}

// binDir is shared by the clusters of this test binary, so that Holdfast is built once.
var binDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "holdfast-e2e-bin-") })

func TestMain(m *testing.M) {
	code := m.Run()
	if dir, err := binDir(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// up brings up a control plane that ends with the test; change may change its Config.
func up(t *testing.T, change func(*local.Config)) *cluster {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	bin, err := binDir()
	if err != nil {
		t.Fatal(err)
	}
	config := local.Config{
		Dir: t.TempDir(), Guard: true, Policies: "none", BinDir: bin,
		Log: slog.New(slog.NewTextHandler(testLog{t}, &slog.HandlerOptions{Level: slog.LevelWarn})), Progress: os.Stderr,
	}
	if change != nil {
		change(&config)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 40*time.Minute) // a cold build of the control plane
	defer cancel()
	run, err := local.Up(ctx, config)
	if err != nil {
		t.Fatalf("bring up the control plane: %v", err)
	}
	c := &cluster{info: run.Info(), run: run}
	t.Cleanup(func() {
		if t.Failed() {
			c.showLogs(t)
		}
		if err := run.Down(context.Background()); err != nil {
			t.Errorf("take down the control plane: %v", err)
		}
	})
	return c
}

// attach returns the cluster that the environment names, or brings one up.
func attach(t *testing.T) *cluster {
	t.Helper()
	dir := os.Getenv(externalVariable)
	if dir == "" {
		return up(t, nil)
	}
	at := func(name string) string { return filepath.Join(dir, name+".kubeconfig") }
	return &cluster{info: local.Info{
		Dir: dir, AdminKubeconfig: at("admin"), AgentKubeconfig: at("agent"), HumanKubeconfig: at("human"),
		DatabaseURL: os.Getenv("DATABASE_URL"), Kubectl: "kubectl",
	}}
}

// own skips a test on a cluster whose parts it may not stop or look into.
func (c *cluster) own(t *testing.T) {
	t.Helper()
	if c.run == nil {
		t.Skip("needs the parts of a control plane that the tests started")
	}
}

type testLog struct{ t *testing.T }

func (l testLog) Write(p []byte) (int, error) {
	l.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

// showLogs prints the end of what Holdfast's parts said.
func (c *cluster) showLogs(t *testing.T) {
	for _, part := range c.run.Parts() {
		data, err := os.ReadFile(c.run.LogPath(part))
		if err != nil {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(data)), "\n")
		t.Logf("end of the log of %s:\n%s", part, strings.Join(lines[max(0, len(lines)-15):], "\n"))
	}
}

// result is what a command came out as.
type result struct {
	out, err string
	code     int
}

func (c *cluster) kubeconfig(who identity) string {
	if path, ok := c.accounts[who]; ok {
		return path
	}
	return map[identity]string{
		admin: c.info.AdminKubeconfig, agent: c.info.AgentKubeconfig, human: c.info.HumanKubeconfig,
		approver: c.info.ApproverKubeconfig, approver2: c.info.Approver2Kubeconfig,
	}[who]
}

// account makes a service account that is cluster-admin, for kubectl to run as. Those in the
// agents' namespace are agents.
func (c *cluster) account(t *testing.T, namespace, name string) identity {
	t.Helper()
	user := namespace + ":" + name
	c.must(t, admin, "create", "serviceaccount", name, "-n", namespace)
	c.must(t, admin, "create", "clusterrolebinding", "account:"+user, "--clusterrole=cluster-admin", "--serviceaccount="+user)
	config, err := clientcmd.LoadFromFile(c.info.AgentKubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	token := strings.TrimSpace(c.must(t, admin, "create", "token", name, "-n", namespace))
	for _, u := range config.AuthInfos {
		u.Token = token
	}
	path := filepath.Join(t.TempDir(), name+".kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	if c.accounts == nil {
		c.accounts = map[identity]string{}
	}
	who := identity("system:serviceaccount:" + user)
	c.accounts[who] = path
	return who
}

// kubectl runs the real kubectl as somebody.
func (c *cluster) kubectl(t *testing.T, who identity, args ...string) result {
	t.Helper()
	return c.kubectlWith(t, "", who, args...)
}

// kubectlWith is kubectl with a manifest on its standard input.
func (c *cluster) kubectlWith(t *testing.T, stdin string, who identity, args ...string) result {
	t.Helper()
	return c.program(t, c.info.Kubectl, stdin, who, args...)
}

// pluginName is the plugin's, as kubectl holdfast; kubectl takes no flag before it.
const pluginName = "holdfast"

// program is kubectl, or one like it, as somebody.
func (c *cluster) program(t *testing.T, path, stdin string, who identity, args ...string) result {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if len(args) > 0 && args[0] == pluginName {
		path, args = filepath.Join(filepath.Dir(c.info.Kubectl), "kubectl-"+pluginName), args[1:]
	}
	cmd := exec.CommandContext(ctx, path, append([]string{"--kubeconfig", c.kubeconfig(who)}, args...)...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %v: %v", filepath.Base(path), args, err)
	}
	return result{out: out.String(), err: errOut.String(), code: cmd.ProcessState.ExitCode()}
}

// must is kubectl that has to succeed.
func (c *cluster) must(t *testing.T, who identity, args ...string) string {
	t.Helper()
	r := c.kubectl(t, who, args...)
	if r.code != 0 {
		t.Fatalf("kubectl %v as %s: exit %d\n%s%s", args, who, r.code, r.out, r.err)
	}
	return r.out
}

// refused is kubectl that has to fail with a text.
func (c *cluster) refused(t *testing.T, want string, who identity, args ...string) {
	t.Helper()
	r := c.kubectl(t, who, args...)
	if r.code == 0 || !strings.Contains(r.err, want) {
		t.Errorf("kubectl %v as %s: exit %d, want a refusal with %q\n%s%s", args, who, r.code, want, r.out, r.err)
	}
}

// apply applies a manifest as admin.
func (c *cluster) apply(t *testing.T, manifest string) {
	t.Helper()
	if r := c.kubectlWith(t, manifest, admin, "apply", "-f", "-"); r.code != 0 {
		t.Fatalf("apply: %s%s\n%s", r.out, r.err, manifest)
	}
}

// policy applies an AgentPolicy until the end of the test, and returns when it is in force.
func (c *cluster) policy(t *testing.T, name, spec string) {
	t.Helper()
	c.apply(t, fmt.Sprintf("apiVersion: holdfast.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {name: %s}\nspec:\n%s", name, spec))
	t.Cleanup(func() { c.kubectl(t, admin, "delete", "agentpolicy", name) })
	c.must(t, admin, "wait", "--for=condition=Compiled", "--timeout=20s", "agentpolicy/"+name)
}

// eventually tries until it succeeds.
func eventually(t *testing.T, within time.Duration, what string, try func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s: %v", what, within, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// database connects to the evidence.
func (c *cluster) database(t *testing.T) *pgxpool.Pool {
	t.Helper()
	if c.info.DatabaseURL == "" {
		t.Skip("needs DATABASE_URL")
	}
	pool, err := pgxpool.New(context.Background(), c.info.DatabaseURL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// auditLog reads what the API server itself wrote down.
func (c *cluster) auditLog(t *testing.T) []auditv1.Event {
	t.Helper()
	f, err := os.Open(c.info.AuditLog)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var events []auditv1.Event
	lines := bufio.NewReader(f)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return events // a last line without its end is being written
		}
		var e auditv1.Event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("audit log: %v", err)
		}
		events = append(events, e)
	}
}

// metric sums the samples of an API server metric whose labels contain all of the texts.
func (c *cluster) metric(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	var sum float64
	for line := range strings.Lines(c.must(t, admin, "get", "--raw", "/metrics")) {
		rest, ok := strings.CutPrefix(line, name+"{")
		if !ok {
			continue
		}
		set, value, ok := strings.Cut(rest, "} ")
		if !ok {
			continue
		}
		matches := true
		for _, l := range labels {
			matches = matches && strings.Contains(set, l)
		}
		if matches {
			var v float64
			if _, err := fmt.Sscan(value, &v); err != nil {
				t.Fatalf("metric %s: %v", line, err)
			}
			sum += v
		}
	}
	return sum
}

// callWebhook posts to the webhook as somebody who is not the API server.
func (c *cluster) callWebhook(config *tls.Config) error {
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: config}}
	r, err := client.Post(c.info.WebhookURL+"/admission/guard", "application/json", strings.NewReader("{}"))
	if err != nil {
		return err
	}
	return r.Body.Close()
}
