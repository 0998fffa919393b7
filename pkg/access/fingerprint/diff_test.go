package fingerprint

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// TestDiffText says what people see, to the letter.
func TestDiffText(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		verb, resource, old, object, options, want string
	}{
		"create": {"create", "things", "", `{"metadata":{"name":"a","uid":"gone"},"spec":{"n":1,"f":1.5,"b":true,"nil":null,"m":{},"l":[{"x":"y"},[]]}}`, "", `
+ metadata.name: "a"
+ spec.b: true
+ spec.f: 1.5
+ spec.l[0].x: "y"
+ spec.l[1]: []
+ spec.m: {}
+ spec.n: 1
+ spec.nil: null
`},
		"update": {"update", "things", `{"metadata":{"uid":"u","annotations":{"a.b/c":"d"}},"spec":{"image":"a:1","gone":[1],"kept":1,"other":{"x":1}}}`,
			`{"metadata":{"uid":"u","annotations":{"a.b/c":"e"}},"spec":{"image":"a:2","kept":1,"new":"x","other":"y"}}`, "", `
- metadata.annotations["a.b/c"]: "d"
+ metadata.annotations["a.b/c"]: "e"
- spec.gone[0]: 1
- spec.image: "a:1"
+ spec.image: "a:2"
+ spec.new: "x"
- spec.other.x: 1
+ spec.other: "y"
`},
		"element in front": {"update", "things", `{"metadata":{"uid":"u"},"l":[{"n":"b"},{"n":"c"}]}`, `{"metadata":{"uid":"u"},"l":[{"n":"a"},{"n":"b"},{"n":"c"}]}`, "", `
+ l[0].n: "a"
`},
		"element changed, another added": {"update", "things", `{"metadata":{"uid":"u"},"l":["a","b"]}`, `{"metadata":{"uid":"u"},"l":["a","c","d"]}`, "", `
- l[1]: "b"
+ l[1]: "c"
+ l[2]: "d"
`},
		"text": {"update", "things", `{"metadata":{"uid":"u"},"t":"one\ntwo\nthree"}`, `{"metadata":{"uid":"u"},"t":"one\n2 \"\\\u001b\nthree"}`, "", `
- t line 2: |two
+ t line 2: |2 "\\\x1b
`},
		"nothing": {"update", "things", `{"metadata":{"uid":"u"}}`, `{"metadata":{"uid":"u","generation":2}}`, "", "\n"},
		"delete": {"delete", "things", `{"metadata":{"uid":"u"}}`, "", `{"kind":"DeleteOptions","dryRun":["All"],"propagationPolicy":"Foreground","preconditions":{"uid":"u"}}`, `
- delete things.g "a" in namespace "ns", uid "u", preconditions.uid: "u", propagationPolicy: "Foreground"
`},
		"connect": {"connect", "things", "", `{"command":["sh","-c","\u001b]0;x\u0007"]}`, "", `
+ command[0]: "sh"
+ command[1]: "-c"
+ command[2]: "\x1b]0;x\a"
`},
	} {
		r := &decision.Request{User: decision.User{Name: "bot"}, Verb: test.verb, Group: "g", Resource: test.resource, Namespace: "ns", Name: "a"}
		for _, part := range []struct {
			text string
			into *map[string]any
		}{{test.old, &r.OldObject}, {test.object, &r.Object}, {test.options, &r.Options}} {
			if part.text != "" {
				*part.into = parse(t, part.text, "", "")
			}
		}
		if got, _ := Diff(r, 10_000); got != test.want[1:] {
			t.Errorf("%s: got\n%swant%s", name, got, test.want)
		}
	}
}

// planted is what must not come out, in any of its forms.
const planted = "planted-value-4711"

var planted64 = base64.StdEncoding.EncodeToString([]byte(planted))

