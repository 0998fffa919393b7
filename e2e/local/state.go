package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/holdfast-dev/holdfast/e2e/local/process"
)

// Phases of a run.
const (
	phaseStarting = "starting"
	phaseReady    = "ready"
	phaseStopping = "stopping"
	phaseStopped  = "stopped"
	phaseFailed   = "failed"
)

// States of a part.
const (
	partStarting = "starting"
	partUp       = "up"
	partDied     = "died"
	partStopped  = "stopped"
	partExternal = "external"
)

// state is what other processes need to know of a run; it is in Dir/state.json.
type state struct {
	Phase string `json:"phase"`
	// Error is why the phase is failed.
	Error string `json:"error,omitempty"`
	Guard bool   `json:"guard"`
	// Supervisor is the process that runs the parts.
	Supervisor process.Identity `json:"supervisor"`
	Parts      []partState      `json:"parts,omitempty"`
	// Remove are folders outside of Dir that go with the run.
	Remove []string `json:"remove,omitempty"`
}

// partState is what is known of a part.
type partState struct {
	Name     string           `json:"name"`
	Address  string           `json:"address"`
	State    string           `json:"state"`
	Identity process.Identity `json:"identity"`
}

func (s *state) part(name string) *partState {
	for i := range s.Parts {
		if s.Parts[i].Name == name {
			return &s.Parts[i]
		}
	}
	s.Parts = append(s.Parts, partState{Name: name})
	return &s.Parts[len(s.Parts)-1]
}

// readState returns the state of a run, and whether there is one.
func readState(d layout) (state, bool, error) {
	var s state
	data, err := os.ReadFile(d.state())
	if errors.Is(err, fs.ErrNotExist) {
		return s, false, nil
	}
	if err != nil {
		return s, false, fmt.Errorf("local: read state: %w", err)
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return s, false, fmt.Errorf("local: %s was not written by holdfast-local, or is damaged: choose another --dir, or remove it: %w", d.state(), err)
	}
	return s, true, nil
}

// store keeps the state and writes each change to the disk.
type store struct {
	dir layout
	mu  sync.Mutex
	now state
}

// update changes the state and writes it, by renaming a whole file into place.
func (s *store) update(change func(*state)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.now)
	data, err := json.MarshalIndent(s.now, "", "  ")
	if err != nil {
		return fmt.Errorf("local: encode state: %w", err)
	}
	if err := writeAtomic(s.dir.state(), append(data, '\n')); err != nil {
		return fmt.Errorf("local: write state: %w", err)
	}
	return nil
}

func (s *store) get() state {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now
	now.Parts = append([]partState(nil), s.now.Parts...)
	now.Remove = append([]string(nil), s.now.Remove...)
	return now
}

// writeAtomic writes a file that only its owner can read, all of it or nothing.
func writeAtomic(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone after the rename
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
