package decision

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestAnnotationRoundTrip(t *testing.T) {
	t.Parallel()
	want := Record{
		ID: NewID(), Webhook: GuardWebhook, Decision: "Deny", Reason: ReasonRule, Agents: []string{"bot"},
		Rules: []string{"p/r"}, Observed: []string{"q/s=Deny"}, DryRun: true,
	}
	key, value := want.Annotation()
	got, err := ParseAnnotation(GuardWebhook+"/"+key, value)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
}

// TestAnnotationIsBounded: whatever is decided by how many rules, the record fits, parses,
// and says that it was cut.
func TestAnnotationIsBounded(t *testing.T) {
	t.Parallel()
	many := func(n int) []string {
		var out []string
		for i := range n {
			out = append(out, fmt.Sprintf("policy-%0200d/rule", i))
		}
		return out
	}
	for _, r := range []Record{
		{Observed: many(100)}, {Rules: many(100)}, {Agents: many(100)},
		{Rules: many(100), Observed: many(1000), Agents: many(50)},
		{Agents: []string{strings.Repeat("a", 10000)}},
	} {
		r.ID, r.Decision, r.Reason = "ID", "Deny", ReasonRule
		key, value := r.Annotation()
		got, err := ParseAnnotation(OwnWebhook+"/"+key, value)
		if err != nil || len(value) > maxRecord || !got.Truncated || got.Decision != "Deny" {
			t.Errorf("%d bytes, truncated %t, %v", len(value), got.Truncated, err)
		}
	}
}

func TestParseAnnotationRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		key, value string
		none       bool
	}{
		{"authorization.k8s.io/decision", "allow", true},
		{"evil.example.com/d-ID", `{"decision":"Allow"}`, true},
		{"guard.holdfast.dev/d-", `{"decision":"Allow"}`, true},
		{"guard.holdfast.dev/x", `{"decision":"Allow"}`, true},
		{"guard.holdfast.dev/d-ID", `{`, false},
		{"guard.holdfast.dev/d-ID", `{"decision":"Maybe"}`, false},
		{"guard.holdfast.dev/d-ID", `{"decision":"` + strings.Repeat("x", maxRecord) + `"}`, false},
	} {
		r, err := ParseAnnotation(test.key, test.value)
		if err == nil || errors.Is(err, ErrNotDecision) != test.none || r.ID != "" {
			t.Errorf("%s %.40s: %+v, %v", test.key, test.value, r, err)
		}
	}
}

func TestZeroIsDeny(t *testing.T) {
	t.Parallel()
	var d Decision
	if d.Action != Deny || Strictest(Hold, Allow) != Hold || Strictest(Deny, Hold) != Deny {
		t.Error("Deny is not the zero and the strictest action")
	}
	for _, a := range []Action{Deny, Hold, Allow} {
		if got, err := ParseAction(a.String()); err != nil || got != a {
			t.Errorf("ParseAction(%s) = %s, %v", a, got, err)
		}
	}
	if got, err := ParseAction("allow"); err == nil || got != Deny {
		t.Errorf("ParseAction(allow) = %s, %v, want Deny and an error", got, err)
	}
}
