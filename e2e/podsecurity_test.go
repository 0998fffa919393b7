package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-dev/holdfast/e2e/local"
)

// podFixture is one of the pods that Kubernetes tests its Pod Security Standards with.
type podFixture struct {
	// name is unique among all of them: level, outcome and file.
	name           string
	level, outcome string
	pod            map[string]any
	// baseline says whether the standard "baseline" lets it pass.
	baseline bool
	// secret says whether it names a Secret.
	secret bool
}

// podFixtures are those of the version of Kubernetes that the module is of. They are files of
// its test package, which the module cache has.
func podFixtures(t *testing.T) []podFixture {
	t.Helper()
	module, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}} {{.Version}}", "k8s.io/pod-security-admission").Output()
	if err != nil {
		t.Fatal(err)
	}
	dir, version, _ := strings.Cut(strings.TrimSpace(string(module)), " ")
	minor := strings.Split(version, ".")[1] // module v0.37.2 is of Kubernetes 1.37
	checks, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "test", "testdata", "*", "v1."+minor, "*", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var all []podFixture
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var typed corev1.Pod
		f := podFixture{
			outcome: filepath.Base(filepath.Dir(file)),
			level:   filepath.Base(filepath.Dir(filepath.Dir(filepath.Dir(file)))),
			secret:  strings.Contains(string(data), "secretName:"),
		}
		if err := errors.Join(yaml.Unmarshal(data, &f.pod), yaml.UnmarshalStrict(data, &typed)); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		f.name = strings.Join([]string{f.level, f.outcome, strings.ReplaceAll(typed.Name, "_", "-")}, "-")
		at := api.LevelVersion{Level: api.LevelBaseline, Version: api.LatestVersion()}
		f.baseline = policy.AggregateCheckResults(checks.EvaluatePod(at, &typed.ObjectMeta, &typed.Spec)).Allowed
		// What restricted lets pass, baseline does; of what fails restricted, some passes baseline.
		if f.baseline != (f.outcome == "pass") && (f.level == "baseline" || f.outcome == "pass") {
			t.Errorf("%s: baseline lets it pass: %v", f.name, f.baseline)
		}
		all = append(all, f)
	}
	return all
}

// podKinds are the kinds that a fixture is sent in. None runs pods that a controller makes, so
// that what is there in the end was created by the agent.
var podKinds = []struct {
	name, path string
	object     func(metadata, spec any) map[string]any
}{
	{"Pod", "/api/v1/namespaces/{ns}/pods", func(metadata, spec any) map[string]any {
		return map[string]any{"metadata": metadata, "spec": spec}
	}},
	{"Deployment", "/apis/apps/v1/namespaces/{ns}/deployments", func(metadata, spec any) map[string]any {
		return map[string]any{"metadata": metadata, "spec": map[string]any{
			"replicas": 0, "selector": map[string]any{"matchLabels": map[string]any{"app": "x"}}, "template": podTemplateOf(metadata, spec, nil),
		}}
	}},
	{"Job", "/apis/batch/v1/namespaces/{ns}/jobs", func(metadata, spec any) map[string]any {
		return map[string]any{"metadata": metadata, "spec": map[string]any{
			"suspend": true, "template": podTemplateOf(metadata, spec, map[string]any{"restartPolicy": "Never"}),
		}}
	}},
	{"CronJob", "/apis/batch/v1/namespaces/{ns}/cronjobs", func(metadata, spec any) map[string]any {
		return map[string]any{"metadata": metadata, "spec": map[string]any{
			"suspend": true, "schedule": "0 0 1 1 *", "jobTemplate": map[string]any{"spec": map[string]any{
				"template": podTemplateOf(metadata, spec, map[string]any{"restartPolicy": "Never"}),
			}},
		}}
	}},
}

// podTemplateOf is a pod template with a fixture's annotations and spec, and more fields in it.
func podTemplateOf(metadata, spec any, more map[string]any) map[string]any {
	full := map[string]any{}
	for _, part := range []map[string]any{spec.(map[string]any), more} {
		for key, v := range part {
			full[key] = v
		}
	}
	return map[string]any{
		"metadata": map[string]any{"annotations": fieldOf(metadata, "annotations"), "labels": map[string]any{"app": "x"}}, "spec": full,
	}
}

// invalidFixtures are those that the API server itself refuses (422) before it asks Holdfast, in
// every kind: procMount Unmasked without hostUsers false. With it, baseline lets it pass.
var invalidFixtures = []string{
	"baseline-fail-procmount0", "baseline-fail-procmount1", "restricted-fail-procmount0", "restricted-fail-procmount1",
}

