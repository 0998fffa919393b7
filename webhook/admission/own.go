package admission

import (
	"context"
	"errors"
	"fmt"

	admissionv1 "k8s.io/api/admission/v1"
	kjson "sigs.k8s.io/json"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/agent"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/policy"
)

// OwnConfig is what the check of Holdfast's own kinds needs to know.
type OwnConfig struct {
	// IsAgent says whether a user is a declared agent.
	IsAgent func(decision.User) bool
	// Facts are what has to be known about people to say whether their reviews of a
	// request count.
	Facts func(r *v1alpha1.AccessRequest) access.Facts
	// AccessRequest looks one up.
	AccessRequest AccessRequests
	// Asks says what it takes to be granted what an agent asks for, and Room keeps a place
	// for one more AccessRequest.
	Asks Asks
	Room Room
	// Gone says why what an AccessRequest is about can no longer be changed: it has been
	// deleted, or is another object of the same name. Empty where it is still there.
	Gone func(ctx context.Context, r *v1alpha1.AccessRequest) (string, error)
	// Net is what the API server was told to ask about; nil where that is not known.
	Net *agent.Net
}

// Own returns the Judge of writes to Holdfast's own kinds, by whomever. Agents ask by making
// an AccessRequest, and write no others of them; nobody but Holdfast writes a status, and what does not compile is
// refused with the field, so that it never replaces the version in force.
func Own(c OwnConfig) Judge {
	return func(ctx context.Context, r *Review) decision.Decision {
		d := decision.Decision{ID: decision.NewID(), DryRun: r.Request.DryRun}
		if isAsk(r) {
			return c.judgeAsk(ctx, r, d)
		}
		if c.IsAgent(r.Request.User) && !asksItself(r) {
			return deny(d, decision.ReasonSelfProtection, "agents may not write Holdfast's own kinds")
		}
		if r.Request.Subresource == "status" {
			return deny(d, decision.ReasonSelfProtection, "only Holdfast itself writes the status of its kinds")
		}
		if r.Request.Resource == "reviews" {
			d.Review = r.Request.Name
		}
		warnings, err := c.check(ctx, r)
		if err != nil {
			return deny(d, decision.ReasonInvalidObject, err.Error())
		}
		d.Warnings = warnings
		d.Action, d.Reason = decision.Allow, decision.ReasonNotAgent
		return d
	}
}

// asksItself says whether it is the other write that agents may try: to an AccessRequest,
// which is theirs or refused below.
func asksItself(r *Review) bool {
	return r.Request.Resource == "accessrequests" && r.Request.Subresource == "" && r.Operation == admissionv1.Update
}

// check validates a write to one of Holdfast's kinds.
func (c OwnConfig) check(ctx context.Context, r *Review) (warnings []string, err error) {
	switch r.Request.Resource {
	case "reviews":
		return nil, c.checkReview(ctx, r)
	case "accessrequests":
		return nil, checkAccessRequest(r)
	}
	if r.Operation != admissionv1.Create && r.Operation != admissionv1.Update {
		return nil, nil
	}
	switch r.Request.Resource {
	case "agents":
		var a v1alpha1.Agent
		if err := decodeStrict(r.Object, &a); err != nil {
			return nil, err
		}
		if err := agent.Validate(&a).ToAggregate(); err != nil {
			return nil, err
		}
		return c.outside(&a), nil
	case "agentpolicies":
		var p v1alpha1.AgentPolicy
		if err := decodeStrict(r.Object, &p); err != nil {
			return nil, err
		}
		_, err := policy.Compile(&p)
		return nil, err
	default:
		return nil, fmt.Errorf("resource %s is not one that this version of Holdfast knows", r.Request.Resource)
	}
}

// outside warns of subjects about which the API server does not ask Holdfast.
func (c OwnConfig) outside(a *v1alpha1.Agent) []string {
	if c.Net == nil {
		return nil
	}
	var warnings []string
	for _, s := range c.Net.Missing(a) {
		name := s.Name
		if s.Namespace != "" {
			name = s.Namespace + "/" + name
		}
		warnings = append(warnings, fmt.Sprintf(
			"%s %s is outside the net: nothing stops it until the registrations are rendered again (holdfast-webhook render)", s.Kind, name))
	}
	return warnings
}

// decodeStrict decodes one of Holdfast's kinds and refuses fields that it does not have:
// a misspelt field of a rule would otherwise change what the rule matches.
func decodeStrict(raw []byte, into any) error {
	// Like the API server, and unlike encoding/json, it tells upper from lower case.
	unknown, err := kjson.UnmarshalStrict(raw, into)
	if err := errors.Join(append(unknown, err)...); err != nil {
		return fmt.Errorf("the object is not understood: %w", err)
	}
	return nil
}
