package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	embeddedpostgres "github.com/fergusstrange/embedded-postgres"
)

// errNoPostgres means that no Postgres is installed where it would be looked for.
var errNoPostgres = errors.New("no postgres and initdb found")

// findPostgres returns the folder of an installed Postgres: the first in the PATH given,
// else the newest in the folders of distributions (Debian, Red Hat, Homebrew, Postgres.app)
// below root.
func findPostgres(path, root string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if dir, ok := postgresIn(dir); ok {
			return dir, nil
		}
	}
	var found []string
	for _, pattern := range []string{
		"usr/lib/postgresql/*/bin", "usr/lib/postgresql*/bin", "usr/pgsql-*/bin",
		"usr/local/pgsql/bin", "usr/local/opt/postgresql@*/bin", "opt/homebrew/opt/postgresql@*/bin",
		"Applications/Postgres.app/Contents/Versions/*/bin",
	} {
		dirs, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			return "", fmt.Errorf("look for postgres: %w", err)
		}
		for _, dir := range dirs {
			if dir, ok := postgresIn(dir); ok {
				found = append(found, dir)
			}
		}
	}
	if len(found) == 0 {
		return "", errNoPostgres
	}
	return slices.MaxFunc(found, func(a, b string) int { return versionIn(a) - versionIn(b) }), nil
}

// postgresIn returns the folder in which the programs of dir really are: Postgres looks for
// its other files from there.
func postgresIn(dir string) (string, bool) {
	if !filepath.IsAbs(dir) {
		return "", false
	}
	for _, name := range []string{"postgres", "initdb"} {
		info, err := os.Stat(filepath.Join(dir, name)) //nolint:gosec // to look where PATH says is the purpose
		if err != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0 {
			return "", false
		}
	}
	real, err := filepath.EvalSymlinks(filepath.Join(dir, "postgres"))
	if err != nil {
		return "", false
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(real), "initdb")); err != nil { //nolint:gosec // as above
		return dir, true
	}
	return filepath.Dir(real), true
}

// versionIn is the major version in a path such as /usr/lib/postgresql/15/bin; 0 for none.
func versionIn(dir string) int {
	name := filepath.Base(filepath.Dir(dir))
	digits := strings.FieldsFunc(name, func(r rune) bool { return r < '0' || r > '9' })
	if len(digits) == 0 {
		return 0
	}
	version, err := strconv.Atoi(digits[0])
	if err != nil {
		return 0
	}
	return version
}

// unprivileged says who Postgres is to run as: it refuses to be root. Nil: as this process.
func unprivileged() (*syscall.Credential, string, error) {
	if os.Geteuid() != 0 {
		return nil, "", nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, uidErr := strconv.ParseUint(u.Uid, 10, 32)
		gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
		if err := errors.Join(uidErr, gidErr); err != nil {
			return nil, "", fmt.Errorf("postgres: user %s: %w", name, err)
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, name, nil
	}
	return nil, "", errors.New("postgres: will not run as root, and there is neither a user postgres nor nobody: make one, set DATABASE_URL, or run this as another user")
}

// reachableFolder makes a private folder for the user that Postgres runs as, in the first
// temporary directory in which that user can reach it.
func reachableFolder(ctx context.Context, credential *syscall.Credential, user string) (string, error) {
	var errs []error
	for _, base := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		folder, err := os.MkdirTemp(base, postgresFolder)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if err = handOver(ctx, folder, credential); err == nil {
			return folder, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", base, err), os.Remove(folder))
		if ctx.Err() != nil {
			return "", fmt.Errorf("postgres: find a temporary directory: %w", ctx.Err())
		}
	}
	return "", fmt.Errorf("postgres: no temporary directory that user %q can reach: set TMPDIR to one, or set DATABASE_URL: %w", user, errors.Join(errs...))
}

// handOver gives a folder to the user and tries whether they can write there.
func handOver(ctx context.Context, folder string, credential *syscall.Credential) error {
	if credential == nil {
		return nil
	}
	if err := os.Chown(folder, int(credential.Uid), int(credential.Gid)); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", "-c", `cd "$1" && test -w .`, "sh", folder)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: credential}
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, strings.TrimSpace(string(output)))
	}
	return nil
}

// downloadPostgres fetches a Postgres into the folder with the embedded-postgres library,
// which keeps the archive in the user's cache directory, and returns the folder of its
// programs. The library can only start a whole server, which fails for root after it has
// unpacked; all that is wanted of it are the programs, so its error counts only if those are
// missing.
//
// This has not been run: where it was written there was no way to the library's download
// server.
func downloadPostgres(ctx context.Context, folder string, credential *syscall.Credential) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("postgres: find the user's cache directory: %w", err)
	}
	ports, err := claimPorts(ctx)
	if err != nil {
		return "", err
	}
	defer ports.release()
	unpacked := filepath.Join(folder, "programs")
	server := embeddedpostgres.NewDatabase(embeddedpostgres.DefaultConfig().
		Port(uint32(ports.first)). //nolint:gosec // at most lastPort
		CachePath(filepath.Join(cache, "holdfast", "postgres")).
		BinariesPath(unpacked).
		RuntimePath(filepath.Join(folder, "trial")).
		StartTimeout(30 * time.Second))
	startErr := server.Start()
	if startErr == nil {
		startErr = server.Stop()
	}
	if ctx.Err() != nil {
		return "", fmt.Errorf("postgres: download: %w", ctx.Err())
	}
	bin, ok := postgresIn(filepath.Join(unpacked, "bin"))
	if !ok {
		return "", fmt.Errorf("postgres: %w, and it could not be downloaded: install Postgres (postgres and initdb in PATH), or set DATABASE_URL: %w", errNoPostgres, startErr)
	}
	if credential == nil {
		return bin, nil
	}
	if err := handOverAll(unpacked, credential); err != nil {
		return "", fmt.Errorf("postgres: hand over what was downloaded: %w", err)
	}
	return bin, nil
}

// handOverAll gives a folder and all that is in it to the user, and nothing outside, whatever
// links that user may set meanwhile.
func handOverAll(folder string, credential *syscall.Credential) error {
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }() // nothing was written through it
	return fs.WalkDir(root.FS(), ".", func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, root.Lchown(path, int(credential.Uid), int(credential.Gid)))
	})
}
