package local

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// installed makes something that looks like Postgres.
func installed(t *testing.T, dir string) {
	t.Helper()
	write(t, filepath.Join(dir, "postgres"), "", 0o755)
	write(t, filepath.Join(dir, "initdb"), "", 0o755)
}

func TestFindPostgres(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	at := func(path string) string { return filepath.Join(root, path) }
	if _, err := findPostgres("", root); !errors.Is(err, errNoPostgres) {
		t.Errorf("nothing installed: %v", err)
	}
	installed(t, at("usr/lib/postgresql/9/bin"))
	installed(t, at("usr/lib/postgresql/15/bin"))
	installed(t, at("usr/pgsql-13/bin"))
	// Not executable, and without a server.
	write(t, at("usr/lib/postgresql/17/bin/postgres"), "", 0o644)
	write(t, at("usr/lib/postgresql/17/bin/initdb"), "", 0o755)
	write(t, at("usr/lib/postgresql/16/bin/initdb"), "", 0o755)
	write(t, at("client/psql"), "", 0o755)
	for path, want := range map[string]string{
		"":             "usr/lib/postgresql/15/bin",
		"relative":     "usr/lib/postgresql/15/bin",
		at("client"):   "usr/lib/postgresql/15/bin",
		at("nowhere"):  "usr/lib/postgresql/15/bin",
		at("from/env"): "from/env",
	} {
		if strings.HasSuffix(path, "from/env") {
			installed(t, path)
		}
		if got, err := findPostgres(path, root); err != nil || got != at(want) {
			t.Errorf("PATH %q: %s, %v; want %s", path, got, err, want)
		}
	}
	// Links in PATH lead to the folder from which Postgres finds its other files.
	if err := os.MkdirAll(at("links"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"postgres", "initdb"} {
		if err := os.Symlink(at("usr/lib/postgresql/9/bin/"+name), at("links/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := findPostgres(at("links"), root); err != nil || got != at("usr/lib/postgresql/9/bin") {
		t.Errorf("links: %s, %v", got, err)
	}
}

func TestVersionIn(t *testing.T) {
	t.Parallel()
	for dir, want := range map[string]int{
		"/usr/lib/postgresql/15/bin": 15, "/usr/pgsql-16/bin": 16, "/opt/homebrew/opt/postgresql@17/bin": 17,
		"/usr/local/pgsql/bin": 0,
	} {
		if got := versionIn(dir); got != want {
			t.Errorf("%s: %d, want %d", dir, got, want)
		}
	}
}
