package audit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	authnv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/holdfast-dev/holdfast/pkg/audit"
	"github.com/holdfast-dev/holdfast/pkg/audit/redact"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

const event = `{"level":"RequestResponse","auditID":"a","stage":"ResponseComplete","requestURI":"/api?limit=1","verb":"get",` +
	`"user":{"username":"u"},"objectRef":{"resource":"pods","name":"p"},"requestReceivedTimestamp":"2026-01-02T03:04:05.000006Z",` +
	`"stageTimestamp":"2026-01-02T03:04:05.000007Z","requestObject":{"kind":"Pod","n":1e400},"responseStatus":{"code":200}}`

func listOf(items ...string) []byte {
	return []byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[` + strings.Join(items, ",") + `]}`)
}

func redactor(t testing.TB) *redact.Redactor {
	t.Helper()
	r, err := redact.New(make([]byte, redact.KeyMin))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		in      []byte
		events  int
		reasons []string
		err     error
	}{
		{"one", listOf(event), 1, nil, nil},
		{"none", listOf(), 0, nil, nil},
		{"items before kind", []byte(`{"items":[` + event + ` , ` + event + "\n" + `],"apiVersion":"audit.k8s.io/v1","kind":"EventList"}`), 2, nil, nil},
		{"brackets in strings", listOf(strings.Replace(event, `"u"`, `"]}\"[,\\"`, 1), event), 2, nil, nil},
		{"a broken one between", listOf(event, `{"auditID":7}`, event, `null`, `5`, `[[],{}]`, `"x"`), 2,
			[]string{"item is no audit event", "item is no object", "item is no object", "item is no object", "item is no object"}, nil},
		{"without fields", listOf(`{}`, `{"auditID":"a"}`, `{"auditID":"a","stage":"Panic"}`), 0,
			[]string{"event without auditID", "event without stage", "event without stageTimestamp"}, nil},
		{"bad time", listOf(strings.Replace(event, "2026-01-02T03:04:05.000007Z", "yesterday", 1)), 0, []string{"item is no audit event"}, nil},
		{"empty", nil, 0, nil, audit.ErrNotJSON},
		{"cut off", listOf(event)[:100], 0, nil, audit.ErrNotJSON},
		{"two texts", append(listOf(event), '{', '}'), 0, nil, audit.ErrNotJSON},
		{"another kind", []byte(`{"kind":"List","apiVersion":"audit.k8s.io/v1","items":[]}`), 0, nil, audit.ErrNotEventList},
		{"an older version", []byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1beta1","items":[]}`), 0, nil, audit.ErrNotEventList},
		{"no items", []byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1"}`), 0, nil, audit.ErrNotEventList},
		{"items no array", []byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":{}}`), 0, nil, audit.ErrNotEventList},
		{"array", []byte(`[]`), 0, nil, audit.ErrNotEventList},
		{"nested too deep", []byte(strings.Repeat("[", 10_001) + strings.Repeat("]", 10_001)), 0, nil, audit.ErrNotJSON},
		{"too many", listOf(strings.TrimSuffix(strings.Repeat("0,", audit.MaxItems+1), ",")), 0, nil, audit.ErrTooManyItems},
		{"as many as may be", listOf(strings.TrimSuffix(strings.Repeat("0,", audit.MaxItems), ",")), 0, nil, nil},
	} {
		list, err := audit.Decode(tc.in)
		if !errors.Is(err, tc.err) {
			t.Errorf("%s: got error %v, want %v", tc.name, err, tc.err)
			continue
		}
		if len(list.Events) != tc.events {
			t.Errorf("%s: got %d events, want %d", tc.name, len(list.Events), tc.events)
		}
		if tc.name == "as many as may be" {
			continue
		}
		var reasons []string
		for _, r := range list.Rejected {
			reasons = append(reasons, r.Reason)
		}
		if fmt.Sprint(reasons) != fmt.Sprint(tc.reasons) {
			t.Errorf("%s: got %q, want %q", tc.name, reasons, tc.reasons)
		}
	}
}

func TestDecodeErrorsQuoteNothing(t *testing.T) {
	t.Parallel()
	for _, in := range []string{`{"data":"planted`, `"planted"`, `{"kind":"planted"}`, "planted"} {
		if _, err := audit.Decode([]byte(in)); err == nil || strings.Contains(err.Error(), "pl") {
			t.Errorf("%s: got %v", in, err)
		}
	}
}

