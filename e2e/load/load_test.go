package load

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// recorder is a server that notes what it is asked, and over which connections.
type recorder struct {
	mu          sync.Mutex
	bodies      map[string]int
	connections map[string]bool
	answer      func(n int) (code int, body string)
	asked       int
}

func setup(t *testing.T, answer func(n int) (int, string)) (*recorder, *rest.Config) {
	t.Helper()
	r := &recorder{bodies: map[string]int{}, connections: map[string]bool{}, answer: answer}
	server := httptest.NewUnstartedServer(r)
	server.EnableHTTP2 = true // which Dial does not take up
	server.StartTLS()
	t.Cleanup(server.Close)
	return r, &rest.Config{Host: server.URL, BearerToken: "t", TLSClientConfig: rest.TLSClientConfig{Insecure: true}}
}

func (r *recorder) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, _ := io.ReadAll(request.Body)
	r.mu.Lock()
	r.asked++
	r.bodies[string(body)]++
	r.connections[request.RemoteAddr] = true
	code, text := r.answer(r.asked)
	r.mu.Unlock()
	if request.Header.Get("Authorization") != "Bearer t" {
		code = http.StatusUnauthorized
	}
	w.WriteHeader(code)
	_, _ = fmt.Fprint(w, text)
}

func TestFlood(t *testing.T) {
	t.Parallel()
	const refusal = `{"kind":"Status","code":403,"details":{"causes":[{"reason":"HoldfastDecision","message":"D"}]}}`
	server, config := setup(t, func(int) (int, string) { return http.StatusForbidden, refusal })
	done := make(chan struct{})
	close(done)
	answers, err := Flood{Namespace: "n", Prefix: "f-", Connections: 5, Requests: 200}.Run(t.Context(), config, done)
	if err != nil {
		t.Fatal(err)
	}
	if len(answers) != 200 || len(server.bodies) != 200 {
		t.Errorf("%d answers for %d distinct requests, want 200 and 200", len(answers), len(server.bodies))
	}
	if len(server.connections) != 5 {
		t.Errorf("%d connections, want 5", len(server.connections))
	}
	for _, a := range answers {
		if a.OK() || a.Code != http.StatusForbidden || a.Cause("HoldfastDecision") != "D" || a.Cause("other") != "" || a.Took <= 0 {
			t.Fatalf("answer %+v", a)
		}
	}
}

// A flood goes on beyond its number of requests until it is told to end.
func TestFloodGoesOn(t *testing.T) {
	t.Parallel()
	done := make(chan struct{})
	_, config := setup(t, func(n int) (int, string) {
		if n == 50 {
			close(done)
		}
		return http.StatusCreated, "{}"
	})
	answers, err := Flood{Connections: 2, Requests: 1}.Run(t.Context(), config, done)
	if err != nil || len(answers) < 50 {
		t.Errorf("%d answers, %v; want 50 and more", len(answers), err)
	}
}

// A stall counts for every write that was due meanwhile.
func TestSteadyCountsStalls(t *testing.T) {
	t.Parallel()
	const stall = 300 * time.Millisecond
	done := make(chan struct{})
	_, config := setup(t, func(n int) (int, string) {
		switch n {
		case 5:
			time.Sleep(stall)
		case 30:
			close(done)
		}
		return http.StatusOK, "{}"
	})
	answers, err := Steady{Namespace: "n", Name: "c", Every: 10 * time.Millisecond}.Run(t.Context(), config, done)
	if err != nil || len(answers) < 29 {
		t.Fatalf("%d answers, %v; want 29", len(answers), err)
	}
	late := 0
	for _, a := range answers {
		if a.Took > stall/3 {
			late++
		}
	}
	if late < 10 {
		t.Errorf("%d of %d writes are late after a stall in which 30 were due", late, len(answers))
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	var took []time.Duration
	for i := 100; i > 0; i-- {
		took = append(took, time.Duration(i))
	}
	for q, want := range map[float64]time.Duration{0.001: 1, 0.5: 50, 0.99: 99, 0.995: 100, 1: 100} {
		if got := QuantileOf(took, q); got != want {
			t.Errorf("%v: %d, want %d", q, got, want)
		}
	}
	if got := QuantileOf(nil, 0.99); got != 0 {
		t.Errorf("of nothing: %d", got)
	}
	if got := Quantile([]Answer{{Took: 7, Status: metav1.Status{}}}, 0.99); got != 7 {
		t.Errorf("of one: %d", got)
	}
}
