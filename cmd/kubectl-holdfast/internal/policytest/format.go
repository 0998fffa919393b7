package policytest

import (
	"fmt"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// Kind of a test file; its apiVersion is that of Holdfast's kinds. No API server knows it.
const Kind = "PolicyTest"

// file is a test file.
type file struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// Policies are files and folders, relative to the test file, whose Agents and
	// AgentPolicies are in force beside those of the file's own folder.
	Policies []string `json:"policies"`
	// Agents are added to those beside the policies. A name alone is the service account
	// of that name in the namespace agents. The first is the agent of tests that name none.
	Agents []agentEntry `json:"agents"`
	Tests  []*test      `json:"tests"`
	// Asks are tests of what agents may ask for ahead.
	Asks []*ask `json:"asks"`
}

// entry is what tests and asks have in common.
type entry struct {
	Name string `json:"name"`
	// Agent is the name of the Agent that makes the request, as its first subject.
	Agent string `json:"agent"`
	// User and Groups are who makes the request, instead of Agent.
	User   string   `json:"user"`
	Groups []string `json:"groups"`

	line int
	at   string
	node *yaml.Node
}

// expectation is what a test or an ask expects.
type expectation interface {
	// written is what the file says; nil where it says nothing.
	written() *yaml.Node
	compare(got *Seen) []Difference
	// renewed is the expectation with what was seen in the fields that it has, as a new node;
	// nil where nothing would change.
	renewed(all []*Seen) *yaml.Node
}

type agentEntry struct{ v1alpha1.Agent }

func (a *agentEntry) decodeNode(d *decoder, at string, n *yaml.Node, depth int) {
	if n.Kind == yaml.ScalarNode {
		a.Name = n.Value
		return
	}
	var agent v1alpha1.Agent
	d.structure(at, n, &agent, depth)
	a.Agent = agent
	if a.Name == "" {
		d.problem(n, join(at, "metadata.name"), "name the Agent")
	}
	if len(a.Spec.Subjects) == 0 {
		d.problem(n, join(at, "spec.subjects"), "say who it is; or give its name alone, for the service account of that name in the namespace agents")
	}
}

// test is one entry of tests. It stands for one case, or for one of each manifest or kind.
type test struct {
	entry
	// Verb is short for request.verb.
	Verb    string  `json:"verb"`
	Request request `json:"request"`
	// Manifest is the object, and OldManifest what is stored before. A file, an object, or,
	// for a case each, several.
	Manifest    manifests `json:"manifest"`
	Manifests   manifests `json:"manifests"`
	OldManifest manifests `json:"oldManifest"`
	// Kinds are the workload kinds to wrap PodSpec or PodTemplate into, for a case each.
	Kinds          []string       `json:"kinds"`
	PodSpec        map[string]any `json:"podSpec"`
	PodTemplate    map[string]any `json:"podTemplate"`
	OldPodSpec     map[string]any `json:"oldPodSpec"`
	OldPodTemplate map[string]any `json:"oldPodTemplate"`
	// NamespaceObject is the request's Namespace. Left out: one with nothing but its name.
	NamespaceObject manifests `json:"namespaceObject"`
	// Target is the object that a request for pods/log or the like is of. Left out: one with
	// nothing but its name.
	Target manifests `json:"target"`
	// Grants are what the one who makes the request asked for ahead, and people approved.
	Grants []*grant `json:"grants"`
	Expect *expect  `json:"expect"`
}

func (t *test) decodeNode(d *decoder, at string, n *yaml.Node, depth int) {
	t.line, t.at, t.node = n.Line, at, n
	type plain test
	d.structure(at, n, (*plain)(t), depth)
}

type request struct {
	Verb    string  `json:"verb"`
	Group   *string `json:"group"`
	Version string  `json:"version"`
	// Resource with its subresource, as pods/exec.
	Resource       string         `json:"resource"`
	Namespace      *string        `json:"namespace"`
	Name           string         `json:"name"`
	NonResourceURL string         `json:"nonResourceURL"`
	DryRun         bool           `json:"dryRun"`
	Options        map[string]any `json:"options"`
	// FieldSelector and LabelSelector are those of a list or watch, as kubectl takes them.
	FieldSelector string `json:"fieldSelector"`
	LabelSelector string `json:"labelSelector"`
	// Aggregated: another API server serves the resource, and nothing is admitted.
	Aggregated bool `json:"aggregated"`
}

// grant is an approval of what was asked for ahead.
type grant struct {
	v1alpha1.Access
	// Rules are those whose approvers approved. Left out: all that an ask for it takes.
	Rules *[]string `json:"rules"`
}

// ask is one entry of asks.
type ask struct {
	entry
	Access v1alpha1.Access `json:"access"`
	Expect *askExpect      `json:"expect"`
}

func (a *ask) decodeNode(d *decoder, at string, n *yaml.Node, depth int) {
	a.line, a.at, a.node = n.Line, at, n
	type plain ask
	d.structure(at, n, (*plain)(a), depth)
}

