package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Condition types of Agents and AgentPolicies.
const (
	// ConditionCompiled: the object was understood and is in force. Where it is False of an
	// AgentPolicy, its last good version stays in force, or, where there is none, what it
	// covers is denied.
	ConditionCompiled = "Compiled"
	// ConditionInNet: the net that Holdfast was told at its start covers every subject of
	// the Agent. Where it is False, some of the Agent's requests never reach
	// Holdfast: render the registrations again.
	ConditionInNet = "InNet"
)

// SubjectKind is a kind of identity.
// +kubebuilder:validation:Enum=ServiceAccount;User;Group
type SubjectKind string

// The kinds of identity.
const (
	ServiceAccountSubject SubjectKind = "ServiceAccount"
	UserSubject           SubjectKind = "User"
	GroupSubject          SubjectKind = "Group"
)

// Subject names identities. Everyone who is any of an Agent's subjects is that agent.
// +kubebuilder:validation:XValidation:rule="self.kind == 'ServiceAccount' ? has(self.__namespace__) && size(self.__namespace__) > 0 : !has(self.__namespace__)",message="namespace is required for a ServiceAccount, and not allowed for a User or Group"
// +kubebuilder:pruning:PreserveUnknownFields
type Subject struct {
	// kind is ServiceAccount, User or Group.
	Kind SubjectKind `json:"kind"`
	// namespace of a ServiceAccount. kube-system and Holdfast's own namespace are refused.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`
	Namespace string `json:"namespace,omitempty"`
	// name of the service account, user or group. A * stands for any run of characters.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// Owner is the person who answers for an agent.
// +kubebuilder:pruning:PreserveUnknownFields
type Owner struct {
	// kind is User.
	// +kubebuilder:validation:Enum=User
	Kind SubjectKind `json:"kind"`
	// name of the user, as the API server authenticates them.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// AgentSpec says who an agent is.
// +kubebuilder:pruning:PreserveUnknownFields
type AgentSpec struct {
	// subjects are the identities that are this agent.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	// +listType=atomic
	Subjects []Subject `json:"subjects"`
	// owner answers for the agent, and never counts as a reviewer of its requests unless a
	// rule says allowOwner.
	// +optional
	Owner *Owner `json:"owner,omitempty"`
	// suspended is the kill switch: every change that the agent tries is denied while it is
	// true. Reads are not, until the authorizer is there.
	// +optional
	Suspended bool `json:"suspended,omitempty"`
}

// AgentStatus is what Holdfast observed of an Agent.
type AgentStatus struct {
	// conditions: Compiled and InNet.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// policies is the number of AgentPolicies that select this Agent.
	// +optional
	Policies *int32 `json:"policies,omitempty"`
	// lastActivity is about when the agent last tried to change something, to a minute: it
	// is written once a minute at most. Reads do not count, until the authorizer is there.
	// Missing: it has not been seen.
	// +optional
	LastActivity *metav1.Time `json:"lastActivity,omitempty"`
}

// Agent declares that identities act as one autonomous agent, whose requests Holdfast
// judges.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=holdfast
// +kubebuilder:printcolumn:name="Owner",type=string,JSONPath=`.spec.owner.name`
// +kubebuilder:printcolumn:name="Suspended",type=boolean,JSONPath=`.spec.suspended`
// +kubebuilder:printcolumn:name="In net",type=string,JSONPath=`.status.conditions[?(@.type=="InNet")].status`
// +kubebuilder:printcolumn:name="Policies",type=integer,JSONPath=`.status.policies`
// +kubebuilder:printcolumn:name="Last activity",type=date,JSONPath=`.status.lastActivity`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Agent struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec AgentSpec `json:"spec"`
	// +optional
	Status AgentStatus `json:"status,omitempty"`
}

// AgentList is a list of Agents.
// +kubebuilder:object:root=true
type AgentList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Agent `json:"items"`
}
