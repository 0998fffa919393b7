package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/e2e/local"
	"github.com/holdfast-dev/holdfast/pkg/engine"
)

const (
	holdSecretReads   = "baseline-reads/hold-secret-reads"
	holdSecretChanges = "baseline-reads/hold-secret-changes"
	denyURLs          = "baseline-reads/deny-urls"
	denyNodeEndpoints = "baseline-reads/deny-node-endpoints"
	holdLogs          = "baseline-reads/hold-secret-logs"
	denyImpersonation = engine.ProtectionPolicy + "/impersonation"
)

// Forms in which a client can ask for an object.
const (
	asMetadata     = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
	asMetadataList = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
	asTable        = "application/json;as=Table;g=meta.k8s.io;v=v1"
)

// bodyHas is the effect that the answer has a text in it.
func bodyHas(text string) func(*scene, answer) error {
	return func(s *scene, a answer) error {
		if !a.ok() || !strings.Contains(a.body, s.expand(text)) {
			return errors.New("the answer does not have " + text)
		}
		return nil
	}
}

// readThreats are reads, and acting under another name, which admission does not see: the
// authorizer judges them.
func readThreats() []Threat {
	applied := httpPost(secrets, `{"metadata":{"name":"password","annotations":{"kubectl.kubernetes.io/last-applied-configuration":"`+threatSecret+`"}},"stringData":{"password":"`+threatSecret+`"}}`)
	reads := func(name string, c call) Trial {
		return Trial{Name: name, Rule: holdSecretReads, Prepare: []call{newSecret()}, Attempt: c, Effect: tellsSecret}
	}
	forms := func(name, path, accept string) Trial {
		return Trial{Name: name, Rule: holdSecretReads, Prepare: []call{applied}, Attempt: httpGet(path).with("Accept", accept), Effect: bodyHas(threatSecret)}
	}
	return []Threat{
		{
			ID: "S01", Title: "get, list, watch", Verdict: Unheld,
			Trials: []Trial{
				reads("get", httpGet(secrets+"/password")), reads("list", httpGet(secrets)), reads("list all", httpGet("/api/v1/secrets")),
				reads("list by name", httpGet(secrets+"?fieldSelector=metadata.name%3Dpassword")),
				reads("watch", httpGet(secrets+"?watch=true&timeoutSeconds=1")),
				reads("watch, the old way", httpGet("/api/v1/watch/namespaces/{ns}/secrets/password?timeoutSeconds=1")),
			},
		},
		{
			ID: "S02", Title: "patch, update, deletecollection that echo it", Verdict: Held,
			Trials: []Trial{
				echoed("patch", mergePatch(secrets+"/password", `{}`)),
				echoed("JSON patch", jsonPatch(secrets+"/password", `[]`)),
				{
					Name: "update", Rule: holdSecretChanges, Prepare: []call{newSecret()},
					Attempt: httpPut(secrets+"/password", `{"metadata":{"name":"password"},"data":{"more":"bWluZQ=="}}`),
					Effect:  fieldIs(secrets+"/password", "data.more", "bWluZQ=="), Target: secrets + "/password",
				},
				echoed("apply", applyPatch(secrets+"/password?fieldManager=agent", `{"apiVersion":"v1","kind":"Secret","metadata":{"name":"password"}}`)),
				{
					Name: "deletecollection", Want: Denied, Rule: denySecretEcho, Prepare: []call{newSecret()},
					Attempt: httpDelete(secrets, ""), Effect: tellsSecret, Target: secrets + "/password",
				},
			},
		},
		{
			ID: "S03", Title: "metadata-only and table reads (last-applied annotation)", Verdict: Unheld,
			Trials: []Trial{
				forms("metadata", secrets+"/password", asMetadata), forms("list of metadata", secrets, asMetadataList),
				forms("table", secrets+"/password?includeObject=Object", asTable), forms("table of all", secrets, asTable),
			},
		},
		nodeReads(), logReads(),
		byPolicy("S15", "literals in env of other pods", "pods", pods+"/theirs",
			httpPost(pods, `{"metadata":{"name":"theirs"},"spec":`+podSpecWith(`"env":[{"name":"P","value":"`+threatSecret+`"}]`)+`}`)),
		byPolicy("S16", "ConfigMaps that hold credentials", "configmaps", configMaps+"/theirs",
			httpPost(configMaps, `{"metadata":{"name":"theirs"},"data":{"p":"`+threatSecret+`"}}`)),
		byPolicy("S17", "Events", "events", "/api/v1/namespaces/{ns}/events/theirs",
			httpPost("/api/v1/namespaces/{ns}/events", `{"metadata":{"name":"theirs"},"involvedObject":{"kind":"Pod","namespace":"{ns}","name":"x"},"reason":"R","message":"`+threatSecret+`","type":"Normal"}`)),
		{
			ID: "S36", Title: "/debug, /metrics and other non-resource URLs", Verdict: Denied,
			Control: "the API server of the tests serves no profiles: a request for them comes as far as that it finds none",
			Trials: []Trial{
				{Name: "/metrics", Rule: denyURLs, Attempt: httpGet("/metrics"), Effect: bodyHas("apiserver_request_total")},
				{Name: "/metrics/slis", Rule: denyURLs, Attempt: httpGet("/metrics/slis"), Effect: bodyHas("kubernetes_healthcheck")},
				{Name: "/debug/pprof", Rule: denyURLs, Attempt: httpGet("/debug/pprof/heap"), Passes: notServed},
				{Name: "/debug/flags", Rule: denyURLs, Attempt: httpPut("/debug/flags/v", "9"), Passes: notServed},
				{Name: "what nobody serves", Rule: denyURLs, Attempt: httpGet("/internal/mine"), Passes: notServed},
				{Name: "what there is", Want: Unasked, Attempt: httpGet("/apis"), Effect: bodyHas("APIGroupList")},
				{Name: "whether it is well", Want: Unasked, Attempt: httpGet("/version"), Effect: bodyHas("gitVersion")},
			},
		},
		{ID: "T51", Title: "impersonate user, group, service account, uid, extra", Verdict: Denied, Trials: impersonations()},
		constrained(),
		{
			ID: "S38", Title: "kubectl cp, kubectl debug node/...", Verdict: Denied, Rules: []string{denyExec, denyNodeName},
			Control: "no kubelet runs here: cp comes to the connection that fails, and debug makes its pod",
			Off: func(s *scene) {
				out, err := s.copies()
				if err == nil || !strings.Contains(out, "does not have a host assigned") {
					s.t.Errorf("cp: want a connection that fails: %v %s", err, out)
				}
				if out, err := s.kubectl("debug", "node/s38", "--image=registry.invalid/mine:1", "--profile=sysadmin", "--", "id"); err != nil {
					s.t.Errorf("the control failed: %v %s", err, out)
				}
				if err := objectNamed(pods, "node-debugger-")(s, answer{}); err != nil {
					s.t.Error(err)
				}
			},
			On: func(s *scene) {
				out, err := s.copies()
				if err == nil || !strings.Contains(out, denyExec) {
					s.t.Errorf("cp: want it denied: %v %s", err, out)
				}
				out, err = s.kubectl("debug", "node/s38", "--image=registry.invalid/mine:1", "--profile=sysadmin", "--", "id")
				if err == nil || !strings.Contains(out, denyNodeName) {
					s.t.Errorf("debug: want it denied: %v %s", err, out)
				}
				if err := objectNamed(pods, "node-debugger-")(s, answer{}); err == nil {
					s.t.Error("debug was denied, and its pod is there")
				}
			},
		},
	}
}

