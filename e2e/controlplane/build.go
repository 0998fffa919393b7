package controlplane

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/e2e/controlplane/filelock"
	"github.com/holdfast-dev/holdfast/e2e/controlplane/gotool"
)

// progressEvery is how often a running build says that it is still at it.
const progressEvery = 20 * time.Second

// Binaries are the paths of the control plane's programs.
type Binaries struct {
	Etcd, APIServer, ControllerManager, Kubectl string
}

// BuildConfig says where to build from and to.
type BuildConfig struct {
	// SourceDir is a folder of this module's source tree. Default: the working directory.
	SourceDir string
	// CacheDir holds what was built, in a folder for each version. Default:
	// holdfast/controlplane in the user's cache directory.
	CacheDir string
	// Assets is a folder of programs that are used as they are; only what is missing there
	// is built. Default: $KUBEBUILDER_ASSETS.
	Assets string
	// Progress gets lines for people on what is being built. Default: none.
	Progress io.Writer
}

// target is a program to build.
type target struct{ name, pkg string }

// release is a set of programs of one version of Kubernetes.
type release struct {
	version string
	// module is the folder, below e2e/controlplane, of the Go module that pins them.
	module  string
	targets []target
	// otherwise is what can be done where they cannot be built; empty where nothing can.
	otherwise string
}

// current is the control plane itself.
func current() release {
	return release{
		version: Version, module: "build",
		targets: []target{
			{"etcd", "go.etcd.io/etcd/server/v3"},
			{"kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"},
			{"kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"},
			{"kubectl", "k8s.io/kubernetes/cmd/kubectl"},
		},
		otherwise: ", or set KUBEBUILDER_ASSETS to a folder with etcd, kube-apiserver, kube-controller-manager and kubectl",
	}
}

// older is the kubectl of an older Kubernetes.
func older() release {
	return release{
		version: OlderVersion, module: "build-kubectl-1.34",
		targets: []target{{"kubectl", "k8s.io/kubernetes/cmd/kubectl"}},
	}
}

// Build returns the control plane's programs, and builds those that neither Assets nor the
// cache has: about ten minutes on two cores for all, once for each version of Kubernetes, of
// Go and of the pinned modules. Two processes that want the same wait for each other. Errors
// say what to do about it.
func Build(ctx context.Context, c BuildConfig) (Binaries, error) {
	b := newBuilder(c, current())
	if b.config.Assets == "" {
		b.config.Assets = os.Getenv("KUBEBUILDER_ASSETS")
	}
	if err := b.all(ctx); err != nil {
		return Binaries{}, fmt.Errorf("control plane: %w", err)
	}
	return Binaries{
		Etcd: b.found["etcd"], APIServer: b.found["kube-apiserver"],
		ControllerManager: b.found["kube-controller-manager"], Kubectl: b.found["kubectl"],
	}, nil
}

// BuildOlderKubectl returns upstream's kubectl of OlderVersion, for tests of what older
// clients do, and builds it if the cache has none, as Build does: about two minutes on
// two cores. Assets is not looked at: what is there is of another version.
func BuildOlderKubectl(ctx context.Context, c BuildConfig) (string, error) {
	b := newBuilder(c, older())
	b.config.Assets = ""
	if err := b.all(ctx); err != nil {
		return "", fmt.Errorf("kubectl %s: %w", OlderVersion, err)
	}
	return b.found["kubectl"], nil
}

type builder struct {
	config  BuildConfig
	release release
	module  string // the folder of the module that pins the programs
	dir     string // the cache's folder for this version
	found   map[string]string
}

func newBuilder(c BuildConfig, r release) *builder {
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return &builder{config: c, release: r, found: map[string]string{}}
}

