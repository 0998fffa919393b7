package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/cmd/kubectl-holdfast/internal/show"
	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

func reasonCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   `reason NAME "WHY"`,
		Short: "Say why you ask, once; for the agent that made the request",
		Long: `Write the reason of an AccessRequest. Only who made the request can, and only once. Approvers see
it; some rules keep a request from being approved without one.

With plain kubectl:
  kubectl patch accessrequest NAME --type=merge -p '{"spec":{"reason":"WHY"}}'`,
		Example: `  kubectl holdfast reason 3f2a9c-1 "prod-a moved to the new cluster on Monday; this is what is left"`,
		Args:    cobra.MatchAll(cobra.ExactArgs(2), notBlank(1, "the reason")),

		ValidArgsFunction: a.completeRequests(1, openRequest),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return write(cmd.Context(), a, args[0], map[string]any{"reason": args[1]}, func(r *v1alpha1.AccessRequest) (string, error) {
			switch {
			case r.Spec.Reason == args[1]:
				return "says that already", nil
			case r.Spec.Reason != "":
				return "", fmt.Errorf("request %s has its reason, and a reason is given once", r.Name)
			case access.Ended(r.Status.Phase):
				return "", fmt.Errorf("request %s is %s: a reason changes nothing any more", r.Name, r.Status.Phase)
			}
			return "", nil
		}, "has its reason; approvers see it now")
	}
	return cmd
}

func withdrawCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "withdraw NAME",
		Short: "Take a request back; for the agent that made it",
		Long: `Withdraw an AccessRequest, or an approval that has not been used. Only who made the request can,
and it stays withdrawn.

With plain kubectl:
  kubectl patch accessrequest NAME --type=merge -p '{"spec":{"withdrawn":true}}'`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeRequests(1, openRequest),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return write(cmd.Context(), a, args[0], map[string]any{"withdrawn": true}, func(r *v1alpha1.AccessRequest) (string, error) {
			switch {
			case r.Spec.Withdrawn:
				return "is withdrawn already", nil
			case r.Status.Phase == v1alpha1.Redeemed, access.Ended(r.Status.Phase):
				return "", fmt.Errorf("request %s is %s: there is nothing left to withdraw", r.Name, r.Status.Phase)
			}
			return "", nil
		}, "is withdrawn")
	}
	return cmd
}

// notBlank refuses an argument of spaces.
func notBlank(i int, what string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if strings.TrimSpace(args[i]) == "" {
			return errors.New(what + " must not be empty")
		}
		return nil
	}
}

// write patches the spec of a request. check may say that there is nothing to do, or that it
// makes no sense; who may patch but not read is not checked.
func write(ctx context.Context, a *app, name string, spec map[string]any, check func(*v1alpha1.AccessRequest) (string, error), done string) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	name = bare(name, "accessrequest", "accessrequests", "ar")
	r, err := request(ctx, c, name)
	switch {
	case err == nil:
		already, err := check(r)
		if err != nil {
			return err
		}
		if already != "" {
			a.say("%s %s", show.Line(name), already)
			return nil
		}
	case !apierrors.IsForbidden(err):
		return err
	}
	target := &v1alpha1.AccessRequest{}
	target.Name = name
	if err := patchSpec(ctx, c, target, spec); err != nil {
		return explain("write to request "+name, err)
	}
	a.say("%s %s", show.Line(name), done)
	return nil
}

// patchSpec sends a JSON merge patch for fields of an object's spec.
func patchSpec(ctx context.Context, c client.Client, object client.Object, spec map[string]any) error {
	patch, err := json.Marshal(map[string]any{"spec": spec})
	if err != nil {
		return fmt.Errorf("write the patch: %w", err)
	}
	return c.Patch(ctx, object, client.RawPatch(types.MergePatchType, patch))
}
