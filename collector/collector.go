// Package collector is where audit events come in: an HTTPS server that the API servers send
// their EventLists to, and a mover that carries what it made durable into the database.
//
// Between the answer and the disk nothing is held in memory: 200 means that the redacted
// events, or the fact that something unreadable came, are synced in the durable log. It
// refuses to reject a payload (the API server would send it again and then lose it), to wait
// for the database, and to let anything pass redaction; only a build tag changes that.
package collector

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holdfast-dev/holdfast/pkg/audit"
	"github.com/holdfast-dev/holdfast/pkg/audit/redact"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// Log is the durable log.
type Log interface {
	// Publish returns nil only when all messages are durable, and audit.ErrPushback, wrapped,
	// within about two seconds otherwise. Equal messages published again within five minutes
	// are stored once.
	Publish(ctx context.Context, messages [][]byte) error
	// Fetch waits at most wait for messages. An empty result is no error.
	Fetch(ctx context.Context, wait time.Duration) ([]audit.Delivery, error)
	// Ready returns nil when Publish could succeed now.
	Ready() error
	// State returns what the log held a few seconds ago at most.
	State() audit.LogState
}

// Store is the database.
type Store interface {
	// Migrate brings the schema up to date. It may be called again after an error.
	Migrate(ctx context.Context) error
	// Write returns nil only when everything in the batches is committed. To write the same
	// batches again stores nothing twice.
	Write(ctx context.Context, batches []audit.Batch) (audit.Written, error)
}

// Config is what a Collector needs.
type Config struct {
	// Listen is the address of the HTTPS server, host:port. Required.
	Listen string
	// TLS has the server's certificate and ClientCAs. Required. Start sets ClientAuth to
	// RequireAndVerifyClientCert and the least version to 1.2.
	TLS *tls.Config
	// HealthListen is the address of the plain HTTP server for /healthz, /readyz and
	// /metrics, host:port. Required; keep it on loopback or inside the cluster.
	HealthListen string
	// RedactionKey has at least redact.KeyMin bytes. Required.
	RedactionKey []byte
	// MaxBody bounds a payload after decompression, in bytes; 0 is 64 MiB.
	MaxBody int64
	// Log and Store are required. The caller stops them after Stop has returned.
	Log   Log
	Store Store
	// DecisionKey is the webhook's: it tells the decisions in audit events that are Holdfast's
	// from those that somebody else wrote under its names. Required.
	DecisionKey *decision.Key
	// Teller tells the webhook what the events say of AccessRequests. Nil tells nobody.
	Teller *Teller
	// Registry takes the metrics; nil is a new one. It is what /metrics shows.
	Registry *prometheus.Registry
	// Logger takes what happens; nil is slog.Default().
	Logger *slog.Logger
}

// DefaultMaxBody is the bound of a payload: batches of 400 events with the API server's own
// truncation stay below 10 MiB, but truncation wraps outside of the batching buffer.
const DefaultMaxBody = 64 << 20

