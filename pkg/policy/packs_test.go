package policy

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	utiljson "k8s.io/apimachinery/pkg/util/json"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// baseline compiles the policies of the pack, one to a file. What each of their rules does is
// in the folder tests beside them, for kubectl holdfast policy test.
func baseline(t testing.TB) *Set {
	t.Helper()
	files, err := filepath.Glob("../../manifests/policies/baseline/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("the baseline has %d files, %v", len(files), err)
	}
	var policies []*v1alpha1.AgentPolicy
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var p v1alpha1.AgentPolicy
		if err := yaml.UnmarshalStrict(data, &p); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		policies = append(policies, &p)
	}
	return setOf(t, policies...)
}

// decode decodes JSON as the webhook does.
func decode(t testing.TB, text string) map[string]any {
	t.Helper()
	var v map[string]any
	if err := utiljson.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// BenchmarkBaseline is an ordinary request, which meets every rule for all kinds.
func BenchmarkBaseline(b *testing.B) {
	set := baseline(b)
	q := &decision.Request{Verb: "update", Group: "apps", Version: "v1", Resource: "deployments", Namespace: "n", Name: "x"}
	text := `{"metadata":{"name":"x","labels":{"a":"b"}},"spec":{"replicas":1,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i","env":[{"name":"A","value":"B"}],"resources":{"requests":{"cpu":"1"}}}],"volumes":[{"name":"v","emptyDir":{}}]}}}}`
	q.Object, q.OldObject = decode(b, text), decode(b, text)
	for b.Loop() {
		if v := set.Evaluate(&Input{Request: q, Agents: bot(), Deadline: time.Now().Add(time.Minute)}); v.Action != decision.Allow {
			b.Fatal(summary(v))
		}
	}
}
