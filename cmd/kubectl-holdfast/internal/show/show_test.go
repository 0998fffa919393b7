package show

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

var now = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) metav1.Time { return metav1.NewTime(now.Add(-d)) }

func in(d time.Duration) *metav1.Time { t := metav1.NewTime(now.Add(d)); return &t }

// setup is a pending request held by one rule that wants two approvals and a reason.
func setup(t *testing.T, change func(*v1alpha1.AccessRequest)) *v1alpha1.AccessRequest {
	t.Helper()
	r := &v1alpha1.AccessRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "3f2a9c-1", CreationTimestamp: ago(2 * time.Minute)},
		Spec: v1alpha1.AccessRequestSpec{
			Origin: v1alpha1.Intercepted, Agent: "bot", Requester: "system:serviceaccount:agents:bot",
			Access: v1alpha1.Access{Verbs: []string{"delete"}, APIGroups: []string{""}, Resources: []string{"namespaces"}, Names: []string{"prod-a"}},
			Rules: []v1alpha1.HoldingRule{{
				Policy: "no-namespace-deletes", Rule: "hold-delete", Required: 2, ReasonRequired: true,
				Message:   "Namespaces of production need a second pair of eyes.",
				Approvers: v1alpha1.Approvers{Groups: []string{"holdfast:approvers"}, Users: []string{"ann"}},
			}},
		},
		Status: v1alpha1.AccessRequestStatus{Phase: v1alpha1.Pending, ExpiresAt: in(58 * time.Minute)},
	}
	if change != nil {
		change(r)
	}
	return r
}

func counted(name, who string) v1alpha1.ReviewCopy {
	return v1alpha1.ReviewCopy{
		Name: name, Reviewer: who, Group: "holdfast:approvers", Rules: []string{"no-namespace-deletes/hold-delete"},
		Verdict: v1alpha1.Approve, Time: ago(time.Minute),
	}
}

