// Package v1alpha1 has Holdfast's kinds, group holdfast.dev/v1alpha1: Agent, which says who
// is an agent, and AgentPolicy, which says what agents may do. All are cluster-scoped.
//
// Unknown fields are kept by the API server (PreserveUnknownFields) until the own-kinds
// webhook has seen, and refused, them: pruned silently, a misspelt field of a rule would
// change what the rule matches.
//
// It holds types only: what a policy means is in pkg/policy, who an agent is in pkg/agent.
//
// +kubebuilder:object:generate=true
// +groupName=holdfast.dev
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is the API group of Holdfast's kinds.
const Group = "holdfast.dev"

// GroupVersion is the group and version of the kinds in this package.
var GroupVersion = schema.GroupVersion{Group: Group, Version: "v1alpha1"}

// AddToScheme registers the kinds of this package with a scheme.
func AddToScheme(s *runtime.Scheme) error {
	s.AddKnownTypes(GroupVersion, &Agent{}, &AgentList{}, &AgentPolicy{}, &AgentPolicyList{},
		&AccessRequest{}, &AccessRequestList{}, &Review{}, &ReviewList{})
	metav1.AddToGroupVersion(s, GroupVersion)
	return nil
}
