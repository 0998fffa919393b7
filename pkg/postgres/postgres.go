// Package postgres keeps audit events in Postgres: the schema and its migrations, the
// partitions, and the writing of batches so that an event lands once however often it comes.
//
// It refuses to interpret events, to drop one (what Postgres will not take goes to the
// quarantine table, one event at a time), and to put the database's password into an error.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// Config is what the package needs to know.
type Config struct {
	// URL is the connection string, postgres://user:password@host:port/database or keyword =
	// value. It is never logged. Required.
	URL string
	// MaxConns bounds the connections; 0 is 4.
	MaxConns int32
	// ConnectTimeout bounds one attempt to connect; 0 is 5 s.
	ConnectTimeout time.Duration
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Logger takes what happens; nil is slog.Default().
	Logger *slog.Logger
}

// Store writes to the database. It is safe for concurrent use.
type Store struct {
	pool   *pgxpool.Pool
	now    func() time.Time
	logger *slog.Logger

	mu   sync.Mutex
	days map[string]bool // partitions known to exist, by 20060102
}

// Open validates cfg. It does not connect: the database may come later.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.URL == "" {
		return nil, errors.New("postgres: URL: want postgres://user@host/database (DATABASE_URL)")
	}
	pc, err := pgxpool.ParseConfig(cfg.URL)
	if err != nil {
		// pgx's own error quotes the string, and masks passwords only where it finds them.
		return nil, errors.New("postgres: URL: not a connection string that can be used")
	}
	if cfg.MaxConns < 0 || cfg.MaxConns > 1000 {
		return nil, fmt.Errorf("postgres: MaxConns of %d: want 0 to 1000", cfg.MaxConns)
	}
	pc.MaxConns = 4
	if cfg.MaxConns > 0 {
		pc.MaxConns = cfg.MaxConns
	}
	pc.ConnConfig.ConnectTimeout = 5 * time.Second
	if cfg.ConnectTimeout > 0 {
		pc.ConnConfig.ConnectTimeout = cfg.ConnectTimeout
	}
	for name, value := range map[string]string{
		"application_name":   "holdfast-collector",
		"timezone":           "UTC",
		"synchronous_commit": "on", // the message leaves the stream after the commit
		// A lock that somebody holds must not hold us for ever; the stream waits.
		"lock_timeout":                        "10s",
		"idle_in_transaction_session_timeout": "60s",
	} {
		pc.ConnConfig.RuntimeParams[name] = value
	}
	pool, err := pgxpool.NewWithConfig(ctx, pc)
	if err != nil {
		return nil, errors.New("postgres: URL: not a connection string that can be used")
	}
	s := &Store{pool: pool, now: cfg.Now, logger: cfg.Logger, days: map[string]bool{}}
	if s.now == nil {
		s.now = time.Now
	}
	if s.logger == nil {
		s.logger = slog.Default()
	}
	return s, nil
}

// Close closes all connections. It may be called twice.
func (s *Store) Close() { s.pool.Close() }

// Ping returns nil when the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	return nil
}
