package impact

import (
	"slices"
	"strings"
)

// clause says several permissions at once.
type clause struct {
	rank rank
	// text is such as get, list on secrets, configmaps.
	text string
	// path: it is about a path that is no resource, which only a ClusterRoleBinding gives.
	path bool
}

// place is a resource, or a path that is none.
type place struct{ url, group, resource string }

// verbs are what may be done, in words, and whether they lead to other rights.
type verbs struct {
	text  string
	leads bool
}

// clauses put permissions into as few words as they can: verbs that go together for one
// object, objects of one resource that have the same verbs, resources that have the same
// verbs and names. Paths stand by themselves. The permissions must be sorted.
func clauses(permissions []permission) []clause {
	type object struct {
		place place
		name  string
	}
	type objects struct {
		verbs verbs
		place place
		all   bool
	}
	type places struct {
		verbs verbs
		names string
		path  bool
	}
	byObject := gather(permissions, func(p permission) (object, string) {
		return object{place{p.url, p.group, p.resource}, p.name}, p.verb
	})
	byVerbs := gather(byObject, func(g group[object, string]) (objects, string) {
		return objects{verbsOf(g.values), g.key.place, g.key.name == ""}, g.key.name
	})
	byNames := gather(byVerbs, func(g group[objects, string]) (places, place) {
		names := ""
		if !g.key.all {
			names = " named " + quoted(g.values)
		}
		return places{g.key.verbs, names, g.key.place.url != ""}, g.key.place
	})
	var list []clause
	for _, g := range byNames {
		for part := range slices.Chunk(g.values, listed) {
			list = append(list, clauseOf(g.key.verbs, part, g.key.names, g.key.path))
		}
	}
	return list
}

// group is what has one key, in the order in which it came.
type group[K comparable, V any] struct {
	key    K
	values []V
}

// gather puts together what has the same key.
func gather[T any, K comparable, V any](list []T, of func(T) (K, V)) []group[K, V] {
	var groups []group[K, V]
	at := map[K]int{}
	for _, item := range list {
		key, value := of(item)
		i, known := at[key]
		if !known {
			i = len(groups)
			at[key] = i
			groups = append(groups, group[K, V]{key: key})
		}
		groups[i].values = append(groups[i].values, value)
	}
	return groups
}

func verbsOf(list []string) verbs {
	v, texts := verbs{}, make([]string, len(list))
	for i, verb := range list {
		texts[i] = word(verb)
		if verb == "*" {
			texts[i] = "everything (*)"
		}
		v.leads = v.leads || verb == "*" || verb == "escalate" || verb == "bind" || strings.HasPrefix(verb, "impersonate")
	}
	v.text = strings.Join(texts, ", ")
	return v
}

func clauseOf(v verbs, places []place, names string, path bool) clause {
	c := clause{rank: allowed, path: path}
	texts := make([]string, len(places))
	for i, p := range places {
		texts[i] = p.String()
		if v.leads || p.leads() {
			c.rank = dangerous
		}
	}
	c.text = v.text + " on " + strings.Join(texts, ", ") + names
	return c
}

func (p place) String() string {
	resource, subresource, ok := strings.Cut(p.resource, "/")
	if ok {
		subresource = "/" + word(subresource)
	}
	switch {
	case p.url != "":
		return "path " + word(p.url)
	case p.resource == "*" && p.group == "*":
		return "every resource"
	case p.resource == "*" && p.group == "":
		return "every resource of the core API group"
	case p.resource == "*":
		return "every resource of API group " + word(p.group)
	case p.group == "*":
		return word(p.resource) + " of every API group"
	case p.group == "":
		return word(p.resource)
	default:
		return word(resource) + "." + word(p.group) + subresource
	}
}

// leads says whether rights to something lead to secrets, to other rights, or past Holdfast.
func (p place) leads() bool {
	switch p.group {
	case "holdfast.dev", "admissionregistration.k8s.io", "rbac.authorization.k8s.io":
		return true
	}
	return slices.Contains([]string{
		"*", "secrets", "pods/exec", "pods/attach", "pods/ephemeralcontainers", "pods/proxy", "services/proxy",
		"nodes/proxy", "serviceaccounts/token", "certificatesigningrequests/approval", "customresourcedefinitions", "apiservices",
	}, p.resource)
}
