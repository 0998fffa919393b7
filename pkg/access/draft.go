package access

import (
	"context"
	"errors"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// What keeping AccessRequests can come to; those who keep them and those who ask for them
// both know these.
var (
	// ErrConflict: somebody else changed the AccessRequest first.
	ErrConflict = errors.New("the AccessRequest has changed")
	// ErrTooManyPending: as many requests wait, of the agent or of all, as may.
	ErrTooManyPending = errors.New("too many requests wait for people")
)

// Draft is an AccessRequest that is to be found or opened.
type Draft struct {
	// Key names identity and change, and the AccessRequest's name is made of it; at most 40
	// characters of a DNS label.
	Key  string
	Spec v1alpha1.AccessRequestSpec
	// Fingerprint goes into the status.
	Fingerprint string
	// Version of the API in which the change came, and GenerateName where the API server
	// makes up the name, go into the status.
	Version, GenerateName string
	// UID and ResourceVersion of the object that would be changed; empty for one that is
	// created. For a collection UID is that of the object which this call is about.
	UID             types.UID
	ResourceVersion string
	// Items of a collection; nil for anything else.
	Items []v1alpha1.Item
	// Show fills in what people see: the change, and what it would do. It is called where the
	// AccessRequest gets its first status, and not where it is only found again.
	Show func(ctx context.Context, s *v1alpha1.AccessRequestStatus)
	// ExpiresAfter is how long the AccessRequest waits, and an approval stands.
	ExpiresAfter time.Duration
	// TraceID of the API request that asks; empty where it cannot be trusted.
	TraceID string
}
