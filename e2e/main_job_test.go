// Package e2e runs Holdfast as users do: a real API server, the real programs, kubectl.
package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/holdfast-dev/holdfast/e2e/local"
)

const denyNamespaceDeletes = `
  agents: ["*"]
  mode: %s
  rules:
  - name: deny-delete
    match: {verbs: [delete, deletecollection], apiGroups: [""], resources: [namespaces]}
    action: Deny
    message: Namespaces are deleted by people.
`

// target is a namespace that the agent tries, and is never allowed, to delete. (The API
// server itself protects default, before it asks any webhook.)
const target = "precious"

// TestMainJob is one story on one control plane; its parts run in order. The last of them
// holds the whole run's evidence against the API server's own log.
func TestMainJob(t *testing.T) {
	c := attach(t)
	c.must(t, human, "create", "namespace", target)
	t.Cleanup(func() { c.kubectl(t, human, "delete", "namespace", target, "--wait=false") })
	for _, part := range []struct {
		name string
		run  func(*testing.T, *cluster)
	}{
		{"AgentDeniedHumanNot", agentDeniedHumanNot},
		{"AnswerForPrograms", answerForPrograms},
		{"Warn", warnMode},
		{"Audit", auditMode},
		{"BrokenPolicy", brokenPolicy},
		{"UnknownField", unknownField},
		{"LoopIsCut", loopIsCut},
		{"OwnKinds", ownKinds},
		{"Registrations", registrations},
		{"Readme", readmeManifests},
		{"OutsideTheNet", outsideTheNet},
		{"NoAgents", noAgents},
		{"Suspended", suspended},
		{"ClientCertificate", clientCertificate},
		{"WebhookDown", webhookDown},
		{"CallsOfTheGuard", callsOfTheGuard},
		{"Story", story},
		{"Complete", complete},
	} {
		t.Run(part.name, func(t *testing.T) { part.run(t, c) })
	}
}

func agentDeniedHumanNot(t *testing.T, c *cluster) {
	// The control: without the policy the agent, who is cluster-admin, may.
	c.must(t, agent, "create", "namespace", "control")
	c.must(t, agent, "delete", "namespace", "control", "--wait=false")

	c.policy(t, "no-namespace-deletes", fmt.Sprintf(denyNamespaceDeletes, "Enforce"))
	c.must(t, human, "create", "namespace", "prod")
	c.refused(t, `agent bot may not delete namespaces "prod": rule no-namespace-deletes/deny-delete: Namespaces are deleted by people. (decision `,
		agent, "delete", "namespace", "prod")
	c.refused(t, "no-namespace-deletes/deny-delete", agent, "delete", "namespace", "prod", "--dry-run=server")
	c.must(t, agent, "get", "namespace", "prod")
	c.must(t, agent, "-n", "prod", "create", "configmap", "fine")
	c.must(t, human, "delete", "namespace", "prod")
}

