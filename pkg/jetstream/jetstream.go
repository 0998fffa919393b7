// Package jetstream is the durable log between the collector's answer to the API server and
// the database: one stream of NATS JetStream, one durable consumer.
//
// It moves bytes. It refuses to look into them, to discard any (a full stream refuses new
// messages, and only an acknowledged message leaves it), and to report a message as stored
// before the server has said so. The server MUST run with `sync_interval: always`: otherwise
// its acknowledgement means written, not synced.
package jetstream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/holdfast-dev/holdfast/pkg/audit"
)

// The defaults of Config, and the names in NATS.
const (
	// DefaultStream is the stream's name.
	DefaultStream = "HOLDFAST_AUDIT"
	// DefaultSubject is the subject that batches are published on.
	DefaultSubject = "holdfast.audit.batches"
	// DefaultMaxBytes is the stream's bound: 8 GiB, at 2 KiB an event four million events,
	// which is 17 minutes of one API server at its own limit of 4,000 events/s.
	DefaultMaxBytes = 8 << 30
	// consumerName is the durable consumer that fills the database.
	consumerName = "postgres"
)

const (
	// ackWithin bounds the wait for one PubAck. Two seconds after the server went away the
	// API server has its 503; a sync of 8 MiB takes well under one.
	ackWithin = 1500 * time.Millisecond
	// dedupeWindow is how long the stream remembers message IDs: longer than the 97 s during
	// which the API server retries a batch.
	dedupeWindow = 5 * time.Minute
	// defaultAckWait is when a message that was handed out and not acknowledged is handed out again.
	defaultAckWait = 30 * time.Second
	// maxAckPending bounds messages that are handed out: 64 of at most 8 MiB.
	maxAckPending = 64
	// checkEvery is the interval of the check that the stream is there.
	checkEvery = 2 * time.Second
)

// Config is what the package needs to know.
type Config struct {
	// URL is the server's address, nats://host:port; several are separated by commas. It can
	// hold credentials and is never logged. Required.
	URL string
	// Stream is the stream's name; "" is DefaultStream.
	Stream string
	// Subject is what the stream listens on; "" is DefaultSubject.
	Subject string
	// MaxBytes bounds the stream on disk, in bytes; 0 is DefaultMaxBytes. A full stream
	// refuses messages; it never discards.
	MaxBytes int64
	// Replicas is the number of copies in a NATS cluster, 1 to 5; 0 is 1.
	Replicas int
	// AckWait is when a message that was handed out and neither acknowledged nor given back
	// is handed out again; 0 is 30 s. It has to be longer than one transaction.
	AckWait time.Duration
	// Logger takes the connection's story; nil is slog.Default().
	Logger *slog.Logger
}

func (c *Config) validate() error {
	if c.URL == "" {
		return errors.New("jetstream: URL: want nats://host:port")
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.MaxBytes < 2*audit.MessageMax {
		return fmt.Errorf("jetstream: MaxBytes of %d: want at least %d", c.MaxBytes, 2*audit.MessageMax)
	}
	if c.Replicas == 0 {
		c.Replicas = 1
	}
	if c.Replicas < 1 || c.Replicas > 5 {
		return fmt.Errorf("jetstream: Replicas of %d: want 1 to 5", c.Replicas)
	}
	if c.Stream == "" {
		c.Stream = DefaultStream
	}
	if c.Subject == "" {
		c.Subject = DefaultSubject
	}
	if c.AckWait == 0 {
		c.AckWait = defaultAckWait
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return nil
}

// Log is the stream. Its methods are safe for concurrent use.
type Log struct {
	cfg  Config
	conn *nats.Conn
	js   jetstream.JetStream

	mu       sync.Mutex
	notReady error // nil when the stream and the consumer are there
	consumer jetstream.Consumer
	state    audit.LogState

	cancel context.CancelFunc
	done   chan struct{}
}

// Start validates cfg and connects in the background: the server may come later, and go. The
// error is about cfg only. Stop must be called.
func Start(ctx context.Context, cfg Config) (*Log, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	l := &Log{cfg: cfg, notReady: errors.New("jetstream: not connected yet"), done: make(chan struct{})}
	conn, err := nats.Connect(cfg.URL,
		nats.Name("holdfast-collector"),
		nats.Timeout(2*time.Second),
		nats.RetryOnFailedConnect(true),
		nats.MaxReconnects(-1),
		nats.ReconnectWait(250*time.Millisecond),
		nats.ReconnectBufSize(-1), // nothing waits in memory: the API server holds it
		nats.PingInterval(5*time.Second),
		nats.MaxPingsOutstanding(2),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			cfg.Logger.WarnContext(ctx, "nats_disconnected", "error", err)
		}),
		nats.ReconnectHandler(func(*nats.Conn) { cfg.Logger.InfoContext(ctx, "nats_connected") }),
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			cfg.Logger.WarnContext(ctx, "nats_error", "error", err)
		}),
	)
	if err != nil {
		// The client's own error can quote the URL with its credentials.
		return nil, errors.New("jetstream: URL: not an address that can be used")
	}
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("jetstream: %w", err)
	}
	l.conn, l.js = conn, js
	watch, cancel := context.WithCancel(ctx)
	l.cancel = cancel
	go l.watch(watch)
	return l, nil
}

// Stop closes the connection. It may be called twice.
func (l *Log) Stop() {
	l.cancel()
	<-l.done
	l.conn.Close()
}

