package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/kubectl-holdfast/internal/follow"
	"github.com/holdfast-dev/holdfast/cmd/kubectl-holdfast/internal/show"
	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

func watchCommand(a *app) *cobra.Command {
	var s selection
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Show requests live, a line for each change, until Ctrl-C",
		Long: `Show the AccessRequests that are not ended, and then a line for each change: new requests, reasons,
reviews and whether they count, decisions, uses. Times are those of this machine.

With plain kubectl:
  kubectl get accessrequests --watch`,
		Args: cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return watchRequests(cmd.Context(), a, &s) }
	s.add(a, cmd)
	return cmd
}

func watchRequests(ctx context.Context, a *app, s *selection) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	options, err := s.options(ctx, c)
	if err != nil {
		return err
	}
	line := func(old, next *v1alpha1.AccessRequest) {
		if text := show.Change(old, next, a.now()); text != "" {
			a.say("%s", text)
		}
	}
	err = follow.Requests(ctx, follow.Config{
		Client: c, Options: options, Lost: a.lost,
		Handler: func(old, next *v1alpha1.AccessRequest) error {
			line(old, next)
			return nil
		},
		Snapshot: func(list []v1alpha1.AccessRequest) error {
			show.Sort(list)
			open := 0
			for i := range list {
				if !access.Ended(list[i].Status.Phase) {
					open++
					line(nil, &list[i])
				}
			}
			if open == 0 {
				a.note("No agent waits for anything; showing what comes.")
			}
			return nil
		},
	})
	if errors.Is(err, context.Canceled) {
		// Ctrl-C is how it ends.
		return nil
	}
	return explain("watch requests", err)
}
