package notice

import (
	"reflect"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

var (
	opened   = time.Date(2026, 11, 2, 9, 0, 0, 0, time.UTC)
	reviewed = opened.Add(time.Minute)
	ended    = opened.Add(time.Hour)
)

func request(phase v1alpha1.Phase, notified string, reviews ...v1alpha1.ReviewCopy) *v1alpha1.AccessRequest {
	return &v1alpha1.AccessRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "key-1", UID: "u", CreationTimestamp: metav1.Time{Time: opened}},
		Status: v1alpha1.AccessRequestStatus{
			Phase: phase, Notified: notified, Reviews: reviews, EndedAt: &metav1.Time{Time: ended},
		},
	}
}

func review(name, refused string) v1alpha1.ReviewCopy {
	return v1alpha1.ReviewCopy{Name: name, Reviewer: "jane", Verdict: v1alpha1.Approve, Time: metav1.Time{Time: reviewed}, Refused: refused}
}

// TestDue goes through what is told of each status, and what is kept once it is taken.
func TestDue(t *testing.T) {
	t.Parallel()
	const impersonated = "voided: made under impersonation by mallory"
	approval, void, second := review("a", ""), review("v", impersonated), review("w", impersonated)
	late := approval
	late.Name, late.Time = "b", metav1.Time{Time: reviewed.Add(time.Minute)}
	refused := review("r", "not an approver of any rule of this request")
	refused.Time = metav1.Time{Time: reviewed.Add(time.Hour)}
	voidOf := func(name string, phase v1alpha1.Phase) Notice {
		return Notice{Occasion: Voided, ID: "u.voided." + name, Phase: phase, Review: name}
	}
	for _, test := range []struct {
		name string
		r    *v1alpha1.AccessRequest
		due  []Notice
		mark string
	}{
		{"no status yet", request("", ""), nil, ""},
		{"pending", request(v1alpha1.Pending, ""), []Notice{{Pending, "u.pending", opened, v1alpha1.Pending, ""}}, "Pending"},
		{"pending, told", request(v1alpha1.Pending, "Pending"), nil, "Pending"},
		{
			"approved by the last that counts", request(v1alpha1.Approved, "Pending", approval, late, refused),
			[]Notice{{Approved, "u.approved", late.Time.Time, v1alpha1.Approved, ""}}, "Approved",
		},
		{
			"approved before Pending was told: Pending is not told any more", request(v1alpha1.Approved, "", approval),
			[]Notice{{Approved, "u.approved", reviewed, v1alpha1.Approved, ""}}, "Approved",
		},
		{
			"used before Approved was told", request(v1alpha1.Used, "Pending", approval),
			[]Notice{{Approved, "u.approved", reviewed, v1alpha1.Approved, ""}}, "Approved",
		},
		{"redeemed, told as approved", request(v1alpha1.Redeemed, "Approved", approval), nil, "Approved"},
		{"given back: not told again", request(v1alpha1.Approved, "Approved", approval), nil, "Approved"},
		{"denied", request(v1alpha1.Denied, "Pending"), []Notice{{Denied, "u.denied", ended, v1alpha1.Denied, ""}}, "Denied"},
		{"expired", request(v1alpha1.Expired, "Pending"), []Notice{{Expired, "u.expired", ended, v1alpha1.Expired, ""}}, "Expired"},
		{"withdrawn", request(v1alpha1.Withdrawn, "Pending"), []Notice{{Withdrawn, "u.withdrawn", ended, v1alpha1.Withdrawn, ""}}, "Withdrawn"},
		{"revoked", request(v1alpha1.Revoked, "Approved"), []Notice{{Revoked, "u.revoked", ended, v1alpha1.Revoked, ""}}, "Revoked"},
		{"voided while pending", request(v1alpha1.Pending, "Pending", void), []Notice{voidOf("v", v1alpha1.Pending)}, "Pending voided=1"},
		{"voided, told", request(v1alpha1.Pending, "Pending voided=1", void), nil, "Pending voided=1"},
		{
			"phase moves on after a voided one was told", request(v1alpha1.Expired, "Pending voided=1", void),
			[]Notice{{Expired, "u.expired", ended, v1alpha1.Expired, ""}}, "Expired voided=1",
		},
		{
			"another is voided: both are told", request(v1alpha1.Revoked, "Approved voided=1", void, second),
			[]Notice{{Revoked, "u.revoked", ended, v1alpha1.Revoked, ""}, voidOf("v", v1alpha1.Revoked), voidOf("w", v1alpha1.Revoked)},
			"Revoked voided=2",
		},
		{
			"a mark that nobody wrote", request(v1alpha1.Pending, "Pending voided=x", void),
			[]Notice{{Pending, "u.pending", opened, v1alpha1.Pending, ""}, voidOf("v", v1alpha1.Pending)}, "Pending voided=1",
		},
	} {
		due := Due(test.r)
		if len(due)+len(test.due) > 0 && !reflect.DeepEqual(due, test.due) {
			t.Errorf("%s: due %+v, want %+v", test.name, due, test.due)
		}
		mark := Mark(test.r, due)
		if mark != test.mark {
			t.Errorf("%s: mark %q, want %q", test.name, mark, test.mark)
		}
		test.r.Status.Notified = mark
		if again := Due(test.r); len(again) > 0 {
			t.Errorf("%s: after all was taken %+v is due", test.name, again)
		}
	}
}

// TestMarkOfSome: what was not taken stays due.
func TestMarkOfSome(t *testing.T) {
	t.Parallel()
	r := request(v1alpha1.Denied, "Pending", review("v", "voided: x"), review("w", "voided: x"))
	due := Due(r)
	for _, test := range []struct {
		name  string
		taken []Notice
		want  string
	}{
		{"none", nil, "Pending"},
		{"the phase", due[:1], "Denied"},
		{"one voided of two", due[1:2], "Pending"},
		{"both voided", due[1:], "Pending voided=2"},
		{"all", due, "Denied voided=2"},
	} {
		if got := Mark(r, test.taken); got != test.want {
			t.Errorf("%s: %q, want %q", test.name, got, test.want)
		}
	}
}
