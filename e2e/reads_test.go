package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/e2e/local"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// TestReads: what agents read is judged before RBAC is asked, and what they may not read they
// ask for.
func TestReads(t *testing.T) {
	t.Parallel() // it waits more than it works
	c := up(t, func(config *local.Config) { config.NoEvidence, config.Policies = true, "baseline" })
	for _, part := range []struct {
		name string
		run  func(*testing.T, *cluster)
	}{
		{"OnlyAgents", onlyAgentsAreAskedAbout},
		{"Secrets", secretsAreRestricted},
		{"Grant", grantWithoutRBAC},
		{"Change", grantOfChange},
		{"Mounting", mountingFollowsTheGrant},
		{"Logs", logsFollowTheGrant},
		{"OwnRequests", ownRequestsOnly},
		{"Suspended", suspendedOnEveryReplica},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, c) })
	}
}

// decided sums Holdfast's own counters of decisions, of all its hooks but that for its own
// kinds.
func (c *cluster) decided(t *testing.T) (sum float64) {
	t.Helper()
	response, err := http.Get(c.info.WebhookHealthURL + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		admission := strings.HasPrefix(line, "holdfast_admission_decisions_total{") && strings.Contains(line, decision.GuardWebhook)
		if !admission && !strings.HasPrefix(line, "holdfast_authorizer_decisions_total{") {
			continue
		}
		value, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndex(line, " "):]), 64)
		if err != nil {
			t.Fatalf("metric %s: %v", line, err)
		}
		sum += value
	}
	return sum
}

// onlyAgentsAreAskedAbout: people and controllers cause no call, and an agent's requests do.
func onlyAgentsAreAskedAbout(t *testing.T, c *cluster) {
	before := c.decided(t)
	c.must(t, human, "create", "deployment", "asked-about", "--image=registry.example.com/x:1", "--replicas=2")
	eventually(t, 30*time.Second, "controllers have made pods", func() error {
		if n := len(strings.Fields(c.must(t, human, "get", "pods", "-l", "app=asked-about", "-o", "name"))); n != 2 {
			return fmt.Errorf("%d pods, want 2", n)
		}
		return nil
	})
	c.must(t, human, "get", "secrets", "-A")
	c.must(t, human, "delete", "deployment", "asked-about")
	if after := c.decided(t); after != before {
		t.Errorf("Holdfast was asked %v times about others", after-before)
	}
	c.must(t, agent, "get", "pods")
	if after := c.decided(t); after == before {
		t.Error("Holdfast was not asked about the agent")
	}
}

func secretsAreRestricted(t *testing.T, c *cluster) {
	c.must(t, admin, "create", "secret", "generic", "plain", "--from-literal=password=of-plain")
	const rule = "rule baseline-reads/hold-secret-reads"
	for _, command := range []string{
		"get secret plain", "get secret plain -o yaml", "get secrets", "get secrets -A", "get secrets -A -o name", "get secret plain --watch",
		"get secrets --field-selector metadata.name=plain", "get --raw /api/v1/namespaces/default/secrets/plain", "describe secret plain",
		"get --raw /api/v1/secrets?watch=true&timeoutSeconds=1",
	} {
		r := c.kubectl(t, agent, strings.Fields(command)...)
		if r.code == 0 || !strings.Contains(r.err, rule) || strings.Contains(r.out+r.err, "of-plain") {
			t.Errorf("%s: exit %d %s%s, want it refused by %s", command, r.code, r.out, r.err, rule)
		}
	}
	c.refused(t, "To ask for it: kubectl holdfast request --verbs get --resource secrets/plain -n default --for 10m", agent, "get", "secret", "plain")
	c.refused(t, "holdfast:self-protection/impersonation", agent, "get", "pods", "--as=human")
	c.refused(t, "rule baseline-reads/deny-urls", agent, "get", "--raw", "/metrics")
	if r := c.kubectl(t, agent, "auth", "can-i", "get", "secrets/plain"); r.code == 0 || !strings.Contains(r.out, rule) {
		t.Errorf("can-i: %s%s, want no, by %s", r.out, r.err, rule)
	}
	if n := strings.TrimSpace(c.must(t, admin, "get", "accessrequests", "-o", "name")); n != "" {
		t.Errorf("reads opened %s", n)
	}
}

