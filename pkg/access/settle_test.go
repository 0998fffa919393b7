package access

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

func accessTo(verb, resource string) v1alpha1.Access {
	return v1alpha1.Access{Verbs: []string{verb}, APIGroups: []string{""}, Resources: []string{resource}, Namespaces: []string{"ns"}, Names: []string{"n"}}
}

func TestOutcomeOf(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		verb, resource string
		status         int
		want           Outcome
	}{
		{"create", "pods", 201, Effect},
		{"delete", "pods", 200, Effect},
		{"create", "pods", 403, NoEffect},
		{"create", "pods", 409, NoEffect},
		{"update", "pods", 422, NoEffect},
		{"update", "pods", 409, NoEffect},
		{"create", "pods", 500, Unknown},
		{"create", "pods", 504, Unknown},
		{"update", "pods", 429, Unknown},
		{"create", "pods", 0, Unknown},
		{"delete", "pods", 409, Unknown},
		{"deletecollection", "pods", 403, Unknown},
		{"create", "pods/eviction", 409, Unknown},
		{"update", "deployments/scale", 409, Unknown},
	} {
		a := accessTo(test.verb, test.resource)
		if got := OutcomeOf(&a, test.status); got != test.want {
			t.Errorf("%s %s %d: %d, want %d", test.verb, test.resource, test.status, got, test.want)
		}
	}
}

func TestSettle(t *testing.T) {
	t.Parallel()
	redeemed := v1alpha1.AccessRequestStatus{
		Phase: v1alpha1.Redeemed, Redeemed: &v1alpha1.Redemption{DecisionID: "D"}, ExpiresAt: &metav1.Time{Time: noon.Add(time.Hour)},
	}
	for outcome, want := range map[Outcome]v1alpha1.Phase{Unknown: v1alpha1.Used, Effect: v1alpha1.Used, NoEffect: v1alpha1.Approved} {
		got := Settle(redeemed, outcome, "because", noon)
		if got.Phase != want || got.Message != "because" || (got.Redeemed == nil) != (want == v1alpha1.Approved) || (got.EndedAt != nil) != (want == v1alpha1.Used) {
			t.Errorf("outcome %d: %+v, want %s", outcome, got, want)
		}
		if err := Move(v1alpha1.Intercepted, v1alpha1.Redeemed, got.Phase); err != nil {
			t.Error(err)
		}
	}
	if redeemed.Phase != v1alpha1.Redeemed || redeemed.Redeemed == nil {
		t.Error("the status given was changed")
	}
}

