package postgres

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// repeatedWithin is how far apart two requests are looked at for the same decision: every look
// goes into the partitions of two or three days.
const repeatedWithin = 24 * time.Hour

// claim is one decision that an event's annotation claims, on its way into the tables.
type claim struct {
	event    *row
	record   *decision.Record
	id       string
	request  request
	repeated bool
}

// request is what tells the events of one API request from those of another. Clients choose
// audit IDs: a second event of the same stage is another request's.
type request struct {
	digest                    []byte
	apiServer, auditID, stage string
}

func (r *request) other(o *request) bool {
	return !bytes.Equal(r.digest, o.digest) && (r.apiServer != o.apiServer || r.auditID != o.auditID || r.stage == o.stage)
}

func newClaim(r *row, d *decision.Record) claim {
	return claim{event: r, record: d, id: bounded(escapeText(d.ID)), request: request{
		digest: r.digest, apiServer: escapeText(r.apiServer),
		auditID: bounded(escapeText(string(r.event.AuditID))), stage: escapeText(string(r.event.Stage)),
	}}
}

// decisionColumns are the columns of audit_decisions, in the order of claim.values.
var decisionColumns = []string{
	"stage_timestamp", "event_digest", "webhook", "decision_id", "api_server", "audit_id", "stage",
	"decision", "reason", "agents", "rules", "observed", "access_request", "dry_run", "truncated",
	"verified", "repeated",
}

func (c *claim) values() []any {
	d := c.record
	return []any{
		c.at(), c.request.digest, d.Webhook, c.id, c.request.apiServer, c.request.auditID, c.request.stage,
		d.Decision, escapeText(string(d.Reason)), texts(d.Agents), texts(d.Rules), texts(d.Observed),
		escapeText(d.AccessRequest), d.DryRun, d.Truncated,
		d.Verified, c.repeated,
	}
}

func (c *claim) at() time.Time { return c.event.event.StageTimestamp.UTC() }

// markRepeated marks the verified decisions that stand in another request already: in one that
// is stored, or in an earlier one of those that are about to be. Two collectors that write at
// the same moment do not see each other's.
func markRepeated(ctx context.Context, tx pgx.Tx, claims []claim) error {
	seen := map[string][]request{}
	var ids []string
	var from, to time.Time
	order := make([]*claim, 0, len(claims))
	for i := range claims {
		c := &claims[i]
		if !c.record.Verified {
			continue
		}
		order = append(order, c)
		ids = append(ids, c.id)
		if from.IsZero() || c.at().Before(from) {
			from = c.at()
		}
		if c.at().After(to) {
			to = c.at()
		}
	}
	if len(ids) == 0 {
		return nil
	}
	rows, err := tx.Query(ctx, `SELECT decision_id, event_digest, api_server, audit_id, stage FROM audit_decisions
		WHERE decision_id = ANY($1) AND verified AND stage_timestamp BETWEEN $2 AND $3`,
		ids, from.Add(-repeatedWithin), to.Add(repeatedWithin))
	if err != nil {
		return fmt.Errorf("looking for repeated decisions: %w", err)
	}
	var id string
	var r request
	_, err = pgx.ForEachRow(rows, []any{&id, &r.digest, &r.apiServer, &r.auditID, &r.stage}, func() error {
		seen[id] = append(seen[id], request{bytes.Clone(r.digest), r.apiServer, r.auditID, r.stage})
		return nil
	})
	if err != nil {
		return fmt.Errorf("looking for repeated decisions: %w", err)
	}
	slices.SortStableFunc(order, func(a, b *claim) int { return a.at().Compare(b.at()) })
	for _, c := range order {
		c.repeated = slices.ContainsFunc(seen[c.id], func(o request) bool { return c.request.other(&o) })
		seen[c.id] = append(seen[c.id], c.request)
	}
	return nil
}
