package policytest

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/client-go/kubernetes"
)

// policies are two rules, one of which looks at the namespace, beside a Warn policy.
const policies = `# what is tested
apiVersion: holdfast.dev/v1alpha1
kind: AgentPolicy
metadata: {name: p}
spec:
  agents: ["*"]
  rules:
  - name: hold-delete
    match: {verbs: [delete, deletecollection]}
    action: Hold
    message: Ask first.
    required: 2
    approvers: {groups: [g], users: [u]}
  - name: deny-prod
    match: {verbs: [create, update], resources: [pods, deployments]}
    when: namespace.metadata.labels["env"] == "prod"
    action: Deny
  requestable:
  - name: secrets
    verbs: [get, list]
    apiGroups: [""]
    resources: [secrets]
    reasonRequired: true
    maxDuration: 30m
---
apiVersion: holdfast.dev/v1alpha1
kind: AgentPolicy
metadata: {name: w}
spec:
  agents: ["*"]
  mode: Warn
  rules:
  - name: no-secrets
    match: {resources: [secrets]}
    action: Deny
    message: Leave them.
`

const head = "apiVersion: holdfast.dev/v1alpha1\nkind: PolicyTest\n"

var update = flag.Bool("update", false, "rewrite testdata")

// write makes a folder of files.
func write(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// problems runs a folder that cannot be used, and returns what is said, without the folder.
func problems(t *testing.T, dir string) string {
	t.Helper()
	_, err := Run(context.Background(), []string{dir}, Options{})
	var p Problems
	if !errors.As(err, &p) {
		t.Fatalf("got %v, want Problems", err)
	}
	return strings.ReplaceAll(p.Error(), dir+"/", "")
}

func run(t *testing.T, files map[string]string, o Options) *Report {
	t.Helper()
	r, err := Run(context.Background(), []string{write(t, files)}, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRefusedTests(t *testing.T) {
	t.Parallel()
	const request = "- name: a\n  request: {verb: delete, resource: pods}\n"
	for name, test := range map[string]struct{ tests, want string }{
		"unknown field": {
			"tests:\n- name: a\n  agnet: bot\n  expect: Hold",
			`a_test.yaml:5: tests[0].agnet: unknown field (did you mean "agent"?); want one of: name, agent, user, groups, verb, request, manifest, manifests, oldManifest, kinds, podSpec, podTemplate, oldPodSpec, oldPodTemplate, namespaceObject, target, grants, expect`,
		},
		"unknown field below": {
			"tests:\n- name: a\n  request: {verb: delete, kind: Pod}\n  expect: Hold",
			`a_test.yaml:5: tests[0].request.kind: unknown field; want one of: verb, group, version, resource, namespace, name, nonResourceURL, dryRun, options, fieldSelector, labelSelector, aggregated`,
		},
		"twice":                 {"tests:\n" + request + "  name: b\n  expect: Hold", "a_test.yaml:6: tests[0].name: is given twice"},
		"no tests":              {"tests: []", "a_test.yaml: has no tests: want a list under tests, each with name, request or manifest, and expect"},
		"no expectation":        {"tests:\n" + request, "a_test.yaml:4: tests[0].expect: is missing: want decision (Allow, Hold or Deny), and rule as policy/rule where one decides; --update writes what is seen"},
		"no decision":           {"tests:\n" + request + "  expect: {rule: p/x}", "a_test.yaml:6: tests[0].expect.decision: is missing: want Allow, Hold or Deny"},
		"decision":              {"tests:\n" + request + "  expect: deny", `a_test.yaml:6: tests[0].expect: is "deny" (did you mean "Deny"?): want Allow, Hold or Deny`},
		"not text":              {"tests:\n- name: yes\n  expect: Hold", "a_test.yaml:4: tests[0].name: is yes: want text; put it into quotes"},
		"not a number":          {"tests:\n" + request + "  expect: {decision: Hold, required: two}", `a_test.yaml:6: tests[0].expect.required: is the text "two": want a whole number`},
		"rule and rules":        {"tests:\n" + request + "  expect: {decision: Hold, rule: a, rules: [b]}", "a_test.yaml:6: tests[0].expect.rules: give rule, where one rule decides, or rules; not both"},
		"regular expression":    {"tests:\n" + request + `  expect: {decision: Hold, messageMatches: "("}`, "a_test.yaml:6: tests[0].expect.messageMatches: error parsing regexp: missing closing ): `(`"},
		"name":                  {"tests:\n- request: {verb: delete, resource: pods}\n  expect: Hold", "a_test.yaml:4: tests[0].name: is missing: name the test"},
		"same name":             {"tests:\n" + request + "  expect: Hold\n" + request + "  expect: Hold", `a_test.yaml:7: tests[1].name: "a" is the name of another test, too`},
		"agent":                 {"tests:\n" + request + "  agent: bto\n  expect: Hold", `a_test.yaml:6: tests[0].agent: no Agent is named "bto" (did you mean "bot"?): want one of bot, or add it to agents`},
		"agent without subject": {"agents: [{metadata: {name: x}}]\ntests:\n" + request + "  expect: Hold", "a_test.yaml:3: agents[0].spec.subjects: say who it is; or give its name alone, for the service account of that name in the namespace agents"},
		"verb":                  {"tests:\n- name: a\n  request: {verb: delte, resource: pods}\n  expect: Hold", `a_test.yaml:5: tests[0].request.verb: "delte" is no verb (did you mean "delete"?): want one of connect, create, delete, deletecollection, patch, update, get, list, watch, impersonate, bind, escalate, approve, sign, attest, use, post, put, head, options`},
		"no verb":               {"tests:\n- name: a\n  request: {resource: pods}\n  expect: Hold", "a_test.yaml:5: tests[0].request.verb: is missing: want create, update, delete, deletecollection, connect, get, list, watch or another verb"},
		"resource":              {"tests:\n- name: a\n  request: {verb: delete, resource: pod}\n  expect: Hold", `a_test.yaml:5: tests[0].request: "pod" is no built-in resource (did you mean "pods"?): say its group and version`},
		"kind for resource":     {"tests:\n- name: a\n  request: {verb: delete, resource: Pod}\n  expect: Hold", `a_test.yaml:5: tests[0].request: resource "Pod": want it in lower case and plural, such as pods or pods/exec`},
		"half a kind":           {"tests:\n- name: a\n  manifest: {kind: Pod}\n  expect: Hold", "a_test.yaml:4: tests[0].request: a manifest has apiVersion and kind, or neither where request.resource says what it is"},
		"scale":                 {"tests:\n- name: a\n  manifest: {apiVersion: autoscaling/v1, kind: Scale}\n  expect: Hold", "a_test.yaml:4: tests[0].request: a Scale is sent to the resource that it scales: say request.resource, such as deployments/scale"},
		"names":                 {"tests:\n- name: a\n  request: {name: x}\n  manifest: {apiVersion: v1, kind: Pod, metadata: {name: other}}\n  expect: Hold", `a_test.yaml:5: tests[0].request.name: is "x", and the manifest is of "other": want one name`},
		"namespace of a node":   {"tests:\n- name: a\n  request: {verb: delete, resource: nodes, namespace: x}\n  expect: Hold", "a_test.yaml:5: tests[0].request.namespace: nodes are in no namespace: leave it out"},
		"object of a read":      {"tests:\n- name: a\n  verb: get\n  manifest: {apiVersion: v1, kind: Pod}\n  expect: Hold", "a_test.yaml:6: tests[0].manifest: no object is seen of a get: give request.resource and name"},
		"URL and resource":      {"tests:\n- name: a\n  request: {verb: get, resource: pods, nonResourceURL: /metrics}\n  expect: Hold", "a_test.yaml:5: tests[0].request.nonResourceURL: no request is for a URL and for a resource: give one of them"},
		"workload kind":         {"tests:\n- name: a\n  kinds: [Deploymnet]\n  podSpec: {}\n  expect: Hold", `a_test.yaml:5: tests[0].kinds: is "Deploymnet" (did you mean "Deployment"?): want one of Pod, PodTemplate, Deployment, ReplicaSet, StatefulSet, DaemonSet, ReplicationController, Job, CronJob, * for all of them, or a custom kind as Rollout.v1alpha1.argoproj.io`},
		"kinds without a pod":   {"tests:\n- name: a\n  kinds: [Pod]\n  expect: Hold", "a_test.yaml:4: tests[0].podSpec: is missing: want the pod's spec, or its podTemplate, to wrap into each of the kinds"},
		"a pod without kinds":   {"tests:\n- name: a\n  podSpec: {}\n  expect: Hold", "a_test.yaml:4: tests[0].kinds: is missing: want the kinds to wrap the pod into (Pod, PodTemplate, Deployment, ReplicaSet, StatefulSet, DaemonSet, ReplicationController, Job, CronJob), or * for all of them"},
		"missing manifest":      {"tests:\n- name: a\n  manifest: none.yaml\n  expect: Hold", "a_test.yaml:5: tests[0].manifest: none.yaml: no such file or directory"},
		"grants":                {"tests:\n" + request + "  grants: [{verbs: [get], resources: [pods], names: [x]}]\n  expect: Hold", "a_test.yaml:6: tests[0].grants[0]: cannot be asked for: no policy lets the agent ask to get pods \"x\" in namespace \"default\"; it may ask for what p/secrets covers; a cluster admin says in spec.requestable of an AgentPolicy what may be asked for"},
		"grants of all names":   {"tests:\n" + request + "  grants: [{verbs: [get], resources: [secrets]}]\n  expect: Hold", "a_test.yaml:6: tests[0].grants[0]: cannot be asked for: names: Required value: name the objects to get secrets in namespace \"default\""},
		"grants of a kind":      {"tests:\n" + request + "  grants: [{verbs: [get], resources: [things]}]\n  expect: Hold", `a_test.yaml:6: tests[0].grants[0].apiGroups: "things" is no built-in resource: say its group`},
		"grants for a person":   {"tests:\n" + request + "  user: jane\n  grants: [{verbs: [list], resources: [secrets]}]\n  expect: Hold", `a_test.yaml:7: tests[0].grants[0]: "jane" is no agent, and only agents are granted anything`},
		"grants by a rule":      {"tests:\n" + request + "  grants: [{verbs: [list], resources: [secrets], rules: [p/secret]}]\n  expect: Hold", `a_test.yaml:6: tests[0].grants[0].rules: has "p/secret" (did you mean "p/secrets"?), whose approvers nobody would ask: want of p/secrets`},
		"target of a change":    {"tests:\n" + request + "  target: {}\n  expect: Hold", "a_test.yaml:6: tests[0].target: nobody looks at the object of a delete of pods: it is for subresources of pods that are read, such as pods/log, and for accessrequests"},
		"selector of a change":  {"tests:\n- name: a\n  request: {verb: deletecollection, resource: pods, labelSelector: a=b}\n  expect: Hold", "a_test.yaml:5: tests[0].request.labelSelector: admission sees none in a deletecollection: leave it out"},
		"selector of a get":     {"tests:\n- name: a\n  request: {verb: get, resource: pods, labelSelector: a=b}\n  expect: Hold", "a_test.yaml:5: tests[0].request: selectors are for list, watch and deletecollection: leave them out of a get"},
		"label selector":        {"tests:\n- name: a\n  request: {verb: list, resource: pods, labelSelector: a==b=c}\n  expect: Hold", "a_test.yaml:5: tests[0].request.labelSelector: is no label selector"},
		"field selector":        {"tests:\n- name: a\n  request: {verb: list, resource: pods, fieldSelector: a}\n  expect: Hold", "a_test.yaml:5: tests[0].request.fieldSelector: is no field selector"},
		"a dry read":            {"tests:\n- name: a\n  request: {verb: get, resource: pods, dryRun: true}\n  expect: Hold", "a_test.yaml:5: tests[0].request: an authorizer sees no options: leave dryRun and options out of a get"},
		"exec as sent":          {"tests:\n- name: a\n  request: {verb: create, resource: pods/exec}\n  expect: Hold", "a_test.yaml:5: tests[0].request.verb: is create: admission is told connect of pods/exec, whatever the client sends; say that"},
		"name of a create":      {"tests:\n- name: a\n  request: {verb: create, group: x.example.com, version: v1, resource: things, name: x, aggregated: true}\n  expect: Hold", "a_test.yaml:5: tests[0].request.name: an authorizer does not see what a create will name: leave it out"},
		"object of another API": {"tests:\n- name: a\n  manifest: {apiVersion: x.example.com/v1, kind: Thing}\n  request: {aggregated: true}\n  expect: Hold", "a_test.yaml:5: tests[0].manifest: no object is seen of a create: give request.resource and name"},
		"ask, no expectation":   {"asks:\n- name: a\n  access: {verbs: [list], resources: [secrets]}", "a_test.yaml:4: asks[0].expect: is missing: want allowed: true, or refused with what the agent is told; --update writes what is seen"},
		"ask, either":           {"asks:\n- name: a\n  access: {verbs: [list], resources: [secrets]}\n  expect: {allowed: true, refused: never}", "a_test.yaml:6: asks[0].expect.refused: is for what is not allowed: want allowed: true, or refused"},
		"ask, neither":          {"asks:\n- name: a\n  access: {verbs: [list], resources: [secrets]}\n  expect: {rule: p/secrets}", "a_test.yaml:6: asks[0].expect.allowed: is missing: want allowed: true, or refused with what the agent is told"},
		"ask, refused by rules": {"asks:\n- name: a\n  access: {verbs: [list], resources: [secrets]}\n  expect: {allowed: false, rule: p/secrets}", "a_test.yaml:6: asks[0].expect: says what an ask takes that is refused: leave out all but allowed and refused"},
		"ask, unknown field":    {"asks:\n- name: a\n  request: {verb: get}", "a_test.yaml:5: asks[0].request: unknown field; want one of: name, agent, user, groups, access, expect"},
		"policies":              {"policies: [../none]\ntests:\n" + request + "  expect: Hold", "a_test.yaml: policies: stat ../none: no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := write(t, map[string]string{"p.yaml": policies, "a_test.yaml": head + test.tests + "\n"})
			got := strings.ReplaceAll(problems(t, dir), filepath.Dir(dir), "..")
			if got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestRefusedFiles(t *testing.T) {
	t.Parallel()
	const one = head + "tests:\n- name: a\n  request: {verb: delete, resource: pods}\n  expect: Hold\n"
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no test files": {map[string]string{"p.yaml": policies}, "DIR: no tests: want files named *_test.yaml in it or below"},
		"no policies":   {map[string]string{"a_test.yaml": one}, "a_test.yaml: no AgentPolicy is in DIR: put the tests beside the policies or into a folder tests there, or name files or folders under policies"},
		"another kind":  {map[string]string{"p.yaml": policies, "a_test.yaml": "kind: Pod\n"}, "a_test.yaml:1: want apiVersion holdfast.dev/v1alpha1 and kind PolicyTest"},
		"no YAML":       {map[string]string{"p.yaml": policies, "a_test.yaml": "a: [\n"}, "a_test.yaml: yaml: line 1: did not find expected node content"},
		"misnamed test": {map[string]string{"p.yaml": policies, "a_test.yaml": one, "b.yaml": one}, "b.yaml:2: kind: is a PolicyTest: name the file *_test.yaml"},
		"misspelt kind": {map[string]string{"p.yaml": policies, "a_test.yaml": one, "b.yaml": "apiVersion: holdfast.dev/v1alpha1\nkind: AgentPolice\n"}, `b.yaml:2: kind: is "AgentPolice" (did you mean "AgentPolicy"?): want Agent or AgentPolicy`},
		"policy twice":  {map[string]string{"p.yaml": policies, "q.yaml": policies, "a_test.yaml": one}, "a_test.yaml: policy p is in p.yaml and in q.yaml: want one of them\na_test.yaml: policy w is in p.yaml and in q.yaml: want one of them"},
		"a circle":      {map[string]string{"p.yaml": policies, "a_test.yaml": head + "tests:\n- name: a\n  manifest: &a {b: *a}\n  expect: Hold\n"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := write(t, test.files)
			got := strings.ReplaceAll(problems(t, dir), dir, "DIR")
			if test.want != "" && got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
	}
}

func TestBrokenPolicies(t *testing.T) {
	t.Parallel()
	const test = head + "tests:\n- name: a\n  request: {verb: delete, resource: pods}\n  expect: Hold\n"
	for name, c := range map[string]struct{ old, new, want string }{
		"does not compile": {`["env"] == "prod"`, `["env"] = "prod"`, `p.yaml:16: spec.rules[1].when: Invalid value: "namespace.metadata.labels[\"env\"] = \"prod\"": line 1, column 34: unexpected token Operator("=")`},
		"unknown field":    {"required: 2", "requires: 2", `p.yaml:12: spec.rules[0].requires: unknown field (did you mean "required"?); want one of: name, match, when, action, message, approvers, required, allowOwner, reasonRequired, wait, expiresAfter`},
		"duration":         {"required: 2", "wait: long", `p.yaml:12: spec.rules[0].wait: time: invalid duration "long": want a duration such as 2m or 1h30m`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := run(t, map[string]string{"p.yaml": strings.Replace(policies, c.old, c.new, 1), "a_test.yaml": test}, Options{})
			if r.OK() || len(r.Policies) != 1 || len(r.Results) != 0 {
				t.Fatalf("got %+v, want one policy that cannot be used, and no test run", r)
			}
			r.Policies[0].File = filepath.Base(r.Policies[0].File)
			if got := r.Policies[0].String(); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestRun is what tests can say, each beside what is seen.
func TestRun(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"p.yaml":       policies,
		"objects.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: one}\n---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: two}\n",
		"a_test.yaml": head + `agents:
- bot
- metadata: {name: ci}
  spec: {suspended: true, subjects: [{kind: User, name: "ci-*"}]}
tests:
- name: short
  request: {verb: delete, resource: pods}
  expect: Hold
- name: long
  request: {verb: delete, resource: nodes, name: node-1}
  expect:
    decision: Hold
    rule: p/hold-*
    reason: Rule
    message: 'agent bot may not delete nodes "node-1": rule p/hold-delete: Ask first.'
    required: 2
    approvers: {users: [u], groups: [g]}
- name: parts of a message
  request: {verb: delete, resource: pods}
  expect: {decision: Hold, rules: [p/hold-delete], message: "…Ask first.", messageMatches: "bot may (not )?delete"}
- name: a namespace in production
  manifest: {apiVersion: v1, kind: Pod}
  namespaceObject: {metadata: {labels: {env: prod}}}
  expect: {decision: Deny, rule: p/deny-prod}
- name: a namespace of no label
  manifest: {apiVersion: v1, kind: Pod}
  expect: {decision: Allow, rule: ""}
- name: warned
  request: {verb: create, resource: secrets}
  expect:
    decision: Allow
    warnings: ["…policy in mode Warn…"]
    observed: [w/no-secrets=Deny]
- name: suspended
  agent: ci
  request: {verb: create, resource: configmaps}
  expect: {decision: Deny, reason: Suspended}
- name: somebody
  user: jane
  groups: [ops]
  request: {verb: create, resource: configmaps}
  expect: {decision: Deny, reason: Undeclared}
- name: from a file
  manifest: objects.yaml
  namespaceObject: {metadata: {labels: {env: prod}}}
  expect: {decision: Deny, rule: p/deny-prod}
- name: a read
  request: {verb: list, resource: pods}
  expect: {decision: Allow, reason: Default}
- name: a URL
  request: {verb: get, nonResourceURL: /metrics}
  expect: Allow
`,
	}
	r := run(t, files, Options{})
	for _, result := range r.Results {
		if !result.OK {
			t.Errorf("%s: %v", result.Name, result.Diff)
		}
	}
	var names []string
	for _, result := range r.Results[8:10] {
		names = append(names, result.Name)
	}
	if want := []string{"from a file [objects.yaml: Pod one]", "from a file [objects.yaml: Deployment two]"}; !slices.Equal(names, want) {
		t.Errorf("got cases %q, want %q", names, want)
	}
	only := run(t, files, Options{Only: regexp.MustCompile("^a ")})
	if len(only.Results) != 4 {
		t.Errorf("%d tests match, want 4", len(only.Results))
	}
}

// reads are rules for what the authorizer judges alone.
const reads = `apiVersion: holdfast.dev/v1alpha1
kind: AgentPolicy
metadata: {name: r}
spec:
  agents: ["*"]
  rules:
  - name: hold-secrets
    match: {verbs: [get, list, watch], apiGroups: [""], resources: [secrets]}
    action: Hold
    required: 2
    approvers: {users: [u, v]}
  - name: hold-mounts
    match: {verbs: [create], versions: [v1], resources: [pods]}
    when: any(references(object), not mayRead(#))
    action: Hold
  - name: hold-scale
    match: {verbs: [update], resources: [deployments/scale]}
    action: Hold
  - name: deny-team-pods
    match: {verbs: [list, watch], resources: [pods], labelSelectors: ["team=*"]}
    action: Deny
  - name: deny-node-pods
    match: {verbs: [list], resources: [pods]}
    when: any(request.fieldSelector, .key == "spec.nodeName")
    action: Deny
  - name: deny-private-logs
    match: {verbs: [get], versions: [v1], resources: [pods/log]}
    when: target.metadata.labels["private"] == "true"
    action: Deny
  - name: deny-things
    match: {verbs: [delete], apiGroups: [x.example.com]}
    action: Deny
  - name: deny-new-things
    match: {verbs: [create], apiGroups: [x.example.com], versions: ["*"]}
    when: object.spec.size > 3
    action: Deny
  - name: deny-dev
    match: {verbs: [get], resources: [namespaces]}
    when: namespace.metadata.labels["env"] == "dev"
    action: Deny
  - name: deny-signing
    match: {verbs: [sign, approve], names: ["example.com/*"]}
    action: Deny
  requestable:
  - {name: secrets, verbs: [get, list], apiGroups: [""], resources: [secrets], maxDuration: 5m, reasonRequired: true}
  - {name: scale, verbs: [update], apiGroups: [apps], resources: [deployments/scale], approvers: {groups: [g]}}
`

// TestAuthorized is what tests can say of requests that the authorizer judges, of grants and
// of asks.
func TestAuthorized(t *testing.T) {
	t.Parallel()
	r := run(t, map[string]string{"p.yaml": reads, "a_test.yaml": head + `agents:
- bot
- metadata: {name: ci}
  spec: {suspended: true, subjects: [{kind: User, name: "ci"}]}
tests:
- name: a read that is held
  request: {verb: get, resource: secrets, name: db}
  expect: {decision: Hold, rule: r/hold-secrets, required: 2, approvers: {users: [u, v]}, messageMatches: "kubectl holdfast request --verbs get --resource secrets/db"}
- name: a list of one name
  request: {verb: list, resource: secrets, fieldSelector: metadata.name=db}
  expect: {decision: Hold, messageMatches: "list secrets \"db\""}
- name: a label selector
  request: {verb: list, resource: pods, labelSelector: "app in (a,b),team=x"}
  expect: {decision: Deny, rule: r/deny-team-pods}
- name: another label selector
  request: {verb: watch, resource: pods, labelSelector: "!team"}
  expect: Allow
- name: a field selector
  request: {verb: list, resource: pods, fieldSelector: "spec.nodeName!=a"}
  expect: {decision: Deny, rule: r/deny-node-pods}
- name: a log
  request: {verb: get, resource: pods/log}
  expect: Allow
- name: a private log
  request: {verb: get, resource: pods/log}
  target: {metadata: {labels: {private: "true"}}}
  expect: {decision: Deny, rule: r/deny-private-logs}
- name: a change of another API
  request: {verb: delete, group: x.example.com, version: v1, resource: things, aggregated: true}
  expect: {decision: Deny, rule: r/deny-things, reason: Rule}
- name: a change of another API that nobody sees
  request: {verb: create, group: x.example.com, version: v1, resource: things, aggregated: true}
  expect: {decision: Deny, rule: r/deny-new-things, reason: Unseen}
- name: a change of a custom kind
  manifest: {apiVersion: x.example.com/v1, kind: Thing, spec: {size: 4}}
  expect: {decision: Deny, reason: Rule}
- name: a namespace
  request: {verb: get, resource: namespaces, name: prod}
  expect: Allow
- name: a namespace of developers
  request: {verb: get, resource: namespaces, name: x}
  namespaceObject: {metadata: {labels: {env: dev}}}
  expect: {decision: Deny, rule: r/deny-dev}
- name: impersonation
  request: {verb: impersonate, resource: users, name: jane}
  expect: {decision: Deny, reason: SelfProtection}
- name: constrained impersonation
  request: {verb: "impersonate:user-info", resource: userextras/scopes, name: view}
  expect: {decision: Deny, reason: SelfProtection}
- name: a signer
  request: {verb: sign, resource: signers, name: example.com/a}
  expect: {decision: Deny, rule: r/deny-signing}
- name: a role that is bound
  request: {verb: bind, resource: clusterroles, name: admin}
  expect: Allow
- name: discovery
  request: {verb: get, nonResourceURL: /apis}
  expect: {decision: Allow, reason: SelfReview}
- name: a review of oneself, while suspended
  agent: ci
  request: {verb: create, resource: selfsubjectaccessreviews}
  expect: {decision: Deny, reason: Suspended}
- name: an ask of its own
  request: {verb: get, resource: accessrequests, name: asked}
  target: {spec: {requester: "system:serviceaccount:agents:bot"}}
  expect: {decision: Allow, reason: OwnRequest}
- name: an ask of another
  request: {verb: get, resource: accessrequests, name: asked}
  expect: {decision: Deny, reason: SelfProtection}
- name: its own asks
  request: {verb: list, resource: accessrequests, fieldSelector: "spec.requester=system:serviceaccount:agents:bot"}
  expect: {decision: Allow, reason: OwnRequest}
- name: granted
  request: {verb: get, resource: secrets, name: db}
  grants: &db [{verbs: [get], resources: [secrets], names: [db]}]
  expect: {decision: Allow, reason: Granted, rule: r/hold-secrets}
- name: granted, another name
  request: {verb: get, resource: secrets, name: other}
  grants: *db
  expect: Hold
- name: granted, another namespace
  request: {verb: get, resource: secrets, name: db, namespace: prod}
  grants: *db
  expect: Hold
- name: granted, a mount
  grants: *db
  manifest: {apiVersion: v1, kind: Pod, spec: {containers: [{name: c, envFrom: [{secretRef: {name: db}}]}]}}
  expect: Allow
- name: granted, another mount
  grants: *db
  manifest: {apiVersion: v1, kind: Pod, spec: {containers: [{name: c, envFrom: [{secretRef: {name: other}}]}]}}
  expect: {decision: Hold, rule: r/hold-mounts, message: "…It may not read Secret default/other."}
- name: granted by some of those who have to
  request: {verb: get, resource: secrets, name: db}
  grants: [{verbs: [get], resources: [secrets], names: [db], rules: [r/secrets]}]
  expect: Hold
- name: granted, a change
  request: {verb: patch, resource: deployments/scale, name: web}
  grants: [{verbs: [update], resources: [deployments/scale], namespaces: [default], names: [web]}]
  expect: {decision: Allow, reason: Granted}
- name: granted, and suspended
  agent: ci
  request: {verb: get, resource: secrets, name: db}
  grants: *db
  expect: {decision: Deny, reason: Suspended}
asks:
- name: a Secret
  access: {verbs: [get], resources: [secrets], names: [db]}
  expect:
    allowed: true
    rules: [r/hold-secrets, r/secrets]
    required: 2
    approvers: {users: [u, v], groups: ["holdfast:approvers"]}
    reasonRequired: true
    duration: 5m
- name: one entry
  access: {verbs: [update], resources: [deployments/scale], names: [web], duration: 1h}
  expect: {allowed: true, rules: [r/hold-scale, r/scale], duration: 1h, reasonRequired: false}
- name: too long
  access: {verbs: [get], resources: [secrets], names: [db], duration: 6m}
  expect: {refused: "…want 1s to 5m0s, which is what r/secrets allows"}
- name: all Secrets of all namespaces
  access: {verbs: [list], resources: [secrets], namespaces: []}
  expect: {allowed: true, rules: [r/secrets, r/hold-*]}
- name: what no entry covers
  access: {verbs: [watch], resources: [secrets]}
  expect: {refused: 'no policy lets the agent ask to watch secrets in namespace "default"; it may ask for …'}
- name: while suspended
  agent: ci
  access: {verbs: [get], resources: [secrets], names: [db]}
  expect: {refused: "Agent ci is suspended…"}
- name: a person
  user: jane
  access: {verbs: [get], resources: [secrets], names: [db]}
  expect: {allowed: false}
`}, Options{})
	for _, result := range r.Results {
		if !result.OK {
			t.Errorf("%s: %v", result.Name, result.Diff)
		}
	}
	if len(r.Results) != 36 || len(r.Unexercised) != 0 {
		t.Errorf("%d results, want 36; not exercised: %v", len(r.Results), r.Unexercised)
	}
}

// TestDifferences turns each field of an expectation wrong.
func TestDifferences(t *testing.T) {
	t.Parallel()
	for wrong, want := range map[string]Difference{
		"decision: Deny":                 {"decision", "Deny", "Hold"},
		"rule: p/other":                  {"rule", "p/other", "p/hold-delete"},
		"rule: ''":                       {"rule", "(none)", "p/hold-delete"},
		"rules: [p/hold-delete, p/*]":    {"rules", "p/hold-delete, p/*", "p/hold-delete"},
		"reason: Default":                {"reason", "Default", "Rule"},
		"message: Ask first.":            {"message", "Ask first.", `agent bot may not delete pods "test" in namespace "default": rule p/hold-delete: Ask first.`},
		"message: …Ask first":            {"message", "…Ask first", `agent bot may not delete pods "test" in namespace "default": rule p/hold-delete: Ask first.`},
		"messageMatches: ^Ask":           {"messageMatches", "^Ask", `agent bot may not delete pods "test" in namespace "default": rule p/hold-delete: Ask first.`},
		"warnings: [a]":                  {"warnings", "a", "(none)"},
		"observed: [w/no-secrets=Deny]":  {"observed", "w/no-secrets=Deny", "(none)"},
		"required: 1":                    {"required", "1", "2"},
		"approvers: {groups: [g]}":       {"approvers", "groups g", "groups g; users u"},
		"approvers: {users: [u, other]}": {"approvers", "users other, u", "groups g; users u"},
	} {
		expect := "decision: Hold, " + wrong
		if strings.HasPrefix(wrong, "decision") {
			expect = wrong
		}
		r := run(t, map[string]string{
			"p.yaml":      policies,
			"a_test.yaml": head + "tests:\n- name: a\n  request: {verb: delete, resource: pods}\n  expect: {" + expect + "}\n",
		}, Options{})
		if r.OK() || !slices.Equal(r.Results[0].Diff, []Difference{want}) {
			t.Errorf("%s: got %v, want %v", wrong, r.Results[0].Diff, want)
		}
	}
}

// TestDifferencesOfAsks turns each field of an ask's expectation wrong.
func TestDifferencesOfAsks(t *testing.T) {
	t.Parallel()
	for wrong, want := range map[string]Difference{
		"allowed: false":                    {"decision", "Refused", "Allowed"},
		"allowed: true, rule: r/secrets":    {"rule", "r/secrets", "r/hold-secrets, r/secrets"},
		"allowed: true, rules: [r/secrets]": {"rules", "r/secrets", "r/hold-secrets, r/secrets"},
		"allowed: true, required: 1":        {"required", "1", "2"},
		"allowed: true, approvers: {}":      {"approvers", "(none)", "groups holdfast:approvers; users u, v"},
		"allowed: true, reasonRequired: no": {"reasonRequired", "false", "true"},
		"allowed: true, duration: 10m":      {"duration", "10m0s", "5m0s"},
	} {
		r := run(t, map[string]string{
			"p.yaml":      reads,
			"a_test.yaml": head + "asks:\n- name: a\n  access: {verbs: [get], resources: [secrets], names: [db]}\n  expect: {" + wrong + "}\n",
		}, Options{})
		if r.OK() || !slices.Equal(r.Results[0].Diff, []Difference{want}) {
			t.Errorf("%s: got %v, want %v", wrong, r.Results[0].Diff, want)
		}
	}
}

// TestRequests is what requests are made of what tests say.
func TestRequests(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ test, want string }{
		{"request: {verb: delete, resource: pods}", `delete /v1 pods default/test old=Pod options=DeleteOptions`},
		{"request: {verb: patch, resource: deployments}", `update apps/v1 deployments default/test object=Deployment old=Deployment options=PatchOptions`},
		{"request: {verb: create, resource: horizontalpodautoscalers}", `create autoscaling/v2 horizontalpodautoscalers default/test object=HorizontalPodAutoscaler options=CreateOptions`},
		{"request: {verb: create, resource: events}", `create /v1 events default/test object=Event options=CreateOptions`},
		{"request: {verb: create, resource: ingresses}", `create networking.k8s.io/v1 ingresses default/test object=Ingress options=CreateOptions`},
		{"request: {verb: create, resource: customresourcedefinitions}", `create apiextensions.k8s.io/v1 customresourcedefinitions /test object=CustomResourceDefinition options=CreateOptions`},
		{"request: {verb: delete, resource: namespaces, name: prod}", `delete /v1 namespaces prod/prod old=Namespace options=DeleteOptions`},
		{"request: {verb: deletecollection, resource: pods, namespace: x}", `deletecollection /v1 pods x/test old=Pod options=DeleteOptions`},
		{"request: {verb: connect, resource: pods/exec, name: a}", `connect /v1 pods/exec default/a`},
		{"manifest: {apiVersion: v1, kind: PodExecOptions, command: [sh]}\n  verb: connect", `connect /v1 pods/exec default/test object=PodExecOptions`},
		{"request: {verb: delete, resource: pods, dryRun: true}", `delete /v1 pods default/test old=Pod options=DeleteOptions dry`},
		{"manifest: {apiVersion: v1, kind: Pod, metadata: {generateName: web-, namespace: ns}}", `create /v1 pods ns/web-x1x1x object=Pod options=CreateOptions`},
		{"manifest: {apiVersion: gateway.networking.k8s.io/v1, kind: Gateway}", `create gateway.networking.k8s.io/v1 gateways default/test object=Gateway options=CreateOptions`},
		{"manifest: {apiVersion: x.example.com/v1, kind: Policy}\n  request: {namespace: \"\"}", `create x.example.com/v1 policies /test object=Policy options=CreateOptions`},
		{"oldManifest: {apiVersion: v1, kind: Node}", `delete /v1 nodes /test old=Node options=DeleteOptions`},
		{"manifest: {apiVersion: v1, kind: Endpoints}\n  oldManifest: {}", `update /v1 endpoints default/test object=Endpoints old=Endpoints options=UpdateOptions`},
		{"manifest: {spec: {}}\n  request: {verb: create, resource: pods}", `create /v1 pods default/test object=Pod options=CreateOptions`},
		{"manifest: {apiVersion: v1, kind: Pod}\n  request: {verb: update, resource: pods/status}", `update /v1 pods/status default/test object=Pod old=Pod options=UpdateOptions`},
		{"manifest: {apiVersion: policy/v1, kind: Eviction, metadata: {name: a}}", `create /v1 pods/eviction default/a object=Eviction options=CreateOptions`},
		{"manifest: {apiVersion: authentication.k8s.io/v1, kind: TokenRequest}", `create /v1 serviceaccounts/token default/test object=TokenRequest options=CreateOptions`},
		{"manifest: {apiVersion: autoscaling/v1, kind: Scale}\n  request: {resource: deployments/scale}", `create apps/v1 deployments/scale default/test object=Scale options=CreateOptions`},
		{"request: {verb: list, resource: secrets}", `list /v1 secrets default/`},
		{"request: {verb: list, resource: secrets, fieldSelector: \"metadata.name=db,type!=a\", labelSelector: \"a in (b,c),d\"}", `list /v1 secrets default/db field metadata.name=db field type!=a label a in (b,c) label d`},
		{"request: {verb: get, resource: namespaces, name: prod}", `get /v1 namespaces prod/prod`},
		{"request: {verb: create, resource: tokenreviews}", `create authentication.k8s.io/v1 tokenreviews /`},
		{"request: {verb: create, group: x.example.com, version: v1, resource: things, aggregated: true}", `create x.example.com/v1 things default/`},
		{"request: {verb: patch, group: x.example.com, version: v1, resource: things, aggregated: true}", `patch x.example.com/v1 things default/test`},
		{"request: {verb: impersonate, resource: userextras/scopes, name: view}", `impersonate authentication.k8s.io/v1 userextras/scopes /view`},
		{"request: {verb: get, resource: pods/log}", `get /v1 pods/log default/test`},
		{"request: {verb: get, nonResourceURL: /metrics}", `get /metrics`},
		{"kinds: [CronJob]\n  podSpec: {a: b}", `create batch/v1 cronjobs default/test object=CronJob options=CreateOptions`},
	} {
		l := newLoader(false)
		dir := write(t, map[string]string{"p.yaml": policies, "a_test.yaml": head + "tests:\n- name: a\n  " + test.test + "\n  expect: Hold\n"})
		suites := l.load([]string{dir})
		if len(l.problems) > 0 || len(suites) != 1 || len(suites[0].cases) != 1 {
			t.Errorf("%s: %v", test.test, l.problems)
			continue
		}
		q := suites[0].cases[0].request
		got := fmt.Sprintf("%s %s/%s %s %s/%s", q.Verb, q.Group, q.Version, q.FullResource(), q.Namespace, q.Name)
		if q.NonResourceURL != "" {
			got = q.Verb + " " + q.NonResourceURL
		}
		for _, part := range []struct {
			name string
			in   map[string]any
		}{{"object", q.Object}, {"old", q.OldObject}, {"options", q.Options}} {
			if part.in != nil {
				got += fmt.Sprintf(" %s=%v", part.name, part.in["kind"])
			}
		}
		if q.DryRun {
			got += " dry"
		}
		for _, f := range q.FieldSelector {
			got += " field " + f.String()
		}
		for _, l := range q.LabelSelector {
			got += " label " + l.String()
		}
		if got != test.want {
			t.Errorf("%s:\ngot  %s\nwant %s", test.test, got, test.want)
		}
		if want := "system:serviceaccount:agents:bot"; q.User.Name != want || !slices.Contains(q.User.Groups, "system:serviceaccounts:agents") {
			t.Errorf("%s: user %v, want %s", test.test, q.User, want)
		}
	}
}

// TestKinds: one pod in each workload kind is at the path where the kind has it.
func TestKinds(t *testing.T) {
	t.Parallel()
	for name, path := range map[string]string{
		"Pod": "spec", "PodTemplate": "template.spec", "Deployment": "spec.template.spec", "ReplicaSet": "spec.template.spec",
		"StatefulSet": "spec.template.spec", "DaemonSet": "spec.template.spec", "ReplicationController": "spec.template.spec",
		"Job": "spec.template.spec", "CronJob": "spec.jobTemplate.spec.template.spec", "Pod.v1.x.example.com": "spec.template.spec",
	} {
		gvk, err := workload(name)
		if err != nil {
			t.Fatal(err)
		}
		var at any = wrap(gvk, map[string]any{"spec": map[string]any{"a": "b"}})
		for step := range strings.SplitSeq(path+".a", ".") {
			in, _ := at.(map[string]any)
			at = in[step]
		}
		if at != "b" {
			t.Errorf("%s: the pod's spec is not at %s", name, path)
		}
	}
	if len(workloadNames) != len(workloads) {
		t.Errorf("* stands for %d of %d kinds", len(workloadNames), len(workloads))
	}
}

// TestClusterScoped holds the list against the typed clients: those of namespaced resources
// take the namespace.
func TestClusterScoped(t *testing.T) {
	t.Parallel()
	k := newKinds()
	all := reflect.TypeFor[kubernetes.Interface]()
	for i := range all.NumMethod() {
		group := all.Method(i)
		if group.Type.NumOut() != 1 || group.Type.Out(0).Kind() != reflect.Interface {
			continue
		}
		for j := range group.Type.Out(0).NumMethod() {
			resource := group.Type.Out(0).Method(j)
			name := strings.ToLower(resource.Name)
			if name == "restclient" || len(k.resources[name]) == 0 {
				continue
			}
			if namespaced := resource.Type.NumIn() == 1; k.cluster.Has(name) == namespaced {
				t.Errorf("%s.%s: in the list of cluster-scoped resources: %t", group.Name, name, k.cluster.Has(name))
			}
		}
	}
}

func TestCoverage(t *testing.T) {
	t.Parallel()
	const strict = "---\napiVersion: holdfast.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {name: s}\nspec:\n  agents: [other]\n  default: Deny\n"
	r := run(t, map[string]string{"p.yaml": policies + strict, "tests/a_test.yaml": head + `tests:
- name: delete
  request: {verb: delete, resource: pods}
  expect: Hold
- name: a rule that fails is not exercised
  request: {verb: create, resource: pods, namespace: ""}
  expect: {decision: Deny, reason: Evaluation}
`}, Options{})
	var missed []string
	for _, rule := range r.Unexercised {
		missed = append(missed, fmt.Sprintf("%d %s", rule.Line, rule.Name))
	}
	if want := []string{"14 p/deny-prod", "19 p/secrets", "33 w/no-secrets", "43 s"}; r.Rules != 5 || !slices.Equal(missed, want) {
		t.Errorf("got %q of %d rules, want %q of 5", missed, r.Rules, want)
	}
	var b bytes.Buffer
	if err := r.Print(&b, View{Coverage: true}); err != nil || !strings.Contains(b.String(), "p.yaml:14: no test exercises rule p/deny-prod\n") ||
		!strings.Contains(b.String(), "1 of 5 rules exercised\n") {
		t.Errorf("%v, got\n%s", err, b.String())
	}
}

func TestPrint(t *testing.T) {
	t.Parallel()
	r := run(t, map[string]string{"p.yaml": policies, "a_test.yaml": head + `tests:
- name: good
  request: {verb: delete, resource: pods}
  expect: Hold
- name: "bad \e[2J"
  request: {verb: delete, resource: pods}
  expect: {decision: Deny, rule: p/deny-delete}
`}, Options{})
	var b bytes.Buffer
	if err := r.Print(&b, View{}); err != nil {
		t.Fatal(err)
	}
	file := r.Results[0].File
	want := "ok    FILE:4  good\n" +
		"FAIL  FILE:7  bad \\u001b[2J\n" +
		"      - decision: Deny\n      + decision: Hold\n      - rule: p/deny-delete\n      + rule: p/hold-delete\n" +
		"        reason: Rule\n        message: agent bot may not delete pods \"test\" in namespace \"default\": rule p/hold-delete: Ask first.\n" +
		"1 passed, 1 failed\n"
	if got := strings.ReplaceAll(b.String(), file, "FILE"); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	b.Reset()
	if err := r.JUnit(&b); err != nil {
		t.Fatal(err)
	}
	var junit junitSuites
	if err := xml.Unmarshal(b.Bytes(), &junit); err != nil || junit.Tests != 2 || junit.Failures != 1 || len(junit.Suites) != 1 ||
		junit.Suites[0].Cases[1].Failure.Message != "decision: want Deny, got Hold" {
		t.Errorf("%v, got\n%s", err, b.String())
	}
	b.Reset()
	if err := r.JSON(&b); err != nil || !strings.Contains(b.String(), `"want": "Deny"`) || !strings.Contains(b.String(), `"failed": 1`) {
		t.Errorf("%v, got\n%s", err, b.String())
	}
}

// TestUpdate compares testdata/update.in with update.out, byte for byte, and updates that
// again, which changes nothing.
func TestUpdate(t *testing.T) {
	t.Parallel()
	read := func(name string) string {
		data, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	in, out := read("update.in"), read("update.out")
	edits, left := run(t, map[string]string{"p.yaml": policies, "a_test.yaml": in}, Options{Update: true}).Updates()
	if len(edits) != 1 || len(left) != 1 || left[0].Line != 60 || left[0].Text != "its cases are decided Hold and Deny: make them two tests" {
		t.Fatalf("%d files updated, left: %v", len(edits), left)
	}
	if *update {
		if err := os.WriteFile("testdata/update.out", edits[0].Text, 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got := string(edits[0].Text); got != out {
		t.Errorf("got\n%s\nwant\n%s", got, out)
	}
	crlf, _ := run(t, map[string]string{"p.yaml": policies, "a_test.yaml": strings.ReplaceAll(in, "\n", "\r\n")}, Options{Update: true}).Updates()
	if len(crlf) != 1 {
		t.Errorf("with CRLF: %d files updated", len(crlf))
	}
	if edits, _ := run(t, map[string]string{"p.yaml": policies, "a_test.yaml": out}, Options{Update: true}).Updates(); len(edits) != 0 {
		t.Errorf("updated again:\n%s", edits[0].Text)
	}
}
