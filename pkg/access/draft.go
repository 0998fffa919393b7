package access

import (
	"errors"
	"time"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// What keeping AccessRequests can come to; those who keep them and those who ask for them
// both know these.
var (
	// ErrConflict: somebody else changed the AccessRequest first.
	ErrConflict = errors.New("the AccessRequest has changed")
	// ErrTooManyPending: the agent has as many requests waiting as it may.
	ErrTooManyPending = errors.New("too many requests of this agent wait for people")
)

// Draft is an AccessRequest that is to be found or opened.
type Draft struct {
	// Key names identity and change, and the AccessRequest's name is made of it; at most 40
	// characters of a DNS label.
	Key  string
	Spec v1alpha1.AccessRequestSpec
	// Fingerprint goes into the status.
	Fingerprint string
	// Change returns the change for people to read. It is called where the AccessRequest
	// gets its first status, and not where it is only found again.
	Change func() string
	// ExpiresAfter is how long the AccessRequest waits, and an approval stands.
	ExpiresAfter time.Duration
	// TraceID of the API request that asks; empty where it cannot be trusted.
	TraceID string
}
