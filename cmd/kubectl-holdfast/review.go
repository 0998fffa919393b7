package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/cmd/kubectl-holdfast/internal/show"
	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// How long approve, deny and revoke look for what became of the request, and how often.
const (
	outcomeWait  = 5 * time.Second
	outcomeEvery = 200 * time.Millisecond
)

func approveCommand(a *app) *cobra.Command {
	var comment string
	cmd := &cobra.Command{
		Use:   "approve NAME [-m COMMENT]",
		Short: "Approve a request: exactly that change, once, or what was asked for a time",
		Long: `Approve an AccessRequest by making a Review, and say what became of it. An approval lets exactly
the change that "describe" shows pass, once. What an agent asked ahead is granted from then on, for
as long as it asked.

Reviews of agents, of the requester and, unless a rule says so, of the agent's owner do not
count; nor does a second one of the same person. Exit status 1 where yours does not.

With plain kubectl:
  kubectl create -f - <<EOF
` + reviewManifest("Approve") + `  EOF`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeRequests(1, show.Pending),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return review(cmd.Context(), a, args[0], v1alpha1.Approve, comment)
	}
	cmd.Flags().StringVarP(&comment, "message", "m", "", "Comment to keep with the approval.")
	return cmd
}

func denyCommand(a *app) *cobra.Command {
	var comment string
	cmd := &cobra.Command{
		Use:   "deny NAME -m COMMENT",
		Short: "Deny a request, and tell the agent why",
		Long: `Deny an AccessRequest by making a Review. One Deny of an approver ends it. The agent is told the
comment, and gets it again for the same request until the time of this one is over. What is
approved already is taken back with "revoke".

With plain kubectl:
  kubectl create -f - <<EOF
` + reviewManifest("Deny") + `  EOF`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeRequests(1, show.Pending),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if strings.TrimSpace(comment) == "" {
			return errors.New("say why with -m: the agent is told, and can do better next time")
		}
		return review(cmd.Context(), a, args[0], v1alpha1.Reject, comment)
	}
	cmd.Flags().StringVarP(&comment, "message", "m", "", "Why; the agent is told. Required.")
	return cmd
}

func revokeCommand(a *app) *cobra.Command {
	var comment string
	cmd := &cobra.Command{
		Use:   "revoke NAME -m COMMENT",
		Short: "Take back an approval that has not been used",
		Long: `Take back an approval by making a Review with verdict Deny of a request that is approved. Whoever may
approve it may do that, those who did included. Once the agent's request has been let pass it
is too late. What was granted for a time ends at once. The same change can be asked for again; "suspend" stops the agent altogether.

With plain kubectl:
  kubectl create -f - <<EOF
` + reviewManifest("Deny") + `  EOF`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeRequests(1, approvedRequest),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if strings.TrimSpace(comment) == "" {
			return errors.New("say why with -m: it is kept with the request")
		}
		c, r, err := a.request(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		if !approvedRequest(r) {
			return notApproved(r, a.now())
		}
		return makeReview(cmd.Context(), a, c, r, v1alpha1.Reject, comment)
	}
	cmd.Flags().StringVarP(&comment, "message", "m", "", "Why; it is kept with the request. Required.")
	return cmd
}

func reviewManifest(verdict string) string {
	return `  apiVersion: holdfast.dev/v1alpha1
  kind: Review
  metadata: {generateName: review-}
  spec: {accessRequest: NAME, verdict: ` + verdict + `, comment: "..."}
`
}

func review(ctx context.Context, a *app, name string, verdict v1alpha1.Verdict, comment string) error {
	c, r, err := a.request(ctx, name)
	if err != nil {
		return err
	}
	if !show.Pending(r) {
		return tooLate(r, a.now())
	}
	return makeReview(ctx, a, c, r, verdict, comment)
}

func makeReview(ctx context.Context, a *app, c client.Client, r *v1alpha1.AccessRequest, verdict v1alpha1.Verdict, comment string) error {
	if a.flags.Impersonate != nil && *a.flags.Impersonate != "" {
		a.note("Warning: a review made under impersonation (--as) is voided as soon as the audit log shows it.")
	}
	v := &v1alpha1.Review{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "review-"},
		Spec:       v1alpha1.ReviewSpec{AccessRequest: r.Name, Verdict: verdict, Comment: comment},
	}
	if err := c.Create(ctx, v); err != nil {
		return explain("review "+r.Name, err)
	}
	text, err := await(ctx, a, c, v)
	if text != "" {
		a.say("%s", text)
	}
	return err
}