// echoed is a change whose answer is the Secret; two people may approve it.
func echoed(name string, c call) Trial {
	return Trial{Name: name, Rule: holdSecretChanges, Prepare: []call{newSecret()}, Attempt: c, Effect: tellsSecret}
}

// copies has kubectl copy a file into a pod, for which it goes into it.
func (s *scene) copies() (string, error) {
	s.t.Helper()
	s.prepare(newPod("victim"), httpPost(nodes, `{"metadata":{"name":"s38"}}`))
	return s.kubectl("cp", "--retries=0", s.c.info.HumanKubeconfig, "victim:/tmp/x", "-c", "c")
}

// notServed says that a request came past authorization, and found nothing.
func notServed(a answer) error {
	if a.code != http.StatusNotFound && a.code != http.StatusMethodNotAllowed {
		return fmt.Errorf("want what there is not: %s", a)
	}
	return nil
}

func nodeReads() Threat {
	node := []call{httpPost(nodes, `{"metadata":{"name":"{ns}"}}`)}
	proxied := func(path string) Trial {
		return Trial{Name: "proxy" + path, Rule: denyProxy, Prepare: node, Attempt: httpGet(nodes + "/{ns}/proxy" + path), Passes: unconnected}
	}
	// A kubelet asks about these; the API server itself does not serve them.
	direct := func(what string) Trial {
		return Trial{Name: what, Rule: denyNodeEndpoints, Prepare: node, Attempt: httpGet(nodes + "/{ns}/" + what), Passes: notServed}
	}
	return Threat{
		ID: "S13", Title: "nodes/proxy, nodes/log, nodes/configz", Verdict: Denied, Control: noKubelet,
		Trials: []Trial{proxied("/pods"), proxied("/logs/"), proxied("/configz"), direct("log"), direct("configz")},
	}
}