// TestSecretsStayHidden: a planted value comes out nowhere, and that it changed is seen.
func TestSecretsStayHidden(t *testing.T) {
	t.Parallel()
	manifestText := `{\"apiVersion\":\"v1\",\"kind\":\"Secret\",\"data\":{\"p\":\"$1\"}}`
	for name, test := range map[string]struct{ resource, object string }{
		"data":                     {"secrets", `{"kind":"Secret","data":{"p":"$1"}}`},
		"stringData":               {"secrets", `{"kind":"Secret","stringData":{"p":"$1"}}`},
		"data of no form":          {"secrets", `{"kind":"Secret","data":["$1"]}`},
		"data below data":          {"secrets", `{"kind":"Secret","data":{"p":{"$1":"$1"}}}`},
		"unknown field":            {"secrets", `{"kind":"Secret","datta":"$1"}`},
		"type of no form":          {"secrets", `{"kind":"Secret","type":{"x":"$1"}}`},
		"annotation":               {"secrets", `{"kind":"Secret","metadata":{"uid":"u","annotations":{"a":"$1"}}}`},
		"unknown metadata":         {"secrets", `{"kind":"Secret","metadata":{"uid":"u","x":"$1"}}`},
		"kind alone":               {"things", `{"kind":"Secret","data":{"p":"$1"}}`},
		"resource alone":           {"secrets", `{"kind":"Thing","spec":{"p":"$1"}}`},
		"inside of another":        {"things", `{"spec":{"template":{"kind":"Secret","stringData":{"p":"$1"}}}}`},
		"list":                     {"things", `{"spec":[{"kind":"SecretList","items":[{"data":{"p":"$1"}}]}]}`},
		"last applied":             {"things", `{"metadata":{"uid":"u","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"$1"}}}`},
		"last applied, template":   {"things", `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"$1"}}}}}`},
		"manifest in JSON":         {"configmaps", `{"data":{"x":"` + manifestText + `"}}`},
		"manifest in YAML":         {"configmaps", `{"data":{"x":"apiVersion: v1\nkind: Secret\ndata:\n  p: $1\n"}}`},
		"token that is reviewed":   {"tokenreviews", `{"kind":"TokenReview","spec":{"token":"$1"}}`},
		"token that was requested": {"things", `{"kind":"TokenRequest","status":{"token":"$1"}}`},
	} {
		for _, form := range []string{planted, planted64} {
			object := func(value string) map[string]any {
				o := parse(t, test.object, value, "")
				if metadata(o) == nil {
					o["metadata"] = map[string]any{"uid": "u"}
				}
				return o
			}
			other := base64.StdEncoding.EncodeToString([]byte("another-value-4711"))
			r := &decision.Request{User: decision.User{Name: "bot"}, Group: "g", Resource: test.resource, Name: "n"}
			for _, verb := range []string{"create", "update", "delete"} {
				r.Verb, r.OldObject, r.Object = verb, object(other), object(form)
				for _, swapped := range []bool{false, true} {
					if swapped {
						r.OldObject, r.Object = r.Object, r.OldObject
					}
					diff, _ := Diff(r, 10_000)
					if strings.Contains(diff, form) || strings.Contains(diff, "another-value") || strings.Contains(diff, other) {
						t.Errorf("%s, %s: shown:\n%s", name, verb, diff)
					}
					if verb == "update" && strings.Count(diff, "<masked, ") < 2 {
						t.Errorf("%s: the change is not seen:\n%s", name, diff)
					}
				}
			}
		}
	}
}

// TestSecretsOfEveryForm: whatever a Secret is filled with.
func TestSecretsOfEveryForm(t *testing.T) {
	t.Parallel()
	for seed := range int64(20) {
		o := generate(t, kind{"", "secrets", kinds[3].object}, seed)
		o["data"] = map[string]any{"p": planted64}
		o["stringData"] = map[string]any{"q": planted}
		raw, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		metadata(o)["annotations"] = map[string]any{"kubectl.kubernetes.io/last-applied-configuration": string(raw)}
		diff, _ := Diff(requestFor(kinds[3], "create", nil, o), 1<<20)
		if strings.Contains(diff, planted) || strings.Contains(diff, planted64) || !strings.Contains(diff, "+ data.p: <masked, 18 bytes>") {
			t.Errorf("seed %d:\n%s", seed, diff)
		}
	}
}

