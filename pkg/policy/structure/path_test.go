package structure

import (
	"strings"
	"testing"
)

func TestPath(t *testing.T) {
	t.Parallel()
	var root *Path
	for _, test := range []struct {
		path  *Path
		depth int
		want  string
	}{
		{root, 0, ""},
		{root.Key("spec"), 1, "spec"},
		{root.Index(2).Key("name"), 2, "[2].name"},
		{root.Key("spec").Key("volumes").Index(0).Key("secret"), 4, "spec.volumes[0].secret"},
		{root.Key("metadata").Key("annotations").Key("example.com/a-secret"), 3, "metadata.annotations[example.com/a-secret]"},
		{root.Key("").Key("a"), 2, "[].a"},
		{root.Key(strings.Repeat("a", 300)), 1, "[" + strings.Repeat("a", maxKey) + "…]"},
	} {
		if got := test.path.String(); got != test.want || test.path.Depth() != test.depth {
			t.Errorf("got %s of depth %d, want %s of depth %d", got, test.path.Depth(), test.want, test.depth)
		}
	}
	long := root
	for range 500 {
		long = long.Key("abcdefghij")
	}
	if got := long.String(); len(got) > maxPath+len("…") || !strings.HasPrefix(got, "…") || !strings.HasSuffix(got, ".abcdefghij") {
		t.Errorf("got %d bytes: %.40s", len(got), got)
	}
}

// TestMetadata: pod specs come with the metadata beside them, and their places.
func TestMetadata(t *testing.T) {
	t.Parallel()
	pod := func(id string) map[string]any { return map[string]any{"containers": []any{map[string]any{"name": id}}} }
	named := func(name string, rest map[string]any) map[string]any {
		rest["metadata"] = map[string]any{"name": name}
		return rest
	}
	object := named("outer", map[string]any{
		"spec": map[string]any{
			"template":    named("inner", map[string]any{"spec": pod("a")}),
			"podTemplate": named("by its key", map[string]any{"spec": map[string]any{"hostNetwork": true}}),
			"bare":        pod("b"),
		},
	})
	found, err := PodSpecs(object, func() error { return nil })
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range found {
		name, _ := p.Metadata["name"].(string)
		got = append(got, p.Path.String()+"="+name)
	}
	if want := "spec.bare= spec.podTemplate.spec=by its key spec.template.spec=inner"; strings.Join(got, " ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, " "), want)
	}
}
