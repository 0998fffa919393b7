package fingerprint

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// custom is a request of a kind that nobody knows.
func custom(verb string, old, now any) *decision.Request {
	object := func(spec any) map[string]any {
		return map[string]any{
			"apiVersion": "example.com/v1", "kind": "Thing", "spec": spec,
			"metadata": map[string]any{"name": "x", "namespace": "ns", "uid": "1"},
		}
	}
	r := &decision.Request{
		User: decision.User{Name: "bot", UID: "u"}, Verb: verb, Group: "example.com", Version: "v1", Resource: "things",
		Namespace: "ns", Name: "x",
	}
	if verb != "create" {
		r.OldObject = object(old)
	}
	if verb != "delete" {
		r.Object = object(now)
	}
	return r
}

// nest puts a value into so many lists.
func nest(levels int, v any) any {
	for range levels {
		v = []any{v}
	}
	return v
}

// many values are as much as fits into 3 MB, or a good part of it.
const many = 200_000

func repeat(v any) []any {
	list := make([]any, many)
	for i := range list {
		list[i] = v
	}
	return list
}

// TestLargeObjects: what an agent can send in 3 MB is dealt with in time, whatever its form.
// Full paths to each of many changes deep inside, or below a long key, would be terabytes.
func TestLargeObjects(t *testing.T) {
	h := setup(t)
	long := strings.Repeat("k", 1<<20)
	chain := func(v any) any { // each list has another length than the one it replaces
		for range 900 {
			v = []any{v, int64(1)}
		}
		return v
	}
	shorter := func(v any) any {
		for range 900 {
			v = []any{v}
		}
		return v
	}
	for name, r := range map[string]*decision.Request{
		"long key, many changes": custom("update", map[string]any{long: repeat(int64(1))}, map[string]any{long: repeat(int64(2))}),
		"long key, new":          custom("create", nil, map[string]any{long: repeat(int64(1))}),
		"deep, many changes":     custom("update", nest(900, repeat(int64(1))), nest(900, repeat(int64(2)))),
		"deep, new":              custom("create", nil, nest(900, repeat(int64(1)))),
		"lists in lists of other lengths": custom("update",
			chain(append(repeat(int64(1)), int64(3))), shorter(append(repeat(int64(1)), int64(4)))),
		"one text":    custom("update", strings.Repeat("a\n", 500_000), strings.Repeat("b\n", 500_000)),
		"no manifest": custom("create", nil, strings.Repeat("kind: ", many)),
		"no space":    custom("create", nil, strings.Repeat("\x1b", 3<<20)),
	} {
		start := time.Now()
		if _, err := h.Sum(r); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		sum := time.Since(start)
		diff, _ := Diff(r, 16<<10)
		took := time.Since(start)
		t.Logf("%-32s Sum %v, Diff %v", name, sum.Round(time.Millisecond), (took - sum).Round(time.Millisecond))
		if took > 5*time.Second || len(diff) > 16<<10 || !strings.Contains(diff, "not shown") {
			t.Errorf("%s: %v, diff of %d bytes", name, took, len(diff))
		}
	}
}

func TestDepth(t *testing.T) {
	t.Parallel()
	h := setup(t)
	for levels, want := range map[int]error{900: nil, MaxDepth + 1: ErrDepth, 100_000: ErrDepth} {
		for _, r := range []*decision.Request{
			custom("create", nil, nest(levels, "x")), custom("update", nest(levels, "x"), "y"),
			custom("delete", nest(levels, "x"), nil),
		} {
			_, err := h.Sum(r)
			diff, digest := Diff(r, 1000)
			if !errors.Is(err, want) || (want != nil) != strings.HasPrefix(diff, "! this change cannot be shown: ") || len(digest) != 64 {
				t.Errorf("%s, %d levels: %v, want %v; %q", r.Verb, levels, err, want, diff)
			}
		}
	}
}
