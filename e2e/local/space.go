package local

import (
	"fmt"
	"syscall"
)

// needBytes is the room that a run needs at least: etcd 64 MB for its log, Postgres 60 MB,
// Holdfast's programs 200 MB, logs.
const needBytes = 512 << 20

// checkSpace refuses a folder whose disk is full.
func checkSpace(dir string, need uint64) error {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(dir, &fs); err != nil {
		return fmt.Errorf("local: look for space in %s: %w", dir, err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < need { //nolint:gosec // the size of a block is not negative
		return fmt.Errorf("local: no space: %s has %d MB free, want %d MB: free some, or choose another --dir", dir, free>>20, need>>20)
	}
	return nil
}
