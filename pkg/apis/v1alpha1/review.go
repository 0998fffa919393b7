package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Verdict is what a reviewer says.
// +kubebuilder:validation:Enum=Approve;Deny
type Verdict string

// The verdicts.
const (
	Approve Verdict = "Approve"
	Reject  Verdict = "Deny"
)

// ReviewSpec is one person's verdict.
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="a Review cannot be changed; one Deny ends the request"
// +kubebuilder:pruning:PreserveUnknownFields
type ReviewSpec struct {
	// accessRequest is the name of the AccessRequest.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	AccessRequest string `json:"accessRequest"`
	// verdict is Approve or Deny. One Deny ends the request; of an approval that has not
	// been used yet, it takes the approval back.
	Verdict Verdict `json:"verdict"`
	// comment is shown to the agent with a Deny.
	// +optional
	// +kubebuilder:validation:MaxLength=4096
	Comment string `json:"comment,omitempty"`
	// reviewer is stamped with the authenticated user, whatever is written here.
	// +optional
	// +kubebuilder:validation:MaxLength=512
	Reviewer string `json:"reviewer,omitempty"`
	// reviewerUID is stamped with the user's UID, where they have one.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	ReviewerUID string `json:"reviewerUID,omitempty"`
	// reviewerGroups are stamped with those of the user's groups that are approvers of the
	// AccessRequest.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:items:MaxLength=253
	ReviewerGroups []string `json:"reviewerGroups,omitempty"`
}

// Review is one person's verdict on an AccessRequest. It is made once and never changed.
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,categories=holdfast
// +kubebuilder:printcolumn:name="Request",type=string,JSONPath=`.spec.accessRequest`
// +kubebuilder:printcolumn:name="Verdict",type=string,JSONPath=`.spec.verdict`
// +kubebuilder:printcolumn:name="Reviewer",type=string,JSONPath=`.spec.reviewer`
// +kubebuilder:printcolumn:name="Comment",type=string,JSONPath=`.spec.comment`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Review struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec ReviewSpec `json:"spec"`
}

// ReviewList is a list of Reviews.
// +kubebuilder:object:root=true
type ReviewList struct {
	metav1.TypeMeta `json:",inline"`
	// +optional
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []Review `json:"items"`
}
