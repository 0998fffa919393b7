package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/cmd/kubectl-holdfast/internal/show"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// ask is what the flags of request say.
type ask struct {
	verbs         []string
	resources     []string
	namespaces    []string
	allNamespaces bool
	lasts         time.Duration
	reason        string
	dryRun        string
	format        string
	wait          bool
	timeout       time.Duration
}

func requestCommand(a *app) *cobra.Command {
	var q ask
	cmd := &cobra.Command{
		Use:   "request --verbs VERB,... --resource RESOURCE[.GROUP][/SUBRESOURCE][/NAME]... [-n NAMESPACE] [--for 10m] [--reason WHY]",
		Short: "Ask ahead: for a time, to do what you may not do by yourself; for agents",
		Long: `Ask for access before you need it, by making an AccessRequest. Once people have approved it, it is
granted for --for, counted from the approval. What may be asked for, and who has to agree, is in
spec.requestable of AgentPolicies. What a policy denies no approval lifts.

Verbs are get, list, watch, create, update, patch and delete. Get, update, patch and delete take
names; list, watch and create without one are for all there are, or will be. Several --resource
are several names of one kind. A kind can be written as kubectl takes it (deploy/web), if the API
server may be asked for its kinds, or in full and plural (deployments.apps/web).

Exit status with --wait: as that of "wait".

With plain kubectl:
  kubectl create -f - <<EOF
  apiVersion: holdfast.dev/v1alpha1
  kind: AccessRequest
  metadata: {generateName: asked-}
  spec:
    reason: "..."
    access: {verbs: [get], apiGroups: [""], resources: [secrets], namespaces: [prod], names: [db], duration: 10m}
  EOF`,
		Example: `  kubectl holdfast request --verbs get --resource secrets/db -n prod --for 10m --reason "the pool is exhausted; I look which password it uses" --wait
  kubectl holdfast request --verbs get,patch --resource deployments.apps/web --resource deployments.apps/api -n shop
  kubectl holdfast request --verbs create --resource pods/exec/web-0 -n shop
  kubectl holdfast request --verbs list --resource pods -n shop -o name`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		err := q.run(cmd.Context(), a)
		var known *exit
		if err != nil && q.wait && !errors.As(err, &known) {
			err = &exit{exitUnknown, err}
		}
		return err
	}
	q.add(cmd)
	return cmd
}

func (q *ask) add(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringSliceVar(&q.verbs, "verbs", nil, "What you would do, separated by commas: get, list, watch, create, update, patch, delete. Required.")
	f.StringSliceVar(&q.resources, "resource", nil, "To what: RESOURCE/NAME, RESOURCE, or RESOURCE/SUBRESOURCE/NAME; of one kind, several times. Required.")
	f.StringSliceVarP(&q.namespaces, "namespace", "n", nil, "In which namespaces. Left out: that of the current context.")
	f.BoolVarP(&q.allNamespaces, "all-namespaces", "A", false, "In all namespaces at once; for list and watch.")
	f.DurationVar(&q.lasts, "for", 0, "How long it is to be granted, counted from the approval. Left out: 10m, or as long as may be asked for where that is less.")
	f.StringVar(&q.reason, "reason", "", "Why; approvers see it. It can be given later, once: \"reason\".")
	f.StringVar(&q.dryRun, "dry-run", "none", "\"client\" only prints what would be sent, \"server\" sends it without keeping it.")
	f.StringVarP(&q.format, "output", "o", "", "Output format. One of: (json, yaml, name).")
	f.BoolVar(&q.wait, "wait", false, "Wait until it is decided.")
	f.DurationVar(&q.timeout, "timeout", 0, "With --wait, how long at most; 0 waits until the request's own time is over.")
	_ = cmd.RegisterFlagCompletionFunc("verbs", cobra.FixedCompletions([]string{"get", "list", "watch", "create", "update", "patch", "delete"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "yaml", "name"}, cobra.ShellCompDirectiveNoFileComp))
	_ = cmd.RegisterFlagCompletionFunc("dry-run", cobra.FixedCompletions([]string{"none", "client", "server"}, cobra.ShellCompDirectiveNoFileComp))
}

