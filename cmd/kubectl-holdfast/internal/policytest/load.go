package policytest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/holdfast-dev/holdfast/pkg/agent"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/engine"
	"github.com/holdfast-dev/holdfast/pkg/policy"
)

// testsFolder is the name of folders whose policies are in the folder above: what is in
// them is out of the way of kubectl apply -f, which would stumble over test files.
const testsFolder = "tests"

// suite is one test file, with the policies that it tests.
type suite struct {
	file     string
	policies []*policyFile
	state    engine.State
	engine   *engine.Engine
	cases    []*testCase
	asked    []*askCase
	// text is the file as it is, tests and asks what it says.
	text  []byte
	tests []*test
	asks  []*ask
}

// policyFile is a file beside the tests.
type policyFile struct {
	name     string
	agents   []*v1alpha1.Agent
	policies []*policyEntry
	// broken is what is wrong with policies in it.
	broken Problems
}

type policyEntry struct {
	object   *v1alpha1.AgentPolicy
	compiled *policy.Policy
	node     *yaml.Node
}

func (s *suite) brokenPolicies() Problems {
	var all Problems
	for _, f := range s.policies {
		all = append(all, f.broken...)
	}
	return all
}

// loader reads files, each once, and gathers what is wrong with all of them.
type loader struct {
	// update takes tests that expect nothing.
	update   bool
	kinds    *kinds
	files    map[string]*policyFile
	problems Problems
}

func newLoader(update bool) *loader {
	return &loader{update: update, kinds: newKinds(), files: map[string]*policyFile{}}
}

func (l *loader) problem(file, format string, args ...any) {
	l.problems = append(l.problems, Problem{File: file, Text: fmt.Sprintf(format, args...)})
}

// load reads the test files under the paths.
func (l *loader) load(paths []string) []*suite {
	var files []string
	for _, path := range paths {
		found, err := testFiles(path)
		switch {
		case err != nil:
			l.problem(path, "%s", cause(err))
		case len(found) == 0:
			l.problem(path, "no tests: want files named *_test.yaml in it or below")
		}
		files = append(files, found...)
	}
	slices.Sort(files)
	var suites []*suite
	for _, name := range slices.Compact(files) {
		if s := l.suite(name); s != nil {
			suites = append(suites, s)
		}
	}
	return suites
}

// cause is an error without the name of the file, which stands in front already.
func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

func isYAML(name string) bool {
	return strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml")
}

func isTest(name string) bool {
	return strings.HasSuffix(name, "_test.yaml") || strings.HasSuffix(name, "_test.yml")
}

// testFiles are the test files in a folder and below, hidden folders left out; or the path
// itself, where it is no folder.
func testFiles(path string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(path, func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && name != path && strings.HasPrefix(entry.Name(), "."):
			return filepath.SkipDir
		case !entry.IsDir() && (name == path || isTest(name)):
			files = append(files, filepath.Clean(name))
		}
		return nil
	})
	return files, err
}

// document is one of a YAML file.
type document struct {
	node *yaml.Node
	kind string
	// group and version of its apiVersion.
	group, version string
}

// documents reads a YAML file; empty documents are left out.
func documents(text []byte) ([]document, error) {
	var all []document
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var n yaml.Node
		err := decoder.Decode(&n)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return nil, err
		}
		root := n.Content[0]
		if root.Kind == yaml.ScalarNode && root.Tag == "!!null" {
			continue
		}
		d := document{node: root}
		if kind := child(root, "kind"); kind != nil {
			d.kind = kind.Value
		}
		if apiVersion := child(root, "apiVersion"); apiVersion != nil {
			group, version, ok := strings.Cut(apiVersion.Value, "/")
			if !ok {
				group, version = "", apiVersion.Value
			}
			d.group, d.version = group, version
		}
		all = append(all, d)
	}
}