// bare is an agent with no RBAC at all.
func (c *cluster) bare(t *testing.T, name string) identity {
	t.Helper()
	who := c.account(t, local.AgentNamespace, name)
	c.must(t, admin, "delete", "clusterrolebinding", "account:"+local.AgentNamespace+":"+name)
	return who
}

// asks makes somebody ask with the plugin, and returns the AccessRequest's name.
func (c *cluster) asks(t *testing.T, who identity, args ...string) string {
	t.Helper()
	out := c.must(t, who, append([]string{"holdfast", "request", "--reason=the tests need it", "-o", "name"}, args...)...)
	return strings.TrimPrefix(strings.TrimSpace(out), "accessrequest.holdfast.dev/")
}

// granted makes somebody ask with the plugin and two people approve, and returns the name.
func (c *cluster) granted(t *testing.T, who identity, args ...string) string {
	t.Helper()
	name := c.asks(t, who, args...)
	c.approve(t, approver, name)
	c.approve(t, approver2, name)
	c.phase(t, name, "Approved")
	return name
}

// grantWithoutRBAC: none, denied; approved by two, allowed; anything else, denied; after its
// end or a revocation, denied.
func grantWithoutRBAC(t *testing.T, c *cluster) {
	c.must(t, admin, "create", "secret", "generic", "db", "--from-literal=password=of-db")
	c.must(t, admin, "create", "secret", "generic", "db2", "--from-literal=password=x")
	c.must(t, admin, "create", "namespace", "elsewhere")
	c.must(t, admin, "create", "secret", "generic", "db", "-n", "elsewhere", "--from-literal=password=x")
	bare, other := c.bare(t, "bare"), c.bare(t, "other-bare")
	get := []string{"get", "secret", "db", "-o", "jsonpath={.data.password}"}
	c.refused(t, "hold-secret-reads", bare, get...)
	c.refused(t, "cannot list resource \"pods\"", bare, "get", "pods")

	name := c.asks(t, bare, "--verbs", "get", "--resource", "secrets/db", "-n", "default", "--for", "10m")
	c.refused(t, "hold-secret-reads", bare, get...)
	c.approve(t, approver, name)
	c.phase(t, name, "Pending")
	c.refused(t, "hold-secret-reads", bare, get...)
	c.approve(t, approver2, name)
	c.phase(t, name, "Approved")
	eventually(t, 5*time.Second, "what was granted is allowed", func() error {
		if r := c.kubectl(t, bare, get...); r.code != 0 || r.out == "" {
			return errors.New(r.err)
		}
		return nil
	})
	for what, r := range map[string]result{
		"another name":      c.kubectl(t, bare, "get", "secret", "db2"),
		"another namespace": c.kubectl(t, bare, "get", "secret", "db", "-n", "elsewhere"),
		"another verb":      c.kubectl(t, bare, "get", "secrets"),
		"a watch of it":     c.kubectl(t, bare, "get", "secrets", "--field-selector=metadata.name=db", "--watch"),
		"a change of it":    c.kubectl(t, bare, "label", "secret", "db", "a=b"),
		"another agent":     c.kubectl(t, other, get...),
		"the first agent":   c.kubectl(t, agent, get...),
	} {
		if r.code == 0 || !strings.Contains(r.err, "orbidden") {
			t.Errorf("%s: exit %d %s%s, want it forbidden", what, r.code, r.out, r.err)
		}
	}
	c.must(t, approver, "holdfast", "revoke", name, "-m", "not today after all")
	c.phase(t, name, "Revoked")
	c.refused(t, "hold-secret-reads", bare, get...)

	brief := c.granted(t, bare, "--verbs", "get", "--resource", "secrets/db", "-n", "default", "--for", "4s")
	eventually(t, 3*time.Second, "what was granted is allowed", func() error {
		if r := c.kubectl(t, bare, get...); r.code != 0 {
			return errors.New(r.err)
		}
		return nil
	})
	ends, err := time.Parse(time.RFC3339, c.field(t, brief, "{.status.expiresAt}"))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Until(ends))
	c.refused(t, "hold-secret-reads", bare, get...)
}

