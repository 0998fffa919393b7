package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/cmd/kubectl-holdfast/internal/onboard"
	"github.com/holdfast-dev/holdfast/cmd/kubectl-holdfast/internal/show"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// netPatience is how long it is waited for Holdfast to say whether the net covers an agent.
const netPatience = 10 * time.Second

// sameLife is how much another life of a token than that asked for goes without saying.
const sameLife = time.Minute

// me stands for whoever runs the command.
const me = "me"

func agentCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Give an agent an identity and a kubeconfig of its own, or take them away",
		Long: `A kubeconfig of yours in an agent's hands is you. These commands make an agent an identity of its
own: a service account, the Agent that declares it, what it may do, and a kubeconfig with a token
that ends.

With plain kubectl: the help of each command says how.`,
		Args: cobra.NoArgs,
	}
	list := agentsCommand(a)
	list.Use, list.Aliases = "list [NAME...]", nil
	cmd.AddCommand(agentAddCommand(a), agentKubeconfigCommand(a), agentRemoveCommand(a), list)
	return cmd
}

// credentials are --for and --out.
type credentials struct {
	life time.Duration
	out  string
}

func (c *credentials) add(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&c.life, "for", 8*time.Hour, "How long the kubeconfig's token lives, if the API server gives that long; at least 10m.")
	cmd.Flags().StringVar(&c.out, "out", "", "File to write the kubeconfig to, readable by you alone; - for standard output. Left out: NAME.kubeconfig.")
}

// file is where the kubeconfig goes.
func (c *credentials) file(agent string) string {
	if c.out == "" {
		return agent + ".kubeconfig"
	}
	return c.out
}

func (c *credentials) validate(agent string) error {
	if c.life < onboard.MinLife {
		return fmt.Errorf("--for=%s: want at least %s, which is the API server's least", c.life, onboard.MinLife)
	}
	if c.out == "-" {
		return nil
	}
	return onboard.Free(c.file(agent), agent)
}

func agentAddCommand(a *app) *cobra.Command {
	var p onboard.Plan
	var c credentials
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "add NAME --namespaces NAMESPACE,... [--owner me] [--policy POLICY]... [--for 8h]",
		Short: "Make an agent: its service account, Agent, rights and kubeconfig",
		Long: `Make, or make so, what an agent needs:
  the service account NAME in --namespace, which is for agents alone: all its accounts are
  inside the net, and those that no Agent declares are denied everything
  the Agent NAME, which is that account, with you as --owner
  its name in the agents of each --policy, where no pattern covers it
  role bindings of --role in --namespaces, and of holdfast-agent, to ask with
  a kubeconfig with a token for --for, for the API server of the current context

Run again with other flags it changes what it has made, and nothing else. All of it but the
kubeconfig carries the labels app.kubernetes.io/managed-by=kubectl-holdfast and
holdfast.dev/agent=NAME.

With plain kubectl:
  kubectl create serviceaccount NAME -n agents
  kubectl create -f - <<EOF
  apiVersion: holdfast.dev/v1alpha1
  kind: Agent
  metadata: {name: NAME}
  spec: {subjects: [{kind: ServiceAccount, namespace: agents, name: NAME}], owner: {kind: User, name: you}}
  EOF
  kubectl create rolebinding holdfast-agent-NAME --clusterrole=edit --serviceaccount=agents:NAME -n NAMESPACE
  kubectl create clusterrolebinding holdfast-agent-NAME --clusterrole=holdfast-agent --serviceaccount=agents:NAME
  kubectl create token NAME -n agents --duration=8h`,
		Example: `  kubectl holdfast agent add claude --namespaces shop,shop-staging --policy shop-debugging
  KUBECONFIG=claude.kubeconfig kubectl get pods`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		p.Name = agentName(args[0])
		return addAgent(cmd.Context(), a, &p, &c, dryRun)
	}
	f := cmd.Flags()
	f.StringVar(&p.Owner, "owner", me, "User who answers for the agent, and whose approval of its requests does not count; \"me\" is you.")
	f.StringVarP(&p.Namespace, "namespace", "n", "agents", "Namespace of the service account; it is made where it does not exist.")
	f.StringSliceVar(&p.Namespaces, "namespaces", nil, "Namespaces in which the agent works. Required.")
	f.StringVar(&p.Role, "role", "edit", "ClusterRole that it has there.")
	f.StringSliceVar(&p.Policies, "policy", nil, "AgentPolicies that are to judge it; those for all agents do anyway.")
	f.BoolVar(&dryRun, "dry-run", false, "Only say what would be done.")
	c.add(cmd)
	return cmd
}

