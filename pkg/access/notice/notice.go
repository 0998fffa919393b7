// Package notice says what people are to be told about an AccessRequest, and what they have
// been told already.
//
// It is pure: it sends nothing and reads no clock. It tells that something has happened, not
// what the change is: that stays in the AccessRequest, with those who may read it.
package notice

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// Occasion is what has happened to an AccessRequest.
type Occasion string

// The occasions.
const (
	// Pending: it waits for people.
	Pending Occasion = "pending"
	// Approved: the change may be made, once. What becomes of the approval after that, used
	// or given back, is no occasion of its own.
	Approved Occasion = "approved"
	// Denied: a reviewer said no.
	Denied Occasion = "denied"
	// Expired: nobody decided, or nobody used the approval, in time.
	Expired Occasion = "expired"
	// Withdrawn: the agent took it back, and nobody needs to decide any more.
	Withdrawn Occasion = "withdrawn"
	// Revoked: an approval was taken back.
	Revoked Occasion = "revoked"
	// Voided: a Review counted when it was made, and does not any more.
	Voided Occasion = "voided"
)

// Notice is one thing to tell.
type Notice struct {
	Occasion Occasion
	// ID is the same whoever tells it, and however often: receivers drop duplicates by it.
	// It is made of the AccessRequest's UID, the occasion and, for Voided, the Review's name.
	ID string
	// Time is when it happened; zero where the AccessRequest does not say, as for Voided.
	Time time.Time
	// Phase is the one that is told: Approved, even where the approval has been used since.
	Phase v1alpha1.Phase
	// Review is the name of the voided Review; empty for other occasions.
	Review string
}

// Of returns all there is to tell of an AccessRequest as it is now: its newest phase, and
// each voided Review. Phases it has passed through are not told: the newest one says what
// people have to know, and a Pending that arrives after its Approved asks them for what they
// have done.
func Of(r *v1alpha1.AccessRequest) []Notice {
	var notices []Notice
	if n, ok := ofPhase(r); ok {
		n.ID = fmt.Sprintf("%s.%s", r.UID, n.Occasion)
		notices = append(notices, n)
	}
	for i := range r.Status.Reviews {
		if c := &r.Status.Reviews[i]; voided(c) {
			notices = append(notices, Notice{
				Occasion: Voided, ID: fmt.Sprintf("%s.%s.%s", r.UID, Voided, c.Name),
				Phase: r.Status.Phase, Review: c.Name,
			})
		}
	}
	return notices
}

func ofPhase(r *v1alpha1.AccessRequest) (Notice, bool) {
	s := &r.Status
	ended := func(o Occasion) (Notice, bool) {
		n := Notice{Occasion: o, Phase: s.Phase}
		if s.EndedAt != nil {
			n.Time = s.EndedAt.Time
		}
		return n, true
	}
	switch s.Phase {
	case v1alpha1.Pending:
		return Notice{Occasion: Pending, Phase: s.Phase, Time: r.CreationTimestamp.Time}, true
	case v1alpha1.Approved, v1alpha1.Redeemed, v1alpha1.Used:
		return Notice{Occasion: Approved, Phase: v1alpha1.Approved, Time: approvedAt(s)}, true
	case v1alpha1.Denied:
		return ended(Denied)
	case v1alpha1.Expired:
		return ended(Expired)
	case v1alpha1.Withdrawn:
		return ended(Withdrawn)
	case v1alpha1.Revoked:
		return ended(Revoked)
	default:
		return Notice{}, false
	}
}

// approvedAt is when the last review that counts was made: that one completed the approval.
func approvedAt(s *v1alpha1.AccessRequestStatus) time.Time {
	var last time.Time
	for _, c := range s.Reviews {
		if c.Refused == "" && c.Verdict == v1alpha1.Approve && c.Time.After(last) {
			last = c.Time.Time
		}
	}
	return last
}

func voided(c *v1alpha1.ReviewCopy) bool { return strings.HasPrefix(c.Refused, access.VoidedPrefix) }

// Due returns what of Of the receiver has not been told, by status.notified. Where one more
// Review has been voided it returns all voided ones: which of them were told is not kept.
func Due(r *v1alpha1.AccessRequest) []Notice {
	told := parse(r.Status.Notified)
	all := Of(r)
	return slices.DeleteFunc(all, func(n Notice) bool {
		if n.Occasion == Voided {
			return told.voided == count(r)
		}
		return told.phase == n.Phase
	})
}

// Mark returns what status.notified should be once the receiver has taken these notices of
// that very AccessRequest.
func Mark(r *v1alpha1.AccessRequest, taken []Notice) string {
	told := parse(r.Status.Notified)
	voided := 0
	for _, n := range taken {
		if n.Occasion == Voided {
			voided++
		} else {
			told.phase = n.Phase
		}
	}
	if voided > 0 && voided == count(r) {
		told.voided = voided
	}
	return told.String()
}

func count(r *v1alpha1.AccessRequest) int {
	n := 0
	for i := range r.Status.Reviews {
		if voided(&r.Status.Reviews[i]) {
			n++
		}
	}
	return n
}

// mark is what has been told: a phase, and how many voided Reviews.
type mark struct {
	phase  v1alpha1.Phase
	voided int
}

const voidedMark = " voided="

func (m mark) String() string {
	if m.voided == 0 {
		return string(m.phase)
	}
	return string(m.phase) + voidedMark + strconv.Itoa(m.voided)
}

// parse reads a mark. One that it cannot read counts as nothing told: told twice is better
// than not at all.
func parse(notified string) mark {
	phase, number, found := strings.Cut(notified, voidedMark)
	if !found {
		return mark{phase: v1alpha1.Phase(phase)}
	}
	n, err := strconv.Atoi(number)
	if err != nil {
		return mark{}
	}
	return mark{phase: v1alpha1.Phase(phase), voided: n}
}
