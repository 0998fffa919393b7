package local

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/e2e/controlplane"
	"github.com/holdfast-dev/holdfast/e2e/controlplane/filelock"
	"github.com/holdfast-dev/holdfast/e2e/controlplane/gotool"
)

// Names of programs that are no parts themselves.
const (
	localProgram   = "holdfast-local"
	pluginProgram  = "kubectl-holdfast"
	kubectlProgram = "kubectl"
)

// ErrProgramMissing means that a program of Holdfast's is neither in a source tree, nor
// beside holdfast-local, nor in PATH.
var ErrProgramMissing = errors.New("program not found")

// programs puts Holdfast's programs into Dir/bin.
type programs struct {
	config Config
	dir    layout
}

// install builds or finds all programs that the run needs. With no guard that is none but
// holdfast-local, where it is given.
func (p programs) install(ctx context.Context) error {
	if p.config.Executable != "" {
		if err := place(p.config.Executable, p.dir.bin(localProgram)); err != nil {
			return err
		}
	}
	if !p.config.Guard {
		return nil
	}
	root, err := controlplane.FindSource(p.config.SourceDir)
	if errors.Is(err, controlplane.ErrNoSource) {
		return p.find()
	}
	if err != nil {
		return err
	}
	return p.build(ctx, root)
}

// wanted are the programs to install, with the build tags of each.
func (p programs) wanted() map[string][]string {
	wanted := map[string][]string{Webhook: p.config.WebhookTags}
	if p.config.evidence() {
		wanted[Collector] = p.config.CollectorTags
		if p.config.Executable == "" {
			wanted[localProgram] = nil
		}
	}
	return wanted
}

// build builds in one go what has the same tags; what is up to date takes no time.
func (p programs) build(ctx context.Context, root string) error {
	byTags := map[string][]string{}
	for name, tags := range p.wanted() {
		key := strings.Join(slices.Sorted(slices.Values(tags)), ",")
		byTags[key] = append(byTags[key], name)
	}
	if _, err := os.Stat(filepath.Join(root, "cmd", pluginProgram)); err == nil {
		byTags[""] = append(byTags[""], pluginProgram)
	}
	for tags, names := range byTags {
		if err := p.buildInto(ctx, root, tags, names); err != nil {
			return err
		}
	}
	return nil
}

// buildInto builds where what has not changed is not linked again, and puts the programs
// into Dir/bin, where they stay as they are while others build.
func (p programs) buildInto(ctx context.Context, root, tags string, names []string) error {
	out := p.config.BinDir
	if out == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return fmt.Errorf("find the user's cache directory: %w", err)
		}
		digest := sha256.Sum256([]byte(root))
		out = filepath.Join(cache, "holdfast", "programs", hex.EncodeToString(digest[:6]))
	}
	if tags != "" {
		out = filepath.Join(out, "tags-"+tags)
	}
	lock, err := filelock.Acquire(ctx, filepath.Join(out, ".lock"), nil)
	if err != nil {
		return err
	}
	defer lock.Release()
	if err := goBuild(ctx, root, out, tags, names); err != nil {
		return err
	}
	for _, name := range names {
		if err := place(filepath.Join(out, name), p.dir.bin(name)); err != nil {
			return err
		}
	}
	return nil
}

func goBuild(ctx context.Context, root, out, tags string, names []string) error {
	slices.Sort(names)
	args := []string{"build", "-buildvcs=false", "-tags=" + tags, "-o", out + string(filepath.Separator)}
	for _, name := range names {
		args = append(args, "./cmd/"+name)
	}
	output, err := gotool.Command(ctx, root, args...).CombinedOutput()
	if ctx.Err() != nil {
		return fmt.Errorf("build %s: %w", strings.Join(names, ", "), ctx.Err())
	}
	if err != nil {
		return fmt.Errorf("build %s: %w", strings.Join(names, ", "), gotool.Explain(err, string(output)))
	}
	return nil
}

// find links programs from beside the executable or from PATH.
func (p programs) find() error {
	for name := range p.wanted() {
		path, err := p.lookUp(name)
		if err != nil {
			return fmt.Errorf("%w: %s: run this inside the source tree of Holdfast, or put the program beside holdfast-local or into PATH", ErrProgramMissing, name)
		}
		if err := link(path, p.dir.bin(name)); err != nil {
			return err
		}
	}
	if path, err := p.lookUp(pluginProgram); err == nil {
		return link(path, p.dir.bin(pluginProgram))
	}
	return nil
}

func (p programs) lookUp(name string) (string, error) {
	if p.config.InstallDir != "" {
		beside := filepath.Join(p.config.InstallDir, name)
		if path, err := exec.LookPath(beside); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// link makes name a symbolic link to path, unless they are the same file already.
func link(path, name string) error {
	if same(path, name) {
		return nil
	}
	if err := os.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return os.Symlink(path, name)
}

// place makes a program appear under another name as well, for good: what happens to the
// old name afterwards changes nothing. The go command replaces programs and never writes
// into them, so that a hard link is enough where there can be one.
func place(from, to string) error {
	if same(from, to) {
		return nil
	}
	if err := os.Remove(to); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if os.Link(from, to) == nil {
		return nil
	}
	if err := copyProgram(from, to); err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return nil
}

func copyProgram(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()                                    // only read
	target, err := os.OpenFile(to, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o700) //nolint:gosec // a program has to be executable
	if err != nil {
		return err
	}
	_, err = io.Copy(target, source)
	return errors.Join(err, target.Close())
}
