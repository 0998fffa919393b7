package e2e

import (
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// evidenceThreats try to be taken for nobody, or for somebody else, in what is written down.
func evidenceThreats() []Threat {
	return []Threat{
		{
			ID: "T66", Title: "forged Audit-ID", Verdict: Effect, Effect: "stored, and flagged",
			Control: "the API server takes the ID that the client sends",
			Off: func(s *scene) {
				s.forge()
				if events := s.audit.find(s.t, func(e *auditv1.Event) bool { return e.AuditID == forgedID }); len(events) == 0 {
					s.t.Error("the API server's audit log does not have the forged ID")
				}
			},
			On: forgedIDs,
		},
	}
}

// forgedID is an audit ID that clients choose.
const forgedID = "11111111-2222-4333-8444-555555555555"

// forge makes two ConfigMaps, and deletes one, under one audit ID.
func (s *scene) forge() {
	s.t.Helper()
	for _, c := range []call{newConfigMap("one"), newConfigMap("two"), httpDelete(configMaps+"/one", "")} {
		if a := s.attempt(c.with("Audit-Id", forgedID)); a.auditID != forgedID {
			s.t.Fatalf("the audit ID is %s: %s", a.auditID, a)
		}
	}
}

// forgedIDs: each request is a row of its own, and the ID is among those that were used twice.
func forgedIDs(s *scene) {
	db := s.c.database(s.t)
	s.forge()
	s.eventually("all are in Postgres", func() error {
		rows, err := db.Query(s.t.Context(), `SELECT verb || ' ' || name FROM audit_events WHERE audit_id = $1 AND username = $2 ORDER BY 1`, forgedID, s.user())
		if err != nil {
			return err
		}
		got, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		if want := []string{"create one", "create two", "delete one"}; !slices.Equal(got, want) {
			return fmt.Errorf("got %q, want %q", got, want)
		}
		return nil
	})
	var requests int
	var usernames []string
	if err := db.QueryRow(s.t.Context(), `SELECT requests, usernames FROM reused_audit_ids WHERE audit_id = $1`, forgedID).Scan(&requests, &usernames); err != nil {
		s.t.Fatal(err)
	}
	if requests != 3 || !slices.Equal(usernames, []string{s.user()}) {
		s.t.Errorf("flagged with %d requests of %v, want 3 of %s", requests, usernames, s.user())
	}
	var others int
	if err := db.QueryRow(s.t.Context(), `SELECT count(*) FROM reused_audit_ids WHERE audit_id <> $1`, forgedID).Scan(&others); err != nil {
		s.t.Fatal(err)
	}
	if others != 0 {
		s.t.Errorf("%d audit IDs that nobody forged are flagged", others)
	}
}
