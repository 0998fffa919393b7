// Package filelock is a lock between processes: a file that at most one of them has locked.
// The kernel lets go of it when the process ends, however it ends, so that no lock is ever
// left behind.
//
// It is advisory, works on one machine only, and needs flock(2), so not Windows.
package filelock

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// ErrHeld is returned by Try while somebody else holds the lock.
var ErrHeld = errors.New("held by another process")

// poll is how often Acquire looks whether the lock is free.
const poll = 200 * time.Millisecond

// Lock is a held lock.
type Lock struct{ file *os.File }

// Try takes the lock of the file at path, which it creates if need be, or returns ErrHeld at
// once. The file stays when the lock is let go.
func Try(path string) (*Lock, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	for {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			break
		}
	}
	switch {
	case err == nil:
		return &Lock{file: file}, nil
	case errors.Is(err, syscall.EWOULDBLOCK):
		err = ErrHeld
	}
	return nil, fmt.Errorf("lock %s: %w", path, errors.Join(err, file.Close()))
}

// Acquire waits until it has the lock. It calls waiting once, if it has to wait at all. The
// error is that of ctx, or of the file system.
func Acquire(ctx context.Context, path string, waiting func()) (*Lock, error) {
	said := false
	for {
		lock, err := Try(path)
		if !errors.Is(err, ErrHeld) {
			return lock, err
		}
		if !said && waiting != nil {
			waiting()
		}
		said = true
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for lock %s: %w", path, ctx.Err())
		case <-time.After(poll):
		}
	}
}

// Release lets go of the lock. It may be called twice.
func (l *Lock) Release() {
	// Closing is what lets go; the file holds nothing that could be lost.
	_ = l.file.Close()
}