// grantOfChange: both hooks honour a grant of a change, and RBAC need not know the agent.
func grantOfChange(t *testing.T, c *cluster) {
	c.policy(t, "may-ask", `
  agents: ["*"]
  requestable:
  - {name: deletes, verbs: [delete], apiGroups: [""], resources: [configmaps], namespaces: [default]}
`)
	bare := c.bare(t, "cleaner")
	c.must(t, admin, "create", "configmap", "old-one")
	c.must(t, admin, "create", "configmap", "old-two")
	remove := func(name string) result { return c.kubectl(t, bare, "delete", "configmap", name, "--wait=false") }
	if r := remove("old-one"); r.code == 0 {
		t.Fatal("an agent without RBAC deleted a ConfigMap")
	}
	name := c.asks(t, bare, "--verbs", "delete", "--resource", "configmaps/old-one", "-n", "default", "--for", "10m")
	if rules := c.field(t, name, "{range .spec.rules[*]}{.policy}/{.rule} {end}"); rules != "baseline-deletes/hold-delete may-ask/deletes " {
		t.Errorf("rules %q: want that which holds deletes beside that which lets it ask", rules)
	}
	c.approve(t, approver, name)
	c.phase(t, name, "Approved")
	eventually(t, 5*time.Second, "what was granted is done", func() error {
		if r := remove("old-one"); r.code != 0 {
			return errors.New(r.err)
		}
		return nil
	})
	if r := c.kubectl(t, admin, "get", "configmap", "old-one"); r.code == 0 {
		t.Error("the ConfigMap is still there")
	}
	if r := remove("old-two"); r.code == 0 || !strings.Contains(r.err, "orbidden") {
		t.Errorf("another one: %s%s, want it forbidden", r.out, r.err)
	}
	c.phase(t, name, "Approved") // nothing is used up
}

const mounts = `
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  containers: [{name: c, image: registry.example.com/x:1, volumeMounts: [{name: s, mountPath: /s}]}]
  volumes: [{name: s, secret: {secretName: %s}}]
`

// mountingFollowsTheGrant: who may read a Secret for a while may mount it for a while.
func mountingFollowsTheGrant(t *testing.T, c *cluster) {
	c.must(t, admin, "create", "secret", "generic", "mounted", "--from-literal=password=x")
	create := func(pod string) result {
		return c.kubectlWith(t, fmt.Sprintf(mounts, pod, "mounted"), agent, "create", "--request-timeout=3s", "-f", "-")
	}
	if r := create("before"); r.code == 0 {
		t.Error("a pod with a Secret that the agent may not read was created")
	}
	name := c.granted(t, agent, "--verbs", "get", "--resource", "secrets/mounted", "-n", "default", "--for", "10m")
	eventually(t, 20*time.Second, "the pod is created", func() error {
		if r := create("during"); r.code != 0 {
			return errors.New(r.err)
		}
		return nil
	})
	c.must(t, approver, "holdfast", "revoke", name, "-m", "enough")
	c.phase(t, name, "Revoked")
	if r := create("after"); r.code == 0 {
		t.Error("a pod with the Secret was created after the grant was revoked")
	}
}

