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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

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
	SumCollection(r *decision.Request, uids []string) (string, error)
	Key(u decision.User, fingerprint string) string
	Diff(r *decision.Request, maxBytes int) (diff, digest string)
}

// Impacts says what a change would do, for people: into the status, within a second or two,
// and never an error.
type Impacts interface {
	Show(ctx context.Context, r *decision.Request, s *v1alpha1.AccessRequestStatus)
}

// Bounds of waiting.
const (
	// inline is how long one call waits, and margin how long before the call's own timeout
	// it ends at the latest.
	inline = 10 * time.Second
	margin = 2 * time.Second
	// places is how many calls may wait at the same time in this replica, and placesAgent
	// how many of one agent. Each occupies one of the API server's seats for the agents.
	places      = 20
	placesAgent = 10
	// slow is how long a call waits for its refusal when its agent has as many requests waiting
	// as it may, and slowPlaces how many do so at the same time in this replica: a flood takes
	// that much less of the API server's time. With the places to wait they are 40 of the 115
	// seats that manifests/flowcontrol gives the agents.
	slow       = 400 * time.Millisecond
	slowPlaces = 20
	// retries is how often ordinary clients come back after a 429.
	retries    = 10
	maxRetry   = time.Minute
	maxChange  = 16 << 10
	maxAttempt = 5
)

// Config is what a Holder needs. Ledger and Fingerprints are required.
type Config struct {
	Ledger       Ledger
	Fingerprints Fingerprints
	// Impacts says what a change would do. Nil says nothing.
	Impacts Impacts
	// Metrics counts. Nil counts nothing.
	Metrics *Metrics
	// Now is the clock. Nil is time.Now.
	Now func() time.Time
}

// Holder holds requests. It is safe for concurrent use.
type Holder struct {
	Config
	waiting, slowed *rooms
}

// New returns a Holder.
func New(c Config) *Holder {
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Holder{Config: c, waiting: newRooms(places, placesAgent), slowed: newRooms(slowPlaces, slowPlaces)}
}

// Input is one held request.
type Input struct {
	Request *decision.Request
	Held    *engine.Held
	// Items are those of the whole collection that a deletecollection is about; nil for
	// anything else. The one that this call is about is among them.
	Items []v1alpha1.Item
	// Again judges the request anew after a wait. Required: a decision beside nil is final.
	Again func(ctx context.Context) (decision.Decision, *engine.Held)
	// TraceID of the API request; empty where it cannot be trusted.
	TraceID string
	// Timeout is how long the API server waits for the answer.
	Timeout time.Duration
}

// Decide returns what becomes of a held request: Allow once people have approved it, Hold
// while they have not, Deny where they said no or it cannot wait.
func (h *Holder) Decide(ctx context.Context, d decision.Decision, in Input) decision.Decision {
	d = h.decide(ctx, d, in)
	h.Metrics.decided(d)
	return d
}

func (h *Holder) decide(ctx context.Context, d decision.Decision, in Input) decision.Decision {
	if why := cannotWait(&in); why != "" {
		return stop(d, decision.Hold, decision.ReasonNotHoldable, why)
	}
	fingerprint, err := h.sum(&in)
	if err != nil {
		return stop(d, decision.Deny, decision.ReasonInternal, "the change could not be fingerprinted")
	}
	draft := h.draft(in, fingerprint)
	waited := false
	for range maxAttempt {
		r, err := h.Ledger.Claim(ctx, draft)
		if errors.Is(err, access.ErrTooManyPending) {
			h.slowDown(ctx, in.Held.Agent)
			return stop(d, decision.Deny, decision.ReasonTooManyPending, "too many requests wait for people already")
		}
		if err != nil {
			return stop(d, decision.Deny, decision.ReasonInternal, "the request for approval could not be kept")
		}
		d.AccessRequest = r.Name
		if out, done := h.conclude(ctx, d, r, draft); done {
			return out
		}
		if r.Status.Phase != v1alpha1.Pending {
			continue // somebody else was faster with the approval
		}
		if waited || !h.wait(ctx, r, in) {
			return pending(d, r, in, waited)
		}
		waited = true
		again, held := in.Again(ctx)
		again.AccessRequest = r.Name
		if held == nil { // people need not be asked any more, or have no say
			return again
		}
		d, in.Held, draft.Spec.Rules = again, held, held.Rules
	}
	return stop(d, decision.Deny, decision.ReasonInternal, "the request for approval kept changing")
}

