package access

import (
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func pending(rules ...v1alpha1.HoldingRule) *v1alpha1.AccessRequest {
	return &v1alpha1.AccessRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "r-1"},
		Spec:       v1alpha1.AccessRequestSpec{Agent: "bot", Requester: "bot-user", Rules: rules},
		Status:     v1alpha1.AccessRequestStatus{Phase: v1alpha1.Pending, ExpiresAt: &metav1.Time{Time: noon.Add(time.Hour)}},
	}
}

func rule(name string, required int32, groups ...string) v1alpha1.HoldingRule {
	return v1alpha1.HoldingRule{Policy: "p", Rule: name, Required: required, Approvers: v1alpha1.Approvers{Groups: groups, Users: []string{"boss"}}}
}

// review is "verdict by user of group", made n seconds after noon.
func review(n int, user, group string, verdict v1alpha1.Verdict) v1alpha1.Review {
	return v1alpha1.Review{
		ObjectMeta: metav1.ObjectMeta{Name: "v" + string(rune('a'+n)), CreationTimestamp: metav1.Time{Time: noon.Add(time.Duration(n) * time.Second)}},
		Spec:       v1alpha1.ReviewSpec{AccessRequest: "r-1", Verdict: verdict, Reviewer: user, ReviewerGroups: []string{"everyone", group}},
	}
}

func facts() Facts {
	return Facts{IsAgent: func(u string) bool { return strings.HasPrefix(u, "bot") }, Owners: []string{"other", "owner"}}
}

