// Package hold makes a held request of an agent wait for people: it finds or opens the one
// AccessRequest for exactly that change, waits a while for a decision, and lets one API
// request pass for one approval.
//
// It never lets pass what it cannot redeem: an error on the way is a refusal, and the
// approval stands or is spent, but never counts twice.
package hold

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/engine"
)

// Ledger keeps AccessRequests.
type Ledger interface {
	// Claim returns the one live AccessRequest for the key, or opens one: pending, approved,
	// denied and not yet over, or redeemed by the draft's own API request. It may return
	// access.ErrTooManyPending.
	Claim(ctx context.Context, d *access.Draft) (*v1alpha1.AccessRequest, error)
	// Redeem moves an approved AccessRequest to Redeemed. It MUST have happened, by one
	// conditional update, when it returns nil; access.ErrConflict where it was changed meanwhile.
	Redeem(ctx context.Context, r *v1alpha1.AccessRequest, by v1alpha1.Redemption) error
	// Await returns when the AccessRequest is no longer in the phase it was seen in, or the
	// context ends.
	Await(ctx context.Context, r *v1alpha1.AccessRequest)
}

// Fingerprints names changes.
type Fingerprints interface {
	Sum(r *decision.Request) (string, error)
	Key(u decision.User, fingerprint string) string
	Diff(r *decision.Request, maxBytes int) (diff, digest string)
}

// Bounds of waiting.
const (
	// inline is how long one call waits, and margin how long before the call's own timeout
	// it ends at the latest.
	inline = 10 * time.Second
	margin = 2 * time.Second
	// places is how many calls may wait at the same time in this replica. Each occupies one
	// of the API server's seats for the agents.
	places = 20
	// retries is how often ordinary clients come back after a 429.
	retries    = 10
	maxRetry   = time.Minute
	maxChange  = 16 << 10
	maxAttempt = 5
)

// Holder holds requests. It is safe for concurrent use.
type Holder struct {
	ledger       Ledger
	fingerprints Fingerprints
	now          func() time.Time
	waiting      *semaphore.Weighted
}

// New returns a Holder.
func New(l Ledger, f Fingerprints, now func() time.Time) *Holder {
	return &Holder{ledger: l, fingerprints: f, now: now, waiting: semaphore.NewWeighted(places)}
}

// Input is one held request.
type Input struct {
	Request *decision.Request
	Held    *engine.Held
	// TraceID of the API request; empty where it cannot be trusted.
	TraceID string
	// Timeout is how long the API server waits for the answer.
	Timeout time.Duration
}

// Decide returns what becomes of a held request: Allow once people have approved it, Hold
// while they have not, Deny where they said no or it cannot wait.
func (h *Holder) Decide(ctx context.Context, d decision.Decision, in Input) decision.Decision {
	if why := cannotWait(in.Request); why != "" {
		return stop(d, decision.Hold, decision.ReasonNotHoldable, why)
	}
	fingerprint, err := h.fingerprints.Sum(in.Request)
	if err != nil {
		return stop(d, decision.Deny, decision.ReasonInternal, "the change could not be fingerprinted")
	}
	draft := h.draft(in, fingerprint)
	waited := time.Duration(0)
	for range maxAttempt {
		r, err := h.ledger.Claim(ctx, draft)
		if errors.Is(err, access.ErrTooManyPending) {
			return stop(d, decision.Deny, decision.ReasonTooManyPending, "too many requests of this agent wait for people already")
		}
		if err != nil {
			return stop(d, decision.Deny, decision.ReasonInternal, "the request for approval could not be kept")
		}
		d.AccessRequest = r.Name
		switch r.Status.Phase {
		case v1alpha1.Approved:
			err := h.ledger.Redeem(ctx, r, v1alpha1.Redemption{
				DecisionID: d.ID, TraceID: in.TraceID, Time: metav1.MicroTime{Time: h.now()},
			})
			if errors.Is(err, access.ErrConflict) {
				continue
			}
			if err != nil {
				return stop(d, decision.Deny, decision.ReasonInternal, "the approval could not be redeemed")
			}
			return pass(d)
		case v1alpha1.Redeemed: // by this very API request, which the API server judges again
			return pass(d)
		case v1alpha1.Denied:
			return stop(d, decision.Deny, decision.ReasonReviewDenied, denial(r))
		}
		if waited > 0 || !h.wait(ctx, r, in, &waited) {
			return pending(d, r, in, waited)
		}
	}
	return stop(d, decision.Deny, decision.ReasonInternal, "the request for approval kept changing")
}

