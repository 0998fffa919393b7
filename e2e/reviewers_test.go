package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/e2e/local"
)

// holdForAnybody names, as approvers, people who must not count all the same.
const holdForAnybody = `
  agents: ["*"]
  rules:
  - name: hold
    match: {verbs: [create], apiGroups: [""], resources: [configmaps]}
    action: Hold
    approvers:
      groups: ["holdfast:approvers"]
      users: [human, "system:serviceaccount:agents:bot", "system:serviceaccount:agents:other"]
    required: %d
    allowOwner: %t
    wait: 2m
`

// whoCounts: two people have to approve. One is not enough, nor the same one twice; and the
// requester, another agent and the agent's owner do not count even where the rule names them.
func whoCounts(t *testing.T, c *cluster) {
	other := c.account(t, local.AgentNamespace, "other")
	c.policy(t, "holds", fmt.Sprintf(holdForAnybody, 2, false))
	done := c.started(t, "create", "configmap", "two-people")
	request := c.pendingRequest(t, "two-people")
	for _, test := range []struct {
		name string
		who  identity
		more []string
		want string
	}{
		{"requester", agent, nil, "agents may not review"},
		{"another agent", other, nil, "agents may not review"},
		{"owner", human, nil, "this review would not count: the agent's owner does not count for these rules"},
		// As a user of no Agent and no rule, who may do everything else.
		{"stranger", admin, []string{"--as=stranger", "--as-group=system:masters"}, "this review would not count: not an approver of any rule of this request"},
	} {
		if r := c.review(t, test.who, request, "Approve", test.more...); r.code == 0 || !strings.Contains(r.err, test.want) {
			t.Errorf("%s approves: exit %d %s, want %q", test.name, r.code, r.err, test.want)
		}
	}
	c.approve(t, approver, request)
	eventually(t, 10*time.Second, "the second verdict of one person is refused", func() error {
		r := c.review(t, approver, request, "Approve")
		if r.code == 0 || !strings.Contains(r.err, "given a verdict before") {
			return fmt.Errorf("exit %d: %s", r.code, r.err)
		}
		return nil
	})
	c.phase(t, request, "Pending")
	select {
	case r := <-done:
		t.Fatalf("went on after one approval of two: exit %d %s%s", r.code, r.out, r.err)
	default:
	}
	c.approve(t, approver2, request)
	if r := <-done; r.code != 0 {
		t.Errorf("after two approvals: exit %d %s", r.code, r.err)
	}
	ownerCounts(t, c)
}

// ownerCounts is the control: where the rule says so, the owner's word is enough.
func ownerCounts(t *testing.T, c *cluster) {
	c.policy(t, "holds", fmt.Sprintf(holdForAnybody, 1, true))
	done := c.started(t, "create", "configmap", "of-the-owner")
	c.approve(t, human, c.pendingRequest(t, "of-the-owner"))
	if r := <-done; r.code != 0 {
		t.Errorf("after the owner's approval: exit %d %s", r.code, r.err)
	}
}