// decodeEvent returns a new copy of event.
func decodeEvent(t testing.TB) *auditv1.Event {
	t.Helper()
	list, err := audit.Decode(listOf(event))
	if err != nil || len(list.Events) != 1 {
		t.Fatalf("decoding: %v", err)
	}
	return &list.Events[0]
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	base := audit.Identity("api-1", decodeEvent(t))
	// The identity must never change: rows of old events have to be recognised.
	if got, want := fmt.Sprintf("%x", base), "11d6c9192989981b0af20772bf2aec1cb6bd782cf3cd1da2d948cd27cd676679"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for name, change := range map[string]func(*auditv1.Event){
		"bodies dropped":       func(ev *auditv1.Event) { ev.RequestObject = nil },
		"truncation mark":      func(ev *auditv1.Event) { ev.Annotations = map[string]string{"audit.k8s.io/truncated": "true"} },
		"kind as in the file":  func(ev *auditv1.Event) { ev.Kind, ev.APIVersion = "Event", "audit.k8s.io/v1" },
		"a message":            func(ev *auditv1.Event) { ev.ResponseStatus.Message = "x" },
		"time in another zone": func(ev *auditv1.Event) { ev.StageTimestamp.Time = ev.StageTimestamp.In(time.FixedZone("x", 3600)) },
	} {
		ev := decodeEvent(t)
		change(ev)
		if audit.Identity("api-1", ev) != base {
			t.Errorf("%s: want the same identity", name)
		}
	}
	seen := map[[32]byte]string{base: "base", audit.Identity("api-2", decodeEvent(t)): "another API server"}
	for name, change := range map[string]func(*auditv1.Event){
		"auditID":    func(ev *auditv1.Event) { ev.AuditID = "b" },
		"stage":      func(ev *auditv1.Event) { ev.Stage = "Panic" },
		"level":      func(ev *auditv1.Event) { ev.Level = "Metadata" },
		"received":   func(ev *auditv1.Event) { ev.RequestReceivedTimestamp.Time = time.UnixMicro(1) },
		"no time":    func(ev *auditv1.Event) { ev.RequestReceivedTimestamp.Time = time.Time{} },
		"stage time": func(ev *auditv1.Event) { ev.StageTimestamp.Time = ev.StageTimestamp.Add(time.Microsecond) },
		"path":       func(ev *auditv1.Event) { ev.RequestURI = "/apis?limit=1" },
		"query":      func(ev *auditv1.Event) { ev.RequestURI = "/api?limit=2" },
		"commands":   func(ev *auditv1.Event) { ev.RequestURI = "/api?limit=1&command=x" },
		"verb":       func(ev *auditv1.Event) { ev.Verb = "list" },
		"user":       func(ev *auditv1.Event) { ev.User.Username = "v" },
		"groups":     func(ev *auditv1.Event) { ev.User.Groups = []string{"g"} },
		"extra":      func(ev *auditv1.Event) { ev.User.Extra = map[string]authnv1.ExtraValue{"k": {"v"}} },
		"imperson.":  func(ev *auditv1.Event) { ev.ImpersonatedUser = &authnv1.UserInfo{} },
		"agent":      func(ev *auditv1.Event) { ev.UserAgent = "x" },
		"ips":        func(ev *auditv1.Event) { ev.SourceIPs = []string{"1"} },
		"object":     func(ev *auditv1.Event) { ev.ObjectRef.Name = "q" },
		"boundary":   func(ev *auditv1.Event) { ev.ObjectRef.Name, ev.ObjectRef.Namespace = "", "p" },
		"no object":  func(ev *auditv1.Event) { ev.ObjectRef = nil },
		"code":       func(ev *auditv1.Event) { ev.ResponseStatus.Code = 201 },
		"annotation": func(ev *auditv1.Event) { ev.Annotations = map[string]string{"guard.holdfast.dev/d-X": ""} },
	} {
		ev := decodeEvent(t)
		change(ev)
		id := audit.Identity("api-1", ev)
		if twin, ok := seen[id]; ok {
			t.Errorf("%s: has the identity of %s", name, twin)
		}
		seen[id] = name
	}
}