// logged are pods on a node whose kubelet cannot be reached: the first four are given a Secret,
// the others are not.
const logged = `
apiVersion: v1
kind: Node
metadata: {name: unreachable}
status: {addresses: [{type: InternalIP, address: 127.0.0.1}], daemonEndpoints: {kubeletEndpoint: {Port: 1}}}
---
apiVersion: v1
kind: Pod
metadata: {name: by-env}
spec:
  nodeName: unreachable
  containers: [{name: c, image: registry.example.com/x:1, env: [{name: A, valueFrom: {secretKeyRef: {name: logged, key: password}}}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: by-init}
spec:
  nodeName: unreachable
  initContainers: [{name: i, image: registry.example.com/x:1, envFrom: [{secretRef: {name: logged}}]}]
  containers: [{name: c, image: registry.example.com/x:1}]
---
apiVersion: v1
kind: Pod
metadata: {name: by-volume}
spec:
  nodeName: unreachable
  containers: [{name: c, image: registry.example.com/x:1}]
  volumes: [{name: s, secret: {secretName: logged}}]
---
apiVersion: v1
kind: Pod
metadata: {name: by-projection}
spec:
  nodeName: unreachable
  containers: [{name: c, image: registry.example.com/x:1}]
  volumes: [{name: s, projected: {sources: [{secret: {name: logged}}]}}]
---
apiVersion: v1
kind: Pod
metadata: {name: without}
spec:
  nodeName: unreachable
  containers: [{name: c, image: registry.example.com/x:1, env: [{name: A, value: B}], envFrom: [{configMapRef: {name: settings}}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: pulled}
spec:
  nodeName: unreachable
  imagePullSecrets: [{name: logged}]
  containers: [{name: c, image: registry.example.com/x:1}]
`

// logsFollowTheGrant: who may not read a Secret may not read the log of a pod that is given it,
// and who may for a while may for a while. Other logs are free: that they get as far as the
// kubelet, which is not there, is all that can be seen here.
func logsFollowTheGrant(t *testing.T, c *cluster) {
	const unreached, rule = "127.0.0.1:1", "rule baseline-reads/hold-secret-logs"
	c.must(t, admin, "create", "secret", "generic", "logged", "--from-literal=password=of-logged")
	if r := c.kubectlWith(t, logged, admin, "create", "-f", "-"); r.code != 0 {
		t.Fatal(r.err)
	}
	before := c.must(t, admin, "get", "accessrequests", "-o", "name")
	given := []string{"by-env", "by-init", "by-volume", "by-projection"}
	for _, pod := range given {
		c.refused(t, rule, agent, "logs", pod, "-c", "c")
		c.refused(t, rule, agent, "logs", pod, "-c", "c", "--previous", "--tail=1")
		c.refused(t, rule, agent, "get", "--raw", "/api/v1/namespaces/default/pods/"+pod+"/log?follow=true")
		c.refused(t, unreached, human, "logs", pod, "-c", "c")
	}
	c.refused(t, "It may not read Secret default/logged. To ask for it: kubectl holdfast request --verbs get --resource secrets/logged -n default",
		agent, "logs", "by-env")
	if r := c.kubectl(t, agent, "auth", "can-i", "get", "pods/by-env", "--subresource=log"); r.code == 0 || !strings.Contains(r.out, rule) {
		t.Errorf("can-i: %s%s, want no, by %s", r.out, r.err, rule)
	}
	if after := c.must(t, admin, "get", "accessrequests", "-o", "name"); after != before {
		t.Errorf("reads of logs opened requests: %s, before %s", after, before)
	}
	for _, pod := range []string{"without", "pulled"} {
		c.refused(t, unreached, agent, "logs", pod)
	}
	c.refused(t, `pods "nowhere" not found`, agent, "get", "--raw", "/api/v1/namespaces/default/pods/nowhere/log")

	name := c.granted(t, agent, "--verbs", "get", "--resource", "secrets/logged", "-n", "default", "--for", "10m")
	for _, pod := range given {
		eventually(t, 5*time.Second, "the log of "+pod+" is asked for", func() error {
			if r := c.kubectl(t, agent, "logs", pod, "-c", "c"); !strings.Contains(r.err, unreached) {
				return errors.New(r.err)
			}
			return nil
		})
	}
	c.must(t, approver, "holdfast", "revoke", name, "-m", "enough")
	c.phase(t, name, "Revoked")
	c.refused(t, rule, agent, "logs", "by-env")
}