// suite reads one test file and everything that it needs; nil where that fails.
func (l *loader) suite(name string) *suite {
	text, err := os.ReadFile(name)
	if err != nil {
		l.problem(name, "%s", cause(err))
		return nil
	}
	docs, err := documents(text)
	if err != nil {
		l.problem(name, "%s", err)
		return nil
	}
	s := &suite{file: name, text: text}
	before := len(l.problems)
	var agents []agentEntry
	policies := []string{}
	for _, doc := range docs {
		d := &decoder{file: name}
		if doc.kind != Kind || doc.group != v1alpha1.Group || doc.version != v1alpha1.GroupVersion.Version {
			d.problem(doc.node, "", "want apiVersion %s and kind %s", v1alpha1.GroupVersion, Kind)
		} else {
			var f file
			d.decode("", doc.node, &f)
			s.tests = append(s.tests, f.Tests...)
			s.asks = append(s.asks, f.Asks...)
			agents = append(agents, f.Agents...)
			policies = append(policies, f.Policies...)
		}
		l.problems = append(l.problems, d.problems...)
	}
	if len(s.tests)+len(s.asks) == 0 {
		if len(l.problems) == before {
			l.problem(name, "has no tests: want a list under tests, each with name, request or manifest, and expect")
		}
		return nil
	}
	if len(l.problems) > before {
		return nil // what follows from what could not be read would only distract
	}
	s.policies = l.policiesOf(name, policies)
	l.assemble(s, agents)
	return s
}

// policiesOf are the policy files of a test file: those of its folder, of the folder above
// where that one is named tests, and those that it names.
func (l *loader) policiesOf(name string, named []string) []*policyFile {
	dir := filepath.Dir(name)
	sources := []string{dir}
	if absolute, err := filepath.Abs(dir); err == nil && filepath.Base(absolute) == testsFolder {
		sources = append(sources, filepath.Join(dir, ".."))
	}
	for _, other := range named {
		if !filepath.IsAbs(other) {
			other = filepath.Join(dir, other)
		}
		sources = append(sources, other)
	}
	var all []*policyFile
	found := 0
	for _, source := range sources {
		files, err := policyFiles(source)
		if err != nil {
			l.problem(name, "policies: %s", err)
			return nil
		}
		for _, f := range files {
			read := l.policyFile(f)
			if read != nil && !slices.Contains(all, read) {
				all = append(all, read)
				found += len(read.policies) + len(read.broken)
			}
		}
	}
	if found == 0 {
		l.problem(name, "no AgentPolicy is in %s: put the tests beside the policies or into a folder %s there, or name files or folders under policies",
			strings.Join(sources, ", "), testsFolder)
	}
	return all
}

// policyFiles are the YAML files of a folder that are no test files, or the path itself.
func policyFiles(path string) ([]string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{filepath.Clean(path)}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, entry := range entries {
		if !entry.IsDir() && isYAML(entry.Name()) && !isTest(entry.Name()) {
			files = append(files, filepath.Join(path, entry.Name()))
		}
	}
	return files, nil
}

// policyFile reads the Agents and AgentPolicies of a file. What is none of Holdfast's kinds
// is left alone: manifests of tests, say.
func (l *loader) policyFile(name string) *policyFile {
	key := name
	if absolute, err := filepath.Abs(name); err == nil {
		key = absolute
	}
	if f, ok := l.files[key]; ok {
		return f
	}
	f := &policyFile{name: name}
	l.files[key] = f
	text, err := os.ReadFile(name)
	if err != nil {
		l.problem(name, "%s", cause(err))
		return f
	}
	docs, err := documents(text)
	if err != nil {
		l.problem(name, "%s", err)
		return f
	}
	for _, doc := range docs {
		if doc.group == v1alpha1.Group {
			l.policyDocument(f, doc)
		}
	}
	return f
}

