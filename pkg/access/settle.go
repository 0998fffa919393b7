package access

import (
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// Outcome is what became of the one API request that an approval has let pass. The zero
// value is that nobody knows: the approval is spent.
type Outcome uint8

// The outcomes.
const (
	// Unknown: it may have had its effect.
	Unknown Outcome = iota
	// Effect: it has changed something.
	Effect
	// NoEffect: it has changed nothing, and never will.
	NoEffect
)

// Settle is the status of a redeemed request when its API request is over: an effect, or
// what may be one, uses the approval up; without any it stands again, for as long as it
// would have. why says how that was found out, in a sentence without a full stop.
func Settle(s v1alpha1.AccessRequestStatus, o Outcome, why string, now time.Time) v1alpha1.AccessRequestStatus {
	s = *s.DeepCopy()
	s.Message = why
	if o != NoEffect {
		return End(s, v1alpha1.Used, now)
	}
	s.Phase, s.Redeemed = v1alpha1.Approved, nil
	return s
}

// OutcomeOf is what the HTTP status of an API request says about its effect. Only a refusal
// that the API server gives before it stores anything is none, and only for what writes the
// object itself: other answers to a request that failed may follow an effect, and deletes
// and subresources answer for more than one object.
func OutcomeOf(a *v1alpha1.Access, status int) Outcome {
	switch {
	case status >= 200 && status < 300:
		return Effect
	case len(a.Verbs) != 1 || len(a.Resources) != 1 || strings.Contains(a.Resources[0], "/"):
		return Unknown
	case a.Verbs[0] != "create" && a.Verbs[0] != "update":
		return Unknown
	}
	switch status {
	case 403, 409, 422: // Forbidden, Conflict, Unprocessable Entity
		return NoEffect
	default:
		return Unknown
	}
}

// Repeated says whether a call belongs to the API request that redeemed the approval r: the
// API server asks more than once within one request.
//
// A trace ID is the API server's own, and names one request: of a delete the UID has to be
// the same, as the options are the API server's to change, of a collection the object has to
// be one of those that were approved, of anything else the fingerprint has to be the same.
// Without trace IDs a delete of the same UID, which can die only once, is repeated for a
// minute, and an update while nothing has been stored since; nothing else is.
func Repeated(r *v1alpha1.AccessRequest, d *Draft, now time.Time) bool {
	by := r.Status.Redeemed
	if r.Status.Phase != v1alpha1.Redeemed || by == nil || r.Spec.Requester != d.Spec.Requester || !sameAccess(&r.Spec.Access, &d.Spec.Access) {
		return false
	}
	exact := r.Status.Fingerprint == d.Fingerprint
	verb := d.Spec.Access.Verbs[0]
	if d.TraceID != "" || by.TraceID != "" {
		if by.TraceID != d.TraceID {
			return false
		}
		return exact || verb == "delete" && sameTarget(r, d) || verb == "deletecollection" && Covers(r, d.UID)
	}
	if now.Sub(by.Time.Time) > repeatFor {
		return false
	}
	switch verb {
	case "delete":
		return exact && sameTarget(r, d)
	case "update":
		return exact && d.ResourceVersion != "" && by.ResourceVersion == d.ResourceVersion
	default:
		return false
	}
}

// repeatFor is how long calls of one API request can follow each other: the API server ends
// requests after a minute.
const repeatFor = time.Minute

func sameTarget(r *v1alpha1.AccessRequest, d *Draft) bool {
	return r.Status.TargetUID != "" && r.Status.TargetUID == d.UID
}

// Covers says whether the object of that UID is one of the collection that r is for.
func Covers(r *v1alpha1.AccessRequest, uid types.UID) bool {
	for i := range r.Status.Items {
		if uid != "" && r.Status.Items[i].UID == uid {
			return true
		}
	}
	return false
}

// sameAccess compares what two held requests want. A collection has no names.
func sameAccess(a, b *v1alpha1.Access) bool {
	same := func(x, y []string) bool { return strings.Join(x, "\n") == strings.Join(y, "\n") }
	return same(a.Verbs, b.Verbs) && same(a.APIGroups, b.APIGroups) && same(a.Resources, b.Resources) &&
		same(a.Namespaces, b.Namespaces) && same(a.Names, b.Names)
}
