package expression

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/pkg/policy/structure"
)

func decoded(t testing.TB, text string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// TestPodSpecs names pod specs by their field id.
func TestPodSpecs(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, object, want string }{
		{"pod", `{"kind":"Pod","spec":{"id":"a","containers":[{"name":"c"}]}}`, "a"},
		{"deployment", `{"spec":{"template":{"spec":{"id":"a","containers":[{"name":"c"}]}}}}`, "a"},
		{"cron job", `{"spec":{"jobTemplate":{"spec":{"template":{"spec":{"id":"a","containers":[{"name":"c"}]}}}}}}`, "a"},
		{"in a list", `{"spec":{"replicatedJobs":[{"template":{"spec":{"id":"a","containers":[{}]}}},{"template":{"spec":{"id":"b","containers":[{}]}}}]}}`, "a b"},
		{"order of the keys", `{"z":{"id":"z","containers":[{}]},"a":{"id":"a","containers":[{}]},"m":{"id":"m","containers":[{}]}}`, "a m z"},
		{"init containers alone", `{"spec":{"id":"a","initContainers":[{"name":"c"}]}}`, "a"},
		{"ephemeral containers alone", `{"spec":{"id":"a","ephemeralContainers":[{"name":"c"}]}}`, "a"},
		{"one map among the containers", `{"spec":{"id":"a","containers":["x",null,{"name":"c"}]}}`, "a"},
		{"one in another", `{"spec":{"id":"a","containers":[{"x":{"id":"b","containers":[{}]}}]}}`, "a b"},
		{"podSpec without containers", `{"spec":{"podSpec":{"id":"a","hostNetwork":true}}}`, "a"},
		{"podTemplate without containers", `{"spec":{"workers":[{"podTemplate":{"metadata":{},"spec":{"id":"a","hostPID":true}}}]}}`, "a"},
		{"a longer key", `{"spec":{"driverPodTemplateSpec":{"spec":{"id":"a"}},"serverPODSPEC":{"id":"b"}}}`, "a b"},
		{"podTemplate with containers is one", `{"podTemplate":{"spec":{"id":"a","containers":[{}]}}}`, "a"},
		{"beside a podTemplate's spec", `{"podTemplate":{"extra":{"id":"b","containers":[{}]},"spec":{"id":"a"}}}`, "b a"},
		{"podTemplate without a spec", `{"podTemplate":{"containers":[{}],"id":"a"}}`, "a"},
		{"podTemplate that is a name", `{"podTemplate":"x","podSpec":["y"]}`, ""},
		{"names of containers", `{"spec":{"containers":["a","b"]}}`, ""},
		{"a schema", `{"properties":{"containers":{"type":"array","items":{"type":"object"}}},"required":["containers"]}`, ""},
		{"no containers", `{"spec":{"containers":[]}}`, ""},
		{"a workflow", `{"spec":{"templates":[{"id":"a","container":{"image":"i"}},{"id":"b","script":{"image":"i"}},{"id":"c","dag":{"tasks":[]}}]}}`, "a b"},
		{"a pipeline's task", `{"spec":{"id":"a","steps":[{"name":"s"},{"image":"i"}]}}`, "a"},
		{"steps without images", `{"spec":{"steps":[{"name":"s"}],"container":{"name":"c"},"script":"s"}}`, ""},
		{"a config map", `{"data":{"containers":"[{}]"}}`, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			list, err := podSpecs(&meter{deadline: time.Now().Add(time.Minute)}, decoded(t, test.object))
			if err != nil {
				t.Fatal(err)
			}
			var ids []string
			for _, s := range list {
				ids = append(ids, fmt.Sprint(s.(map[string]any)["id"]))
			}
			if got := strings.Join(ids, " "); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestPodSpecsInExpressions(t *testing.T) {
	t.Parallel()
	object := decoded(t, `{"kind":"Runner","spec":{"template":{"spec":{"nodeName":"n1","containers":[{"name":"c","image":"i"}]}}}}`)
	for _, test := range []struct {
		source string
		want   bool
		err    error
	}{
		{source: `len(podSpecs(object)) == 1`, want: true},
		{source: `any(podSpecs(object), .nodeName == "n1")`, want: true},
		{source: `any(podSpecs(object), any(.containers, .image startsWith "i"))`, want: true},
		{source: `podSpecs(object)[0].containers[0].name == "c"`, want: true},
		{source: `podSpecs(object) == podSpecs(object)`, want: true},
		{source: `podSpecs(object) != podSpecs(oldObject)`, want: true},
		{source: `podSpecs(oldObject) == []`, want: true},
		{source: `podSpecs(object.spec.missing) == []`, want: true},
		{source: `podSpecs(podSpecs(object)) == podSpecs(object)`, want: true},
		{source: `podSpecs(request.name) == []`, want: true},
		{source: `podSpecs(object)`, err: ErrEvaluation},
	} {
		if got, err := run(test.source, variables(object)); got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s: got %t, %v, want %t, %v", test.source, got, err, test.want, test.err)
		}
	}
	p, err := Compile(`len(podSpecs(oldObject)) == 1`)
	if err != nil || !p.OldObject || p.Object {
		t.Errorf("got %+v, %v, want a program that looks at oldObject", p, err)
	}
	for source, want := range map[string]string{
		`len(podSpecs()) == 1`:               "unknown function podSpecs",
		`len(podSpecs(object, object)) == 1`: "unknown function podSpecs",
		`len(__podSpecs(object)) == 1`:       "unknown function __podSpecs",
		`podSpecs == nil`:                    "podSpecs is a function; call it with a value",
	} {
		if _, err := Compile(source); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", source, err, want)
		}
	}
}

// TestPodSpecsBounds: what is too deep, too many or too large is an error, in time.
func TestPodSpecsBounds(t *testing.T) {
	t.Parallel()
	nested := func(depth int) any {
		var v any = map[string]any{"containers": []any{map[string]any{}}}
		for range depth {
			v = map[string]any{"a": v}
		}
		return v
	}
	many := func(n int) any {
		list := make([]any, n)
		for i := range list {
			list[i] = map[string]any{"containers": []any{map[string]any{}}}
		}
		return map[string]any{"list": list}
	}
	large := map[string]any{"list": make([]any, 20_000_000)}
	for _, test := range []struct {
		name   string
		object any
		err    error
	}{
		{"deep enough", nested(structure.MaxDepth - 2), nil},
		{"too deep", nested(structure.MaxDepth + 1), ErrEvaluation},
		{"enough", many(structure.MaxPodSpecs), nil},
		{"too many", many(structure.MaxPodSpecs + 1), ErrEvaluation},
		{"too large", large, ErrDeadline},
	} {
		start := time.Now()
		got, err := run(`len(podSpecs(object)) > 0`, variables(test.object))
		if !errors.Is(err, test.err) || got != (test.err == nil) {
			t.Errorf("%s: got %t, %v, want error %v", test.name, got, err, test.err)
		}
		if took := time.Since(start); took > 2*time.Second {
			t.Errorf("%s: took %s", test.name, took)
		}
	}
}

func FuzzPodSpecs(f *testing.F) {
	for _, seed := range []string{`{"spec":{"containers":[{}]}}`, `{"podTemplate":{"spec":{}}}`, `[[{"podSpec":{"podSpec":{}}}]]`, `"x"`} {
		f.Add(seed)
	}
	p, err := Compile(`podSpecs(object) == podSpecs(oldObject)`)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var object, same any
		if json.Unmarshal([]byte(text), &object) != nil || json.Unmarshal([]byte(text), &same) != nil {
			t.Skip()
		}
		v := variables(object)
		v.OldObject = same
		equal, err := p.Run(v, time.Now().Add(time.Minute))
		if err == nil && !equal {
			t.Fatal("the same object has other pod specs")
		}
	})
}