func TestPackUnpack(t *testing.T) {
	t.Parallel()
	r := redactor(t)
	b := audit.Batch{APIServer: "api-1", Quarantine: []audit.Quarantine{{Reason: "x", Length: 3}}}
	for i := range 50 {
		ev := decodeEvent(t)
		ev.AuditID = "id"
		ev.RequestObject = &runtime.Unknown{Raw: []byte(`"` + strings.Repeat("x", 300<<10) + `"`), ContentType: runtime.ContentTypeJSON}
		if i == 7 {
			ev.RequestObject.Raw = []byte(`"` + strings.Repeat("x", 9<<20) + `"`)
		}
		b.Records = append(b.Records, audit.NewRecord("api-1", ev, r, nil))
	}
	messages, err := audit.Pack(b, r)
	if err != nil {
		t.Fatal(err)
	}
	again, err := audit.Pack(b, r)
	if err != nil || len(again) != len(messages) {
		t.Fatalf("again: %d messages, %v; want %d", len(again), err, len(messages))
	}
	records, quarantined := 0, 0
	for i, m := range messages {
		if !bytes.Equal(m, again[i]) {
			t.Errorf("message %d: want the same bytes each time", i)
		}
		if len(m) > audit.MessageTarget+1024 {
			t.Errorf("message %d: %d bytes, want about %d at most", i, len(m), audit.MessageTarget)
		}
		got, err := audit.Unpack(m)
		if err != nil || got.APIServer != "api-1" {
			t.Fatalf("unpacking: %v", err)
		}
		records += len(got.Records)
		quarantined += len(got.Quarantine)
		for _, rec := range got.Records {
			if len(rec.Identity) != 32 {
				t.Error("a record without identity")
			}
		}
	}
	if records != 50 || quarantined != 1 || len(messages) != 5 {
		t.Errorf("got %d records, %d quarantined, in %d messages; want 50, 1, 5", records, quarantined, len(messages))
	}
	if got := b.Records[7].Redaction.Removed; len(got) != 1 || got[0] != "requestObject: larger than a message" {
		t.Errorf("removed: got %q", got)
	}
}

func TestPackOverlongMetadata(t *testing.T) {
	t.Parallel()
	r := redactor(t)
	ev := decodeEvent(t)
	ev.UserAgent = strings.Repeat("x", 9<<20)
	messages, err := audit.Pack(audit.Batch{APIServer: "a", Records: []audit.Record{audit.NewRecord("a", ev, r, nil)}}, r)
	if err != nil || len(messages) != 1 {
		t.Fatalf("got %d messages, %v; want one", len(messages), err)
	}
	b, err := audit.Unpack(messages[0])
	if err != nil || len(b.Quarantine) != 1 || b.Quarantine[0].Length < 9<<20 {
		t.Errorf("got %+v, %v; want it in quarantine", b, err)
	}
}

func TestUnpackRefuses(t *testing.T) {
	t.Parallel()
	for _, in := range []string{"", "{}", `{"v":2}`, `{"v":"1"}`, `[]`} {
		if _, err := audit.Unpack([]byte(in)); !errors.Is(err, audit.ErrBadMessage) {
			t.Errorf("%s: got %v, want ErrBadMessage", in, err)
		}
	}
}

// TestAuthorizerDecisions: what the authorizer decided stands in the API server's own
// annotation, after a sentence; what RBAC says there is none of it.
func TestAuthorizerDecisions(t *testing.T) {
	t.Parallel()
	want := decision.Record{ID: "ID", Webhook: decision.AuthorizerWebhook, Decision: "Hold", Reason: decision.ReasonRule, Rules: []string{"p/r"}}
	for reason, records := range map[string]int{(*decision.Key)(nil).AuthorizationReason(want, "no"): 1, `RBAC: allowed by ClusterRoleBinding "x"`: 0, "": 0} {
		got, broken := audit.Decisions(&auditv1.Event{Annotations: map[string]string{decision.AuthorizationReason: reason}}, nil)
		if len(got) != records || broken != 0 {
			t.Errorf("%q: %+v, %d broken", reason, got, broken)
		}
		if len(got) == 1 && !reflect.DeepEqual(got[0], want) {
			t.Errorf("got %+v, want %+v", got[0], want)
		}
	}
}

