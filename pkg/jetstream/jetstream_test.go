package jetstream_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/holdfast-dev/holdfast/pkg/audit"
	"github.com/holdfast-dev/holdfast/pkg/jetstream"
)

type natsServer struct {
	opts server.Options
	s    *server.Server
}

func newServer(t *testing.T) *natsServer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	n := &natsServer{opts: server.Options{
		Host: "127.0.0.1", Port: port, JetStream: true, StoreDir: t.TempDir(), SyncAlways: true,
		MaxPayload: audit.MessageMax, NoSigs: true, NoLog: true,
	}}
	n.start(t)
	t.Cleanup(n.stop)
	return n
}

func (n *natsServer) start(t *testing.T) {
	t.Helper()
	opts := n.opts
	s, err := server.NewServer(&opts)
	if err != nil {
		t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(10 * time.Second) {
		t.Fatal("nats-server: not ready")
	}
	n.s = s
}

func (n *natsServer) stop() {
	if n.s != nil {
		n.s.Shutdown()
		n.s.WaitForShutdown()
		n.s = nil
	}
}

func (n *natsServer) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", n.opts.Port) }

func open(t *testing.T, n *natsServer, change func(*jetstream.Config)) *jetstream.Log {
	t.Helper()
	cfg := jetstream.Config{URL: n.url(), AckWait: time.Second, Logger: slog.New(slog.DiscardHandler)}
	if change != nil {
		change(&cfg)
	}
	l, err := jetstream.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.Stop)
	return l
}

func ready(t *testing.T, l *jetstream.Log) *jetstream.Log {
	t.Helper()
	eventually(t, "ready", func() bool { return l.Ready() == nil })
	return l
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 20 s", what)
		}
	}
}

