package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// readmeBlocks are the fenced blocks of the README in a language.
func readmeBlocks(t *testing.T, language string) []string {
	t.Helper()
	data, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for i, part := range strings.Split(string(data), "```") {
		if body, ok := strings.CutPrefix(part, language+"\n"); ok && i%2 == 1 {
			blocks = append(blocks, body)
		}
	}
	if len(blocks) == 0 {
		t.Fatalf("the README has no block in %s", language)
	}
	return blocks
}

// readmeManifests: what the README shows is what the API server and Holdfast take.
func readmeManifests(t *testing.T, c *cluster) {
	for _, manifest := range readmeBlocks(t, "yaml") {
		r := c.kubectlWith(t, manifest, admin, "apply", "--dry-run=server", "--validate=strict", "-f", "-")
		if r.code != 0 {
			t.Errorf("exit %d: %s\n%s", r.code, r.err, manifest)
		}
	}
}

// TestReadme runs the README's commands by hand, as written, and looks for processes that
// they left behind.
func TestReadme(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a control plane")
	}
	temp := t.TempDir()
	for _, block := range readmeBlocks(t, "sh") {
		if !strings.Contains(block, "holdfast-local up") {
			continue // make demo and make test, of which this is a part
		}
		ctx, cancel := context.WithTimeout(context.Background(), 40*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", block)
		cmd.Dir = ".."
		cmd.Env = append(os.Environ(), "TMPDIR="+temp)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		for _, want := range []string{"as it should be", "no-namespace-deletes/deny-delete", "agentpolicy.holdfast.dev/no-namespace-deletes created"} {
			if !strings.Contains(string(out), want) {
				t.Errorf("want %q in the output:\n%s", want, out)
			}
		}
		if left := processesIn(t, temp); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		return
	}
	t.Error("no block of the README starts holdfast-local")
}

// processesIn are the command lines of processes that name a folder. A process that has
// ended and waits for its parent has none.
func processesIn(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		if line := strings.ReplaceAll(string(data), "\x00", " "); strings.Contains(line, dir) {
			found = append(found, line)
		}
	}
	return found
}
