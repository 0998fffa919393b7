package controlplane

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestMergeFlags(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ base, extra, want []string }{
		"none":       {[]string{"--a=1"}, nil, []string{"--a=1"}},
		"added":      {[]string{"--a=1"}, []string{"b=2"}, []string{"--a=1", "--b=2"}},
		"replaced":   {[]string{"--a=1", "--b=2"}, []string{"--a=3"}, []string{"--a=3", "--b=2"}},
		"twice":      {[]string{"--a=1", "--b=2"}, []string{"a=3", "-a=4", "c"}, []string{"--a=3", "--a=4", "--b=2", "--c"}},
		"value has=": {[]string{"--a=x=1"}, []string{"a=y=2"}, []string{"--a=y=2"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := mergeFlags(test.base, test.extra); !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func setup(t *testing.T) Config {
	t.Helper()
	return Config{Dir: t.TempDir(), Ports: Ports{EtcdClient: 1, EtcdPeer: 2, APIServer: 3, ControllerManager: 4}}
}

func TestPrepare(t *testing.T) {
	t.Parallel()
	config := setup(t)
	config.APIServerArgs = []string{"authorization-config=/x.yaml", "profiling=true"}
	p, err := Prepare(config)
	if err != nil {
		t.Fatal(err)
	}
	api, err := p.APIServer()
	if err != nil {
		t.Fatal(err)
	}
	kcm, err := p.ControllerManager()
	if err != nil {
		t.Fatal(err)
	}
	for _, flag := range []string{"--authorization-config=/x.yaml", "--profiling=true", "--secure-port=3"} {
		if !slices.Contains(api.Args, flag) {
			t.Errorf("%s is missing from %q", flag, api.Args)
		}
	}
	for _, flag := range api.Args {
		if strings.HasPrefix(flag, "--authorization-mode") {
			t.Errorf("%s beside an authorization configuration", flag)
		}
	}
	// Every file that a flag names is there.
	for _, flag := range slices.Concat(api.Args, kcm.Args, p.Etcd().Args) {
		name, value, _ := strings.Cut(flag, "=")
		if !strings.HasPrefix(value, config.Dir) {
			continue
		}
		info, err := os.Stat(value)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: others may read %s (%s)", name, value, info.Mode())
		}
	}
}

func TestPrepareRefuses(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*Config)
		want   string
	}{
		"relative dir": {func(c *Config) { c.Dir = "x" }, `control plane: dir "x": want an absolute path`},
		"no port":      {func(c *Config) { c.Ports.EtcdPeer = 0 }, "control plane: port of etcd peer: 0, want 1 to 65535"},
		"own flag": {
			func(c *Config) { c.APIServerArgs = []string{"secure-port=1"} },
			`control plane: argument "secure-port=1": --secure-port is chosen by the control plane itself; leave it out`,
		},
		"nameless flag": {func(c *Config) { c.APIServerArgs = []string{"=1"} }, `control plane: argument "=1": want name=value`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := setup(t)
			test.change(&config)
			if _, err := Prepare(config); err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}

func TestFindSource(t *testing.T) {
	t.Parallel()
	root, err := FindSource("")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, "e2e", "controlplane", "build", "go.mod")); err != nil {
		t.Error(err)
	}
	// The module that pins the programs is not the source tree, it is inside of it.
	if inner, err := FindSource(filepath.Join(root, "e2e", "controlplane", "build")); err != nil || inner != root {
		t.Errorf("%s, %v; want %s", inner, err, root)
	}
	if _, err := FindSource(t.TempDir()); !errors.Is(err, ErrNoSource) {
		t.Errorf("outside: %v", err)
	}
}

