package fingerprint

import (
	"fmt"
	"strings"
	"testing"

	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// parse reads an object, with $1 and $2 replaced.
func parse(t testing.TB, text, one, two string) map[string]any {
	t.Helper()
	o := map[string]any{}
	text = strings.NewReplacer("$1", one, "$2", two).Replace(text)
	if err := utiljson.Unmarshal([]byte(text), &o); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return o
}

// managed is metadata of a create whose client set these fields.
func managed(fields string) string {
	return `"metadata":{"name":"n","uid":"$1","managedFields":[{"manager":"m","operation":"Update","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":` + fields + `}]}`
}

const (
	ports     = `"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{},"f:protocol":{}}}`
	nodePorts = `"f:ports":{".":{},"k:{\"port\":80,\"protocol\":\"TCP\"}":{".":{},"f:port":{},"f:protocol":{},"f:nodePort":{}}}`
)

// TestFilled: an object is created twice, with $1 and $2 differing. That is the same change
// where the API server filled the values in, and another where the client sent them, or
// where nobody knows.
func TestFilled(t *testing.T) {
	t.Parallel()
	h := setup(t)
	service := func(fields, spec string) string {
		return `{"apiVersion":"v1",` + managed(`{"f:spec":{`+fields+`}}`) + `,"spec":{` + spec + `}}`
	}
	pod := func(fields, volume, mount string) string {
		return `{"apiVersion":"v1",` + managed(`{"f:spec":{`+fields+`}}`) + `,"spec":{"volumes":[{"name":"other"},{"name":"` + volume +
			`","projected":{}}],"containers":[{"name":"c","volumeMounts":[{"name":"` + mount + `","mountPath":"/x"}]}]}}`
	}
	const job = `{"apiVersion":"v1","metadata":{"name":"n","uid":"$1"},"spec":{"selector":{"matchLabels":{"%s":"%s"}},"template":{"metadata":{"labels":{"%s":"%s"}}}}}`
	for name, test := range map[string]struct {
		group, resource, object string
		one, two                string
		same                    bool
	}{
		"clusterIP allocated":             {"", "services", service(`"f:type":{}`, `"clusterIP":"$1","clusterIPs":["$1"]`), "10.0.0.1", "10.0.0.2", true},
		"clusterIP set":                   {"", "services", service(`"f:clusterIP":{}`, `"clusterIP":"$1"`), "10.0.0.1", "10.0.0.2", false},
		"clusterIPs set":                  {"", "services", service(`"f:clusterIPs":{}`, `"clusterIPs":["$1"]`), "10.0.0.1", "10.0.0.2", false},
		"headless or not":                 {"", "services", service(`"f:type":{}`, `"clusterIP":"$2"`), "10.0.0.1", "None", false},
		"spec owned as a whole":           {"", "services", `{"apiVersion":"v1",` + managed(`{"f:spec":{}}`) + `,"spec":{"clusterIP":"$2"}}`, "10.0.0.1", "10.0.0.2", false},
		"nodePort allocated":              {"", "services", service(ports, `"ports":[{"port":80,"protocol":"TCP","nodePort":$1}]`), "30001", "30002", true},
		"nodePort set":                    {"", "services", service(nodePorts, `"ports":[{"port":80,"protocol":"TCP","nodePort":$1}]`), "30001", "30002", false},
		"nodePort of a port of nobody":    {"", "services", service(ports, `"ports":[{"port":81,"protocol":"TCP","nodePort":$1}]`), "30001", "30002", false},
		"healthCheckNodePort allocated":   {"", "services", service(`"f:type":{}`, `"healthCheckNodePort":$1`), "30001", "30002", true},
		"healthCheckNodePort set":         {"", "services", service(`"f:healthCheckNodePort":{}`, `"healthCheckNodePort":$1`), "30001", "30002", false},
		"no managedFields":                {"", "services", `{"apiVersion":"v1","metadata":{"name":"n"},"spec":{"clusterIP":"$1"}}`, "10.0.0.1", "10.0.0.2", false},
		"managedFields of another form":   {"", "services", strings.ReplaceAll(service(`"f:type":{}`, `"clusterIP":"$1"`), "FieldsV1", "FieldsV2"), "10.0.0.1", "10.0.0.2", false},
		"managedFields of a version":      {"", "services", strings.Replace(service(`"f:type":{}`, `"clusterIP":"$1"`), `"v1"`, `"v2"`, 1), "10.0.0.1", "10.0.0.2", false},
		"clusterIP of a custom kind":      {"example.com", "services", service(`"f:type":{}`, `"clusterIP":"$1"`), "10.0.0.1", "10.0.0.2", false},
		"Job's controller-uid":            {"batch", "jobs", fmt.Sprintf(job, "batch.kubernetes.io/controller-uid", "$1", "controller-uid", "$1"), "u1", "u2", true},
		"Job's labels of its template":    {"batch", "jobs", `{"metadata":{"name":"n","uid":"$1","labels":{"app":"a","controller-uid":"$1"}},"spec":{"template":{"metadata":{"labels":{"app":"a","controller-uid":"$1"}}}}}`, "u1", "u2", true},
		"Job's own label of another UID":  {"batch", "jobs", `{"metadata":{"name":"n","uid":"$1","labels":{"controller-uid":"$2"}},"spec":{"template":{}}}`, "u1", "u2", false},
		"Job's label of another UID":      {"batch", "jobs", fmt.Sprintf(job, "batch.kubernetes.io/controller-uid", "$1", "controller-uid", "$2"), "u1", "u2", false},
		"Job's other label":               {"batch", "jobs", fmt.Sprintf(job, "batch.kubernetes.io/controller-uid", "$1", "app", "$1"), "u1", "u2", false},
		"controller-uid of a custom kind": {"example.com", "jobs", fmt.Sprintf(job, "controller-uid", "$1", "controller-uid", "$1"), "u1", "u2", false},
		"token volume":                    {"", "pods", pod(`"f:containers":{}`, "kube-api-access-$1", "kube-api-access-$1"), "bcdfg", "24567", true},
		"token volume of the client": {"", "pods", pod(`"f:volumes":{".":{},"k:{\"name\":\"kube-api-access-$1\"}":{}}`, "kube-api-access-$1", "kube-api-access-$1"),
			"bcdfg", "24567", false},
		"token volume not mounted":        {"", "pods", pod(`"f:containers":{}`, "kube-api-access-$1", "kube-api-access-bcdfg"), "bcdfg", "24567", false},
		"volume of no random name":        {"", "pods", pod(`"f:containers":{}`, "kube-api-access-$1", "kube-api-access-$1"), "aaaaa", "24567", false},
		"status of a built-in kind":       {"", "pods", `{"metadata":{"name":"n"},"status":{"a":"$1"}}`, "1", "2", true},
		"status of a node":                {"", "nodes", `{"metadata":{"name":"n"},"status":{"a":"$1"}}`, "1", "2", false},
		"status of a custom kind":         {"example.com", "things", `{"metadata":{"name":"n"},"status":{"a":"$1"}}`, "1", "2", false},
		"names that are generated":        {"", "pods", `{"metadata":{"generateName":"a-","name":"a-$1"}}`, "bcdfg", "24567", true},
		"names that cannot be generated":  {"", "pods", `{"metadata":{"generateName":"a-","name":"a-$1"}}`, "bcdfg", "admin", false},
		"bases of generated names":        {"", "pods", `{"metadata":{"generateName":"$1","name":"$1bcdfg"}}`, "a-", "b-", false},
		"generated label of a namespace":  {"", "namespaces", `{"metadata":{"generateName":"a-","name":"a-$1","labels":{"kubernetes.io/metadata.name":"a-$1"}}}`, "bcdfg", "24567", true},
		"generated label of a Job":        {"batch", "jobs", `{"metadata":{"generateName":"a-","name":"a-$1"},"spec":{"template":{"metadata":{"labels":{"job-name":"a-$1"}}}}}`, "bcdfg", "24567", true},
		"one number in two forms, 1, 1.5": {"", "pods", `{"metadata":{},"spec":$1}`, "1", "1.5", false},
		"null and none":                   {"", "pods", `{"metadata":{},"spec":{$1}}`, `"a":null`, "", false},
		"null and text":                   {"", "pods", `{"metadata":{},"spec":{"a":$1}}`, `null`, `"null"`, false},
		"list and map":                    {"", "pods", `{"metadata":{},"spec":{"a":$1}}`, `[]`, `{}`, false},
	} {
		request := func(one, two string) *decision.Request {
			r := &decision.Request{User: decision.User{Name: "bot"}, Verb: "create", Group: test.group, Resource: test.resource}
			r.Object = parse(t, test.object, one, two)
			r.Name = str(metadata(r.Object)["name"])
			if test.resource == "namespaces" {
				r.Namespace = r.Name
			}
			return r
		}
		first := test.two
		if strings.Contains(test.object, "$2") {
			first = test.one // $2 alone differs
		}
		a, b := request(test.one, test.one), request(first, test.two)
		if got := mustSum(t, h, a) == mustSum(t, h, b); got != test.same {
			t.Errorf("%s: same fingerprint %t, want %t", name, got, test.same)
		}
	}
}

// TestFilledByUpdate: what an update makes the API server allocate, and what the client sets.
func TestFilledByUpdate(t *testing.T) {
	t.Parallel()
	h := setup(t)
	const (
		old     = `{"apiVersion":"v1","metadata":{"uid":"u"},"spec":{"type":"ClusterIP","ports":[{"port":80,"protocol":"TCP"}]}}`
		oldNode = `{"apiVersion":"v1","metadata":{"uid":"u"},"spec":{"type":"ClusterIP","ports":[{"port":80,"protocol":"TCP","nodePort":30001}]}}`
		csr     = `{"apiVersion":"v1","metadata":{"uid":"u"},"status":{"conditions":[]}}`
	)
	service := func(fields string) string {
		return `{"apiVersion":"v1",` + strings.Replace(managed(`{"f:spec":{"f:type":{},`+fields+`}}`), `"$1"`, `"u"`, 1) +
			`,"spec":{"type":"NodePort","ports":[{"port":80,"protocol":"TCP","nodePort":$1}]}}`
	}
	approval := func(fields string) string {
		return `{"apiVersion":"v1",` + strings.Replace(managed(`{"f:status":{"f:conditions":{".":{},"k:{\"type\":\"Approved\"}":{".":{},"f:type":{}`+fields+`}}}}`), `"$1"`, `"u"`, 1) +
			`,"status":{"conditions":[{"type":"Approved","lastTransitionTime":"$1"}]}}`
	}
	for name, test := range map[string]struct {
		group, resource, subresource, old, object, one, two string
		same                                                bool
	}{
		"nodePort allocated":      {"", "services", "", old, service(ports), "30001", "30002", true},
		"nodePort set":            {"", "services", "", old, service(nodePorts), "30001", "30002", false},
		"nodePort kept, or not":   {"", "services", "", oldNode, service(ports), "30001", "30002", false},
		"time of an approval":     {"certificates.k8s.io", "certificatesigningrequests", "approval", csr, approval(""), "2026", "2027", true},
		"time that the agent set": {"certificates.k8s.io", "certificatesigningrequests", "approval", csr, approval(`,"f:lastTransitionTime":{}`), "2026", "2027", false},
		"status of a scale":       {"apps", "deployments", "scale", old, `{"metadata":{"uid":"u"},"status":{"replicas":$1}}`, "1", "2", true},
		"status as the target":    {"apps", "deployments", "status", old, `{"metadata":{"uid":"u"},"status":{"replicas":$1}}`, "1", "2", false},
		"resourceVersion":         {"apps", "deployments", "", old, `{"metadata":{"uid":"u","resourceVersion":"$1","generation":$1}}`, "1", "2", true},
	} {
		request := func(value string) *decision.Request {
			return &decision.Request{
				User: decision.User{Name: "bot"}, Verb: "update", Group: test.group, Resource: test.resource, Subresource: test.subresource,
				Name: "n", OldObject: parse(t, test.old, "", ""), Object: parse(t, test.object, value, ""),
			}
		}
		if got := mustSum(t, h, request(test.one)) == mustSum(t, h, request(test.two)); got != test.same {
			t.Errorf("%s: same fingerprint %t, want %t", name, got, test.same)
		}
	}
}

// TestGracePeriod: what the API server fills in as a pod's grace period moves with the pod,
// and is none that the client asked for.
func TestGracePeriod(t *testing.T) {
	t.Parallel()
	h := setup(t)
	const (
		unscheduled = `{"metadata":{"uid":"u"},"spec":{"terminationGracePeriodSeconds":30}}`
		scheduled   = `{"metadata":{"uid":"u"},"spec":{"terminationGracePeriodSeconds":30,"nodeName":"n"}}`
		finished    = `{"metadata":{"uid":"u"},"spec":{"terminationGracePeriodSeconds":30,"nodeName":"n"},"status":{"phase":"Failed"}}`
	)
	request := func(resource, pod string, period any) *decision.Request {
		r := &decision.Request{
			User: decision.User{Name: "bot"}, Verb: "delete", Resource: resource, Name: "n", OldObject: parse(t, pod, "", ""),
			Options: map[string]any{"propagationPolicy": "Background"},
		}
		if period != nil {
			r.Options["gracePeriodSeconds"] = period
		}
		return r
	}
	for name, test := range map[string]struct {
		resource, pod string
		period        any
		same          bool
	}{
		"none for what is not scheduled":   {"pods", unscheduled, int64(0), true},
		"its own for what runs":            {"pods", scheduled, int64(30), true},
		"none for what has ended":          {"pods", finished, int64(0), true},
		"by force":                         {"pods", scheduled, int64(0), false},
		"shorter":                          {"pods", scheduled, int64(1), false},
		"another one for what has not run": {"pods", unscheduled, int64(5), false},
		"of another kind":                  {"things", unscheduled, int64(0), false},
	} {
		got := mustSum(t, h, request(test.resource, test.pod, test.period)) == mustSum(t, h, request(test.resource, test.pod, nil))
		if got != test.same {
			t.Errorf("%s: same as no period %t, want %t", name, got, test.same)
		}
	}
}
