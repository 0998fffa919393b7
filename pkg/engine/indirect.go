package engine

import (
	"context"
	"time"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/policy"
	"github.com/holdfast-dev/holdfast/pkg/policy/reference"
)

// resources of the kinds that a reference can be to.
var resources = map[string]string{
	reference.Secret: "secrets", reference.ConfigMap: "configmaps", reference.ServiceAccount: "serviceaccounts",
	reference.Node: "nodes", reference.PersistentVolumeClaim: "persistentvolumeclaims",
}

// mayRead answers rules that ask whether the agent may read what an object refers to: by the
// policies that would judge such a read, by a grant of it, and for Secrets by RBAC. Who may
// not get a Secret may not mount it either.
func (e *Engine) mayRead(ctx context.Context, s *State, in Input, agents []*v1alpha1.Agent) func(reference.Reference) (bool, error) {
	return func(ref reference.Reference) (bool, error) {
		r := readOf(in.Request.User, ref)
		asked := &policy.Input{Request: r, Agents: agents, Unseen: true, Deadline: time.Now().Add(e.budget)}
		if r.Namespace == in.Request.Namespace {
			asked.Namespace = in.Namespace
		}
		if v := e.protection.Evaluate(asked); v.Action != decision.Allow {
			return false, nil
		}
		v := s.Policies.Evaluate(asked)
		if v.Action == decision.Deny {
			return false, nil
		}
		var rules []v1alpha1.HoldingRule
		if v.Action == decision.Hold {
			rules = newHeld(agents, v).Rules
		}
		if e.granted(ctx, in, r, names(agents), rules) != nil {
			return true, nil
		}
		if v.Action == decision.Allow && ref.Kind == reference.Secret && in.Permitted != nil {
			return in.Permitted(ctx, r)
		}
		return v.Action == decision.Allow, nil
	}
}

// readOf is the request by which the user would read what a reference is to.
func readOf(u decision.User, ref reference.Reference) *decision.Request {
	r := &decision.Request{User: u, Verb: "get", Version: "v1", Resource: resources[ref.Kind], Namespace: ref.Namespace, Name: ref.Name}
	if ref.Name == reference.All {
		r.Verb, r.Name = "list", ""
	}
	if r.Resource == "" { // of a kind that nothing is known about: no rule that names a resource is about it
		r.Resource = ref.Kind
	}
	return r
}

func names(agents []*v1alpha1.Agent) []string {
	list := make([]string, len(agents))
	for i, a := range agents {
		list[i] = a.Name
	}
	return list
}
