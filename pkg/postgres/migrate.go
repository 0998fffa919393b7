package postgres

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

// migrations are numbered; one that was released is never edited.
//
//go:embed migrations/*.sql
var migrations embed.FS

// lockID is the advisory lock under which one collector at a time migrates: "holdfast" in
// ASCII.
const lockID = 0x686f6c6466617374

// Migrate brings the schema to this version's state, and makes the partitions of today and
// tomorrow. Several collectors may call it at once.
func (s *Store) Migrate(ctx context.Context) error {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("postgres: migrations: %w", err)
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(lockID), lock.WithLockTimeout(1, 60))
	if err != nil {
		return fmt.Errorf("postgres: migration lock: %w", err)
	}
	db := stdlib.OpenDBFromPool(s.pool)
	defer func() { _ = db.Close() }() // the connections stay, in the pool
	provider, err := goose.NewProvider(goose.DialectPostgres, db, dir,
		goose.WithSessionLocker(locker), goose.WithTableName("holdfast_schema"))
	if err != nil {
		return fmt.Errorf("postgres: migrations: %w", err)
	}
	if err := db.PingContext(ctx); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	done, err := provider.Up(ctx)
	if err != nil {
		return fmt.Errorf("postgres: migrating: %w", err)
	}
	for _, m := range done {
		s.logger.InfoContext(ctx, "schema_migrated", "version", m.Source.Version, "duration", m.Duration)
	}
	today := s.now()
	return s.ensurePartitions(ctx, []time.Time{today, today.AddDate(0, 0, 1)})
}
