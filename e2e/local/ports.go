package local

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"github.com/holdfast-dev/holdfast/e2e/controlplane/filelock"
)

// Ports are taken from below the range that kernels give to outgoing connections, so that
// none of those takes a port between the choice and its use. Each run has a block of them to
// itself, from the choice to its end, also while a part of it does not run: another run, in
// whichever process of this user, finds the block's lock held.
const (
	firstPort = 20000
	lastPort  = 29999
	blockSize = 16
)

// block is a row of ports that nobody else of this user takes while it is held.
type block struct {
	first int
	lock  *filelock.Lock
}

// claimPorts takes a block all of whose ports are free on 127.0.0.1 right now. The caller
// must release it.
func claimPorts(ctx context.Context) (*block, error) {
	return portRange{
		firstPort, lastPort, filepath.Join(os.TempDir(), fmt.Sprintf("holdfast-ports-%d", os.Getuid())),
	}.claim(ctx)
}

// portRange are ports and the folder of the locks of their blocks.
type portRange struct {
	first, last int
	locks       string
}

func (r portRange) claim(ctx context.Context) (*block, error) {
	var last error
	for _, n := range rand.Perm((r.last - r.first + 1) / blockSize) { //nolint:gosec // a port is no secret
		first := r.first + n*blockSize
		lock, err := filelock.Try(filepath.Join(r.locks, strconv.Itoa(first)))
		if errors.Is(err, filelock.ErrHeld) {
			last = err
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("local: %w", err)
		}
		if last = free(ctx, first, blockSize); last == nil {
			return &block{first: first, lock: lock}, nil
		}
		lock.Release()
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("local: no %d free ports in a row from %d to %d on 127.0.0.1: %w", blockSize, r.first, r.last, last)
}

func (b *block) release() {
	if b != nil {
		b.lock.Release()
	}
}

// free returns an error if one of n ports is in use.
func free(ctx context.Context, first, n int) error {
	var listen net.ListenConfig
	for port := first; port < first+n; port++ {
		l, err := listen.Listen(ctx, "tcp", loopback(port))
		if err != nil {
			return err
		}
		_ = l.Close() // nobody has connected
	}
	return nil
}

// loopback is the address of a port on this machine.
func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// ports are all that a run may need.
type ports struct {
	etcdClient, etcdPeer, apiServer, controllerManager int
	postgres, nats                                     int
	webhook, webhookHealth                             int
	collector, collectorHealth                         int
	replica, replicaHealth                             int
}

// ports are the block's, each with its use.
func (b *block) ports() ports {
	var p ports
	for i, port := range []*int{
		&p.etcdClient, &p.etcdPeer, &p.apiServer, &p.controllerManager, &p.postgres, &p.nats,
		&p.webhook, &p.webhookHealth, &p.collector, &p.collectorHealth, &p.replica, &p.replicaHealth,
	} {
		*port = b.first + i
	}
	return p
}
