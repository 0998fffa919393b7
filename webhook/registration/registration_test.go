package registration

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	"sigs.k8s.io/yaml"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

var update = flag.Bool("update", false, "write the rendered files into testdata")

func config() Config {
	endpoint := func(url string) *Endpoint {
		return &Endpoint{URL: url, CA: []byte("CA"), ClientCert: []byte("CERT"), ClientKey: []byte("KEY")}
	}
	return Config{
		Dir: "/etc/kubernetes/holdfast",
		Agents: []v1alpha1.Agent{{
			ObjectMeta: metav1.ObjectMeta{Name: "bot"},
			Spec: v1alpha1.AgentSpec{Subjects: []v1alpha1.Subject{
				{Kind: v1alpha1.ServiceAccountSubject, Namespace: "agents", Name: "*"},
				{Kind: v1alpha1.UserSubject, Name: "claude@corp"},
				{Kind: v1alpha1.GroupSubject, Name: "ci-*"},
			}},
		}},
		Webhook:         endpoint("https://10.96.0.20:9443"),
		Collector:       endpoint("https://10.96.0.21:9444/v1/audit/cp-1"),
		OwnUser:         "system:serviceaccount:holdfast-system:holdfast-webhook",
		StaticManifests: true,
	}
}

// TestRender holds what is rendered against testdata, so that a change of what API servers
// get is seen in review. Regenerate with -update.
func TestRender(t *testing.T) {
	t.Parallel()
	objects := config()
	objects.StaticManifests = false
	for name, c := range map[string]Config{"static": config(), "objects": objects} {
		files, err := Render(c)
		if err != nil {
			t.Fatal(err)
		}
		dir := filepath.Join("testdata", name)
		if *update {
			if err := os.RemoveAll(dir); err != nil {
				t.Fatal(err)
			}
			if err := Write(dir, files); err != nil {
				t.Fatal(err)
			}
		}
		for _, f := range files {
			want, err := os.ReadFile(filepath.Join(dir, f.Name))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(f.Data, want) {
				t.Errorf("%s/%s is not what testdata has:\n%s", name, f.Name, f.Data)
			}
			if strings.Contains(f.Name, "kubeconfig") && f.Mode != 0o600 {
				t.Errorf("%s holds a key and has mode %o, want 600", f.Name, f.Mode)
			}
		}
	}
}

// TestGuard says what must hold of the guard whatever else changes.
func TestGuard(t *testing.T) {
	t.Parallel()
	files, err := Render(config())
	if err != nil {
		t.Fatal(err)
	}
	var guard admissionv1.ValidatingWebhookConfiguration
	for _, f := range files {
		if f.Name == validatingDir+"/holdfast.yaml" {
			first, _, _ := bytes.Cut(f.Data, []byte("---\n"))
			if err := yaml.UnmarshalStrict(first, &guard); err != nil {
				t.Fatal(err)
			}
		}
	}
	hook := guard.Webhooks[0]
	if *hook.FailurePolicy != admissionv1.Fail || len(hook.MatchConditions) != 1 ||
		hook.NamespaceSelector != nil || hook.ObjectSelector != nil || hook.Rules[0].Resources[0] != "*/*" {
		t.Errorf("the guard can be walked around: %+v", hook)
	}
	empty := config()
	empty.Agents = nil
	files, err = Render(empty)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if f.Name == validatingDir+"/holdfast.yaml" && !bytes.Contains(f.Data, []byte(`expression: "false"`)) {
			t.Errorf("without Agents the guard asks about somebody:\n%s", f.Data)
		}
	}
}

// TestFlowSchema: it takes exactly the net, but for patterns, and nobody where there is none.
func TestFlowSchema(t *testing.T) {
	t.Parallel()
	render := func(c Config) *flowcontrolv1.FlowSchema {
		t.Helper()
		files, err := Render(c)
		if err != nil {
			t.Fatal(err)
		}
		var schema flowcontrolv1.FlowSchema
		for _, f := range files {
			if f.Name == FlowControlFile {
				if err := yaml.UnmarshalStrict(f.Data, &schema); err != nil {
					t.Fatal(err)
				}
				return &schema
			}
		}
		return nil
	}
	c := config()
	c.Agents[0].Spec.Subjects = append(c.Agents[0].Spec.Subjects,
		v1alpha1.Subject{Kind: v1alpha1.GroupSubject, Name: "bots"}, v1alpha1.Subject{Kind: v1alpha1.UserSubject, Name: "bot-*"})
	schema := render(c)
	var subjects []string
	for _, s := range schema.Spec.Rules[0].Subjects {
		switch {
		case s.User != nil:
			subjects = append(subjects, "user "+s.User.Name)
		case s.Group != nil:
			subjects = append(subjects, "group "+s.Group.Name)
		case s.ServiceAccount != nil:
			subjects = append(subjects, "account "+s.ServiceAccount.Namespace+"/"+s.ServiceAccount.Name)
		}
	}
	const want = "account agents/*, group system:serviceaccounts:agents, user claude@corp, group bots"
	if got := strings.Join(subjects, ", "); got != want {
		t.Errorf("subjects %s, want %s", got, want)
	}
	const uncovered = "user bot-*, group ci-*"
	if got := schema.Annotations[uncoveredAnnotation]; got != uncovered {
		t.Errorf("uncovered %q, want %q", got, uncovered)
	}
	c.Agents = nil
	if schema := render(c); len(schema.Spec.Rules) != 0 || schema.Annotations != nil {
		t.Errorf("without Agents the schema takes somebody: %+v", schema)
	}
	c.Webhook = nil
	if schema := render(c); schema != nil {
		t.Errorf("without a webhook there is a schema: %+v", schema)
	}
}

func TestRenderRefuses(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Config){
		`dir "x": want the absolute path`:                                 func(c *Config) { c.Dir = "x" },
		`webhook URL "http://x:1": want https://host:port`:                func(c *Config) { c.Webhook.URL = "http://x:1" },
		`webhook URL "https://x": want https://host:port`:                 func(c *Config) { c.Webhook.URL = "https://x" },
		`collector CA: want the certificate authority`:                    func(c *Config) { c.Collector.CA = nil },
		`webhook client certificate: want both`:                           func(c *Config) { c.Webhook.ClientKey = nil },
		`own user: want the user name of Holdfast's own account`:          func(c *Config) { c.OwnUser = "" },
		`agent bot: spec.subjects[0].namespace: Invalid value: "kube-sys`: func(c *Config) { c.Agents[0].Spec.Subjects[0].Namespace = "kube-system" },
	} {
		c := config()
		change(&c)
		if _, err := Render(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %s", err, want)
		}
	}
}

// TestWrite replaces a file without a moment at which it is missing or half there.
func TestWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(data string) []File { return []File{{Name: "static/x.yaml", Mode: 0o640, Data: []byte(data)}} }
	if err := Write(dir, file("one")); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(dir, "static", "x.yaml")
	open, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	if err := Write(dir, file("two")); err != nil {
		t.Fatal(err)
	}
	old := make([]byte, 3)
	if _, err := open.Read(old); err != nil || string(old) != "one" {
		t.Errorf("a reader of the old file sees %q, %v: it was written in place", old, err)
	}
	info, err := os.Stat(name)
	if err != nil || info.Mode() != 0o640 {
		t.Errorf("mode %v, %v, want 0640", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "static", ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
