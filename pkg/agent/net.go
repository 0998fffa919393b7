package agent

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// Net is the set of identities about which the API server asks Holdfast. It is wider than
// the Agents: it takes in whole namespaces of service accounts, so that a new account
// there is inside from its first request on (and denied until an Agent declares it).
//
// It looks at user names and groups only. User info's extra is rewritten by impersonation.
type Net struct {
	// AccountNamespaces are namespaces all of whose service accounts are inside.
	AccountNamespaces []string `json:"accountNamespaces,omitempty"`
	// Users are names and patterns of users.
	Users []v1alpha1.Pattern `json:"users,omitempty"`
	// Groups are names and patterns of groups.
	Groups []v1alpha1.Pattern `json:"groups,omitempty"`
}

// NewNet returns the net that the subjects of the Agents need. It is sorted, so that the
// same Agents give the same text.
func NewNet(agents []*v1alpha1.Agent) Net {
	var n Net
	for _, a := range agents {
		for _, s := range a.Spec.Subjects {
			switch s.Kind {
			case v1alpha1.ServiceAccountSubject:
				n.AccountNamespaces = append(n.AccountNamespaces, s.Namespace)
			case v1alpha1.UserSubject:
				n.Users = append(n.Users, v1alpha1.Pattern(s.Name))
			case v1alpha1.GroupSubject:
				n.Groups = append(n.Groups, v1alpha1.Pattern(s.Name))
			}
		}
	}
	n.AccountNamespaces = sortedSet(n.AccountNamespaces)
	n.Users = sortedSet(n.Users)
	n.Groups = sortedSet(n.Groups)
	return n
}

func sortedSet[S ~string](in []S) []S {
	slices.Sort(in)
	return slices.Compact(in)
}

// Wild is the number of patterns with a star, which cost most in the API server.
func (n Net) Wild() int {
	wild := 0
	for _, p := range slices.Concat(n.Users, n.Groups) {
		if !p.Literal() {
			wild++
		}
	}
	return wild
}

// Contains says whether the user is inside the net; it is what Expression says in CEL.
func (n Net) Contains(u decision.User) bool {
	if namespace, _, ok := strings.Cut(strings.TrimPrefix(u.Name, accountPrefix), ":"); ok &&
		strings.HasPrefix(u.Name, accountPrefix) && slices.Contains(n.AccountNamespaces, namespace) {
		return true
	}
	for _, ns := range n.AccountNamespaces {
		if slices.Contains(u.Groups, accountGroup+ns) {
			return true
		}
	}
	for _, p := range n.Users {
		if matchesName(p, u.Name) {
			return true
		}
	}
	for _, p := range n.Groups {
		if slices.ContainsFunc(u.Groups, func(g string) bool { return matchesName(p, g) }) {
			return true
		}
	}
	return false
}

// Missing returns the subjects of an Agent that the net does not cover: their requests do
// not reach Holdfast until the registrations are rendered again.
func (n Net) Missing(a *v1alpha1.Agent) []v1alpha1.Subject {
	var missing []v1alpha1.Subject
	for _, s := range a.Spec.Subjects {
		var covered bool
		switch s.Kind {
		case v1alpha1.ServiceAccountSubject:
			covered = slices.Contains(n.AccountNamespaces, s.Namespace)
		case v1alpha1.UserSubject:
			covered = covers(n.Users, v1alpha1.Pattern(s.Name))
		case v1alpha1.GroupSubject:
			covered = covers(n.Groups, v1alpha1.Pattern(s.Name))
		}
		if !covered {
			missing = append(missing, s)
		}
	}
	return missing
}

// covers says whether one of the patterns surely matches all that p does.
func covers(patterns []v1alpha1.Pattern, p v1alpha1.Pattern) bool {
	return slices.ContainsFunc(patterns, func(q v1alpha1.Pattern) bool {
		return q == p || (p.Literal() && matchesName(q, string(p)))
	})
}

// Paths say where the CEL of a hook has the user.
type Paths struct{ User, Groups string }

// The places of the user in the CEL of webhook matchConditions and of authorizers.
var (
	AdmissionPaths     = Paths{User: "request.userInfo.username", Groups: "request.userInfo.groups"}
	AuthorizationPaths = Paths{User: "request.user", Groups: "request.groups"}
)

// Expression returns the net as a CEL expression over the user at the paths. An empty net
// is "false".
func (n Net) Expression(at Paths) string {
	var any []string
	groups := make([]string, 0, len(n.AccountNamespaces)+len(n.Groups))
	for _, ns := range n.AccountNamespaces {
		groups = append(groups, accountGroup+ns)
		any = append(any, at.User+".startsWith("+quote(accountPrefix+ns+":")+")")
	}
	for _, p := range n.Groups {
		if p.Literal() {
			groups = append(groups, string(p))
			continue
		}
		any = append(any, has(at.Groups, "g, "+matchesCEL("g", p)))
	}
	if len(groups) > 0 {
		any = append(any, has(at.Groups, "g, g in "+list(groups)))
	}
	var users []string
	for _, p := range n.Users {
		if p.Literal() {
			users = append(users, string(p))
			continue
		}
		any = append(any, matchesCEL(at.User, p))
	}
	if len(users) > 0 {
		any = append(any, at.User+" in "+list(users))
	}
	if len(any) == 0 {
		return "false"
	}
	return strings.Join(any, " || ")
}

// has guards a macro over a list that may be absent.
func has(path, body string) string {
	return "(has(" + path + ") && " + path + ".exists(" + body + "))"
}

// matchesCEL is matchesName in CEL.
func matchesCEL(variable string, p v1alpha1.Pattern) string {
	expression := "^" + strings.ReplaceAll(regexp.QuoteMeta(string(p)), `\*`, ".*") + "$"
	matches := variable + ".matches(" + quote("(?s)"+expression) + ")"
	if strings.HasPrefix(p.Prefix(), systemPrefix) {
		return matches
	}
	return "(!" + variable + ".startsWith(" + quote(systemPrefix) + ") && " + matches + ")"
}

func list(items []string) string {
	quoted := make([]string, len(items))
	for i, item := range items {
		quoted[i] = quote(item)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// quote writes a CEL string literal; Go's escapes for ASCII output are CEL's too.
func quote(s string) string { return strconv.QuoteToASCII(s) }
