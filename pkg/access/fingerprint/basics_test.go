package fingerprint

import (
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

func secretUpdate() *decision.Request {
	object := func(version, value string) map[string]any {
		return map[string]any{
			"kind": "Secret", "metadata": map[string]any{"uid": "x", "resourceVersion": version, "labels": map[string]any{"a": "b"}},
			"data": map[string]any{"k": value},
		}
	}
	return &decision.Request{
		User: decision.User{Name: "bot", UID: "u"}, Verb: "update", Version: "v1", Resource: "secrets", Namespace: "ns", Name: "n",
		OldObject: object("1", "b2xk"), Object: object("2", "cGxhbnRlZA=="),
	}
}

// set changes a value deep in an object.
func set(object map[string]any, value any, path ...string) {
	for _, step := range path[:len(path)-1] {
		object, _ = object[step].(map[string]any)
	}
	object[path[len(path)-1]] = value
}

func TestWhatCounts(t *testing.T) {
	t.Parallel()
	h, err := New([]byte(strings.Repeat("k", KeyMin)), "cluster")
	if err != nil {
		t.Fatal(err)
	}
	base, err := h.Sum(secretUpdate())
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*decision.Request)
		same   bool
	}{
		"nothing":               {func(*decision.Request) {}, true},
		"resource version":      {func(r *decision.Request) { set(r.Object, "9", "metadata", "resourceVersion") }, true},
		"user":                  {func(r *decision.Request) { r.User.Name = "other" }, false},
		"user recreated":        {func(r *decision.Request) { r.User.UID = "v" }, false},
		"new value":             {func(r *decision.Request) { set(r.Object, "eA==", "data", "k") }, false},
		"old value":             {func(r *decision.Request) { set(r.OldObject, "eA==", "data", "k") }, false},
		"something rides along": {func(r *decision.Request) { set(r.Object, "eA==", "data", "other") }, false},
		"unrelated edit since": {func(r *decision.Request) {
			set(r.OldObject, "c", "metadata", "labels", "a")
			set(r.Object, "c", "metadata", "labels", "a")
		}, false},
		"target recreated": {func(r *decision.Request) { set(r.OldObject, "y", "metadata", "uid") }, false},
		"shifted bytes":    {func(r *decision.Request) { r.Namespace, r.Name = "n", "sn" }, false},
	} {
		r := secretUpdate()
		test.change(r)
		if got, err := h.Sum(r); err != nil || (got == base) != test.same {
			t.Errorf("%s: same fingerprint %t, want %t (%v)", name, got == base, test.same, err)
		}
	}
	other, err := New([]byte(strings.Repeat("k", KeyMin)), "another cluster")
	if err != nil {
		t.Fatal(err)
	}
	if got, _ := other.Sum(secretUpdate()); got == base {
		t.Error("the cluster does not count")
	}
	if key := h.Key(secretUpdate().User, base); len(key) > 40 || key == h.Key(decision.User{Name: "other"}, base) {
		t.Errorf("key %q: want at most 40 characters, and another for another user", key)
	}
}

func TestDiffShows(t *testing.T) {
	t.Parallel()
	diff, digest := Diff(secretUpdate(), 1000)
	if strings.Contains(diff, "cGxhbnRlZA") || strings.Contains(diff, "planted") || !strings.Contains(diff, "+ data.k: <masked, 7 bytes>") || len(digest) != 64 {
		t.Errorf("the value of a Secret is not masked: %s", diff)
	}
	r := secretUpdate()
	r.Resource, r.Object["kind"], r.OldObject["kind"] = "configmaps", "ConfigMap", "ConfigMap"
	set(r.Object, "\x1b[31mred\u202e", "data", "k")
	diff, _ = Diff(r, 1000)
	if strings.ContainsAny(diff, "\x1b\u202e") || !strings.Contains(diff, "- data.k: \"b2xk\"") || !strings.Contains(diff, `\x1b[31mred`) {
		t.Errorf("what steers a terminal is not made visible: %q", diff)
	}
	gone := secretUpdate()
	gone.Verb, gone.Object = "delete", nil
	if diff, _ := Diff(gone, 1000); diff != "- delete secrets \"n\" in namespace \"ns\", uid \"x\"\n" {
		t.Errorf("a delete is shown as %q", diff)
	}
	set(r.Object, strings.Repeat("x", 100000), "data", "k")
	if diff, _ = Diff(r, 500); len(diff) > 500 || !strings.Contains(diff, "not shown") {
		t.Errorf("%d bytes, want at most 500 and a line that says what was cut: %s", len(diff), diff)
	}
}
