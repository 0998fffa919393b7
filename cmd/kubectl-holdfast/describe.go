package main

import (
	"context"
	"strings"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/cmd/kubectl-holdfast/internal/show"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

func describeCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "describe NAME",
		Short: "Show all that an approver needs: who, what, why, the change, its impact",
		Long: `Show one AccessRequest as an approver wants to see it: who asks for what and why, which rules
hold it and who may approve, what is missing, what would be affected, the change, the reviews
so far and why some do not count.

Words of the agent stand behind a bar, with control characters made visible.

With plain kubectl:
  kubectl get accessrequest NAME -o yaml
  kubectl get agent NAME-OF-THE-AGENT -o yaml     # its owner`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeRequests(1, anyRequest),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return describe(cmd.Context(), a, args[0]) }
	return cmd
}

func describe(ctx context.Context, a *app, name string) error {
	c, r, err := a.request(ctx, name)
	if err != nil {
		return err
	}
	d := show.Description{Request: r, Now: a.now(), Palette: a.palette()}
	var agent v1alpha1.Agent
	switch err := c.Get(ctx, client.ObjectKey{Name: r.Spec.Agent}, &agent); {
	case err == nil:
		d.Agent = &agent
	case apierrors.IsNotFound(err):
		d.NoAgent = "no such Agent: its owner is unknown"
	case apierrors.IsForbidden(err):
		d.NoAgent = "you may not read Agents: its owner is not shown"
	default:
		return explain("read agent "+r.Spec.Agent, err)
	}
	d.Print(a.streams.Out)
	return nil
}

// bare takes "agent/" and its likes off a name.
func bare(name string, kinds ...string) string {
	kind, rest, ok := strings.Cut(name, "/")
	if !ok {
		return name
	}
	kind = strings.TrimSuffix(kind, "."+v1alpha1.Group)
	for _, k := range kinds {
		if kind == k {
			return rest
		}
	}
	return name
}