func (l *loader) policyDocument(f *policyFile, doc document) {
	d := &decoder{file: f.name}
	switch {
	case doc.kind == Kind:
		d.problem(child(doc.node, "kind"), "kind", "is a %s: name the file *_test.yaml", Kind)
		l.problems = append(l.problems, d.problems...)
	case doc.version != v1alpha1.GroupVersion.Version:
		d.problem(child(doc.node, "apiVersion"), "apiVersion", "want %s", v1alpha1.GroupVersion)
		l.problems = append(l.problems, d.problems...)
	case doc.kind == "Agent":
		a := &v1alpha1.Agent{}
		d.decode("", doc.node, a)
		if a.Name == "" {
			d.problem(doc.node, "metadata.name", "name the Agent")
		}
		f.agents = append(f.agents, a)
		l.problems = append(l.problems, d.problems...)
	case doc.kind == "AgentPolicy":
		entry := &policyEntry{object: &v1alpha1.AgentPolicy{}, node: doc.node}
		d.decode("", doc.node, entry.object)
		if entry.object.Name == "" {
			d.problem(doc.node, "metadata.name", "name the policy")
		}
		f.broken = append(f.broken, d.problems...)
		if len(d.problems) == 0 {
			f.broken = append(f.broken, entry.compile(f.name)...)
		}
		f.policies = append(f.policies, entry)
	case slices.Contains([]string{"AccessRequest", "Review"}, doc.kind):
	default:
		d.problem(lookup(doc.node, "kind"), "kind", "is %q%s: want Agent or AgentPolicy", doc.kind, suggest(doc.kind, []string{"Agent", "AgentPolicy"}))
		l.problems = append(l.problems, d.problems...)
	}
}

// compile compiles the policy, and says of each error where it stands.
func (e *policyEntry) compile(name string) Problems {
	compiled, err := policy.Compile(e.object)
	if err == nil {
		e.compiled = compiled
		return nil
	}
	errs := []error{err}
	var many interface{ Errors() []error }
	if errors.As(err, &many) {
		errs = many.Errors()
	}
	var problems Problems
	for _, err := range errs {
		p := Problem{File: name, Line: e.node.Line, Text: err.Error()}
		var at *field.Error
		if errors.As(err, &at) {
			p.Field, p.Text = at.Field, at.ErrorBody()
			p.Line = lookup(e.node, at.Field).Line
		}
		problems = append(problems, p)
	}
	return problems
}

// assemble makes the engine and the cases of a suite.
func (l *loader) assemble(s *suite, own []agentEntry) {
	agents, first := l.agents(s, own)
	var compiled []*policy.Policy
	in := map[string]string{}
	for _, f := range s.policies {
		for _, p := range f.policies {
			if other, ok := in[p.object.Name]; ok {
				l.problem(s.file, "policy %s is in %s and in %s: want one of them", p.object.Name, other, f.name)
			}
			in[p.object.Name] = f.name
			if p.compiled != nil {
				compiled = append(compiled, p.compiled)
			}
		}
	}
	s.engine = engine.New(engine.Config{})
	s.state = engine.State{Agents: agent.NewSet(agents), Policies: policy.NewSet(compiled)}
	s.engine.Load(s.state)
	names := map[string]bool{}
	build := func(e *entry) *builder {
		if names[e.Name] && e.Name != "" {
			l.problems = append(l.problems, Problem{File: s.file, Line: e.line, Field: e.at + ".name", Text: fmt.Sprintf("%q is the name of another test, too", e.Name)})
		}
		names[e.Name] = true
		return &builder{loader: l, suite: s, entry: e, agents: agents, first: first}
	}
	for _, t := range s.tests {
		if t != nil {
			b := build(&t.entry)
			b.test = t
			s.cases = append(s.cases, b.cases()...)
		}
	}
	for _, a := range s.asks {
		if a == nil {
			continue
		}
		if c := build(&a.entry).ask(a); c != nil {
			s.asked = append(s.asked, c)
		}
	}
}

// agents are those beside the policies and those of the test file, which replace others of
// their name. The first of the test file's, or of all, makes the requests of tests that name
// none.
func (l *loader) agents(s *suite, own []agentEntry) (agents []*v1alpha1.Agent, first string) {
	for _, f := range s.policies {
		agents = append(agents, f.agents...)
	}
	if len(agents)+len(own) == 0 {
		own = []agentEntry{{}}
		own[0].Name = "bot"
	}
	for i := range own {
		a := &own[i].Agent
		same := func(other *v1alpha1.Agent) bool { return other.Name == a.Name }
		if len(a.Spec.Subjects) == 0 {
			if slices.ContainsFunc(agents, same) {
				continue
			}
			a.Spec.Subjects = []v1alpha1.Subject{{Kind: v1alpha1.ServiceAccountSubject, Namespace: "agents", Name: a.Name}}
		}
		agents = append(slices.DeleteFunc(agents, same), a)
	}
	if len(own) > 0 {
		return agents, own[0].Name
	}
	return agents, agents[0].Name
}
