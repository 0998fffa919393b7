package expression

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

func violations(t testing.TB, v any, level string) []string {
	t.Helper()
	list, err := podSecurity(&meter{deadline: time.Now().Add(time.Minute)}, v, level)
	if err != nil {
		t.Fatal(err)
	}
	texts := make([]string, len(list))
	for i, item := range list {
		texts[i] = item.(string)
	}
	return texts
}

// fixtures are the pods of the Pod Security Standards, in the version of Kubernetes that the
// module is of: what a level lets pass, or not.
func fixtures(t testing.TB, level, outcome string) map[string]map[string]any {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/pod-security-admission").Output()
	if err != nil {
		t.Fatal(err)
	}
	versions, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(dir)), "test/testdata", level, "v1.*"))
	if err != nil || len(versions) == 0 {
		t.Fatalf("no fixtures of %s: %v", level, err)
	}
	minor := func(path string) int {
		n, _ := strconv.Atoi(strings.TrimPrefix(filepath.Base(path), "v1."))
		return n
	}
	newest := slices.MaxFunc(versions, func(a, b string) int { return minor(a) - minor(b) })
	files, err := filepath.Glob(filepath.Join(newest, outcome, "*.yaml"))
	if err != nil || len(files) < 10 {
		t.Fatalf("%d fixtures of %s, %v", len(files), level, err)
	}
	pods := map[string]map[string]any{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var pod map[string]any
		if err := yaml.Unmarshal(data, &pod); err != nil {
			t.Fatal(err)
		}
		// The API server fills this in before admission.
		volumes, _ := pod["spec"].(map[string]any)["volumes"].([]any)
		for _, v := range volumes {
			if volume := v.(map[string]any); len(volume) == 1 {
				volume["emptyDir"] = map[string]any{}
			}
		}
		pods[filepath.Base(file)] = pod
	}
	return pods
}

// templated puts a pod into other kinds.
func templated(pod map[string]any) map[string]any {
	template := map[string]any{"metadata": pod["metadata"], "spec": pod["spec"]}
	return map[string]any{
		"Pod":         pod,
		"PodTemplate": map[string]any{"template": template},
		"Deployment":  map[string]any{"spec": map[string]any{"template": template}},
		"CronJob":     map[string]any{"spec": map[string]any{"jobTemplate": map[string]any{"spec": map[string]any{"template": template}}}},
		"a crew":      map[string]any{"spec": map[string]any{"workers": []any{map[string]any{"podTemplate": template}}}},
	}
}

// TestPodSecurityFixtures: every pod that a level forbids is found in every kind, and none
// that it allows.
func TestPodSecurityFixtures(t *testing.T) {
	t.Parallel()
	for _, level := range podSecurityLevels() {
		for _, outcome := range []string{"pass", "fail"} {
			for name, pod := range fixtures(t, level, outcome) {
				for kind, object := range templated(pod) {
					if got := violations(t, object, level); (len(got) > 0) != (outcome == "fail") {
						t.Errorf("%s %s %s as %s: got %q", level, outcome, name, kind, got)
					}
				}
			}
		}
	}
}

