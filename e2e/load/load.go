// Package load writes to an API server as one identity: steadily, to see what others get, or
// as much as it can, like an agent that has gone wrong.
//
// It never retries and draws no conclusions: every answer counts, and whoever calls it says
// which of them should not have come.
package load

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// timeout bounds one request: the API server itself ends one after a minute.
const timeout = 90 * time.Second

// maxAnswer bounds the body of an answer that is read, in bytes. What is written here is small.
const maxAnswer = 1 << 20

// Conn is one connection with an identity's credentials. It sends one request at a time.
type Conn struct {
	client *http.Client
	host   string
}

// Answer is what came back for one request.
type Answer struct {
	Code int
	// Status says what went wrong; empty for a success.
	Status metav1.Status
	// Took is the time from when the request was due until its answer had been read.
	Took time.Duration
}

// OK says whether the request had its effect.
func (a Answer) OK() bool { return a.Code >= 200 && a.Code < 300 }

// Cause is the message of the Status' first cause of that type; empty where it has none.
func (a Answer) Cause(of metav1.CauseType) string {
	if a.Status.Details == nil {
		return ""
	}
	for _, c := range a.Status.Details.Causes {
		if c.Type == of {
			return c.Message
		}
	}
	return ""
}

// Dial returns a connection of its own for a kubeconfig's identity, made with the first
// request: HTTP/1.1, since HTTP/2 would put many requests into one.
func Dial(config *rest.Config) (*Conn, error) {
	tlsConfig, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	tlsConfig.NextProtos = []string{"http/1.1"}
	transport, err := rest.HTTPWrappersForConfig(config, &http.Transport{TLSClientConfig: tlsConfig, MaxConnsPerHost: 1})
	if err != nil {
		return nil, fmt.Errorf("load: %w", err)
	}
	return &Conn{client: &http.Client{Transport: transport, Timeout: timeout}, host: config.Host}, nil
}

// Close ends the connection.
func (c *Conn) Close() { c.client.CloseIdleConnections() }

// Send sends a request with a JSON body and reads the answer; due is when it should have been
// sent. The error is that of the connection, or of ctx.
func (c *Conn) Send(ctx context.Context, due time.Time, method, path string, body any) (Answer, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return Answer{}, fmt.Errorf("load: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, method, c.host+path, bytes.NewReader(data))
	if err != nil {
		return Answer{}, fmt.Errorf("load: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.client.Do(request)
	if err != nil {
		return Answer{}, fmt.Errorf("load: %w", err)
	}
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	_ = response.Body.Close() // it has been read
	if err != nil {
		return Answer{}, fmt.Errorf("load: %w", err)
	}
	a := Answer{Code: response.StatusCode, Took: time.Since(due)}
	if !a.OK() {
		if err := json.Unmarshal(answer, &a.Status); err != nil {
			a.Status.Message = string(answer)
		}
	}
	return a, nil
}

// configMap is what is written: small, and different each time.
func configMap(name string, n int) any {
	return map[string]any{
		"apiVersion": "v1", "kind": "ConfigMap",
		"metadata": map[string]any{"name": name}, "data": map[string]any{"n": fmt.Sprint(n)},
	}
}

func collection(namespace string) string { return "/api/v1/namespaces/" + namespace + "/configmaps" }

// Create creates a ConfigMap.
func (c *Conn) Create(ctx context.Context, namespace, name string) (Answer, error) {
	return c.Send(ctx, time.Now(), http.MethodPost, collection(namespace), configMap(name, 0))
}

// Steady writes one ConfigMap again and again.
type Steady struct {
	// Namespace and Name of the ConfigMap, which is made where it does not exist.
	Namespace, Name string
	// Every is the time from one write to the next. Where a write takes longer than that,
	// those after it are late, and their times count from when they were due: a stall counts
	// for all that it kept waiting.
	Every time.Duration
}

// Run writes until done is closed, and returns all answers but that of making the ConfigMap.
// The error is that of the connection.
func (s Steady) Run(ctx context.Context, config *rest.Config, done <-chan struct{}) ([]Answer, error) {
	conn, err := Dial(config)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	made, err := conn.Create(ctx, s.Namespace, s.Name)
	if err != nil {
		return nil, err
	}
	if !made.OK() && made.Code != http.StatusConflict {
		return nil, fmt.Errorf("load: make %s/%s: %d %s", s.Namespace, s.Name, made.Code, made.Status.Message)
	}
	var answers []Answer
	for due, n := time.Now(), 1; ; due, n = due.Add(s.Every), n+1 {
		select {
		case <-ctx.Done():
			return answers, ctx.Err()
		case <-done:
			return answers, nil
		case <-time.After(time.Until(due)):
		}
		a, err := conn.Send(ctx, due, http.MethodPut, collection(s.Namespace)+"/"+s.Name, configMap(s.Name, n))
		if err != nil {
			return answers, err
		}
		answers = append(answers, a)
	}
}

// Flood creates distinct ConfigMaps over many connections, each of which sends the next
// request as soon as it has an answer.
type Flood struct {
	// Namespace of the ConfigMaps, and Prefix of their names.
	Namespace, Prefix string
	Connections       int
	// Requests is how many are sent at least: more, until done is closed.
	Requests int
}

// Run returns all answers. The error is the first one of a connection.
func (f Flood) Run(ctx context.Context, config *rest.Config, done <-chan struct{}) ([]Answer, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var (
		sent atomic.Int64
		wg   sync.WaitGroup
	)
	answers := make([][]Answer, f.Connections)
	for i := range f.Connections {
		conn, err := Dial(config)
		if err != nil {
			return nil, err
		}
		defer conn.Close()
		wg.Go(func() {
			for ctx.Err() == nil {
				n := sent.Add(1)
				if n > int64(f.Requests) && closed(done) {
					return
				}
				a, err := conn.Create(ctx, f.Namespace, fmt.Sprintf("%s%d", f.Prefix, n))
				if err != nil {
					cancel(err)
					return
				}
				answers[i] = append(answers[i], a)
			}
		})
	}
	wg.Wait()
	return slices.Concat(answers...), context.Cause(ctx)
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Quantile is the time within which that part of the answers came; q is in (0, 1].
func Quantile(answers []Answer, q float64) time.Duration {
	took := make([]time.Duration, 0, len(answers))
	for _, a := range answers {
		took = append(took, a.Took)
	}
	return QuantileOf(took, q)
}

// QuantileOf is the smallest time that at least that part of the times do not exceed; 0 for
// none.
func QuantileOf(took []time.Duration, q float64) time.Duration {
	if len(took) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(took))
	at := int(math.Ceil(q*float64(len(sorted))-1e-9)) - 1 // less what floating point adds
	return sorted[min(max(at, 0), len(sorted)-1)]
}