// TestPodSecurityStandards: an agent creates none of the pods that the Pod Security Standard
// "baseline" forbids, and all of the others; in whatever kind.
func TestPodSecurityStandards(t *testing.T) {
	t.Parallel() // it waits more than it works
	fixtures := podFixtures(t)
	c := up(t, func(config *local.Config) {
		config.NoEvidence, config.NoAgent, config.Policies = true, true, "baseline"
	})
	p := podStandards{scene: newStage(t, c, true).scene(t, "pss", "pss"), counts: map[string]int{}, created: map[string][]string{}}
	var group errgroup.Group
	group.SetLimit(8)
	for _, f := range fixtures {
		group.Go(func() error {
			t.Run(f.name, func(t *testing.T) { p.send(t, &f) })
			return nil
		})
	}
	_ = group.Wait() // its functions return nothing
	p.conclude(t, fixtures)
}

// podStandards counts what comes of the fixtures.
type podStandards struct {
	*scene
	mu      sync.Mutex
	counts  map[string]int
	created map[string][]string // names, by kind
}

func (p *podStandards) count(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.counts[what]++
}

// send sends a fixture in each kind.
func (p *podStandards) send(t *testing.T, f *podFixture) {
	for i, kind := range podKinds {
		s := *p.scene
		s.t = t
		create := func(name string, spec any) answer {
			annotations := fieldOf(f.pod, "metadata.annotations")
			body, err := json.Marshal(kind.object(map[string]any{"name": name, "annotations": annotations}, spec))
			if err != nil {
				t.Fatal(err)
			}
			return s.attempt(httpPost(kind.path, string(body)))
		}
		a := create(f.name, f.pod["spec"])
		p.count("requests")
		if known := slices.Contains(invalidFixtures, f.name); known != (a.code == http.StatusUnprocessableEntity) {
			t.Errorf("%s: want it invalid: %v: %s", kind.name, known, a)
		}
		switch {
		case a.code == http.StatusUnprocessableEntity:
			p.count("invalid")
		case !f.baseline:
			s.expect(a, Denied, "baseline-workloads/deny-privileged")
			p.count("denied")
		case f.secret:
			s.expect(a, Held, "baseline-secrets/hold-unreadable")
			p.count("held for their Secret")
			s.expect(create(f.name, withoutSecrets(f.pod["spec"])), Allowed, "")
			p.pass(i, f.name)
		default:
			s.expect(a, Allowed, "")
			p.count("created")
			p.pass(i, f.name)
		}
	}
}

func (p *podStandards) pass(kind int, name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.created[podKinds[kind].name] = append(p.created[podKinds[kind].name], name)
}

// withoutSecrets is a pod spec without its volumes of Secrets.
func withoutSecrets(spec any) map[string]any {
	volumes, _ := fieldOf(spec, "volumes").([]any)
	kept := slices.DeleteFunc(slices.Clone(volumes), func(v any) bool {
		return fieldOf(v, "secret") != nil || fieldOf(v, "azureFile") != nil
	})
	return podTemplateOf(nil, spec, map[string]any{"volumes": kept})["spec"].(map[string]any)
}

// conclude looks at what is there, and whether it was as much as it should be.
func (p *podStandards) conclude(t *testing.T, fixtures []podFixture) {
	for _, kind := range podKinds {
		names := p.names(kind.path)
		want := p.created[kind.name]
		slices.Sort(names)
		slices.Sort(want)
		if !slices.Equal(names, want) {
			t.Errorf("the agent created the %ss %v; want %v", kind.name, names, want)
		}
	}
	count := func(level, outcome string) (n int) {
		for _, f := range fixtures {
			if f.level == level && f.outcome == outcome {
				n++
			}
		}
		return n
	}
	for _, want := range []struct {
		level, outcome string
		least          int
	}{{"baseline", "fail", 34}, {"baseline", "pass", 15}, {"restricted", "fail", 76}, {"restricted", "pass", 23}} {
		if n := count(want.level, want.outcome); n < want.least {
			t.Errorf("%d fixtures %s %s; want at least %d", n, want.level, want.outcome, want.least)
		}
	}
	if n := len(p.requests()); n != p.counts["held for their Secret"] {
		t.Errorf("%d AccessRequests for %d held requests", n, p.counts["held for their Secret"])
	}
	fmt.Printf("pod security standards: %d fixtures x %d kinds = %d requests: %d denied, %d created, %d held for their Secret, %d refused as invalid by the API server\n",
		len(fixtures), len(podKinds), p.counts["requests"], p.counts["denied"], p.counts["created"], p.counts["held for their Secret"], p.counts["invalid"])
}