// answerForPrograms looks at what a client gets that reads the Status.
func answerForPrograms(t *testing.T, c *cluster) {
	c.policy(t, "no-namespace-deletes", fmt.Sprintf(denyNamespaceDeletes, "Enforce"))
	config, err := clientcmd.BuildConfigFromFlags("", c.info.AgentKubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	err = client.CoreV1().Namespaces().Delete(t.Context(), target, metav1.DeleteOptions{})
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsForbidden(err) || status.Status().Details == nil {
		t.Fatalf("error %v, want a 403 with details", err)
	}
	details := status.Status().Details
	if details.Name != target || details.Kind != "namespaces" || len(details.Causes) != 2 {
		t.Fatalf("details %+v, want the object and two causes", details)
	}
	rule, decision := details.Causes[0], details.Causes[1]
	if rule.Type != "HoldfastRule" || rule.Field != "no-namespace-deletes/deny-delete" || rule.Message != "Namespaces are deleted by people." {
		t.Errorf("cause %+v, want the rule", rule)
	}
	if decision.Type != "HoldfastDecision" || !strings.Contains(err.Error(), decision.Message) {
		t.Errorf("cause %+v, want the decision of %v", decision, err)
	}
}

func warnMode(t *testing.T, c *cluster) {
	c.policy(t, "warns", fmt.Sprintf(denyNamespaceDeletes, "Warn"))
	c.must(t, human, "create", "namespace", "warned")
	r := c.kubectl(t, agent, "delete", "namespace", "warned")
	if want := "Warning: Holdfast would deny this delete (policy in mode Warn): rule warns/deny-delete: Namespaces are deleted by people."; r.code != 0 || !strings.Contains(r.err, want) {
		t.Errorf("exit %d, want success with %q\n%s", r.code, want, r.err)
	}
}

func auditMode(t *testing.T, c *cluster) {
	c.policy(t, "audits", fmt.Sprintf(denyNamespaceDeletes, "Audit"))
	c.must(t, human, "create", "namespace", "audited")
	if r := c.kubectl(t, agent, "delete", "namespace", "audited"); r.code != 0 || strings.Contains(r.err, "Warning") {
		t.Errorf("exit %d, want success without a warning\n%s", r.code, r.err)
	}
	if c.info.AuditLog == "" {
		return
	}
	eventually(t, 10*time.Second, "the audit event says what would have happened", func() error {
		for _, e := range c.auditLog(t) {
			for _, value := range e.Annotations {
				if strings.Contains(value, `"observed":["audits/deny-delete=Deny"]`) {
					return nil
				}
			}
		}
		return errors.New("no annotation with observed")
	})
}

func brokenPolicy(t *testing.T, c *cluster) {
	c.policy(t, "stays", fmt.Sprintf(denyNamespaceDeletes, "Enforce"))
	broken := strings.Replace(fmt.Sprintf(denyNamespaceDeletes, "Enforce"), "    action: Deny", "    when: 'request.name =='\n    action: Deny", 1)
	r := c.kubectlWith(t, "apiVersion: holdfast.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {name: stays}\nspec:\n"+broken, admin, "apply", "-f", "-")
	if want := `spec.rules[0].when: Invalid value: "request.name ==": line 1, column 15: unexpected token EOF`; r.code == 0 || !strings.Contains(r.err, want) {
		t.Errorf("exit %d, want a refusal with %q\n%s", r.code, want, r.err)
	}
	c.refused(t, "rule stays/deny-delete", agent, "delete", "namespace", target)
}

// unknownField is refused even of a client that asks the API server to ignore it.
func unknownField(t *testing.T, c *cluster) {
	spec := strings.Replace(fmt.Sprintf(denyNamespaceDeletes, "Enforce"), "    action: Deny", "    whne: 'true'\n    action: Deny", 1)
	r := c.kubectlWith(t, "apiVersion: holdfast.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {name: typo}\nspec:\n"+spec, admin, "create", "--validate=ignore", "-f", "-")
	if r.code == 0 || !strings.Contains(r.err, `unknown field "spec.rules[0].whne"`) {
		t.Errorf("exit %d, want a refusal that names the field\n%s%s", r.code, r.out, r.err)
	}
}

func loopIsCut(t *testing.T, c *cluster) {
	c.policy(t, "loops", `
  agents: ["*"]
  rules:
  - name: slow
    match: {verbs: [create], apiGroups: [""], versions: [v1], resources: [configmaps]}
    when: 'any(values(object.data), let a = #; any(values(object.data), # != a and # contains "never"))'
    action: Deny
`)
	var manifest strings.Builder
	manifest.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: many, namespace: default}\ndata:\n")
	for i := range 20000 {
		fmt.Fprintf(&manifest, "  k%d: v%d\n", i, i)
	}
	start := time.Now()
	r := c.kubectlWith(t, manifest.String(), agent, "create", "--validate=false", "-f", "-")
	if want := "rule loops/slow: the expression took longer than it may"; r.code == 0 || !strings.Contains(r.err, want) {
		t.Errorf("exit %d, want a refusal with %q\n%s%s", r.code, want, r.out, r.err)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("decided after %s, want well within the webhook's timeout of 15 s", took)
	}
	c.must(t, agent, "create", "configmap", "few", "--from-literal=a=b")
	c.must(t, agent, "delete", "configmap", "few")
}