func equal(t *testing.T, got, want string) {
	t.Helper()
	// Go source keeps no blanks at the ends of lines.
	var lines []string
	for line := range strings.SplitSeq(got, "\n") {
		lines = append(lines, strings.TrimRight(line, " "))
	}
	if got = strings.Join(lines, "\n"); got != strings.TrimPrefix(want, "\n") {
		t.Errorf("got:\n%s\nwant:%s", got, want)
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	list := []v1alpha1.AccessRequest{
		*setup(t, func(r *v1alpha1.AccessRequest) {
			r.Name, r.Status.Phase, r.CreationTimestamp = "used-old", v1alpha1.Used, ago(50*time.Hour)
			r.Spec.Reason, r.Status.Reviews = "why", []v1alpha1.ReviewCopy{counted("a", "ann"), counted("b", "bob")}
		}),
		*setup(t, nil),
		*setup(t, func(r *v1alpha1.AccessRequest) {
			r.Name, r.Status.Phase, r.CreationTimestamp = "approved", v1alpha1.Approved, ago(time.Hour)
			r.Status.ExpiresAt = in(-time.Second)
			r.Spec.Access = v1alpha1.Access{
				Verbs: []string{"update"}, APIGroups: []string{"apps"}, Resources: []string{"deployments/scale"},
				Namespaces: []string{"shop"}, Names: []string{"web"},
			}
		}),
		*setup(t, func(r *v1alpha1.AccessRequest) {
			r.Name, r.CreationTimestamp = "longest", ago(30*time.Minute)
			r.Spec.Reason = "because"
			r.Spec.Rules = append(r.Spec.Rules, v1alpha1.HoldingRule{Policy: "p", Rule: "r", Required: 1})
			r.Spec.Access = v1alpha1.Access{
				Verbs: []string{"get", "list"}, APIGroups: []string{"", "apps"}, Resources: []string{"secrets", "deployments"},
				Namespaces: []string{"a", "b", "c", "d", "e"},
			}
			r.Status.Reviews = []v1alpha1.ReviewCopy{counted("a", "ann"), {Name: "b", Verdict: v1alpha1.Approve, Refused: access.RefusedOwner}}
		}),
		*setup(t, func(r *v1alpha1.AccessRequest) {
			r.Name, r.CreationTimestamp = "asked-x", ago(90*time.Minute)
			r.Spec.Origin, r.Spec.Access = v1alpha1.Asked, v1alpha1.Access{
				Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}, Namespaces: []string{"prod"}, Names: []string{"db"},
				Duration: &metav1.Duration{Duration: 10 * time.Minute},
			}
			r.Status.Phase, r.Status.ExpiresAt = v1alpha1.Approved, in(4*time.Minute)
		}),
		*setup(t, func(r *v1alpha1.AccessRequest) {
			r.Name, r.Status, r.CreationTimestamp = "new", v1alpha1.AccessRequestStatus{}, ago(0)
			r.Spec.Access.Names = []string{"x\x1b[31m\ty\nz"}
		}),
	}
	Sort(list)
	for _, c := range []struct {
		name  string
		table Table
		want  string
	}{
		{"default", Table{Now: now}, `
NAME       AGENT   VERB       OBJECT                                            FOR    PHASE      APPROVALS    AGE    LEFT
longest    bot     get,list   secrets.{,apps},deployments.{,apps} -n a,b,c,+2   once   Pending    1/2,0/1      30m    58m
3f2a9c-1   bot     delete     namespaces/prod-a                                 once   Pending    0/2+reason   2m     58m
new        bot     delete     namespaces/x\u001b[31m\u0009y\u000az              once   New        0/2+reason   0s     -
approved   bot     update     deployments.apps/web/scale -n shop                once   Approved   0/2+reason   60m    over
asked-x    bot     get        secrets/db -n prod                                10m    Approved   0/2+reason   90m    4m
used-old   bot     delete     namespaces/prod-a                                 once   Used       2/2          2d2h   -
`},
		{"wide without headers", Table{Now: now, Wide: true, NoHeaders: true}, `
longest    bot   get,list   secrets.{,apps},deployments.{,apps} -n a,b,c,+2   once   Pending    1/2,0/1      30m    58m    2026-07-01T12:58:00Z   system:serviceaccount:agents:bot   no-namespace-deletes/hold-delete,p/r
3f2a9c-1   bot   delete     namespaces/prod-a                                 once   Pending    0/2+reason   2m     58m    2026-07-01T12:58:00Z   system:serviceaccount:agents:bot   no-namespace-deletes/hold-delete
new        bot   delete     namespaces/x\u001b[31m\u0009y\u000az              once   New        0/2+reason   0s     -      -                      system:serviceaccount:agents:bot   no-namespace-deletes/hold-delete
approved   bot   update     deployments.apps/web/scale -n shop                once   Approved   0/2+reason   60m    over   2026-07-01T11:59:59Z   system:serviceaccount:agents:bot   no-namespace-deletes/hold-delete
asked-x    bot   get        secrets/db -n prod                                10m    Approved   0/2+reason   90m    4m     2026-07-01T12:04:00Z   system:serviceaccount:agents:bot   no-namespace-deletes/hold-delete
used-old   bot   delete     namespaces/prod-a                                 once   Used       2/2          2d2h   -      -                      system:serviceaccount:agents:bot   no-namespace-deletes/hold-delete
`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			if err := Requests(&b, list, c.table); err != nil {
				t.Fatal(err)
			}
			equal(t, b.String(), c.want)
		})
	}
}

// APPROVALS must not say enough where access says that something is missing, nor the
// other way round.
func TestApprovalsAgreeWithAccess(t *testing.T) {
	t.Parallel()
	for _, reviews := range [][]v1alpha1.ReviewCopy{
		nil, {counted("a", "ann")}, {counted("a", "ann"), counted("b", "bob")},
		{counted("a", "ann"), {Name: "b", Verdict: v1alpha1.Approve, Rules: []string{"other/rule"}}},
		{counted("a", "ann"), {Name: "b", Verdict: v1alpha1.Reject, Rules: []string{"no-namespace-deletes/hold-delete"}}},
	} {
		for _, reason := range []string{"", "why"} {
			r := setup(t, func(r *v1alpha1.AccessRequest) { r.Spec.Reason, r.Status.Reviews = reason, reviews })
			enough := Approvals(r) == "2/2"
			if missing := access.Missing(r, reviews); enough != (len(missing) == 0) {
				t.Errorf("%s, but access says %q", Approvals(r), missing)
			}
		}
	}
}