// conclude is what an AccessRequest has come to; done is false where it still waits, or was
// changed by somebody else.
func (h *Holder) conclude(ctx context.Context, d decision.Decision, r *v1alpha1.AccessRequest, draft *access.Draft) (out decision.Decision, done bool) {
	switch r.Status.Phase {
	case v1alpha1.Approved:
		err := h.Ledger.Redeem(ctx, r, v1alpha1.Redemption{
			DecisionID: d.ID, TraceID: draft.TraceID, ResourceVersion: draft.ResourceVersion, Time: metav1.MicroTime{Time: h.Now()},
		})
		if errors.Is(err, access.ErrConflict) {
			return d, false
		}
		if err != nil {
			return stop(d, decision.Deny, decision.ReasonInternal, "the approval could not be redeemed"), true
		}
		failpoint("redeemed")
		return pass(d), true
	case v1alpha1.Redeemed: // by this very API request, which the API server judges again
		return pass(d), true
	case v1alpha1.Denied:
		return stop(d, decision.Deny, decision.ReasonReviewDenied, denial(r)), true
	default:
		return d, false
	}
}

// slowDown lets a call that is about to be refused wait, if there is a place.
func (h *Holder) slowDown(ctx context.Context, agent string) {
	if !h.slowed.enter(agent) {
		return
	}
	defer h.slowed.leave(agent)
	timer := time.NewTimer(slow)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

func (h *Holder) sum(in *Input) (string, error) {
	if in.Items == nil {
		return h.Fingerprints.Sum(in.Request)
	}
	uids := make([]string, 0, len(in.Items))
	for i := range in.Items {
		uids = append(uids, string(in.Items[i].UID))
	}
	return h.Fingerprints.SumCollection(in.Request, uids)
}

// draft is the AccessRequest of a held request.
func (h *Holder) draft(in Input, fingerprint string) *access.Draft {
	old, _ := in.Request.OldObject["metadata"].(map[string]any)
	text := func(m map[string]any, key string) string {
		s, _ := m[key].(string)
		return s
	}
	d := &access.Draft{
		Key: h.Fingerprints.Key(in.Request.User, fingerprint), Fingerprint: fingerprint,
		Version: in.Request.Version, UID: types.UID(text(old, "uid")), ResourceVersion: text(old, "resourceVersion"), Items: in.Items,
		Show: func(ctx context.Context, s *v1alpha1.AccessRequestStatus) {
			s.Change, s.ChangeDigest = h.Fingerprints.Diff(in.Request, maxChange)
			if h.Impacts != nil {
				h.Impacts.Show(ctx, in.Request, s)
			}
		},
		ExpiresAfter: in.Held.ExpiresAfter, TraceID: in.TraceID,
		Spec: v1alpha1.AccessRequestSpec{
			Origin: v1alpha1.Intercepted, Agent: in.Held.Agent, Requester: in.Request.User.Name,
			Access: accessOf(in.Request), Rules: in.Held.Rules,
		},
	}
	d.GenerateName = generateName(in.Request)
	return d
}

// wait waits for a decision, if there is a place, and says whether it did.
func (h *Holder) wait(ctx context.Context, r *v1alpha1.AccessRequest, in Input) bool {
	longest := inlineOf(in)
	if longest <= 0 || !h.waiting.enter(in.Held.Agent) {
		return false
	}
	defer h.waiting.leave(in.Held.Agent)
	h.Metrics.waits(1)
	defer h.Metrics.waits(-1)
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	h.Ledger.Await(ctx, r)
	return true
}

// inlineOf is how long a call may wait.
func inlineOf(in Input) time.Duration { return min(inline, in.Held.Wait, in.Timeout-margin) }

// cannotWait says why a request cannot be held; empty where it can.
func cannotWait(in *Input) string {
	switch r := in.Request; {
	case r.DryRun:
		return "it would be held for approval; a dry run opens no request"
	case r.Verb == "connect":
		return "it would need approval, and a connection cannot wait for that"
	case r.Verb == "deletecollection" && len(in.Items) == 0:
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
func pending(d decision.Decision, r *v1alpha1.AccessRequest, in Input, waited bool) decision.Decision {
	d = stop(d, decision.Hold, decision.ReasonPending, fmt.Sprintf(
		"it waits for approval: %s. Approvers: %s. To approve: kubectl holdfast approve %s. The same command goes through then",
		strings.Join(access.Missing(r, r.Status.Reviews), "; "), whoApproves(r), r.Name))
	if in.Held.Wait > 0 {
		each := in.Held.Wait / retries
		if waited {
			each -= inlineOf(in)
		}
		d.RetryAfter = min(max(each, time.Second), maxRetry)
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
	if r.Name != "" && generateName(r) == "" && r.Verb != "deletecollection" {
		a.Names = []string{r.Name}
	}
	return a
}

// generateName is that of an object which is created: its name is not known before.
func generateName(r *decision.Request) string {
	if r.Verb != "create" || r.Subresource != "" {
		return ""
	}
	metadata, _ := r.Object["metadata"].(map[string]any)
	s, _ := metadata["generateName"].(string)
	return s
}