// program makes a file that can be executed.
func program(t *testing.T, dir, name string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, nil, 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestBuildTakesAssets(t *testing.T) {
	t.Parallel()
	assets := t.TempDir()
	for _, target := range current().targets {
		program(t, assets, target.name)
	}
	// With all of them there, neither a source tree nor Go is needed.
	b, err := Build(t.Context(), BuildConfig{Assets: assets, SourceDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if b.Etcd != filepath.Join(assets, "etcd") || b.Kubectl != filepath.Join(assets, "kubectl") {
		t.Errorf("got %+v", b)
	}
}

// cached makes the folder in which a release is looked for.
func cached(t *testing.T, cache string, r release) string {
	t.Helper()
	located := newBuilder(BuildConfig{CacheDir: cache}, r)
	if err := located.locate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(located.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return located.dir
}

func TestBuildTakesWhatIsMissingFromCache(t *testing.T) {
	t.Parallel()
	assets, cache := t.TempDir(), t.TempDir()
	etcd := program(t, assets, "etcd")
	dir := cached(t, cache, current())
	for _, target := range current().targets[1:] {
		program(t, dir, target.name)
	}
	var said bytes.Buffer
	b, err := Build(t.Context(), BuildConfig{Assets: assets, CacheDir: cache, Progress: &said})
	if err != nil {
		t.Fatal(err)
	}
	if b.Etcd != etcd || b.APIServer != filepath.Join(dir, "kube-apiserver") || said.Len() != 0 {
		t.Errorf("got %+v, said %q", b, said.String())
	}
}

func TestBuildWithoutSource(t *testing.T) {
	t.Parallel()
	_, err := Build(t.Context(), BuildConfig{Assets: t.TempDir(), SourceDir: t.TempDir()})
	if !errors.Is(err, ErrNoSource) || !strings.Contains(err.Error(), "set KUBEBUILDER_ASSETS to a folder") {
		t.Errorf("got %v", err)
	}
}

// The older kubectl is neither taken from Assets, whose kubectl is that of the control plane,
// nor from the control plane's place in the cache.
func TestBuildOlderKubectl(t *testing.T) {
	t.Parallel()
	assets, cache := t.TempDir(), t.TempDir()
	program(t, assets, "kubectl")
	program(t, cached(t, cache, current()), "kubectl")
	want := program(t, cached(t, cache, older()), "kubectl")
	var said bytes.Buffer
	got, err := BuildOlderKubectl(t.Context(), BuildConfig{Assets: assets, CacheDir: cache, Progress: &said})
	if err != nil {
		t.Fatal(err)
	}
	if got != want || said.Len() != 0 {
		t.Errorf("got %s, want %s; said %q", got, want, said.String())
	}
	if _, err := BuildOlderKubectl(t.Context(), BuildConfig{SourceDir: t.TempDir(), CacheDir: cache}); !errors.Is(err, ErrNoSource) || strings.Contains(err.Error(), "KUBEBUILDER_ASSETS") {
		t.Errorf("outside of the source tree: %v; want %v and no advice that does not help", err, ErrNoSource)
	}
}

// Each module builds the version that its release says, staging modules included.
func TestModulesPinVersions(t *testing.T) {
	t.Parallel()
	for _, r := range []release{current(), older()} {
		data, err := os.ReadFile(filepath.Join(r.module, "go.mod"))
		if err != nil {
			t.Fatal(err)
		}
		if want := "k8s.io/kubernetes " + r.version; !strings.Contains(string(data), want) {
			t.Errorf("%s/go.mod: want %s", r.module, want)
		}
		staging := " v0." + strings.TrimPrefix(r.version, "v1.")
		replaced := 0
		for line := range strings.Lines(string(data)) {
			from, to, ok := strings.Cut(strings.TrimSpace(line), " => ")
			if !ok {
				continue
			}
			replaced++
			if to != from+staging {
				t.Errorf("%s/go.mod: %s => %s, want %s%s", r.module, from, to, from, staging)
			}
		}
		if replaced == 0 {
			t.Errorf("%s/go.mod replaces nothing", r.module)
		}
	}
}
