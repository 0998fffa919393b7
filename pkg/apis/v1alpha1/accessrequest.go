package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Origin is how an AccessRequest came to be.
// +kubebuilder:validation:Enum=Intercepted;Asked
type Origin string

// The origins.
const (
	// Intercepted: Holdfast held a request of the agent.
	Intercepted Origin = "Intercepted"
	// Asked: the agent asked ahead of acting.
	Asked Origin = "Asked"
)

// Phase is where an AccessRequest stands. The legal moves are in pkg/access.
// +kubebuilder:validation:Enum=Pending;Approved;Denied;Expired;Withdrawn;Redeemed;Used;Revoked
type Phase string

// The phases.
const (
	// Pending: waits for people.
	Pending Phase = "Pending"
	// Approved: the change may be made, once; or what was asked ahead is granted until
	// status.expiresAt.
	Approved Phase = "Approved"
	// Denied: a reviewer said no. The same request is answered with that until it expires.
	Denied Phase = "Denied"
	// Expired: nobody decided, or nobody used the approval, in time.
	Expired Phase = "Expired"
	// Withdrawn: the requester took it back.
	Withdrawn Phase = "Withdrawn"
	// Redeemed: one API request has been let pass by it; what became of that is not known yet.
	Redeemed Phase = "Redeemed"
	// Used: it has had its effect.
	Used Phase = "Used"
	// Revoked: an approval that was taken back.
	Revoked Phase = "Revoked"
)

// Approvers are the people who may approve for a rule.
type Approvers struct {
	// groups whose members may approve.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=253
	Groups []string `json:"groups,omitempty"`
	// users who may approve.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=253
	Users []string `json:"users,omitempty"`
}

// Access is what is asked for.
type Access struct {
	// verbs of the request.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=63
	Verbs []string `json:"verbs"`
	// apiGroups of the resources; "" is the core group.
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=253
	APIGroups []string `json:"apiGroups"`
	// resources, a subresource as pods/exec.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=253
	Resources []string `json:"resources"`
	// namespaces of the objects; empty for cluster-scoped ones.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=63
	Namespaces []string `json:"namespaces,omitempty"`
	// names of the objects; empty where the API server gives the name. Asked ahead, none
	// means a list or watch of all, or the creation of any.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	// +kubebuilder:validation:items:MaxLength=253
	Names []string `json:"names,omitempty"`
	// duration for which what was asked ahead is granted, counted from the approval. Left
	// out: 10m, or as long as may be asked for where that is less.
	// +optional
	Duration *metav1.Duration `json:"duration,omitempty"`
}

// HoldingRule is a copy of what a rule asked for when it held the request.
type HoldingRule struct {
	// policy and rule name it.
	// +kubebuilder:validation:MaxLength=253
	Policy string `json:"policy"`
	// +kubebuilder:validation:MaxLength=63
	Rule string `json:"rule"`
	// approvers who count for it.
	Approvers Approvers `json:"approvers"`
	// required is how many distinct people it takes.
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=16
	Required int32 `json:"required"`
	// allowOwner lets the agent's owner count.
	// +optional
	AllowOwner bool `json:"allowOwner,omitempty"`
	// reasonRequired keeps it from being approved before the agent has said why.
	// +optional
	ReasonRequired bool `json:"reasonRequired,omitempty"`
	// message is the rule's own.
	// +optional
	// +kubebuilder:validation:MaxLength=1024
	Message string `json:"message,omitempty"`
}

// AccessRequestSpec says what waits for people.
// +kubebuilder:validation:XValidation:rule="self.origin == oldSelf.origin && self.agent == oldSelf.agent && self.requester == oldSelf.requester && self.access == oldSelf.access && self.rules == oldSelf.rules && (has(self.requesterUID) ? self.requesterUID : \"\") == (has(oldSelf.requesterUID) ? oldSelf.requesterUID : \"\") && has(self.expiresAfter) == has(oldSelf.expiresAfter) && (!has(self.expiresAfter) || self.expiresAfter == oldSelf.expiresAfter)",message="only reason and withdrawn can change"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.reason) || oldSelf.reason == \"\" || (has(self.reason) && self.reason == oldSelf.reason)",message="a reason is given once"
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.withdrawn) || !oldSelf.withdrawn || (has(self.withdrawn) && self.withdrawn)",message="what is withdrawn stays withdrawn"
// +kubebuilder:pruning:PreserveUnknownFields
type AccessRequestSpec struct {
	// origin is Intercepted or Asked.
	Origin Origin `json:"origin"`
	// agent is the name of the Agent.
	// +kubebuilder:validation:MaxLength=253
	Agent string `json:"agent"`
	// requester is the user who asks, as the API server authenticated them.
	// +kubebuilder:validation:MaxLength=512
	Requester string `json:"requester"`
	// requesterUID is that user's UID, where they have one. A grant is for that user alone,
	// not for the next one of the name.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	RequesterUID string `json:"requesterUID,omitempty"`
	// reason is why, in the agent's own words; written once, by the requester.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Reason string `json:"reason,omitempty"`
	// withdrawn is set by the requester, who no longer wants it.
	// +optional
	Withdrawn bool `json:"withdrawn,omitempty"`
	// access is what is asked for.
	Access Access `json:"access"`
	// rules that hold the request, or under which it was asked for; each wants its own
	// approvals.
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=32
	Rules []HoldingRule `json:"rules"`
	// expiresAfter is how long what was asked ahead waits for people, from its creation.
	// +optional
	ExpiresAfter *metav1.Duration `json:"expiresAfter,omitempty"`
}