// tooLate says that a review changes nothing any more, and what would.
func tooLate(r *v1alpha1.AccessRequest, now time.Time) error {
	hint := ""
	if approvedRequest(r) {
		hint = fmt.Sprintf("; to take the approval back before it is used: kubectl holdfast revoke %s -m COMMENT", r.Name)
	}
	return fmt.Errorf("request %s waits for nobody: %s. No review was made%s", r.Name, show.Standing(r, now), hint)
}

// notApproved says that there is no approval to take back, and what there is to do.
func notApproved(r *v1alpha1.AccessRequest, now time.Time) error {
	hint := ""
	if show.Pending(r) {
		hint = fmt.Sprintf("; to refuse it: kubectl holdfast deny %s -m COMMENT", r.Name)
	}
	return fmt.Errorf("request %s has no approval to take back: %s. No review was made%s", r.Name, show.Standing(r, now), hint)
}

// await looks for what a review did, for a short time. A Review that has not been counted by
// then is no error: it is stored, and will be.
func await(ctx context.Context, a *app, c client.Client, v *v1alpha1.Review) (string, error) {
	deadline, cancel := context.WithTimeout(ctx, outcomeWait)
	defer cancel()
	tick := time.NewTicker(outcomeEvery)
	defer tick.Stop()
	for {
		var r v1alpha1.AccessRequest
		err := c.Get(deadline, client.ObjectKey{Name: v.Spec.AccessRequest}, &r)
		if err != nil && deadline.Err() == nil {
			return "", explain(fmt.Sprintf("review %s is made; read what became of %s", v.Name, v.Spec.AccessRequest), err)
		}
		if err == nil {
			if text, done, err := outcome(&r, v, a.now()); done {
				return text, err
			}
		}
		select {
		case <-deadline.Done():
			if ctx.Err() != nil {
				return "", fmt.Errorf("review %s is made; stopped before it was counted: %w", v.Name, ctx.Err())
			}
			a.note("Review %s is made, but Holdfast has not counted it within %s. Is its webhook running? See later: kubectl holdfast describe %s",
				show.Line(v.Name), outcomeWait, show.Line(v.Spec.AccessRequest))
			return "", nil
		case <-tick.C:
		}
	}
}

// outcome is what became of a request by a review; done is false while nothing has. An error
// says that the review did nothing.
func outcome(r *v1alpha1.AccessRequest, v *v1alpha1.Review, now time.Time) (text string, done bool, err error) {
	name, standing := show.Line(r.Name), show.Standing(r, now)
	var mine *v1alpha1.ReviewCopy
	for i := range r.Status.Reviews {
		if r.Status.Reviews[i].Name == v.Name {
			mine = &r.Status.Reviews[i]
		}
	}
	switch {
	case mine != nil && mine.Refused != "":
		return "", true, fmt.Errorf("your review of %s does not count: %s. The request is %s", name, mine.Refused, standing)
	case mine != nil && show.Pending(r):
		if len(access.Missing(r, r.Status.Reviews)) == 0 || v.Spec.Verdict == v1alpha1.Reject {
			// Counted, and about to move on.
			return "", false, nil
		}
		return fmt.Sprintf("%s: your approval counts for %s; it still waits: %s",
			name, show.Line(strings.Join(mine.Rules, ", ")), standing), true, nil
	case show.Pending(r):
		return "", false, nil
	}
	switch r.Status.Phase {
	case v1alpha1.Approved, v1alpha1.Redeemed, v1alpha1.Used:
		if v.Spec.Verdict == v1alpha1.Reject && r.Status.Phase == v1alpha1.Approved {
			// It takes the approval back as soon as it is counted.
			return "", false, nil
		}
		if v.Spec.Verdict == v1alpha1.Approve {
			if show.Asked(r) {
				return fmt.Sprintf("%s is approved: the agent may do that as often as it likes until its time is over. It is %s", name, standing), true, nil
			}
			return fmt.Sprintf("%s is approved: exactly that change may pass, once. It is %s", name, standing), true, nil
		}
	case v1alpha1.Denied:
		if v.Spec.Verdict == v1alpha1.Reject {
			return fmt.Sprintf("%s is denied: %s", name, standing), true, nil
		}
	case v1alpha1.Revoked:
		if v.Spec.Verdict == v1alpha1.Reject {
			if show.Asked(r) {
				return fmt.Sprintf("%s is revoked, and grants nothing any more: %s", name, standing), true, nil
			}
			return fmt.Sprintf("%s is revoked, and was not used: %s", name, standing), true, nil
		}
	case v1alpha1.Pending, v1alpha1.Expired, v1alpha1.Withdrawn:
	}
	return "", true, fmt.Errorf("your review of %s came too late: the request is %s", name, standing)
}
