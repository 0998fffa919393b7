package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/e2e/local"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// TestTestimony: what the audit stream shows speeds up settling, and voids Reviews that were
// made in another one's name. Without NATS and Postgres it still does.
func TestTestimony(t *testing.T) {
	t.Parallel() // it waits more than it works
	c := up(t, nil)
	c.policy(t, "holds", holdEverything)
	t.Run("GivesBackAtOnce", func(t *testing.T) { inHistory(t, c, givesBackAtOnce(t, c)) })
	t.Run("Impersonated", func(t *testing.T) { impersonated(t, c) })
	t.Run("OnlyTheCollector", func(t *testing.T) { onlyTheCollector(t, c) })
	t.Run("Forged", func(t *testing.T) { forged(t, c) })
	for _, part := range []string{local.NATS, local.Postgres} {
		if err := c.run.Kill(part); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("EvidenceDown", func(t *testing.T) { givesBackAtOnce(t, c) })
	for _, part := range []string{local.NATS, local.Postgres} { // the API server waits for them when it stops
		if err := c.run.Start(t.Context(), part); err != nil {
			t.Error(err)
		}
	}
}

// givesBackAtOnce: a refusal by a quota gives the approval back as soon as its audit event
// has come, long before the ledger would have found out; and what passed is used.
func givesBackAtOnce(t *testing.T, c *cluster) (request string) {
	t.Helper()
	ns := c.namespace(t)
	agentMaps := c.impatient(t, agent).CoreV1().ConfigMaps(ns)
	create := func() error {
		_, err := agentMaps.Create(t.Context(), configMap("wanted", "x"), metav1.CreateOptions{})
		return err
	}
	request = c.held(t, create)
	if err := approval(t.Context(), c.objects(t, approver), request); err != nil {
		t.Fatal(err)
	}
	c.quota(t, ns, "0")
	began := time.Now()
	if err := create(); err == nil || !strings.Contains(err.Error(), "exceeded quota") {
		t.Fatalf("error %v, want the quota's", err)
	}
	c.settled(t, request, v1alpha1.Approved, "says 403")
	t.Logf("the approval was back after %s", time.Since(began).Round(time.Millisecond))
	c.must(t, human, "-n", ns, "delete", "quota", "none")
	eventually(t, 10*time.Second, "the same create passes on the same approval", create)
	c.settled(t, request, v1alpha1.Used, "says 201")
	return request
}

// inHistory: analysts read the life of a request from Postgres.
func inHistory(t *testing.T, c *cluster, request string) {
	t.Helper()
	database := c.database(t)
	want := []string{"held", "Pending", "review: Approve", "Approved", "let pass", "Redeemed", "Approved", "let pass", "Redeemed", "Used"}
	eventually(t, 20*time.Second, "the history is complete", func() error {
		rows, err := database.Query(t.Context(), "SELECT what FROM access_request_history WHERE access_request = $1", request)
		if err != nil {
			return err
		}
		got, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			return err
		}
		slices.Sort(got)
		sorted := slices.Sorted(slices.Values(want))
		if !slices.Equal(got, sorted) {
			return fmt.Errorf("%q, want %q", got, sorted)
		}
		return nil
	})
}

// impersonated: one person with two names does not make two approvals, and what rests on
// such a Review is taken back.
func impersonated(t *testing.T, c *cluster) {
	ns := c.namespace(t)
	agentMaps := c.impatient(t, agent).CoreV1().ConfigMaps(ns)
	request := c.held(t, func() error {
		_, err := agentMaps.Create(t.Context(), configMap("two-names", "x"), metav1.CreateOptions{})
		return err
	})
	manifest := fmt.Sprintf("apiVersion: holdfast.dev/v1alpha1\nkind: Review\nmetadata: {generateName: review-}\nspec: {accessRequest: %s, verdict: Approve}\n", request)
	r := c.kubectlWith(t, manifest, human, "create", "-f", "-", "--as=approver", "--as-group=holdfast:approvers", "--as-group=system:authenticated")
	if r.code != 0 {
		t.Fatalf("the owner of the agent reviews in the name of an approver: %s", r.err)
	}
	c.settled(t, request, v1alpha1.Revoked, "voided")
	var got v1alpha1.AccessRequest
	if err := c.objects(t, admin).Get(t.Context(), client.ObjectKey{Name: request}, &got); err != nil {
		t.Fatal(err)
	}
	if want := `voided: "human" made it in the name of "approver"`; len(got.Status.Reviews) != 1 || got.Status.Reviews[0].Refused != want {
		t.Errorf("reviews %+v, want one that says %s", got.Status.Reviews, want)
	}
	// The mark is Holdfast's: nobody takes it off.
	review := got.Status.Reviews[0].Name
	c.refused(t, "cannot be changed", admin, "annotate", "review", review, "holdfast.dev/voided-")
}

