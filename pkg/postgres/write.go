package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-dev/holdfast/pkg/audit"
	"github.com/holdfast-dev/holdfast/pkg/audit/redact"
)

// entry is one row of the quarantine table.
type entry struct {
	id         string
	apiServer  string
	receivedAt time.Time
	audit.Quarantine
}

// Write puts batches into the tables, in one transaction unless the database refuses one of
// the events; then that one goes to quarantine and the others into several. A nil error MUST
// mean that everything in the batches is committed. After an error some of it may be, and to
// write the same batches again stores nothing twice.
func (s *Store) Write(ctx context.Context, batches []audit.Batch) (audit.Written, error) {
	rows, entries := s.prepare(batches)
	res, err := s.writeOnce(ctx, rows, entries)
	if err == nil || !refused(err) {
		return res, err
	}
	s.logger.WarnContext(ctx, "batch_refused", "events", len(rows), "sqlstate", sqlState(err))
	s.forgetDays()
	res, err = s.writeOnce(ctx, nil, entries)
	if err != nil {
		return res, err
	}
	rest, err := s.writeSplit(ctx, rows)
	return res.Plus(rest), err
}

// writeSplit finds the events that the database refuses by halving.
func (s *Store) writeSplit(ctx context.Context, rows []row) (audit.Written, error) {
	if len(rows) == 0 {
		return audit.Written{}, nil
	}
	res, err := s.writeOnce(ctx, rows, nil)
	switch {
	case err == nil || !refused(err):
		return res, err
	case len(rows) == 1:
		e := poison(&rows[0], "the database refuses the event: SQLSTATE "+sqlState(err))
		return s.writeOnce(ctx, nil, []entry{e})
	}
	left, err := s.writeSplit(ctx, rows[:len(rows)/2])
	if err != nil {
		return left, err
	}
	right, err := s.writeSplit(ctx, rows[len(rows)/2:])
	return left.Plus(right), err
}

// prepare sorts out the events that have no partition.
func (s *Store) prepare(batches []audit.Batch) ([]row, []entry) {
	var rows []row
	var entries []entry
	for i := range batches {
		b := &batches[i]
		for n, q := range b.Quarantine {
			sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%s\x00%d\x00%d\x00%d",
				b.APIServer, q.Reason, q.Digest, q.Length, b.ReceivedAt.UnixNano(), n))
			entries = append(entries, entry{hex.EncodeToString(sum[:]), b.APIServer, b.ReceivedAt, q})
		}
		for j := range b.Records {
			rec := &b.Records[j]
			r := row{event: &rec.Event, record: rec, apiServer: b.APIServer, receivedAt: b.ReceivedAt, digest: rec.Identity}
			if !s.inWindow(rec.Event.StageTimestamp.Time) {
				entries = append(entries, poison(&r, "stageTimestamp is not within 400 days before and 2 days after now"))
				continue
			}
			rows = append(rows, r)
		}
	}
	return rows, entries
}

// poison makes a quarantine entry of an event. It has been redacted: the whole is kept.
func poison(r *row, reason string) entry {
	data, err := json.Marshal(r.event)
	if err != nil { // it came from JSON
		data = nil
	}
	sum := sha256.Sum256(data)
	return entry{
		id: "event:" + hex.EncodeToString(r.digest), apiServer: r.apiServer, receivedAt: r.receivedAt,
		Quarantine: audit.Quarantine{
			Reason: reason, Digest: "sha256:" + hex.EncodeToString(sum[:]), Length: int64(len(data)),
			Prefix: redact.Mask(data, redact.PrefixMax), Event: data,
		},
	}
}

func (s *Store) writeOnce(ctx context.Context, rows []row, entries []entry) (audit.Written, error) {
	times := make([]time.Time, len(rows))
	for i := range rows {
		times[i] = rows[i].event.StageTimestamp.Time
	}
	if err := s.ensurePartitions(ctx, times); err != nil {
		return audit.Written{}, err
	}
	var res audit.Written
	err := pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		res = audit.Written{}
		if err := writeRows(ctx, tx, rows, &res); err != nil {
			return err
		}
		for i := range entries {
			if err := writeEntry(ctx, tx, &entries[i], &res); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return audit.Written{}, fmt.Errorf("postgres: writing %d events: %w", len(rows), err)
	}
	return res, nil
}

