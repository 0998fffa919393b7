package main

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/holdfast-dev/holdfast/cmd/internal/keyfile"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

func TestServe(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.serve(t)
	w.ready(t)
	plain := list("plain", 400, nil)
	for i := range 3 { // redelivered, byte by byte
		if got := w.post(t, plain); got.code != 200 {
			t.Fatalf("post %d: got %d", i, got.code)
		}
	}
	if got := w.post(t, gzipped(list("zipped", 100, nil)), "Content-Encoding", "gzip"); got.code != 200 {
		t.Fatalf("gzip: got %d", got.code)
	}
	w.wants(t, "SELECT count(*) || '/' || count(DISTINCT (audit_id, stage)) FROM audit_events", "500/500")
	for name, want := range map[string]string{
		`events_received_total{api_server="api-1"}`: "1300", `batches_total{result="stored"}`: "4",
		"rows_stored_total": "500", "redaction_enabled": "1", "ready": "1",
	} {
		w.eventually(t, name+" "+want, func() bool { return w.metric(name) == want })
	}
	if code, err := w.status(t, w.client, "GET", "/v1/audit/api-1"); err != nil || code != 405 {
		t.Errorf("GET: got %v, %v; want 405", code, err)
	}
	if code, err := w.status(t, w.client, "POST", "/v1/audit/..%2fx"); err != nil || code != 404 {
		t.Errorf("bad name: got %v, %v; want 404", code, err)
	}
	bare := w.client.Transport.(*http.Transport).Clone()
	bare.TLSClientConfig.Certificates = nil
	if code, err := w.status(t, &http.Client{Transport: bare}, "POST", "/v1/audit/api-1"); err == nil {
		t.Errorf("no client certificate: got %d, want no connection", code)
	}
}

