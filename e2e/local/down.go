package local

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/holdfast-dev/holdfast/e2e/controlplane/filelock"
	"github.com/holdfast-dev/holdfast/e2e/local/process"
)

const (
	// stopTimeout is how long a supervisor has to stop everything: the sum of the parts'.
	stopTimeout = 90 * time.Second
	// sweepTimeout is how long parts without a supervisor have.
	sweepTimeout = 10 * time.Second
)

// ErrNotRunning means that nothing runs in Dir.
var ErrNotRunning = errors.New("nothing is running")

// Down stops the run in a folder, whoever started it: it asks the supervisor, and ends what
// is left when there is none, even when that was killed by force. It returns ErrNotRunning
// when nothing was there to stop.
func Down(ctx context.Context, dir string, log *slog.Logger) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("local: %w", err)
	}
	d := layout(dir)
	s, ok, err := readState(d)
	if err != nil {
		return err
	}
	if !ok {
		return fmt.Errorf("local: %w in %s", ErrNotRunning, dir)
	}
	stopped, err := stopSupervisor(ctx, s.Supervisor, log)
	if err != nil {
		return err
	}
	// The lock is free as soon as the supervisor has ended.
	lockCtx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	lock, err := filelock.Acquire(lockCtx, d.lock(), nil)
	if err != nil {
		return fmt.Errorf("local: %s is used by another holdfast-local: %w", dir, err)
	}
	defer lock.Release()
	if s, _, err = readState(d); err != nil {
		return err
	}
	left := slices.ContainsFunc(s.Parts, func(p partState) bool { return p.Identity.Alive() })
	if err := sweep(s, log); err != nil {
		return err
	}
	if !stopped && !left && len(s.Remove) == 0 {
		return fmt.Errorf("local: %w in %s", ErrNotRunning, dir)
	}
	kept := &store{dir: d, now: s}
	return kept.update(func(s *state) {
		s.Remove = nil
		if s.Phase != phaseFailed {
			s.Phase = phaseStopped
		}
		for i := range s.Parts {
			if s.Parts[i].State != partExternal {
				s.Parts[i].State, s.Parts[i].Identity = partStopped, process.Identity{}
			}
		}
	})
}

// stopSupervisor asks the supervisor to stop everything, and says whether there was one.
func stopSupervisor(ctx context.Context, supervisor process.Identity, log *slog.Logger) (bool, error) {
	err := supervisor.Signal(syscall.SIGTERM)
	if errors.Is(err, process.ErrGone) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("local: stop the supervisor: %w", err)
	}
	log.InfoContext(ctx, "stopping everything", "supervisor", supervisor.PID)
	for deadline := time.Now().Add(stopTimeout); supervisor.Alive(); time.Sleep(50 * time.Millisecond) {
		if ctx.Err() != nil {
			return true, fmt.Errorf("local: wait for the supervisor: %w", ctx.Err())
		}
		if time.Now().Before(deadline) {
			continue
		}
		log.WarnContext(ctx, "the supervisor does not stop; killing it", "supervisor", supervisor.PID)
		if err := supervisor.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, process.ErrGone) {
			return true, fmt.Errorf("local: kill the supervisor: %w", err)
		}
		supervisor.WaitGone(sweepTimeout)
		break
	}
	return true, nil
}

// sweep ends parts that have lost their supervisor, and removes what a run has outside of
// its folder.
func sweep(s state, log *slog.Logger) error {
	var errs []error
	for _, p := range s.Parts {
		signal := syscall.SIGTERM
		if p.Name == Postgres {
			signal = syscall.SIGINT // fast shutdown
		}
		if err := p.Identity.Signal(signal); err != nil && !errors.Is(err, process.ErrGone) {
			errs = append(errs, err)
		}
	}
	deadline := time.Now().Add(sweepTimeout)
	for _, p := range s.Parts {
		if p.Identity.WaitGone(max(0, time.Until(deadline))) {
			continue
		}
		log.Warn("killing a part that was left behind", "part", p.Name, "pid", p.Identity.PID)
		if err := p.Identity.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, process.ErrGone) {
			errs = append(errs, err)
		}
		if !p.Identity.WaitGone(sweepTimeout) {
			errs = append(errs, fmt.Errorf("local: %s (process %d) cannot be killed", p.Name, p.Identity.PID))
		}
	}
	return errors.Join(append(errs, removeAll(s.Remove))...)
}

// removeAll removes folders that this package has made outside of Dir, and no others.
func removeAll(folders []string) error {
	var errs []error
	for _, folder := range folders {
		if !strings.HasPrefix(filepath.Base(folder), postgresFolder) {
			errs = append(errs, fmt.Errorf("local: will not remove %s, which holdfast-local did not make", folder))
			continue
		}
		errs = append(errs, os.RemoveAll(folder))
	}
	return errors.Join(errs...)
}
