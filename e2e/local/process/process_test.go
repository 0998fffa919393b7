package process_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/e2e/local/process"
)

func setup(t *testing.T) *process.Group {
	t.Helper()
	group := process.NewGroup()
	t.Cleanup(group.Close)
	return group
}

// shell runs a script that has said "ready" when shell returns.
func shell(t *testing.T, group *process.Group, script string, stopTimeout time.Duration) (*process.Process, string) {
	t.Helper()
	log := filepath.Join(t.TempDir(), "log")
	p, err := group.Start(process.Spec{
		Path: "/bin/sh", Args: []string{"-c", script}, Env: []string{"GREETING=hello"},
		Log: log, StopTimeout: stopTimeout,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
	})
	waitFor(t, func() bool { return strings.Contains(read(t, log), "ready") })
	return p, log
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited 10 s in vain")
		}
	}
}

func TestStop(t *testing.T) {
	t.Parallel()
	p, log := shell(t, setup(t), `trap 'echo bye; exit 0' TERM; echo $GREETING ready; while :; do sleep 0.05; done`, 0)
	id := p.Identity()
	if !p.Running() || !id.Alive() {
		t.Fatal("not running")
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if p.Running() || id.Alive() || p.Err() != nil {
		t.Errorf("running %v, alive %v, error %v", p.Running(), id.Alive(), p.Err())
	}
	if got := read(t, log); got != "hello ready\nbye\n" {
		t.Errorf("log %q", got)
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Errorf("second Stop: %v", err)
	}
	if err := id.Signal(syscall.SIGKILL); !errors.Is(err, process.ErrGone) {
		t.Errorf("signal: %v, want ErrGone", err)
	}
}

func TestStopKillsWhatWillNotStop(t *testing.T) {
	t.Parallel()
	// Its child is in its group, and must end too.
	p, log := shell(t, setup(t), `trap '' TERM; sleep 60 & echo $! ready; wait; wait`, 200*time.Millisecond)
	child, err := strconv.Atoi(strings.Fields(read(t, log))[0])
	if err != nil {
		t.Fatal(err)
	}
	id, err := process.Identify(child)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Stop(t.Context()); err == nil || !strings.Contains(err.Error(), "did not stop within 200ms of signal terminated and was killed") {
		t.Errorf("error %v", err)
	}
	if !id.WaitGone(5 * time.Second) {
		t.Error("the child of the killed process still runs")
	}
}

func TestGroup(t *testing.T) {
	t.Parallel()
	group := setup(t)
	if _, err := group.Start(process.Spec{Path: "/no/such/program", Log: filepath.Join(t.TempDir(), "log")}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing program: %v", err)
	}
	p, _ := shell(t, group, `echo ready; exec sleep 60`, 0)
	group.Close()
	group.Close()
	if _, err := group.Start(process.Spec{}); !errors.Is(err, process.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	if !diesWithParent {
		return
	}
	if !p.Identity().WaitGone(5 * time.Second) {
		t.Error("the process outlived the thread that started it")
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	self, err := process.Identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if !self.Alive() {
		t.Error("this process is not alive")
	}
	other := self
	other.Start += "0"
	if other.Alive() {
		t.Error("another start time counts as the same process")
	}
	if (process.Identity{}).Alive() {
		t.Error("the zero identity is alive")
	}

	// A zombie: ended, not waited for.
	cmd := exec.Command("/bin/true")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() //nolint:errcheck // only to bury it
	waitFor(t, func() bool {
		_, err := process.Identify(cmd.Process.Pid)
		return errors.Is(err, process.ErrGone)
	})
}