// logReads: a program may log what it is given. Of pods that are given nothing the agent may
// not read, logs are free.
func logReads() Threat {
	holder := httpPost(pods, `{"metadata":{"name":"holder"},"spec":`+podSpecWith(variable)+`}`)
	return Threat{
		ID: "S14", Title: "logs of pods that refer to a Secret the agent may not read", Verdict: Unheld,
		Control: "no kubelet runs the pods: the API server lets the request past authorization, and has no log to give",
		Trials: []Trial{
			{Name: "of such a pod", Rule: holdLogs, Prepare: []call{newSecret(), holder}, Attempt: httpGet(pods + "/holder/log"), Passes: logsNothing},
			{Name: "of others", Want: Unasked, Prepare: []call{newPod("other")}, Attempt: httpGet(pods + "/other/log"), Passes: logsNothing},
		},
	}
}

// logsNothing says that a log was as good as read: there is none of a pod that nothing runs.
func logsNothing(a answer) error {
	if a.code == http.StatusNoContent {
		return nil
	}
	return unconnected(a)
}

// byPolicy are reads that the baseline leaves free, and that a policy of one's own can deny.
func byPolicy(id, title, resource, path string, made call) Threat {
	return Threat{
		ID: id, Title: title, Verdict: Effect, Effect: "by policy",
		Trials: []Trial{
			{Name: "the baseline", Want: Unasked, Prepare: []call{made}, Attempt: httpGet(path), Effect: bodyHas(threatSecret)},
			{
				Name: "a policy that denies", Want: Denied, Rule: strings.ToLower(id) + "-2/deny-reads", Agent: id + "-strict", Prepare: []call{made},
				Policy: `
  agents: ["{agent}"]
  rules:
  - {name: deny-reads, match: {verbs: [get, list, watch], apiGroups: [""], resources: [` + resource + `], namespaces: ["{ns}"]}, action: Deny}
`,
				Attempt: httpGet(path), Effect: bodyHas(threatSecret),
			},
		},
	}
}

// impersonations act as somebody who is no agent.
func impersonations() []Trial {
	as := func(name string, headers ...string) Trial {
		c := newConfigMap("mine")
		for i := 0; i < len(headers); i += 2 {
			c = c.with(headers[i], headers[i+1])
		}
		return Trial{Name: name, Rule: denyImpersonation, Attempt: c, Effect: objectThere(configMaps + "/mine"), Target: configMaps + "/mine"}
	}
	return []Trial{
		as("a user", "Impersonate-User", local.HumanUser),
		as("a group", "Impersonate-User", "nobody", "Impersonate-Group", "system:masters"),
		as("a service account", "Impersonate-User", "system:serviceaccount:kube-system:default", "Impersonate-Group", "system:masters"),
		as("a node", "Impersonate-User", "system:node:mine", "Impersonate-Group", "system:masters"),
		as("a uid", "Impersonate-User", local.HumanUser, "Impersonate-Uid", "1234"),
		as("extra", "Impersonate-User", local.HumanUser, "Impersonate-Extra-Scopes", "all"),
	}
}

// constrained is an agent to whom RBAC gives nothing but the constrained verbs.
func constrained() Threat {
	const may = `[{"apiGroups":["authentication.k8s.io"],"resources":["users"],"verbs":["impersonate:user-info"]},
		{"apiGroups":[""],"resources":["configmaps"],"verbs":["impersonate-on:user-info:create"]}]`
	limited := func(s *scene) {
		s.t.Helper()
		s.name += "-limited"
		s.prepare(httpPost(clusterRoles, `{"metadata":{"name":"{agent}"},"rules":`+may+`}`))
		s.agent = s.declareAs(s.name, local.HumanUser, s.name)
	}
	as := newConfigMap("mine").with("Impersonate-User", local.HumanUser)
	return Threat{
		ID: "T52", Title: "constrained impersonation verbs (impersonate:*, impersonate-on:*)", Verdict: Denied,
		Rules: []string{denyImpersonation},
		Off: func(s *scene) {
			limited(s)
			// RBAC takes a moment to hear of it.
			s.eventually("it acts as somebody else", func() error {
				if a := s.attempt(as); !a.ok() {
					return errors.New(a.String())
				}
				return nil
			})
		},
		On: func(s *scene) {
			limited(s)
			time.Sleep(time.Second)
			s.expect(s.attempt(as), Denied, denyImpersonation)
			if s.exists(configMaps+"/mine") == nil {
				s.t.Error("it was denied, and is there")
			}
		},
	}
}
