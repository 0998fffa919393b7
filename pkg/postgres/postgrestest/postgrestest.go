// Package postgrestest runs a real Postgres for tests and for the local control plane: the
// server of DATABASE_URL where that is set, else a private cluster of local binaries on a
// loopback port.
//
// It refuses to download anything, to run Postgres as root (which Postgres refuses too: the
// process is given to user postgres or nobody), and to touch a cluster that it did not make.
package postgrestest

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// Config says what to start. The zero value is a cluster for tests in a temporary folder.
type Config struct {
	// DatabaseURL is a server that runs already; "" starts one. It is not read from the
	// environment here.
	DatabaseURL string
	// Dir is the folder of the cluster. It is made, and used again if there is a cluster in
	// it; Stop leaves it. "" is a new folder below the system's temporary one, which Stop
	// removes. As root, every folder above it has to be passable for everybody.
	Dir string
	// Bin is the folder of initdb and postgres; "" looks for them.
	Bin string
	// Port on 127.0.0.1; 0 takes a free one.
	Port int
	// Durable leaves fsync on. Without it a test survives kill -9 of Postgres, but not the
	// loss of power.
	Durable bool
	// Settings are further settings, by name.
	Settings map[string]string
}

// Server is a running Postgres.
type Server struct {
	cfg      Config
	dir      string
	password string
	port     int
	dsn      string
	owned    bool // the folder is ours to remove
	account  *syscall.Credential

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{}
	log  *os.File
}

// passwordFile keeps the password of the superuser beside the data.
const passwordFile = "password"

// Start starts a server and returns when it answers. Errors name what is missing and the
// remedy. Stop must be called.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	if cfg.DatabaseURL != "" {
		s := &Server{cfg: cfg, dsn: cfg.DatabaseURL}
		return s, s.ping(ctx, 10*time.Second)
	}
	var err error
	if cfg.Bin == "" {
		if cfg.Bin, err = findBinaries(); err != nil {
			return nil, err
		}
	}
	s := &Server{cfg: cfg}
	if s.account, err = unprivileged(); err != nil {
		return nil, err
	}
	if err := s.initialise(ctx); err != nil {
		s.removeDir()
		return nil, err
	}
	// A free port can be gone by the time that Postgres wants it.
	for range 3 {
		if err = s.launch(ctx); err == nil || cfg.Port != 0 || ctx.Err() != nil {
			break
		}
	}
	if err != nil {
		s.removeDir()
		return nil, err
	}
	return s, nil
}

// DSN returns the connection string of the superuser and database postgres. It has a password.
func (s *Server) DSN() string { return s.dsn }

// Dir returns the folder of the cluster; "" for a server of DATABASE_URL.
func (s *Server) Dir() string { return s.dir }

// Database makes an empty database and returns its connection string, and a function that
// drops it.
func (s *Server) Database(ctx context.Context) (dsn string, drop func(), err error) {
	u, err := url.Parse(s.dsn)
	if err != nil {
		return "", nil, errors.New("postgrestest: DATABASE_URL: want postgres://user@host/database")
	}
	name := "holdfast_" + strings.ToLower(rand.Text()[:12])
	if err := s.exec(ctx, "CREATE DATABASE "+name); err != nil {
		return "", nil, err
	}
	u.Path = "/" + name
	return u.String(), func() {
		// Whoever still holds a connection is thrown out; the server may be gone as well.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = s.exec(ctx, "DROP DATABASE IF EXISTS "+name+" WITH (FORCE)")
	}, nil
}

