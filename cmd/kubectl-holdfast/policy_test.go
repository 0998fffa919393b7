package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// policyTestRun runs "policy test" and returns its exit status and what it prints.
func policyTestRun(t *testing.T, args ...string) (code int, out, errOut string) {
	t.Helper()
	a, o, e := setup(t)
	root := rootCommand(a)
	root.SetArgs(append([]string{"policy", "test"}, args...))
	code = a.report(root.ExecuteContext(t.Context()))
	return code, o.String(), e.String()
}

// TestPacks runs the suites of the policies that Holdfast ships, which have to exercise each
// of their rules.
func TestPacks(t *testing.T) {
	t.Parallel()
	code, out, errOut := policyTestRun(t, "--require-coverage", "../../manifests/policies")
	if code != 0 {
		t.Errorf("exit status %d: %s", code, errOut)
	}
	for line := range strings.SplitSeq(strings.TrimSpace(out), "\n") {
		if !strings.HasPrefix(line, "ok ") {
			t.Log(line)
		}
	}
}

// TestDocs runs the example of docs/policy-test.md: the first block is the policy, the second
// its tests; and the last lines of its output are those that it shows.
func TestDocs(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../docs/policy-test.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(data), "```")
	if len(blocks) < 6 {
		t.Fatalf("%d blocks", len(blocks)/2)
	}
	dir := t.TempDir()
	for name, block := range map[string]string{"prod.yaml": blocks[1], "prod_test.yaml": blocks[3]} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(strings.TrimPrefix(block, "yaml\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, out, errOut := policyTestRun(t, "--require-coverage", dir)
	shown := strings.Split(strings.TrimSpace(blocks[5]), "\n")
	if last := shown[len(shown)-1]; code != 0 || !strings.HasSuffix(out, last+"\n") {
		t.Errorf("exit status %d, want 0 and %q\n%s%s", code, last, out, errOut)
	}
}

func TestPolicyTestStatus(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const policy = "apiVersion: holdfast.dev/v1alpha1\nkind: AgentPolicy\nmetadata: {name: p}\nspec:\n  agents: ['*']\n  rules:\n" +
		"  - {name: a, match: {verbs: [delete]}, action: Deny}\n  - {name: b, match: {verbs: [create]}, action: Deny}\n"
	const test = "apiVersion: holdfast.dev/v1alpha1\nkind: PolicyTest\ntests:\n- name: deletes\n  request: {verb: delete, resource: pods}\n"
	write := func(name, text string) {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("good/p.yaml", policy)
	write("good/p_test.yaml", test+"  expect: Deny\n")
	write("failing/p.yaml", policy)
	write("failing/p_test.yaml", test+"  expect: Allow\n")
	write("broken/p.yaml", strings.Replace(policy, "action: Deny", "action: Denied", 1))
	write("broken/p_test.yaml", test+"  expect: Deny\n")
	write("bad/p.yaml", policy)
	write("bad/p_test.yaml", test)
	write("none/p.yaml", policy)
	junit := filepath.Join(dir, "junit.xml")
	for _, c := range []struct {
		args        []string
		code        int
		out, errOut string
	}{
		{[]string{"good"}, 0, "1 passed, 0 failed\n", ""},
		{[]string{"--coverage", "good"}, 0, "no test exercises rule p/b\n1 of 2 rules exercised\n", ""},
		{[]string{"--require-coverage", "good"}, 1, "no test exercises rule p/b\n", "error: no test exercises 1 of 2 rules\n"},
		{[]string{"failing"}, 1, "- decision: Allow\n", "error: not all policies do what their tests say\n"},
		{[]string{"--junit", junit, "-o", "json", "good", "failing"}, 1, `"passed": 1`, ""},
		{[]string{"broken"}, 1, "spec.rules[0].action: Unsupported value", "error: not all policies do what their tests say\n"},
		{[]string{"bad"}, 2, "", "tests[0].expect: is missing"},
		{[]string{"none"}, 2, "", "none: no tests: want files named *_test.yaml in it or below\n"},
		{[]string{"absent"}, 2, "", "no such file or directory\n"},
		{[]string{}, 2, "", "error: name the folders"},
		{[]string{"--nonsense", "good"}, 2, "", "unknown flag"},
		{[]string{"-o", "yaml", "good"}, 2, "", "error: --output=yaml: want json\n"},
		{[]string{"--run", "(", "good"}, 2, "", "error: --run: "},
		{[]string{"--run", "creates", "good"}, 2, "", "no test has a name that matches creates\n"},
		{[]string{"--run", "del", "good"}, 0, "1 passed", ""},
		{[]string{"--run", "del", "--require-coverage", "good"}, 2, "", "leave out --run\n"},
	} {
		args := c.args
		for i, arg := range args {
			if _, err := os.Stat(filepath.Join(dir, arg)); err == nil || arg == "absent" {
				args[i] = filepath.Join(dir, arg)
			}
		}
		code, out, errOut := policyTestRun(t, args...)
		if code != c.code || !strings.Contains(out, c.out) || !strings.Contains(errOut, c.errOut) {
			t.Errorf("%v: exit status %d, want %d\n%s%s", args, code, c.code, out, errOut)
		}
	}
	if data, err := os.ReadFile(junit); err != nil || !bytes.Contains(data, []byte(`<testsuites tests="2" failures="1">`)) {
		t.Errorf("JUnit: %v\n%s", err, data)
	}
	code, out, errOut := policyTestRun(t, "--update", filepath.Join(dir, "failing"), filepath.Join(dir, "bad"))
	if code != 0 || !strings.Contains(out, "2 passed, 0 failed\n") {
		t.Errorf("--update: exit status %d\n%s%s", code, out, errOut)
	}
	data, err := os.ReadFile(filepath.Join(dir, "bad", "p_test.yaml"))
	if want := test + "  expect: {decision: Deny, rule: p/a}\n"; err != nil || string(data) != want {
		t.Errorf("--update: %v, got\n%swant\n%s", err, data, want)
	}
}
