package local

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/holdfast-dev/holdfast/certs"
	"github.com/holdfast-dev/holdfast/e2e/controlplane"
	"github.com/holdfast-dev/holdfast/e2e/controlplane/filelock"
	"github.com/holdfast-dev/holdfast/e2e/local/process"
)

// ErrRunning means that something runs in Dir already.
var ErrRunning = errors.New("already running")

// lonelyTimeout is how long the API server has to stop when there is no collector.
const lonelyTimeout = 5 * time.Second

// ErrNoPart means that the run has no such part.
var ErrNoPart = errors.New("no such part")

// Local is a run.
type Local struct {
	config Config
	dir    layout
	ports  ports
	info   Info
	lock   *filelock.Lock
	// block holds the ports until the end.
	block *block
	group *process.Group
	store *store
	parts map[string]*part
	// partsMu guards parts while they are added at the same time.
	partsMu sync.Mutex

	plane      *controlplane.ControlPlane
	authority  *certs.Authority
	binaries   controlplane.Binaries
	clientPair certs.Pair // what the API server shows to the webhook and the collector
	source     string     // root of the source tree; empty outside of one
}

// Up brings everything up and returns when all of it is ready. If that fails, nothing of it
// runs, and the error says what to do. The caller must call Down in the end.
func Up(ctx context.Context, config Config) (*Local, error) {
	config, err := config.complete()
	if err != nil {
		return nil, err
	}
	dir := layout(config.Dir)
	lock, err := claim(dir, config)
	if err != nil {
		return nil, err
	}
	l := &Local{
		config: config, dir: dir, lock: lock, group: process.NewGroup(),
		store: &store{dir: dir}, parts: map[string]*part{},
	}
	began := time.Now()
	if err := l.up(ctx); err != nil {
		failure := err.Error()
		err = errors.Join(err, l.end(context.WithoutCancel(ctx), func(s *state) { s.Phase, s.Error = phaseFailed, failure }))
		return nil, err
	}
	config.Log.InfoContext(ctx, "everything is ready", "dir", config.Dir, "took", time.Since(began).Round(time.Millisecond).String())
	return l, nil
}