// TestRepeated: which calls belong to the API request that redeemed an approval.
func TestRepeated(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		verb, resource string
		change         func(*v1alpha1.AccessRequest, *Draft)
		after          time.Duration
		want           bool
	}{
		"the same call":             {"create", "pods", func(*v1alpha1.AccessRequest, *Draft) {}, 0, true},
		"another trace":             {"create", "pods", func(_ *v1alpha1.AccessRequest, d *Draft) { d.TraceID = "T2" }, 0, false},
		"a trace that is not known": {"update", "pods", func(_ *v1alpha1.AccessRequest, d *Draft) { d.TraceID = "" }, 0, false},
		"another change":            {"update", "pods", func(_ *v1alpha1.AccessRequest, d *Draft) { d.Fingerprint = "F2" }, 0, false},
		"another identity":          {"update", "pods", func(_ *v1alpha1.AccessRequest, d *Draft) { d.Spec.Requester = "eve" }, 0, false},
		"another name":              {"delete", "pods", func(_ *v1alpha1.AccessRequest, d *Draft) { d.Spec.Access.Names = []string{"m"} }, 0, false},
		"options of a delete":       {"delete", "pods", func(_ *v1alpha1.AccessRequest, d *Draft) { d.Fingerprint = "F2" }, 0, true},
		"a delete of a new object": {"delete", "pods", func(_ *v1alpha1.AccessRequest, d *Draft) {
			d.Fingerprint, d.UID = "F2", "u2"
		}, 0, false},
		"the rest of a collection": {"deletecollection", "pods", func(r *v1alpha1.AccessRequest, d *Draft) {
			r.Status.Items = []v1alpha1.Item{{UID: "u0"}, {UID: "u"}}
			d.Fingerprint = "F2"
		}, 0, true},
		"what is not in the collection": {"deletecollection", "pods", func(r *v1alpha1.AccessRequest, d *Draft) {
			r.Status.Items = []v1alpha1.Item{{UID: "u0"}}
			d.Fingerprint = "F2"
		}, 0, false},
		"not redeemed":                       {"create", "pods", func(r *v1alpha1.AccessRequest, _ *Draft) { r.Status.Phase = v1alpha1.Approved }, 0, false},
		"no traces: a create":                {"create", "pods", untraced, 0, false},
		"no traces: a delete":                {"delete", "pods", untraced, 59 * time.Second, true},
		"no traces: a delete, later":         {"delete", "pods", untraced, 61 * time.Second, false},
		"no traces: a delete, other options": {"delete", "pods", func(r *v1alpha1.AccessRequest, d *Draft) { untraced(r, d); d.Fingerprint = "F2" }, 0, false},
		"no traces: an update":               {"update", "pods", untraced, 0, true},
		"no traces: an update after another": {"update", "pods", func(r *v1alpha1.AccessRequest, d *Draft) { untraced(r, d); d.ResourceVersion = "8" }, 0, false},
		"no traces: an eviction":             {"create", "pods/eviction", untraced, 0, false},
		"no traces: the rest of a collection": {"deletecollection", "pods", func(r *v1alpha1.AccessRequest, d *Draft) {
			untraced(r, d)
			r.Status.Items = []v1alpha1.Item{{UID: "u"}}
		}, 0, false},
	} {
		r := &v1alpha1.AccessRequest{
			Spec: v1alpha1.AccessRequestSpec{Requester: "bot", Access: accessTo(test.verb, test.resource)},
			Status: v1alpha1.AccessRequestStatus{
				Phase: v1alpha1.Redeemed, Fingerprint: "F", TargetUID: types.UID("u"),
				Redeemed: &v1alpha1.Redemption{TraceID: "T", ResourceVersion: "7", Time: metav1.MicroTime{Time: noon}},
			},
		}
		d := &Draft{Fingerprint: "F", TraceID: "T", UID: "u", ResourceVersion: "7", Spec: *r.Spec.DeepCopy()}
		test.change(r, d)
		if got := Repeated(r, d, noon.Add(test.after)); got != test.want {
			t.Errorf("%s: %t, want %t", name, got, test.want)
		}
	}
}

func untraced(r *v1alpha1.AccessRequest, d *Draft) { r.Status.Redeemed.TraceID, d.TraceID = "", "" }

func TestMeets(t *testing.T) {
	t.Parallel()
	had := rule("one", 2, "ops")
	had.ReasonRequired = true
	for name, test := range map[string]struct {
		change func(*v1alpha1.HoldingRule)
		want   bool
	}{
		"the same":          {func(*v1alpha1.HoldingRule) {}, true},
		"fewer people":      {func(r *v1alpha1.HoldingRule) { r.Required = 1 }, true},
		"no reason":         {func(r *v1alpha1.HoldingRule) { r.ReasonRequired = false }, true},
		"the owner as well": {func(r *v1alpha1.HoldingRule) { r.AllowOwner = true }, true},
		"another message":   {func(r *v1alpha1.HoldingRule) { r.Message = "x" }, true},
		"more people":       {func(r *v1alpha1.HoldingRule) { r.Required = 3 }, false},
		"other groups":      {func(r *v1alpha1.HoldingRule) { r.Approvers.Groups = []string{"sec"} }, false},
		"one group more":    {func(r *v1alpha1.HoldingRule) { r.Approvers.Groups = []string{"ops", "sec"} }, false},
		"other users":       {func(r *v1alpha1.HoldingRule) { r.Approvers.Users = nil }, false},
		"another rule":      {func(r *v1alpha1.HoldingRule) { r.Rule = "two" }, false},
		"another policy":    {func(r *v1alpha1.HoldingRule) { r.Policy = "q" }, false},
	} {
		now := *had.DeepCopy()
		test.change(&now)
		if got := Meets(pending(had), []v1alpha1.HoldingRule{now}); got != test.want {
			t.Errorf("%s: %t, want %t", name, got, test.want)
		}
	}
	if owner := had; !Meets(pending(had), nil) || Meets(pending(), []v1alpha1.HoldingRule{owner}) {
		t.Error("no rules are met by any, and any by none")
	}
	allowed := had
	allowed.AllowOwner = true
	if Meets(pending(allowed), []v1alpha1.HoldingRule{had}) {
		t.Error("the owner counted, and does no more")
	}
}
