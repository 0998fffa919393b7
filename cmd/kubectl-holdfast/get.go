package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"
	authenticationv1 "k8s.io/api/authentication/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/cmd/kubectl-holdfast/internal/show"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// selection is --agent and --mine.
type selection struct {
	agent string
	mine  bool
}

func (s *selection) add(a *app, cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.agent, "agent", "", "Only requests of this agent.")
	cmd.Flags().BoolVar(&s.mine, "mine", false, "Only your own requests; agents may see no others.")
	_ = cmd.RegisterFlagCompletionFunc("agent", a.completeAgents(func(*v1alpha1.Agent) bool { return true }, ""))
}

// options are those that list what is selected.
func (s *selection) options(ctx context.Context, c client.Client) ([]client.ListOption, error) {
	fields := client.MatchingFields{}
	if s.agent != "" {
		fields["spec.agent"] = s.agent
	}
	if s.mine {
		var self authenticationv1.SelfSubjectReview
		if err := c.Create(ctx, &self); err != nil {
			return nil, explain("ask the API server who you are, for --mine", err)
		}
		fields["spec.requester"] = self.Status.UserInfo.Username
	}
	if len(fields) == 0 {
		return nil, nil
	}
	return []client.ListOption{fields}, nil
}

func getCommand(a *app) *cobra.Command {
	var o output
	var s selection
	cmd := &cobra.Command{
		Use:   "get [NAME...]",
		Short: "List what agents wait for: pending requests first",
		Long: `List AccessRequests: those that wait for people first, longest waiting on top; then the others,
newest on top.

APPROVALS has, for each rule that holds the request, how many approvals of how many it has.
FOR is how long an approval is for: once, or, for what the agent asked ahead, a time. LEFT is how
long people have to decide, or, once it is approved, the agent to use it.

With plain kubectl:
  kubectl get accessrequests
  kubectl get accessrequests --field-selector spec.agent=bot`,
		Example: `  kubectl holdfast get
  kubectl holdfast get -o wide --agent bot
  kubectl holdfast get 3f2a9c-1 -o yaml`,
		ValidArgsFunction: a.completeRequests(0, anyRequest),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return get(cmd.Context(), a, args, &o, &s) }
	o.add(cmd)
	s.add(a, cmd)
	return cmd
}

func get(ctx context.Context, a *app, names []string, o *output, s *selection) error {
	t, forPeople, err := o.table(a)
	if err != nil {
		return err
	}
	if len(names) > 0 && (s.agent != "" || s.mine) {
		return fmt.Errorf("--agent and --mine select from all requests; leave them out where you give names")
	}
	c, err := a.connect()
	if err != nil {
		return err
	}
	list, err := requests(ctx, c, names, s)
	if err != nil {
		return err
	}
	show.Sort(list)
	if !forPeople {
		objects := make([]runtime.Object, 0, len(list))
		for i := range list {
			objects = append(objects, &list[i])
		}
		return o.print(a, objects, len(names) == 1)
	}
	if len(list) == 0 && (s.agent != "" || s.mine) {
		a.note("No request is like that; without --agent and --mine all are listed.")
		return nil
	}
	if len(list) == 0 {
		a.note("No agent waits for anything, and none has lately.")
		return nil
	}
	return show.Requests(a.streams.Out, list, t)
}

// requests are those named, or, without names, those selected.
func requests(ctx context.Context, c client.Client, names []string, s *selection) ([]v1alpha1.AccessRequest, error) {
	if len(names) > 0 {
		list := make([]v1alpha1.AccessRequest, 0, len(names))
		for _, name := range names {
			r, err := request(ctx, c, name)
			if err != nil {
				return nil, err
			}
			list = append(list, *r)
		}
		return list, nil
	}
	options, err := s.options(ctx, c)
	if err != nil {
		return nil, err
	}
	var list v1alpha1.AccessRequestList
	if err := c.List(ctx, &list, options...); err != nil {
		doing := "list requests"
		if !s.mine && apierrors.IsForbidden(err) {
			doing = "list requests (an agent may list its own: --mine)"
		}
		return nil, explain(doing, err)
	}
	return list.Items, nil
}

// request reads one.
func request(ctx context.Context, c client.Client, name string) (*v1alpha1.AccessRequest, error) {
	var r v1alpha1.AccessRequest
	if err := c.Get(ctx, client.ObjectKey{Name: bare(name, "accessrequest", "accessrequests", "ar")}, &r); err != nil {
		return nil, explain("read request "+name, err)
	}
	return &r, nil
}

// request connects and reads the one request that a command is about.
func (a *app) request(ctx context.Context, name string) (client.WithWatch, *v1alpha1.AccessRequest, error) {
	c, err := a.connect()
	if err != nil {
		return nil, nil, err
	}
	r, err := request(ctx, c, name)
	return c, r, err
}
