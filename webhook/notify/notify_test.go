package notify

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/access/notice"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

const cluster = "5f0c1c1e-8f4b-4f0a-9c58-0c8a6d2a1b11"

var opened = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)

// canary is what no event may hold.
const canary = "cGFzc3dvcmQ-canary"

// request has something in every field; what is of the change or of objects is the canary.
func request(phase v1alpha1.Phase) *v1alpha1.AccessRequest {
	return &v1alpha1.AccessRequest{
		ObjectMeta: metav1.ObjectMeta{
			Name: "key-1", UID: "6a1d", CreationTimestamp: metav1.Time{Time: opened},
			Labels: map[string]string{"x": canary}, Annotations: map[string]string{"x": canary},
		},
		Spec: v1alpha1.AccessRequestSpec{
			Origin: v1alpha1.Intercepted, Agent: "bot", Requester: "system:serviceaccount:agents:bot",
			Reason: `tests <need> it & "now"`,
			Access: v1alpha1.Access{
				Verbs: []string{"update"}, APIGroups: []string{""}, Resources: []string{"secrets"},
				Namespaces: []string{"prod"}, Names: []string{"db"},
			},
			Rules: []v1alpha1.HoldingRule{{
				Policy: "holds", Rule: "hold", Required: 2, Message: "A second pair of eyes.",
				Approvers: v1alpha1.Approvers{Groups: []string{"holdfast:approvers"}, Users: []string{"jane"}},
			}},
		},
		Status: v1alpha1.AccessRequestStatus{
			Phase: phase, Fingerprint: canary, Change: canary, ChangeDigest: canary, Version: canary,
			GenerateName: canary, TargetUID: canary, Items: []v1alpha1.Item{{Name: canary, UID: canary}},
			Impact: map[string]int64{canary: 1}, Affected: []string{canary}, AffectedDigest: canary,
			Redeemed:  &v1alpha1.Redemption{DecisionID: canary, TraceID: canary},
			Message:   "given back: the API server answered 409",
			ExpiresAt: &metav1.Time{Time: opened.Add(time.Hour)},
			EndedAt:   &metav1.Time{Time: opened.Add(2 * time.Minute)},
			Notified:  canary,
		},
	}
}

const body = `{"specversion":"1.0","id":"6a1d.pending","source":"urn:uuid:5f0c1c1e-8f4b-4f0a-9c58-0c8a6d2a1b11",` +
	`"type":"dev.holdfast.accessrequest.pending","subject":"key-1","time":"2026-11-02T09:00:00Z","datacontenttype":"application/json",` +
	`"data":{"name":"key-1","origin":"Intercepted","agent":"bot","requester":"system:serviceaccount:agents:bot","phase":"Pending",` +
	`"access":{"verbs":["update"],"apiGroups":[""],"resources":["secrets"],"namespaces":["prod"],"names":["db"]},` +
	`"rules":[{"policy":"holds","rule":"hold","message":"A second pair of eyes.","required":2,"approvers":{"groups":["holdfast:approvers"],"users":["jane"]}}],` +
	`"reason":"tests <need> it & \"now\"","expiresAt":"2026-11-02T10:00:00Z",` +
	`"message":"given back: the API server answered 409",` +
	`"commands":{"describe":"kubectl holdfast describe key-1","approve":"kubectl holdfast approve key-1","deny":"kubectl holdfast deny key-1 -m \"WHY\""}}}`

// receiver is an HTTP server that answers as it is told.
type receiver struct {
	*httptest.Server
	mu       sync.Mutex
	answer   http.HandlerFunc
	requests []*http.Request
	bodies   []string
}

func serve(t *testing.T, tls bool) *receiver {
	t.Helper()
	r := &receiver{answer: func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusAccepted) }}
	handler := http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		data, err := io.ReadAll(q.Body)
		if err != nil {
			t.Error(err)
		}
		r.mu.Lock()
		r.requests, r.bodies = append(r.requests, q), append(r.bodies, string(data))
		answer := r.answer
		r.mu.Unlock()
		answer(w, q)
	})
	if tls {
		r.Server = httptest.NewTLSServer(handler)
	} else {
		r.Server = httptest.NewServer(handler)
	}
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) answers(status int, header ...string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, canary)
	}
}

func (r *receiver) calls() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.requests)
}