func ownKinds(t *testing.T, c *cluster) {
	c.policy(t, "mine", fmt.Sprintf(denyNamespaceDeletes, "Enforce"))
	c.refused(t, "may not", agent, "delete", "agentpolicy", "mine")
	c.refused(t, "may not", agent, "delete", "agentpolicy", "--all")
	c.refused(t, "may not", agent, "patch", "agent", "bot", "--type=merge", "-p", `{"spec":{"owner":{"kind":"User","name":"me"}}}`)
	c.refused(t, "may not", agent, "patch", "agent", "bot", "--subresource=status", "--type=merge", "-p", `{"status":{"policies":7}}`)
	c.refused(t, "only Holdfast itself writes the status", human, "patch", "agent", "bot", "--subresource=status", "--type=merge", "-p", `{"status":{"policies":7}}`)
	c.refused(t, "may not", agent, "delete", "crd", "agents.holdfast.dev")
	c.refused(t, "may not", agent, "delete", "namespace", "holdfast-system")
	c.must(t, human, "get", "agentpolicy", "mine")
}

// registrations: an agent can neither remove nor add what the API server asks.
func registrations(t *testing.T, c *cluster) {
	c.policy(t, "stands", fmt.Sprintf(denyNamespaceDeletes, "Enforce"))
	c.kubectl(t, agent, "delete", "validatingwebhookconfiguration", "--all")
	c.refused(t, "rule stands/deny-delete", agent, "delete", "namespace", target)
	own := `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: mine}
webhooks: []
`
	r := c.kubectlWith(t, own, agent, "create", "-f", "-")
	if want := "rule holdfast:self-protection/admission-registrations"; r.code == 0 || !strings.Contains(r.err, want) {
		t.Errorf("exit %d, want a refusal with %q\n%s", r.code, want, r.err)
	}
	// A person's goes through, and the agent cannot remove that either.
	if r := c.kubectlWith(t, own, human, "create", "-f", "-"); r.code != 0 {
		t.Fatal(r.err)
	}
	c.refused(t, "rule holdfast:self-protection/admission-registrations", agent, "delete", "validatingwebhookconfiguration", "--all")
	c.must(t, human, "delete", "validatingwebhookconfiguration", "mine")
}

func outsideTheNet(t *testing.T, c *cluster) {
	r := c.kubectlWith(t, `
apiVersion: holdfast.dev/v1alpha1
kind: Agent
metadata: {name: outsider}
spec:
  subjects: [{kind: ServiceAccount, namespace: elsewhere, name: "*"}]
`, admin, "create", "-f", "-")
	t.Cleanup(func() { c.kubectl(t, admin, "delete", "agent", "outsider") })
	if want := "Warning: ServiceAccount elsewhere/* is outside the net"; r.code != 0 || !strings.Contains(r.err, want) {
		t.Errorf("exit %d, want success with %q\n%s", r.code, want, r.err)
	}
	c.must(t, admin, "wait", "--for=condition=InNet=false", "--timeout=20s", "agent/outsider")
	c.must(t, admin, "wait", "--for=condition=InNet", "--timeout=20s", "agent/bot")
}

// noAgents: whoever is inside the net is denied while nobody declares them.
func noAgents(t *testing.T, c *cluster) {
	declared := c.must(t, admin, "get", "agent", "bot", "-o", "yaml")
	c.must(t, admin, "delete", "agent", "--all")
	t.Cleanup(func() {
		c.apply(t, declared)
		eventually(t, 10*time.Second, "the agent is declared again", func() error { return c.agentWrites(t) })
	})
	eventually(t, 10*time.Second, "the undeclared agent is denied", func() error {
		r := c.kubectl(t, agent, "create", "configmap", "undeclared")
		if r.code == 0 || !strings.Contains(r.err, "no Agent has been declared yet") {
			c.kubectl(t, admin, "delete", "configmap", "undeclared")
			return errors.New(r.out + r.err)
		}
		return nil
	})
	c.must(t, agent, "auth", "whoami")
	if r := c.kubectl(t, agent, "auth", "can-i", "create", "pods"); r.code == 0 || !strings.Contains(r.out, "no - ") {
		t.Errorf("can-i of the undeclared agent: %s%s, want no, and why", r.out, r.err)
	}
	c.must(t, agent, "version")
	c.must(t, agent, "api-resources")
	c.must(t, human, "create", "configmap", "a-person")
	c.must(t, human, "delete", "configmap", "a-person")
}

