package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Mode is what a policy does with its verdicts.
// +kubebuilder:validation:Enum=Enforce;Warn;Audit
type Mode string

// The modes.
const (
	// Enforce: the verdict is the answer.
	Enforce Mode = "Enforce"
	// Warn: the request passes, and its client is shown what would have happened.
	Warn Mode = "Warn"
	// Audit: the request passes, and the audit event says what would have happened.
	Audit Mode = "Audit"
)

// Action is what a rule, or a policy's default, does with a request.
// +kubebuilder:validation:Enum=Allow;Hold;Deny
type Action string

// The actions.
const (
	// Allow: RBAC decides.
	Allow Action = "Allow"
	// Hold: refused until people have approved exactly that change.
	Hold Action = "Hold"
	// Deny: refused with 403.
	Deny Action = "Deny"
)

// Pattern is a name in which * stands for any run of characters.
// +kubebuilder:validation:MaxLength=253
type Pattern string

// Match says to which requests a rule applies. A list that is left out matches everything;
// within a list one entry has to match, and all lists have to match.
// +kubebuilder:pruning:PreserveUnknownFields
type Match struct {
	// verbs of the request: create, update, patch, delete, deletecollection, connect, get,
	// list, watch and others. In admission update and patch are one and the same: a rule
	// that names either matches both.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	Verbs []Pattern `json:"verbs,omitempty"`
	// apiGroups of the resource; "" is the core group.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	APIGroups []Pattern `json:"apiGroups,omitempty"`
	// versions of the resource that `when` knows. Required where `when` looks into object
	// or oldObject; a request for the resource in another version is then denied.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	Versions []Pattern `json:"versions,omitempty"`
	// resources in lower case and plural; a subresource as pods/exec. "pods" does not
	// match pods/exec; "pods*" and "*" do.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	Resources []Pattern `json:"resources,omitempty"`
	// namespaces of the object. A request for a cluster-scoped object has none, and only
	// "" and "*" match it; for Namespace objects it is the namespace's own name.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	Namespaces []Pattern `json:"namespaces,omitempty"`
	// names of the objects.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	Names []Pattern `json:"names,omitempty"`
	// fieldSelectors match a list, watch or deletecollection that is narrowed by a field: one
	// requirement, written as spec.nodeName=a, has to match. Admission does not see selectors.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	FieldSelectors []Pattern `json:"fieldSelectors,omitempty"`
	// labelSelectors are the same for labels: app=web, app!=web, app in (a,b), app, !app.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	LabelSelectors []Pattern `json:"labelSelectors,omitempty"`
	// nonResourceURLs are paths such as /metrics. A rule that has them matches no request
	// for a resource.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	NonResourceURLs []Pattern `json:"nonResourceURLs,omitempty"`
}

// Rule is one rule of a policy. The order of rules has no meaning.
// +kubebuilder:pruning:PreserveUnknownFields
type Rule struct {
	// name of the rule, unique within its policy.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	Name string `json:"name"`
	// match says to which requests the rule applies.
	// +optional
	Match Match `json:"match,omitempty"`
	// when is an expression (expr-lang) that has to be true for the rule to apply. Its
	// variables are request, object, oldObject, agent and namespace. A path that is absent
	// is nil. An expression that fails, or computes for longer than 50 ms, denies the request.
	// +optional
	// +kubebuilder:validation:MaxLength=8192
	When string `json:"when,omitempty"`
	// action is what becomes of a request to which the rule applies.
	Action Action `json:"action"`
	// message is shown to the agent.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
	// approvers may approve what the rule holds. Left out: the group holdfast:approvers.
	// +optional
	Approvers *Approvers `json:"approvers,omitempty"`
	// required is how many distinct people it takes. Default 1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16
	Required int32 `json:"required,omitempty"`
	// allowOwner lets the agent's owner count as one of them.
	// +optional
	AllowOwner bool `json:"allowOwner,omitempty"`
	// reasonRequired keeps a request from being approved before the agent has said why.
	// +optional
	ReasonRequired bool `json:"reasonRequired,omitempty"`
	// wait is how long the agent's own command waits for people: its client is told to try
	// again, ten times at most. 0s answers at once. Default 2m, at most 10m.
	// +optional
	Wait *metav1.Duration `json:"wait,omitempty"`
	// expiresAfter is how long the request waits for people, and the approval for the
	// agent. Default 1h, at most 168h.
	// +optional
	ExpiresAfter *metav1.Duration `json:"expiresAfter,omitempty"`
}