func sender(t *testing.T, c Config) *Sender {
	t.Helper()
	c.ClusterUID = cluster
	s, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func tell(t *testing.T, s *Sender) error {
	t.Helper()
	r := request(v1alpha1.Pending)
	return s.Tell(t.Context(), r, notice.Of(r)[0])
}

// TestTell: what the receiver gets, byte for byte.
func TestTell(t *testing.T) {
	t.Parallel()
	r := serve(t, false)
	if err := tell(t, sender(t, Config{URL: r.URL + "/hook"})); err != nil {
		t.Fatal(err)
	}
	if r.bodies[0] != body {
		t.Errorf("body\n%s\nwant\n%s", r.bodies[0], body)
	}
	got := r.requests[0]
	if got.Method != http.MethodPost || got.URL.Path != "/hook" ||
		got.Header.Get("Content-Type") != "application/cloudevents+json; charset=UTF-8" || got.Header.Get("Authorization") != "" {
		t.Errorf("%s %s %v", got.Method, got.URL, got.Header)
	}
}

// TestOccasions: type, ID, time and commands of each occasion; and none of what stays in the
// AccessRequest.
func TestOccasions(t *testing.T) {
	t.Parallel()
	reviewed := opened.Add(time.Minute)
	reviews := []v1alpha1.ReviewCopy{
		{Name: "review-a", Reviewer: "jane", UID: canary, Group: canary, Rules: []string{canary}, Verdict: v1alpha1.Approve, Comment: "fine", Time: metav1.Time{Time: reviewed}},
		{Name: "review-b", Reviewer: "joe", Verdict: v1alpha1.Approve, Refused: "voided: made by mallory", Time: metav1.Time{Time: reviewed}},
	}
	for _, test := range []struct {
		phase                    v1alpha1.Phase
		kind, id, time, told     string
		voided, approve, reviews string
	}{
		{v1alpha1.Pending, "pending", "6a1d.pending", "2026-11-02T09:00:00Z", "Pending", "", "kubectl holdfast approve key-1", ""},
		{v1alpha1.Approved, "approved", "6a1d.approved", "2026-11-02T09:01:00Z", "Approved", "", "", ""},
		{v1alpha1.Used, "approved", "6a1d.approved", "2026-11-02T09:01:00Z", "Approved", "", "", ""},
		{v1alpha1.Denied, "denied", "6a1d.denied", "2026-11-02T09:02:00Z", "Denied", "", "", ""},
		{v1alpha1.Expired, "expired", "6a1d.expired", "2026-11-02T09:02:00Z", "Expired", "", "", ""},
		{v1alpha1.Withdrawn, "withdrawn", "6a1d.withdrawn", "2026-11-02T09:02:00Z", "Withdrawn", "", "", ""},
		{v1alpha1.Revoked, "revoked", "6a1d.revoked", "2026-11-02T09:02:00Z", "Revoked", "", "", ""},
	} {
		r := request(test.phase)
		r.Status.Reviews = reviews
		notices := notice.Of(r)
		if len(notices) != 2 {
			t.Fatalf("%s: %d notices, want the phase and the voided review", test.phase, len(notices))
		}
		for i, n := range notices {
			encoded, err := encode("urn:uuid:"+cluster, r, n)
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(encoded), canary) {
				t.Errorf("%s: tells what stays in the AccessRequest: %s", test.phase, encoded)
			}
			var e event
			if err := json.Unmarshal(encoded, &e); err != nil {
				t.Fatal(err)
			}
			if i == 1 {
				if e.Type != "dev.holdfast.accessrequest.voided" || e.ID != "6a1d.voided.review-b" || e.Data.VoidedReview != "review-b" {
					t.Errorf("%s: voided is told as %s", test.phase, encoded)
				}
				continue
			}
			if e.Type != "dev.holdfast.accessrequest."+test.kind || e.ID != test.id || e.Time.Format(time.RFC3339) != test.time ||
				string(e.Data.Phase) != test.told || e.Data.Commands.Approve != test.approve || e.Data.VoidedReview != "" {
				t.Errorf("%s is told as %s", test.phase, encoded)
			}
			const want = `"reviews":[{"name":"review-a","reviewer":"jane","verdict":"Approve","comment":"fine"},{"name":"review-b","reviewer":"joe","verdict":"Approve","refused":"voided: made by mallory"}]`
			if !strings.Contains(string(encoded), want) {
				t.Errorf("%s: reviews are not %s in %s", test.phase, want, encoded)
			}
		}
	}
}

