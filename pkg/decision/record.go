package decision

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

// The names of Holdfast's webhooks. The API server puts them, and a slash, in front of the
// keys of the audit annotations that they return.
const (
	GuardWebhook = "guard.holdfast.dev"
	OwnWebhook   = "own.holdfast.dev"
	StampWebhook = "stamp.holdfast.dev"
)

// AuthorizerWebhook is the name of Holdfast's authorizer, whose decisions stand in the reason
// that the API server keeps of an authorization.
const AuthorizerWebhook = "authorizer.holdfast.dev"

// keyPrefix starts every annotation key of a decision. A repeated key keeps its first value
// in the API server, and admission may be called several times in one request: so each call
// has a key of its own.
const keyPrefix = "d-"

// maxRecord bounds the encoded record, in bytes: annotations count against the audit
// event's size, and a policy set can have any number of rules.
const maxRecord = 4096

// Record is one decision as it stands in the audit annotation <webhook>/d-<ID>. It names
// policies, rules and agents and never holds anything of the object that was judged.
type Record struct {
	// ID is the decision's identifier: 26 characters of base32, from a random source.
	// It is the annotation's key, not part of its value.
	ID string `json:"-"`
	// Webhook is the name of the webhook that decided; GuardWebhook or OwnWebhook. It is
	// the first half of the key, not part of its value.
	Webhook string `json:"-"`
	// Decision is Allow, Deny or Hold.
	Decision string `json:"decision"`
	// Reason says in one CamelCase word why: see the Reason constants.
	Reason Reason `json:"reason"`
	// Agents are the names of the Agents that the identity belongs to.
	Agents []string `json:"agents,omitempty"`
	// Rules are the policy/rule pairs that led to the decision.
	Rules []string `json:"rules,omitempty"`
	// Observed are the policy/rule pairs of Warn and Audit policies that would have led to
	// another decision, each followed by "=" and the action.
	Observed []string `json:"observed,omitempty"`
	// AccessRequest is the name of the AccessRequest that the decision opened, waits for or
	// redeemed.
	AccessRequest string `json:"accessRequest,omitempty"`
	// Review is the name of a Review that the decision is about.
	Review string `json:"review,omitempty"`
	// DryRun is set where the request was a dry run.
	DryRun bool `json:"dryRun,omitempty"`
	// Truncated is set where lists were cut to keep the record within its bound.
	Truncated bool `json:"truncated,omitempty"`

	// Verified says that the record has the code of Holdfast's own key. It is set by who
	// reads it, and not part of its value.
	Verified bool `json:"-"`
}

// ErrNotDecision says that an annotation is none of Holdfast's decisions.
var ErrNotDecision = errors.New("not a decision annotation")

// Annotation returns the key (without the webhook's name, which the API server adds) and
// the value to put into AdmissionResponse.auditAnnotations; Key.Annotation signs it. The value
// is at most 4 KiB of JSON; lists that would go beyond are cut and Truncated is set.
func (r Record) Annotation() (key, value string) {
	for {
		b, err := json.Marshal(r)
		if err != nil { // a struct of strings always encodes
			return keyPrefix + r.ID, `{"decision":"Deny","reason":"Internal"}`
		}
		if len(b) <= maxRecord-macLength {
			return keyPrefix + r.ID, string(b)
		}
		r.Truncated = true
		r.Observed = r.Observed[:len(r.Observed)/2]
		if len(r.Observed) == 0 {
			r.Rules = r.Rules[:len(r.Rules)/2]
			r.Agents = r.Agents[:(len(r.Agents)+1)/2]
		}
		if len(r.Rules) == 0 && len(r.Observed) == 0 && len(r.Agents) <= 1 {
			r.Agents = nil
		}
	}
}

// ParseAnnotation reads an annotation of an audit event. It returns ErrNotDecision for keys
// that are not <one of Holdfast's webhooks>/d-<ID>, and another error where the key is one
// but the value is no record. What it returns is a claim: anybody who may register a
// webhook can write annotations under these names. Key.Signed tells which to believe.
func ParseAnnotation(key, value string) (Record, error) {
	webhook, id, ok := strings.Cut(key, "/"+keyPrefix)
	if !ok || (webhook != GuardWebhook && webhook != OwnWebhook && webhook != StampWebhook) || id == "" {
		return Record{}, ErrNotDecision
	}
	if len(value) > maxRecord {
		return Record{}, fmt.Errorf("decision annotation of %d bytes: want at most %d", len(value), maxRecord)
	}
	var r Record
	if err := json.Unmarshal([]byte(value), &r); err != nil {
		return Record{}, fmt.Errorf("decision annotation is no record: %w", err)
	}
	if _, err := ParseAction(r.Decision); err != nil {
		return Record{}, fmt.Errorf("decision annotation: %w", err)
	}
	r.ID, r.Webhook = id, webhook
	return r, nil
}
