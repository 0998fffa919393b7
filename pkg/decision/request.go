package decision

import "strings"

// User is who makes a request, as the API server authenticated them.
type User struct {
	Name   string
	UID    string
	Groups []string
}

// Request is what is judged: one call of an admission or authorizer webhook.
type Request struct {
	// User is the identity that acts. Under impersonation it is the target.
	User User
	// Verb is the request's verb in lower case. In admission update stands for update and
	// patch, and deletecollection for a DELETE without a name.
	Verb string
	// Group, Version and Resource are those that the client asked for; the core group is "".
	Group, Version, Resource string
	// Subresource is what follows the object's name, such as exec; empty for the object.
	Subresource string
	// Namespace is empty for cluster-scoped objects; for Namespace objects it is their name.
	Namespace string
	// Name is empty where the request names no object.
	Name string
	// NonResourceURL is the path of a request that is for no resource; the fields above are
	// then empty.
	NonResourceURL string
	// FieldSelector and LabelSelector are what a list, watch or deletecollection is narrowed
	// by, as far as the hook sees it; all requirements hold together.
	FieldSelector, LabelSelector []Requirement
	// DryRun requests change nothing.
	DryRun bool
	// Object and OldObject are the object after and before the request; nil where there is
	// none, or where the hook does not see it. Numbers are int64 or float64.
	Object, OldObject map[string]any
	// Options are the request's CreateOptions, UpdateOptions, DeleteOptions; nil where none.
	Options map[string]any
}

// Requirement is one part of a selector.
type Requirement struct {
	// Key is a field such as spec.nodeName, or a label.
	Key string
	// Operator is In, NotIn, Exists or DoesNotExist.
	Operator string
	// Values are empty for the last two.
	Values []string
}

// String is the requirement as kubectl writes it: key=value, key in (a,b), key!=value,
// key notin (a,b), key, !key.
func (r Requirement) String() string {
	values := strings.Join(r.Values, ",")
	switch {
	case r.Operator == "In" && len(r.Values) == 1:
		return r.Key + "=" + values
	case r.Operator == "In":
		return r.Key + " in (" + values + ")"
	case r.Operator == "NotIn" && len(r.Values) == 1:
		return r.Key + "!=" + values
	case r.Operator == "NotIn":
		return r.Key + " notin (" + values + ")"
	case r.Operator == "DoesNotExist":
		return "!" + r.Key
	default:
		return r.Key
	}
}

// FullResource is the resource with its subresource, as pods/exec.
func (r *Request) FullResource() string {
	if r.Subresource == "" {
		return r.Resource
	}
	return r.Resource + "/" + r.Subresource
}

// Connects says whether requests for a resource, as pods/exec, are connections: admission
// knows them as connect, the authorizer as get or create.
func Connects(group, resource string) bool {
	if group != "" {
		return false
	}
	switch resource {
	case "pods/exec", "pods/attach", "pods/portforward", "pods/proxy", "services/proxy", "nodes/proxy":
		return true
	default:
		return false
	}
}

// IsReview says whether what is created in a group is a question that is answered, and no
// object that is stored. The API server asks no admission webhooks about it.
func IsReview(group string) bool {
	return group == "authorization.k8s.io" || group == "authentication.k8s.io"
}

// OfKubelet says whether requests for a resource, as nodes/log, may be what a kubelet asks the
// API server about: it has those who call it directly authorized, as a request for a
// subresource of its Node, and that is all there is. A request for nodes/proxy can be that or
// a connection by way of the API server, and nobody can tell which; under it a kubelet runs
// commands in any of its pods.
func OfKubelet(group, resource string) bool {
	sub, ok := strings.CutPrefix(resource, "nodes/")
	return group == "" && ok && sub != "status"
}
