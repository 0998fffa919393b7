package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// story: what the agent did, and what was decided, can be asked for in SQL.
func story(t *testing.T, c *cluster) {
	db := c.database(t)
	c.policy(t, "storied", fmt.Sprintf(denyNamespaceDeletes, "Enforce"))
	c.must(t, human, "create", "namespace", "storied")
	c.refused(t, "rule storied/deny-delete", agent, "delete", "namespace", "storied")
	c.must(t, human, "delete", "namespace", "storied")
	eventually(t, 20*time.Second, "the story is in Postgres", func() error {
		rows, err := db.Query(t.Context(), `
			SELECT coalesce(agent, '-') || ' ' || username || ' ' || verb || ' ' || coalesce(decision, '-') || ' ' ||
			       coalesce(array_to_string(rules, ','), '-') || ' ' || response_code
			FROM agent_activity WHERE verb IN ('create', 'delete') AND object LIKE '%namespaces/storied' ORDER BY time`)
		if err != nil {
			return err
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		want := []string{
			"- human create - - 201",
			"bot system:serviceaccount:agents:bot delete Deny storied/deny-delete 403",
			"- human delete - - 200",
		}
		if fmt.Sprint(lines) != fmt.Sprint(want) {
			return fmt.Errorf("got %q, want %q", lines, want)
		}
		return nil
	})
}

// event is what both sides know an event by.
type event struct {
	auditID, stage string
	at             time.Time
}

// complete holds what is in Postgres against what the API server wrote into its own log:
// everything once, and nothing else.
func complete(t *testing.T, c *cluster) {
	c.own(t)
	db := c.database(t)
	var logged map[event]int
	eventually(t, 60*time.Second, "Postgres has what the API server logged", func() error {
		// In this order: what is logged between the two readings is only in the second.
		logged = map[event]int{}
		for _, e := range c.auditLog(t) {
			logged[event{string(e.AuditID), string(e.Stage), e.StageTimestamp.UTC()}]++
		}
		stored, err := storedEvents(t.Context(), db)
		if err != nil {
			return err
		}
		for e := range logged {
			if stored[e] == 0 {
				return fmt.Errorf("%v is in the log and not in Postgres", e)
			}
		}
		return nil
	})
	stored, err := storedEvents(t.Context(), db)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range c.auditLog(t) { // again: by now it has what Postgres had
		logged[event{string(e.AuditID), string(e.Stage), e.StageTimestamp.UTC()}] = 1
	}
	for e, n := range stored {
		if n != 1 || logged[e] == 0 {
			t.Errorf("%v is %d times in Postgres and %d times in the log", e, n, logged[e])
		}
	}
	if len(stored) < 500 {
		t.Errorf("%d events: too few for the comparison to mean anything", len(stored))
	}
	t.Logf("%d events, each exactly once", len(stored))
}

func storedEvents(ctx context.Context, db *pgxpool.Pool) (map[event]int, error) {
	rows, err := db.Query(ctx, `SELECT audit_id, stage, stage_timestamp FROM audit_events`)
	if err != nil {
		return nil, err
	}
	stored := map[event]int{}
	var e event
	_, err = pgx.ForEachRow(rows, []any{&e.auditID, &e.stage, &e.at}, func() error {
		stored[event{e.auditID, e.stage, e.at.UTC()}]++
		return nil
	})
	return stored, err
}
