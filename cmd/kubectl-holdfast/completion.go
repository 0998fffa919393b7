package main

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/kubectl-holdfast/internal/show"
	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// completionTimeout bounds how long a Tab may take.
const completionTimeout = 3 * time.Second

// completer is what cobra calls for an argument or a flag's value.
type completer = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective)

// Which requests a command takes.
func anyRequest(*v1alpha1.AccessRequest) bool    { return true }
func openRequest(r *v1alpha1.AccessRequest) bool { return !access.Ended(r.Status.Phase) }

// approvedRequest says that there is an approval to take back.
func approvedRequest(r *v1alpha1.AccessRequest) bool { return r.Status.Phase == v1alpha1.Approved }

// completeRequests completes names of requests: up to most of them, 0 for any number.
func (a *app) completeRequests(most int, want func(*v1alpha1.AccessRequest) bool) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if most > 0 && len(args) >= most {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		c, err := a.connect()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var list v1alpha1.AccessRequestList
		if err := c.List(ctx, &list); err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		show.Sort(list.Items)
		var names []string
		for i := range list.Items {
			r := &list.Items[i]
			if want(r) && !slices.Contains(args, r.Name) {
				names = append(names, r.Name+"\t"+show.Line(r.Spec.Agent)+": "+show.Wants(r))
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

// completeAgents completes names of agents, with a prefix in front of each.
func (a *app) completeAgents(want func(*v1alpha1.Agent) bool, prefix string) completer {
	return func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		c, err := a.connect()
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var list v1alpha1.AgentList
		if err := c.List(ctx, &list); err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var names []string
		for i := range list.Items {
			if name := prefix + list.Items[i].Name; want(&list.Items[i]) && !slices.Contains(args, name) {
				names = append(names, name)
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}

func (a *app) completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	config, err := a.flags.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return slices.Sorted(maps.Keys(config.Contexts)), cobra.ShellCompDirectiveNoFileComp
}
