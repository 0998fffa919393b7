package audit

import (
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// Testify returns what a complete event says of AccessRequests and Reviews; nothing for most.
// It rests on the decisions that are verified, by the keys in signed, and on no others.
func Testify(ev *auditv1.Event, signed []string) decision.Testimony {
	var t decision.Testimony
	if ev.Stage != auditv1.StageResponseComplete || ev.ResponseStatus == nil || len(signed) == 0 {
		return t
	}
	records, _ := Decisions(ev, signed)
	for i := range records {
		r := &records[i]
		switch {
		case !r.Verified:
		case r.Webhook == decision.GuardWebhook && r.Reason == decision.ReasonApproved && r.AccessRequest != "":
			t.Outcomes = append(t.Outcomes, decision.Outcome{
				AccessRequest: r.AccessRequest, DecisionID: r.ID, Status: int(ev.ResponseStatus.Code),
			})
		case r.Webhook == decision.OwnWebhook && r.Review != "" && ev.ImpersonatedUser != nil && isReview(ev):
			t.Impersonated = append(t.Impersonated, decision.Impersonated{
				Review: r.Review, By: ev.User.Username, As: ev.ImpersonatedUser.Username,
			})
		}
	}
	return t
}

func isReview(ev *auditv1.Event) bool {
	o := ev.ObjectRef
	return ev.Verb == "create" && o != nil && o.APIGroup == v1alpha1.Group && o.Resource == "reviews"
}
