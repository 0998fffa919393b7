package main

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// setup is the program with a fixed clock and no kubeconfig.
func setup(t *testing.T) (a *app, out, errOut *bytes.Buffer) {
	t.Helper()
	streams, _, out, errOut := genericiooptions.NewTestIOStreams()
	a = &app{flags: genericclioptions.NewConfigFlags(true), streams: streams, now: func() time.Time { return noon }}
	none := os.DevNull
	a.flags.KubeConfig = &none
	return a, out, errOut
}

func request1(change func(*v1alpha1.AccessRequest)) *v1alpha1.AccessRequest {
	r := &v1alpha1.AccessRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "r-1", CreationTimestamp: metav1.NewTime(noon.Add(-time.Minute))},
		Spec:       v1alpha1.AccessRequestSpec{Agent: "bot", Rules: []v1alpha1.HoldingRule{{Policy: "p", Rule: "r", Required: 2}}},
		Status:     v1alpha1.AccessRequestStatus{Phase: v1alpha1.Pending},
	}
	if change != nil {
		change(r)
	}
	return r
}

func TestOutcome(t *testing.T) {
	t.Parallel()
	mine := v1alpha1.ReviewCopy{Name: "mine", Reviewer: "ann", Verdict: v1alpha1.Approve, Rules: []string{"p/r"}}
	other := v1alpha1.ReviewCopy{Name: "other", Reviewer: "bob", Verdict: v1alpha1.Approve, Rules: []string{"p/r"}}
	refused := v1alpha1.ReviewCopy{Name: "mine", Reviewer: "ann", Verdict: v1alpha1.Approve, Refused: access.RefusedSecond}
	no := v1alpha1.ReviewCopy{Name: "mine", Reviewer: "ann", Verdict: v1alpha1.Reject, Comment: "no", Rules: []string{"p/r"}}
	for _, c := range []struct {
		name    string
		phase   v1alpha1.Phase
		reviews []v1alpha1.ReviewCopy
		verdict v1alpha1.Verdict
		text    string
		done    bool
		err     string
	}{
		{"not counted yet", v1alpha1.Pending, []v1alpha1.ReviewCopy{other}, v1alpha1.Approve, "", false, ""},
		{"counted, more needed", v1alpha1.Pending, []v1alpha1.ReviewCopy{mine}, v1alpha1.Approve,
			"r-1: your approval counts for p/r; it still waits: Pending, p/r has 1 of 2 approvals", true, ""},
		{"counted, about to be approved", v1alpha1.Pending, []v1alpha1.ReviewCopy{mine, other}, v1alpha1.Approve, "", false, ""},
		{"counted deny, about to be denied", v1alpha1.Pending, []v1alpha1.ReviewCopy{no}, v1alpha1.Reject, "", false, ""},
		{"refused", v1alpha1.Pending, []v1alpha1.ReviewCopy{refused}, v1alpha1.Approve, "", true,
			"your review of r-1 does not count: this person has given a verdict before. The request is Pending, p/r has 0 of 2 approvals"},
		{"approved", v1alpha1.Approved, []v1alpha1.ReviewCopy{mine, other}, v1alpha1.Approve,
			"r-1 is approved: exactly that change may pass, once. It is Approved", true, ""},
		{"approved and used at once", v1alpha1.Used, []v1alpha1.ReviewCopy{mine, other}, v1alpha1.Approve,
			"r-1 is approved: exactly that change may pass, once. It is Used", true, ""},
		{"denied", v1alpha1.Denied, []v1alpha1.ReviewCopy{no}, v1alpha1.Reject, `r-1 is denied: Denied by ann: "no"`, true, ""},
		{"approval lost the race", v1alpha1.Denied, []v1alpha1.ReviewCopy{mine}, v1alpha1.Approve, "", true,
			"your review of r-1 came too late: the request is Denied"},
		{"deny of an approval, not counted yet", v1alpha1.Approved, []v1alpha1.ReviewCopy{mine, other}, v1alpha1.Reject, "", false, ""},
		{"deny of an approval", v1alpha1.Revoked, []v1alpha1.ReviewCopy{other, no}, v1alpha1.Reject,
			`r-1 is revoked, and was not used: Revoked by ann: "no"`, true, ""},
		{"deny of an approval that does not count", v1alpha1.Approved, []v1alpha1.ReviewCopy{refused}, v1alpha1.Reject, "", true,
			"your review of r-1 does not count: this person has given a verdict before. The request is Approved"},
		{"deny lost the race", v1alpha1.Redeemed, nil, v1alpha1.Reject, "", true,
			"your review of r-1 came too late: the request is Redeemed, the agent's request was let pass"},
		{"approval of what is revoked meanwhile", v1alpha1.Revoked, []v1alpha1.ReviewCopy{mine}, v1alpha1.Approve, "", true,
			"your review of r-1 came too late: the request is Revoked"},
		{"expired", v1alpha1.Expired, nil, v1alpha1.Approve, "", true, "your review of r-1 came too late: the request is Expired"},
	} {
		r := request1(func(r *v1alpha1.AccessRequest) { r.Status.Phase, r.Status.Reviews = c.phase, c.reviews })
		v := &v1alpha1.Review{ObjectMeta: metav1.ObjectMeta{Name: "mine"}, Spec: v1alpha1.ReviewSpec{Verdict: c.verdict}}
		text, done, err := outcome(r, v, noon)
		if text != c.text || done != c.done || message(err) != c.err {
			t.Errorf("%s: got %q, %v, %q; want %q, %v, %q", c.name, text, done, message(err), c.text, c.done, c.err)
		}
	}
}

