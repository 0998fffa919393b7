// Package process runs child processes that must not outlive the one that started them: each
// in a process group of its own, with a log file, a signal to stop it and a time after which
// it is killed.
//
// It restarts nothing, and knows nothing of what it runs. It needs Unix; that children end
// when their parent is killed by force is Linux's doing, elsewhere see Identity.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// DefaultStopTimeout is how long a process has to stop before it is killed.
const DefaultStopTimeout = 15 * time.Second

// ErrClosed means that the Group has been closed.
var ErrClosed = errors.New("process: group is closed")

// Spec says what to run.
type Spec struct {
	// Path and Args are the program and its arguments, without the program's own name.
	Path string
	Args []string
	// Env is added to this process's own environment, as name=value.
	Env []string
	// Dir is the working directory. Default: that of this process.
	Dir string
	// Log is the file that gets standard output and error, at its end.
	Log string
	// Credential is who the process runs as. Default: as this process.
	Credential *syscall.Credential
	// StopSignal asks the process to stop. Default: SIGTERM.
	StopSignal syscall.Signal
	// DeathSignal is what it gets when this process dies (Linux). Default: SIGKILL.
	DeathSignal syscall.Signal
	// StopTimeout is how long after StopSignal it is killed. Default: DefaultStopTimeout.
	StopTimeout time.Duration
}

// Group starts processes, all from one thread that lives until Close: Linux sends the signal
// of a parent's death when the thread ends that made the child.
type Group struct {
	requests chan func()
	closed   chan struct{}
	once     sync.Once
}

// NewGroup makes a Group. Close it when all its processes have ended.
func NewGroup() *Group {
	g := &Group{requests: make(chan func()), closed: make(chan struct{})}
	go func() {
		// Never unlocked: the thread ends with this goroutine.
		runtime.LockOSThread()
		for {
			select {
			case do := <-g.requests:
				do()
			case <-g.closed:
				return
			}
		}
	}()
	return g
}

// Close ends the Group. Where Linux knows of it, processes that still run get their
// DeathSignal. It may be called twice.
func (g *Group) Close() { g.once.Do(func() { close(g.closed) }) }

// Process is a child process.
type Process struct {
	cmd         *exec.Cmd
	identity    Identity
	stopSignal  syscall.Signal
	stopTimeout time.Duration
	done        chan struct{}
	err         error // valid once done is closed
}

// Start starts a process.
func (g *Group) Start(spec Spec) (*Process, error) {
	type result struct {
		process *Process
		err     error
	}
	results := make(chan result, 1)
	select {
	case g.requests <- func() { p, err := start(spec); results <- result{p, err} }:
		r := <-results
		return r.process, r.err
	case <-g.closed:
		return nil, ErrClosed
	}
}

func start(spec Spec) (*Process, error) {
	log, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("process: open log: %w", err)
	}
	defer func() { _ = log.Close() }()           // the child has its own
	cmd := exec.Command(spec.Path, spec.Args...) //nolint:noctx // Stop and Kill end it
	cmd.Dir = spec.Dir
	cmd.Env = append(cmd.Environ(), spec.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = attributes(spec)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("process: %w", err)
	}
	p := &Process{
		cmd: cmd, done: make(chan struct{}),
		stopSignal: spec.StopSignal, stopTimeout: spec.StopTimeout,
	}
	if p.stopSignal == 0 {
		p.stopSignal = syscall.SIGTERM
	}
	if p.stopTimeout == 0 {
		p.stopTimeout = DefaultStopTimeout
	}
	// It is our child and has not been waited for, so the PID is still its own.
	p.identity, err = Identify(cmd.Process.Pid)
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err != nil {
		return nil, errors.Join(err, p.Kill())
	}
	return p, nil
}

// Identity tells the process from later ones with its PID.
func (p *Process) Identity() Identity { return p.identity }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is how the process ended: nil for exit status 0. It waits for the end.
func (p *Process) Err() error {
	<-p.done
	return p.err
}

// Running says whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Stop asks the process to stop, waits, and kills it when its time is over or ctx ends. It
// returns once the process has ended; that it was killed is an error.
func (p *Process) Stop(ctx context.Context) error {
	if !p.Running() {
		return nil
	}
	if err := p.cmd.Process.Signal(p.stopSignal); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("process: stop: %w", err)
	}
	timer := time.NewTimer(p.stopTimeout)
	defer timer.Stop()
	select {
	case <-p.done:
		return nil
	case <-timer.C:
		return errors.Join(fmt.Errorf("process: did not stop within %s of signal %s and was killed", p.stopTimeout, p.stopSignal), p.Kill())
	case <-ctx.Done():
		return errors.Join(fmt.Errorf("process: killed before it had stopped: %w", ctx.Err()), p.Kill())
	}
}

// Kill kills the process and everything in its process group by force, and waits for its
// end.
func (p *Process) Kill() error {
	if p.Running() {
		if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("process: kill: %w", err)
		}
	}
	<-p.done
	return nil
}
