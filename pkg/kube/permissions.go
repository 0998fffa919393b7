package kube

import (
	"context"
	"fmt"

	authorizationv1 "k8s.io/api/authorization/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// Permissions asks the API server what somebody may do.
type Permissions struct{ Client client.Client }

// Permitted says whether the API server would let the user make a request for a resource: by
// RBAC, and by Holdfast's own authorizer, which is asked like all others.
func (p Permissions) Permitted(ctx context.Context, r *decision.Request) (bool, error) {
	review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: r.User.Name, UID: r.User.UID, Groups: r.User.Groups,
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Verb: r.Verb, Group: r.Group, Version: r.Version, Resource: r.Resource, Subresource: r.Subresource,
			Namespace: r.Namespace, Name: r.Name,
		},
	}}
	if err := p.Client.Create(ctx, review); err != nil {
		return false, fmt.Errorf("ask what %s may do: %w", r.FullResource(), err)
	}
	return review.Status.Allowed, nil
}
