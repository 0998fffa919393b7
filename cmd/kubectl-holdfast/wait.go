package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/kubectl-holdfast/internal/follow"
	"github.com/holdfast-dev/holdfast/cmd/kubectl-holdfast/internal/show"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// Exit statuses of wait, beside 0.
const (
	exitNo      = 1
	exitUnknown = 2
)

// expiryGrace is how long after a request's time is over, by our clock, wait still waits for
// Holdfast to say so by its own.
const expiryGrace = time.Minute

func waitCommand(a *app) *cobra.Command {
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "wait NAME [--timeout 10m]",
		Short: "Wait until a request is decided",
		Long: `Wait until an AccessRequest is decided, and say how. Exit status:
  0  approved (or used since)
  1  denied, expired, withdrawn, revoked or removed
  2  not decided within --timeout, or it could not be found out

With plain kubectl, for one answer at a time:
  kubectl wait accessrequest NAME --for=jsonpath='{.status.phase}'=Approved --timeout=10m`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(1)(cmd, args); err != nil {
				return &exit{exitUnknown, err}
			}
			return nil
		},
		ValidArgsFunction: a.completeRequests(1, openRequest),
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		err := wait(cmd.Context(), a, args[0], timeout)
		var known *exit
		if err != nil && !errors.As(err, &known) {
			err = &exit{exitUnknown, err}
		}
		return err
	}
	cmd.Flags().DurationVar(&timeout, "timeout", 0, "How long to wait at most; 0 waits until the request's own time is over.")
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exit{exitUnknown, err} })
	return cmd
}

func wait(ctx context.Context, a *app, name string, timeout time.Duration) error {
	if timeout < 0 {
		return fmt.Errorf("--timeout=%s: want 0 or more", timeout)
	}
	c, r, err := a.request(ctx, name)
	if err != nil {
		return err
	}
	if done, err := a.decided(r); done {
		return err
	}
	deadline, end := time.Time{}, ""
	if over := endOf(r); !over.IsZero() {
		deadline, end = over.Add(expiryGrace), "its time is over, and Holdfast has not said so; is it running?"
	}
	if at := a.now().Add(timeout); timeout > 0 && (deadline.IsZero() || at.Before(deadline)) {
		deadline, end = at, fmt.Sprintf("not decided within %s", timeout)
	}
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	last := r
	err = follow.Requests(ctx, follow.Config{
		Client: c, Options: follow.One(r), Lost: a.lost,
		Handler: func(_, next *v1alpha1.AccessRequest) error {
			if next == nil {
				return &exit{exitNo, fmt.Errorf("request %s is gone", r.Name)}
			}
			last = next
			done, err := a.decided(next)
			if done && err == nil {
				return follow.ErrStop
			}
			return err
		},
	})
	if errors.Is(err, context.DeadlineExceeded) && end != "" {
		return &exit{exitUnknown, fmt.Errorf("request %s: %s. It is %s", r.Name, end, show.Standing(last, a.now()))}
	}
	return explain("wait for request "+r.Name, err)
}

// endOf is when a request that waits is over; zero where that is not known.
func endOf(r *v1alpha1.AccessRequest) time.Time {
	switch {
	case r.Status.ExpiresAt != nil:
		return r.Status.ExpiresAt.Time
	case r.Spec.ExpiresAfter != nil:
		return r.CreationTimestamp.Add(r.Spec.ExpiresAfter.Duration)
	default:
		return time.Time{}
	}
}

// decided says whether a request is, and prints how; a no is an error.
func (a *app) decided(r *v1alpha1.AccessRequest) (bool, error) {
	switch r.Status.Phase {
	case v1alpha1.Approved, v1alpha1.Redeemed, v1alpha1.Used:
		a.say("%s is %s", show.Line(r.Name), show.Standing(r, a.now()))
		return true, nil
	case v1alpha1.Denied, v1alpha1.Expired, v1alpha1.Withdrawn, v1alpha1.Revoked:
		return true, &exit{exitNo, fmt.Errorf("request %s is %s", r.Name, show.Standing(r, a.now()))}
	case v1alpha1.Pending:
	}
	return false, nil
}

// lost says that the connection is made again.
func (a *app) lost(err error) {
	a.note("Connection lost, trying again: %s", show.Line(err.Error()))
}
