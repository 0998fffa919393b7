package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-dev/holdfast/e2e/load"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

const (
	floodRounds      = 2
	floodRequests    = 2000
	floodConnections = 20
	// quiet is how long the others write without the flood, in each round.
	quiet = 12 * time.Second
	// every is the time from one write of somebody to the next.
	every = 50 * time.Millisecond
)

// flood measures what a person's and another service account's writes take while an agent
// sends 2,000 held requests over 20 connections. The floor is the same without the flood, in
// the same rounds.
func flood(ctx context.Context, p *plane) ([]Figure, error) {
	names := []string{"human", "worker"}
	with, without := map[string][]time.Duration{}, map[string][]time.Duration{}
	for round := range floodRounds {
		err := p.meanwhile(ctx, names, without, func(ctx context.Context) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(quiet):
				return nil
			}
		})
		if err != nil {
			return nil, err
		}
		if err := p.meanwhile(ctx, names, with, func(ctx context.Context) error { return p.flood(ctx, round) }); err != nil {
			return nil, err
		}
		// So that the next round finds free places again.
		if err := p.admin.DeleteAllOf(ctx, &v1alpha1.AccessRequest{}); err != nil {
			return nil, err
		}
	}
	return append(
		quantiles("flood_human", with["human"], without["human"], map[string]float64{"_p99": 0.99}),
		quantiles("flood_other", with["worker"], without["worker"], map[string]float64{"_p99": 0.99})...,
	), nil
}

// meanwhile has everybody write while something is done, and adds what their writes took.
func (p *plane) meanwhile(ctx context.Context, names []string, took map[string][]time.Duration, do func(context.Context) error) error {
	done := make(chan struct{})
	group, ctx := errgroup.WithContext(ctx)
	answers := make([][]load.Answer, len(names))
	for i, name := range names {
		group.Go(func() (err error) {
			answers[i], err = load.Steady{Namespace: namespace, Name: "of-" + name, Every: every}.Run(ctx, p.configs[name], done)
			return err
		})
	}
	group.Go(func() error {
		defer close(done)
		return do(ctx)
	})
	if err := group.Wait(); err != nil {
		return err
	}
	for i, name := range names {
		for _, a := range answers[i] {
			if !a.OK() {
				return fmt.Errorf("a write of %s: %d %s", name, a.Code, a.Status.Message)
			}
			took[name] = append(took[name], a.Took)
		}
	}
	return nil
}

// flood sends the requests, and fails where Holdfast has not refused them.
func (p *plane) flood(ctx context.Context, round int) error {
	done := make(chan struct{})
	close(done)
	answers, err := load.Flood{
		Namespace: namespace, Prefix: fmt.Sprintf("%s%d-", flooded, round), Connections: floodConnections, Requests: floodRequests,
	}.Run(ctx, p.configs["agent"], done)
	if err != nil {
		return err
	}
	decided := 0
	for _, a := range answers {
		if a.OK() {
			return errors.New("a request of the flood went through")
		}
		if a.Cause("HoldfastDecision") != "" {
			decided++
		}
	}
	if decided == 0 {
		return errors.New("no request of the flood has come to Holdfast")
	}
	return nil
}
