package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/cmd/kubectl-holdfast/internal/show"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

func agentsCommand(a *app) *cobra.Command {
	var o output
	cmd := &cobra.Command{
		Use:   "agents [NAME...]",
		Short: "Show who is an agent, who owns it, which policies judge it, and when it was last active",
		Long: `List the Agents: the identities that are each of them, the owner, whether it is suspended, whether
all its requests reach Holdfast (IN-NET), which policies select it, and how long ago it last
tried to change something (LAST-ACTIVITY, to a minute; reads do not count yet).

Without the right to list AgentPolicies, POLICIES is their number.

With plain kubectl:
  kubectl get agents -o wide
  kubectl get agentpolicies -o custom-columns=NAME:.metadata.name,AGENTS:.spec.agents`,
		ValidArgsFunction: a.completeAgents(func(*v1alpha1.Agent) bool { return true }, ""),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return agents(cmd.Context(), a, args, &o) }
	o.add(cmd)
	return cmd
}

func agents(ctx context.Context, a *app, names []string, o *output) error {
	t, forPeople, err := o.table(a)
	if err != nil {
		return err
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	var list v1alpha1.AgentList
	if len(names) == 0 {
		if err := c.List(ctx, &list); err != nil {
			return explain("list agents", err)
		}
	}
	for _, name := range names {
		var agent v1alpha1.Agent
		if err := c.Get(ctx, client.ObjectKey{Name: agentName(name)}, &agent); err != nil {
			return explain("read agent "+name, err)
		}
		list.Items = append(list.Items, agent)
	}
	if !forPeople {
		objects := make([]runtime.Object, 0, len(list.Items))
		for i := range list.Items {
			objects = append(objects, &list.Items[i])
		}
		return o.print(a, objects, len(names) == 1)
	}
	if len(list.Items) == 0 {
		a.note("No Agents are declared: Holdfast judges nobody yet.")
		return nil
	}
	policies, err := readPolicies(ctx, a, c)
	if err != nil {
		return err
	}
	return show.Agents(a.streams.Out, list.Items, policies, t)
}

// readPolicies lists all policies; nil, with a note, where that is not allowed.
func readPolicies(ctx context.Context, a *app, c client.Client) (*v1alpha1.AgentPolicyList, error) {
	var list v1alpha1.AgentPolicyList
	switch err := c.List(ctx, &list); {
	case apierrors.IsForbidden(err):
		a.note("You may not list AgentPolicies: only their number is shown.")
		return nil, nil //nolint:nilnil // not known
	case err != nil:
		return nil, explain("list policies", err)
	}
	return &list, nil
}

func agentName(name string) string { return bare(name, "agent", "agents") }

func suspendCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "suspend (agent/NAME | NAME)...",
		Short: "Stop an agent: every change it tries is denied from now on (reads are not, yet)",
		Long: `Set spec.suspended of Agents: what such an agent does is denied, held requests and unused approvals
included, until "resume".

With plain kubectl:
  kubectl patch agent NAME --type=merge -p '{"spec":{"suspended":true}}'`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeAgents(func(agent *v1alpha1.Agent) bool { return !agent.Spec.Suspended }, "agent/"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return suspend(cmd.Context(), a, args, true)
	}
	return cmd
}

func resumeCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resume (agent/NAME | NAME)...",
		Short: "Let a suspended agent act again, under its policies",
		Long: `Take spec.suspended of Agents back.

With plain kubectl:
  kubectl patch agent NAME --type=merge -p '{"spec":{"suspended":false}}'`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: a.completeAgents(func(agent *v1alpha1.Agent) bool { return agent.Spec.Suspended }, "agent/"),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return suspend(cmd.Context(), a, args, false)
	}
	return cmd
}

// suspend writes without reading first: the kill switch needs no more rights, nor time, than
// it must. One agent that fails keeps none of the others from being stopped.
func suspend(ctx context.Context, a *app, names []string, suspended bool) error {
	c, err := a.connect()
	if err != nil {
		return err
	}
	doing, done := "suspend", "is suspended: every change it tries is denied (reads are not, yet)"
	if !suspended {
		doing, done = "resume", "acts again, under its policies"
	}
	var failed []error
	for _, name := range names {
		agent := &v1alpha1.Agent{}
		agent.Name = agentName(name)
		if err := patchSpec(ctx, c, agent, map[string]any{"suspended": suspended}); err != nil {
			failed = append(failed, explain(fmt.Sprintf("%s agent/%s", doing, agent.Name), err))
			continue
		}
		a.say("agent/%s %s", show.Line(agent.Name), done)
	}
	return errors.Join(failed...)
}
