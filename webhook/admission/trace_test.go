package admission

import (
	"net/http/httptest"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

func TestTraces(t *testing.T) {
	t.Parallel()
	const sent, other = "0af7651916cd43dd8448eb211c80319c", "1af7651916cd43dd8448eb211c80319c"
	call := func(traces *Traces, trace string, review *Review) string {
		r := httptest.NewRequest("POST", "/", nil)
		if trace != "" {
			r.Header.Set("Traceparent", "00-"+trace+"-b7ad6b7169203331-01")
		}
		return traces.of(r, review)
	}
	probe := func(user string, dryRun bool) *Review {
		return &Review{Operation: admissionv1.Create, Request: decision.Request{
			User: decision.User{Name: user}, Resource: "reviews", Name: ProbePrefix + sent, DryRun: dryRun,
		}}
	}
	plain := func(groups ...string) *Review {
		return &Review{Operation: admissionv1.Create, Request: decision.Request{User: decision.User{Name: "bot", Groups: groups}}}
	}
	for name, test := range map[string]struct {
		probe  *Review
		came   string
		groups []string
		want   string
	}{
		"replaced":                       {probe("holdfast", true), other, nil, other},
		"passed on":                      {probe("holdfast", true), sent, nil, ""},
		"left out":                       {probe("holdfast", true), "", nil, ""},
		"somebody else's probe":          {probe("bot", true), other, nil, ""},
		"no dry run":                     {probe("holdfast", false), other, nil, ""},
		"no probe":                       {plain(), other, nil, ""},
		"of who brings their own":        {probe("holdfast", true), other, []string{"system:authenticated", "system:monitoring"}, ""},
		"of the admin, who does as well": {probe("holdfast", true), other, []string{"system:masters"}, ""},
	} {
		traces := &Traces{OwnUser: "holdfast"}
		call(traces, test.came, test.probe)
		if got := call(traces, other, plain(test.groups...)); got != test.want {
			t.Errorf("%s: trace %q, want %q", name, got, test.want)
		}
	}
	traces := &Traces{OwnUser: "holdfast"}
	call(traces, other, probe("holdfast", true))
	call(traces, sent, probe("holdfast", true))
	if traces.Trusted() {
		t.Error("an API server that has lost its tracing configuration is still trusted")
	}
	var none *Traces
	if none.Trusted() || call(none, other, plain()) != "" {
		t.Error("traces are trusted where nobody said so")
	}
}
