// Package gotool runs the go command, and says what to do when it fails for want of Go,
// network or space.
package gotool

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// tailLines is how much of a failed command's output is worth showing.
const tailLines = 15

// Command is go with args in dir, outside any workspace. When ctx ends, the compilers and
// linkers that it started end with it: they share a process group of their own.
func Command(ctx context.Context, dir string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	cmd.Env = append(cmd.Environ(), "GOWORK=off")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// Explain adds to the error of a go command, or of writing what it makes, the end of its
// output and what to do about it.
func Explain(err error, output string) error {
	if err == nil {
		return nil
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && output == "" {
		output = string(exit.Stderr)
	}
	said := output + err.Error()
	if tail := LastLines(output, tailLines); tail != "" {
		err = fmt.Errorf("%w:\n%s", err, tail)
	}
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return fmt.Errorf("%w: install Go and put it into PATH", err)
	case mentions(said, "no space left on device", "disk quota exceeded"):
		return fmt.Errorf("%w\nno space is left: a first build of the control plane needs 4 GB in Go's build cache and 320 MB in the user's cache directory; free some (go clean -cache), or set GOCACHE and XDG_CACHE_HOME to a larger disk", err)
	case mentions(said, "dial tcp", "no such host", "proxyconnect", "network is unreachable", "i/o timeout", "TLS handshake timeout", "module lookup disabled"):
		return fmt.Errorf("%w\nthe Go module proxy cannot be reached: connect to the network for the first build, or set GOPROXY to one that can be", err)
	}
	return err
}

func mentions(text string, what ...string) bool {
	for _, w := range what {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}

// LastLines returns the last n lines of text.
func LastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	if len(lines) > n {
		lines = lines[len(lines)-n:]
	}
	return strings.Join(lines, "\n")
}
