package collector

import (
	"context"
	"errors"
	"time"
)

// The bounds of what is in memory at once. A payload costs at most about six times its size
// (as it came, decoded, redacted, packed): 8 × 4 MiB × 6 = 192 MiB, and one large one of
// 64 MiB about 300 MiB more, since its messages are its own size at most.
const (
	smallBody  = 4 << 20
	smallMost  = 8
	largeMost  = 1
	placeWaits = time.Second
)

// errBusy says that there was no place in time.
var errBusy = errors.New("too many payloads at once")

// places bounds concurrency. A payload takes a small place first and, when it turns out to be
// larger than smallBody, a large one in addition: in that order only, so nobody deadlocks.
type places struct{ small, large chan struct{} }

func newPlaces() places {
	return places{small: make(chan struct{}, smallMost), large: make(chan struct{}, largeMost)}
}

// take waits at most placeWaits for a place of one kind.
func take(ctx context.Context, place chan struct{}) (free func(), err error) {
	wait := time.NewTimer(placeWaits)
	defer wait.Stop()
	select {
	case place <- struct{}{}:
		return func() { <-place }, nil
	case <-wait.C:
		return nil, errBusy
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