// draft is the AccessRequest of a held request.
func (h *Holder) draft(in Input, fingerprint string) *access.Draft {
	return &access.Draft{
		Key: h.fingerprints.Key(in.Request.User, fingerprint), Fingerprint: fingerprint,
		Change: func() string {
			diff, _ := h.fingerprints.Diff(in.Request, maxChange)
			return diff
		},
		ExpiresAfter: in.Held.ExpiresAfter, TraceID: in.TraceID,
		Spec: v1alpha1.AccessRequestSpec{
			Origin: v1alpha1.Intercepted, Agent: in.Held.Agent, Requester: in.Request.User.Name,
			Access: accessOf(in.Request), Rules: in.Held.Rules,
		},
	}
}

// wait waits for a decision, if there is a place, and says whether it did.
func (h *Holder) wait(ctx context.Context, r *v1alpha1.AccessRequest, in Input, waited *time.Duration) bool {
	longest := min(inline, in.Held.Wait, in.Timeout-margin)
	if longest <= 0 || !h.waiting.TryAcquire(1) {
		return false
	}
	defer h.waiting.Release(1)
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	h.ledger.Await(ctx, r)
	*waited = longest
	return true
}

// cannotWait says why a request cannot be held; empty where it can.
func cannotWait(r *decision.Request) string {
	switch {
	case r.DryRun:
		return "it would be held for approval; a dry run opens no request"
	case r.Verb == "connect":
		return "it would need approval, and a connection cannot wait for that"
	case r.Verb == "deletecollection":
		return "it would need approval; delete the objects one by one"
	default:
		return ""
	}
}

func pass(d decision.Decision) decision.Decision {
	d.Action, d.Reason, d.Message = decision.Allow, decision.ReasonApproved, ""
	return d
}

func stop(d decision.Decision, action decision.Action, reason decision.Reason, why string) decision.Decision {
	d.Action, d.Reason, d.RetryAfter = action, reason, 0
	name := ""
	if d.AccessRequest != "" {
		name = ", AccessRequest " + d.AccessRequest
	}
	held := strings.TrimSuffix(strings.TrimSuffix(d.Message, fmt.Sprintf(" (decision %s)", d.ID)), ".")
	d.Message = fmt.Sprintf("%s; %s (decision %s%s)", held, why, d.ID, name)
	return d
}

// pending is the answer while nobody has decided: with a time to come back, where the rule
// wants the agent's command to wait.
func pending(d decision.Decision, r *v1alpha1.AccessRequest, in Input, waited time.Duration) decision.Decision {
	d = stop(d, decision.Hold, decision.ReasonPending, fmt.Sprintf(
		"it waits for approval: %s. Approvers: %s. To approve: kubectl holdfast approve %s. The same command goes through then",
		strings.Join(access.Missing(r, r.Status.Reviews), "; "), whoApproves(r), r.Name))
	if in.Held.Wait > 0 {
		d.RetryAfter = min(max(in.Held.Wait/retries-waited, time.Second), maxRetry)
	}
	return d
}

func whoApproves(r *v1alpha1.AccessRequest) string {
	var who []string
	seen := map[string]bool{}
	add := func(s string) {
		if !seen[s] {
			seen[s] = true
			who = append(who, s)
		}
	}
	for _, rule := range r.Spec.Rules {
		for _, g := range rule.Approvers.Groups {
			add("group " + g)
		}
		for _, u := range rule.Approvers.Users {
			add("user " + u)
		}
	}
	return strings.Join(who, ", ")
}

func denial(r *v1alpha1.AccessRequest) string {
	review := access.Denial(&r.Status)
	if review == nil {
		return "a reviewer denied it"
	}
	if review.Comment == "" {
		return review.Reviewer + " denied it"
	}
	return fmt.Sprintf("%s denied it: %s", review.Reviewer, review.Comment)
}

// accessOf says what a request wants. A name that the API server made up is left out, and so
// is a Namespace object's own name as its namespace.
func accessOf(r *decision.Request) v1alpha1.Access {
	a := v1alpha1.Access{Verbs: []string{r.Verb}, APIGroups: []string{r.Group}, Resources: []string{r.FullResource()}}
	if r.Namespace != "" && (r.Group != "" || r.Resource != "namespaces") {
		a.Namespaces = []string{r.Namespace}
	}
	metadata, _ := r.Object["metadata"].(map[string]any)
	if generated, _ := metadata["generateName"].(string); r.Name != "" && (generated == "" || r.Verb != "create") {
		a.Names = []string{r.Name}
	}
	return a
}
