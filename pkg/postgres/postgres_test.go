package postgres_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/holdfast-dev/holdfast/pkg/audit"
	"github.com/holdfast-dev/holdfast/pkg/audit/redact"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/postgres"
	"github.com/holdfast-dev/holdfast/pkg/postgres/postgrestest"
)

// server is shared by the tests of this package; each has a database of its own.
var server *postgrestest.Server

func TestMain(m *testing.M) {
	var err error
	server, err = postgrestest.Start(context.Background(), postgrestest.Config{DatabaseURL: os.Getenv("DATABASE_URL")})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	server.Stop()
	os.Exit(code)
}

type fixture struct {
	store *postgres.Store
	conn  *pgx.Conn
}

func setup(t *testing.T) fixture {
	t.Helper()
	dsn, drop, err := server.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(drop)
	store, err := postgres.Open(t.Context(), postgres.Config{URL: dsn})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(store.Close)
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return fixture{store, conn}
}

// one returns the single row of a query as text, columns joined by "|".
func (f fixture) one(t *testing.T, sql string, args ...any) string {
	t.Helper()
	rows, err := f.conn.Query(t.Context(), sql, args...)
	if err != nil {
		t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (string, error) {
		v, err := r.Values()
		var cells []string
		for _, c := range v {
			cells = append(cells, fmt.Sprint(c))
		}
		return strings.Join(cells, "|"), err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, "\n")
}

func (f fixture) write(t *testing.T, events ...auditv1.Event) audit.Written {
	t.Helper()
	w, err := f.store.Write(t.Context(), []audit.Batch{batch(events...)})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func batch(events ...auditv1.Event) audit.Batch {
	b := audit.Batch{Version: 1, APIServer: "api-1", ReceivedAt: time.Now()}
	for _, ev := range events {
		id := audit.Identity("api-1", &ev)
		b.Records = append(b.Records, audit.Record{
			Identity: id[:], Event: ev, Redaction: redact.Report{Key: "00000000"}, Signed: audit.Signed(&ev, signing),
		})
	}
	return b
}

func event(n int) auditv1.Event {
	now := metav1.NewMicroTime(time.Now().Truncate(time.Microsecond))
	ev := auditv1.Event{
		Level: auditv1.LevelRequestResponse, AuditID: types.UID(fmt.Sprintf("id-%d", n)), Stage: auditv1.StageResponseComplete,
		RequestURI: "/api/v1/namespaces/prod", Verb: "delete", SourceIPs: []string{"10.0.0.1"}, UserAgent: "kubectl",
		ObjectRef:                &auditv1.ObjectReference{Resource: "namespaces", Namespace: "prod", Name: "prod", APIVersion: "v1"},
		ResponseStatus:           &metav1.Status{Status: "Failure", Code: 403, Reason: "Forbidden", Message: "no"},
		RequestReceivedTimestamp: now, StageTimestamp: now,
		RequestObject: &runtime.Unknown{Raw: []byte(`{"kind":"DeleteOptions"}`), ContentType: runtime.ContentTypeJSON},
	}
	ev.User.Username = "system:serviceaccount:agents:bot"
	ev.User.Groups = []string{"system:serviceaccounts"}
	return ev
}

// signing is the key of the decisions that annotate makes.
var signing = func() *decision.Key {
	k, err := decision.NewKey([]byte(strings.Repeat("k", decision.KeyMin)))
	if err != nil {
		panic(err)
	}
	return k
}()

func annotate(ev *auditv1.Event, rec decision.Record) {
	if ev.Annotations == nil {
		ev.Annotations = map[string]string{}
	}
	rec.Webhook = decision.GuardWebhook
	k, v := signing.Annotation(rec)
	ev.Annotations[rec.Webhook+"/"+k] = v
}

// forge writes a decision as somebody else's webhook would.
func forge(ev *auditv1.Event, id, value string) {
	if ev.Annotations == nil {
		ev.Annotations = map[string]string{}
	}
	ev.Annotations[decision.GuardWebhook+"/d-"+id] = value
}

func TestWriteLandsOnce(t *testing.T) {
	t.Parallel()
	f := setup(t)
	a, b := event(1), event(2)
	if got, want := f.write(t, a, b, a), (audit.Written{Stored: 2, Duplicates: 1}); got != want {
		t.Errorf("first: got %+v, want %+v", got, want)
	}
	if got, want := f.write(t, b, a), (audit.Written{Duplicates: 2}); got != want {
		t.Errorf("again: got %+v, want %+v", got, want)
	}
	// The same Audit-ID on another request, as a client can choose: another event.
	c := event(1)
	c.Verb = "get"
	if got, want := f.write(t, c), (audit.Written{Stored: 1}); got != want {
		t.Errorf("forged Audit-ID: got %+v, want %+v", got, want)
	}
	if got := f.one(t, "SELECT count(*), count(DISTINCT event_digest) FROM audit_events"); got != "3|3" {
		t.Errorf("rows: got %s, want 3|3", got)
	}
}

func TestWriteRacesWithItself(t *testing.T) {
	t.Parallel()
	f := setup(t)
	var events []auditv1.Event
	for i := range 200 {
		events = append(events, event(i))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var sum audit.Written
	for i := range 8 {
		wg.Go(func() {
			mine := append(append([]auditv1.Event{}, events[i*20:]...), events[:i*20]...)
			w, err := f.store.Write(t.Context(), []audit.Batch{batch(mine...)})
			if err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			sum = sum.Plus(w)
		})
	}
	wg.Wait()
	if want := (audit.Written{Stored: 200, Duplicates: 1400}); sum != want {
		t.Errorf("got %+v, want %+v", sum, want)
	}
}

func TestColumns(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ev := event(1)
	annotate(&ev, decision.Record{ID: "AAA", Decision: "Allow", Reason: "Default", Agents: []string{"bot"}})
	annotate(&ev, decision.Record{
		ID: "BBB", Decision: "Deny", Reason: "Rule", Agents: []string{"bot"}, Rules: []string{"p/r"}, AccessRequest: "ar-1",
	})
	if got, want := f.write(t, ev), (audit.Written{Stored: 1, Decisions: 2}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	got := f.one(t, `SELECT api_server, audit_id, stage, level, verb, username, user_groups, source_ips, api_group,
		resource, namespace, name, response_code, response_reason, response_message, request_object, response_object FROM audit_events`)
	want := "api-1|id-1|ResponseComplete|RequestResponse|delete|system:serviceaccount:agents:bot|[system:serviceaccounts]|[10.0.0.1]||namespaces|prod|prod|403|Forbidden|no|map[kind:DeleteOptions]|<nil>"
	if got != want {
		t.Errorf("audit_events:\n got %s\nwant %s", got, want)
	}
	got = f.one(t, "SELECT agent, username, verb, object, decision, rules, response_code, reason, access_requests, dry_run FROM agent_activity")
	want = "bot|system:serviceaccount:agents:bot|delete|namespaces/prod|Deny|[p/r]|403|Rule|[ar-1]|false"
	if got != want {
		t.Errorf("agent_activity:\n got %s\nwant %s", got, want)
	}
}

// TestForgedDecisions: they are kept, and said to be what they are, and no view takes them for
// Holdfast's.
func TestForgedDecisions(t *testing.T) {
	t.Parallel()
	f := setup(t)
	beside, alone := event(1), event(2)
	annotate(&beside, decision.Record{
		ID: "REAL", Decision: "Allow", Reason: decision.ReasonApproved, Agents: []string{"bot"}, AccessRequest: "ar-1",
	})
	forge(&beside, "FORGED", `{"decision":"Deny","reason":"Rule","agents":["jane"],"rules":["p/forged"],"observed":["q/forged=Deny"],"accessRequest":"ar-2"}`)
	forge(&alone, "ALONE", `{"decision":"Allow","reason":"Approved","agents":["bot"],"accessRequest":"ar-1","mac":"AAAAAAAAAAAAAAAAAAAAAA"}`)
	if got, want := f.write(t, beside, alone), (audit.Written{Stored: 2, Decisions: 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	got := f.one(t, "SELECT decision_id, verified, repeated FROM audit_decisions ORDER BY decision_id")
	if want := "ALONE|false|false\nFORGED|false|false\nREAL|true|false"; got != want {
		t.Errorf("audit_decisions:\n got %s\nwant %s", got, want)
	}
	got = f.one(t, "SELECT audit_id, agent, decision, reason, rules, observed, access_requests, unverified, repeated FROM agent_activity ORDER BY audit_id")
	if want := "id-1|bot|Allow|Approved|<nil>|<nil>|[ar-1]|1|false\nid-2|<nil>|<nil>|<nil>|<nil>|<nil>|<nil>|1|false"; got != want {
		t.Errorf("agent_activity:\n got %s\nwant %s", got, want)
	}
	got = f.one(t, "SELECT access_request, what, audit_id FROM access_request_history")
	if want := "ar-1|let pass|id-1"; got != want {
		t.Errorf("access_request_history:\n got %s\nwant %s", got, want)
	}
}

// TestGrantsInHistory: what an agent asked for, and each use of it, of which a change that both
// hooks judged is one.
func TestGrantsInHistory(t *testing.T) {
	t.Parallel()
	f := setup(t)
	granted := func(id string) decision.Record {
		return decision.Record{ID: id, Decision: "Allow", Reason: decision.ReasonGranted, Agents: []string{"bot"}, AccessRequest: "asked-1"}
	}
	ask, read, change := event(1), event(2), event(3)
	record := granted("ASKED")
	record.Reason, record.Webhook = decision.ReasonAsked, decision.OwnWebhook
	name, value := signing.Annotation(record)
	ask.Annotations = map[string]string{decision.OwnWebhook + "/" + name: value}
	read.Verb, change.Verb = "get", "update"
	read.Annotations = map[string]string{decision.AuthorizationReason: signing.AuthorizationReason(granted("READ"), "granted")}
	annotate(&change, granted("GUARD"))
	change.Annotations[decision.AuthorizationReason] = signing.AuthorizationReason(granted("CHANGE"), "granted")
	f.write(t, ask, read, change)
	got := f.one(t, "SELECT access_request, what, audit_id FROM access_request_history ORDER BY audit_id")
	if want := "asked-1|asked|id-1\nasked-1|let pass|id-2\nasked-1|let pass|id-3"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	got = f.one(t, "SELECT webhook, decision_id, verified FROM audit_decisions WHERE audit_id = 'id-3' ORDER BY 1")
	if want := "authorizer.holdfast.dev|CHANGE|true\nguard.holdfast.dev|GUARD|true"; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
}

// TestRepeatedDecisions: one decision is of one request. Its events of several stages are that
// request's; every other request that carries a copy is marked, whatever its Audit-ID.
func TestRepeatedDecisions(t *testing.T) {
	t.Parallel()
	f := setup(t)
	stages := func(n int, id string) []auditv1.Event {
		first, last := event(n), event(n)
		first.Stage, last.StageTimestamp = auditv1.StageResponseStarted, metav1.NewMicroTime(first.StageTimestamp.Add(time.Millisecond))
		for _, ev := range []*auditv1.Event{&first, &last} {
			annotate(ev, decision.Record{ID: id, Decision: "Allow", Reason: decision.ReasonDefault})
		}
		return []auditv1.Event{first, last}
	}
	later := func(by time.Duration, ev auditv1.Event) auditv1.Event {
		ev.StageTimestamp = metav1.NewMicroTime(ev.StageTimestamp.Add(by))
		return ev
	}
	one := stages(1, "ONE")
	f.write(t, one...)
	f.write(t, one...)                                  // the same again is no other
	f.write(t, later(time.Second, stages(1, "ONE")[1])) // with the Audit-ID of the first
	f.write(t, later(2*time.Second, stages(2, "ONE")[1]))
	f.write(t, stages(3, "TWO")[1], later(time.Second, stages(4, "TWO")[1]))
	forged := event(5)
	forge(&forged, "TWO", `{"decision":"Allow"}`)
	f.write(t, forged)
	tomorrow := later(25*time.Hour, stages(6, "ONE")[1])
	f.write(t, tomorrow)
	got := f.one(t, "SELECT decision_id, audit_id, verified, repeated FROM audit_decisions ORDER BY decision_id, stage_timestamp")
	want := "ONE|id-1|true|false\nONE|id-1|true|false\nONE|id-2|true|true\nONE|id-1|true|true\nONE|id-6|true|false\n" +
		"TWO|id-3|true|false\nTWO|id-4|true|true\nTWO|id-5|false|false"
	gotSet, wantSet := strings.Split(got, "\n"), strings.Split(want, "\n")
	slices.Sort(gotSet)
	slices.Sort(wantSet)
	if !slices.Equal(gotSet, wantSet) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestActivityWithoutDecision(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ev := event(1)
	ev.ObjectRef, ev.RequestURI, ev.Verb = nil, "/healthz?verbose=1", "get"
	started := event(2)
	started.Stage = auditv1.StageResponseStarted
	f.write(t, ev, started)
	got := f.one(t, "SELECT agent, verb, object, decision, rules FROM agent_activity")
	if want := "<nil>|get|/healthz|<nil>|<nil>"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWindow(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for _, tc := range []struct {
		name string
		at   time.Time
		want audit.Written
	}{
		{"now", time.Now(), audit.Written{Stored: 1}},
		{"tomorrow", time.Now().Add(47 * time.Hour), audit.Written{Stored: 1}},
		{"last year", time.Now().Add(-399 * 24 * time.Hour), audit.Written{Stored: 1}},
		{"too far ahead", time.Now().Add(49 * time.Hour), audit.Written{Quarantined: 1}},
		{"too old", time.Now().Add(-401 * 24 * time.Hour), audit.Written{Quarantined: 1}},
		{"year 1", time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC), audit.Written{Quarantined: 1}},
		{"year 9999", time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), audit.Written{Quarantined: 1}},
	} {
		ev := event(1)
		ev.StageTimestamp = metav1.NewMicroTime(tc.at)
		if got := f.write(t, ev); got != tc.want {
			t.Errorf("%s: got %+v, want %+v", tc.name, got, tc.want)
		}
		if got := f.write(t, ev); got.Stored+got.Quarantined != 0 {
			t.Errorf("%s, again: got %+v, want nothing new", tc.name, got)
		}
	}
	if got := f.one(t, "SELECT DISTINCT reason, event IS NOT NULL, prefix IS NOT NULL FROM quarantine"); got != "stageTimestamp is not within 400 days before and 2 days after now|true|true" {
		t.Errorf("quarantine: got %s", got)
	}
}

// hostile are events that Postgres would refuse as they are.
func hostile() map[string]func(*auditv1.Event) {
	body := func(s string) func(*auditv1.Event) {
		return func(ev *auditv1.Event) {
			ev.RequestObject = &runtime.Unknown{Raw: []byte(s), ContentType: runtime.ContentTypeJSON}
		}
	}
	long := strings.Repeat("x", 100_000)
	return map[string]func(*auditv1.Event){
		"NUL in every text": func(ev *auditv1.Event) {
			ev.AuditID, ev.Verb, ev.RequestURI, ev.UserAgent = "a\x00", "v\x00", "/\x00", "u\x00"
			ev.User.Username, ev.User.UID, ev.User.Groups = "n\x00", "u\x00", []string{"g\x00"}
			ev.ObjectRef = &auditv1.ObjectReference{Resource: "r\x00", Name: "n\x00", Namespace: "s\x00", UID: "u\x00"}
			ev.Annotations = map[string]string{"k\x00": "v\x00"}
			ev.ResponseStatus = &metav1.Status{Message: "m\x00", Reason: "r\x00"}
			ev.SourceIPs = []string{"1\x00"}
		},
		"NUL in a body":         body(`{"a\u0000":"b\u0000","c":["\u0000"]}`),
		"lone surrogates":       body(`{"a":"\ud800","b":"\udc00x","c":"\ud800\ud800\udc00"}`),
		"invalid UTF-8":         body("{\"a\":\"\xff\xfe\",\"b\xc3\":1}"),
		"number out of range":   body(`{"a":1e400000,"b":-1e-400000,"c":[1E+99999999999999999999]}`),
		"number of many digits": body(`{"a":` + strings.Repeat("9", 200_000) + `}`),
		"deep nesting":          body(strings.Repeat("[", 9000) + strings.Repeat("]", 9000)),
		"deep objects":          body(strings.Repeat(`{"a":`, 9000) + "1" + strings.Repeat("}", 9000)),
		"duplicate keys":        body(`{"a":1,"a":2}`),
		"a bare string":         body(`"\u0000"`),
		"overlong names": func(ev *auditv1.Event) {
			ev.User.Username, ev.AuditID = long, types.UID(long)
			ev.ObjectRef = &auditv1.ObjectReference{Resource: long, Name: long, Namespace: long}
		},
		"overlong decision ID": func(ev *auditv1.Event) {
			ev.Annotations = map[string]string{"guard.holdfast.dev/d-" + long + "\x00": `{"decision":"Deny"}`}
		},
	}
}

func TestHostileEventsAreStored(t *testing.T) {
	t.Parallel()
	f := setup(t)
	for name, change := range hostile() {
		ev := event(1)
		change(&ev)
		got := f.write(t, ev)
		got.Decisions = 0
		if want := (audit.Written{Stored: 1}); got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}

func TestEscapesCanBeUndone(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ev := event(1)
	ev.UserAgent = "a\x00b␀c␀0"
	ev.RequestObject = &runtime.Unknown{Raw: []byte(`{"s":"x\u0000y␀z\u2400","n":1e99999,"l":"\ud800"}`)}
	f.write(t, ev)
	var agent, s, n, l string
	err := f.conn.QueryRow(t.Context(), "SELECT user_agent, request_object->>'s', request_object->>'n', request_object->>'l' FROM audit_events").Scan(&agent, &s, &n, &l)
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range [][2]string{
		{postgres.Unescape(agent), ev.UserAgent}, {postgres.Unescape(s), "x\x00y␀z␀"},
		{postgres.Unescape(n), "1e99999"}, {postgres.Unescape(l), `\ud800`},
	} {
		if tc[0] != tc[1] {
			t.Errorf("got %q, want %q", tc[0], tc[1])
		}
	}
}

func TestOverlongIsKept(t *testing.T) {
	t.Parallel()
	f := setup(t)
	ev := event(1)
	ev.User.Username = strings.Repeat("ü", 3000)
	f.write(t, ev)
	if got := f.one(t, "SELECT length(username) < 513, overlong->>'username' = $1 FROM audit_events", ev.User.Username); got != "true|true" {
		t.Errorf("got %s, want true|true", got)
	}
}

// TestPoisonCostsOnlyItself plants a constraint that refuses one event of a hundred.
func TestPoisonCostsOnlyItself(t *testing.T) {
	t.Parallel()
	f := setup(t)
	if _, err := f.conn.Exec(t.Context(), "ALTER TABLE audit_events ADD CHECK (verb <> 'poison')"); err != nil {
		t.Fatal(err)
	}
	var events []auditv1.Event
	for i := range 100 {
		events = append(events, event(i))
	}
	events[37].Verb = "poison"
	bad := batch(events...)
	bad.Quarantine = []audit.Quarantine{{Reason: "not JSON", Digest: "hmac:1:2", Length: 3, Prefix: []byte("?")}}
	for i, want := range []audit.Written{{Stored: 99, Quarantined: 2}, {Duplicates: 99}} {
		got, err := f.store.Write(t.Context(), []audit.Batch{bad})
		if err != nil || got != want {
			t.Errorf("write %d: got %+v, %v; want %+v", i, got, err, want)
		}
	}
	got := f.one(t, "SELECT reason, api_server, length > 0 FROM quarantine ORDER BY reason")
	if want := "not JSON|api-1|true\nthe database refuses the event: SQLSTATE 23514|api-1|true"; got != want {
		t.Errorf("quarantine:\n got %s\nwant %s", got, want)
	}
	var whole []byte
	if err := f.conn.QueryRow(t.Context(), "SELECT event FROM quarantine WHERE event IS NOT NULL").Scan(&whole); err != nil {
		t.Fatal(err)
	}
	var back auditv1.Event
	if err := json.Unmarshal(whole, &back); err != nil || back.AuditID != "id-37" {
		t.Errorf("quarantined event: got %q, %v; want id-37", back.AuditID, err)
	}
}

func TestDroppedPartitionComesBack(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.write(t, event(1))
	day := time.Now().UTC().Format("20060102")
	if _, err := f.conn.Exec(t.Context(), "DROP TABLE audit_events_"+day); err != nil {
		t.Fatal(err)
	}
	if got, want := f.write(t, event(2)), (audit.Written{Stored: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func TestPartitionDoesNotWaitForReaders(t *testing.T) {
	t.Parallel()
	f := setup(t)
	tx, err := f.conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(context.Background())
	if _, err := tx.Exec(t.Context(), "SELECT count(*) FROM audit_events"); err != nil {
		t.Fatal(err)
	}
	ev := event(1)
	ev.StageTimestamp = metav1.NewMicroTime(time.Now().AddDate(0, 0, -30))
	begin := time.Now()
	f.write(t, ev)
	if took := time.Since(begin); took > 5*time.Second {
		t.Errorf("a new partition waited %s for a reader", took)
	}
}

func TestMigrateAtOnce(t *testing.T) {
	t.Parallel()
	dsn, drop, err := server.Database(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(drop)
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			store, err := postgres.Open(t.Context(), postgres.Config{URL: dsn})
			if err != nil {
				t.Error(err)
				return
			}
			defer store.Close()
			if err := store.Migrate(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
}

func TestErrorsKeepThePassword(t *testing.T) {
	t.Parallel()
	const secret = "hunter2hunter2"
	_, err := postgres.Open(t.Context(), postgres.Config{URL: "postgres://u:" + secret + "@[::1/x"})
	if err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("malformed URL: got %v", err)
	}
	store, err := postgres.Open(t.Context(), postgres.Config{URL: "postgres://u:" + secret + "@127.0.0.1:1/x"})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, err := range []error{store.Ping(t.Context()), store.Migrate(t.Context())} {
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("no server: got %v", err)
		}
	}
}

func TestWriteWhileAway(t *testing.T) {
	t.Parallel()
	s, err := postgrestest.Start(t.Context(), postgrestest.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Stop()
	store, err := postgres.Open(t.Context(), postgres.Config{URL: s.DSN()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := batch(event(1))
	s.Kill()
	// The killed server's children notice after a moment, and may take a write until then.
	other := batch(event(2))
	for deadline := time.Now().Add(10 * time.Second); ; {
		if _, err = store.Write(t.Context(), []audit.Batch{other}); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("killed: got no error")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	var got audit.Written
	for range 20 { // connections that died are found one by one
		if got, err = store.Write(t.Context(), []audit.Batch{b}); err == nil {
			break
		}
	}
	if want := (audit.Written{Stored: 1}); got != want || err != nil {
		t.Errorf("back: got %+v, %v; want %+v", got, err, want)
	}
}
