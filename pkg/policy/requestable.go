package policy

import (
	"fmt"
	"slices"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// Bounds and defaults of what may be asked for ahead.
const (
	defaultMaxDuration = time.Hour
	maxMaxDuration     = 24 * time.Hour
	// defaultDuration is how long a grant lasts where the ask does not say.
	defaultDuration = 10 * time.Minute
	minDuration     = time.Second
)

// Askable are the verbs that can be asked for ahead. The others act on more than one object
// that can be named, or hand out rights that no grant could take back.
var Askable = []string{"get", "list", "watch", "create", "update", "patch", "delete"}

// requestable is a compiled Requestable.
type requestable struct {
	policy *Policy
	name   string
	match  v1alpha1.Match
	most   time.Duration
	terms  Terms
}

// covers says whether the entry is about what is asked for.
func (r *requestable) covers(q *wish) bool {
	return v1alpha1.AnyMatches(r.match.Verbs, q.verb) && v1alpha1.AnyMatches(r.match.APIGroups, q.group) &&
		v1alpha1.AnyMatches(r.match.Resources, q.resource) && v1alpha1.AnyMatches(r.match.Namespaces, q.within()) &&
		v1alpha1.AnyMatches(r.match.Names, q.name)
}

func compileRequestable(at *field.Path, policy string, r *v1alpha1.Requestable) (*requestable, field.ErrorList) {
	compiled := &requestable{name: r.Name, most: defaultMaxDuration, match: v1alpha1.Match{
		Verbs: r.Verbs, APIGroups: r.APIGroups, Resources: r.Resources, Namespaces: r.Namespaces, Names: r.Names,
	}}
	var errs field.ErrorList
	if r.Name == "" {
		errs = append(errs, field.Required(at.Child("name"), "name the entry: approvers and audit events see it"))
	}
	if len(r.Verbs) == 0 {
		errs = append(errs, field.Required(at.Child("verbs"), "say which verbs may be asked for, or * for all of "+strings.Join(Askable, ", ")))
	}
	if len(r.Resources) == 0 {
		errs = append(errs, field.Required(at.Child("resources"), "say which resources may be asked for, or * for all"))
	}
	for i, v := range r.Verbs {
		if !slices.ContainsFunc(Askable, v.Matches) {
			errs = append(errs, field.NotSupported(at.Child("verbs").Index(i), v, Askable))
		}
	}
	match := compiled.match
	match.Verbs = nil
	errs = append(errs, checkMatch(at, &match)...)
	if r.MaxDuration != nil {
		compiled.most = r.MaxDuration.Duration
		if compiled.most < minDuration || compiled.most > maxMaxDuration {
			errs = append(errs, field.Invalid(at.Child("maxDuration"), r.MaxDuration.Duration.String(), fmt.Sprintf("want %s to %s", minDuration, maxMaxDuration)))
		}
	}
	terms, termErrs := termsOf(at, policy, &v1alpha1.Rule{
		Name: r.Name, Action: v1alpha1.Hold, Approvers: r.Approvers, Required: r.Required,
		AllowOwner: r.AllowOwner, ReasonRequired: r.ReasonRequired, ExpiresAfter: r.ExpiresAfter,
		Wait: &metav1.Duration{}, // nobody's command waits: an ask is answered at once
	})
	compiled.terms = terms
	return compiled, append(errs, termErrs...)
}
