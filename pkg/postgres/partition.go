package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
)

// The window of stage timestamps that have a place in the tables, around now. Outside of it
// an event goes to quarantine: each day is a partition, and a clock that is wrong, or a
// client that lies, must not make thousands.
const (
	windowPast   = 400 * 24 * time.Hour
	windowFuture = 2 * 24 * time.Hour
)

// partitioned are the tables that have a partition a day.
var partitioned = []string{"audit_events", "audit_decisions"}

// inWindow reports whether a stage timestamp has a place.
func (s *Store) inWindow(t time.Time) bool {
	now := s.now()
	return !t.Before(now.Add(-windowPast)) && !t.After(now.Add(windowFuture))
}

const dayFormat = "20060102"

// ensurePartitions makes the partitions of the days that times fall on.
func (s *Store) ensurePartitions(ctx context.Context, times []time.Time) error {
	var missing []string
	s.mu.Lock()
	for _, t := range times {
		day := t.UTC().Format(dayFormat)
		if !s.days[day] && !slices.Contains(missing, day) {
			missing = append(missing, day)
		}
	}
	s.mu.Unlock()
	slices.Sort(missing)
	for _, day := range missing {
		err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error { return createDay(ctx, tx, day) })
		if err != nil {
			return fmt.Errorf("postgres: partition of %s: %w", day, err)
		}
		s.mu.Lock()
		s.days[day] = true
		s.mu.Unlock()
	}
	return nil
}

// forgetDays makes the next write look for its partitions again: somebody may have dropped one.
func (s *Store) forgetDays() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.days)
}

// createDay makes a table and attaches it, rather than CREATE TABLE ... PARTITION OF, which
// would wait for every analyst's query on the parent, and make all others wait behind it:
// attaching takes SHARE UPDATE EXCLUSIVE.
func createDay(ctx context.Context, tx pgx.Tx, day string) error {
	from, err := time.Parse(dayFormat, day)
	if err != nil {
		return fmt.Errorf("day %q: %w", day, err)
	}
	if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock($1)", int64(lockID)+1); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	for _, table := range partitioned {
		name := table + "_" + day
		var exists bool
		err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_inherits
			WHERE inhparent = $1::text::regclass AND inhrelid = to_regclass($2))`, table, name).Scan(&exists)
		if err != nil {
			return fmt.Errorf("looking for %s: %w", name, err)
		}
		if exists {
			continue
		}
		for _, stmt := range []string{
			fmt.Sprintf("CREATE TABLE %s (LIKE %s INCLUDING ALL)", name, table),
			fmt.Sprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM ('%s+00') TO ('%s+00')",
				table, name, from.Format(time.DateTime), from.AddDate(0, 0, 1).Format(time.DateTime)),
		} {
			if _, err := tx.Exec(ctx, stmt); err != nil {
				return fmt.Errorf("creating %s: %w", name, err)
			}
		}
	}
	return nil
}
