package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/e2e/controlplane"
	"github.com/holdfast-dev/holdfast/e2e/local/process"
)

const (
	// readyTimeout bounds one question whether a part is ready.
	readyTimeout = 5 * time.Second
	// startTimeout is how long a part has to become ready; slow machines included.
	startTimeout = 60 * time.Second
	// startAttempts is how often a part is started that ends at once for a reason that
	// passes.
	startAttempts = 5
	// errorLines is how much of a part's log goes into an error.
	errorLines = 12
)

// part is one process of the run.
type part struct {
	name    string
	address string
	spec    process.Spec
	// ready asks once.
	ready func(context.Context) error

	mu sync.Mutex // held while the part is started or stopped
	// now guards what follows.
	now     sync.Mutex
	process *process.Process
	wanted  bool // its end is not unexpected if false
}

func fromComponent(c controlplane.Component, d layout) *part {
	return &part{
		name: c.Name, address: c.Address, ready: c.Ready,
		spec: process.Spec{Path: c.Path, Args: c.Args, Log: d.partLog(c.Name), StopTimeout: 25 * time.Second},
	}
}

// httpReady asks a health address for 200.
func httpReady(url string) func(context.Context) error {
	client := &http.Client{Timeout: readyTimeout}
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return fmt.Errorf("not ready: %w", err)
		}
		response, err := client.Do(request)
		if err != nil {
			return fmt.Errorf("not ready: %w", err)
		}
		defer func() { _ = response.Body.Close() }() // the status has been read
		if response.StatusCode != http.StatusOK {
			reason, _ := io.ReadAll(io.LimitReader(response.Body, 512))
			return fmt.Errorf("not ready: %s answers %s: %s", url, response.Status, strings.TrimSpace(string(reason)))
		}
		return nil
	}
}

func (p *part) set(proc *process.Process, wanted bool) {
	p.now.Lock()
	defer p.now.Unlock()
	p.process, p.wanted = proc, wanted
}

func (p *part) get() (*process.Process, bool) {
	p.now.Lock()
	defer p.now.Unlock()
	return p.process, p.wanted
}

// startPart starts a part and waits until it is ready. Ports were free when they were
// chosen, and a database that was killed leaves things behind for a moment: a part that ends
// for such a reason is started again.
func (l *Local) startPart(ctx context.Context, p *part) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if proc, _ := p.get(); proc != nil && proc.Running() {
		return fmt.Errorf("local: %s runs already", p.name)
	}
	began := time.Now()
	for attempt := 1; ; attempt++ {
		from := size(p.spec.Log)
		err := l.tryPart(ctx, p)
		if err == nil {
			l.config.Log.InfoContext(ctx, "part is ready", "part", p.name, "address", p.address, "took", time.Since(began).Round(time.Millisecond).String())
			return nil
		}
		said := logFrom(p.spec.Log, from)
		if attempt == startAttempts || ctx.Err() != nil || !passes(said) {
			return remedy(fmt.Errorf("local: %s: %w", p.name, err), p.spec.Log, said)
		}
		l.config.Log.WarnContext(ctx, "starting part again", "part", p.name, "attempt", attempt+1, "error", err)
		time.Sleep(time.Duration(attempt) * 300 * time.Millisecond)
	}
}

// tryPart starts a part once. If it does not become ready, it does not run.
func (l *Local) tryPart(ctx context.Context, p *part) error {
	proc, err := l.group.Start(p.spec)
	if err != nil {
		return err
	}
	p.set(proc, false)
	err = l.record(p, partStarting, proc.Identity())
	if err == nil {
		err = awaitReady(ctx, p, proc)
	}
	if err != nil {
		stopped := proc.Kill()
		return errors.Join(err, stopped, l.record(p, partDied, process.Identity{}))
	}
	if err := l.record(p, partUp, proc.Identity()); err != nil {
		return errors.Join(err, proc.Kill())
	}
	p.set(proc, true)
	go l.watch(ctx, p, proc)
	return nil
}

func awaitReady(ctx context.Context, p *part, proc *process.Process) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		err := p.ready(ctx)
		if !proc.Running() {
			return fmt.Errorf("ended while it started: %w", exitError(proc))
		}
		if err == nil {
			return nil
		}
		select {
		case <-proc.Done():
			return fmt.Errorf("ended while it started: %w", exitError(proc))
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func exitError(proc *process.Process) error {
	if err := proc.Err(); err != nil {
		return err
	}
	return errors.New("exit status 0")
}

// watch reports the end of a part that nobody asked for. The others go on.
func (l *Local) watch(ctx context.Context, p *part, proc *process.Process) {
	<-proc.Done()
	if now, wanted := p.get(); now != proc || !wanted {
		return
	}
	ctx = context.WithoutCancel(ctx)
	l.config.Log.ErrorContext(ctx, "part ended by itself; everything else goes on without it",
		"part", p.name, "exit", exitError(proc), "log", p.spec.Log)
	if err := l.record(p, partDied, process.Identity{}); err != nil {
		l.config.Log.ErrorContext(ctx, "cannot write state", "error", err)
	}
}

// endPart ends a part with what end does, and leaves it in state.
func (l *Local) endPart(p *part, end func(*process.Process) error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	proc, _ := p.get()
	if proc == nil {
		return nil
	}
	p.set(proc, false)
	if err := end(proc); err != nil {
		return errors.Join(fmt.Errorf("local: %s: %w", p.name, err), l.record(p, partStopped, process.Identity{}))
	}
	return l.record(p, partStopped, process.Identity{})
}

func (l *Local) record(p *part, is string, id process.Identity) error {
	return l.store.update(func(s *state) {
		now := s.part(p.name)
		now.Address, now.State, now.Identity = p.address, is, id
	})
}

func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

func logFrom(path string, from int64) string {
	data, err := os.ReadFile(path)
	if err != nil || from > int64(len(data)) {
		return ""
	}
	return string(data[from:])
}

// Things that parts log.
const (
	portTaken = "address already in use"
	diskFull  = "no space left on device"
	// What Postgres finds for a moment after it was killed.
	afterKill     = "pre-existing shared memory block"
	afterKillFile = `lock file "postmaster.pid" already exists`
)

// passes says whether what a part logged is a reason that goes away.
func passes(said string) bool {
	said = strings.ToLower(said)
	return strings.Contains(said, portTaken) || strings.Contains(said, afterKill) || strings.Contains(said, afterKillFile)
}

// remedy adds to an error the end of the part's log and what to do about it.
func remedy(err error, log, said string) error {
	if tail := logTail(log, errorLines); tail != "" {
		err = fmt.Errorf("%w\nthe end of %s:\n%s", err, log, tail)
	}
	said = strings.ToLower(said + err.Error())
	switch {
	case strings.Contains(said, portTaken):
		return fmt.Errorf("%w\na port was taken by another process after it had been chosen: run up again, which chooses others", err)
	case strings.Contains(said, diskFull):
		return fmt.Errorf("%w\nno space is left: free some, or choose another --dir", err)
	}
	return err
}
