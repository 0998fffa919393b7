package access

import (
	"slices"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// Grants are what has been asked ahead and approved, by who asked and what for. They are
// immutable and safe for concurrent use; nil has none.
type Grants struct {
	by map[wanted][]*v1alpha1.AccessRequest
}

// wanted is what an agent may have a grant for: few grants share it, however many there are.
type wanted struct{ requester, resource, name string }

// NewGrants indexes those of the AccessRequests that are grants, and leaves out all others.
// It keeps them, and they must not change afterwards. The time does not matter here: it is
// looked at when one is to be used.
func NewGrants(requests []*v1alpha1.AccessRequest) *Grants {
	g := &Grants{by: map[wanted][]*v1alpha1.AccessRequest{}}
	for _, r := range requests {
		if !isGrant(r) {
			continue
		}
		for _, resource := range r.Spec.Access.Resources {
			names := r.Spec.Access.Names
			if len(names) == 0 {
				names = []string{""}
			}
			for _, name := range names {
				key := wanted{r.Spec.Requester, resource, name}
				g.by[key] = append(g.by[key], r)
			}
		}
	}
	for _, own := range g.by {
		slices.SortFunc(own, func(a, b *v1alpha1.AccessRequest) int { return strings.Compare(a.Name, b.Name) })
	}
	return g
}

// For returns the grants by which the user may make the request now, in order of their names;
// those for its name before those that name none.
func (g *Grants) For(user decision.User, r *decision.Request, now time.Time) []*v1alpha1.AccessRequest {
	if g == nil || len(g.by) == 0 {
		return nil
	}
	var found []*v1alpha1.AccessRequest
	add := func(name string) {
		for _, a := range g.by[wanted{user.Name, r.FullResource(), name}] {
			if Granted(a, user, r, now) {
				found = append(found, a)
			}
		}
	}
	add(r.Name)
	if r.Name != "" {
		add("") // a create is for any name
	}
	return found
}

// Granted says whether one AccessRequest is a grant by which the user may make the request
// now: it is approved, not over, the user's own, and names the verb, group, resource with its
// subresource, namespace and name of the request. Nothing in it is a pattern.
//
// It is for who was authenticated as the one that asked: the name and, where it was known,
// the UID have to be the same.
func Granted(a *v1alpha1.AccessRequest, user decision.User, r *decision.Request, now time.Time) bool {
	return isGrant(a) && Over(a, now) == "" && now.Before(a.Status.ExpiresAt.Time) &&
		a.Spec.Requester == user.Name && (a.Spec.RequesterUID == "" || a.Spec.RequesterUID == user.UID) &&
		grants(&a.Spec.Access, r)
}

// isGrant says whether it is one while its time lasts.
func isGrant(a *v1alpha1.AccessRequest) bool {
	return a.Spec.Origin == v1alpha1.Asked && a.Status.Phase == v1alpha1.Approved && !a.Spec.Withdrawn &&
		a.DeletionTimestamp == nil && a.Status.ExpiresAt != nil && a.Spec.Requester != ""
}

// grants says whether the access covers the request.
func grants(a *v1alpha1.Access, r *decision.Request) bool {
	return r.NonResourceURL == "" && grantsVerb(a.Verbs, r) && slices.Contains(a.APIGroups, r.Group) &&
		slices.Contains(a.Resources, r.FullResource()) && grantsNamespace(a.Namespaces, r) && grantsName(a.Names, r)
}

// grantsVerb: admission knows no patch, which it calls update, and calls what the authorizer
// knows as get or create a connect.
func grantsVerb(verbs []string, r *decision.Request) bool {
	switch {
	case slices.Contains(verbs, r.Verb):
		return true
	case r.Verb == "update":
		return slices.Contains(verbs, "patch")
	case r.Verb == "connect" && decision.Connects(r.Group, r.FullResource()):
		return slices.Contains(verbs, "create") || slices.Contains(verbs, "get")
	default:
		return false
	}
}

// grantsNamespace: without namespaces it is what is cluster-scoped, or in all namespaces at
// once, and nothing in one of them. A Namespace object is said to be in itself.
func grantsNamespace(namespaces []string, r *decision.Request) bool {
	namespace := r.Namespace
	if main, _, _ := strings.Cut(r.Resource, "/"); r.Group == "" && main == "namespaces" {
		namespace = ""
	}
	if len(namespaces) == 0 {
		return namespace == ""
	}
	return slices.Contains(namespaces, namespace)
}

// grantsName: without names it is what names no object. A create names none: the name is in
// the object, which admission looks into; a grant without names is for any.
func grantsName(names []string, r *decision.Request) bool {
	if len(names) == 0 {
		return r.Name == "" || r.Verb == "create" && r.Subresource == ""
	}
	return slices.Contains(names, r.Name)
}
