package fingerprint

import (
	"errors"
	"regexp"
	"strings"
	"testing"

	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

func TestNew(t *testing.T) {
	t.Parallel()
	key := make([]byte, KeyMin)
	for _, test := range []struct {
		key     []byte
		cluster string
		want    string
	}{
		{key, "c", ""},
		{key[1:], "c", "fingerprint key of 31 bytes: want at least 32"},
		{key, "", "cluster UID is empty"},
	} {
		h, err := New(test.key, test.cluster)
		if (err == nil) != (test.want == "") || err != nil && (err.Error() != test.want || h != nil) {
			t.Errorf("got %v, want %q", err, test.want)
		}
	}
	h := setup(t)
	for i := range key {
		key[i] = 'k'
	}
	mine, err := New(key, "cluster")
	if err != nil {
		t.Fatal(err)
	}
	elsewhere, err := New(key, "another cluster")
	if err != nil {
		t.Fatal(err)
	}
	if r := custom("create", nil, "x"); mustSum(t, elsewhere, r) == mustSum(t, mine, r) {
		t.Error("a change has the fingerprint that it has on another cluster")
	}
	clear(key)
	if r := custom("create", nil, "x"); mustSum(t, mine, r) != mustSum(t, h, r) {
		t.Error("the caller's key is used, not a copy")
	}
}

func TestSumRefuses(t *testing.T) {
	t.Parallel()
	h := setup(t)
	without := func(change func(*decision.Request)) *decision.Request {
		r := custom("update", "x", "y")
		change(r)
		return r
	}
	for name, test := range map[string]struct {
		r    *decision.Request
		want error
	}{
		"nothing":            {nil, ErrIncomplete},
		"no user":            {without(func(r *decision.Request) { r.User.Name = "" }), ErrIncomplete},
		"no verb":            {without(func(r *decision.Request) { r.Verb = "" }), ErrIncomplete},
		"no object":          {without(func(r *decision.Request) { r.Object = nil }), ErrIncomplete},
		"no old object":      {without(func(r *decision.Request) { r.OldObject = nil }), ErrIncomplete},
		"no UID":             {without(func(r *decision.Request) { delete(metadata(r.OldObject), "uid") }), ErrIncomplete},
		"UID of no form":     {without(func(r *decision.Request) { metadata(r.OldObject)["uid"] = int64(1) }), ErrIncomplete},
		"create of nothing":  {without(func(r *decision.Request) { r.Verb, r.Object = "create", nil }), ErrIncomplete},
		"delete of nothing":  {without(func(r *decision.Request) { r.Verb, r.OldObject = "delete", nil }), ErrIncomplete},
		"no JSON":            {without(func(r *decision.Request) { r.Object["x"] = []string{"a"} }), ErrType},
		"int is no JSON":     {without(func(r *decision.Request) { r.OldObject["x"] = 1 }), ErrType},
		"placeholder":        {without(func(r *decision.Request) { r.Object["x"] = allocated }), ErrType},
		"options of no JSON": {without(func(r *decision.Request) { r.Options = map[string]any{"x": 1} }), ErrType},
	} {
		if sum, err := h.Sum(test.r); !errors.Is(err, test.want) || sum != "" {
			t.Errorf("%s: %q, %v, want %v", name, sum, err, test.want)
		}
		if diff, _ := Diff(test.r, 1000); !strings.HasPrefix(diff, "! this change cannot be shown: ") {
			t.Errorf("%s: shown as %q", name, diff)
		}
	}
}

// TestFrame: each part of who asks for what counts, dry-run and what does not matter do not.
func TestFrame(t *testing.T) {
	t.Parallel()
	h := setup(t)
	for name, test := range map[string]struct {
		verb   string
		change func(*decision.Request)
		same   bool
	}{
		"dry-run":            {"update", func(r *decision.Request) { r.DryRun = true }, true},
		"groups":             {"update", func(r *decision.Request) { r.User.Groups = []string{"g"} }, true},
		"update options":     {"update", func(r *decision.Request) { r.Options = map[string]any{"fieldManager": "m"} }, true},
		"user":               {"delete", func(r *decision.Request) { r.User.Name = "b" }, false},
		"user UID":           {"delete", func(r *decision.Request) { r.User.UID = "b" }, false},
		"verb":               {"delete", func(r *decision.Request) { r.Verb = "deletecollection" }, false},
		"group":              {"delete", func(r *decision.Request) { r.Group = "b" }, false},
		"resource":           {"delete", func(r *decision.Request) { r.Resource = "b" }, false},
		"subresource":        {"delete", func(r *decision.Request) { r.Subresource = "b" }, false},
		"namespace":          {"delete", func(r *decision.Request) { r.Namespace = "b" }, false},
		"name":               {"delete", func(r *decision.Request) { r.Name = "b" }, false},
		"target":             {"delete", func(r *decision.Request) { metadata(r.OldObject)["uid"] = "b" }, false},
		"what is deleted":    {"delete", func(r *decision.Request) { r.OldObject["spec"] = "b" }, true},
		"propagation":        {"delete", func(r *decision.Request) { r.Options = map[string]any{"propagationPolicy": "Orphan"} }, false},
		"grace":              {"delete", func(r *decision.Request) { r.Options = map[string]any{"gracePeriodSeconds": int64(0)} }, false},
		"unknown option":     {"delete", func(r *decision.Request) { r.Options = map[string]any{"x": true} }, false},
		"dry-run option":     {"delete", func(r *decision.Request) { r.Options = map[string]any{"dryRun": []any{"All"}, "kind": "x"} }, true},
		"old annotation":     {"update", func(r *decision.Request) { metadata(r.OldObject)["annotations"] = map[string]any{"a": "b"} }, false},
		"command":            {"connect", func(r *decision.Request) { r.Object = map[string]any{"command": []any{"rm"}} }, false},
		"evicted pod":        {"create", func(r *decision.Request) { r.OldObject = map[string]any{"metadata": map[string]any{"uid": "1"}} }, false},
		"non-resource URL":   {"connect", func(r *decision.Request) { r.NonResourceURL = "/x" }, false},
		"version of the API": {"update", func(r *decision.Request) { r.OldObject["apiVersion"] = "v2"; r.Object["apiVersion"] = "v2" }, false},
	} {
		base, other := custom(test.verb, "x", "y"), custom(test.verb, "x", "y")
		for _, r := range []*decision.Request{base, other} {
			if r.Verb == "update" {
				metadata(r.OldObject)["annotations"] = map[string]any{"a": "a"}
			}
		}
		test.change(other)
		if got := mustSum(t, h, base) == mustSum(t, h, other); got != test.same {
			t.Errorf("%s: same fingerprint %t, want %t", name, got, test.same)
		}
	}
}

func TestCollection(t *testing.T) {
	t.Parallel()
	h := setup(t)
	sum := func(change func(*decision.Request), uids ...string) string {
		r := custom("deletecollection", "x", nil)
		change(r)
		got, err := h.SumCollection(r, uids)
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	none := func(*decision.Request) {}
	base := sum(none, "a", "b")
	for name, test := range map[string]struct {
		got  string
		same bool
	}{
		"order":      {sum(none, "b", "a"), true},
		"repeated":   {sum(none, "a", "b", "a"), true},
		"the object": {sum(func(r *decision.Request) { r.Name, r.OldObject = "other", nil }, "a", "b"), true},
		"one less":   {sum(none, "a"), false},
		"one more":   {sum(none, "a", "b", "c"), false},
		"joined":     {sum(none, "ab"), false},
		"options":    {sum(func(r *decision.Request) { r.Options = map[string]any{"propagationPolicy": "Orphan"} }, "a", "b"), false},
		"namespace":  {sum(func(r *decision.Request) { r.Namespace = "other" }, "a", "b"), false},
	} {
		if (test.got == base) != test.same {
			t.Errorf("%s: same fingerprint %t, want %t", name, test.got == base, test.same)
		}
	}
	if one := mustSum(t, h, custom("deletecollection", "x", nil)); one != sum(none, "1") {
		t.Error("one call is not the collection of its object")
	}
	for _, r := range []*decision.Request{nil, custom("delete", "x", nil)} {
		if _, err := h.SumCollection(r, []string{"a"}); !errors.Is(err, ErrIncomplete) {
			t.Errorf("got %v", err)
		}
	}
	if _, err := h.SumCollection(custom("deletecollection", "x", nil), []string{"a", ""}); !errors.Is(err, ErrIncomplete) {
		t.Errorf("got %v", err)
	}
}

func TestKey(t *testing.T) {
	t.Parallel()
	h := setup(t)
	name := regexp.MustCompile(`^[a-z2-7]{32}$`)
	user := decision.User{Name: "a", UID: "b"}
	seen := map[string]bool{}
	for _, key := range []string{
		h.Key(user, "f"), h.Key(user, "g"), h.Key(decision.User{Name: "ab"}, "f"), h.Key(decision.User{UID: "ab"}, "f"), h.Key(decision.User{Name: "a", UID: "bf"}, ""),
	} {
		if seen[key] || !name.MatchString(key) {
			t.Errorf("%s: not another, or no name", key)
		}
		seen[key] = true
	}
	if h.Key(user, "f") != h.Key(decision.User{Name: "a", UID: "b", Groups: []string{"g"}}, "f") {
		t.Error("groups count")
	}
	if sum := mustSum(t, h, custom("create", nil, "x")); len(sum) != 52 {
		t.Errorf("fingerprint %s", sum)
	}
}

// FuzzSum: bytes that move from one field to the next, and other objects, give another
// fingerprint; equal ones the same.
func FuzzSum(f *testing.F) {
	f.Add("prodweb", 4, 3, []byte(`{"a":"b"}`), []byte(`{"a":{"b":1}}`))
	f.Add("aaaa", 1, 2, []byte(`{"a":["b","c"]}`), []byte(`{"a":["b"],"c":null}`))
	f.Add("", 0, 0, []byte(`{"":""}`), []byte(`{"a":1.0}`))
	f.Add("x", 0, 1, []byte(`{"a":1}`), []byte(`{"a":true}`))
	h := setup(f)
	f.Fuzz(func(t *testing.T, text string, i, j int, rawA, rawB []byte) {
		var a, b map[string]any
		if utiljson.Unmarshal(rawA, &a) != nil || utiljson.Unmarshal(rawB, &b) != nil || a == nil || b == nil {
			t.Skip()
		}
		i, j = cut(i, text), cut(j, text)
		build := func(verb string, at int, spec any) *decision.Request {
			r := custom(verb, map[string]any{}, spec)
			r.Namespace, r.Name = text[:at], text[at:]
			r.User.Name, r.User.UID = "u"+text[:at], text[at:]
			return r
		}
		for _, verb := range []string{"create", "update"} {
			one, errA := h.Sum(build(verb, i, a))
			two, errB := h.Sum(build(verb, j, b))
			if errA != nil || errB != nil {
				t.Skip() // nested too deep
			}
			if want := i == j && same(a, b); (one == two) != want {
				t.Errorf("%s: same fingerprint %t, want %t", verb, one == two, want)
			}
			if again := mustSum(t, h, build(verb, i, a)); again != one {
				t.Errorf("%s: two fingerprints of one request", verb)
			}
		}
		one, errA := h.Sum(custom("update", a, b))
		two, errB := h.Sum(custom("update", b, a))
		if errA == nil && errB == nil && (one == two) != same(a, b) {
			t.Errorf("from a to b and back: same fingerprint %t", one == two)
		}
	})
}

// cut makes an index into a text of any number.
func cut(i int, text string) int {
	if i < 0 {
		i = -(i + 1)
	}
	return i % (len(text) + 1)
}
