package main

import (
	"github.com/spf13/cobra"
)

const rootLong = `See what agents wait for, decide on it, and stop an agent.

An agent's request that a policy holds becomes an AccessRequest; so does what an agent asks for ahead. People approve or deny it by
making a Review. Everything here can be done with plain kubectl too, under the same rights;
the help of each command says how:

  kubectl get accessrequests      # short: ar
  kubectl get agents,agentpolicies,reviews

Completion of "kubectl holdfast": put an executable named kubectl_complete-holdfast into
your PATH that contains

  #!/bin/sh
  exec kubectl holdfast __complete "$@"`

// rootCommand is kubectl holdfast.
func rootCommand(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:           "kubectl-holdfast",
		Short:         "See and decide what agents wait for",
		Long:          rootLong,
		SilenceUsage:  true,
		SilenceErrors: true,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl holdfast"},
	}
	root.SetIn(a.streams.In)
	root.SetOut(a.streams.Out)
	root.SetErr(a.streams.ErrOut)
	// All of Holdfast's kinds are cluster-scoped.
	a.flags.Namespace = nil
	a.flags.AddFlags(root.PersistentFlags())
	// It fails for flags that do not exist.
	_ = root.RegisterFlagCompletionFunc("context", a.completeContexts)
	root.AddCommand(
		getCommand(a), describeCommand(a), watchCommand(a), waitCommand(a),
		approveCommand(a), denyCommand(a), revokeCommand(a),
		requestCommand(a), reasonCommand(a), withdrawCommand(a),
		agentsCommand(a), agentCommand(a), suspendCommand(a), resumeCommand(a),
		policyCommand(a),
	)
	return root
}