func (c *Config) validate() error {
	switch {
	case c.Listen == "":
		return errors.New("collector: Listen: want host:port")
	case c.HealthListen == "":
		return errors.New("collector: HealthListen: want host:port")
	case c.TLS == nil || len(c.TLS.Certificates) == 0 && c.TLS.GetCertificate == nil:
		return errors.New("collector: TLS: want a server certificate")
	case c.TLS.ClientCAs == nil:
		return errors.New("collector: TLS: want ClientCAs")
	case c.Log == nil || c.Store == nil:
		return errors.New("collector: Log and Store: want both")
	case c.DecisionKey == nil:
		return errors.New("collector: DecisionKey: want the key that the webhook signs decisions with")
	case c.MaxBody < 0 || c.MaxBody > 1<<30:
		return fmt.Errorf("collector: MaxBody of %d: want at most %d", c.MaxBody, 1<<30)
	}
	if c.MaxBody == 0 {
		c.MaxBody = DefaultMaxBody
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

// Collector is a running collector.
type Collector struct {
	cfg      Config
	redactor *redact.Redactor
	metrics  *metrics
	places   places

	server, health         *http.Server
	listener, healthListen net.Listener
	migrated               atomic.Bool

	stop    sync.Once
	cancel  context.CancelFunc
	running sync.WaitGroup
	failed  chan error
}

// Start validates cfg, opens both listeners and begins. It works while log and database are
// away: then payloads are answered 503, and Ready says so. Stop must be called.
func Start(ctx context.Context, cfg Config) (*Collector, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	r, err := newRedactor(cfg.RedactionKey)
	if err != nil {
		return nil, fmt.Errorf("collector: %w", err)
	}
	c := &Collector{cfg: cfg, redactor: r, places: newPlaces(), failed: make(chan error, 2)}
	c.metrics = newMetrics(cfg.Registry, c)
	if !redactionOn {
		cfg.Logger.WarnContext(ctx, "REDACTION_IS_COMPILED_OUT: values of Secrets will be stored as they are")
	}
	cfg.Logger.InfoContext(ctx, "redaction", "enabled", redactionOn, "key_id", r.KeyID())
	var listen net.ListenConfig
	if c.listener, err = listen.Listen(ctx, "tcp", cfg.Listen); err != nil {
		return nil, fmt.Errorf("collector: listening for audit events: %w", err)
	}
	if c.healthListen, err = listen.Listen(ctx, "tcp", cfg.HealthListen); err != nil {
		_ = c.listener.Close() // nobody has connected
		return nil, fmt.Errorf("collector: listening for health checks: %w", err)
	}
	ctx, c.cancel = context.WithCancel(ctx)
	c.serve(ctx)
	c.running.Go(func() { c.move(ctx) })
	if t := cfg.Teller; t != nil {
		cfg.Registry.MustRegister(t.told, t.dropped)
		c.running.Go(func() { t.Run(ctx) })
	}
	cfg.Logger.InfoContext(ctx, "collector_started", "listen", c.Addr(), "health_listen", c.HealthAddr())
	return c, nil
}

// serve starts both servers. The timeouts: the API server gives up on an attempt after 30 s.
func (c *Collector) serve(ctx context.Context) {
	tlsConfig := c.cfg.TLS.Clone()
	tlsConfig.ClientAuth = tls.RequireAndVerifyClientCert
	tlsConfig.MinVersion = max(tlsConfig.MinVersion, tls.VersionTLS12)
	errorLog := slog.NewLogLogger(c.cfg.Logger.Handler(), slog.LevelWarn)
	// Requests keep their own contexts on a stop: those in flight are finished.
	base := func(net.Listener) context.Context { return context.WithoutCancel(ctx) }
	c.server = &http.Server{
		Handler: c.handler(), TLSConfig: tlsConfig, ErrorLog: errorLog, BaseContext: base,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 30 * time.Second,
		WriteTimeout: 60 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
	}
	c.health = &http.Server{
		Handler: c.healthHandler(), ErrorLog: errorLog, BaseContext: base,
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 64 << 10,
	}
	c.running.Go(func() { c.ended(c.server.ServeTLS(c.listener, "", "")) })
	c.running.Go(func() { c.ended(c.health.Serve(c.healthListen)) })
}

func (c *Collector) ended(err error) {
	if !errors.Is(err, http.ErrServerClosed) {
		c.failed <- fmt.Errorf("collector: serving: %w", err)
	}
}

// Failed receives an error when a server has ended by itself.
func (c *Collector) Failed() <-chan error { return c.failed }

// Addr returns the address that audit events are taken on.
func (c *Collector) Addr() string { return c.listener.Addr().String() }

// HealthAddr returns the address of the health checks.
func (c *Collector) HealthAddr() string { return c.healthListen.Addr().String() }

// Ready returns nil when a payload could be made durable now and the schema has been found or
// brought up to date once. The database may be away since: the log holds what comes.
func (c *Collector) Ready() error {
	if err := c.cfg.Log.Ready(); err != nil {
		return err
	}
	if !c.migrated.Load() {
		return errors.New("collector: the database's schema has not been brought up to date yet")
	}
	return nil
}

// Stop ends the mover, lets the requests in flight finish (at most 20 s), and returns when
// all is at rest. It may be called twice.
func (c *Collector) Stop(ctx context.Context) {
	c.stop.Do(func() {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		if err := c.server.Shutdown(ctx); err != nil {
			c.cfg.Logger.WarnContext(ctx, "requests_cut_off", "error", err)
			_ = c.server.Close() // that it cuts off has been logged
		}
		c.cancel()
		_ = c.health.Close() // nothing of it has to be finished
	})
	c.running.Wait()
}