func TestNext(t *testing.T) {
	t.Parallel()
	approved := func(r *v1alpha1.AccessRequest, _ *Facts) { r.Status.Phase = v1alpha1.Approved }
	yes, no := v1alpha1.Approve, v1alpha1.Reject
	one, two := rule("one", 1, "ops"), rule("two", 2, "ops", "sec")
	owned := one
	owned.AllowOwner = true
	reasoned := one
	reasoned.ReasonRequired = true
	for name, test := range map[string]struct {
		rules   []v1alpha1.HoldingRule
		reviews []v1alpha1.Review
		change  func(*v1alpha1.AccessRequest, *Facts)
		want    v1alpha1.Phase
		refused string
	}{
		"nothing yet":                  {rules: []v1alpha1.HoldingRule{one}, want: v1alpha1.Pending},
		"approved by group":            {rules: []v1alpha1.HoldingRule{one}, reviews: []v1alpha1.Review{review(1, "ann", "ops", yes)}, want: v1alpha1.Approved},
		"approved by name":             {rules: []v1alpha1.HoldingRule{one}, reviews: []v1alpha1.Review{review(1, "boss", "", yes)}, want: v1alpha1.Approved},
		"a stranger":                   {rules: []v1alpha1.HoldingRule{one}, reviews: []v1alpha1.Review{review(1, "eve", "dev", yes)}, want: v1alpha1.Pending, refused: RefusedStranger},
		"a stranger's no":              {rules: []v1alpha1.HoldingRule{one}, reviews: []v1alpha1.Review{review(1, "eve", "dev", no)}, want: v1alpha1.Pending, refused: RefusedStranger},
		"two of two":                   {rules: []v1alpha1.HoldingRule{two}, reviews: []v1alpha1.Review{review(1, "ann", "ops", yes), review(2, "ben", "sec", yes)}, want: v1alpha1.Approved},
		"one of two":                   {rules: []v1alpha1.HoldingRule{two}, reviews: []v1alpha1.Review{review(1, "ann", "ops", yes)}, want: v1alpha1.Pending},
		"the same person twice":        {rules: []v1alpha1.HoldingRule{two}, reviews: []v1alpha1.Review{review(1, "ann", "ops", yes), review(2, "ann", "sec", yes)}, want: v1alpha1.Pending, refused: RefusedSecond},
		"one person for several rules": {rules: []v1alpha1.HoldingRule{one, rule("other", 1, "ops")}, reviews: []v1alpha1.Review{review(1, "ann", "ops", yes)}, want: v1alpha1.Approved},
		"each rule by its own":         {rules: []v1alpha1.HoldingRule{one, rule("other", 1, "sec")}, reviews: []v1alpha1.Review{review(1, "ann", "ops", yes)}, want: v1alpha1.Pending},
		"one no ends it":               {rules: []v1alpha1.HoldingRule{one}, reviews: []v1alpha1.Review{review(2, "ann", "ops", yes), review(1, "ben", "ops", no)}, want: v1alpha1.Denied},
		"a second thought is no no":    {rules: []v1alpha1.HoldingRule{two}, reviews: []v1alpha1.Review{review(1, "ann", "ops", yes), review(2, "ann", "ops", no)}, want: v1alpha1.Pending, refused: RefusedSecond},
		"an agent":                     {rules: []v1alpha1.HoldingRule{one}, reviews: []v1alpha1.Review{review(1, "bot-2", "ops", yes)}, want: v1alpha1.Pending, refused: RefusedAgent},
		"the requester":                {rules: []v1alpha1.HoldingRule{one}, reviews: []v1alpha1.Review{review(1, "bot-user", "ops", yes)}, want: v1alpha1.Pending, refused: RefusedRequester},
		"the owner":                    {rules: []v1alpha1.HoldingRule{one}, reviews: []v1alpha1.Review{review(1, "owner", "ops", yes)}, want: v1alpha1.Pending, refused: RefusedOwner},
		"the owner, allowed":           {rules: []v1alpha1.HoldingRule{owned}, reviews: []v1alpha1.Review{review(1, "owner", "ops", yes)}, want: v1alpha1.Approved},
		"nobody known":                 {rules: []v1alpha1.HoldingRule{one}, reviews: []v1alpha1.Review{review(1, "ann", "ops", yes)}, change: func(_ *v1alpha1.AccessRequest, f *Facts) { f.IsAgent = nil }, want: v1alpha1.Pending, refused: RefusedUnknown},
		"voided":                       {rules: []v1alpha1.HoldingRule{one}, reviews: []v1alpha1.Review{review(1, "ann", "ops", yes)}, change: func(_ *v1alpha1.AccessRequest, f *Facts) { f.Voided = map[string]string{"vb": "impersonated"} }, want: v1alpha1.Pending, refused: "impersonated"},
		"another request's review":     {rules: []v1alpha1.HoldingRule{one}, reviews: []v1alpha1.Review{func() v1alpha1.Review { v := review(1, "ann", "ops", yes); v.Spec.AccessRequest = "r-2"; return v }()}, want: v1alpha1.Pending},
		"no reason yet":                {rules: []v1alpha1.HoldingRule{reasoned}, reviews: []v1alpha1.Review{review(1, "ann", "ops", yes)}, want: v1alpha1.Pending},
		"with a reason":                {rules: []v1alpha1.HoldingRule{reasoned}, reviews: []v1alpha1.Review{review(1, "ann", "ops", yes)}, change: func(r *v1alpha1.AccessRequest, _ *Facts) { r.Spec.Reason = "because" }, want: v1alpha1.Approved},
		"expired":                      {rules: []v1alpha1.HoldingRule{one}, reviews: []v1alpha1.Review{review(1, "ann", "ops", yes)}, change: func(r *v1alpha1.AccessRequest, _ *Facts) { r.Status.ExpiresAt.Time = noon }, want: v1alpha1.Expired},
		"withdrawn":                    {rules: []v1alpha1.HoldingRule{one}, reviews: []v1alpha1.Review{review(1, "ann", "ops", yes)}, change: func(r *v1alpha1.AccessRequest, _ *Facts) { r.Spec.Withdrawn = true }, want: v1alpha1.Withdrawn},
		"no rules":                     {reviews: []v1alpha1.Review{review(1, "ann", "ops", yes)}, want: v1alpha1.Pending, refused: RefusedStranger},
		"an approval expires": {rules: []v1alpha1.HoldingRule{one}, change: func(r *v1alpha1.AccessRequest, _ *Facts) {
			r.Status.Phase, r.Status.ExpiresAt.Time = v1alpha1.Approved, noon
		}, want: v1alpha1.Expired},
		"taken back by another":             {rules: []v1alpha1.HoldingRule{one}, reviews: []v1alpha1.Review{review(1, "ann", "ops", yes), review(2, "ben", "ops", no)}, change: approved, want: v1alpha1.Revoked},
		"taken back by who gave it":         {rules: []v1alpha1.HoldingRule{one}, reviews: []v1alpha1.Review{review(1, "ann", "ops", yes), review(2, "ann", "ops", no)}, change: approved, want: v1alpha1.Revoked},
		"taken back by a stranger":          {rules: []v1alpha1.HoldingRule{one}, reviews: []v1alpha1.Review{review(1, "ann", "ops", yes), review(2, "eve", "dev", no)}, change: approved, want: v1alpha1.Approved, refused: RefusedStranger},
		"an approval is not approved again": {rules: []v1alpha1.HoldingRule{one}, reviews: []v1alpha1.Review{review(1, "ann", "ops", yes), review(2, "ann", "ops", yes)}, change: approved, want: v1alpha1.Approved, refused: RefusedSecond},
		"an approval rests on what is voided": {rules: []v1alpha1.HoldingRule{one}, reviews: []v1alpha1.Review{review(1, "ann", "ops", yes)}, change: func(r *v1alpha1.AccessRequest, f *Facts) {
			approved(r, f)
			f.Voided = map[string]string{"vb": VoidedPrefix + "impersonated"}
		}, want: v1alpha1.Revoked, refused: VoidedPrefix + "impersonated"},
		"an approval that needs none of what is voided": {rules: []v1alpha1.HoldingRule{one}, reviews: []v1alpha1.Review{review(1, "ann", "ops", yes), review(2, "ben", "ops", yes)}, change: func(r *v1alpha1.AccessRequest, f *Facts) {
			approved(r, f)
			f.Voided = map[string]string{"vb": VoidedPrefix + "impersonated"}
		}, want: v1alpha1.Approved, refused: VoidedPrefix + "impersonated"},
		"a redemption does not": {rules: []v1alpha1.HoldingRule{one}, change: func(r *v1alpha1.AccessRequest, _ *Facts) {
			r.Status.Phase, r.Status.ExpiresAt.Time = v1alpha1.Redeemed, noon
		}, want: v1alpha1.Redeemed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, f := pending(test.rules...), facts()
			if test.change != nil {
				test.change(r, &f)
			}
			before := r.DeepCopy()
			s := Next(r, test.reviews, f, noon)
			if s.Phase != test.want {
				t.Errorf("phase %s, want %s (missing %v)", s.Phase, test.want, Missing(r, s.Reviews))
			}
			var refused string
			for _, c := range s.Reviews {
				refused += c.Refused
			}
			if refused != test.refused {
				t.Errorf("refused %q, want %q", refused, test.refused)
			}
			if before.Status.Phase != r.Status.Phase || len(r.Status.Reviews) != 0 {
				t.Error("Next changed its argument")
			}
			if s.Phase != before.Status.Phase {
				if err := Move(v1alpha1.Intercepted, before.Status.Phase, s.Phase); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestMove(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		from, to v1alpha1.Phase
		legal    bool
		asked    bool
	}{
		{"", v1alpha1.Pending, true, true},
		{"", v1alpha1.Approved, false, false},
		{v1alpha1.Pending, v1alpha1.Redeemed, false, false},
		{v1alpha1.Approved, v1alpha1.Redeemed, true, false},
		{v1alpha1.Approved, v1alpha1.Used, false, false},
		{v1alpha1.Redeemed, v1alpha1.Approved, true, false},
		{v1alpha1.Redeemed, v1alpha1.Revoked, false, false},
		{v1alpha1.Denied, v1alpha1.Pending, false, false},
		{v1alpha1.Used, v1alpha1.Approved, false, false},
	} {
		if err := Move(v1alpha1.Intercepted, test.from, test.to); errors.Is(err, ErrMove) == test.legal {
			t.Errorf("from %q to %q: %v", test.from, test.to, err)
		}
		if err := Move(v1alpha1.Asked, test.from, test.to); errors.Is(err, ErrMove) == test.asked {
			t.Errorf("asked ahead, from %q to %q: %v", test.from, test.to, err)
		}
	}
	for _, p := range []v1alpha1.Phase{v1alpha1.Denied, v1alpha1.Expired, v1alpha1.Withdrawn, v1alpha1.Used, v1alpha1.Revoked} {
		if !Ended(p) {
			t.Errorf("%s can be left", p)
		}
	}
}