func TestAgents(t *testing.T) {
	t.Parallel()
	three := int32(3)
	list := []v1alpha1.Agent{
		{
			ObjectMeta: metav1.ObjectMeta{Name: "bot", CreationTimestamp: ago(3 * time.Hour)},
			Spec: v1alpha1.AgentSpec{
				Subjects: []v1alpha1.Subject{
					{Kind: v1alpha1.ServiceAccountSubject, Namespace: "agents", Name: "*"},
					{Kind: v1alpha1.UserSubject, Name: "claude@corp"}, {Kind: v1alpha1.GroupSubject, Name: "g"}, {Kind: v1alpha1.GroupSubject, Name: "h"},
				},
				Owner: &v1alpha1.Owner{Kind: v1alpha1.UserSubject, Name: "jane"}, Suspended: true,
			},
			Status: v1alpha1.AgentStatus{Policies: &three, Conditions: []metav1.Condition{
				{Type: v1alpha1.ConditionCompiled, Status: "True", Message: "in force"},
				{Type: v1alpha1.ConditionInNet, Status: "False", Message: "group h is not in the registration"},
			}},
		},
		{ObjectMeta: metav1.ObjectMeta{Name: "young"}},
	}
	list[0].Status.LastActivity = &metav1.Time{Time: now.Add(-90 * time.Second)}
	policy := func(name string, agents ...v1alpha1.Pattern) v1alpha1.AgentPolicy {
		return v1alpha1.AgentPolicy{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.AgentPolicySpec{Agents: agents}}
	}
	policies := &v1alpha1.AgentPolicyList{Items: []v1alpha1.AgentPolicy{
		policy("d", "bot"), policy("c", "b*"), policy("b", "x", "*ot"), policy("a", "bot"), policy("for-others", "other"), policy("for-nobody"),
	}}
	var b bytes.Buffer
	for _, c := range []struct {
		policies *v1alpha1.AgentPolicyList
		wide     bool
	}{{nil, false}, {policies, false}, {policies, true}} {
		if err := Agents(&b, list, c.policies, Table{Now: now, Wide: c.wide}); err != nil {
			t.Fatal(err)
		}
	}
	equal(t, b.String(), `
NAME    SUBJECTS                                  OWNER    SUSPENDED   IN-NET    POLICIES    LAST-ACTIVITY   AGE
bot     sa:agents/*,user:claude@corp,group:g,+1   jane     true        False     3           90s             3h
young                                             <none>   false       Unknown   <unknown>   <none>          <unknown>
NAME    SUBJECTS                                  OWNER    SUSPENDED   IN-NET    POLICIES   LAST-ACTIVITY   AGE
bot     sa:agents/*,user:claude@corp,group:g,+1   jane     true        False     a,b,c,+1   90s             3h
young                                             <none>   false       Unknown   <none>     <none>          <unknown>
NAME    SUBJECTS                                       OWNER    SUSPENDED   IN-NET    POLICIES   LAST-ACTIVITY   AGE         COMPILED   MESSAGE
bot     sa:agents/*,user:claude@corp,group:g,group:h   jane     true        False     a,b,c,d    90s             3h          True       group h is not in the registration
young                                                  <none>   false       Unknown   <none>     <none>          <unknown>   Unknown
`)
}

func TestVisible(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ in, line, block string }{
		{"plain, ünïcode, 日本 ✓", "plain, ünïcode, 日本 ✓", "plain, ünïcode, 日本 ✓"},
		{"a\nb\tc", `a\u000ab\u0009c`, "a\nb\tc"},
		{"\x1b]0;title\x07\x1b[2J", `\u001b]0;title\u0007\u001b[2J`, `\u001b]0;title\u0007\u001b[2J`},
		{"over\rwritten\b\x7f\x00", `over\u000dwritten\u0008\u007f\u0000`, `over\u000dwritten\u0008\u007f\u0000`},
		{"\u009b31m\u0085", `\u009b31m\u0085`, `\u009b31m\u0085`},
		{"\u202egnp\u2066\u200b\ufeff\u2028\u00ad", `\u202egnp\u2066\u200b\ufeff\u2028\u00ad`, `\u202egnp\u2066\u200b\ufeff\u2028\u00ad`},
		{"\u00a0\u3164\u2800\ue000", `\u00a0\u3164\u2800\ue000`, `\u00a0\u3164\u2800\ue000`},
		{"\U000e0041", `\udb40\udc41`, `\udb40\udc41`},
		{"\xff\x9b ok", `\xff\x9b ok`, `\xff\x9b ok`},
	} {
		if got := Line(c.in); got != c.line {
			t.Errorf("Line(%q) = %q, want %q", c.in, got, c.line)
		}
		if got := Block(c.in); got != c.block {
			t.Errorf("Block(%q) = %q, want %q", c.in, got, c.block)
		}
	}
}

