package decision

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
	// DryRun requests change nothing.
	DryRun bool
	// Object and OldObject are the object after and before the request; nil where there is
	// none, or where the hook does not see it. Numbers are int64 or float64.
	Object, OldObject map[string]any
	// Options are the request's CreateOptions, UpdateOptions, DeleteOptions; nil where none.
	Options map[string]any
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
