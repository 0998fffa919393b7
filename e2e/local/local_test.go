package local

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/e2e/controlplane/filelock"
	"github.com/holdfast-dev/holdfast/e2e/local/process"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// write makes a file, and its folder, with a mode.
func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// TestEnvFile sources the file with a real shell.
func TestEnvFile(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), `it's "a" $dir; `+"`x`")
	info := Info{Dir: dir, APIServerURL: "https://127.0.0.1:1234", DatabaseURL: "postgres://u:p'w@h/d?x=1&y=$2"}
	path := filepath.Join(t.TempDir(), "env")
	write(t, path, info.envFile(), 0o600)
	out, err := exec.Command("/bin/sh", "-c", `. "$1"; printf '%s\n' "$HOLDFAST_DIR" "$DATABASE_URL" "$HOLDFAST_APISERVER_PORT" "${PATH%%:*}" "${HOLDFAST_NATS_URL-unset}"`, "sh", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{dir, info.DatabaseURL, "1234", filepath.Join(dir, "bin"), "unset"}, "\n") + "\n"
	if string(out) != want {
		t.Errorf("got %q, want %q", out, want)
	}
}

func TestDatabaseURLFromEnv(t *testing.T) {
	tests := map[string]struct{ url, local, want string }{
		"none":              {"", "", ""},
		"given":             {"postgres://a", "", "postgres://a"},
		"of a run":          {"postgres://a", "postgres://a", ""},
		"given after a run": {"postgres://b", "postgres://a", "postgres://b"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Setenv("DATABASE_URL", test.url)
			t.Setenv(localDatabaseVariable, test.local)
			if got := DatabaseURLFromEnv(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestDatabaseAddress(t *testing.T) {
	t.Parallel()
	for url, want := range map[string]string{
		"postgres://u:secret@db:6000/x": "db:6000",
		"postgres://u:secret@db/x":      "db:5432",
		"host=db password=secret":       "DATABASE_URL",
	} {
		if got := databaseAddress(url); got != want {
			t.Errorf("%s: got %s, want %s", url, got, want)
		}
	}
}

func TestOverFlags(t *testing.T) {
	t.Parallel()
	got := overFlags([]string{"--a=1", "--b=2"}, []string{"b=3", "c=4", "c=5"})
	if want := []string{"--a=1", "b=3", "c=4", "c=5"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// testPorts are ports that no run takes.
func testPorts(t *testing.T) portRange { return portRange{lastPort + 1, lastPort + 480, t.TempDir()} }

func TestPortsAreClaimed(t *testing.T) {
	t.Parallel()
	r := testPorts(t)
	seen := map[int]bool{}
	for range 20 {
		b, err := r.claim(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer b.release()
		if seen[b.first] || b.first < r.first || b.first+blockSize-1 > r.last {
			t.Errorf("block %d twice, or out of range", b.first)
		}
		seen[b.first] = true
		l, err := net.Listen("tcp", loopback(b.ports().collectorHealth))
		if err != nil {
			t.Errorf("a port of block %d is not free: %v", b.first, err)
			continue
		}
		l.Close()
	}
}

// TestPortsComeBack: a block that is let go can be had again, one that is held cannot, and
// neither can one with a port that somebody else uses.
func TestPortsComeBack(t *testing.T) {
	t.Parallel()
	r := testPorts(t)
	held := map[int]*block{}
	for {
		b, err := r.claim(t.Context())
		if err != nil {
			break
		}
		if held[b.first] != nil {
			t.Fatalf("block %d was given twice", b.first)
		}
		held[b.first] = b
	}
	for first, b := range held {
		b.release()
		again, err := r.claim(t.Context())
		if err != nil || again.first != first {
			t.Errorf("after block %d was let go: %v, %v", first, again, err)
		}
		again.release()
		l, err := net.Listen("tcp", loopback(first))
		if err != nil {
			t.Fatal(err)
		}
		if b, err := r.claim(t.Context()); err == nil {
			t.Errorf("got block %d, of which a port is in use", b.first)
		}
		l.Close()
		break
	}
	for _, b := range held {
		b.release()
	}
}

func TestStateFile(t *testing.T) {
	t.Parallel()
	dir := layout(t.TempDir())
	if _, ok, err := readState(dir); ok || err != nil {
		t.Errorf("no file: %v, %v", ok, err)
	}
	s := &store{dir: dir}
	if err := s.update(func(s *state) {
		s.Phase = phaseReady
		s.part(Etcd).State = partUp
		s.part(NATS).State = partStarting
		s.part(Etcd).Identity = process.Identity{PID: 7, Start: "then"}
	}); err != nil {
		t.Fatal(err)
	}
	got, ok, err := readState(dir)
	if !ok || err != nil {
		t.Fatalf("%v, %v", ok, err)
	}
	if len(got.Parts) != 2 || got.Parts[0].Identity.Start != "then" || got.Phase != phaseReady {
		t.Errorf("got %+v", got)
	}
	if info, err := os.Stat(dir.state()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v: want mode 0600", info, err)
	}
	if left, err := filepath.Glob(dir.path(".state*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	write(t, dir.state(), "not ours", 0o600)
	if _, _, err := readState(dir); err == nil || !strings.Contains(err.Error(), "was not written by holdfast-local, or is damaged") {
		t.Errorf("foreign state: %v", err)
	}
}

// TestClaim: a folder is used again after its run has ended, and nothing of others is touched.
func TestClaim(t *testing.T) {
	t.Parallel()
	dir := layout(filepath.Join(t.TempDir(), "run"))
	config := Config{Dir: string(dir), Log: quiet()}
	lock, err := claim(dir, config)
	if err != nil {
		t.Fatal(err)
	}
	_, err = claim(dir, config)
	if !errors.Is(err, ErrRunning) || !strings.Contains(err.Error(), "stop it with: holdfast-local down --dir '") {
		t.Errorf("second claim: %v", err)
	}
	lock.Release()

	if err := (&store{dir: dir}).update(func(s *state) { s.Phase = phaseStopped }); err != nil {
		t.Fatal(err)
	}
	ours := []string{dir.env(), dir.kubeconfig(adminConfig), dir.partLog(Etcd), dir.bin(Webhook), dir.data("etcd/x"), dir.auditLog()}
	theirs := []string{dir.path("notes"), dir.bin("mine"), dir.path("logs/other"), dir.path("more/x")}
	for _, path := range slices.Concat(ours, theirs) {
		write(t, path, "x", 0o600)
	}
	lock, err = claim(dir, config)
	if err != nil {
		t.Fatal(err)
	}
	lock.Release()
	for _, path := range ours {
		if exists(path) {
			t.Errorf("%s of the earlier run is still there", path)
		}
	}
	for _, path := range theirs {
		if !exists(path) {
			t.Errorf("%s of somebody else was removed", path)
		}
	}
}

func TestClaimRefusesForeignFiles(t *testing.T) {
	t.Parallel()
	dir := layout(t.TempDir())
	write(t, dir.env(), "mine", 0o600)
	_, err := claim(dir, Config{Dir: string(dir), Log: quiet()})
	if err == nil || !strings.HasSuffix(err.Error(), "env is there and was not written by holdfast-local: choose another --dir, or remove it") {
		t.Errorf("got %v", err)
	}
	if lock, err := filelock.Try(dir.lock()); err != nil {
		t.Errorf("the lock is still held: %v", err)
	} else {
		lock.Release()
	}
}

// TestClaimEndsWhatWasLeft: a run whose supervisor was killed has left processes.
func TestClaimEndsWhatWasLeft(t *testing.T) {
	t.Parallel()
	dir := layout(t.TempDir())
	cmd := exec.Command("/bin/sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	id, err := process.Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	folder, err := os.MkdirTemp(t.TempDir(), postgresFolder)
	if err != nil {
		t.Fatal(err)
	}
	other := id
	other.Start = "another process that had this PID"
	if err := (&store{dir: dir}).update(func(s *state) {
		s.Parts = []partState{{Name: NATS, State: partUp, Identity: other}}
		s.Remove = []string{folder}
	}); err != nil {
		t.Fatal(err)
	}
	s, _, err := readState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := sweep(s, quiet()); err != nil {
		t.Fatal(err)
	}
	if !id.Alive() {
		t.Fatal("a process that only has a part's PID was ended")
	}
	if exists(folder) {
		t.Error("the database's folder is still there")
	}
	s.Parts[0].Identity = id
	if err := sweep(s, quiet()); err != nil {
		t.Fatal(err)
	}
	<-ended
}

func TestRemoveAllRefuses(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "precious")
	write(t, filepath.Join(dir, "x"), "x", 0o600)
	if err := removeAll([]string{dir}); err == nil || !exists(dir) {
		t.Errorf("error %v, still there %v", err, exists(dir))
	}
}

func TestDownAndStatusOfNothing(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := Down(t.Context(), dir, quiet()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("Down: %v", err)
	}
	_, err := Status(t.Context(), dir)
	if !errors.Is(err, ErrNotRunning) || !strings.Contains(err.Error(), "start it with: holdfast-local up --dir") {
		t.Errorf("Status: %v", err)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	self, err := process.Identify(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := &store{dir: layout(dir)}
	change := func(do func(*state)) RunStatus {
		t.Helper()
		if err := s.update(do); err != nil {
			t.Fatal(err)
		}
		status, err := Status(t.Context(), dir)
		if err != nil {
			t.Fatal(err)
		}
		return status
	}
	status := change(func(s *state) {
		s.Phase, s.Guard, s.Supervisor = phaseReady, true, self
		*s.part(Etcd) = partState{Name: Etcd, State: partUp, Identity: self, Address: listener.Addr().String()}
		*s.part(Postgres) = partState{Name: Postgres, State: partExternal, Address: listener.Addr().String()}
	})
	if !status.Up() {
		t.Errorf("not up: %+v", status)
	}
	var table bytes.Buffer
	if err := status.Print(&table); err != nil {
		t.Fatal(err)
	}
	if lines := strings.Split(table.String(), "\n"); len(lines) != 5 || !strings.HasPrefix(lines[3], "postgres") {
		t.Errorf("table:\n%s", &table)
	}
	status = change(func(s *state) { s.part(Etcd).Identity.Start = "earlier" })
	if status.Up() || status.Parts[0].State != partDied || status.Parts[0].PID != 0 {
		t.Errorf("a part that has died: %+v", status)
	}
	status = change(func(s *state) { s.Supervisor.Start = "earlier" })
	if status.Up() || status.Phase != "killed" {
		t.Errorf("a supervisor that was killed: %+v", status)
	}
}

func TestCheckSpace(t *testing.T) {
	t.Parallel()
	if err := checkSpace(t.TempDir(), 1); err != nil {
		t.Error(err)
	}
	err := checkSpace(t.TempDir(), 1<<62)
	if err == nil || !strings.Contains(err.Error(), "free some, or choose another --dir") {
		t.Errorf("got %v", err)
	}
}

func TestRemedy(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	write(t, log, strings.Repeat("early\n", 100)+"late\n", 0o600)
	failed := errors.New("exit status 1")
	for said, want := range map[string]string{
		"listen tcp: bind: address already in use":        "run up again, which chooses others",
		"PANIC: could not write: No space left on device": "no space is left: free some",
		"something else": "\nlate",
		`FATAL: lock file "postmaster.pid" already exists and so on`:   "\nlate",
		"FATAL: could not bind IPv4 address: Address already in use\n": "run up again, which chooses others",
	} {
		err := remedy(failed, log, said)
		if !errors.Is(err, failed) || !strings.Contains(err.Error(), want) || strings.Count(err.Error(), "early") != errorLines-1 {
			t.Errorf("%s: got %v", said, err)
		}
	}
	if !passes("Address already in use") || passes("something else") {
		t.Error("what passes and what does not are mixed up")
	}
}

func TestPlace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from, to := filepath.Join(dir, "from"), filepath.Join(dir, "to")
	write(t, from, "one", 0o755)
	for range 2 {
		if err := place(from, to); err != nil {
			t.Fatal(err)
		}
	}
	// The go command removes a program before it writes it anew.
	if err := os.Remove(from); err != nil {
		t.Fatal(err)
	}
	write(t, from, "two", 0o755)
	if data, err := os.ReadFile(to); err != nil || string(data) != "one" {
		t.Errorf("%q, %v: want what was placed", data, err)
	}
	copied := filepath.Join(dir, "copied")
	if err := copyProgram(from, copied); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(copied); err != nil || info.Mode().Perm() != 0o700 || info.Size() != 3 {
		t.Errorf("%v, %v", info, err)
	}
}

func TestProgramsOutsideOfASourceTree(t *testing.T) {
	t.Parallel()
	dir := layout(t.TempDir())
	if err := dir.create(); err != nil {
		t.Fatal(err)
	}
	elsewhere := t.TempDir()
	executable := filepath.Join(elsewhere, localProgram)
	write(t, executable, "", 0o755)
	write(t, filepath.Join(elsewhere, Webhook), "", 0o755)
	p := programs{dir: dir, config: Config{Guard: true, SourceDir: elsewhere, Executable: executable, InstallDir: elsewhere}}
	err := p.install(t.Context())
	if !errors.Is(err, ErrProgramMissing) || !strings.Contains(err.Error(), Collector+": run this inside the source tree") {
		t.Errorf("got %v", err)
	}
	write(t, filepath.Join(elsewhere, Collector), "", 0o755)
	if err := p.install(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{localProgram, Webhook, Collector} {
		if _, err := os.Stat(dir.bin(name)); err != nil {
			t.Error(err)
		}
	}
}

func TestConfigRefuses(t *testing.T) {
	t.Parallel()
	for want, config := range map[string]Config{
		"local: dir: want a folder":                       {},
		`local: policies "strict": want baseline or none`: {Dir: "x", Policies: "strict"},
	} {
		if _, err := Up(t.Context(), config); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestServeNATSRefuses(t *testing.T) {
	t.Parallel()
	for want, config := range map[string]NATSConfig{
		`nats: listen "0.0.0.0:1": want a loopback address, since nobody has to log in`: {Listen: "0.0.0.0:1", StoreDir: "x"},
		"nats: store: want a folder": {Listen: "127.0.0.1:1"},
	} {
		if err := ServeNATS(t.Context(), config); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestLogTail(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	if got := logTail(path, 3); got != "" {
		t.Errorf("no file: %q", got)
	}
	write(t, path, strings.Repeat("0123456789\n", 20_000)+"a\nb\n", 0o600)
	if got := logTail(path, 2); got != "a\nb" {
		t.Errorf("got %q", got)
	}
}

func TestFollower(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	var to bytes.Buffer
	f := &follower{path: path, to: &to}
	f.copy()
	write(t, path, "one\n", 0o600)
	f.copy()
	write(t, path, "one\ntwo\n", 0o600)
	f.copy()
	f.copy()
	if to.String() != "one\ntwo\n" {
		t.Errorf("got %q", to.String())
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !condition(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited 20 s in vain until %s", what)
		}
	}
}