// TestDiffIsBounded: whatever the bound, it holds, and what is cut is said.
func TestDiffIsBounded(t *testing.T) {
	t.Parallel()
	r := requestFor(kinds[1], "create", nil, generate(t, kinds[1], 1))
	metadata(r.Object)["annotations"] = map[string]any{"text": strings.Repeat("line\n", 20)}
	whole, digest := Diff(r, 1<<20)
	for limit := -1; limit < len(whole)+200; limit += 7 {
		diff, d := Diff(r, limit)
		if len(diff) > max(limit, 0) || d != digest {
			t.Fatalf("limit %d: %d bytes, digest %s, want %s", limit, len(diff), d, digest)
		}
		said := fmt.Sprintf(" of %d lines, and 0 bytes of others, are not shown\n", strings.Count(whole, "\n"))
		if limit > lastLine && diff != whole && !strings.Contains(diff, said) {
			t.Fatalf("limit %d: nothing says that it is cut: %s", limit, diff)
		}
	}
	if strings.Contains(whole, "not shown") {
		t.Error("cut without need")
	}
	r.Object["spec"] = "another"
	if _, d := Diff(r, 10); d == digest {
		t.Error("the digest is not of the whole")
	}
}

// TestRequestIsNotChanged: whoever judges after us sees what the API server sent.
func TestRequestIsNotChanged(t *testing.T) {
	t.Parallel()
	h := setup(t)
	for i, k := range kinds {
		for _, verb := range []string{"create", "update", "delete", "connect"} {
			r := requestFor(k, verb, generate(t, k, int64(i)), generate(t, k, int64(i)))
			metadata(r.Object)["generateName"], metadata(r.Object)["name"] = "name-", "name-bcdfg"
			r.Name, r.Options = "name-bcdfg", map[string]any{"dryRun": []any{"All"}, "kind": "x"}
			before := fmt.Sprint(r.Object, r.OldObject, r.Options)
			mustSum(t, h, r)
			Diff(r, 1000)
			if fmt.Sprint(r.Object, r.OldObject, r.Options) != before {
				t.Errorf("%s %s: the request is changed", verb, k.resource)
			}
		}
	}
}

// clean says whether a text does nothing to a terminal.
func clean(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c != '\n' && (!unicode.IsPrint(c) || unicode.Is(unicode.Cf, c)) })
}

// FuzzDiff: no text and key steers a terminal, makes a line that is not ours, or goes beyond
// the bound.
func FuzzDiff(f *testing.F) {
	for _, s := range []string{"\x1b[31m", "a\nb\r\n", "\u202e\u200b", "\xff\xfe", "\u0085\u009b31m", `"\`, "kind: Secret"} {
		f.Add(s, s, 1000)
		f.Add(s, "x", 70)
	}
	f.Fuzz(func(t *testing.T, key, value string, limit int) {
		limit %= 1 << 16
		for _, verb := range []string{"create", "update", "delete"} {
			r := custom(verb, map[string]any{key: "old"}, map[string]any{key: value, "l": []any{value}})
			r.Name, r.Resource, r.Options = value, key, map[string]any{key: value}
			if r.Object != nil {
				metadata(r.Object)["annotations"] = map[string]any{key: value}
			}
			diff, _ := Diff(r, limit)
			if !clean(diff) || len(diff) > max(limit, 0) {
				t.Errorf("%s: %q", verb, diff)
			}
			for line := range strings.Lines(diff) {
				if limit > 200 && !strings.HasPrefix(line, "+ ") && !strings.HasPrefix(line, "- ") && !strings.HasPrefix(line, "... cut: ") {
					t.Errorf("%s: a line of its own: %q", verb, line)
				}
			}
		}
	})
}