func TestNoReviewIsMade(t *testing.T) {
	t.Parallel()
	for phase, want := range map[v1alpha1.Phase][2]string{
		v1alpha1.Pending: {
			"", "request r-1 has no approval to take back: Pending, p/r has 0 of 2 approvals. No review was made; to refuse it: kubectl holdfast deny r-1 -m COMMENT",
		},
		v1alpha1.Approved: {
			"request r-1 waits for nobody: Approved. No review was made; to take the approval back before it is used: kubectl holdfast revoke r-1 -m COMMENT", "",
		},
		v1alpha1.Used: {
			"request r-1 waits for nobody: Used. No review was made", "request r-1 has no approval to take back: Used. No review was made",
		},
	} {
		r := request1(func(r *v1alpha1.AccessRequest) { r.Status.Phase = phase })
		if got := tooLate(r, noon).Error(); want[0] != "" && got != want[0] {
			t.Errorf("%s, to decide: got %q, want %q", phase, got, want[0])
		}
		if got := notApproved(r, noon).Error(); want[1] != "" && got != want[1] {
			t.Errorf("%s, to revoke: got %q, want %q", phase, got, want[1])
		}
		if got := approvedRequest(r); got != (phase == v1alpha1.Approved) {
			t.Errorf("%s: there is an approval to take back: %t", phase, got)
		}
	}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestDecided(t *testing.T) {
	t.Parallel()
	for phase, want := range map[v1alpha1.Phase]int{
		"": -1, v1alpha1.Pending: -1,
		v1alpha1.Approved: 0, v1alpha1.Redeemed: 0, v1alpha1.Used: 0,
		v1alpha1.Denied: 1, v1alpha1.Expired: 1, v1alpha1.Withdrawn: 1, v1alpha1.Revoked: 1,
	} {
		a, _, _ := setup(t)
		done, err := a.decided(request1(func(r *v1alpha1.AccessRequest) { r.Status.Phase = phase }))
		got := -1
		if done {
			got = a.report(err)
		}
		if got != want {
			t.Errorf("phase %q: got exit status %d, want %d", phase, got, want)
		}
	}
}

func TestRefusedBeforeAnyConnection(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args string
		code int
		want string
	}{
		{"deny r-1", 1, "error: say why with -m: the agent is told, and can do better next time\n"},
		{"deny r-1 -m  ", 1, "error: flag needs an argument: 'm' in -m\n"},
		{"revoke r-1", 1, "error: say why with -m: it is kept with the request\n"},
		{"revoke -m x", 1, "error: accepts 1 arg(s), received 0\n"},
		{"approve", 1, "error: accepts 1 arg(s), received 0\n"},
		{"get -o xml", 1, "error: --output=xml: want one of json, yaml, name, wide\n"},
		{"get r-1 --mine", 1, "error: --agent and --mine select from all requests; leave them out where you give names\n"},
		{"wait", 2, "error: accepts 1 arg(s), received 0\n"},
		{"wait r-1 --timeout x", 2, "error: invalid argument \"x\" for \"--timeout\" flag: time: invalid duration \"x\"\n"},
		{"wait r-1 --timeout -1s", 2, "error: --timeout=-1s: want 0 or more\n"},
		{"agent add", 1, "error: accepts 1 arg(s), received 0\n"},
		{"agent add claude", 1, "error: --namespaces: say in which namespaces the agent works\n"},
		{"agent add claude --namespaces shop --for 5m", 1, "error: --for=5m0s: want at least 10m0s, which is the API server's least\n"},
		{"agent add claude --namespaces shop --out main.go", 1, "error: --out main.go: is there, and is no kubeconfig of agent claude alone; name another file, or remove it\n"},
		{"agent kubeconfig claude --out main.go", 1, "error: --out main.go: is there, and is no kubeconfig of agent claude alone; name another file, or remove it\n"},
		{"suspend", 1, "error: requires at least 1 arg(s), only received 0\n"},
	} {
		a, _, errOut := setup(t)
		root := rootCommand(a)
		root.SetArgs(strings.Fields(c.args))
		if code := a.report(root.ExecuteContext(t.Context())); code != c.code || errOut.String() != c.want {
			t.Errorf("%s: got %d %q, want %d %q", c.args, code, errOut.String(), c.code, c.want)
		}
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	resource := schema.GroupResource{Group: v1alpha1.Group, Resource: "accessrequests"}
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"no such object": {apierrors.NewNotFound(resource, "x"), "there is none of that name"},
		"no such kind":   {apierrors.NewGenericServerResponse(404, "get", resource, "", "404 page not found", 0, true), "apply manifests/crds"},
		"forbidden":      {apierrors.NewForbidden(resource, "x", errors.New("no")), "kubectl auth can-i --list"},
		"unauthorized":   {apierrors.NewUnauthorized("no"), "log in again"},
		"timeout":        {context.DeadlineExceeded, "try again"},
		"unreachable":    {&net.OpError{Op: "dial", Err: errors.New("refused")}, "--kubeconfig"},
		"other":          {errors.New("boom"), "do x: boom"},
	} {
		err := explain("do x", c.err)
		if !errors.Is(err, c.err) || !strings.HasPrefix(err.Error(), "do x: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %q, want it to say %q", name, err, c.want)
		}
	}
}

