package e2e

import (
	"fmt"
	"net/http"
	"strings"
)

const (
	denyExec  = "baseline-connections/deny-exec"
	denyProxy = "baseline-connections/deny-proxy"
)

// noKubelet is the control of connections: there is nobody to connect to.
const noKubelet = "no kubelet runs here: the API server lets the connection past authorization and admission, and finds nobody at its other end"

// unconnected says that the API server was about to connect, and could not.
func unconnected(a answer) error {
	if a.err != nil || a.code < 400 || a.code == http.StatusForbidden || a.code == http.StatusUnauthorized {
		return fmt.Errorf("want a connection that fails: %s", a)
	}
	for _, tried := range []string{
		"does not have a host assigned", "no preferred addresses found", "no endpoints available", "address not allowed",
		"upgrade request required", "nodes \"", "dial tcp", "error trying to reach service",
	} {
		if strings.Contains(strings.ToLower(a.body), tried) {
			return nil
		}
	}
	return fmt.Errorf("want a connection that fails for want of somebody at its other end: %s", a)
}

// websocket makes a call one that asks for a websocket.
func websocket(c call) call {
	return c.with("Connection", "Upgrade").with("Upgrade", "websocket").with("Sec-WebSocket-Version", "13").
		with("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==").with("Sec-WebSocket-Protocol", "v5.channel.k8s.io")
}

// connectionThreats go into what runs, or have the API server go there.
func connectionThreats() []Threat {
	const exec = pods + "/victim/exec?command=id&container=c&stdout=true"
	const node = "/api/v1/nodes/{ns}"
	into := func(name, rule string, attempt call, prepare ...call) Trial {
		return Trial{Name: name, Rule: rule, Prepare: prepare, Attempt: attempt, Passes: unconnected}
	}
	pod, service := newPod("victim"), httpPost("/api/v1/namespaces/{ns}/services", `{"metadata":{"name":"web"},"spec":{"ports":[{"port":80}]}}`)
	newNode := httpPost("/api/v1/nodes", `{"metadata":{"name":"{ns}"}}`)
	return []Threat{
		{
			ID: "T19", Title: "pods/exec by POST", Verdict: Denied, Control: noKubelet,
			Trials: []Trial{into("", denyExec, httpPost(exec, ""), pod)},
		},
		{
			ID: "T20", Title: "exec by websocket GET", Verdict: Denied, Control: noKubelet,
			Trials: []Trial{into("", denyExec, websocket(httpGet(exec)), pod)},
		},
		{
			ID: "T21", Title: "attach, portforward", Verdict: Denied, Control: noKubelet,
			Trials: []Trial{
				into("attach", denyExec, httpPost(pods+"/victim/attach?container=c&stdout=true", ""), pod),
				into("attach by websocket", denyExec, websocket(httpGet(pods+"/victim/attach?container=c&stdout=true")), pod),
				into("portforward", denyExec, httpPost(pods+"/victim/portforward?ports=80", ""), pod),
				into("portforward by websocket", denyExec, websocket(httpGet(pods+"/victim/portforward?ports=80")), pod),
			},
		},
		{
			ID: "T22", Title: "proxy of pods, services, nodes", Verdict: Denied, Control: noKubelet,
			Trials: []Trial{
				into("of a pod", denyProxy, httpGet(pods+"/victim/proxy/"), pod),
				into("of a pod, by POST", denyProxy, httpPost(pods+"/victim/proxy/run", ""), pod),
				into("of a service", denyProxy, httpGet("/api/v1/namespaces/{ns}/services/web/proxy/"), service),
				into("of a service's port", denyProxy, httpDelete("/api/v1/namespaces/{ns}/services/http:web:80/proxy/all", ""), service),
				into("of a node", denyProxy, httpPost(node+"/proxy/run/{ns}/victim/c?cmd=id", ""), newNode),
			},
		},
		{
			ID: "T23", Title: "nodes/proxy get", Verdict: Denied, Control: noKubelet,
			Trials: []Trial{
				into("its pods", denyProxy, httpGet(node+"/proxy/pods"), newNode),
				into("an exec by GET", denyProxy, websocket(httpGet(node+"/proxy/exec/{ns}/victim/c?command=id&output=1")), newNode),
			},
		},
		{
			ID: "S11", Title: "exec, attach, portforward", Verdict: Denied, Control: noKubelet,
			Trials: []Trial{
				into("exec", denyExec, httpPost(pods+"/victim/exec?command=env&container=c&stdout=true", ""), pod),
				into("attach", denyExec, httpPost(pods+"/victim/attach?container=c&stdout=true", ""), pod),
				into("portforward", denyExec, httpPost(pods+"/victim/portforward?ports=80", ""), pod),
			},
		},
		{
			ID: "S12", Title: "pod and service proxy", Verdict: Denied, Control: noKubelet,
			Trials: []Trial{
				into("pod", denyProxy, httpGet(pods+"/victim/proxy/env"), pod),
				into("service", denyProxy, httpGet("/api/v1/namespaces/{ns}/services/web/proxy/env"), service),
			},
		},
	}
}