func addAgent(ctx context.Context, a *app, p *onboard.Plan, c *credentials, dryRun bool) error {
	if err := errors.Join(p.Validate(), c.validate(p.Name)); err != nil {
		return err
	}
	cl, err := a.connect()
	if err != nil {
		return err
	}
	if p.Owner == me {
		var self authenticationv1.SelfSubjectReview
		if err := cl.Create(ctx, &self); err != nil {
			return explain("ask the API server who you are, for --owner me", err)
		}
		p.Owner = self.Status.UserInfo.Username
	}
	desk := &onboard.Desk{Client: cl, DryRun: dryRun, Say: a.note}
	if err := desk.Add(ctx, p); err != nil {
		return unfinished(explain("add agent/"+p.Name, err))
	}
	if dryRun {
		desk.Say("%s would get a token for %s (dry run)", c.file(p.Name), c.life)
		return nil
	}
	if err := a.tellNet(ctx, desk, p.Name); err != nil {
		return unfinished(err)
	}
	account := client.ObjectKey{Namespace: p.Namespace, Name: p.Name}
	return unfinished(a.handOut(ctx, desk, c, p.Name, account, p.Namespaces[0]))
}

// unfinished says that what was said before stays.
func unfinished(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w. What is said above is done; the same command goes on from there", err)
}

// tellNet says whether the API server asks Holdfast about an agent, and what to do where it
// does not.
func (a *app) tellNet(ctx context.Context, desk *onboard.Desk, name string) error {
	const again = `kubectl get agents -o yaml | holdfast-webhook render --agents - ..., with the other flags as before`
	condition, err := desk.Net(ctx, name, netPatience)
	switch {
	case err != nil:
		return err
	case condition == nil:
		a.note("Warning: Holdfast has not said within %s whether the net covers agent/%s; is its webhook running? Until it does, nothing may stop the agent. See later: kubectl holdfast agent list %s", netPatience, name, name)
	case condition.Status == metav1.ConditionTrue:
		a.note("agent/%s is inside the net: the API server asks Holdfast about what it does", name)
	case condition.Status == metav1.ConditionFalse:
		a.note("Warning: nothing stops agent/%s yet. %s To render them: %s", name, show.Line(condition.Message), again)
	default:
		a.note("Warning: whether anything stops agent/%s is not known. %s If its namespace is new to the net: %s", name, show.Line(condition.Message), again)
	}
	return nil
}

// handOut writes a kubeconfig with a new token.
func (a *app) handOut(ctx context.Context, desk *onboard.Desk, c *credentials, agent string, account client.ObjectKey, namespace string) error {
	config, err := a.flags.ToRESTConfig()
	if err != nil {
		return fmt.Errorf("read the kubeconfig (see --kubeconfig and --context): %w", err)
	}
	token, err := desk.Token(ctx, account, c.life)
	if err != nil {
		return explain("make a kubeconfig", err)
	}
	out, err := onboard.Kubeconfig(config, agent, namespace, token.Value)
	if err != nil {
		return err
	}
	if c.out == "-" {
		data, err := clientcmd.Write(*out)
		if err != nil {
			return fmt.Errorf("encode the kubeconfig: %w", err)
		}
		_, err = a.streams.Out.Write(data)
		return err
	}
	if err := onboard.Write(c.file(agent), out); err != nil {
		return err
	}
	got := token.Expires.Sub(a.now())
	if diff := got - c.life; diff > sameLife || diff < -sameLife {
		a.note("Warning: the API server gave the token %s, not the %s asked for.", got.Round(time.Second), c.life)
	}
	a.note("%s is agent/%s until %s", c.file(agent), agent, token.Expires.UTC().Format(time.RFC3339))
	return nil
}

