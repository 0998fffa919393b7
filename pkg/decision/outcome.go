package decision

import (
	"crypto/rand"
	"time"
)

// Cause is one reason for a decision that a program can act on.
type Cause struct {
	// Rule is policy/rule, or a policy's name for its default.
	Rule string
	// Reason is why the rule, or the default, applies.
	Reason Reason
	// Message is the rule's own, for people; may be empty.
	Message string
}

// Decision is the outcome of judging one request. The zero value denies.
type Decision struct {
	// ID names the decision in messages, annotations and logs: 26 characters.
	ID     string
	Action Action
	Reason Reason
	// Message is a sentence for the agent and whoever reads its output. Empty where the
	// request is allowed.
	Message string
	// Causes are the rules that led to the action.
	Causes []Cause
	// Warnings are sentences for the client of a request that passes.
	Warnings []string
	// Agents are the names of the Agents that the identity belongs to.
	Agents []string
	// Observed are the rules of Warn and Audit policies that would have acted, each as
	// policy/rule=Action.
	Observed []string
	DryRun   bool
	// AccessRequest is the name of the one that was opened, waits, or was redeemed.
	AccessRequest string
	// Review is the name of the one that is made.
	Review string
	// RetryAfter, with Hold, is when the client should try again; 0 tells it not to.
	RetryAfter time.Duration
}

// NewID returns an identifier of a decision: 26 characters of base32 with 130 random bits.
func NewID() string { return rand.Text() }

// Record returns the decision as it goes into an audit annotation.
func (d *Decision) Record() Record {
	r := Record{
		ID: d.ID, Decision: d.Action.String(), Reason: d.Reason, Agents: d.Agents,
		Observed: d.Observed, DryRun: d.DryRun, AccessRequest: d.AccessRequest, Review: d.Review,
	}
	for _, c := range d.Causes {
		r.Rules = append(r.Rules, c.Rule)
	}
	return r
}
