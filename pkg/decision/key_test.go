package decision

import (
	"reflect"
	"strings"
	"testing"
)

func newKey(t testing.TB, secret string) *Key {
	t.Helper()
	k, err := NewKey([]byte(strings.Repeat(secret, KeyMin)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestSigned(t *testing.T) {
	t.Parallel()
	k := newKey(t, "a")
	record := Record{ID: NewID(), Webhook: GuardWebhook, Decision: "Deny", Reason: ReasonRule, Rules: []string{"p/r"}}
	name, value := k.Annotation(record)
	key := GuardWebhook + "/" + name
	if got, err := ParseAnnotation(key, value); err != nil || !reflect.DeepEqual(got, record) {
		t.Errorf("got %+v, %v, want %+v", got, err, record)
	}
	_, unsigned := record.Annotation()
	_, byNobody := (*Key)(nil).Annotation(record)
	_, byOther := newKey(t, "b").Annotation(record)
	for name, test := range map[string]struct {
		key, value string
		want       bool
	}{
		"as it was made":        {key, value, true},
		"not signed":            {key, unsigned, false},
		"signed by no key":      {key, byNobody, false},
		"signed by another key": {key, byOther, false},
		"another decision":      {key, strings.Replace(value, "Deny", "Hold", 1), false},
		"another rule":          {key, strings.Replace(value, "p/r", "p/q", 1), false},
		"another ID":            {GuardWebhook + "/d-" + NewID(), value, false},
		"another webhook":       {OwnWebhook + "/" + name, value, false},
		"one more field":        {key, strings.TrimSuffix(value, "}") + `,"dryRun":true}`, false},
		"a code in front":       {key, strings.Replace(value, "{", `{"mac":"AAAAAAAAAAAAAAAAAAAAAA",`, 1), false},
		"a shorter code":        {key, value[:len(value)-3] + `"}`, false},
		"nothing":               {key, "", false},
		"nothing but a code":    {key, value[len(value)-macLength:], false},
	} {
		if got := k.Signed(test.key, test.value); got != test.want {
			t.Errorf("%s: %t, want %t\n%s", name, got, test.want, test.value)
		}
	}
	if (*Key)(nil).Signed(key, value) {
		t.Error("no key believes a record")
	}
	if _, err := NewKey(make([]byte, KeyMin-1)); err == nil || err.Error() != "a decision key of 31 bytes: want at least 32" {
		t.Errorf("a short key: %v", err)
	}
}

// TestSignedIsBounded: what is cut to fit still fits with its code.
func TestSignedIsBounded(t *testing.T) {
	t.Parallel()
	k := newKey(t, "a")
	for n := range 200 {
		r := Record{ID: "ID", Webhook: GuardWebhook, Decision: "Deny", Observed: []string{strings.Repeat("x", maxRecord-150+n)}}
		name, value := k.Annotation(r)
		if _, err := ParseAnnotation(GuardWebhook+"/"+name, value); err != nil || !k.Signed(GuardWebhook+"/"+name, value) {
			t.Fatalf("%d bytes: %v", len(value), err)
		}
	}
}

func BenchmarkSign(b *testing.B) {
	k := newKey(b, "a")
	r := Record{ID: NewID(), Webhook: GuardWebhook, Decision: "Deny", Reason: ReasonRule, Agents: []string{"bot"}, Rules: []string{"p/r"}}
	for b.Loop() {
		k.Annotation(r)
	}
}