// askExpect is what should become of an ask. What is left out is not looked at.
type askExpect struct {
	// Allowed: it may be asked for. Refused is what the agent is told otherwise, as the
	// message of a test.
	Allowed *bool   `json:"allowed"`
	Refused *string `json:"refused"`
	// Rule or Rules are what has to be satisfied, as in a test: entries of requestable, and
	// rules that hold what is asked for.
	Rule  *string   `json:"rule"`
	Rules *[]string `json:"rules"`
	// Required, Approvers and ReasonRequired are what those ask for together.
	Required       *int       `json:"required"`
	Approvers      *approvers `json:"approvers"`
	ReasonRequired *bool      `json:"reasonRequired"`
	// Duration is how long the grant would last.
	Duration *metav1.Duration `json:"duration"`

	node *yaml.Node
}

func (e *askExpect) decodeNode(d *decoder, at string, n *yaml.Node, depth int) {
	e.node = n
	type plain askExpect
	d.structure(at, n, (*plain)(e), depth)
	switch {
	case e.Allowed == nil && e.Refused == nil:
		d.problem(n, join(at, "allowed"), "is missing: want allowed: true, or refused with what the agent is told")
	case e.Allowed != nil && e.Refused != nil && *e.Allowed:
		d.problem(n, join(at, "refused"), "is for what is not allowed: want allowed: true, or refused")
	case (e.Allowed == nil || !*e.Allowed) && e.details():
		d.problem(n, at, "says what an ask takes that is refused: leave out all but allowed and refused")
	case e.Rule != nil && e.Rules != nil:
		d.problem(n, join(at, "rules"), "give rule, where there is one, or rules; not both")
	}
}

func (e *askExpect) details() bool {
	return e.Rule != nil || e.Rules != nil || e.Required != nil || e.Approvers != nil || e.ReasonRequired != nil || e.Duration != nil
}

// manifests are files or objects.
type manifests []manifest

type manifest struct {
	file   string
	object map[string]any
	line   int
}

func (m *manifests) decodeNode(d *decoder, at string, n *yaml.Node, depth int) {
	switch {
	case n.Kind == yaml.SequenceNode:
		for i, item := range n.Content {
			for item.Kind == yaml.AliasNode {
				item = item.Alias
			}
			m.decodeNode(d, fmt.Sprintf("%s[%d]", at, i), item, depth+1)
			if depth > maxDepth {
				return
			}
		}
	case n.Kind == yaml.MappingNode:
		object, _ := d.any(at, n, depth).(map[string]any)
		*m = append(*m, manifest{object: object, line: n.Line})
	case n.Tag == "!!str" && n.Value != "":
		*m = append(*m, manifest{file: n.Value, line: n.Line})
	default:
		d.problem(n, at, "is %s: want an object or the name of a file", nameOf(n))
	}
}

// expect is what should become of the request. What is left out is not looked at.
type expect struct {
	Decision string `json:"decision"`
	// Rule is the one rule that decides, as policy/rule; Rules are all that do, in any
	// order. In both a * stands for any run of characters.
	Rule  *string   `json:"rule"`
	Rules *[]string `json:"rules"`
	// Reason is a word such as Rule, Default, NoPolicy, Version or SelfProtection.
	Reason string `json:"reason"`
	// Message is the agent's, without the decision's ID; it may start or end with … where
	// more may stand. MessageMatches is a regular expression for a part of it.
	Message        *string `json:"message"`
	MessageMatches string  `json:"messageMatches"`
	// Warnings are those of the client, each as Message.
	Warnings *[]string `json:"warnings"`
	// Observed are what Warn and Audit policies would do, as policy/rule=Deny.
	Observed *[]string `json:"observed"`
	// Required is how many people a held request takes: the most that a rule asks for.
	Required *int `json:"required"`
	// Approvers are all that the holding rules name.
	Approvers *approvers `json:"approvers"`

	matches *regexp.Regexp
	node    *yaml.Node
}

type approvers struct {
	Groups []string `json:"groups"`
	Users  []string `json:"users"`
}

func (e *expect) decodeNode(d *decoder, at string, n *yaml.Node, depth int) {
	e.node = n
	if n.Kind == yaml.ScalarNode {
		e.Decision = n.Value
	} else {
		type plain expect
		d.structure(at, n, (*plain)(e), depth)
		at = join(at, "decision")
	}
	switch e.Decision {
	case "Allow", "Hold", "Deny":
	case "":
		d.problem(n, at, "is missing: want Allow, Hold or Deny")
	default:
		d.problem(n, at, "is %q%s: want Allow, Hold or Deny", e.Decision, suggest(e.Decision, []string{"Allow", "Hold", "Deny"}))
	}
	if e.Rule != nil && e.Rules != nil {
		d.problem(n, strings.TrimSuffix(at, "decision")+"rules", "give rule, where one rule decides, or rules; not both")
	}
	if e.MessageMatches != "" {
		compiled, err := regexp.Compile(e.MessageMatches)
		if err != nil {
			d.problem(n, strings.TrimSuffix(at, "decision")+"messageMatches", "%s", err)
		}
		e.matches = compiled
	}
}

// structure decodes into a struct whose type would decode itself.
func (d *decoder) structure(at string, n *yaml.Node, v any, depth int) {
	d.object(at, n, elem(v), depth)
}
