package postgrestest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// folders are where distributions put initdb and postgres, outside of PATH.
var folders = []string{
	"/usr/lib/postgresql/*/bin",         // Debian, Ubuntu
	"/usr/pgsql-*/bin",                  // Red Hat, PGDG
	"/usr/libexec/postgresql*",          // Alpine
	"/opt/homebrew/opt/postgresql*/bin", // macOS
	"/usr/local/opt/postgresql*/bin",
	"/usr/local/pgsql/bin",
}

// findBinaries returns the folder of initdb and postgres.
func findBinaries() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		for _, p := range []string{path, resolved(path)} {
			if complete(filepath.Dir(p)) {
				return filepath.Dir(p), nil
			}
		}
	}
	for _, pattern := range folders {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return "", fmt.Errorf("postgrestest: %q: %w", pattern, err)
		}
		slices.SortFunc(found, newestFirst)
		for _, dir := range found {
			if complete(dir) {
				return dir, nil
			}
		}
	}
	return "", errors.New("postgrestest: no Postgres server found: install it (Debian and Ubuntu: " +
		"apt-get install postgresql), put initdb and postgres into PATH, or set DATABASE_URL")
}

func newestFirst(a, b string) int { return version(b) - version(a) }

// version is the first number in a path.
func version(path string) int {
	for i := 0; i < len(path); i++ {
		n := i
		for n < len(path) && path[n] >= '0' && path[n] <= '9' {
			n++
		}
		if v, err := strconv.Atoi(path[i:n]); err == nil {
			return v
		}
	}
	return 0
}

func resolved(path string) string {
	if p, err := filepath.EvalSymlinks(path); err == nil {
		return p
	}
	return path
}

// complete reports whether a folder has both programs.
func complete(dir string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.IsDir() {
			return false
		}
	}
	return true
}

// unprivileged returns the account to run as when we are root; nil when we are not.
func unprivileged() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if uidErr == nil && gidErr == nil && uid != 0 {
			return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
		}
	}
	return nil, errors.New("postgrestest: Postgres does not run as root, and there is no user postgres or nobody")
}

// passableTemp returns a temporary folder that an unprivileged process can reach. TMPDIR may
// be private to root.
func passableTemp() string {
	dir := os.TempDir()
	if os.Geteuid() != 0 || passable(dir) {
		return dir
	}
	return "/tmp"
}

// passable reports whether everybody may pass through a folder and those above it.
func passable(dir string) bool {
	for dir = resolved(dir); ; dir = filepath.Dir(dir) {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o001 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}
