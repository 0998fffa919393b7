package local

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// Ports are taken from below the range that kernels give to outgoing connections, so that
// none of those takes a port between the choice and its use.
const (
	firstPort = 20000
	lastPort  = 29999
)

// freePorts returns n different TCP ports that are free on 127.0.0.1 right now.
func freePorts(ctx context.Context, n int) ([]int, error) {
	var listeners []net.Listener
	defer func() {
		for _, l := range listeners {
			_ = l.Close() // nobody has connected
		}
	}()
	var listen net.ListenConfig
	var ports []int
	var last error
	for range 100 * n {
		if len(ports) == n {
			return ports, nil
		}
		port := firstPort + rand.IntN(lastPort-firstPort+1) //nolint:gosec // a port is no secret
		l, err := listen.Listen(ctx, "tcp", loopback(port))
		if err != nil {
			last = err
			continue
		}
		listeners = append(listeners, l)
		ports = append(ports, port)
	}
	return nil, fmt.Errorf("local: no %d free ports from %d to %d on 127.0.0.1: %w", n, firstPort, lastPort, errors.Join(last))
}

// loopback is the address of a port on this machine.
func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// ports are all that a run may need.
type ports struct {
	etcdClient, etcdPeer, apiServer, controllerManager int
	postgres, nats                                     int
	webhook, webhookHealth                             int
	collector, collectorHealth                         int
}

func choosePorts(ctx context.Context) (ports, error) {
	var p ports
	all := []*int{
		&p.etcdClient, &p.etcdPeer, &p.apiServer, &p.controllerManager, &p.postgres, &p.nats,
		&p.webhook, &p.webhookHealth, &p.collector, &p.collectorHealth,
	}
	free, err := freePorts(ctx, len(all))
	if err != nil {
		return p, err
	}
	for i, port := range free {
		*all[i] = port
	}
	return p, nil
}