// TestRefusedImpersonation: what the authorizer said of it stands in the answer alone.
func TestRefusedImpersonation(t *testing.T) {
	t.Parallel()
	key, err := decision.NewKey([]byte(strings.Repeat("k", decision.KeyMin)))
	if err != nil {
		t.Fatal(err)
	}
	reason := key.AuthorizationReason(decision.Record{ID: "ID", Decision: "Deny", Reason: decision.ReasonSelfProtection}, "users is forbidden: no")
	ev := &auditv1.Event{ResponseStatus: &metav1.Status{Code: 403, Message: reason}}
	got, broken := audit.Decisions(ev, audit.Signed(ev, key))
	if len(got) != 1 || broken != 0 || !got[0].Verified || got[0].ID != "ID" || got[0].Webhook != decision.AuthorizerWebhook {
		t.Errorf("got %+v, %d broken", got, broken)
	}
	forged := &auditv1.Event{ResponseStatus: &metav1.Status{Code: 403, Message: strings.Replace(reason, " ID ", " IE ", 1)}}
	if got, _ := audit.Decisions(forged, audit.Signed(forged, key)); len(got) != 1 || got[0].Verified {
		t.Errorf("forged: %+v, want it not verified", got)
	}
	for name, ev := range map[string]*auditv1.Event{
		"another status": {ResponseStatus: &metav1.Status{Code: 422, Message: reason}},
		"beside an annotation": {
			ResponseStatus: &metav1.Status{Code: 403, Message: reason}, Annotations: map[string]string{decision.AuthorizationReason: "RBAC: no"},
		},
	} {
		if got, _ := audit.Decisions(ev, audit.Signed(ev, key)); len(got) != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	ev := &auditv1.Event{Annotations: map[string]string{
		"guard.holdfast.dev/d-B": `{"decision":"Deny","rules":["p/r"]}`,
		"guard.holdfast.dev/d-A": `{"decision":"Allow"}`,
		"own.holdfast.dev/d-C":   `nonsense`,
		"evil.example/d-D":       `{"decision":"Allow"}`,
	}}
	records, broken := audit.Decisions(ev, []string{"guard.holdfast.dev/d-B", "evil.example/d-D"})
	if len(records) != 2 || broken != 1 || records[0].ID != "A" || records[1].Rules[0] != "p/r" || records[0].Verified || !records[1].Verified {
		t.Errorf("got %+v and %d broken", records, broken)
	}
}

func TestValidServerName(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{
		"api-1": true, "a.b": true, "": false, "A": false, "-a": false, "a/b": false, "..": false, strings.Repeat("a", 64): false,
	} {
		if got := audit.ValidServerName(name); got != want {
			t.Errorf("%q: got %v", name, got)
		}
	}
}

// FuzzDecode: no panic; what decodes can be redacted, packed and unpacked to as many.
func FuzzDecode(f *testing.F) {
	f.Add(listOf(event))
	f.Add(listOf(event, "{}", "5"))
	f.Add([]byte(`{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[{"a":"]"},{}]}`))
	f.Add(listOf(strings.Replace(event, `"u"`, `"\u0000\ud800"`, 1)))
	f.Add(listOf(strings.Replace(event, `"pods"`, `"secrets"`, 1)))
	r := redactor(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		list, err := audit.Decode(data)
		if err != nil {
			return
		}
		var items struct {
			Items []json.RawMessage `json:"items"`
		}
		if json.Unmarshal(data, &items) != nil || len(items.Items) != len(list.Events)+len(list.Rejected) {
			t.Fatalf("%d items became %d events and %d rejects", len(items.Items), len(list.Events), len(list.Rejected))
		}
		b := audit.Batch{APIServer: "a"}
		for i := range list.Events {
			b.Records = append(b.Records, audit.NewRecord("a", &list.Events[i], r, nil))
		}
		messages, err := audit.Pack(b, r)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, m := range messages {
			got, err := audit.Unpack(m)
			if err != nil {
				t.Fatal(err)
			}
			n += len(got.Records)
		}
		if n != len(list.Events) {
			t.Fatalf("%d events became %d records", len(list.Events), n)
		}
	})
}