// claim takes the folder for this run, and removes what an earlier one left.
func claim(dir layout, config Config) (*filelock.Lock, error) {
	if err := os.MkdirAll(string(dir), 0o700); err != nil {
		return nil, fmt.Errorf("local: %w", err)
	}
	lock, err := filelock.Try(dir.lock())
	if errors.Is(err, filelock.ErrHeld) {
		return nil, running(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("local: %w", err)
	}
	if err := prepare(dir, config); err != nil {
		lock.Release()
		return nil, err
	}
	return lock, nil
}

func running(dir layout) error {
	who := ""
	if s, ok, err := readState(dir); err == nil && ok {
		who = fmt.Sprintf(" (process %d)", s.Supervisor.PID)
	}
	return fmt.Errorf("local: %w in %s%s: stop it with: holdfast-local down --dir %s, or choose another --dir", ErrRunning, dir, who, quote(string(dir)))
}

func prepare(dir layout, config Config) error {
	if config.prepared {
		return dir.create()
	}
	s, ok, err := readState(dir)
	if err != nil {
		return err
	}
	if !ok {
		if err := dir.checkForeign(); err != nil {
			return err
		}
	} else {
		if err := sweep(s, config.Log); err != nil {
			return err
		}
		if err := dir.clear(config.Executable); err != nil {
			return err
		}
	}
	for _, where := range []string{string(dir), os.TempDir()} {
		if err := checkSpace(where, needBytes); err != nil {
			return err
		}
	}
	return dir.create()
}

// up is the order of a start: what does not need each other at the same time; the collector
// before the API server, which sends it events from the first moment; the webhook after it,
// since it watches Agents and policies there.
func (l *Local) up(ctx context.Context) error {
	self, err := process.Identify(os.Getpid())
	if err != nil {
		return fmt.Errorf("local: %w", err)
	}
	if err := l.store.update(func(s *state) {
		*s = state{Phase: phaseStarting, Guard: l.config.Guard, Supervisor: self}
	}); err != nil {
		return err
	}
	if l.block, err = claimPorts(ctx); err != nil {
		return err
	}
	l.ports = l.block.ports()
	l.info = newInfo(l.dir, l.ports, l.config)
	if l.source, err = controlplane.FindSource(l.config.SourceDir); err != nil && !errors.Is(err, controlplane.ErrNoSource) {
		return err
	}
	steps := []func(context.Context) error{
		l.foundations, l.startCollector, l.startAPIServer, l.startControllers, l.startWebhook, l.declareAgent, l.applyPolicies, l.finish,
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// foundations builds programs and starts the stores.
func (l *Local) foundations(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	if l.config.evidence() {
		group.Go(func() error { return l.startPostgres(ctx) })
	}
	group.Go(func() error {
		if err := (programs{config: l.config, dir: l.dir}).install(ctx); err != nil {
			return fmt.Errorf("local: %w", err)
		}
		if l.config.evidence() {
			return l.startNATS(ctx)
		}
		return nil
	})
	group.Go(func() error {
		binaries, err := controlplane.Build(ctx, controlplane.BuildConfig{
			SourceDir: l.config.SourceDir, Progress: l.config.Progress,
		})
		if err != nil {
			return err
		}
		l.binaries = binaries
		if err := link(binaries.Kubectl, l.dir.bin(kubectlProgram)); err != nil {
			return fmt.Errorf("local: %w", err)
		}
		if err := l.preparePlane(); err != nil {
			return err
		}
		return l.add(ctx, fromComponent(l.plane.Etcd(), l.dir))
	})
	return group.Wait()
}

// finish writes env and says that all is ready.
func (l *Local) finish(context.Context) error {
	if err := writeAtomic(l.dir.env(), []byte(l.info.envFile())); err != nil {
		return fmt.Errorf("local: write env: %w", err)
	}
	return l.store.update(func(s *state) { s.Phase = phaseReady })
}

// add makes a part of the run and starts it.
func (l *Local) add(ctx context.Context, p *part) error {
	l.partsMu.Lock()
	l.parts[p.name] = p
	l.partsMu.Unlock()
	return l.startPart(ctx, p)
}

// stopOrder are stages: what sends to others ends before them, so that nothing is lost. The
// API server sends its last audit events when it stops.
func stopOrder() [][]string {
	return [][]string{{Webhook, Replica, ControllerManager}, {APIServer}, {Collector}, {NATS, Postgres, Etcd}}
}

// Down stops everything, in order, and removes what is outside of Dir. When ctx ends, the
// rest is killed. It may be called twice; afterwards no process is left, and an error says
// only what did not go as it should have.
func (l *Local) Down(ctx context.Context) error {
	if l.store.get().Phase == phaseStopped {
		return nil
	}
	l.config.Log.InfoContext(ctx, "stopping everything", "dir", l.config.Dir)
	err := l.store.update(func(s *state) { s.Phase = phaseStopping })
	return errors.Join(err, l.end(ctx, func(s *state) { s.Phase = phaseStopped }))
}

func (l *Local) end(ctx context.Context, last func(*state)) error {
	var errs []error
	for _, stage := range stopOrder() {
		var group errgroup.Group
		for _, name := range stage {
			p, err := l.find(name)
			if err != nil {
				continue
			}
			group.Go(func() error {
				return l.endPart(p, func(proc *process.Process) error { return l.stop(ctx, name, proc) })
			})
		}
		errs = append(errs, group.Wait())
	}
	l.group.Close()
	errs = append(errs, removeAll(l.store.get().Remove), l.store.update(func(s *state) {
		s.Remove = nil
		last(s)
	}))
	l.block.release()
	l.lock.Release()
	return errors.Join(errs...)
}

// stop stops a process. An API server whose collector is gone would try for a minute and more
// to send its last audit events; they are in its log.
func (l *Local) stop(ctx context.Context, name string, proc *process.Process) error {
	if name != APIServer || !l.config.evidence() || l.PID(Collector) != 0 {
		return proc.Stop(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, lonelyTimeout)
	defer cancel()
	if err := proc.Stop(ctx); err != nil {
		l.config.Log.WarnContext(ctx, "killed the API server, which could not send its last audit events to the collector; its audit log has them",
			"log", l.info.AuditLog)
	}
	return nil
}

func (l *Local) find(name string) (*part, error) {
	l.partsMu.Lock()
	defer l.partsMu.Unlock()
	p, ok := l.parts[name]
	if !ok {
		return nil, fmt.Errorf("local: %q: %w", name, ErrNoPart)
	}
	return p, nil
}

// Info says where everything is.
func (l *Local) Info() Info { return l.info }

// Kill kills a part by force (SIGKILL) and waits for its end.
func (l *Local) Kill(name string) error {
	p, err := l.find(name)
	if err != nil {
		return err
	}
	return l.endPart(p, (*process.Process).Kill)
}

// Stop asks a part to stop and waits for its end.
func (l *Local) Stop(ctx context.Context, name string) error {
	p, err := l.find(name)
	if err != nil {
		return err
	}
	return l.endPart(p, func(proc *process.Process) error { return proc.Stop(ctx) })
}

// Start starts a part again that was killed or stopped or has died, with the same arguments
// and port, and waits until it is ready.
func (l *Local) Start(ctx context.Context, name string) error {
	p, err := l.find(name)
	if err != nil {
		return err
	}
	return l.startPart(ctx, p)
}

// PID returns the process of a part; 0 when it does not run.
func (l *Local) PID(name string) int {
	p, err := l.find(name)
	if err != nil {
		return 0
	}
	if proc, _ := p.get(); proc != nil && proc.Running() {
		return proc.Identity().PID
	}
	return 0
}

// LogPath is the log of a part.
func (l *Local) LogPath(name string) string { return l.dir.partLog(name) }

// Parts are the names of the run's parts.
func (l *Local) Parts() []string {
	return slices.DeleteFunc(partNames(), func(name string) bool {
		_, err := l.find(name)
		return err != nil
	})
}