func writeRows(ctx context.Context, tx pgx.Tx, rows []row, res *audit.Written) error {
	if len(rows) == 0 {
		return nil
	}
	events := make([][]any, len(rows))
	var claims []claim
	for i := range rows {
		events[i] = rows[i].eventValues()
		records, _ := audit.Decisions(rows[i].event, rows[i].record.Signed)
		for j := range records {
			claims = append(claims, newClaim(&rows[i], &records[j]))
		}
	}
	stored, err := merge(ctx, tx, table{"audit_events", "stage_timestamp, event_digest", eventColumns}, events)
	if err != nil {
		return err
	}
	res.Stored += stored
	res.Duplicates += int64(len(rows)) - stored
	if len(claims) == 0 {
		return nil
	}
	if err := markRepeated(ctx, tx, claims); err != nil {
		return err
	}
	decisions := make([][]any, len(claims))
	for i := range claims {
		decisions[i] = claims[i].values()
	}
	key := "stage_timestamp, event_digest, webhook, decision_id"
	n, err := merge(ctx, tx, table{"audit_decisions", key, decisionColumns}, decisions)
	res.Decisions += n
	return err
}

// table is one that merge can fill.
type table struct {
	name    string
	key     string
	columns []string
}

// merge copies rows into a temporary table and from there those that are new into the real
// one, in the order of the key, so that two collectors with the same rows wait for each other
// rather than deadlock. It returns how many were new.
func merge(ctx context.Context, tx pgx.Tx, t table, rows [][]any) (int64, error) {
	temp := "holdfast_incoming_" + t.name
	// The table stays with the connection: a new one each time would bloat the catalogue.
	create := fmt.Sprintf("CREATE TEMPORARY TABLE IF NOT EXISTS %s (LIKE %s) ON COMMIT DELETE ROWS", temp, t.name)
	if _, err := tx.Exec(ctx, create); err != nil {
		return 0, fmt.Errorf("temporary table for %s: %w", t.name, err)
	}
	if _, err := tx.CopyFrom(ctx, pgx.Identifier{temp}, t.columns, pgx.CopyFromRows(rows)); err != nil {
		return 0, fmt.Errorf("copying for %s: %w", t.name, err)
	}
	list := strings.Join(t.columns, ", ")
	tag, err := tx.Exec(ctx, fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM %s ORDER BY %s ON CONFLICT DO NOTHING",
		t.name, list, list, temp, t.key))
	if err != nil {
		return 0, fmt.Errorf("inserting into %s: %w", t.name, err)
	}
	return tag.RowsAffected(), nil
}

func writeEntry(ctx context.Context, tx pgx.Tx, e *entry, res *audit.Written) error {
	tag, err := tx.Exec(ctx, `INSERT INTO quarantine
		(id, received_at, api_server, reason, digest, length, prefix, event)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING`,
		e.id, e.receivedAt.UTC(), escapeText(e.apiServer), escapeText(e.Reason), escapeText(e.Digest),
		e.Length, e.Prefix, e.Event)
	if err != nil {
		return fmt.Errorf("inserting into quarantine: %w", err)
	}
	res.Quarantined += tag.RowsAffected()
	return nil
}

// refused reports whether an error is about the content of what was written: trying again
// changes nothing. All else (no connection, no space, no schema, a deadlock) passes.
func refused(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || len(pg.Code) != 5 {
		return false
	}
	switch pg.Code[:2] {
	case "21", "22", "23", "44", "54": // cardinality, data, constraint, check option, limit
		return true
	}
	return false
}

// sqlState returns the five characters of the database's error code. Its message can quote
// values and is not used.
func sqlState(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return "none"
}
