package local

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/holdfast-dev/holdfast/e2e/local/process"
)

const (
	postgresUser     = "holdfast"
	postgresDatabase = "holdfast"
	// postgresFolder starts the names of the folders outside of Dir that a run removes.
	postgresFolder = "holdfast-postgres-"
	// noSuchDatabase is Postgres' code invalid_catalog_name.
	noSuchDatabase = "3D000"
)

// cluster is a private Postgres: data in a folder of its own, outside of Dir, which may be
// closed to the user that Postgres runs as; a random password, since every user of the
// machine can reach the port; no Unix socket, whose path may not exceed 107 bytes.
type cluster struct {
	folder     string
	bin        string
	port       int
	password   string
	credential *syscall.Credential
	log        string
}

// newCluster makes the cluster's folder, which the caller removes when all is over, also
// after an error, when the folder's name is not empty.
func newCluster(ctx context.Context, port int, log string) (*cluster, error) {
	credential, user, err := unprivileged()
	if err != nil {
		return nil, err
	}
	folder, err := reachableFolder(ctx, credential, user)
	if err != nil {
		return nil, err
	}
	return &cluster{folder: folder, port: port, password: rand.Text(), credential: credential, log: log}, nil
}

func (c *cluster) data() string { return filepath.Join(c.folder, "data") }

func (c *cluster) url(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(postgresUser, c.password),
		Host: loopback(c.port), Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// init makes the database files.
func (c *cluster) init(ctx context.Context) error {
	var err error
	if c.bin, err = findPostgres(os.Getenv("PATH"), "/"); err != nil {
		if c.bin, err = downloadPostgres(ctx, c.folder, c.credential); err != nil {
			return err
		}
	}
	password := filepath.Join(c.folder, "password")
	if err := c.writeOwn(password, c.password+"\n"); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	defer func() { _ = os.Remove(password) }() // the folder is private, and goes with the run
	cmd := exec.CommandContext(ctx, filepath.Join(c.bin, "initdb"),
		"--pgdata="+c.data(), "--username="+postgresUser, "--pwfile="+password,
		"--auth=scram-sha-256", "--encoding=UTF8", "--no-locale", "--no-sync")
	cmd.Dir = c.folder
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c.credential, Setpgid: true}
	output, err := cmd.CombinedOutput()
	if writeErr := os.WriteFile(c.log, output, 0o600); writeErr != nil {
		return fmt.Errorf("postgres: write log: %w", writeErr)
	}
	if err != nil {
		return fmt.Errorf("postgres: initdb: %w", err)
	}
	return nil
}

// writeOwn writes a file that only the user that Postgres runs as can read.
func (c *cluster) writeOwn(path, text string) error {
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return err
	}
	if c.credential == nil {
		return nil
	}
	return os.Chown(path, int(c.credential.Uid), int(c.credential.Gid))
}

// spec runs the server. It is as durable as it is by default: what is measured and tested
// with it should hold elsewhere.
func (c *cluster) spec() process.Spec {
	return process.Spec{
		Path: filepath.Join(c.bin, "postgres"),
		Args: []string{
			"-D", c.data(), "-h", "127.0.0.1", "-p", fmt.Sprint(c.port),
			"-c", "unix_socket_directories=",
			"-c", "logging_collector=off",
			"-c", "log_timezone=UTC", "-c", "timezone=UTC",
		},
		Dir:        c.folder,
		Log:        c.log,
		Credential: c.credential,
		// Fast shutdown. SIGTERM would wait for clients to leave.
		StopSignal:  syscall.SIGINT,
		DeathSignal: syscall.SIGINT,
	}
}

// ready connects, and makes the database at the first time.
func (c *cluster) ready(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, c.url(postgresDatabase))
	var refused *pgconn.PgError
	switch {
	case err == nil:
		return conn.Close(ctx)
	case !errors.As(err, &refused) || refused.Code != noSuchDatabase:
		return fmt.Errorf("not ready: %w", err)
	}
	conn, err = pgx.Connect(ctx, c.url("postgres"))
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	_, err = conn.Exec(ctx, "CREATE DATABASE "+postgresDatabase)
	if err := errors.Join(err, conn.Close(ctx)); err != nil {
		return fmt.Errorf("not ready: create the database: %w", err)
	}
	return nil
}
