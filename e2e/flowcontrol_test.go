package e2e

import (
	"net/http"
	"testing"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/holdfast-dev/holdfast/e2e/local"
)

// classified is how the API server classified a request: the UIDs of schema and level.
type classified struct{ schema, level string }

// classify makes a request as somebody; admin may be somebody else.
func (c *cluster) classify(t *testing.T, who identity, as rest.ImpersonationConfig) classified {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig(who))
	if err != nil {
		t.Fatal(err)
	}
	config.Impersonate = as
	asker, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, config.Host+"/api/v1/namespaces/default/configmaps", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := asker.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	return classified{
		schema: response.Header.Get(flowcontrolv1.ResponseHeaderMatchedFlowSchemaUID),
		level:  response.Header.Get(flowcontrolv1.ResponseHeaderMatchedPriorityLevelConfigurationUID),
	}
}

// TestFlowControl: agents and Holdfast have a priority level each, and all others keep theirs.
func TestFlowControl(t *testing.T) {
	c := up(t, func(config *local.Config) { config.NoEvidence = true })
	uid := func(kind, name string) string {
		return c.must(t, admin, "get", kind, name, "-o", "jsonpath={.metadata.uid}")
	}
	account := func(namespace, name string) rest.ImpersonationConfig {
		return rest.ImpersonationConfig{UserName: "system:serviceaccount:" + namespace + ":" + name}
	}
	for _, test := range []struct {
		name          string
		who           identity
		as            rest.ImpersonationConfig
		schema, level string
	}{
		{"the agent", agent, rest.ImpersonationConfig{}, "holdfast-agents", "holdfast-agents"},
		{"another account there", admin, account(local.AgentNamespace, "new"), "holdfast-agents", "holdfast-agents"},
		{"Holdfast", admin, account(local.SystemNamespace, "holdfast-webhook"), "holdfast", "holdfast"},
		{"another account beside Holdfast", admin, account(local.SystemNamespace, "other"), "service-accounts", "workload-low"},
		{"an account elsewhere", admin, account("default", "default"), "service-accounts", "workload-low"},
		{"a controller", admin, account("kube-system", "namespace-controller"), "kube-system-service-accounts", "workload-high"},
		{"a person", human, rest.ImpersonationConfig{}, "global-default", "global-default"},
		{"an administrator", admin, rest.ImpersonationConfig{}, "exempt", "exempt"},
	} {
		want := classified{uid("flowschema", test.schema), uid("prioritylevelconfiguration", test.level)}
		if got := c.classify(t, test.who, test.as); got != want {
			t.Errorf("%s: %+v, want %s and %s, %+v", test.name, got, test.schema, test.level, want)
		}
	}

	// The arithmetic of manifests/flowcontrol, by what the API server makes of it.
	for _, test := range []struct {
		metric, level string
		want          float64
	}{
		{"apiserver_flowcontrol_nominal_limit_seats", "holdfast", 20},
		{"apiserver_flowcontrol_lower_limit_seats", "holdfast", 20}, // lends nothing
		{"apiserver_flowcontrol_nominal_limit_seats", "holdfast-agents", 115},
		{"apiserver_flowcontrol_upper_limit_seats", "holdfast-agents", 115}, // borrows nothing
	} {
		if got := c.metric(t, test.metric, `priority_level="`+test.level+`"`); got != test.want {
			t.Errorf("%s of %s: %v, want %v", test.metric, test.level, got, test.want)
		}
	}
	// Holdfast itself, with its own certificate.
	c.policy(t, "nothing", "  agents: [\"*\"]\n  rules: [{name: none, match: {names: [none]}, action: Deny}]\n")
	if n := c.metric(t, "apiserver_flowcontrol_dispatched_requests_total", `flow_schema="holdfast"`, `priority_level="holdfast"`); n == 0 {
		t.Error("nothing that Holdfast does is on its level")
	}
}
