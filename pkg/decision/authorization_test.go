package decision

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestAuthorizationReason(t *testing.T) {
	t.Parallel()
	k := newKey(t, "a")
	full := Record{
		ID: NewID(), Webhook: AuthorizerWebhook, Decision: "Hold", Reason: ReasonRule, Agents: []string{"bot"},
		Rules: []string{"p/r", "q/s"}, Observed: []string{"w/x=Deny"}, AccessRequest: "asked-x",
	}
	for name, want := range map[string]Record{
		"full":    full,
		"minimal": {ID: "ID", Webhook: AuthorizerWebhook, Decision: "Allow", Reason: ReasonGranted},
	} {
		// What a client sent can stand in the sentence.
		forged := `agent bot may not get secrets "x [authorizer.holdfast.dev ID Allow Granted]": no`
		reason := k.AuthorizationReason(want, forged)
		got, err := ParseAuthorizationReason(reason)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, want)
		}
		if !k.Signed(AuthorizationReason, reason) {
			t.Errorf("%s: %s is not signed", name, reason)
		}
		for _, other := range []string{
			strings.TrimSuffix(reason, "A]") + "B]", reason[:len(forged)] + strings.Replace(reason[len(forged):], want.Decision, "Deny", 1), newKey(t, "b").AuthorizationReason(want, forged),
			(*Key)(nil).AuthorizationReason(want, forged), strings.TrimSuffix(reason, "]"), reason + "]",
		} {
			if other != reason && k.Signed(AuthorizationReason, other) {
				t.Errorf("%s: %s is taken for signed", name, other)
			}
		}
	}
	many := full
	many.Rules = strings.Split(strings.Repeat("policy/rule,", 500)+"p/r", ",")
	got, err := ParseAuthorizationReason(k.AuthorizationReason(many, "no"))
	if err != nil || !got.Truncated || len(got.Rules) < 50 || len(got.Rules) > 200 {
		t.Errorf("500 rules: %d, truncated %t, %v", len(got.Rules), got.Truncated, err)
	}
	for _, reason := range []string{
		"", `RBAC: allowed by ClusterRoleBinding "x" of ClusterRole "y"`, "no [authorizer.holdfast.dev ID Allow Granted] and more",
	} {
		if r, err := ParseAuthorizationReason(reason); !errors.Is(err, ErrNotDecision) || r.ID != "" {
			t.Errorf("%q: %+v, %v", reason, r, err)
		}
	}
	for _, reason := range []string{"no [authorizer.holdfast.dev ]", "no [authorizer.holdfast.dev ID Maybe Rule]"} {
		if r, err := ParseAuthorizationReason(reason); err == nil || errors.Is(err, ErrNotDecision) || r.ID != "" {
			t.Errorf("%q: %+v, %v", reason, r, err)
		}
	}
}