// agentWrites makes the agent write and take back something harmless.
func (c *cluster) agentWrites(t *testing.T) error {
	t.Helper()
	if r := c.kubectl(t, agent, "create", "configmap", "writes"); r.code != 0 {
		return errors.New(r.err)
	}
	c.must(t, agent, "delete", "configmap", "writes")
	return nil
}

func suspended(t *testing.T, c *cluster) {
	suspend := func(on bool) {
		c.must(t, human, "patch", "agent", "bot", "--type=merge", "-p", fmt.Sprintf(`{"spec":{"suspended":%t}}`, on))
	}
	suspend(true)
	time.Sleep(time.Second)
	c.refused(t, "Agent bot is suspended; its owner is human", agent, "create", "configmap", "late")
	suspend(false)
	eventually(t, 5*time.Second, "the agent goes on", func() error { return c.agentWrites(t) })
}

func clientCertificate(t *testing.T, c *cluster) {
	c.own(t)
	err := c.callWebhook(&tls.Config{InsecureSkipVerify: true})
	if err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("a call without a client certificate: %v, want a refusal by TLS", err)
	}
}

func webhookDown(t *testing.T, c *cluster) {
	c.own(t)
	c.must(t, human, "create", "deployment", "rolls", "--image=registry.example.com/x:1", "--replicas=0")
	if err := c.run.Kill(local.Webhook); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{
		{"create", "configmap", "while-down"}, {"delete", "agent", "bot"}, {"get", "configmaps"}, {"get", "--raw", "/api"},
	} {
		c.refused(t, "/authorize", agent, command...)
	}
	c.must(t, human, "create", "configmap", "while-down")
	c.must(t, human, "delete", "configmap", "while-down")
	c.must(t, human, "set", "image", "deployment/rolls", "*=registry.example.com/x:2")
	eventually(t, 20*time.Second, "controllers go on", func() error {
		if n := len(strings.Fields(c.must(t, human, "get", "replicasets", "-l", "app=rolls", "-o", "name"))); n != 2 {
			return fmt.Errorf("%d replica sets, want 2", n)
		}
		return nil
	})
	if err := c.run.Start(t.Context(), local.Webhook); err != nil {
		t.Fatal(err)
	}
	eventually(t, 20*time.Second, "the agent goes on", func() error { return c.agentWrites(t) })
	c.must(t, human, "delete", "deployment", "rolls")
}

// callsOfTheGuard holds the API server's count of calls to the guard against the agent's
// mutations in its audit log, while others write as well.
func callsOfTheGuard(t *testing.T, c *cluster) {
	c.own(t)
	calls := func() float64 {
		return c.metric(t, "apiserver_admission_webhook_request_total", `name="guard.holdfast.dev"`)
	}
	mutations := func() (agents, others int) {
		for _, e := range c.auditLog(t) {
			switch e.Verb {
			case "create", "update", "patch", "delete", "deletecollection":
				if e.User.Username == "system:serviceaccount:agents:bot" {
					agents++
				} else {
					others++
				}
			}
		}
		return agents, others
	}
	beforeCalls := calls()
	beforeAgents, beforeOthers := mutations()
	for i := range 10 {
		for _, who := range []identity{agent, human} {
			name := fmt.Sprintf("counted-%s-%d", who, i)
			c.must(t, who, "create", "configmap", name)
			c.must(t, who, "annotate", "configmap", name, "a=b")
			c.must(t, who, "delete", "configmap", name)
		}
	}
	c.must(t, human, "create", "deployment", "busy", "--image=registry.example.com/x:1", "--replicas=5")
	eventually(t, 30*time.Second, "controllers have written", func() error {
		if n := len(strings.Fields(c.must(t, human, "get", "pods", "-l", "app=busy", "-o", "name"))); n != 5 {
			return fmt.Errorf("%d pods, want 5", n)
		}
		return nil
	})
	c.must(t, human, "delete", "deployment", "busy")
	afterAgents, afterOthers := mutations()
	got, want := calls()-beforeCalls, afterAgents-beforeAgents
	if want != 30 || int(got) != want {
		t.Errorf("the guard was called %v times for %d mutations of the agent, want 30 for 30", got, want)
	}
	if others := afterOthers - beforeOthers; others < 40 {
		t.Errorf("others made %d mutations meanwhile: too few for the count to mean anything", others)
	}
}