// Requestable is something that agents may ask for ahead of acting, with an AccessRequest of
// origin Asked. Once people have approved it, it is a grant: for as long as was asked, such
// requests of the agent pass where a rule would hold them, or RBAC refuse them; never where a
// rule denies them. As in Match, a list that is left out matches everything, within a list
// one entry has to match, and all lists have to match. What one ask names has to be covered
// in all its combinations; all entries that cover one of them have to be satisfied.
// +kubebuilder:pruning:PreserveUnknownFields
type Requestable struct {
	// name of the entry, unique among the policy's rules and entries.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:Pattern=`^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$`
	Name string `json:"name"`
	// verbs that may be asked for: get, list, watch, create, update, patch and delete. Others
	// never are; * stands for these.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Verbs []Pattern `json:"verbs"`
	// apiGroups of the resources; "" is the core group.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	APIGroups []Pattern `json:"apiGroups,omitempty"`
	// resources in lower case and plural; a subresource as pods/exec. "pods" does not match
	// pods/exec; "pods*" and "*" do.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=128
	Resources []Pattern `json:"resources"`
	// namespaces of the objects. What is cluster-scoped, or in all namespaces at once, has
	// none, and only "" and "*" match it; for Namespace objects it is the namespace's own name.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	Namespaces []Pattern `json:"namespaces,omitempty"`
	// names of the objects. An ask to list, watch or create without names has none, and only
	// "" and "*" match it.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=128
	Names []Pattern `json:"names,omitempty"`
	// maxDuration is how long a grant may last at most. Default 1h, at most 24h.
	// +optional
	MaxDuration *metav1.Duration `json:"maxDuration,omitempty"`
	// approvers may approve it. Left out: the group holdfast:approvers.
	// +optional
	Approvers *Approvers `json:"approvers,omitempty"`
	// required is how many distinct people it takes. Default 1.
	// +optional
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16
	Required int32 `json:"required,omitempty"`
	// allowOwner lets the agent's owner count as one of them.
	// +optional
	AllowOwner bool `json:"allowOwner,omitempty"`
	// reasonRequired keeps an ask from being approved before the agent has said why.
	// +optional
	ReasonRequired bool `json:"reasonRequired,omitempty"`
	// expiresAfter is how long an ask waits for people. Default 1h, at most 168h.
	// +optional
	ExpiresAfter *metav1.Duration `json:"expiresAfter,omitempty"`
}

// AgentPolicySpec says what agents may do.
// +kubebuilder:pruning:PreserveUnknownFields
type AgentPolicySpec struct {
	// agents are names of Agents; * stands for any run of characters.
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=128
	// +listType=atomic
	Agents []Pattern `json:"agents"`
	// mode is Enforce, Warn or Audit.
	// +optional
	// +kubebuilder:default=Enforce
	Mode Mode `json:"mode,omitempty"`
	// default is what becomes of a request that no rule of this policy matches. Allow: RBAC
	// decides.
	// +optional
	// +kubebuilder:default=Allow
	Default Action `json:"default,omitempty"`
	// rules, in any order: over all policies, Deny beats Hold beats Allow.
	// +optional
	// +kubebuilder:validation:MaxItems=256
	// +listType=map
	// +listMapKey=name
	Rules []Rule `json:"rules,omitempty"`
	// requestable is what agents may ask for ahead. It has no effect in modes Warn and Audit.
	// +optional
	// +kubebuilder:validation:MaxItems=64
	// +listType=map
	// +listMapKey=name
	Requestable []Requestable `json:"requestable,omitempty"`
}

// AgentPolicyStatus is what Holdfast observed of an AgentPolicy.
type AgentPolicyStatus struct {
	// conditions: Compiled.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// agents is the number of Agents that the policy selects.
	// +optional
	Agents *int32 `json:"agents,omitempty"`
}

// AgentPolicy says what the Agents that it selects may do.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=holdfast
// +kubebuilder:printcolumn:name="Mode",type=string,JSONPath=`.spec.mode`
// +kubebuilder:printcolumn:name="Default",type=string,JSONPath=`.spec.default`
// +kubebuilder:printcolumn:name="Compiled",type=string,JSONPath=`.status.conditions[?(@.type=="Compiled")].status`
// +kubebuilder:printcolumn:name="Agents",type=integer,JSONPath=`.status.agents`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type AgentPolicy struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec AgentPolicySpec `json:"spec"`
	// +optional
	Status AgentPolicyStatus `json:"status,omitempty"`
}

// AgentPolicyList is a list of AgentPolicies.
// +kubebuilder:object:root=true
type AgentPolicyList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []AgentPolicy `json:"items"`
}
