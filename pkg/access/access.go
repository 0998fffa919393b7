// Package access says how AccessRequests live: their phases and legal moves, which reviews
// count, and when a request is approved, denied or over.
//
// It is pure. Everything that changes an AccessRequest asks it what the next status is; it
// stores nothing, and reads no clock but the time it is given.
package access

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// ErrMove is a move between phases that is not legal.
var ErrMove = errors.New("not a legal move")

// moves are the legal ones. The empty phase is that of a request which has just been made.
var moves = map[v1alpha1.Phase][]v1alpha1.Phase{
	"":                {v1alpha1.Pending},
	v1alpha1.Pending:  {v1alpha1.Approved, v1alpha1.Denied, v1alpha1.Expired, v1alpha1.Withdrawn},
	v1alpha1.Approved: {v1alpha1.Redeemed, v1alpha1.Revoked, v1alpha1.Expired, v1alpha1.Withdrawn},
	v1alpha1.Redeemed: {v1alpha1.Used, v1alpha1.Approved},
}

// Move returns ErrMove where a request of that origin may not go from one phase to the other.
// What was asked ahead is never redeemed: it is granted until its time is over.
func Move(o v1alpha1.Origin, from, to v1alpha1.Phase) error {
	if !slices.Contains(moves[from], to) || o == v1alpha1.Asked && (to == v1alpha1.Redeemed || from == v1alpha1.Redeemed) {
		return fmt.Errorf("%w: from %q to %q", ErrMove, from, to)
	}
	return nil
}

// Begin is the first status of what was asked ahead: it waits for people, by the API server's
// clock, on which all replicas agree.
func Begin(r *v1alpha1.AccessRequest) v1alpha1.AccessRequestStatus {
	s := *r.Status.DeepCopy()
	s.Phase = v1alpha1.Pending
	wait := time.Duration(0) // it is stamped; without, it is over at once
	if r.Spec.ExpiresAfter != nil {
		wait = r.Spec.ExpiresAfter.Duration
	}
	s.ExpiresAt = &metav1.Time{Time: r.CreationTimestamp.Add(wait)}
	return s
}

// approve is a status that people have approved now. What was asked ahead is granted from now
// on, for as long as was asked.
func approve(r *v1alpha1.AccessRequest, s v1alpha1.AccessRequestStatus, now time.Time) v1alpha1.AccessRequestStatus {
	s.Phase = v1alpha1.Approved
	if r.Spec.Origin != v1alpha1.Asked {
		return s
	}
	lasts := time.Duration(0) // it is stamped; without, nothing is granted
	if r.Spec.Access.Duration != nil {
		lasts = r.Spec.Access.Duration.Duration
	}
	s.ExpiresAt = &metav1.Time{Time: now.Add(lasts)}
	return s
}

// Ended says whether a phase cannot be left.
func Ended(p v1alpha1.Phase) bool { return p != "" && len(moves[p]) == 0 }

// Facts are what has to be known about people to say whether their reviews count.
type Facts struct {
	// IsAgent says whether a user is a declared agent. Nil: nobody is known not to be one,
	// and no review counts.
	IsAgent func(user string) bool
	// Owners own the Agents that the requester is.
	Owners []string
	// Voided are names of Reviews that do not count whoever made them, with the reason.
	Voided map[string]string
}

// RuleName is policy/rule.
func RuleName(r *v1alpha1.HoldingRule) string { return r.Policy + "/" + r.Rule }

// Why a review does not count.
const (
	RefusedRequester = "the requester cannot review their own request"
	RefusedAgent     = "agents cannot review"
	RefusedOwner     = "the agent's owner does not count for these rules"
	RefusedStranger  = "not an approver of any rule of this request"
	RefusedSecond    = "this person has given a verdict before"
	RefusedUnknown   = "who is an agent is not known at the moment"
)

