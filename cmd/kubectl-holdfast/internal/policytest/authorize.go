package policytest

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/webhook/authorizer"
)

// access is a request as the authorizer's webhook decodes it from what the API server would
// send.
func (b *builder) access(verb string, user decision.User, r *destination, name, namespace string) *decision.Request {
	q := b.test.Request
	selects := slices.Contains([]string{"list", "watch", "deletecollection"}, verb)
	nameless := selects || verb == "create" && r.subresource == ""
	switch {
	case q.DryRun || q.Options != nil:
		b.problem("request", "an authorizer sees no options: leave dryRun and options out of a %s", verb)
		return nil
	case (q.FieldSelector != "" || q.LabelSelector != "") && !selects:
		b.problem("request", "selectors are for list, watch and deletecollection: leave them out of a %s", verb)
		return nil
	case name != "" && verb == "create" && nameless:
		b.problem("request.name", "an authorizer does not see what a create will name: leave it out")
		return nil
	case name == "" && !nameless:
		name = defaultName
	}
	attributes := &authorizationv1.ResourceAttributes{
		Verb: verb, Group: r.Group, Version: r.Version, Resource: r.Resource, Subresource: r.subresource, Namespace: namespace, Name: name,
	}
	if q.FieldSelector != "" {
		attributes.FieldSelector = &authorizationv1.FieldSelectorAttributes{RawSelector: q.FieldSelector}
		// The API server takes a list of one name for a request of that name.
		if selector, err := fields.ParseSelector(q.FieldSelector); err == nil && name == "" {
			attributes.Name, _ = selector.RequiresExactMatch("metadata.name")
		}
	}
	if q.LabelSelector != "" {
		attributes.LabelSelector = &authorizationv1.LabelSelectorAttributes{RawSelector: q.LabelSelector}
	}
	return b.review(authorizationv1.SubjectAccessReviewSpec{User: user.Name, Groups: user.Groups, ResourceAttributes: attributes})
}

// urlRequest is one for a path that is no resource's.
func (b *builder) urlRequest(s subject, verb string, user decision.User) *decision.Request {
	q := b.test.Request
	if s.object != nil || s.old != nil || q.Resource != "" || q.Group != nil || q.Version != "" || q.Namespace != nil || q.Name != "" {
		b.problem("request.nonResourceURL", "no request is for a URL and for a resource: give one of them")
		return nil
	}
	if q.FieldSelector != "" || q.LabelSelector != "" || q.DryRun || q.Options != nil || q.Aggregated {
		b.problem("request.nonResourceURL", "an authorizer sees the path and the verb of a URL: leave the rest out")
		return nil
	}
	if !strings.HasPrefix(q.NonResourceURL, "/") {
		b.problem("request.nonResourceURL", "want a path that starts with /")
		return nil
	}
	return b.review(authorizationv1.SubjectAccessReviewSpec{
		User: user.Name, Groups: user.Groups, NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: q.NonResourceURL, Verb: verb},
	})
}

// review decodes what an API server asks.
func (b *builder) review(spec authorizationv1.SubjectAccessReviewSpec) *decision.Request {
	body, err := json.Marshal(authorizationv1.SubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: authorizationv1.SchemeGroupVersion.String(), Kind: "SubjectAccessReview"}, Spec: spec,
	})
	if err != nil {
		b.problem("", "cannot be sent as JSON: %s", err)
		return nil
	}
	r, err := authorizer.DecodeReview(body)
	var bad *authorizer.ErrReview
	switch {
	case errors.As(err, &bad):
		// The fields of a test are named as those of a review.
		field, why, found := strings.Cut(strings.TrimPrefix(bad.Reason, "spec.resourceAttributes."), ".rawSelector")
		if !found {
			field, why = "", bad.Reason
		}
		b.problem(join("request", field), "%s", strings.TrimLeft(why, ": "))
		return nil
	case err != nil:
		b.problem("request", "%s", err)
		return nil
	}
	return r
}

// target is the object that the request is of, where the authorizer looks at it: the pod of
// pods/log, and who asked for an AccessRequest.
func (b *builder) target(c *testCase) map[string]any {
	r := c.request
	given := b.objects("target", b.test.Target)
	looks := c.authorized && r.Name != "" && (r.Group == "" && r.Resource == "pods" && r.Subresource != "" ||
		r.Group == v1alpha1.Group && r.Resource == "accessrequests")
	switch {
	case len(given) > 1:
		b.problem("target", "has %d objects: want one", len(given))
		return nil
	case len(given) == 1 && !looks:
		b.problem("target", "nobody looks at the object of a %s of %s: it is for subresources of pods that are read, such as pods/log, and for accessrequests",
			r.Verb, r.FullResource())
		return nil
	case !looks:
		return nil
	}
	kind := schema.GroupVersionKind{Version: "v1", Kind: "Pod"}
	if r.Group == v1alpha1.Group {
		kind = v1alpha1.GroupVersion.WithKind("AccessRequest")
	}
	var object map[string]any
	if len(given) == 1 {
		object = given[0].object
	}
	of := &destination{kind: kind, GroupVersionResource: kind.GroupVersion().WithResource(r.Resource)}
	return completed(object, of, r.Name, r.Namespace)
}