// Ready returns nil when a message could be made durable now.
func (l *Log) Ready() error {
	if !l.conn.IsConnected() {
		return errors.New("jetstream: not connected")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.notReady
}

// State returns what the stream held at the last check, at most two seconds ago.
func (l *Log) State() audit.LogState {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// watch keeps the stream and the consumer in existence.
func (l *Log) watch(ctx context.Context) {
	defer close(l.done)
	var last string
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	var checked time.Time
	for {
		if l.Ready() != nil || time.Since(checked) > checkEvery {
			err := l.ensure(ctx)
			checked = time.Now()
			l.mu.Lock()
			l.notReady = err
			l.mu.Unlock()
			if now := fmt.Sprint(err); now != last && ctx.Err() == nil {
				last = now
				if err != nil {
					l.cfg.Logger.WarnContext(ctx, "stream_not_ready", "stream", l.cfg.Stream, "error", err)
				} else {
					l.cfg.Logger.InfoContext(ctx, "stream_ready", "stream", l.cfg.Stream, "max_bytes", l.cfg.MaxBytes)
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (l *Log) ensure(ctx context.Context) error {
	if !l.conn.IsConnected() {
		return errors.New("jetstream: not connected")
	}
	if have := l.conn.MaxPayload(); have < audit.MessageMax {
		return fmt.Errorf("jetstream: the NATS server's max_payload is %d bytes: set max_payload to at least %d",
			have, audit.MessageMax)
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	stream, err := l.js.Stream(ctx, l.cfg.Stream)
	switch {
	case errors.Is(err, jetstream.ErrStreamNotFound):
		stream, err = l.js.CreateStream(ctx, l.streamConfig())
	case err == nil && stream.CachedInfo().Config.MaxBytes != l.cfg.MaxBytes:
		stream, err = l.js.UpdateStream(ctx, l.streamConfig())
	}
	if err != nil {
		return fmt.Errorf("jetstream: stream %s: %w", l.cfg.Stream, err)
	}
	info := stream.CachedInfo()
	if err := l.unsafe(info.Config); err != nil {
		return err
	}
	l.mu.Lock()
	l.state = audit.LogState{Messages: info.State.Msgs, Bytes: info.State.Bytes, MaxBytes: info.Config.MaxBytes}
	if info.State.Msgs > 0 {
		l.state.Oldest = info.State.FirstTime
	}
	l.mu.Unlock()
	consumer, err := stream.CreateOrUpdateConsumer(ctx, jetstream.ConsumerConfig{
		Durable: consumerName, AckPolicy: jetstream.AckExplicitPolicy, AckWait: l.cfg.AckWait,
		MaxDeliver: -1, MaxAckPending: maxAckPending, Replicas: l.cfg.Replicas,
		Description: "moves audit batches into Postgres; acknowledges after commit",
	})
	if err != nil {
		return fmt.Errorf("jetstream: consumer %s: %w", consumerName, err)
	}
	l.mu.Lock()
	l.consumer = consumer
	l.mu.Unlock()
	return nil
}

func (l *Log) streamConfig() jetstream.StreamConfig {
	return jetstream.StreamConfig{
		Name: l.cfg.Stream, Subjects: []string{l.cfg.Subject}, Replicas: l.cfg.Replicas,
		Description: "redacted audit events on their way to Postgres",
		Storage:     jetstream.FileStorage,
		// A work queue holds what is not yet in Postgres and nothing else, so that being full
		// means that Postgres is behind.
		Retention: jetstream.WorkQueuePolicy, Discard: jetstream.DiscardNew,
		MaxBytes: l.cfg.MaxBytes, MaxMsgSize: audit.MessageMax, Duplicates: dedupeWindow,
	}
}

// unsafe refuses a stream of somebody else's making that would lose messages.
func (l *Log) unsafe(c jetstream.StreamConfig) error {
	switch {
	case c.Storage != jetstream.FileStorage:
		return fmt.Errorf("jetstream: stream %s is kept in memory: want file storage", l.cfg.Stream)
	case c.Retention != jetstream.WorkQueuePolicy:
		return fmt.Errorf("jetstream: stream %s has retention %s: want WorkQueue", l.cfg.Stream, c.Retention)
	case c.Discard != jetstream.DiscardNew:
		return fmt.Errorf("jetstream: stream %s discards old messages when full: want discard new", l.cfg.Stream)
	case c.MaxAge != 0 || c.MaxMsgs > 0:
		return fmt.Errorf("jetstream: stream %s expires messages: want no max_age and no max_msgs", l.cfg.Stream)
	}
	return nil
}

// Publish stores the messages and returns after the last one is acknowledged by the server. A
// nil error MUST mean that all of them are durable. Any other result is audit.ErrPushback,
// wrapped: some of them may be durable, and to publish the same messages again within five
// minutes stores none twice. It fails within two seconds of the server's last sign of life.
func (l *Log) Publish(ctx context.Context, messages [][]byte) error {
	if err := l.Ready(); err != nil {
		return fmt.Errorf("%w: %w", audit.ErrPushback, err)
	}
	for _, m := range messages {
		if err := l.publish(ctx, m); err != nil {
			return fmt.Errorf("%w: %w", audit.ErrPushback, err)
		}
	}
	return nil
}

func (l *Log) publish(ctx context.Context, data []byte) error {
	ctx, cancel := context.WithTimeout(ctx, ackWithin)
	defer cancel()
	sum := sha256.Sum256(data)
	ack, err := l.js.Publish(ctx, l.cfg.Subject, data,
		jetstream.WithMsgID(hex.EncodeToString(sum[:])),
		jetstream.WithExpectStream(l.cfg.Stream), jetstream.WithRetryAttempts(0))
	if err != nil {
		return fmt.Errorf("jetstream: publishing %d bytes: %w", len(data), err)
	}
	if ack.Stream != l.cfg.Stream {
		return fmt.Errorf("jetstream: message went to stream %q: want %q", ack.Stream, l.cfg.Stream)
	}
	return nil
}