func (b *builder) all(ctx context.Context) error {
	if b.config.Assets != "" && b.lookIn(b.config.Assets) {
		return nil
	}
	if err := b.locate(ctx); err != nil {
		return err
	}
	if b.lookIn(b.dir) {
		return nil
	}
	lock, err := filelock.Acquire(ctx, b.dir+".lock", func() {
		b.say("another process is building Kubernetes %s; waiting for it", b.release.version)
	})
	if err != nil {
		return gotool.Explain(err, "")
	}
	defer lock.Release()
	if b.lookIn(b.dir) {
		return nil
	}
	for i, t := range b.release.targets {
		if b.found[t.name] != "" {
			continue
		}
		b.say("building %s of Kubernetes %s, %d of %d (once; later runs take it from %s)", t.name, b.release.version, i+1, len(b.release.targets), b.dir)
		if err := b.build(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func (b *builder) say(format string, args ...any) {
	// Progress is for people's eyes; a build does not fail for want of them.
	_, _ = fmt.Fprintf(b.config.Progress, format+"\n", args...)
}

// lookIn takes from dir what has not been found yet, and says whether that was all.
func (b *builder) lookIn(dir string) bool {
	complete := true
	for _, t := range b.release.targets {
		if b.found[t.name] != "" {
			continue
		}
		path := filepath.Join(dir, t.name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			b.found[t.name] = path
			continue
		}
		complete = false
	}
	return complete
}

// locate finds the module to build from and the cache's folder, whose name has everything
// on which the programs depend.
func (b *builder) locate(ctx context.Context) error {
	root, err := FindSource(b.config.SourceDir)
	if err != nil {
		return fmt.Errorf("%w: run this inside it%s", err, b.release.otherwise)
	}
	b.module = filepath.Join(root, "e2e", "controlplane", b.release.module)
	if b.config.CacheDir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("find the user's cache directory: %w", err)
		}
		b.config.CacheDir = filepath.Join(user, "holdfast", "controlplane")
	}
	version, err := gotool.Command(ctx, b.module, "env", "GOVERSION").Output()
	if err != nil {
		return fmt.Errorf("%w%s", gotool.Explain(err, ""), b.release.otherwise)
	}
	digest := sha256.New()
	digest.Write([]byte(ldflags(b.release.version)))
	for _, name := range []string{"go.mod", "go.sum"} {
		data, err := os.ReadFile(filepath.Join(b.module, name))
		if err != nil {
			return fmt.Errorf("read what to build: %w", err)
		}
		digest.Write(data)
	}
	key := strings.Join([]string{
		b.release.version, runtime.GOOS, runtime.GOARCH, strings.TrimSpace(string(version)),
		hex.EncodeToString(digest.Sum(nil))[:12],
	}, "-")
	// A development version of Go has spaces in its name.
	b.dir = filepath.Join(b.config.CacheDir, strings.ReplaceAll(key, " ", "_"))
	return nil
}

// build builds one program into a temporary file and renames it into place, so that nobody
// ever sees half of one.
func (b *builder) build(ctx context.Context, t target) error {
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		return gotool.Explain(err, "")
	}
	tmp, err := os.MkdirTemp(b.dir, ".building-*")
	if err != nil {
		return gotool.Explain(err, "")
	}
	defer func() { _ = os.RemoveAll(tmp) }() // the program has been renamed out of it
	out := filepath.Join(tmp, t.name)
	cmd := gotool.Command(ctx, b.module, "build", "-trimpath", "-ldflags", ldflags(b.release.version), "-o", out, t.pkg)
	// No C compiler: the same programs everywhere, and they need no C library.
	cmd.Env = append(cmd.Env, "CGO_ENABLED=0")
	text, err := b.runSlowly(cmd, t.name)
	if ctx.Err() != nil {
		return fmt.Errorf("build %s: %w", t.name, ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("build %s: %w", t.name, gotool.Explain(err, text))
	}
	path := filepath.Join(b.dir, t.name)
	if err := os.Rename(out, path); err != nil {
		return gotool.Explain(err, "")
	}
	b.found[t.name] = path
	return nil
}

// runSlowly runs cmd, says every now and then that it still runs, and returns its output.
func (b *builder) runSlowly(cmd *exec.Cmd, name string) (string, error) {
	start := time.Now()
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		ticker := time.NewTicker(progressEvery)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				b.say("  still building %s, %s so far", name, time.Since(start).Round(time.Second))
			}
		}
	}()
	out, err := cmd.CombinedOutput()
	close(done)
	<-stopped
	if err == nil {
		b.say("  built %s in %s", name, time.Since(start).Round(time.Second))
	}
	return string(out), err
}

func ldflags(version string) string {
	const pkg = "k8s.io/component-base/version"
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	return fmt.Sprintf("-s -w -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s", pkg, version, parts[0], parts[1])
}