func TestBadPayloads(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.serve(t)
	w.ready(t)
	const secret = "planted-value-4711"
	good := list("good", 2, nil)
	for _, tc := range []struct {
		name   string
		body   []byte
		header []string
		reason string
		length int
	}{
		{"not JSON", []byte(`{"data":{"p":"` + secret), nil, "not JSON", 32},
		{"empty", nil, nil, "not JSON", 0},
		{"other kind", []byte(`{"kind":"Secret","data":{"p":"` + secret + `"}}`), nil, "not an audit.k8s.io/v1 EventList", 51},
		{"other version", []byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v2","items":[]}`), nil, "not an audit.k8s.io/v1 EventList", 62},
		{"broken gzip", gzipped(good)[:100], []string{"Content-Encoding", "gzip"}, "broken gzip", -1},
		{"no gzip", []byte(secret), []string{"Content-Encoding", "gzip"}, "not gzip, though it says so", -1},
		{"brotli", []byte(secret), []string{"Content-Encoding", "br"}, "content encoding is neither gzip nor identity", 18},
		{"bad item", []byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{"auditID":5,"x":"` + secret + `"}]}`), nil, "item is no audit event", 38},
		{"deep", []byte(strings.Repeat("[", 20000)), nil, "not JSON", 20000},
	} {
		if got := w.post(t, tc.body, tc.header...); got.code != 200 {
			t.Errorf("%s: got %d, want 200", tc.name, got.code)
		}
		sql := fmt.Sprintf("SELECT count(*) FROM quarantine WHERE reason = '%s'", tc.reason)
		if tc.length >= 0 {
			sql += fmt.Sprintf(" AND length = %d", tc.length)
		}
		w.wants(t, sql, "1")
	}
	w.post(t, good)
	w.wants(t, "SELECT count(*) FROM audit_events", "2")
	if n := w.query(t, "SELECT count(*) FROM quarantine WHERE position('"+secret+"' in convert_from(prefix, 'UTF8')) > 0"); n != "0" {
		t.Errorf("prefixes with the planted value: got %s, want 0", n)
	}
	if got := w.metric(`quarantined_total{reason="not JSON"}`); got != "3" {
		t.Errorf("quarantined_total of not JSON: got %q, want 3", got)
	}
}

func TestOverTheBound(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.serve(t)
	w.ready(t)
	body := append([]byte(`{"kind":"EventList","x":"`), bytes.Repeat([]byte("s"), 65<<20)...)
	if got := w.post(t, gzipped(body), "Content-Encoding", "gzip"); got.code != 200 {
		t.Errorf("gzip: got %d, want 200", got.code)
	}
	w.wants(t, "SELECT reason || ' ' || length || ' ' || length(prefix) FROM quarantine", fmt.Sprintf("larger than the bound %d 4096", len(body)))
	large := list("large", 40, func(_ int, ev map[string]any) {
		ev["requestObject"] = map[string]any{"kind": "Foo", "x": strings.Repeat("y", 1<<20)}
	})
	if got := w.post(t, large); got.code != 200 {
		t.Errorf("40 MiB: got %d, want 200", got.code)
	}
	w.wants(t, "SELECT count(*) || ' ' || sum(length(request_object->>'x')) FROM audit_events", fmt.Sprint("40 ", 40<<20))
	huge := list("huge", 1, func(_ int, ev map[string]any) {
		ev["requestObject"] = map[string]any{"kind": "Foo", "x": strings.Repeat("y", 9<<20)}
	})
	if got := w.post(t, huge); got.code != 200 {
		t.Errorf("one event of 9 MiB: got %d, want 200", got.code)
	}
	w.wants(t, "SELECT removed[1] FROM audit_events WHERE audit_id = 'huge-0'", "requestObject: larger than a message")
}

func TestPushback(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.serve(t)
	w.ready(t)
	w.nats.stop()
	body := list("away", 10, nil)
	for i := range 3 {
		got := w.post(t, body)
		if got.code != 503 || got.retryAfter == "" || got.took > 2*time.Second {
			t.Errorf("NATS away, %d: got %d, Retry-After %q, after %s; want 503 within 2 s", i, got.code, got.retryAfter, got.took)
		}
	}
	if code, _ := w.get("/readyz"); code != 503 {
		t.Errorf("readyz: got %d, want 503", code)
	}
	w.nats.start(t)
	w.ready(t)
	w.eventually(t, "stored", func() bool { return w.post(t, body).code == 200 })
	w.wants(t, "SELECT count(*) FROM audit_events", "10")
}

// TestFullStream fills the stream while the database is away: refused, nothing discarded.
func TestFullStream(t *testing.T) {
	t.Parallel()
	w := setup(t)
	right := w.o.databaseURL
	w.o.databaseURL = "postgres://nobody@127.0.0.1:1/none"
	w.o.streamMaxBytes = 16 << 20
	stop := w.serve(t)
	w.eventually(t, "stream", func() bool {
		_, why := w.get("/readyz")
		return strings.Contains(why, "schema")
	})
	sent, full := 0, answer{}
	for i := range 40 {
		got := w.post(t, list(fmt.Sprint("b", i), 1, func(_ int, ev map[string]any) {
			ev["requestObject"] = map[string]any{"x": strings.Repeat("y", 1<<20)}
		}))
		if got.code != 200 {
			full = got
			break
		}
		sent++
	}
	if full.code != 503 || full.retryAfter == "" || full.took > 2*time.Second {
		t.Errorf("full: got %+v, want 503 within 2 s", full)
	}
	stop()
	w.o.databaseURL = right
	w.serve(t)
	w.wants(t, "SELECT count(*) FROM audit_events", fmt.Sprint(sent))
}

// TestDurableBeforeAnswer takes the server away right after the answer and looks into its
// store.
func TestDurableBeforeAnswer(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.o.databaseURL = "postgres://nobody@127.0.0.1:1/none" // nothing leaves the stream
	stop := w.serve(t)
	w.eventually(t, "stored", func() bool { return w.post(t, list("durable", 5, nil)).code == 200 })
	w.nats.stop()
	stop()
	w.nats.start(t)
	nc, err := nats.Connect(w.nats.url())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := nc.JetStream()
	if err != nil {
		t.Fatal(err)
	}
	m, err := js.GetMsg("HOLDFAST_AUDIT", 1)
	if err != nil || bytes.Count(m.Data, []byte(`"auditID":"durable-`)) != 5 {
		t.Errorf("message 1 after the restart: %v, want five events", err)
	}
}

// TestForgedDecisionsAreNotBelieved: of two decisions in one event, the one that is signed with
// the key of --decision-key-file is verified.
func TestForgedDecisionsAreNotBelieved(t *testing.T) {
	t.Parallel()
	w := setup(t)
	key, err := keyfile.Decision(w.o.decisionKeyFile) // as the webhook does, whichever comes first
	if err != nil {
		t.Fatal(err)
	}
	w.serve(t)
	w.ready(t)
	name, value := key.Annotation(decision.Record{ID: "REAL", Webhook: decision.GuardWebhook, Decision: "Deny", Reason: decision.ReasonRule})
	w.post(t, list("forged", 1, func(_ int, ev map[string]any) {
		ev["annotations"] = map[string]any{
			decision.GuardWebhook + "/" + name:       value,
			decision.GuardWebhook + "/d-FORGED":      `{"decision":"Allow","reason":"Approved","accessRequest":"ar-1"}`,
			decision.GuardWebhook + "/d-COPIED":      value,
			decision.OwnWebhook + "/" + name:         value,
			"somebody.example.com/" + name + "-else": value,
		}
	}))
	w.wants(t, "SELECT string_agg(webhook || ' ' || decision_id || ' ' || verified, ', ' ORDER BY webhook, decision_id) FROM audit_decisions",
		"guard.holdfast.dev COPIED false, guard.holdfast.dev FORGED false, guard.holdfast.dev REAL true, own.holdfast.dev REAL false")
	if got := w.metric("decisions_unverified_total"); got != "3" {
		t.Errorf("decisions_unverified_total: got %s, want 3", got)
	}
}

func TestStartsWithoutAnything(t *testing.T) {
	t.Parallel()
	w := setup(t)
	w.nats.stop()
	w.serve(t)
	if code, why := w.get("/readyz"); code != 503 || !strings.Contains(why, "not connected") {
		t.Errorf("readyz: got %d %s", code, why)
	}
	if got := w.post(t, list("x", 1, nil)); got.code != 503 || got.took > 2*time.Second {
		t.Errorf("got %+v, want 503 within 2 s", got)
	}
	w.nats.start(t)
	w.ready(t)
}

func TestSecretsAreRedactedBeforeTheStream(t *testing.T) {
	t.Parallel()
	w := setup(t)
	nc, err := nats.Connect(w.nats.url())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	sub, err := nc.SubscribeSync("holdfast.audit.>")
	if err != nil {
		t.Fatal(err)
	}
	w.serve(t)
	w.ready(t)
	w.post(t, list("secret", 1, func(_ int, ev map[string]any) {
		ev["objectRef"] = map[string]any{"resource": "secrets", "name": "s", "namespace": "n"}
		ev["verb"] = "create"
		ev["requestObject"] = map[string]any{"kind": "Secret", "apiVersion": "v1", "stringData": map[string]any{"p": "planted-value-4711"}}
	}))
	m, err := sub.NextMsg(10 * time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(m.Data, []byte("planted")) || !bytes.Contains(m.Data, []byte(`"hmac:`)) {
		t.Errorf("message: got %s", m.Data)
	}
	w.wants(t, "SELECT count(*) FROM audit_events WHERE request_object->'stringData'->>'p' LIKE 'hmac:%'", "1")
}
