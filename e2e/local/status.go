package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
)

// PartStatus is how a part is right now.
type PartStatus struct {
	Name string
	// PID is 0 for a part that does not run, or not here.
	PID     int
	Address string
	// State is up, starting, stopped, died, or not answering.
	State string
}

// RunStatus is how a run is right now.
type RunStatus struct {
	// Phase is starting, ready, stopping, stopped, failed, or killed: the supervisor is
	// gone and could not say so.
	Phase string
	// Error is why it failed.
	Error string
	Guard bool
	// Supervisor is a PID.
	Supervisor int
	Parts      []PartStatus
}

// Up says whether the run is ready and every part answers.
func (s RunStatus) Up() bool {
	for _, p := range s.Parts {
		if p.State != partUp {
			return false
		}
	}
	return s.Phase == phaseReady
}

// Status looks at the run in a folder. It returns ErrNotRunning where there never was one.
func Status(ctx context.Context, dir string) (RunStatus, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return RunStatus{}, fmt.Errorf("local: %w", err)
	}
	s, ok, err := readState(layout(dir))
	if err != nil {
		return RunStatus{}, err
	}
	if !ok {
		return RunStatus{}, fmt.Errorf("local: %w in %s: start it with: holdfast-local up --dir %s --detach", ErrNotRunning, dir, quote(dir))
	}
	status := RunStatus{Phase: s.Phase, Error: s.Error, Guard: s.Guard, Supervisor: s.Supervisor.PID}
	if !s.Supervisor.Alive() {
		status.Supervisor = 0
		if s.Phase != phaseStopped && s.Phase != phaseFailed {
			status.Phase = "killed"
		}
	}
	for _, name := range partNames() {
		for _, p := range s.Parts {
			if p.Name == name {
				status.Parts = append(status.Parts, look(ctx, p))
			}
		}
	}
	return status, nil
}

// look sees whether a part runs and answers.
func look(ctx context.Context, p partState) PartStatus {
	now := PartStatus{Name: p.Name, Address: p.Address, State: p.State}
	if p.State != partExternal {
		if !p.Identity.Alive() {
			if p.State == partUp || p.State == partStarting {
				now.State = partDied
			}
			return now
		}
		now.PID = p.Identity.PID
		if p.State != partUp {
			return now
		}
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(ctx, "tcp", p.Address)
	if err != nil {
		now.State = "not answering"
		return now
	}
	now.State = partUp
	// It only had to answer.
	_ = conn.Close()
	return now
}

// Print writes the status as a table.
func (s RunStatus) Print(w io.Writer) error {
	guard := "on"
	if !s.Guard {
		guard = "off"
	}
	var rows strings.Builder
	fmt.Fprintf(&rows, "NAME\tPID\tADDRESS\tSTATE\n")
	fmt.Fprintf(&rows, "supervisor\t%s\tguard %s\t%s\n", pidText(s.Supervisor), guard, s.Phase)
	for _, p := range s.Parts {
		fmt.Fprintf(&rows, "%s\t%s\t%s\t%s\n", p.Name, pidText(p.PID), p.Address, p.State)
	}
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	_, err := io.WriteString(table, rows.String())
	if err := errors.Join(err, table.Flush()); err != nil {
		return fmt.Errorf("local: print status: %w", err)
	}
	if s.Error != "" {
		if _, err := fmt.Fprintf(w, "\nit failed: %s\n", s.Error); err != nil {
			return fmt.Errorf("local: print status: %w", err)
		}
	}
	return nil
}

func pidText(pid int) string {
	if pid == 0 {
		return "-"
	}
	return strconv.Itoa(pid)
}