func TestPodSecurity(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, object, want string }{
		{"a pod", `{"spec":{"hostPID":true,"containers":[{"name":"c","securityContext":{"privileged":true}}]}}`,
			`host namespaces (hostPID=true) at spec|privileged (container "c" must not set securityContext.privileged=true) at spec`},
		{"a template", `{"spec":{"template":{"spec":{"volumes":[{"name":"v","hostPath":{"path":"/"}}],"containers":[{"name":"c"}]}}}}`, `hostPath volumes (volume "v") at spec.template.spec`},
		{"an init container", `{"spec":{"initContainers":[{"name":"i","securityContext":{"privileged":true}}],"containers":[{"name":"c"}]}}`, `privileged (container "i" must not set securityContext.privileged=true) at spec`},
		{"an ephemeral container", `{"spec":{"ephemeralContainers":[{"name":"e","securityContext":{"privileged":true}}],"containers":[{"name":"c"}]}}`, `privileged (container "e" must not set securityContext.privileged=true) at spec`},
		{"an annotation", `{"metadata":{"annotations":{"container.apparmor.security.beta.kubernetes.io/c":"unconfined"}},"spec":{"containers":[{"name":"c"}]}}`, `forbidden AppArmor profile (annotation must not set AppArmor profile type to "container.apparmor.security.beta.kubernetes.io/c="unconfined"") at spec`},
		{"a container of a workflow", `{"spec":{"templates":[{"container":{"name":"c","image":"i","securityContext":{"privileged":true}}}]}}`, `privileged (container "c" must not set securityContext.privileged=true) at spec.templates[0]`},
		{"a step", `{"spec":{"steps":[{"name":"s","image":"i","securityContext":{"privileged":true}}]}}`, `privileged (container "s" must not set securityContext.privileged=true) at spec`},
		{"two templates", `{"spec":{"a":{"containers":[{"name":"c"}],"hostPID":true},"b":{"containers":[{"name":"c"}],"hostPID":true}}}`, `host namespaces (hostPID=true) at spec.a|host namespaces (hostPID=true) at spec.b`},
		{"no containers", `{"spec":{"podSpec":{"hostNetwork":true}}}`, `host namespaces (hostNetwork=true) at spec.podSpec`},
		{"a good one", `{"spec":{"containers":[{"name":"c","image":"i"}]}}`, ``},
		{"fields that pods do not have", `{"spec":{"frob":{"a":[1]},"containers":[{"name":"c","frob":1}]}}`, ``},
		{"no pod", `{"data":{"a":"b"}}`, ``},
	} {
		if got := strings.Join(violations(t, decoded(t, test.object), "baseline"), "|"); got != test.want {
			t.Errorf("%s: got %s, want %s", test.name, got, test.want)
		}
	}
	if got := violations(t, nil, "restricted"); len(got) != 0 {
		t.Errorf("nothing violates %q", got)
	}
}

func TestPodSecurityInExpressions(t *testing.T) {
	t.Parallel()
	const news = `let was = podSecurity(oldObject, "baseline"); any(podSecurity(object, "baseline"), # not in was)`
	good, bad := `{"spec":{"containers":[{"name":"c"}]}}`, `{"spec":{"hostPID":true,"containers":[{"name":"c"}]}}`
	worse := `{"spec":{"hostPID":true,"hostIPC":true,"containers":[{"name":"c"}]}}`
	for _, test := range []struct {
		source, object, old string
		want                bool
		err                 error
	}{
		{source: news, object: good, want: false},
		{source: news, object: bad, want: true},
		{source: news, object: bad, old: bad, want: false},
		{source: news, object: worse, old: bad, want: true},
		{source: news, object: good, old: bad, want: false},
		{source: `len(podSecurity(object, "restricted")) > 3 and podSecurity(object, "baseline") == []`, object: good, want: true},
		{source: news, object: `{"spec":{"containers":[{"name":"c","securityContext":"privileged"}]}}`, err: ErrEvaluation},
		{source: news, object: `{"spec":{"hostPID":"true","containers":[{"name":"c"}]}}`, err: ErrEvaluation},
		{source: news, object: `{"spec":{"containers":[{"name":"c"},"x"]}}`, err: ErrEvaluation},
		{source: news, object: `{"metadata":{"annotations":{"a":1}},"spec":{"containers":[{"name":"c"}]}}`, err: ErrEvaluation},
	} {
		v := variables(decoded(t, test.object))
		if test.old != "" {
			v.OldObject = decoded(t, test.old)
		}
		if got, err := run(test.source, v); got != test.want || !errors.Is(err, test.err) {
			t.Errorf("%s, was %s: got %t, %v, want %t, %v", test.object, test.old, got, err, test.want, test.err)
		}
	}
	large := fmt.Sprintf(`{"spec":{"containers":[%s{"name":"c"}]}}`, strings.Repeat(`{"name":"c","env":[{"name":"a"},{"name":"b"}]},`, 300_000))
	if _, err := run(news, variables(decoded(t, large))); !errors.Is(err, ErrDeadline) {
		t.Errorf("a large one: error %v, want ErrDeadline", err)
	}
}

func FuzzPodSecurity(f *testing.F) {
	for _, pod := range fixtures(f, "restricted", "fail") {
		text, err := json.Marshal(pod)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Fuzz(func(t *testing.T, text string) {
		var object any
		if json.Unmarshal([]byte(text), &object) != nil {
			t.Skip()
		}
		m := &meter{deadline: time.Now().Add(time.Minute)}
		_, _ = podSecurity(m, object, "restricted")
	})
}