func FuzzVisible(f *testing.F) {
	f.Add("\x1b[2J\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		for _, r := range Line(s) {
			if !unicode.IsPrint(r) {
				t.Errorf("Line(%q) lets %U through", s, r)
			}
		}
	})
}

// Whatever field an agent, or anybody, fills with escape sequences, none reaches the
// terminal, and no line of it stands where ours do.
func TestNothingHostileIsPrinted(t *testing.T) {
	t.Parallel()
	const evil = "x\x1b[2J\u009b\u202e\rForged:\nForged: yes"
	r := setup(t, func(r *v1alpha1.AccessRequest) {
		r.Name, r.Spec.Agent, r.Spec.Requester, r.Spec.Reason = evil, evil, evil, evil
		r.Spec.Origin, r.Status.Change, r.Status.Impact = evil, "+ "+evil, map[string]int64{evil: 1}
		r.Spec.Access = v1alpha1.Access{
			Verbs: []string{evil}, APIGroups: []string{evil}, Resources: []string{evil},
			Namespaces: []string{evil}, Names: []string{evil, evil, evil, evil},
		}
		r.Spec.Rules = []v1alpha1.HoldingRule{{Policy: evil, Rule: evil, Message: evil, Approvers: v1alpha1.Approvers{Groups: []string{evil}, Users: []string{evil}}}}
		r.Status.Reviews = []v1alpha1.ReviewCopy{
			{Name: evil, Reviewer: evil, Group: evil, Rules: []string{evil}, Verdict: evil, Comment: evil, Time: ago(0)},
			{Name: "b", Reviewer: evil, Verdict: v1alpha1.Reject, Comment: evil, Refused: evil, Time: ago(0)},
			{Name: "c", Reviewer: evil, Verdict: v1alpha1.Reject, Comment: evil, Time: ago(0)},
		}
		r.Status.Redeemed = &v1alpha1.Redemption{DecisionID: evil}
		r.Status.Message, r.Status.Version, r.Status.GenerateName, r.Status.TargetUID = evil, evil, evil, evil
		r.Status.Items = []v1alpha1.Item{{Name: evil, UID: evil}}
		r.Status.Affected, r.Status.AffectedDigest = []string{evil, evil + ", are not shown"}, evil
		r.Status.Change, r.Status.ChangeDigest = r.Status.Change+"\n... cut: "+evil[:2], evil
	})
	agent := &v1alpha1.Agent{ObjectMeta: metav1.ObjectMeta{Name: evil}, Spec: v1alpha1.AgentSpec{
		Subjects: []v1alpha1.Subject{{Kind: evil, Name: evil}}, Owner: &v1alpha1.Owner{Name: evil},
	}}
	var b bytes.Buffer
	for _, phase := range []v1alpha1.Phase{v1alpha1.Pending, v1alpha1.Approved, v1alpha1.Denied, evil} {
		r.Status.Phase = phase
		(&Description{Request: r, Agent: agent, Now: now}).Print(&b)
		(&Description{Request: r, NoAgent: evil, Now: now}).Print(&b)
		if err := Requests(&b, []v1alpha1.AccessRequest{*r}, Table{Wide: true, Now: now}); err != nil {
			t.Fatal(err)
		}
		plain := setup(t, nil)
		b.WriteString(Change(nil, r, now) + "\n" + Change(plain, r, now) + "\n" + Change(r, nil, now) + "\n")
	}
	policies := &v1alpha1.AgentPolicyList{Items: []v1alpha1.AgentPolicy{{
		ObjectMeta: metav1.ObjectMeta{Name: evil}, Spec: v1alpha1.AgentPolicySpec{Agents: []v1alpha1.Pattern{"*"}},
	}}}
	if err := Agents(&b, []v1alpha1.Agent{*agent}, policies, Table{Wide: true, Now: now}); err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(b.String(), "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), "Forged") {
			t.Errorf("a line passes for ours: %q", line)
		}
		for _, c := range line {
			if !unicode.IsPrint(c) {
				t.Errorf("%U in %q", c, line)
			}
		}
	}
}
