package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/holdfast-dev/holdfast/certs"
	"github.com/holdfast-dev/holdfast/pkg/postgres/postgrestest"
)

// postgresServer is shared; each test has a database of its own.
var postgresServer *postgrestest.Server

func TestMain(m *testing.M) {
	var err error
	postgresServer, err = postgrestest.Start(context.Background(), postgrestest.Config{DatabaseURL: os.Getenv("DATABASE_URL")})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	postgresServer.Stop()
	os.Exit(code)
}

// world is a NATS server, a database and what a client of the collector needs.
type world struct {
	o      options
	nats   *natsServer
	client *http.Client
	conn   *pgx.Conn
}

type natsServer struct {
	dir  string
	port int
	s    *server.Server
}

func (n *natsServer) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", n.port) }

func (n *natsServer) start(t *testing.T) {
	t.Helper()
	s, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: n.port, JetStream: true, StoreDir: n.dir, SyncAlways: true,
		MaxPayload: 8 << 20, NoSigs: true, NoLog: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats-server: not ready")
	}
	n.s = s
}

func (n *natsServer) stop() {
	if n.s != nil {
		n.s.Shutdown()
		n.s.WaitForShutdown()
		n.s = nil
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

func setup(t *testing.T) *world {
	t.Helper()
	dsn, drop, err := postgresServer.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(drop)
	w := &world{nats: &natsServer{dir: t.TempDir(), port: freePort(t)}}
	w.nats.start(t)
	t.Cleanup(w.nats.stop)
	w.o = options{
		listen: fmt.Sprintf("127.0.0.1:%d", freePort(t)), healthListen: fmt.Sprintf("127.0.0.1:%d", freePort(t)),
		natsURL: w.nats.url(), databaseURL: dsn, streamReplicas: 1, streamMaxBytes: 64 << 20, logFormat: "text",
		redactionKeyFile: filepath.Join(t.TempDir(), "key"), decisionKeyFile: filepath.Join(t.TempDir(), "decisions"),
	}
	w.certificates(t)
	if w.conn, err = pgx.Connect(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.conn.Close(context.Background()) })
	return w
}

func (w *world) certificates(t *testing.T) {
	t.Helper()
	ca, err := certs.NewAuthority("test", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	serving, err := ca.IssueServer("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	own, err := ca.IssueClient("apiserver")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{"ca": ca.CertPEM(), "crt": serving.Cert, "key": serving.Key} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	w.o.caFile, w.o.certFile, w.o.keyFile = filepath.Join(dir, "ca"), filepath.Join(dir, "crt"), filepath.Join(dir, "key")
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca.CertPEM())
	pair, err := tls.X509KeyPair(own.Cert, own.Key)
	if err != nil {
		t.Fatal(err)
	}
	w.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}}, ForceAttemptHTTP2: true,
	}}
}

// serve runs the command until stop is called or the test ends.
func (w *world) serve(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- serve(ctx, w.o) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	}
	t.Cleanup(stop)
	w.eventually(t, "healthz", func() bool { code, _ := w.get("/healthz"); return code == 200 })
	return stop
}

func (w *world) ready(t *testing.T) {
	t.Helper()
	w.eventually(t, "ready", func() bool { code, _ := w.get("/readyz"); return code == 200 })
}

func (w *world) get(path string) (int, string) {
	resp, err := http.Get("http://" + w.o.healthListen + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b)
}

func (w *world) eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			_, why := w.get("/readyz")
			t.Fatalf("%s: not within 30 s (readyz: %s)", what, why)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// metric returns the value of a metric, with its labels as they are printed; "" if absent.
func (w *world) metric(name string) string {
	_, all := w.get("/metrics")
	for line := range strings.Lines(all) {
		if rest, ok := strings.CutPrefix(line, "holdfast_collector_"+name+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return ""
}

type answer struct {
	code       int
	retryAfter string
	took       time.Duration
}

func (w *world) post(t *testing.T, body []byte, header ...string) answer {
	t.Helper()
	req, err := http.NewRequest("POST", "https://"+w.o.listen+"/v1/audit/api-1", bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	begin := time.Now()
	resp, err := w.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return answer{resp.StatusCode, resp.Header.Get("Retry-After"), time.Since(begin)}
}

// status is what the collector answers to a request without a body.
func (w *world) status(t *testing.T, client *http.Client, method, path string) (int, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+w.o.listen+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.StatusCode, nil
}

// tryPost is post for a collector that may be away.
func (w *world) tryPost(body []byte) (int, error) {
	resp, err := w.client.Post("https://"+w.o.listen+"/v1/audit/api-1", "application/json", bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	resp.Body.Close()
	return resp.StatusCode, nil
}

func (w *world) query(t *testing.T, sql string) string {
	t.Helper()
	var s string
	if err := w.conn.QueryRow(t.Context(), "SELECT ("+sql+")::text").Scan(&s); err != nil {
		return err.Error()
	}
	return s
}

func (w *world) wants(t *testing.T, sql, want string) {
	t.Helper()
	got := ""
	w.eventually(t, sql+" = "+want, func() bool { got = w.query(t, sql); return got == want })
}

// list is an EventList of n events; the IDs begin with name.
func list(name string, n int, change func(i int, ev map[string]any)) []byte {
	now := time.Now().UTC()
	var items []any
	for i := range n {
		stamp := now.Add(time.Duration(i) * time.Microsecond).Format("2006-01-02T15:04:05.000000Z")
		ev := map[string]any{
			"level": "Metadata", "auditID": fmt.Sprintf("%s-%d", name, i), "stage": "ResponseComplete",
			"requestURI": "/api/v1/namespaces/prod", "verb": "get",
			"user":                     map[string]any{"username": "system:serviceaccount:agents:bot"},
			"objectRef":                map[string]any{"resource": "namespaces", "name": "prod", "apiVersion": "v1"},
			"requestReceivedTimestamp": stamp, "stageTimestamp": stamp,
			"responseStatus": map[string]any{"code": 200},
		}
		if change != nil {
			change(i, ev)
		}
		items = append(items, ev)
	}
	b, err := json.Marshal(map[string]any{"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "metadata": map[string]any{}, "items": items})
	if err != nil {
		panic(err)
	}
	return b
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	zw.Write(b)
	zw.Close()
	return out.Bytes()
}
