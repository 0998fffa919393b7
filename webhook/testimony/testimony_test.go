package testimony

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
)

// ledger writes down what it is told.
type ledger struct {
	said []string
	fail error
}

func (l *ledger) Settle(_ context.Context, accessRequest, decisionID string, status int) error {
	l.said = append(l.said, strings.Join([]string{"settle", accessRequest, decisionID, string(rune('0' + status/100))}, " "))
	return l.fail
}

func (l *ledger) Void(_ context.Context, review, why string) error {
	l.said = append(l.said, "void "+review+": "+why)
	return l.fail
}

func TestHandler(t *testing.T) {
	t.Parallel()
	const good = `{"outcomes":[{"accessRequest":"k-1","decisionID":"D","status":409}],"impersonated":[{"review":"r","by":"jane","as":"joe"}]}`
	for name, test := range map[string]struct {
		client, method, body string
		fail                 error
		want                 int
		said                 string
	}{
		"good":              {"collector", "POST", good, nil, 204, `settle k-1 D 4; void r: "jane" made it in the name of "joe"`},
		"the API server":    {"kube-apiserver", "POST", good, nil, 403, ""},
		"no certificate":    {"", "POST", good, nil, 403, ""},
		"another method":    {"collector", "GET", "", nil, 405, ""},
		"no JSON":           {"collector", "POST", "{", nil, 400, ""},
		"another type":      {"collector", "POST", `{"outcomes":[{"status":"x"}]}`, nil, 400, ""},
		"too large":         {"collector", "POST", strings.Repeat(" ", maxBody+1), nil, 400, ""},
		"too many":          {"collector", "POST", `{"outcomes":[` + strings.Repeat(`{},`, MaxEntries) + `{}]}`, nil, 400, ""},
		"nothing":           {"collector", "POST", "{}", nil, 204, ""},
		"the ledger is not": {"collector", "POST", `{"outcomes":[{"accessRequest":"k-1","decisionID":"D","status":200}]}`, errors.New("away"), 503, "settle k-1 D 2"},
	} {
		l := &ledger{fail: test.fail}
		r := httptest.NewRequest(test.method, "/", strings.NewReader(test.body))
		if test.client != "" {
			r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: test.client}}}}}
		}
		w := httptest.NewRecorder()
		NewHandler(l, "collector", slog.New(slog.DiscardHandler)).ServeHTTP(w, r)
		if said := strings.Join(l.said, "; "); w.Code != test.want || said != test.said {
			t.Errorf("%s: %d, %s; want %d, %s", name, w.Code, said, test.want, test.said)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"outcomes":[{"accessRequest":"k-1","decisionID":"D","status":409}]}`))
	f.Add([]byte(`{"impersonated":[null]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := decode(strings.NewReader(string(body)))
		if (got == nil) == (err == nil) || got != nil && got.Len() > MaxEntries {
			t.Fatalf("%+v beside %v", got, err)
		}
	})
}
