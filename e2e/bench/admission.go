package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/certs"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/webhook/admission"
)

// calls is how many reviews one round sends.
const calls = 4000

// admissionFigures measures the guard, with 1,000 rules, over TLS. The floor is a handler
// over the same TLS that decodes review, object and oldObject into the engine's form and
// answers Allow: all that any webhook has to do.
func admissionFigures() ([]Figure, error) {
	body, allowed := reviewBody(deployment()), []byte(`"allowed":true`)
	value, floor, err := besides("guard", "noop", func(c *child) (float64, error) { return c.cpu(body, allowed) })
	if err != nil {
		return nil, err
	}
	return []Figure{{Name: "admission_cpu_1000_rules", Value: value, Unit: "us/review", Floor: floor}}, nil
}

// besides measures two servers in turns, and returns the median of each.
func besides(name, noop string, measure func(*child) (float64, error)) (value, floor float64, err error) {
	var values, floors []float64
	server, err := startServer(name)
	if err != nil {
		return 0, 0, err
	}
	defer server.stop()
	nothing, err := startServer(noop)
	if err != nil {
		return 0, 0, err
	}
	defer nothing.stop()
	for range rounds {
		v, err := measure(server)
		if err != nil {
			return 0, 0, err
		}
		f, err := measure(nothing)
		if err != nil {
			return 0, 0, err
		}
		values, floors = append(values, v), append(floors, f)
	}
	return median(values), median(floors), nil
}

// noop is the floor's Judge.
func noop(context.Context, *admission.Review) decision.Decision {
	return decision.Decision{ID: "NOOP", Action: decision.Allow}
}

// handlerOf is what the server of that name serves.
func handlerOf(name string) (http.Handler, error) {
	key, err := decision.NewKey(bytes.Repeat([]byte("bench"), 8))
	if err != nil {
		return nil, err
	}
	switch name {
	case "authorizer":
		return benchAuthorizer(key)
	case "authorizer-noop":
		return http.HandlerFunc(noopAuthorizer), nil
	}
	judge := noop
	if name == "guard" {
		e, err := engineWith(1000)
		if err != nil {
			return nil, err
		}
		judge = admission.Guard(admission.GuardConfig{Engine: e})
	}
	return admission.NewHandler(admission.Config{
		Webhook: decision.GuardWebhook, Judge: judge, Log: slog.New(slog.DiscardHandler), Key: key,
	}), nil
}

// serveHandler is the server process: it prints its address and authority, serves until
// its standard input closes, and says at /cpu what CPU time it has used.
func serveHandler(name string) error {
	if !strings.HasSuffix(name, "noop") {
		debug.SetGCPercent(400) // as holdfast-webhook does
	}
	handler, err := handlerOf(name)
	if err != nil {
		return err
	}
	authority, err := certs.NewAuthority("bench", time.Hour)
	if err != nil {
		return err
	}
	pair, err := authority.IssueServer("127.0.0.1")
	if err != nil {
		return err
	}
	certificate, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("/review", handler)
	mux.HandleFunc("/cpu", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, cpuTime().Nanoseconds()) })
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(listener.Addr())
	fmt.Println(string(authority.CertPEM()))
	fmt.Println("END")
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: time.Minute,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS13},
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close()
	}()
	if err := server.ServeTLS(listener, "", ""); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// child is a server process and a client that talks to it.
type child struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	client *http.Client
	url    string
}

func startServer(name string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(context.Background(), self, "-serve", name)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var hello strings.Builder
	buffer := make([]byte, 1024)
	for !strings.Contains(hello.String(), "END") {
		n, err := stdout.Read(buffer)
		if err != nil {
			return nil, fmt.Errorf("server %s did not start: %w", name, err)
		}
		hello.Write(buffer[:n])
	}
	address, authority, _ := strings.Cut(hello.String(), "\n")
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM([]byte(authority))
	return &child{
		cmd: cmd, stdin: stdin, url: "https://" + address,
		client: &http.Client{Transport: &http.Transport{
			MaxIdleConnsPerHost: connections, TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13},
		}},
	}, nil
}

func (c *child) stop() {
	_ = c.stdin.Close()
	_ = c.cmd.Wait()
}

// cpu sends the calls of one round and returns the server's CPU time for each, in
// microseconds.
func (c *child) cpu(body, want []byte) (float64, error) {
	for range calls / 10 { // warm up
		if err := c.review(body, want); err != nil {
			return 0, err
		}
	}
	before, err := c.cpuTime()
	if err != nil {
		return 0, err
	}
	for range calls {
		if err := c.review(body, want); err != nil {
			return 0, err
		}
	}
	after, err := c.cpuTime()
	if err != nil {
		return 0, err
	}
	return float64((after - before).Nanoseconds()) / calls / 1000, nil
}

// review sends one review, whose answer has to have something in it.
func (c *child) review(body, want []byte) error {
	answer, err := c.do(http.MethodPost, "/review", body)
	if err != nil {
		return err
	}
	if !bytes.Contains(answer, want) {
		return fmt.Errorf("the review was answered with %s, and not with %s", answer, want)
	}
	return nil
}

func (c *child) cpuTime() (time.Duration, error) {
	answer, err := c.do(http.MethodGet, "/cpu", nil)
	if err != nil {
		return 0, err
	}
	var n int64
	_, err = fmt.Sscan(string(answer), &n)
	return time.Duration(n), err
}

func (c *child) do(method, path string, body []byte) ([]byte, error) {
	request, err := http.NewRequestWithContext(context.Background(), method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := c.client.Do(request)
	if err != nil {
		return nil, err
	}
	answer, err := io.ReadAll(response.Body)
	return answer, errors.Join(err, response.Body.Close())
}

// deployment is an ordinary one.
func deployment() *appsv1.Deployment {
	replicas := int32(3)
	labels := map[string]string{"app": "web", "tier": "front"}
	d := &appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Name: "web", Namespace: "shop", Labels: labels, UID: "8d7a1f0e-5b7e-4c60-9a2e-5f1f4f7f2b11"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}},
		},
	}
	for i := range 3 {
		d.Spec.Template.Spec.Containers = append(d.Spec.Template.Spec.Containers, corev1.Container{
			Name: fmt.Sprintf("c%d", i), Image: "registry.example.com/shop/web:1.2.3", Args: []string{"serve", "--port=8080"},
			Env:   []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "2"}},
			Ports: []corev1.ContainerPort{{ContainerPort: 8080, Name: "http"}},
		})
	}
	return d
}

// reviewBody is the review of an agent's update of an object.
func reviewBody(object any) []byte {
	raw, err := json.Marshal(object)
	if err != nil {
		return nil
	}
	review := map[string]any{
		"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
		"request": map[string]any{
			"uid": "0f3b6b0a-1f7c-4f0e-8f5e-111111111111", "operation": "UPDATE", "name": "web", "namespace": "shop",
			"kind":     map[string]any{"group": "apps", "version": "v1", "kind": "Deployment"},
			"resource": map[string]any{"group": "apps", "version": "v1", "resource": "deployments"},
			"userInfo": map[string]any{
				"username": "system:serviceaccount:agents:bot",
				"groups":   []string{"system:serviceaccounts", "system:serviceaccounts:agents", "system:authenticated"},
			},
			"object": json.RawMessage(raw), "oldObject": json.RawMessage(raw),
			"options": map[string]any{"kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1"},
		},
	}
	body, err := json.Marshal(review)
	if err != nil {
		return nil
	}
	return body
}