func (q *ask) validate() error {
	switch {
	case len(q.verbs) == 0:
		return errors.New("--verbs: say what you would do: get, list, watch, create, update, patch, delete")
	case len(q.resources) == 0:
		return errors.New("--resource: say to what, such as secrets/db or deployments.apps/web")
	case q.allNamespaces && len(q.namespaces) > 0:
		return errors.New("--namespace and --all-namespaces exclude each other")
	case q.lasts < 0:
		return fmt.Errorf("--for=%s: want more than 0", q.lasts)
	case q.dryRun != "none" && q.dryRun != "client" && q.dryRun != "server":
		return fmt.Errorf("--dry-run=%s: want none, client or server", q.dryRun)
	case q.wait && q.dryRun != "none":
		return errors.New("--wait: a dry run makes nothing to wait for")
	case q.timeout != 0 && !q.wait:
		return errors.New("--timeout is for --wait")
	case q.timeout < 0:
		return fmt.Errorf("--timeout=%s: want 0 or more", q.timeout)
	}
	switch q.format {
	case "", "json", "yaml", "name":
		return nil
	default:
		return fmt.Errorf("--output=%s: want one of json, yaml, name", q.format)
	}
}

func (q *ask) run(ctx context.Context, a *app) error {
	if err := q.validate(); err != nil {
		return err
	}
	wanted, err := parseWanted(q.resources)
	if err != nil {
		return err
	}
	access, err := q.access(a, wanted)
	if err != nil {
		return err
	}
	r := &v1alpha1.AccessRequest{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "asked-"},
		Spec:       v1alpha1.AccessRequestSpec{Origin: v1alpha1.Asked, Reason: q.reason, Access: *access, Rules: []v1alpha1.HoldingRule{}},
	}
	if q.dryRun == "client" {
		return q.show(a, r)
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	var options []client.CreateOption
	if q.dryRun == "server" {
		options = append(options, client.DryRunAll)
	}
	if err := c.Create(ctx, r, options...); err != nil {
		return explain("ask to "+show.Wants(r), err)
	}
	if q.wait {
		return q.await(ctx, a, c, r)
	}
	return q.show(a, r)
}

// access is what the flags ask for.
func (q *ask) access(a *app, w *wanted) (*v1alpha1.Access, error) {
	if err := w.resolve(a); err != nil {
		return nil, err
	}
	access := &v1alpha1.Access{APIGroups: []string{w.group}, Resources: []string{w.full()}, Names: w.names}
	for _, verb := range q.verbs {
		access.Verbs = append(access.Verbs, strings.ToLower(strings.TrimSpace(verb)))
	}
	if q.lasts > 0 {
		access.Duration = &metav1.Duration{Duration: q.lasts}
	}
	switch {
	case q.allNamespaces, w.scope == clusterScoped:
	case len(q.namespaces) > 0:
		access.Namespaces = q.namespaces
	case w.scope == namespaced:
		namespace, _, err := a.flags.ToRawKubeConfigLoader().Namespace()
		if err != nil {
			return nil, fmt.Errorf("read the namespace of the current context (or say --namespace): %w", err)
		}
		access.Namespaces = []string{namespace}
	default:
		a.note("Whether %s are in namespaces is not known: asking for what is in none; say --namespace where that is wrong.", show.Line(w.full()))
	}
	return access, nil
}

// show prints what was asked, and who can decide on it.
func (q *ask) show(a *app, r *v1alpha1.AccessRequest) error {
	if q.format != "" {
		return (&output{format: q.format}).print(a, []runtime.Object{r}, true)
	}
	if q.dryRun != "none" {
		a.say("would ask to %s (%s dry run)", show.Wants(r), q.dryRun)
		return nil
	}
	name := show.Line(r.Name)
	lasts := ""
	if r.Spec.Access.Duration != nil {
		lasts = " for " + r.Spec.Access.Duration.Duration.String()
	}
	a.say("%s asks to %s%s", name, show.Wants(r), lasts)
	for i := range r.Spec.Rules {
		rule := &r.Spec.Rules[i]
		a.say("  %s", show.Needs(rule))
		if rule.ReasonRequired && r.Spec.Reason == "" {
			a.say("    and your reason first: kubectl holdfast reason %s \"WHY\"", name)
		}
	}
	a.say("To approve: kubectl holdfast approve %s", name)
	a.say("To wait:    kubectl holdfast wait %s", name)
	return nil
}

// await waits for the decision. For machines only the object as it then is goes to the
// output.
func (q *ask) await(ctx context.Context, a *app, c client.Client, r *v1alpha1.AccessRequest) error {
	forPeople := *a
	forPeople.streams.Out = a.streams.ErrOut
	if q.format == "" {
		if err := q.show(a, r); err != nil {
			return err
		}
		return wait(ctx, a, r.Name, q.timeout)
	}
	decided := wait(ctx, &forPeople, r.Name, q.timeout)
	if last, err := request(ctx, c, r.Name); err == nil {
		r = last
	}
	return errors.Join(decided, q.show(a, r))
}
