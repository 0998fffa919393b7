package gotool_test

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/e2e/controlplane/gotool"
)

func TestExplain(t *testing.T) {
	t.Parallel()
	failed := errors.New("exit status 1")
	tests := map[string]struct {
		err    error
		output string
		want   string
	}{
		"no go":      {fmt.Errorf("exec: %w", exec.ErrNotFound), "", "install Go and put it into PATH"},
		"no space":   {failed, "write /x: no space left on device", "free some (go clean -cache)"},
		"offline":    {failed, "go: x: Get \"https://x\": dial tcp: lookup x: no such host", "the Go module proxy cannot be reached"},
		"a bug":      {failed, "x.go:1:1: undefined: y", "exit status 1:\nx.go:1:1: undefined: y"},
		"the end":    {failed, strings.Repeat("early\n", 50) + "late", "\nlate"},
		"only space": {failed, "\n", "exit status 1"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := gotool.Explain(test.err, test.output)
			if !errors.Is(got, test.err) || !strings.Contains(got.Error(), test.want) {
				t.Errorf("got %q, want %q in it", got, test.want)
			}
			if n := strings.Count(got.Error(), "\n"); n > 17 {
				t.Errorf("%d lines", n)
			}
		})
	}
	if err := gotool.Explain(nil, "text"); err != nil {
		t.Errorf("nil became %v", err)
	}
}