// Count copies reviews in the order in which they were made, each with the rules for which
// it counts, or with why it does not. Reviews of other requests are left out.
func Count(r *v1alpha1.AccessRequest, reviews []v1alpha1.Review, f Facts) []v1alpha1.ReviewCopy {
	reviews = slices.DeleteFunc(slices.Clone(reviews), func(v v1alpha1.Review) bool { return v.Spec.AccessRequest != r.Name })
	slices.SortFunc(reviews, func(a, b v1alpha1.Review) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	// An approval is taken back by anybody who could have given it, those who did included.
	revocable := r.Status.Phase == v1alpha1.Approved
	seen := map[string]bool{}
	copies := make([]v1alpha1.ReviewCopy, 0, len(reviews))
	for i := range reviews {
		v := &reviews[i]
		c := v1alpha1.ReviewCopy{
			Name: v.Name, Reviewer: v.Spec.Reviewer, UID: v.Spec.ReviewerUID, Verdict: v.Spec.Verdict,
			Comment: v.Spec.Comment, Time: v.CreationTimestamp,
		}
		c.Rules, c.Group, c.Refused = judge(r, v, f)
		if c.Refused == "" {
			revokes := revocable && v.Spec.Verdict == v1alpha1.Reject
			if seen[v.Spec.Reviewer] && !revokes {
				c.Rules, c.Refused = nil, RefusedSecond
			}
			seen[v.Spec.Reviewer] = true
		}
		copies = append(copies, c)
	}
	return copies
}

// judge says for which rules one review counts, but for earlier ones of the same person.
func judge(r *v1alpha1.AccessRequest, v *v1alpha1.Review, f Facts) (rules []string, group, refused string) {
	who := v.Spec.Reviewer
	switch {
	case f.Voided[v.Name] != "":
		return nil, "", f.Voided[v.Name]
	case f.IsAgent == nil:
		return nil, "", RefusedUnknown
	case who == "":
		return nil, "", RefusedStranger
	case who == r.Spec.Requester:
		return nil, "", RefusedRequester
	case f.IsAgent(who):
		return nil, "", RefusedAgent
	}
	owner := false
	for i := range r.Spec.Rules {
		rule := &r.Spec.Rules[i]
		through, ok := approves(rule.Approvers, who, v.Spec.ReviewerGroups)
		if !ok {
			continue
		}
		if slices.Contains(f.Owners, who) && !rule.AllowOwner {
			owner = true
			continue
		}
		rules = append(rules, RuleName(rule))
		if group == "" {
			group = through
		}
	}
	switch {
	case len(rules) > 0:
		return rules, group, ""
	case owner:
		return nil, "", RefusedOwner
	default:
		return nil, "", RefusedStranger
	}
}

func approves(a v1alpha1.Approvers, user string, groups []string) (group string, ok bool) {
	if slices.Contains(a.Users, user) {
		return "", true
	}
	for _, g := range groups {
		if slices.Contains(a.Groups, g) {
			return g, true
		}
	}
	return "", false
}

// Next is the status that a request should have now, with the reviews copied. What waits is
// still Pending, or Approved, Denied, Expired or Withdrawn; an approval stands, or is Expired,
// Withdrawn or Revoked: by a Deny, or because a review on which it rests has been voided. An
// approval of what was asked ahead has a new end, by which it is granted. Of
// what has been redeemed only the copies of reviews change, so that it shows what was voided
// too late.
func Next(r *v1alpha1.AccessRequest, reviews []v1alpha1.Review, f Facts, now time.Time) v1alpha1.AccessRequestStatus {
	s := *r.Status.DeepCopy()
	if over := Over(r, now); over != "" {
		if s.Phase == v1alpha1.Pending {
			s.Reviews = Count(r, reviews, f)
		}
		return End(s, over, now)
	}
	switch s.Phase {
	case v1alpha1.Pending:
		s.Reviews = Count(r, reviews, f)
		switch {
		case denied(s.Reviews) != nil:
			return End(s, v1alpha1.Denied, now)
		case len(Missing(r, s.Reviews)) == 0:
			return approve(r, s, now)
		}
	case v1alpha1.Approved:
		s.Reviews = Count(r, reviews, f)
		switch {
		case denied(s.Reviews) != nil:
			s.Message = "taken back by " + denied(s.Reviews).Reviewer
			return End(s, v1alpha1.Revoked, now)
		case voided(s.Reviews) && len(Missing(r, s.Reviews)) > 0:
			s.Message = "a review on which the approval rested was voided"
			return End(s, v1alpha1.Revoked, now)
		}
	case v1alpha1.Redeemed, v1alpha1.Used:
		for i := range s.Reviews {
			if why := f.Voided[s.Reviews[i].Name]; why != "" && s.Reviews[i].Refused != why {
				s.Reviews[i].Refused = why
				s.Message = "a review on which the approval rested was voided after the approval had been used"
			}
		}
	}
	return s
}

// VoidedPrefix begins why a review was voided: it counted when it was made, and no longer.
const VoidedPrefix = "voided: "

func voided(copies []v1alpha1.ReviewCopy) bool {
	return slices.ContainsFunc(copies, func(c v1alpha1.ReviewCopy) bool { return strings.HasPrefix(c.Refused, VoidedPrefix) })
}

// Meets says whether the approvals that r asks for are those that rules ask for now, or more:
// a policy may have become stricter since r was opened.
func Meets(r *v1alpha1.AccessRequest, rules []v1alpha1.HoldingRule) bool {
	for i := range rules {
		if !slices.ContainsFunc(r.Spec.Rules, func(had v1alpha1.HoldingRule) bool { return asStrict(&had, &rules[i]) }) {
			return false
		}
	}
	return true
}

// asStrict says whether a rule asked for the same people as it does now, and as many.
func asStrict(had, now *v1alpha1.HoldingRule) bool {
	same := func(a, b []string) bool {
		return len(a) == len(b) && !slices.ContainsFunc(a, func(s string) bool { return !slices.Contains(b, s) })
	}
	return had.Policy == now.Policy && had.Rule == now.Rule && had.Required >= now.Required &&
		(now.AllowOwner || !had.AllowOwner) && (had.ReasonRequired || !now.ReasonRequired) &&
		same(had.Approvers.Users, now.Approvers.Users) && same(had.Approvers.Groups, now.Approvers.Groups)
}

// Over is the phase to which a request that waits, or an approval, goes by itself: Withdrawn,
// or Expired once its time is up. It is empty for all others.
func Over(r *v1alpha1.AccessRequest, now time.Time) v1alpha1.Phase {
	switch {
	case r.Status.Phase != v1alpha1.Pending && r.Status.Phase != v1alpha1.Approved:
		return ""
	case r.Spec.Withdrawn:
		return v1alpha1.Withdrawn
	case r.Status.ExpiresAt != nil && !now.Before(r.Status.ExpiresAt.Time):
		return v1alpha1.Expired
	default:
		return ""
	}
}

// End is a status that has come, now, to a phase which it cannot leave.
func End(s v1alpha1.AccessRequestStatus, p v1alpha1.Phase, now time.Time) v1alpha1.AccessRequestStatus {
	s.Phase, s.EndedAt = p, &metav1.Time{Time: now}
	return s
}

func denied(copies []v1alpha1.ReviewCopy) *v1alpha1.ReviewCopy {
	for i := range copies {
		if copies[i].Refused == "" && copies[i].Verdict == v1alpha1.Reject {
			return &copies[i]
		}
	}
	return nil
}

// Denial is the review that denied a request; nil where none did.
func Denial(s *v1alpha1.AccessRequestStatus) *v1alpha1.ReviewCopy { return denied(s.Reviews) }

// Missing says in a sentence for each rule what it still waits for; none once all rules are
// satisfied.
func Missing(r *v1alpha1.AccessRequest, copies []v1alpha1.ReviewCopy) []string {
	var missing []string
	for i := range r.Spec.Rules {
		rule := &r.Spec.Rules[i]
		got := int32(0)
		for _, c := range copies {
			if c.Refused == "" && c.Verdict == v1alpha1.Approve && slices.Contains(c.Rules, RuleName(rule)) {
				got++
			}
		}
		if got < max(rule.Required, 1) {
			missing = append(missing, fmt.Sprintf("%s has %d of %d approvals", RuleName(rule), got, max(rule.Required, 1)))
		}
		if rule.ReasonRequired && r.Spec.Reason == "" {
			missing = append(missing, fmt.Sprintf("%s wants the agent's reason first", RuleName(rule)))
		}
	}
	if len(r.Spec.Rules) == 0 {
		missing = append(missing, "the request names no rule, and can never be approved")
	}
	return missing
}
