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
// anybody who may register a webhook can write annotations under Holdfast's names.
func Decisions(ev *auditv1.Event) (records []decision.Record, broken int) {
	for _, key := range slices.Sorted(maps.Keys(ev.Annotations)) {
		rec, err := parse(key, ev.Annotations[key])
		switch {
		case err == nil:
			records = append(records, rec)
		case !errors.Is(err, decision.ErrNotDecision):
			broken++
		}
	}
	return records, broken
}

// parse reads a decision of one of the webhooks, or the authorizer's.
func parse(key, value string) (decision.Record, error) {
	if key == decision.AuthorizationReason {
		return decision.ParseAuthorizationReason(value)
	}
	return decision.ParseAnnotation(key, value)
}