// ReviewCopy is a Review as it was when it was counted.
type ReviewCopy struct {
	// name of the Review.
	Name string `json:"name"`
	// reviewer is the user, and uid theirs where they have one.
	Reviewer string `json:"reviewer"`
	// +optional
	UID string `json:"uid,omitempty"`
	// group through which the reviewer is an approver; empty where it is by name.
	// +optional
	Group string `json:"group,omitempty"`
	// rules for which it counts, as policy/rule.
	// +optional
	// +listType=atomic
	Rules []string `json:"rules,omitempty"`
	// verdict is Approve or Deny.
	Verdict Verdict `json:"verdict"`
	// +optional
	Comment string `json:"comment,omitempty"`
	// time at which the Review was made.
	Time metav1.Time `json:"time"`
	// refused says why it does not count; empty where it does.
	// +optional
	Refused string `json:"refused,omitempty"`
}

// Redemption is the one API request that an approval has let pass.
type Redemption struct {
	// decisionID of the webhook's decision.
	DecisionID string `json:"decisionID"`
	// traceID that the API server gave the request; empty where it gives none.
	// +optional
	TraceID string `json:"traceID,omitempty"`
	// resourceVersion of the object when it was let pass, or, where one is created, of its
	// collection: what is stored later has a greater one.
	// +optional
	ResourceVersion string `json:"resourceVersion,omitempty"`
	// time of the decision.
	Time metav1.MicroTime `json:"time"`
}

// Item is one object of a collection.
type Item struct {
	// name of the object.
	Name string `json:"name"`
	// uid of the object: another one of that name is not meant.
	UID types.UID `json:"uid"`
}

// AccessRequestStatus is written by Holdfast alone.
type AccessRequestStatus struct {
	// phase is where the request stands.
	// +optional
	Phase Phase `json:"phase,omitempty"`
	// fingerprint is a keyed digest of who asks and of the change: an approval is for
	// exactly that.
	// +optional
	Fingerprint string `json:"fingerprint,omitempty"`
	// change is a diff from the old object to the new one, with the values of Secrets
	// masked; cut where it is long.
	// +optional
	Change string `json:"change,omitempty"`
	// changeDigest is a digest of the whole change as it is shown, of which change may be
	// the beginning: two changes that look alike where they are cut differ here.
	// +optional
	ChangeDigest string `json:"changeDigest,omitempty"`
	// version of the API in which the change came, such as v1.
	// +optional
	Version string `json:"version,omitempty"`
	// generateName of an object that is created without a name.
	// +optional
	GenerateName string `json:"generateName,omitempty"`
	// targetUID is the UID of the object that would be changed; empty for one that is
	// created, and for a collection.
	// +optional
	TargetUID types.UID `json:"targetUID,omitempty"`
	// items of the collection that would be deleted.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=500
	Items []Item `json:"items,omitempty"`
	// impact counts what would be affected, by resource.
	// +optional
	Impact map[string]int64 `json:"impact,omitempty"`
	// affected says in sentences what would be affected, what cannot be undone first; cut
	// where it is long.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=1024
	Affected []string `json:"affected,omitempty"`
	// affectedDigest is a digest of all that is affected, of which affected may be the
	// beginning.
	// +optional
	AffectedDigest string `json:"affectedDigest,omitempty"`
	// reviews that were made, whether they count or not.
	// +optional
	// +listType=map
	// +listMapKey=name
	Reviews []ReviewCopy `json:"reviews,omitempty"`
	// redeemed is set once the approval has let a request pass.
	// +optional
	Redeemed *Redemption `json:"redeemed,omitempty"`
	// expiresAt is when the request, or the approval, ends. Where it was asked ahead, the
	// approval sets it: the time of approval and spec.access.duration after it.
	// +optional
	ExpiresAt *metav1.Time `json:"expiresAt,omitempty"`
	// endedAt is when it came to a phase that it cannot leave.
	// +optional
	EndedAt *metav1.Time `json:"endedAt,omitempty"`
	// message says why it is in its phase, where the reviews do not.
	// +optional
	Message string `json:"message,omitempty"`
	// notified is the last phase about which the receiver of notifications was told, where
	// there is one.
	// +optional
	Notified string `json:"notified,omitempty"`
}

// AccessRequest is something that waits for people.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=holdfast,shortName=ar
// +kubebuilder:selectablefield:JSONPath=`.spec.requester`
// +kubebuilder:selectablefield:JSONPath=`.spec.agent`
// +kubebuilder:selectablefield:JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Agent",type=string,JSONPath=`.spec.agent`
// +kubebuilder:printcolumn:name="Verb",type=string,JSONPath=`.spec.access.verbs[0]`
// +kubebuilder:printcolumn:name="Resource",type=string,JSONPath=`.spec.access.resources[0]`
// +kubebuilder:printcolumn:name="Namespace",type=string,JSONPath=`.spec.access.namespaces[0]`
// +kubebuilder:printcolumn:name="Name",type=string,JSONPath=`.spec.access.names[0]`
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type AccessRequest struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec AccessRequestSpec `json:"spec"`
	// +optional
	Status AccessRequestStatus `json:"status,omitempty"`
}

// AccessRequestList is a list of AccessRequests.
// +kubebuilder:object:root=true
type AccessRequestList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []AccessRequest `json:"items"`
}