func TestErrorsAreMadeVisible(t *testing.T) {
	t.Parallel()
	a, _, errOut := setup(t)
	a.report(errors.New("denied: \x1b[2J\u202e"))
	warnings{a.streams.ErrOut}.HandleWarningHeader(299, "-", "bad \x1b]0;x\x07")
	if want := "error: denied: \\u001b[2J\\u202e\nWarning: bad \\u001b]0;x\\u0007\n"; errOut.String() != want {
		t.Errorf("got %q, want %q", errOut.String(), want)
	}
}

func TestPrintForMachines(t *testing.T) {
	t.Parallel()
	two := []runtime.Object{request1(nil), request1(func(r *v1alpha1.AccessRequest) { r.Name = "r-2" })}
	for _, c := range []struct {
		format  string
		objects []runtime.Object
		single  bool
		want    string // beginning
	}{
		{"name", two, false, "accessrequest.holdfast.dev/r-1\naccessrequest.holdfast.dev/r-2\n"},
		{"name", nil, false, ""},
		{"yaml", two[:1], true, "apiVersion: holdfast.dev/v1alpha1\nkind: AccessRequest\nmetadata:\n"},
		{"yaml", two[:1], false, "apiVersion: v1\nitems:\n- apiVersion: holdfast.dev/v1alpha1\n  kind: AccessRequest\n"},
		{"json", nil, false, "{\n    \"kind\": \"List\",\n    \"apiVersion\": \"v1\",\n    \"metadata\": {},\n    \"items\": []\n}\n"},
	} {
		a, out, _ := setup(t)
		if err := (&output{format: c.format}).print(a, c.objects, c.single); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(out.String(), c.want) || (c.want == "" && out.Len() > 0) {
			t.Errorf("-o %s: got %q, want it to begin with %q", c.format, out.String(), c.want)
		}
	}
}

// Each command says what plain kubectl would do, and -h never needs a cluster.
func TestHelpShowsPlainKubectl(t *testing.T) {
	t.Parallel()
	a, _, _ := setup(t)
	root := rootCommand(a)
	for _, cmd := range root.Commands() {
		if !strings.Contains(cmd.Long, "With plain kubectl") {
			t.Errorf("%s: its help does not show plain kubectl", cmd.Name())
		}
	}
	for _, name := range []string{"kubeconfig", "context", "as", "request-timeout"} {
		if root.PersistentFlags().Lookup(name) == nil {
			t.Errorf("--%s is missing", name)
		}
	}
	if root.PersistentFlags().Lookup("namespace") != nil {
		t.Error("--namespace means nothing here")
	}
	if got := root.CommandPath(); got != "kubectl holdfast" {
		t.Errorf("it calls itself %q", got)
	}
}

func TestBare(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"bot": "bot", "agent/bot": "bot", "agents/bot": "bot", "agent.holdfast.dev/bot": "bot", "agents.holdfast.dev/bot": "bot",
		"pod/bot": "pod/bot",
	} {
		if got := agentName(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}
