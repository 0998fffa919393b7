package policy

import (
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// Bounds and defaults of what a rule says about holding.
const (
	// DefaultApprovers is the group whose members approve where a rule names nobody.
	DefaultApprovers = "holdfast:approvers"
	defaultWait      = 2 * time.Minute
	// maxWait is what clients can be kept trying for: they retry ten times at most, and
	// are told to come back after a minute at most.
	maxWait        = 10 * time.Minute
	defaultExpires = time.Hour
	maxExpires     = 7 * 24 * time.Hour
)

// Terms are what a rule asks for before it lets a held request pass.
type Terms struct {
	Rule v1alpha1.HoldingRule
	// Wait is how long the agent's own command waits.
	Wait time.Duration
	// ExpiresAfter is how long the request waits for people, and the approval for its use.
	ExpiresAfter time.Duration
}

// termsOf reads the terms of a rule. A rule that does not hold may not have any.
func termsOf(at *field.Path, policy string, r *v1alpha1.Rule) (Terms, field.ErrorList) {
	t := Terms{
		Rule: v1alpha1.HoldingRule{
			Policy: policy, Rule: r.Name, Required: max(r.Required, 1), AllowOwner: r.AllowOwner,
			ReasonRequired: r.ReasonRequired, Message: r.Message,
			Approvers: v1alpha1.Approvers{Groups: []string{DefaultApprovers}},
		},
		Wait: defaultWait, ExpiresAfter: defaultExpires,
	}
	if r.Action != v1alpha1.Hold {
		if r.Approvers != nil || r.Required != 0 || r.AllowOwner || r.ReasonRequired || r.Wait != nil || r.ExpiresAfter != nil {
			return t, field.ErrorList{field.Forbidden(at,
				"approvers, required, allowOwner, reasonRequired, wait and expiresAfter are for rules whose action is Hold")}
		}
		return t, nil
	}
	var errs field.ErrorList
	if r.Approvers != nil {
		t.Rule.Approvers = *r.Approvers
		people := len(r.Approvers.Users)
		if len(r.Approvers.Groups) == 0 && people < int(t.Rule.Required) {
			errs = append(errs, field.Invalid(at.Child("required"), t.Rule.Required,
				fmt.Sprintf("only %d users are approvers, and no group: nobody else could approve", people)))
		}
	}
	if r.Wait != nil {
		t.Wait = r.Wait.Duration
		if t.Wait < 0 || t.Wait > maxWait {
			errs = append(errs, field.Invalid(at.Child("wait"), r.Wait.Duration.String(),
				fmt.Sprintf("want 0s to %s: clients do not retry for longer", maxWait)))
		}
	}
	if r.ExpiresAfter != nil {
		t.ExpiresAfter = r.ExpiresAfter.Duration
		if t.ExpiresAfter < time.Minute || t.ExpiresAfter > maxExpires {
			errs = append(errs, field.Invalid(at.Child("expiresAfter"), r.ExpiresAfter.Duration.String(),
				fmt.Sprintf("want 1m to %s", maxExpires)))
		}
	}
	if t.Wait > t.ExpiresAfter {
		errs = append(errs, field.Invalid(at.Child("wait"), t.Wait.String(), "is longer than expiresAfter"))
	}
	return t, errs
}