func agentKubeconfigCommand(a *app) *cobra.Command {
	var c credentials
	cmd := &cobra.Command{
		Use:   "kubeconfig NAME [--for 8h] [--out FILE]",
		Short: "Write a new kubeconfig for an agent, with a token that ends",
		Long: `Write a kubeconfig with a new token of the service account that the Agent is. Tokens that it had
before stay good until they end; "agent remove" ends them all.

With plain kubectl:
  kubectl create token NAME -n agents --duration=8h`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeAgents(func(*v1alpha1.Agent) bool { return true }, ""),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, name := cmd.Context(), agentName(args[0])
		if err := c.validate(name); err != nil {
			return err
		}
		cl, err := a.connect()
		if err != nil {
			return err
		}
		desk := &onboard.Desk{Client: cl, Say: a.note}
		account, err := desk.Account(ctx, name)
		if err != nil {
			return explain("find the service account", err)
		}
		namespace := ""
		if places := desk.Workplaces(ctx, name); len(places) > 0 {
			namespace = places[0]
		}
		return a.handOut(ctx, desk, &c, name, account, namespace)
	}
	c.add(cmd)
	return cmd
}

func agentRemoveCommand(a *app) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "remove NAME [--yes]",
		Short: "Remove what \"agent add\" made for an agent; its tokens end with it",
		Long: `Remove the role bindings, the service account, with which all its tokens end, and the Agent: only what
carries the labels that "agent add" gives. It asks first. Policies that name the agent are left as
they are, and so are namespaces.

With plain kubectl:
  kubectl delete rolebindings,serviceaccounts -A -l app.kubernetes.io/managed-by=kubectl-holdfast,holdfast.dev/agent=NAME
  kubectl delete clusterrolebindings,agents -l app.kubernetes.io/managed-by=kubectl-holdfast,holdfast.dev/agent=NAME`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeAgents(func(*v1alpha1.Agent) bool { return true }, ""),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		return removeAgent(cmd.Context(), a, agentName(args[0]), yes)
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "Do not ask.")
	return cmd
}

func removeAgent(ctx context.Context, a *app, name string, yes bool) error {
	cl, err := a.connect()
	if err != nil {
		return err
	}
	desk := &onboard.Desk{Client: cl, Say: a.say}
	belongings, err := desk.Belongings(ctx, name)
	if err != nil {
		return explain("remove agent/"+name, err)
	}
	if len(belongings) == 0 {
		return fmt.Errorf("nothing was made for agent/%s by \"kubectl holdfast agent add\"; what others made, kubectl delete removes", name)
	}
	if !yes {
		for _, o := range belongings {
			a.note("%s", show.Line(onboard.Title(o)))
		}
		a.note("Remove these? All tokens of agent/%s end. [y/N]", name)
		answer, err := bufio.NewReader(a.streams.In).ReadString('\n')
		if answer = strings.ToLower(strings.TrimSpace(answer)); answer != "y" && answer != "yes" {
			return errors.Join(errors.New("nothing was removed; --yes removes without asking"), ignoreEOF(err))
		}
	}
	if err := desk.Remove(ctx, belongings); err != nil {
		return unfinished(explain("remove agent/"+name, err))
	}
	names, err := desk.Naming(ctx, name)
	if err != nil {
		return explain("agent/"+name+" is removed; look for policies that name it", err)
	}
	if len(names) > 0 {
		a.note("Policies that still name agent %s: %s", name, show.Line(strings.Join(names, ", ")))
	}
	return nil
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
