package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/holdfast-dev/holdfast/pkg/engine"
	"github.com/holdfast-dev/holdfast/webhook/admission"
)

// server serves TLS to clients with a certificate of the authority, and to no others.
func (c serveConfig) server() (webhook.Server, error) {
	host, port, err := splitListen(c.listen)
	if err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	pem, err := os.ReadFile(c.clientCAFile)
	if err != nil {
		return nil, fmt.Errorf("--client-ca-file: %w", err)
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--client-ca-file %s: want certificates in PEM", c.clientCAFile)
	}
	names := c.clientNames
	if len(names) > 0 {
		names = append([]string{c.collectorName}, names...)
	}
	watcher, err := certwatcher.New(c.certFile, c.keyFile)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert-file, --tls-private-key-file: %w", err)
	}
	return &certServer{watcher: watcher, Server: webhook.NewServer(webhook.Options{
		Host: host, Port: port,
		TLSOpts: []func(*tls.Config){func(t *tls.Config) {
			t.MinVersion = tls.VersionTLS13
			t.ClientAuth = tls.RequireAndVerifyClientCert
			t.ClientCAs = clients
			t.GetCertificate = watcher.GetCertificate
			t.VerifyConnection = admission.ClientNames(names)
		}},
	})}, nil
}

// certServer runs the watcher of the certificate beside the server.
type certServer struct {
	webhook.Server
	watcher *certwatcher.CertWatcher
}

func (s *certServer) Start(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() { failed <- s.watcher.Start(ctx) }()
	if err := s.Server.Start(ctx); err != nil {
		return err
	}
	return <-failed
}

func splitListen(address string) (string, int, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < 1 || n > 65535 {
		return "", 0, fmt.Errorf("%q: want host:port with a port from 1 to 65535", address)
	}
	return host, n, nil
}

// health serves probes and metrics. Ready means that Agents and policies are loaded and the
// webhook listens.
func health(address, webhookAddress string, decider *engine.Engine) manager.RunnableFunc {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(metrics.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { answerOK(w) })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {
		switch {
		case !decider.Ready():
			http.Error(w, "Agents and policies are not loaded yet", http.StatusServiceUnavailable)
		case !listens(r.Context(), webhookAddress):
			http.Error(w, "the webhook does not listen yet", http.StatusServiceUnavailable)
		default:
			answerOK(w)
		}
	})
	return func(ctx context.Context) error {
		s := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			return fmt.Errorf("--health-listen: %w", err)
		}
		stopped := context.AfterFunc(ctx, func() { _ = s.Close() })
		defer stopped()
		if err := s.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}
}

// listens tries a connection and closes it before TLS: the prober has no certificate that
// the webhook would take.
func listens(ctx context.Context, address string) bool {
	conn, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
	return err == nil && conn.Close() == nil
}

func answerOK(w http.ResponseWriter) { _, _ = fmt.Fprintln(w, "ok") }
