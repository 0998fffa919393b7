package decision

// Reason is why a decision came out as it did, in one CamelCase word for programs. The
// sentence for people stands beside it and is not kept in the record.
type Reason string

// The reasons.
const (
	// ReasonInternal: deciding itself failed (a panic, a result of a wrong kind).
	ReasonInternal Reason = "Internal"
	// ReasonOverload: more decisions were under way than may be, and this one's turn did not
	// come in time.
	ReasonOverload Reason = "Overload"
	// ReasonNotReady: Agents or policies have not been loaded yet.
	ReasonNotReady Reason = "NotReady"
	// ReasonUndeclared: the identity is inside the net and no Agent declares it.
	ReasonUndeclared Reason = "Undeclared"
	// ReasonSuspended: an Agent that the identity belongs to is suspended.
	ReasonSuspended Reason = "Suspended"
	// ReasonSelfProtection: the request would change what guards the agents.
	ReasonSelfProtection Reason = "SelfProtection"
	// ReasonRule: rules matched.
	ReasonRule Reason = "Rule"
	// ReasonDefault: no rule matched, and a policy's default decided.
	ReasonDefault Reason = "Default"
	// ReasonNoPolicy: no policy selects the Agent; RBAC decides.
	ReasonNoPolicy Reason = "NoPolicy"
	// ReasonSelfReview: an identity asks about itself, which is always allowed.
	ReasonSelfReview Reason = "SelfReview"
	// ReasonEvaluation: a rule's expression failed or ran out of its time.
	ReasonEvaluation Reason = "Evaluation"
	// ReasonVersion: a rule looks into the object, and does not know the version that the
	// object came in.
	ReasonVersion Reason = "Version"
	// ReasonPolicyInvalid: a policy that selects the Agent does not compile, and there is
	// no last good one.
	ReasonPolicyInvalid Reason = "PolicyInvalid"
	// ReasonInvalidObject: an object of Holdfast's own kinds was refused.
	ReasonInvalidObject Reason = "InvalidObject"
	// ReasonBadRequest: the webhook was sent something that is no request it knows.
	ReasonBadRequest Reason = "BadRequest"
	// ReasonPending: people have not decided yet.
	ReasonPending Reason = "Pending"
	// ReasonApproved: people approved exactly this change.
	ReasonApproved Reason = "Approved"
	// ReasonReviewDenied: a reviewer said no.
	ReasonReviewDenied Reason = "ReviewDenied"
	// ReasonNotHoldable: people would have to approve, but a request of this kind cannot
	// wait for them.
	ReasonNotHoldable Reason = "NotHoldable"
	// ReasonTooManyPending: the agent has as many requests waiting as it may.
	ReasonTooManyPending Reason = "TooManyPending"
	// ReasonGranted: people approved what the agent asked for, for a while.
	ReasonGranted Reason = "Granted"
	// ReasonOwnRequest: an agent asks for access, or looks at what it asked for.
	ReasonOwnRequest Reason = "OwnRequest"
	// ReasonUnseen: a rule looks into the object, and the object is not to be seen.
	ReasonUnseen Reason = "Unseen"
	// ReasonAsked: an agent asks for something ahead, which people will decide.
	ReasonAsked Reason = "Asked"
	// ReasonNotAgent: the identity is no agent; Holdfast has no say.
	ReasonNotAgent Reason = "NotAgent"
)
