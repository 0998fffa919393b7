package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-dev/holdfast/e2e/controlplane/filelock"
)

// shutdownTimeout bounds how long a run takes to stop before the rest of it is killed.
const shutdownTimeout = 80 * time.Second

// Run brings everything up, calls ready, and stops it all when ctx ends, or when somebody
// has removed Dir.
func Run(ctx context.Context, config Config, ready func()) error {
	l, err := Up(ctx, config)
	if err != nil {
		return err
	}
	ready()
	l.waitForEnd(ctx)
	stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := l.Down(stopCtx); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (l *Local) waitForEnd(ctx context.Context) {
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if _, err := os.Stat(l.dir.state()); errors.Is(err, fs.ErrNotExist) {
				l.config.Log.WarnContext(ctx, "the folder was removed; stopping", "dir", l.config.Dir)
				return
			}
		}
	}
}

// Detach starts args, which must lead to Run with Config.Prepared, with a copy of
// Config.Executable in a session of its own, and returns when the run is ready. What the run
// logs until then is copied to Progress; all of it is in Dir/local.log. If the run fails, or
// ctx ends before it is ready, nothing of it is left.
func Detach(ctx context.Context, config Config, args []string) error {
	config, err := config.complete()
	if err != nil {
		return err
	}
	dir := layout(config.Dir)
	lock, err := claim(dir, config)
	if err != nil {
		return err
	}
	cmd, err := startDetached(dir, config.Executable, args, lock)
	if err != nil {
		return fmt.Errorf("local: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	follow := &follower{path: dir.localLog(), to: config.Progress}
	for {
		select {
		case err := <-ended:
			follow.copy()
			return detachedFailure(dir, err)
		case <-ctx.Done():
			stopErr := cmd.Process.Signal(syscall.SIGTERM)
			<-ended //nolint:errcheck // that it was stopped is the error
			follow.copy()
			return errors.Join(fmt.Errorf("local: stopped before it was ready: %w", ctx.Err()), stopErr)
		case <-time.After(100 * time.Millisecond):
		}
		follow.copy()
		if s, ok, err := readState(dir); err == nil && ok && s.Phase == phaseReady && s.Supervisor.PID == cmd.Process.Pid {
			follow.copy()
			return nil
		}
	}
}

// startDetached hands the claimed folder over to a process that lasts.
func startDetached(dir layout, executable string, args []string, lock *filelock.Lock) (*exec.Cmd, error) {
	defer lock.Release()
	if executable == "" {
		return nil, errors.New("executable: want a holdfast-local to detach")
	}
	if err := place(executable, dir.bin(localProgram)); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(dir.localLog(), os.O_CREATE|os.O_WRONLY|os.O_APPEND|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()                  // the child has its own
	cmd := exec.Command(dir.bin(localProgram), args...) //nolint:noctx // it is to outlive this process
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	// The child claims the folder as its first step.
	lock.Release()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return cmd, nil
}

// detachedFailure is the error of a run that ended before it was ready. What it logged, the
// reason and the remedy with it, has been copied to Progress.
func detachedFailure(dir layout, exit error) error {
	if exit == nil {
		exit = errors.New("exit status 0")
	}
	return fmt.Errorf("local: it ended before it was ready, as said above (%w); its log is %s, those of its parts are beside it in logs", exit, dir.localLog())
}

// follower copies what is added to a file.
type follower struct {
	path string
	to   io.Writer
	at   int64
}

func (f *follower) copy() {
	file, err := os.Open(f.path)
	if err != nil {
		return
	}
	defer func() { _ = file.Close() }() // only read
	n, err := io.Copy(f.to, io.NewSectionReader(file, f.at, 1<<40))
	if err == nil {
		f.at += n
	}
}

// Summary tells people what they can do with a run that is ready.
func Summary(config Config) string {
	d := layout(config.Dir)
	var b strings.Builder
	fmt.Fprintf(&b, "\nHoldfast's local control plane is ready. In sh:\n\n  . %s\n\n", quote(d.env()))
	for _, line := range [][2]string{
		{"HOLDFAST_AGENT_KUBECONFIG", "the agent: a service account that is cluster-admin"},
		{"HOLDFAST_HUMAN_KUBECONFIG", "a person who is cluster-admin, and no agent"},
		{"HOLDFAST_APPROVER_KUBECONFIG", "an approver (and HOLDFAST_APPROVER2_KUBECONFIG, another)"},
		{"HOLDFAST_ADMIN_KUBECONFIG", "system:masters, whom nothing stops"},
	} {
		fmt.Fprintf(&b, "  kubectl --kubeconfig \"$%s\" get ns   # %s\n", line[0], line[1])
	}
	switch {
	case !config.Guard:
		b.WriteString("\nThe guard is off: Holdfast is registered nowhere.\n")
	case !config.NoEvidence:
		b.WriteString("  psql \"$DATABASE_URL\" -c 'SELECT count(*) FROM audit_events'\n")
	}
	fmt.Fprintf(&b, "\nLogs are in %s/logs. Look with `holdfast-local status --dir DIR`, stop with `holdfast-local down --dir DIR`.\n", config.Dir)
	return b.String()
}
