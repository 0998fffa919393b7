package hold

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/engine"
)

// faulty is a ledger that answers as it is told; the real one is tested on an API server.
type faulty struct {
	phases   []v1alpha1.Phase
	claimErr error
	redeem   []error
	redeemed int
	awaited  int
}

func (f *faulty) Claim(context.Context, *access.Draft) (*v1alpha1.AccessRequest, error) {
	if f.claimErr != nil {
		return nil, f.claimErr
	}
	phase := f.phases[0]
	if len(f.phases) > 1 {
		f.phases = f.phases[1:]
	}
	r := &v1alpha1.AccessRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "key-1"},
		Spec: v1alpha1.AccessRequestSpec{Rules: []v1alpha1.HoldingRule{{
			Policy: "p", Rule: "r", Required: 1, Approvers: v1alpha1.Approvers{Groups: []string{"ops"}, Users: []string{"boss"}},
		}}},
		Status: v1alpha1.AccessRequestStatus{Phase: phase},
	}
	if phase == v1alpha1.Denied {
		r.Status.Reviews = []v1alpha1.ReviewCopy{{Reviewer: "ann", Verdict: v1alpha1.Reject, Comment: "not today"}}
	}
	return r, nil
}

func (f *faulty) Redeem(context.Context, *v1alpha1.AccessRequest, v1alpha1.Redemption) error {
	err := f.redeem[0]
	f.redeem = f.redeem[1:]
	if err == nil {
		f.redeemed++
	}
	return err
}

func (f *faulty) Await(context.Context, *v1alpha1.AccessRequest) { f.awaited++ }

type plain struct{ err error }

func (p plain) Sum(*decision.Request) (string, error)                     { return "fp", p.err }
func (p plain) SumCollection(*decision.Request, []string) (string, error) { return "fps", p.err }
func (plain) Key(decision.User, string) string                            { return "key" }
func (plain) Diff(*decision.Request, int) (string, string)                { return "diff", "digest" }

