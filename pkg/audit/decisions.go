package audit

import (
	"errors"
	"maps"
	"slices"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// Decisions returns the decisions that the annotations of ev claim, in the order of their
// keys, and how many annotations have the form of a decision and are none. They are claims:
// anybody who may register a webhook can write annotations under Holdfast's names. Verified
// are those whose keys are in signed, which is what Signed returned for the event as it came.
func Decisions(ev *auditv1.Event, signed []string) (records []decision.Record, broken int) {
	for _, key := range slices.Sorted(maps.Keys(ev.Annotations)) {
		rec, err := parse(key, ev.Annotations[key])
		switch {
		case err == nil:
			rec.Verified = slices.Contains(signed, key)
			records = append(records, rec)
		case !errors.Is(err, decision.ErrNotDecision):
			broken++
		}
	}
	if message, ok := refusal(ev); ok {
		if rec, err := decision.ParseAuthorizationReason(message); err == nil {
			rec.Verified = slices.Contains(signed, messageKey)
			records = append(records, rec)
		}
	}
	return records, broken
}

// forbidden is the HTTP status of a refusal.
const forbidden = 403

// messageKey stands among signed keys for the message of the answer.
const messageKey = "responseStatus.message"

// refusal is the message of an answer in which a refusal of the authorizer can stand alone:
// the API server keeps no annotation of what it asks when somebody impersonates.
func refusal(ev *auditv1.Event) (message string, ok bool) {
	if ev.ResponseStatus == nil || ev.ResponseStatus.Code != forbidden || ev.Annotations[decision.AuthorizationReason] != "" {
		return "", false
	}
	return ev.ResponseStatus.Message, true
}

// parse reads a decision of one of the webhooks, or the authorizer's.
func parse(key, value string) (decision.Record, error) {
	if key == decision.AuthorizationReason {
		return decision.ParseAuthorizationReason(value)
	}
	return decision.ParseAnnotation(key, value)
}

// Signed returns the keys of the annotations that Holdfast signed with k, in order. It is to
// be taken before redaction, which may change others.
func Signed(ev *auditv1.Event, k *decision.Key) []string {
	var signed []string
	for key, value := range ev.Annotations {
		if _, err := parse(key, value); err == nil && k.Signed(key, value) {
			signed = append(signed, key)
		}
	}
	if message, ok := refusal(ev); ok && k.Signed(decision.AuthorizationReason, message) {
		signed = append(signed, messageKey)
	}
	slices.Sort(signed)
	return signed
}
