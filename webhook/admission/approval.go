package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	admissionv1 "k8s.io/api/admission/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// garbageCollector is who deletes Reviews, and nobody else: with their AccessRequest.
const garbageCollector = "system:serviceaccount:kube-system:generic-garbage-collector"

// AccessRequests looks up an AccessRequest by name; nil and no error where there is none.
type AccessRequests func(ctx context.Context, name string) (*v1alpha1.AccessRequest, error)

// errLookUp says no more: what failed is nothing to the reviewer.
var errLookUp = errors.New("the AccessRequest could not be looked up")

// find returns an AccessRequest that is there; else errLookUp, or an error that says that
// there is none.
func (a AccessRequests) find(ctx context.Context, name string) (*v1alpha1.AccessRequest, error) {
	request, err := a(ctx, name)
	switch {
	case err != nil:
		return nil, errLookUp
	case request == nil:
		return nil, fmt.Errorf("there is no AccessRequest %q", name)
	default:
		return request, nil
	}
}

// Stamp returns the Judge that writes into a Review who makes it: the authenticated user,
// and those of their groups that are approvers; and into an AccessRequest who asks, and what
// it takes. What a client wrote there is replaced.
//
// Agents make no Reviews, and only agents ask; both are told here already, so that the audit
// event says so.
func Stamp(c OwnConfig) Judge {
	return func(ctx context.Context, r *Review) decision.Decision {
		d := decision.Decision{ID: decision.NewID(), DryRun: r.Request.DryRun}
		if isAsk(r) {
			return c.stampAsk(r, d)
		}
		if c.IsAgent(r.Request.User) {
			return deny(d, decision.ReasonSelfProtection, "agents may not review")
		}
		var review v1alpha1.Review
		if err := decodeStrict(r.Object, &review); err != nil {
			return deny(d, decision.ReasonInvalidObject, err.Error())
		}
		request, err := c.AccessRequest.find(ctx, review.Spec.AccessRequest)
		switch {
		case errors.Is(err, errLookUp):
			return deny(d, decision.ReasonInternal, err.Error())
		case err != nil:
			return deny(d, decision.ReasonInvalidObject, err.Error())
		}
		stamp(&review, request, r.Request.User)
		patch, err := json.Marshal([]map[string]any{
			{"op": "replace", "path": "/spec", "value": review.Spec},
			{"op": "add", "path": "/metadata/ownerReferences", "value": review.OwnerReferences},
		})
		if err != nil {
			return deny(d, decision.ReasonInternal, "the Review could not be stamped")
		}
		r.Patch = patch
		d.Action, d.Reason = decision.Allow, decision.ReasonNotAgent
		return d
	}
}

// stamp makes the Review the user's, and ties its life to the AccessRequest's.
func stamp(review *v1alpha1.Review, request *v1alpha1.AccessRequest, u decision.User) {
	review.Spec.Reviewer, review.Spec.ReviewerUID = u.Name, u.UID
	review.Spec.ReviewerGroups = nil
	for _, rule := range request.Spec.Rules {
		for _, g := range rule.Approvers.Groups {
			if slices.Contains(u.Groups, g) && !slices.Contains(review.Spec.ReviewerGroups, g) {
				review.Spec.ReviewerGroups = append(review.Spec.ReviewerGroups, g)
			}
		}
	}
	slices.Sort(review.Spec.ReviewerGroups)
	review.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: v1alpha1.GroupVersion.String(), Kind: "AccessRequest", Name: request.Name, UID: request.UID,
	}}
}

func deny(d decision.Decision, reason decision.Reason, why string) decision.Decision {
	d.Action, d.Reason = decision.Deny, reason
	d.Message = fmt.Sprintf("%s (decision %s)", why, d.ID)
	return d
}

// checkReview says what is wrong with a write to a Review; nil where nothing is.
func (c OwnConfig) checkReview(ctx context.Context, r *Review) error {
	switch r.Operation {
	case admissionv1.Create:
	case admissionv1.Delete:
		if r.Request.User.Name == garbageCollector {
			return nil
		}
		return errors.New("reviews are kept as long as their AccessRequest; only garbage collection deletes them")
	default:
		if r.Request.User.Name == garbageCollector {
			return nil
		}
		return errors.New("a Review cannot be changed")
	}
	var review v1alpha1.Review
	if err := decodeStrict(r.Object, &review); err != nil {
		return err
	}
	request, err := c.AccessRequest.find(ctx, review.Spec.AccessRequest)
	if err != nil {
		return err
	}
	want := review
	stamp(&want, request, r.Request.User)
	if !apiequality.Semantic.DeepEqual(want.Spec, review.Spec) {
		return errors.New("the Review does not carry the authenticated user; the mutating webhook that stamps it is missing")
	}
	return c.counts(ctx, request, &review)
}

// counts says why a review would do nothing; nil where it would count. An approval that has
// not been used can be taken back, also by those who gave it.
func (c OwnConfig) counts(ctx context.Context, request *v1alpha1.AccessRequest, review *v1alpha1.Review) error {
	revokes := request.Status.Phase == v1alpha1.Approved && review.Spec.Verdict == v1alpha1.Reject
	if request.Status.Phase != v1alpha1.Pending && !revokes {
		return fmt.Errorf("AccessRequest %s is %s; what is Pending can be reviewed, and what is Approved can be denied, which takes the approval back",
			request.Name, request.Status.Phase)
	}
	if counted := access.Count(request, []v1alpha1.Review{*review}, c.Facts(request)); counted[0].Refused != "" {
		return fmt.Errorf("this review would not count: %s", counted[0].Refused)
	}
	if review.Spec.Verdict == v1alpha1.Reject {
		return nil
	}
	for _, earlier := range request.Status.Reviews {
		if earlier.Reviewer == review.Spec.Reviewer && earlier.Refused == "" {
			return fmt.Errorf("this review would not count: %s", access.RefusedSecond)
		}
	}
	why, err := c.Gone(ctx, request)
	if err != nil {
		return errors.New("what the AccessRequest is about could not be looked up; try again")
	}
	if why != "" {
		return fmt.Errorf("AccessRequest %s cannot be approved any more: %s", request.Name, why)
	}
	return nil
}

// checkAccessRequest says what is wrong with a write to an AccessRequest by anybody but
// Holdfast. The requester may give their reason and withdraw; the schema keeps the rest of
// the spec as it is.
func checkAccessRequest(r *Review) error {
	if r.Operation != admissionv1.Update {
		return nil // who makes one asks, which is judged elsewhere
	}
	var before, after v1alpha1.AccessRequest
	if err := errors.Join(decodeStrict(r.OldObject, &before), decodeStrict(r.Object, &after)); err != nil {
		return err
	}
	if r.Request.User.Name == garbageCollector {
		return nil
	}
	if before.Spec.Requester != r.Request.User.Name {
		return errors.New("only the requester writes into an AccessRequest; to end it, deny it")
	}
	if !apiequality.Semantic.DeepEqual(before.Labels, after.Labels) || !apiequality.Semantic.DeepEqual(before.Finalizers, after.Finalizers) ||
		!apiequality.Semantic.DeepEqual(before.OwnerReferences, after.OwnerReferences) ||
		!apiequality.Semantic.DeepEqual(before.Annotations, after.Annotations) {
		return errors.New("the requester may write spec.reason and spec.withdrawn, once each, and nothing else")
	}
	return nil
}
