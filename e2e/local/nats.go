package local

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats-server/v2/server"
)

// natsMaxPayload is the largest message that NATS takes: the collector's are at most 4 MiB
// and some headers.
const natsMaxPayload = 8 << 20

// natsStart is how long NATS has to start.
const natsStart = 20 * time.Second

// NATSConfig is a NATS server for one machine.
type NATSConfig struct {
	// Listen is host:port, on a loopback address: there is no authentication.
	Listen string
	// StoreDir holds the streams.
	StoreDir string
}

// ServeNATS runs a NATS server with JetStream until ctx ends. Each write is on the disk
// before it is acknowledged.
func ServeNATS(ctx context.Context, c NATSConfig) error {
	host, portText, err := net.SplitHostPort(c.Listen)
	if err != nil {
		return fmt.Errorf("nats: listen %q: %w", c.Listen, err)
	}
	port, err := strconv.Atoi(portText)
	if err != nil {
		return fmt.Errorf("nats: listen %q: %w", c.Listen, err)
	}
	if ip := net.ParseIP(host); ip == nil || !ip.IsLoopback() {
		return fmt.Errorf("nats: listen %q: want a loopback address, since nobody has to log in", c.Listen)
	}
	if c.StoreDir == "" {
		return errors.New("nats: store: want a folder")
	}
	nats, err := server.NewServer(&server.Options{
		ServerName: "holdfast-local", Host: host, Port: port,
		JetStream: true, StoreDir: c.StoreDir, SyncAlways: true,
		MaxPayload: natsMaxPayload,
		NoSigs:     true, DisableJetStreamBanner: true, Logtime: true, LogtimeUTC: true,
	})
	if err != nil {
		return fmt.Errorf("nats: %w", err)
	}
	nats.ConfigureLogger()
	// Errors of a start go to the log, and Start returns either way; a port that is taken
	// ends the process.
	nats.Start()
	if !nats.ReadyForConnections(natsStart) {
		nats.Shutdown()
		return fmt.Errorf("nats: not ready within %s: see the log above", natsStart)
	}
	<-ctx.Done()
	nats.Shutdown()
	nats.WaitForShutdown()
	return nil
}

// natsReady reads the greeting of a NATS server, and wants JetStream in it.
func natsReady(ctx context.Context, address string) error {
	dialer := net.Dialer{Timeout: readyTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	defer func() { _ = conn.Close() }() // only read
	if err := conn.SetReadDeadline(time.Now().Add(readyTimeout)); err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	if !strings.HasPrefix(line, "INFO ") || !strings.Contains(line, `"jetstream":true`) {
		return fmt.Errorf("not ready: %q is not the greeting of NATS with JetStream", strings.TrimSpace(line))
	}
	return nil
}
