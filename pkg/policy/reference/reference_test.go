package reference

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/holdfast-dev/holdfast/pkg/policy/structure"
)

func free() error { return nil }

// TestBounds: what is too deep or refers to too much is an error, and so is a tick's.
func TestBounds(t *testing.T) {
	t.Parallel()
	nested := func(depth int) any {
		var v any = map[string]any{"secretName": "a"}
		for range depth {
			v = map[string]any{"a": v}
		}
		return v
	}
	many := func(n int) any {
		list := make([]any, n)
		for i := range list {
			list[i] = map[string]any{"secretName": "a"}
		}
		return map[string]any{"list": list}
	}
	for _, test := range []struct {
		name   string
		object any
		want   int
		err    error
	}{
		{"nothing", nil, 0, nil},
		{"a list", []any{map[string]any{"secretName": "a"}}, 1, nil},
		{"a text", "secretName", 0, nil},
		{"deep enough", nested(structure.MaxDepth - 2), 1, nil},
		{"too deep", nested(structure.MaxDepth + 1), 0, structure.ErrBounds},
		{"enough", many(Max), Max, nil},
		{"too many", many(Max + 1), 0, structure.ErrBounds},
	} {
		refs, err := Find(test.object, "n", free)
		if !errors.Is(err, test.err) || len(refs) != test.want {
			t.Errorf("%s: got %d references, %v, want %d, %v", test.name, len(refs), err, test.want, test.err)
		}
	}
	// Wherever the time is up, that is what comes out.
	late := errors.New("late")
	v := object(t, fmt.Sprintf(workloads["Rollout"].manifest, `{containers: [{name: c, env: [{name: A}], envFrom: [{}]}], volumes: [{name: v, projected: {sources: [{}]}}]}`))
	steps := 0
	if _, err := Find(v, "", func() error { steps++; return nil }); err != nil || steps == 0 {
		t.Fatalf("%d steps, %v", steps, err)
	}
	for end := range steps {
		step := 0
		_, err := Find(v, "", func() error {
			if step++; step > end {
				return late
			}
			return nil
		})
		if !errors.Is(err, late) {
			t.Fatalf("time is up at step %d of %d: error %v", end, steps, err)
		}
	}
}

// TestNamespace: an object's own comes before the request's.
func TestNamespace(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ own, request, want string }{
		{"prod", "agents", "prod"}, {"", "agents", "agents"}, {"", "", ""}, {"No Name", "agents", ""},
	} {
		v := map[string]any{"metadata": map[string]any{"namespace": test.own}, "secretName": "a"}
		refs, err := Find(v, test.request, free)
		if err != nil || len(refs) != 1 || refs[0].Namespace != test.want {
			t.Errorf("%+v: got %+v, %v", test, refs, err)
		}
	}
}

// TestPathsAreBounded: an agent chooses the keys.
func TestPathsAreBounded(t *testing.T) {
	t.Parallel()
	var v any = map[string]any{"secretName": "a"}
	for range 100 {
		v = map[string]any{strings.Repeat("é", 1<<10): v}
	}
	refs, err := Find(v, "", free)
	if err != nil || len(refs) != 1 || len(refs[0].Path) > 2<<10 || !strings.HasSuffix(refs[0].Path, ".secretName") {
		t.Errorf("got %d references, %v: %+v", len(refs), err, refs)
	}
}

// FuzzFind: no object makes it panic, its result is the same each time, and what it returns
// is a name.
func FuzzFind(f *testing.F) {
	for _, workload := range workloads {
		for _, way := range ways {
			text, err := json.Marshal(object(f, fmt.Sprintf(workload.manifest, way.spec)))
			if err != nil {
				f.Fatal(err)
			}
			f.Add(string(text))
		}
	}
	for _, seed := range []string{
		`{"apiVersion":"kyverno.io/v1","kind":"Policy","spec":{"generate":{"clone":{"name":1}},"x":["http.send"],"syncOnly":[{}]}}`,
		`{"apiVersion":"x.y/v1","spec":{"secretRefs":[{"kind":3,"name":"A b"},"x",null],"secretName":[["a"]],"NAME":"x","volumes":[[],{"csi":{"volumeAttributes":{"secretProviderClass":1,"ſecretName":"a"}}}]}}`,
		`{"apiVersion":"v1","kind":"Secret","type":"kubernetes.io/service-account-token","metadata":{"annotations":{"a/x-secret":"b","kubed.appscode.com/sync":""}}}`,
		`{"apiVersion":3,"metadata":[],"spec":null}`, `[]`, `"x"`, `null`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var v any
		if json.Unmarshal([]byte(text), &v) != nil {
			t.Skip()
		}
		refs, err := Find(v, "n", free)
		if err != nil && !errors.Is(err, structure.ErrBounds) {
			t.Fatal(err)
		}
		for _, r := range refs {
			if r.Name != All && !isName(r.Name) || r.Namespace != "" && !isName(r.Namespace) || r.Kind == "" || r.Via == "" {
				t.Fatalf("%+v", r)
			}
		}
		again, _ := Find(v, "n", free)
		if !slices.Equal(refs, again) {
			t.Fatalf("got %+v, and then %+v", refs, again)
		}
	})
}

func TestOrder(t *testing.T) {
	t.Parallel()
	var list []any
	for i := range 12 {
		list = append(list, map[string]any{"secretName": fmt.Sprintf("s%d", i)})
	}
	refs, err := Find(map[string]any{"list": list, "a9b": map[string]any{"secretName": "x"}, "a10": map[string]any{"secretName": "y"}}, "", free)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, r := range refs {
		names = append(names, r.Name)
	}
	if got := strings.Join(names, " "); got != "x y s0 s1 s2 s3 s4 s5 s6 s7 s8 s9 s10 s11" {
		t.Errorf("got %s", got)
	}
}
