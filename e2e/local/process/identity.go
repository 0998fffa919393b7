package process

import (
	"errors"
	"fmt"
	"syscall"
	"time"
)

// ErrGone means that there is no such process (any more).
var ErrGone = errors.New("process: gone")

// Identity is a process: a PID is reused, one together with a start time is not. It can be
// stored and used by another process.
type Identity struct {
	PID int `json:"pid"`
	// Start is when it started, in a form that only this package compares.
	Start string `json:"start"`
}

// Identify returns the identity of the process that has the PID now, or ErrGone.
func Identify(pid int) (Identity, error) {
	start, err := startTime(pid)
	if err != nil {
		return Identity{}, fmt.Errorf("process %d: %w", pid, err)
	}
	return Identity{PID: pid, Start: start}, nil
}

// Alive says whether this very process still runs. A process that has ended and was not
// waited for is not alive.
func (id Identity) Alive() bool {
	if id.PID <= 0 {
		return false
	}
	now, err := Identify(id.PID)
	return err == nil && now == id
}

// Signal sends a signal, if this very process still runs; otherwise it returns ErrGone.
func (id Identity) Signal(signal syscall.Signal) error {
	if !id.Alive() {
		return ErrGone
	}
	if err := syscall.Kill(id.PID, signal); err != nil {
		if errors.Is(err, syscall.ESRCH) {
			return ErrGone
		}
		return fmt.Errorf("process %d: send %s: %w", id.PID, signal, err)
	}
	return nil
}

// WaitGone waits at most timeout for the process to end, and says whether it has.
func (id Identity) WaitGone(timeout time.Duration) bool {
	for deadline := time.Now().Add(timeout); id.Alive(); {
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(50 * time.Millisecond)
	}
	return true
}