// ownRequestsOnly: agents see and withdraw what they asked for, and nothing that others did.
func ownRequestsOnly(t *testing.T, c *cluster) {
	bare, other := c.bare(t, "asker"), c.bare(t, "other-asker")
	name := c.asks(t, bare, "--verbs", "get", "--resource", "secrets/x", "-n", "default", "--for", "10m")
	mine := "--field-selector=spec.requester=system:serviceaccount:agents:asker"
	if out := c.must(t, bare, "get", "accessrequests", mine, "-o", "name"); !strings.Contains(out, name) {
		t.Errorf("its own list: %q, want %s in it", out, name)
	}
	c.must(t, bare, "get", "accessrequest", name)
	for _, who := range []identity{bare, other, agent} {
		c.refused(t, "agents see the AccessRequests that they made", who, "get", "accessrequests")
	}
	for _, who := range []identity{other, agent} {
		c.refused(t, "agents see the AccessRequests that they made", who, "get", "accessrequests", mine)
		c.refused(t, "agents see the AccessRequests that they made", who, "get", "accessrequest", name)
		c.refused(t, "orbidden", who, "patch", "accessrequest", name, "--type=merge", "-p", `{"spec":{"withdrawn":true}}`)
		c.refused(t, "orbidden", who, "delete", "accessrequest", name)
	}
	c.must(t, bare, "patch", "accessrequest", name, "--type=merge", "-p", `{"spec":{"withdrawn":true}}`)
	c.phase(t, name, "Withdrawn")
}

// suspendedOnEveryReplica: a second after an Agent was suspended, each replica denies all that
// it asks, reads, new watches and discovery included.
func suspendedOnEveryReplica(t *testing.T, c *cluster) {
	c.own(t)
	if err := c.run.StartReplica(t.Context()); err != nil {
		t.Fatal(err)
	}
	caller := c.mutual(t, c.info.CallerCert, c.info.CallerKey)
	denied := func(replica string, attributes authorizationv1.SubjectAccessReviewSpec) bool {
		attributes.User, attributes.Groups = "system:serviceaccount:agents:bot", []string{"system:serviceaccounts:agents"}
		body, err := json.Marshal(&authorizationv1.SubjectAccessReview{
			TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SubjectAccessReview"}, Spec: attributes,
		})
		if err != nil {
			t.Fatal(err)
		}
		response, err := caller.Post(replica+"/authorize", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		var answer authorizationv1.SubjectAccessReview
		if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		return answer.Status.Denied
	}
	requests := []authorizationv1.SubjectAccessReviewSpec{
		{ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "get", Version: "v1", Resource: "pods", Namespace: "default", Name: "x"}},
		{ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "watch", Version: "v1", Resource: "pods"}},
		{ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "create", Version: "v1", Resource: "pods", Namespace: "default"}},
		{ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: "create", Group: "holdfast.dev", Version: "v1alpha1", Resource: "accessrequests"}},
		{NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: "get", Path: "/api"}},
	}
	for _, replica := range []string{c.info.WebhookURL, c.info.ReplicaURL} {
		for i, r := range requests {
			if denied(replica, r) {
				t.Errorf("request %d was denied by %s before anybody was suspended", i, replica)
			}
		}
	}
	c.must(t, human, "holdfast", "suspend", "agent/bot")
	time.Sleep(time.Second)
	for _, replica := range []string{c.info.WebhookURL, c.info.ReplicaURL} {
		for i, r := range requests {
			if !denied(replica, r) {
				t.Errorf("request %d was not denied by %s a second after the agent was suspended", i, replica)
			}
		}
	}
	c.refused(t, "Agent bot is suspended", agent, "get", "pods", "--watch")
	c.refused(t, "Agent bot is suspended", agent, "get", "--raw", "/version")
	c.must(t, human, "holdfast", "resume", "agent/bot")
	eventually(t, 5*time.Second, "the agent goes on", func() error {
		if r := c.kubectl(t, agent, "get", "pods"); r.code != 0 {
			return errors.New(r.err)
		}
		return nil
	})
}
