package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/e2e/load"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

const (
	releases = 200
	holds    = 300
	redeems  = 100
	// batch is how many of redeems wait at the same time: fewer than may.
	batch = 10
)

// dial returns connections of those who take part, in order.
func (p *plane) dial(who ...string) ([]*load.Conn, error) {
	var conns []*load.Conn
	for _, w := range who {
		conn, err := load.Dial(p.configs[w])
		if err != nil {
			return nil, err
		}
		conns = append(conns, conn)
	}
	return conns, nil
}

// quantiles makes a figure for each quantile of times, in milliseconds.
func quantiles(name string, values, floors []time.Duration, of map[string]float64) []Figure {
	var figures []Figure
	for _, suffix := range []string{"", "_p50", "_p99"} {
		if q, ok := of[suffix]; ok {
			figures = append(figures, Figure{
				Name: name + suffix, Unit: "ms", Value: milliseconds(load.QuantileOf(values, q)), Floor: milliseconds(load.QuantileOf(floors, q)),
			})
		}
	}
	return figures
}

func milliseconds(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1e6 }

// holdRelease measures from when an approver sends the Review until the agent, whose call
// waits, has its success. The floor is the API server's own round trip: from when a ConfigMap
// is sent until a watch brings it.
func holdRelease(ctx context.Context, p *plane) ([]Figure, error) {
	conns, err := p.dial("agent", "approver", "human")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched, err := follow(ctx, p.admin, &corev1.ConfigMapList{}, client.Object.GetName, client.InNamespace(namespace))
	if err != nil {
		return nil, err
	}
	var values, floors []time.Duration
	for i := range releases {
		value, err := p.release(ctx, conns[0], conns[1], fmt.Sprintf("%s%d", waitsInline, i))
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("seen-%d", i)
		start := time.Now()
		if a, err := conns[2].Create(ctx, namespace, name); err != nil || !a.OK() {
			return nil, errors.Join(err, fmt.Errorf("create %s: %d %s", name, a.Code, a.Status.Message))
		}
		s, err := watched.await(ctx, name, func(client.Object) bool { return true })
		if err != nil {
			return nil, err
		}
		values, floors = append(values, value), append(floors, s.at.Sub(start))
	}
	return quantiles("hold_release", values, floors, map[string]float64{"_p50": 0.5, "_p99": 0.99}), nil
}

// release has one call held, approved and released.
func (p *plane) release(ctx context.Context, agent, approver *load.Conn, name string) (time.Duration, error) {
	type outcome struct {
		answer load.Answer
		err    error
		at     time.Time
	}
	done := make(chan outcome, 1)
	go func() {
		a, err := agent.Create(ctx, namespace, name)
		done <- outcome{a, err, time.Now()}
	}()
	request, err := p.awaitRequest(ctx, name, v1alpha1.Pending)
	if err != nil {
		return 0, err
	}
	time.Sleep(30 * time.Millisecond) // the webhook goes from opening it to waiting
	start := time.Now()
	if err := approve(ctx, approver, request); err != nil {
		return 0, err
	}
	o := <-done
	if o.err != nil || !o.answer.OK() {
		return 0, errors.Join(o.err, fmt.Errorf("%s after its approval: %d %s", name, o.answer.Code, o.answer.Status.Message))
	}
	return o.at.Sub(start), nil
}

// refused creates what is refused, and says how long that took.
func refused(ctx context.Context, agent *load.Conn, name string, held bool) (time.Duration, error) {
	a, err := agent.Create(ctx, namespace, name)
	if err != nil {
		return 0, err
	}
	if a.Code != http.StatusForbidden || a.Cause("HoldfastDecision") == "" || (a.Cause("HoldfastAccessRequest") != "") != held {
		return 0, fmt.Errorf("%s: %d %+v, want a refusal by Holdfast (held: %t)", name, a.Code, a.Status, held)
	}
	return a.Took, nil
}

// heldRequest measures a request whose AccessRequest is pending already, answered at once.
// The floor is the same request denied by a rule.
func heldRequest(ctx context.Context, p *plane) ([]Figure, error) {
	conns, err := p.dial("agent")
	if err != nil {
		return nil, err
	}
	if _, err := refused(ctx, conns[0], heldAtOnce+"again", true); err != nil {
		return nil, err
	}
	var values, floors []time.Duration
	for range holds {
		value, err := refused(ctx, conns[0], heldAtOnce+"again", true)
		if err != nil {
			return nil, err
		}
		floor, err := refused(ctx, conns[0], denied+"again", false)
		if err != nil {
			return nil, err
		}
		values, floors = append(values, value), append(floors, floor)
	}
	return quantiles("held_request", values, floors, map[string]float64{"": 0.5}), nil
}

// redeem measures a request that passes on an approval. The floor is the same request, allowed
// by policy.
func redeem(ctx context.Context, p *plane) ([]Figure, error) {
	conns, err := p.dial("agent", "approver")
	if err != nil {
		return nil, err
	}
	var values, floors []time.Duration
	for start := 0; start < redeems; start += batch {
		for i := start; i < start+batch; i++ {
			name := fmt.Sprintf("%sredeem-%d", heldAtOnce, i)
			if _, err := refused(ctx, conns[0], name, true); err != nil {
				return nil, err
			}
			request, err := p.awaitRequest(ctx, name, v1alpha1.Pending)
			if err != nil {
				return nil, err
			}
			if err := approve(ctx, conns[1], request); err != nil {
				return nil, err
			}
			if _, err := p.awaitRequest(ctx, name, v1alpha1.Approved); err != nil {
				return nil, err
			}
		}
		for i := start; i < start+batch; i++ {
			value, err := conns[0].Create(ctx, namespace, fmt.Sprintf("%sredeem-%d", heldAtOnce, i))
			if err != nil || !value.OK() {
				return nil, errors.Join(err, fmt.Errorf("redeem: %d %s", value.Code, value.Status.Message))
			}
			floor, err := conns[0].Create(ctx, namespace, fmt.Sprintf("%s%d", allowed, i))
			if err != nil || !floor.OK() {
				return nil, errors.Join(err, fmt.Errorf("allowed: %d %s", floor.Code, floor.Status.Message))
			}
			values, floors = append(values, value.Took), append(floors, floor.Took)
		}
	}
	return quantiles("redeem", values, floors, map[string]float64{"": 0.5}), nil
}
