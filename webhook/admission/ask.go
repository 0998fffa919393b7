package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/engine"
)

// AskedPrefix begins the names of AccessRequests that agents make: those that Holdfast opens
// for held requests are named after the change, and the two never meet.
const AskedPrefix = "asked-"

// Asks says what it takes to be granted what somebody asks for. Its error is an
// *engine.Refusal where they cannot ask for it.
type Asks interface {
	Asked(u decision.User, a *v1alpha1.Access) (engine.Asked, error)
}

// Room keeps a place for an AccessRequest that is about to be stored under a name, and
// returns access.ErrTooManyPending where as many wait, of the agent or of all, as may.
type Room func(ctx context.Context, agent, name string) error

// isAsk says whether somebody makes an AccessRequest.
func isAsk(r *Review) bool {
	return r.Request.Resource == "accessrequests" && r.Request.Subresource == "" && r.Operation == admissionv1.Create
}

// asked is what it takes to be granted what the object of the review asks for. Where ok is
// false, the decision says why it cannot be.
func (c OwnConfig) asked(r *Review, d decision.Decision) (request *v1alpha1.AccessRequest, a engine.Asked, _ decision.Decision, ok bool) {
	request = &v1alpha1.AccessRequest{}
	if err := decodeStrict(r.Object, request); err != nil {
		return nil, a, deny(d, decision.ReasonInvalidObject, err.Error()), false
	}
	a, err := c.Asks.Asked(r.Request.User, &request.Spec.Access)
	var refusal *engine.Refusal
	switch {
	case errors.As(err, &refusal):
		d.Agents = refusal.Agents
		return nil, a, deny(d, refusal.Reason, refusal.Error()), false
	case err != nil:
		return nil, a, deny(d, decision.ReasonInternal, "what it takes could not be found out"), false
	}
	d.Agents = a.Agents
	return request, a, d, true
}

// stampAsk writes into an AccessRequest who asks, and what it takes. What a client wrote
// there, other than what it asks for and why, is replaced.
func (c OwnConfig) stampAsk(r *Review, d decision.Decision) decision.Decision {
	request, a, d, ok := c.asked(r, d)
	if !ok {
		return d
	}
	patch, err := json.Marshal([]map[string]any{{"op": "add", "path": "/spec", "value": specOf(request, r.Request.User, &a)}})
	if err != nil {
		return deny(d, decision.ReasonInternal, "the AccessRequest could not be stamped")
	}
	r.Patch = patch
	d.Action, d.Reason = decision.Allow, decision.ReasonAsked
	return d
}

// specOf is the spec under which what a user asks for is stored.
func specOf(request *v1alpha1.AccessRequest, u decision.User, a *engine.Asked) v1alpha1.AccessRequestSpec {
	s := v1alpha1.AccessRequestSpec{
		Origin: v1alpha1.Asked, Agent: a.Agents[0], Requester: u.Name, RequesterUID: u.UID, Reason: request.Spec.Reason,
		Access: *request.Spec.Access.DeepCopy(), Rules: a.Rules, ExpiresAfter: &metav1.Duration{Duration: a.ExpiresAfter},
	}
	s.Access.Duration = &metav1.Duration{Duration: a.Duration}
	return s
}

// judgeAsk decides on an AccessRequest that somebody makes.
func (c OwnConfig) judgeAsk(ctx context.Context, r *Review, d decision.Decision) decision.Decision {
	request, a, d, ok := c.asked(r, d)
	if !ok {
		return d
	}
	if err := checkAskedMeta(&request.ObjectMeta); err != nil {
		return deny(d, decision.ReasonInvalidObject, err.Error())
	}
	if want := specOf(request, r.Request.User, &a); !apiequality.Semantic.DeepEqual(want, request.Spec) {
		return deny(d, decision.ReasonInvalidObject,
			"the AccessRequest does not carry who asks and what it takes: the policies have changed this moment, and it helps to try again; or the mutating webhook that stamps it is missing")
	}
	d.AccessRequest = request.Name
	if !r.Request.DryRun {
		switch err := c.Room(ctx, request.Spec.Agent, request.Name); {
		case errors.Is(err, access.ErrTooManyPending):
			return deny(d, decision.ReasonTooManyPending, "too many requests wait for people already; withdraw one (kubectl holdfast get --mine), or wait until they are decided")
		case err != nil:
			return deny(d, decision.ReasonInternal, "whether there is room for another request could not be looked up; try again")
		}
	}
	d.Action, d.Reason = decision.Allow, decision.ReasonAsked
	return d
}

// checkAskedMeta refuses what would make it pass for one that Holdfast opened, or keep it
// longer or shorter than Holdfast would.
func checkAskedMeta(m *metav1.ObjectMeta) error {
	if !strings.HasPrefix(m.Name, AskedPrefix) {
		return fmt.Errorf("metadata.name: want generateName %s, or a name that starts with that", AskedPrefix)
	}
	for what, keys := range map[string]map[string]string{"labels": m.Labels, "annotations": m.Annotations} {
		for _, key := range slices.Sorted(maps.Keys(keys)) {
			prefix, _, _ := strings.Cut(key, "/")
			if prefix == v1alpha1.Group || strings.HasSuffix(prefix, "."+v1alpha1.Group) {
				return fmt.Errorf("metadata.%s: %s is Holdfast's own; leave it out", what, key)
			}
		}
	}
	if len(m.Finalizers) > 0 || len(m.OwnerReferences) > 0 {
		return errors.New("metadata: leave finalizers and ownerReferences out; Holdfast removes the AccessRequest some time after its end")
	}
	return nil
}