// TestOutage goes through what a receiver can do before it takes an event.
func TestOutage(t *testing.T) {
	t.Parallel()
	r := serve(t, false)
	var mu sync.Mutex
	now := opened
	s := sender(t, Config{URL: r.URL, Timeout: 200 * time.Millisecond, Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}})
	pass := func(d time.Duration) {
		mu.Lock()
		defer mu.Unlock()
		now = now.Add(d)
	}
	step := func(name, want string, after time.Duration, asked bool) {
		t.Helper()
		before := r.calls()
		err := tell(t, s)
		if (err == nil) != (want == "") || (err != nil && err.Error() != want) {
			t.Fatalf("%s: error %v, want %q", name, err, want)
		}
		var refusal *Refusal
		if errors.As(err, &refusal) && refusal.RetryAfter() != after {
			t.Errorf("%s: retry after %s, want %s", name, refusal.RetryAfter(), after)
		}
		if (r.calls() > before) != asked {
			t.Errorf("%s: asked %t, want %t", name, !asked, asked)
		}
	}

	r.answers(http.StatusInternalServerError)
	step("fails", "the receiver answered 500 Internal Server Error", 0, true)
	r.answers(http.StatusTooManyRequests, "Retry-After", "30")
	step("too many", "the receiver answered 429 Too Many Requests", 30*time.Second, true)
	r.answers(http.StatusOK)
	step("is left alone", "the receiver wants to be left alone for another 30s", 30*time.Second, false)
	pass(20 * time.Second)
	step("is still left alone", "the receiver wants to be left alone for another 10s", 10*time.Second, false)
	pass(10 * time.Second)
	r.answers(http.StatusServiceUnavailable, "Retry-After", now.Add(time.Minute).Format(http.TimeFormat))
	step("a date", "the receiver answered 503 Service Unavailable", time.Minute, true)
	pass(time.Minute)
	r.answers(http.StatusServiceUnavailable, "Retry-After", "99999999999999999999999")
	step("nonsense", "the receiver answered 503 Service Unavailable", 0, true)
	r.answers(http.StatusServiceUnavailable, "Retry-After", "9999999999")
	step("for centuries", "the receiver answered 503 Service Unavailable", time.Hour, true)
	pass(time.Hour)
	r.answers(http.StatusServiceUnavailable, "Retry-After", now.AddDate(9, 0, 0).Format(http.TimeFormat))
	step("for years", "the receiver answered 503 Service Unavailable", time.Hour, true)
	pass(time.Hour)
	r.answers(http.StatusNotFound, "Retry-After", "30")
	step("wrong address: others are not put off", "the receiver answered 404 Not Found", 0, true)

	r.mu.Lock()
	ended := make(chan struct{})
	r.answer = func(_ http.ResponseWriter, q *http.Request) {
		select {
		case <-q.Context().Done():
		case <-ended:
		}
	}
	r.mu.Unlock()
	step("hangs", "send to the receiver: context deadline exceeded (Client.Timeout exceeded while awaiting headers)", 0, true)
	close(ended)

	r.answers(http.StatusNoContent)
	step("takes", "", 0, true)
	for i, got := range r.bodies {
		if got != body {
			t.Errorf("attempt %d differs:\n%s", i, got)
		}
	}
}

// TestSaysNothing: neither address, nor header, nor answer get into an error.
func TestSaysNothing(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "header")
	if err := os.WriteFile(file, []byte("Authorization: Bearer "+canary), 0o600); err != nil {
		t.Fatal(err)
	}
	r := serve(t, false)
	elsewhere := serve(t, false)
	s := sender(t, Config{URL: r.URL + "/" + canary, HeaderFile: file})
	r.answers(http.StatusForbidden)
	refused := tell(t, s)
	r.answers(http.StatusTemporaryRedirect, "Location", elsewhere.URL)
	redirected := tell(t, s)
	r.Close()
	unreachable := tell(t, s)
	for _, err := range []error{refused, redirected, unreachable} {
		if err == nil || strings.Contains(err.Error(), canary) {
			t.Errorf("error %v", err)
		}
	}
	if elsewhere.calls() > 0 {
		t.Error("a redirect was followed, with the header")
	}
	for _, name := range []string{"Authorization " + canary, canary + "\n" + canary + ": x", "X: " + canary + "\nY: z", "X:", "Content-Type: " + canary, ""} {
		if err := os.WriteFile(file, []byte(name), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := tell(t, s); err == nil || strings.Contains(err.Error(), canary) || !strings.Contains(err.Error(), "header file "+file+": want ") {
			t.Errorf("header %q: error %v", name, err)
		}
	}
}

// TestHeaderRotates: a new credential is used without a restart.
func TestHeaderRotates(t *testing.T) {
	t.Parallel()
	r := serve(t, true)
	file := filepath.Join(t.TempDir(), "header")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("authorization: Bearer one\n")
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: r.Certificate().Raw})
	s := sender(t, Config{URL: r.URL, HeaderFile: file, CA: ca})
	for i, token := range []string{"Bearer one", "Bearer two"} {
		write("authorization: " + token + "\n")
		if err := tell(t, s); err != nil {
			t.Fatal(err)
		}
		if got := r.requests[i].Header.Get("Authorization"); got != token {
			t.Errorf("Authorization %q, want %q", got, token)
		}
	}
	if err := tell(t, sender(t, Config{URL: r.URL})); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a receiver of another authority: error %v", err)
	}
}

