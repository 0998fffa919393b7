package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// The threat model has 119 cases.
const (
	routes    = 80 // T01 to T80
	secretWay = 39 // S01 to S39
)

func threatIDs() []string {
	var ids []string
	for i := range routes {
		ids = append(ids, fmt.Sprintf("T%02d", i+1))
	}
	for i := range secretWay {
		ids = append(ids, fmt.Sprintf("S%02d", i+1))
	}
	return ids
}

func idsOf(cases []Threat) []string {
	var ids []string
	for _, c := range cases {
		ids = append(ids, c.ID)
	}
	return ids
}

// rules are those that lead to a case's verdicts.
func (c *Threat) rules() []string {
	rules := slices.Clone(c.Rules)
	for _, trial := range c.Trials {
		if trial.Rule != "" && !slices.Contains(rules, trial.Rule) {
			rules = append(rules, trial.Rule)
		}
	}
	return rules
}

// TestThreatsTable holds the table against itself.
func TestThreatsTable(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	cases := Threats()
	if got := idsOf(cases); !slices.Equal(got, threatIDs()) {
		t.Errorf("the cases are %v, want %v", got, threatIDs())
	}
	for _, c := range cases {
		if seen[c.ID] || c.ID == "" || c.Title == "" || c.Verdict == "" {
			t.Errorf("case %q %q: want an ID of its own, a title and a verdict", c.ID, c.Title)
		}
		seen[c.ID] = true
		if (c.Verdict == Effect) != (c.Effect != "") {
			t.Errorf("%s: verdict %s beside effect %q", c.ID, c.Verdict, c.Effect)
		}
		if c.played() && (len(c.Trials) > 0) == (c.Off != nil && c.On != nil) {
			t.Errorf("%s: want trials, or both Off and On", c.ID)
		}
		names := map[string]bool{}
		for _, trial := range c.Trials {
			if names[trial.Name] || (trial.Name == "" && len(c.Trials) > 1) {
				t.Errorf("%s: trial %q needs a name of its own", c.ID, trial.Name)
			}
			names[trial.Name] = true
			want := trial.verdict(&c)
			if (want == Allowed || want == Unasked) != (trial.Rule == "") || want == Effect {
				t.Errorf("%s %s: verdict %s beside rule %q", c.ID, trial.Name, want, trial.Rule)
			}
			if trial.Effect == nil && trial.Passes == nil {
				t.Errorf("%s %s: nothing says whether it had its effect", c.ID, trial.Name)
			}
			if trial.Passes != nil && c.Control == "" {
				t.Errorf("%s %s: nothing says what its control shows", c.ID, trial.Name)
			}
		}
	}
	for _, path := range packFiles(t) {
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var p v1alpha1.AgentPolicy
		if err := yaml.UnmarshalStrict(data, &p); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		for _, rule := range p.Spec.Rules {
			name := p.Name + "/" + rule.Name
			if !slices.ContainsFunc(cases, func(c Threat) bool { return slices.Contains(c.rules(), name) }) {
				t.Errorf("%s: no case plays rule %s", path, name)
			}
		}
	}
}

func packFiles(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../manifests/policies/baseline/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("the baseline has %d files: %v", len(files), err)
	}
	return files
}