func (s *Server) exec(ctx context.Context, sql string) error {
	conn, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		return fmt.Errorf("postgrestest: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }() // the answer has come
	if _, err := conn.Exec(ctx, sql); err != nil {
		return fmt.Errorf("postgrestest: %w", err)
	}
	return nil
}

func (s *Server) ping(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		err := s.exec(ctx, "SELECT 1")
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("postgrestest: no answer within %s: %w", within, err)
		case <-s.done: // nil, and so never, for a server that is not ours
			return fmt.Errorf("postgrestest: postgres ended: %s", s.logTail())
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// initialise makes the folder and the cluster in it.
func (s *Server) initialise(ctx context.Context) error {
	var err error
	if s.cfg.Dir == "" {
		s.owned = true
		if s.dir, err = os.MkdirTemp(passableTemp(), "holdfast-postgres-"); err != nil {
			return fmt.Errorf("postgrestest: %w", err)
		}
	} else {
		s.dir = s.cfg.Dir
		if err := os.MkdirAll(s.dir, 0o700); err != nil {
			return fmt.Errorf("postgrestest: %w", err)
		}
	}
	if s.account != nil {
		if err := os.Chown(s.dir, int(s.account.Uid), int(s.account.Gid)); err != nil {
			return fmt.Errorf("postgrestest: %w", err)
		}
	}
	pwFile := filepath.Join(s.dir, passwordFile)
	if pw, err := os.ReadFile(pwFile); err == nil {
		if _, err := os.Stat(filepath.Join(s.data(), "PG_VERSION")); err == nil {
			s.password = string(pw)
			return nil
		}
		// initdb did not end the last time.
		if err := os.RemoveAll(s.data()); err != nil {
			return fmt.Errorf("postgrestest: %w", err)
		}
	}
	s.password = rand.Text()
	if err := os.WriteFile(pwFile, []byte(s.password), 0o600); err != nil {
		return fmt.Errorf("postgrestest: %w", err)
	}
	if s.account != nil {
		if err := os.Chown(pwFile, int(s.account.Uid), int(s.account.Gid)); err != nil {
			return fmt.Errorf("postgrestest: %w", err)
		}
	}
	cmd := s.command(ctx, "initdb", "-D", s.data(), "-U", "postgres", "-A", "scram-sha-256",
		"--pwfile", pwFile, "-E", "UTF8", "--no-locale", "--no-sync")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("postgrestest: initdb: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

func (s *Server) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.cfg.Bin, name), args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), "LC_ALL=C", "HOME="+s.dir)
	// Its own process group: a Ctrl-C at the terminal is for us to pass on, in our order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: s.account}
	return cmd
}

// launch starts the server process and waits for its answer.
func (s *Server) launch(ctx context.Context) error {
	if s.port = s.cfg.Port; s.port == 0 {
		var listen net.ListenConfig
		l, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("postgrestest: %w", err)
		}
		s.port = l.Addr().(*net.TCPAddr).Port
		_ = l.Close() // nobody has connected
	}
	s.dsn = fmt.Sprintf("postgres://postgres:%s@127.0.0.1:%d/postgres?sslmode=disable", s.password, s.port)
	args := []string{"-D", s.data(), "-p", fmt.Sprint(s.port), "-h", "127.0.0.1",
		"-c", "unix_socket_directories=", "-c", "max_connections=100"}
	if !s.cfg.Durable {
		args = append(args, "-c", "fsync=off", "-c", "full_page_writes=off")
	}
	for name, value := range s.cfg.Settings {
		args = append(args, "-c", name+"="+value)
	}
	log, err := os.OpenFile(filepath.Join(s.dir, "postgres.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("postgrestest: %w", err)
	}
	// The process outlives ctx: Stop ends it.
	cmd := s.command(context.WithoutCancel(ctx), "postgres", args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		_ = log.Close() // nothing was written
		return fmt.Errorf("postgrestest: %w", err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()  // how it ended is in its log
		_ = log.Close() // postgres wrote through its own
		close(done)
	}()
	s.mu.Lock()
	s.cmd, s.done, s.log = cmd, done, log
	s.mu.Unlock()
	if err := s.ping(ctx, 60*time.Second); err != nil {
		s.signal(syscall.SIGQUIT, 5*time.Second)
		return err
	}
	return nil
}

// Kill ends the server as kill -9 does. Restart brings it back with its data.
func (s *Server) Kill() { s.signal(syscall.SIGKILL, 10*time.Second) }

// Restart starts the server again on the same port after Kill.
func (s *Server) Restart(ctx context.Context) error {
	port := s.cfg.Port
	s.cfg.Port = s.port
	defer func() { s.cfg.Port = port }()
	// The killed server's children need a moment to notice.
	var err error
	for range 20 {
		if err = s.launch(ctx); err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(250 * time.Millisecond)
	}
	return err
}

// Stop ends the server and removes its folder if it was a temporary one. It may be called
// twice, and does nothing to a server of DATABASE_URL.
func (s *Server) Stop() {
	if !s.signal(syscall.SIGINT, 20*time.Second) {
		s.signal(syscall.SIGQUIT, 10*time.Second)
	}
	s.removeDir()
}

func (s *Server) removeDir() {
	if s.owned && s.dir != "" {
		_ = os.RemoveAll(s.dir) // the system clears its temporary folder
	}
}

// signal sends a signal and reports whether the process has ended in time.
func (s *Server) signal(sig syscall.Signal, within time.Duration) bool {
	s.mu.Lock()
	cmd, done := s.cmd, s.done
	s.mu.Unlock()
	if cmd == nil {
		return true
	}
	_ = cmd.Process.Signal(sig) // it may have ended
	select {
	case <-done:
		return true
	case <-time.After(within):
		return false
	}
}

func (s *Server) logTail() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "postgres.log"))
	if err != nil {
		return "no log"
	}
	return string(b[max(0, len(b)-2000):])
}