// TestShort: an event has at most 64 KiB, whatever the AccessRequest has.
func TestShort(t *testing.T) {
	t.Parallel()
	repeat := func(n int, s string) []string {
		out := make([]string, n)
		for i := range out {
			out[i] = s
		}
		return out
	}
	long := func(n int) string { return strings.Repeat("x", n) }
	r := request(v1alpha1.Pending)
	r.Name = long(253)
	r.Spec.Requester, r.Spec.Reason = long(512), strings.Repeat("é", 2048)
	r.Spec.Access = v1alpha1.Access{
		Verbs: repeat(16, long(63)), APIGroups: repeat(16, long(253)), Resources: repeat(16, long(253)),
		Namespaces: repeat(16, long(63)), Names: repeat(32, long(253)),
	}
	rule := v1alpha1.HoldingRule{
		Policy: long(253), Rule: long(63), Message: long(1024), Required: 16,
		Approvers: v1alpha1.Approvers{Groups: repeat(32, long(253)), Users: repeat(32, long(253))},
	}
	for range 32 {
		r.Spec.Rules = append(r.Spec.Rules, rule)
	}
	for range 100 {
		r.Status.Reviews = append(r.Status.Reviews, v1alpha1.ReviewCopy{
			Name: long(253), Reviewer: long(512), Verdict: v1alpha1.Approve, Comment: long(4096), Refused: long(2000),
		})
	}
	r.Status.Reviews[99].Reviewer = "last"
	encoded, err := encode("urn:uuid:"+cluster, r, notice.Of(r)[0])
	if err != nil {
		t.Fatal(err)
	}
	var e event
	if err := json.Unmarshal(encoded, &e); err != nil {
		t.Fatal(err)
	}
	if len(encoded) > maxEvent || !e.Data.Short || len(e.Data.Rules) != len(r.Spec.Rules) ||
		len(e.Data.Reviews) != maxReviews || e.Data.Reviews[maxReviews-1].Reviewer != "last" {
		t.Errorf("%d bytes, short %t, %d rules, %d reviews", len(encoded), e.Data.Short, len(e.Data.Rules), len(e.Data.Reviews))
	}
	if e.Data.Reason != strings.Repeat("é", 512) {
		t.Errorf("the reason is cut to %q", e.Data.Reason)
	}
	if r.Status.Reviews[99].Comment == "" || r.Spec.Rules[0].Message == "" {
		t.Error("shortening has changed the AccessRequest")
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "header")
	if err := os.WriteFile(file, []byte("X: "+strings.Repeat("x", maxHeaderFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		change func(*Config)
		want   string
	}{
		{func(c *Config) { c.URL = "" }, "notify: URL: want https://host/path"},
		{func(c *Config) { c.URL = "ftp://x" }, "notify: URL: want https://host/path"},
		{func(c *Config) { c.URL = "https://x y/" + canary }, "notify: URL: want https://host/path"},
		{func(c *Config) { c.URL = "https://u:" + canary + "@x/" }, "notify: URL: want no user name or password in it; give an Authorization header in the header file"},
		{
			func(c *Config) { c.URL = "http://10.0.0.1/" + canary },
			`notify: URL: http to host "10.0.0.1" would send requests of agents and their reviews in the clear: want https, or http to localhost`,
		},
		{func(c *Config) { c.ClusterUID = "" }, "notify: cluster UID: want the UID of namespace kube-system"},
		{func(c *Config) { c.CA = []byte("x") }, "notify: CA: want certificates in PEM"},
		{func(c *Config) { c.Timeout = -time.Second }, "notify: timeout -1s: want more than 0"},
		{func(c *Config) { c.HeaderFile = file }, "notify: header file " + file + ": want at most 8192 bytes"},
		{func(c *Config) { c.HeaderFile = "/nowhere" }, "notify: header file: open /nowhere: no such file or directory"},
	} {
		c := Config{URL: "https://x/", ClusterUID: cluster}
		test.change(&c)
		if _, err := New(c); err == nil || err.Error() != test.want {
			t.Errorf("error %v, want %s", err, test.want)
		}
	}
	for _, url := range []string{"https://x", "http://127.0.0.9:80/a", "http://[::1]/", "http://localhost:8080"} {
		if _, err := New(Config{URL: url, ClusterUID: cluster}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestEnds: an attempt ends with its context.
func TestEnds(t *testing.T) {
	t.Parallel()
	r := serve(t, false)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a := request(v1alpha1.Pending)
	if err := sender(t, Config{URL: r.URL}).Tell(ctx, a, notice.Of(a)[0]); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want that the context was canceled", err)
	}
}
