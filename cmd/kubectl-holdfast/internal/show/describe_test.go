package show

import (
	"bytes"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

func full(r *v1alpha1.AccessRequest) {
	r.Spec.Reason = "prod-a moved on Monday\x1b[2J\nthis is what is left"
	r.Status.Change = "- metadata.name: prod-a\n+ nothing\n~ both\n@@ cut @@\n"
	r.Status.Version, r.Status.TargetUID = "v1", "0b1c"
	r.Status.Affected = []string{
		`cannot be undone: deletes persistentvolumeclaims "prod-a/db"`, "not known: how many pods there are; why",
		`newly allows get on secrets to group "dev"`, `deletes statefulsets.apps "db"`,
	}
	r.Status.AffectedDigest, r.Status.ChangeDigest = "0123456789abcdef0123", "fedcba98765432100123"
	r.Status.Impact = map[string]int64{"secrets": 4, "statefulsets.apps": 1, "persistentvolumeclaims": 3, "namespaces": 1}
	r.Status.Reviews = []v1alpha1.ReviewCopy{
		counted("a", "ann"),
		{Name: "b", Reviewer: "jane", Verdict: v1alpha1.Approve, Comment: "fine\nby me", Refused: access.RefusedOwner, Time: ago(30 * time.Second)},
	}
	r.Status.Reviews[0].Group = ""
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	jane := &v1alpha1.Agent{Spec: v1alpha1.AgentSpec{Owner: &v1alpha1.Owner{Name: "jane"}, Suspended: true}}
	for _, c := range []struct {
		name        string
		description Description
		want        string
	}{
		{"pending", Description{Request: setup(t, full), Agent: jane}, `
Name:       3f2a9c-1
Phase:      Pending, asked 2m ago (2026-07-01 11:58:00 UTC), 58m left (until 2026-07-01 12:58:00 UTC)
Agent:      bot, owned by jane, suspended
Requester:  system:serviceaccount:agents:bot
Wants to:   delete namespaces/prod-a
UID of it:  0b1c; another object of that name is not meant
Version:    v1 of its API
Origin:     Intercepted: the agent made this request, and it is held

Reason, in the agent's words:
  | prod-a moved on Monday\u001b[2J
  | this is what is left

Held by:
  no-namespace-deletes/hold-delete: 1 of 2 approvals
    Namespaces of production need a second pair of eyes.
    May approve: group holdfast:approvers, user ann; not the owner, jane

Still missing:
  no-namespace-deletes/hold-delete has 1 of 2 approvals

Impact:
  cannot be undone: deletes persistentvolumeclaims "prod-a/db"
  not known: how many pods there are; why
  newly allows get on secrets to group "dev"
  deletes statefulsets.apps "db"
  In numbers:
  persistentvolumeclaims  3
  statefulsets.apps       1
  namespaces              1
  secrets                 4

Change:
  | - metadata.name: prod-a
  | + nothing
  | ~ both
  | @@ cut @@

Reviews:
  Approve by ann, 60s ago (2026-07-01 11:59:00 UTC)
    counts for no-namespace-deletes/hold-delete
  Approve by jane, 30s ago (2026-07-01 11:59:30 UTC)
    does not count: the agent's owner does not count for these rules
    | fine
    | by me

To decide:
  kubectl holdfast approve 3f2a9c-1 [-m COMMENT]
  kubectl holdfast deny 3f2a9c-1 -m COMMENT
`},
		{"asked and granted, nobody may approve", Description{Request: setup(t, func(r *v1alpha1.AccessRequest) {
			r.Spec.Origin = v1alpha1.Asked
			r.Spec.Access.Names = []string{"a", "b", "c", "d"}
			r.Spec.Access.Duration = &metav1.Duration{Duration: 10 * time.Minute}
			r.Spec.Rules[0].Approvers = v1alpha1.Approvers{}
			r.Status.Phase, r.Status.ExpiresAt = v1alpha1.Approved, in(4*time.Minute)
		}), NoAgent: "no such Agent"}, `
Name:       3f2a9c-1
Phase:      Approved, asked 2m ago (2026-07-01 11:58:00 UTC), 4m left (until 2026-07-01 12:04:00 UTC)
Agent:      bot (no such Agent)
Requester:  system:serviceaccount:agents:bot
Wants to:   delete namespaces/a,b,c,+1
Namespaces: none: what is cluster-scoped, or all namespaces at once
Names:      a, b, c, d
Origin:     Asked: the agent asks before it acts
For:        10m0s, counted from the approval
Ends at:    2026-07-01 12:04:00 UTC

Reason, in the agent's words:
  none given

Asked under:
  no-namespace-deletes/hold-delete: 0 of 2 approvals
    Namespaces of production need a second pair of eyes.
    May approve: nobody: the rule names no approvers, so this can only be withdrawn or expire

Reviews:
  none so far

To end the grant, or to stop the agent altogether:
  kubectl holdfast revoke 3f2a9c-1 -m COMMENT
  kubectl holdfast suspend agent/bot
`},
		{"let pass", Description{Request: setup(t, func(r *v1alpha1.AccessRequest) {
			r.Status.Phase = v1alpha1.Used
			r.Status.EndedAt = in(-10 * time.Second)
			r.Status.Redeemed = &v1alpha1.Redemption{DecisionID: "d1", Time: metav1.NewMicroTime(now.Add(-15 * time.Second))}
		}), NoAgent: "no such Agent"}, `
Name:       3f2a9c-1
Phase:      Used, asked 2m ago (2026-07-01 11:58:00 UTC), ended 10s ago (2026-07-01 11:59:50 UTC)
Agent:      bot (no such Agent)
Requester:  system:serviceaccount:agents:bot
Wants to:   delete namespaces/prod-a
Origin:     Intercepted: the agent made this request, and it is held
Let pass:   15s ago (2026-07-01 11:59:45 UTC), decision d1

Reason, in the agent's words:
  none given

Held by:
  no-namespace-deletes/hold-delete: 0 of 2 approvals
    Namespaces of production need a second pair of eyes.
    May approve: group holdfast:approvers, user ann

Change:
  none recorded

Reviews:
  none so far
`},
		{"approved collection, of which not all is shown", Description{Request: setup(t, func(r *v1alpha1.AccessRequest) {
			r.Spec.Access.Verbs, r.Spec.Access.Names = []string{"deletecollection"}, nil
			r.Status.Phase, r.Status.Message = v1alpha1.Approved, "it was refused by a quota, and has had no effect"
			for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
				r.Status.Items = append(r.Status.Items, v1alpha1.Item{Name: name})
			}
			r.Status.Affected = []string{"deletes a", "and 7 more sentences, none of them about what cannot be undone, are not shown"}
			r.Status.AffectedDigest, r.Status.ChangeDigest = "0123456789abcdef0123", "fedcba98765432100123"
			r.Status.Change = "- deletecollection configmaps\n... cut: 3 of 4 lines, and 0 bytes of others, are not shown\n"
		}), NoAgent: "no such Agent"}, `
Name:       3f2a9c-1
Phase:      Approved, asked 2m ago (2026-07-01 11:58:00 UTC), 58m left (until 2026-07-01 12:58:00 UTC)
Because:    it was refused by a quota, and has had no effect
Agent:      bot (no such Agent)
Requester:  system:serviceaccount:agents:bot
Wants to:   deletecollection namespaces
Origin:     Intercepted: the agent made this request, and it is held

Reason, in the agent's words:
  none given

Held by:
  no-namespace-deletes/hold-delete: 0 of 2 approvals
    Namespaces of production need a second pair of eyes.
    May approve: group holdfast:approvers, user ann

Impact:
  deletes a
  and 7 more sentences, none of them about what cannot be undone, are not shown
  Digest of the whole: 0123456789abcdef

Items, 6, and no others:
  a, b, c, d, e
  f

Change:
  | - deletecollection configmaps
  | ... cut: 3 of 4 lines, and 0 bytes of others, are not shown
  Digest of the whole: fedcba9876543210

Reviews:
  none so far

To take the approval back before it is used, or to stop the agent altogether:
  kubectl holdfast revoke 3f2a9c-1 -m COMMENT
  kubectl holdfast suspend agent/bot
`},
		{"without a name", Description{Request: setup(t, func(r *v1alpha1.AccessRequest) {
			r.Spec.Access.Names, r.Spec.Rules = nil, nil
			r.Status = v1alpha1.AccessRequestStatus{Phase: v1alpha1.Withdrawn, GenerateName: "job-"}
		}), NoAgent: "no such Agent"}, `
Name:       3f2a9c-1
Phase:      Withdrawn, asked 2m ago (2026-07-01 11:58:00 UTC)
Agent:      bot (no such Agent)
Requester:  system:serviceaccount:agents:bot
Wants to:   delete namespaces
Name of it: made up by the API server, from job-
Origin:     Intercepted: the agent made this request, and it is held

Reason, in the agent's words:
  none given

Held by:

Change:
  none recorded

Reviews:
  none so far
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.description.Now = now
			var b bytes.Buffer
			c.description.Print(&b)
			equal(t, b.String(), c.want)
		})
	}
}

func TestDescribeColours(t *testing.T) {
	t.Parallel()
	var plain, coloured bytes.Buffer
	d := Description{Request: setup(t, full), NoAgent: "unknown", Now: now}
	d.Print(&plain)
	d.Palette = true
	d.Print(&coloured)
	for _, want := range []string{
		"  | \x1b[31m- metadata.name: prod-a\x1b[0m\n", "  | \x1b[32m+ nothing\x1b[0m\n", "  | \x1b[36m@@ cut @@\x1b[0m\n",
		"\x1b[33mPending\x1b[0m", `\u001b[2J`,
		"  \x1b[31mcannot be undone: deletes persistentvolumeclaims \"prod-a/db\"\x1b[0m\n", "  \x1b[33mnot known: how many pods there are; why\x1b[0m\n",
		"  \x1b[33mnewly allows get on secrets to group \"dev\"\x1b[0m\n", "  deletes statefulsets.apps \"db\"\n",
		"  \x1b[31mpersistentvolumeclaims  3\x1b[0m\n", "  secrets                 4\n",
	} {
		if !strings.Contains(coloured.String(), want) {
			t.Errorf("%q is not in:\n%q", want, coloured.String())
		}
	}
	if strings.Contains(plain.String(), "\x1b") {
		t.Errorf("colours where none are wanted: %q", plain.String())
	}
}

func TestChange(t *testing.T) {
	t.Parallel()
	pending := setup(t, nil)
	then := func(change func(*v1alpha1.AccessRequest)) *v1alpha1.AccessRequest {
		r := pending.DeepCopy()
		change(r)
		return r
	}
	denied := counted("d", "bob")
	denied.Verdict, denied.Comment = v1alpha1.Reject, "not\non Fridays"
	const prefix = "12:00:00  3f2a9c-1  bot  delete namespaces/prod-a: "
	for _, c := range []struct {
		name      string
		old, next *v1alpha1.AccessRequest
		want      string
	}{
		{"new", nil, pending, prefix + "Pending, no-namespace-deletes/hold-delete has 0 of 2 approvals, no-namespace-deletes/hold-delete wants the agent's reason first, 58m left"},
		{"gone", pending, nil, prefix + "removed"},
		{"nothing of interest", pending, then(func(r *v1alpha1.AccessRequest) { r.Labels = map[string]string{"a": "b"} }), ""},
		{"reason", pending, then(func(r *v1alpha1.AccessRequest) { r.Spec.Reason = strings.Repeat("é", 90) }),
			prefix + `reason given: "` + strings.Repeat("é", 80) + `…"; Pending, no-namespace-deletes/hold-delete has 0 of 2 approvals, 58m left`},
		{"review that does not count", pending, then(func(r *v1alpha1.AccessRequest) {
			r.Spec.Rules[0].ReasonRequired = false
			r.Status.Reviews = []v1alpha1.ReviewCopy{{Name: "a", Reviewer: "jane", Verdict: v1alpha1.Approve, Refused: access.RefusedOwner}}
		}), prefix + "jane approves (does not count: the agent's owner does not count for these rules); Pending, no-namespace-deletes/hold-delete has 0 of 2 approvals, 58m left"},
		{"denied", pending, then(func(r *v1alpha1.AccessRequest) {
			r.Status.Phase, r.Status.Reviews = v1alpha1.Denied, []v1alpha1.ReviewCopy{denied}
		}), prefix + `bob denies; Denied by bob: "not\u000aon Fridays"`},
		{"withdrawn, not settled yet", pending, then(func(r *v1alpha1.AccessRequest) {
			r.Spec.Withdrawn, r.Status.Phase, r.Status.ExpiresAt = true, v1alpha1.Approved, in(0)
		}), prefix + "the agent withdraws it; Approved, its time is over"},
		{"revoked", pending, then(func(r *v1alpha1.AccessRequest) {
			r.Status.Phase, r.Status.Reviews, r.Status.Message = v1alpha1.Revoked, []v1alpha1.ReviewCopy{denied}, "taken back by bob"
		}), prefix + `bob denies; Revoked by bob: "not\u000aon Fridays"`},
		{"revoked by a void", pending, then(func(r *v1alpha1.AccessRequest) {
			r.Status.Phase, r.Status.Message = v1alpha1.Revoked, "a review was voided\x1b[2J"
		}), prefix + `Revoked (a review was voided\u001b[2J)`},
		{"redeemed", pending, then(func(r *v1alpha1.AccessRequest) { r.Status.Phase = v1alpha1.Redeemed }), prefix + "Redeemed, the agent's request was let pass"},
	} {
		if got := Change(c.old, c.next, now); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
		}
	}
}