// forged (T78): decisions that somebody else's webhook writes under the guard's name are kept as
// what they are, beside Holdfast's own, which are all verified; and nobody believes them.
func forged(t *testing.T, c *cluster) {
	ns := c.namespace(t)
	remove := c.somebodysWebhook(t, decision.GuardWebhook, ns, registrationv1.Create, func(_ *admissionv1.AdmissionRequest, response *admissionv1.AdmissionResponse) {
		response.AuditAnnotations = map[string]string{
			"d-FORGED": `{"decision":"Deny","reason":"Rule","agents":["forged"],"rules":["forged/forged"],"accessRequest":"forged"}`,
		}
	})
	defer remove()
	c.must(t, human, "-n", ns, "create", "configmap", "of-a-person")
	if r := c.kubectl(t, agent, "-n", ns, "create", "configmap", "of-an-agent", "--request-timeout=3s"); r.code == 0 {
		t.Error("what the policy holds passes")
	}
	database := c.database(t)
	one := func(sql string, args ...any) (got string) {
		t.Helper()
		if err := database.QueryRow(t.Context(), sql, args...).Scan(&got); err != nil && !errors.Is(err, pgx.ErrNoRows) {
			t.Fatal(err)
		}
		return got
	}
	eventually(t, 20*time.Second, "both decisions are in Postgres", func() error {
		got := one(`SELECT coalesce(string_agg(DISTINCT d.decision || ' ' || d.verified, ', ' ORDER BY d.decision || ' ' || d.verified), '')
			FROM audit_decisions d JOIN audit_events e USING (stage_timestamp, event_digest)
			WHERE e.namespace = $1 AND d.webhook = 'guard.holdfast.dev'`, ns)
		if want := "Deny false, Hold true"; got != want {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	})
	if got := one("SELECT count(*)::text FROM audit_decisions WHERE verified IS NOT true AND decision_id <> 'FORGED'"); got != "0" {
		t.Errorf("%s of Holdfast's own decisions are not verified", got)
	}
	if got := one("SELECT count(*)::text FROM audit_decisions WHERE repeated"); got != "0" {
		t.Errorf("%s of Holdfast's own decisions are said to be repeated", got)
	}
	person := one(`SELECT concat_ws(' ', username, verb, coalesce(decision, '-'), unverified) FROM agent_activity
		WHERE username = 'human' AND verb = 'create' AND object = $1`, ns+"/configmaps/of-a-person")
	if want := "human create - 1"; person != want {
		t.Errorf("agent_activity has %q, want %q", person, want)
	}
	if got := one("SELECT count(*)::text FROM access_request_history WHERE access_request = 'forged'"); got != "0" {
		t.Errorf("access_request_history has %s rows of a forged decision", got)
	}
}

// onlyTheCollector: the API server's certificate is no good for testifying, nor is none.
func onlyTheCollector(t *testing.T, c *cluster) {
	for name, test := range map[string]struct {
		cert, key, path string
		want            int
	}{
		"the API server testifies":  {c.info.CallerCert, c.info.CallerKey, "/v1/testimony", http.StatusForbidden},
		"the collector testifies":   {c.info.CollectorCert, c.info.CollectorKey, "/v1/testimony", http.StatusNoContent},
		"the collector asks a hook": {c.info.CollectorCert, c.info.CollectorKey, "/admission/guard", http.StatusForbidden},
	} {
		answer, err := c.mutual(t, test.cert, test.key).Post(c.info.WebhookURL+test.path, "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		_ = answer.Body.Close()
		if answer.StatusCode != test.want {
			t.Errorf("%s: %s, want %d", name, answer.Status, test.want)
		}
	}
}