func fetch(t *testing.T, l *jetstream.Log) []audit.Delivery {
	t.Helper()
	out, err := l.Fetch(t.Context(), 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPublishFetchAck(t *testing.T) {
	t.Parallel()
	n := newServer(t)
	l := ready(t, open(t, n, nil))
	messages := [][]byte{[]byte("one"), []byte("two"), bytes.Repeat([]byte("x"), audit.MessageMax-64<<10)}
	for range 2 { // the second time changes nothing
		if err := l.Publish(t.Context(), messages); err != nil {
			t.Fatal(err)
		}
	}
	got := fetch(t, l)
	if len(got) != 3 || string(got[0].Data) != "one" || got[0].Attempt != 1 || time.Since(got[0].StoredAt) > time.Minute {
		t.Fatalf("got %d messages", len(got))
	}
	if err := got[0].Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := got[1].Nak(0); err != nil {
		t.Fatal(err)
	}
	again := fetch(t, l)
	if len(again) != 1 || string(again[0].Data) != "two" || again[0].Attempt != 2 {
		t.Fatalf("given back: got %d messages", len(again))
	}
	if err := again[0].Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The third was neither: it comes again by itself.
	last := fetch(t, l)
	if len(last) != 1 || len(last[0].Data) != len(messages[2]) || last[0].Attempt != 2 {
		t.Fatalf("forgotten: got %d messages", len(last))
	}
	if err := last[0].Ack(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "empty", func() bool { return l.State().Messages == 0 })
}

func TestFetchTakesWhatIsThere(t *testing.T) {
	t.Parallel()
	l := ready(t, open(t, newServer(t), nil))
	for i := range 40 {
		if err := l.Publish(t.Context(), [][]byte{fmt.Append(nil, i)}); err != nil {
			t.Fatal(err)
		}
	}
	if got := len(fetch(t, l)); got < 32 || got > 36 {
		t.Errorf("got %d messages at once, want 32 or a few more", got)
	}
	begin := time.Now()
	if got := len(fetch(t, l)); got == 0 || time.Since(begin) > time.Second {
		t.Errorf("the rest: got %d messages after %s", got, time.Since(begin))
	}
}

func TestSurvivesRestart(t *testing.T) {
	t.Parallel()
	n := newServer(t)
	l := ready(t, open(t, n, nil))
	if err := l.Publish(t.Context(), [][]byte{[]byte("kept")}); err != nil {
		t.Fatal(err)
	}
	n.stop()
	begin := time.Now()
	err := l.Publish(t.Context(), [][]byte{[]byte("refused")})
	if !errors.Is(err, audit.ErrPushback) || time.Since(begin) > 2*time.Second {
		t.Errorf("away: got %v after %s", err, time.Since(begin))
	}
	n.start(t)
	ready(t, l)
	eventually(t, "taken again", func() bool { return l.Publish(t.Context(), [][]byte{[]byte("after")}) == nil })
	var got []string
	eventually(t, "both", func() bool {
		out, err := l.Fetch(t.Context(), time.Second)
		if err != nil {
			return false
		}
		for _, d := range out {
			got = append(got, string(d.Data))
			if err := d.Ack(t.Context()); err != nil {
				t.Error(err)
			}
		}
		return len(got) >= 2
	})
	if fmt.Sprint(got) != "[kept after]" {
		t.Errorf("got %s", got)
	}
}

// TestSlowServer answers nothing: a proxy that stops passing bytes.
func TestSlowServer(t *testing.T) {
	t.Parallel()
	n := newServer(t)
	p := newProxy(t, n.opts.Port)
	l := ready(t, open(t, n, func(c *jetstream.Config) { c.URL = "nats://" + p.addr }))
	close(p.stopped)
	begin := time.Now()
	err := l.Publish(t.Context(), [][]byte{[]byte("x")})
	if !errors.Is(err, audit.ErrPushback) || time.Since(begin) > 2*time.Second {
		t.Errorf("got %v after %s, want ErrPushback within 2 s", err, time.Since(begin))
	}
}

type proxy struct {
	addr    string
	stopped chan struct{}
}

func newProxy(t *testing.T, port int) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &proxy{addr: l.Addr().String(), stopped: make(chan struct{})}
	pass := func(to, from net.Conn) {
		buf := make([]byte, 32<<10)
		for {
			n, err := from.Read(buf)
			select {
			case <-p.stopped:
				return
			default:
			}
			if err != nil {
				return
			}
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err != nil {
				c.Close()
				continue
			}
			t.Cleanup(func() { c.Close(); s.Close() })
			go pass(c, s)
			go pass(s, c)
		}
	}()
	return p
}

func TestFullRefuses(t *testing.T) {
	t.Parallel()
	l := ready(t, open(t, newServer(t), func(c *jetstream.Config) { c.MaxBytes = 2 * audit.MessageMax }))
	stored := 0
	for ; stored < 40; stored++ {
		if err := l.Publish(t.Context(), [][]byte{append(bytes.Repeat([]byte("x"), 1<<20), byte(stored))}); err != nil {
			if !errors.Is(err, audit.ErrPushback) {
				t.Errorf("full: got %v, want ErrPushback", err)
			}
			break
		}
	}
	if stored < 14 || stored > 16 {
		t.Errorf("stored %d MiB in 16 MiB", stored)
	}
	eventually(t, "all are there", func() bool { return l.State().Messages == uint64(stored) })
	for _, d := range fetch(t, l) {
		if err := d.Ack(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "takes again", func() bool { return l.Publish(t.Context(), [][]byte{[]byte("room")}) == nil })
}

func TestRefusesServersThatLose(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		opts   func(*server.Options)
		stream *natsjs.StreamConfig
		want   string
	}{
		{"small max_payload", func(o *server.Options) { o.MaxPayload = 1 << 20 }, nil,
			"jetstream: the NATS server's max_payload is 1048576 bytes: set max_payload to at least 8388608"},
		{"no JetStream", func(o *server.Options) { o.JetStream = false }, nil, "jetstream: stream HOLDFAST_AUDIT: "},
		{"in memory", nil, &natsjs.StreamConfig{Storage: natsjs.MemoryStorage, Retention: natsjs.WorkQueuePolicy, Discard: natsjs.DiscardNew},
			"jetstream: stream HOLDFAST_AUDIT is kept in memory: want file storage"},
		{"limits", nil, &natsjs.StreamConfig{Discard: natsjs.DiscardNew}, "jetstream: stream HOLDFAST_AUDIT has retention Limits: want WorkQueue"},
		{"discards", nil, &natsjs.StreamConfig{Retention: natsjs.WorkQueuePolicy}, "jetstream: stream HOLDFAST_AUDIT discards old messages when full: want discard new"},
		{"expires", nil, &natsjs.StreamConfig{Retention: natsjs.WorkQueuePolicy, Discard: natsjs.DiscardNew, MaxAge: time.Hour},
			"jetstream: stream HOLDFAST_AUDIT expires messages: want no max_age and no max_msgs"},
	} {
		n := newServer(t)
		if tc.opts != nil {
			n.stop()
			tc.opts(&n.opts)
			n.start(t)
		}
		if tc.stream != nil {
			tc.stream.Name, tc.stream.Subjects, tc.stream.MaxBytes = jetstream.DefaultStream, []string{jetstream.DefaultSubject}, jetstream.DefaultMaxBytes
			create(t, n, *tc.stream)
		}
		l := open(t, n, nil)
		eventually(t, tc.name, func() bool {
			err := l.Ready()
			return err != nil && strings.HasPrefix(err.Error(), tc.want)
		})
		if err := l.Publish(t.Context(), [][]byte{[]byte("x")}); !errors.Is(err, audit.ErrPushback) {
			t.Errorf("%s: publish: got %v, want ErrPushback", tc.name, err)
		}
		l.Stop()
		n.stop()
	}
}

func create(t *testing.T, n *natsServer, cfg natsjs.StreamConfig) {
	t.Helper()
	nc, err := nats.Connect(n.url())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := natsjs.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		cfg  jetstream.Config
		want string
	}{
		{jetstream.Config{}, "jetstream: URL: want nats://host:port"},
		{jetstream.Config{URL: "nats://x", MaxBytes: 5}, "jetstream: MaxBytes of 5: want at least 16777216"},
		{jetstream.Config{URL: "nats://x", Replicas: 6}, "jetstream: Replicas of 6: want 1 to 5"},
		{jetstream.Config{URL: "nats://u:hunter2@[::1"}, "jetstream: URL: not an address that can be used"},
	} {
		if _, err := jetstream.Start(t.Context(), tc.cfg); err == nil || err.Error() != tc.want {
			t.Errorf("got %v, want %s", err, tc.want)
		}
	}
}