func TestDecide(t *testing.T) {
	t.Parallel()
	broken := errors.New("the disk says: hunter2")
	const waits = "it waits for approval: p/r has 0 of 1 approvals. Approvers: group ops, user boss. To approve: kubectl holdfast approve key-1. The same command goes through then (decision ID, AccessRequest key-1)"
	for name, test := range map[string]struct {
		ledger  faulty
		request decision.Request
		wait    time.Duration
		fail    error
		action  decision.Action
		reason  decision.Reason
		retry   time.Duration
		message string
		awaited int
	}{
		"pending, at once":       {ledger: faulty{phases: []v1alpha1.Phase{v1alpha1.Pending}}, action: decision.Hold, reason: decision.ReasonPending, message: waits},
		"pending, after waiting": {ledger: faulty{phases: []v1alpha1.Phase{v1alpha1.Pending}}, wait: 2 * time.Minute, action: decision.Hold, reason: decision.ReasonPending, retry: 2 * time.Second, message: waits, awaited: 1},
		"approved while waiting": {ledger: faulty{phases: []v1alpha1.Phase{v1alpha1.Pending, v1alpha1.Approved}, redeem: []error{nil}}, wait: time.Minute, action: decision.Allow, reason: decision.ReasonApproved, awaited: 1},
		"approved":               {ledger: faulty{phases: []v1alpha1.Phase{v1alpha1.Approved}, redeem: []error{nil}}, action: decision.Allow, reason: decision.ReasonApproved},
		"lost the race":          {ledger: faulty{phases: []v1alpha1.Phase{v1alpha1.Approved, v1alpha1.Pending}, redeem: []error{access.ErrConflict}}, action: decision.Hold, reason: decision.ReasonPending, message: waits},
		"the same API request":   {ledger: faulty{phases: []v1alpha1.Phase{v1alpha1.Redeemed}}, action: decision.Allow, reason: decision.ReasonApproved},
		"denied":                 {ledger: faulty{phases: []v1alpha1.Phase{v1alpha1.Denied}}, action: decision.Deny, reason: decision.ReasonReviewDenied, message: "ann denied it: not today (decision ID, AccessRequest key-1)"},
		"redeeming fails":        {ledger: faulty{phases: []v1alpha1.Phase{v1alpha1.Approved}, redeem: []error{broken}}, action: decision.Deny, reason: decision.ReasonInternal, message: "the approval could not be redeemed (decision ID, AccessRequest key-1)"},
		"conflicts without end":  {ledger: faulty{phases: []v1alpha1.Phase{v1alpha1.Approved}, redeem: []error{access.ErrConflict, access.ErrConflict, access.ErrConflict, access.ErrConflict, access.ErrConflict}}, action: decision.Deny, reason: decision.ReasonInternal, message: "the request for approval kept changing (decision ID, AccessRequest key-1)"},
		"the ledger is away":     {ledger: faulty{claimErr: broken}, action: decision.Deny, reason: decision.ReasonInternal, message: "the request for approval could not be kept (decision ID)"},
		"too many":               {ledger: faulty{claimErr: access.ErrTooManyPending}, action: decision.Deny, reason: decision.ReasonTooManyPending, message: "too many requests wait for people already (decision ID)"},
		"no fingerprint":         {fail: broken, action: decision.Deny, reason: decision.ReasonInternal, message: "the change could not be fingerprinted (decision ID)"},
		"dry run":                {request: decision.Request{DryRun: true}, action: decision.Hold, reason: decision.ReasonNotHoldable, message: "it would be held for approval; a dry run opens no request (decision ID)"},
		"connect":                {request: decision.Request{Verb: "connect"}, action: decision.Hold, reason: decision.ReasonNotHoldable, message: "it would need approval, and a connection cannot wait for that (decision ID)"},
		"deletecollection":       {request: decision.Request{Verb: "deletecollection"}, action: decision.Hold, reason: decision.ReasonNotHoldable, message: "it would need approval; delete the objects one by one (decision ID)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ledger := test.ledger
			h := New(Config{Ledger: &ledger, Fingerprints: plain{test.fail}})
			d := h.Decide(context.Background(), decision.Decision{ID: "ID", Action: decision.Hold, Message: "agent bot may not x (decision ID)"},
				Input{Request: &test.request, Held: &engine.Held{Wait: test.wait}, Timeout: 15 * time.Second})
			if d.Action != test.action || d.Reason != test.reason || d.RetryAfter != test.retry || ledger.awaited != test.awaited {
				t.Errorf("%s %s retry %s awaited %d, want %s %s %s %d", d.Action, d.Reason, d.RetryAfter, ledger.awaited, test.action, test.reason, test.retry, test.awaited)
			}
			if got := strings.TrimPrefix(d.Message, "agent bot may not x; "); got != test.message {
				t.Errorf("got  %s\nwant %s", got, test.message)
			}
		})
	}
}

// TestPlaces: calls beyond the places do not wait, and are told to come back.
func TestPlaces(t *testing.T) {
	t.Parallel()
	ledger := &faulty{phases: []v1alpha1.Phase{v1alpha1.Pending}}
	h := New(Config{Ledger: ledger, Fingerprints: plain{}})
	for range placesAgent {
		if !h.waiting.enter("busy") {
			t.Fatal("the places are taken")
		}
	}
	for agent, want := range map[string]struct {
		awaited int
		retry   time.Duration
	}{"busy": {0, 12 * time.Second}, "other": {1, 2 * time.Second}} {
		ledger.awaited = 0
		d := h.Decide(context.Background(), decision.Decision{ID: "ID", Action: decision.Hold},
			Input{Request: &decision.Request{}, Held: &engine.Held{Agent: agent, Wait: 2 * time.Minute}, Timeout: 15 * time.Second})
		if ledger.awaited != want.awaited || d.Action != decision.Hold || d.RetryAfter != want.retry {
			t.Errorf("%s: awaited %d, %s, retry after %s; want %d and %s", agent, ledger.awaited, d.Action, d.RetryAfter, want.awaited, want.retry)
		}
	}
	for i := 0; h.waiting.enter(string(rune('a' + i))); i++ {
		if i > places {
			t.Fatal("there is no end to the places")
		}
	}
	if h.waiting.leave("busy"); !h.waiting.enter("other") {
		t.Error("a place that was left is not free")
	}
}
