// Package policytest runs tests of policies: files that say what should become of a request,
// judged offline by the engine that judges in the cluster, its protection of Holdfast
// included.
//
// It reads files and writes none; it knows of no cluster, and what it does not understand of
// a file is an error and never left out.
package policytest

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/engine"
)

// Problem is something that is wrong with a file.
type Problem struct {
	File string `json:"file"`
	// Line starts with 1; 0 where the file as a whole is meant.
	Line int `json:"line,omitempty"`
	// Field is a path such as tests[0].expect.decision; may be empty.
	Field string `json:"field,omitempty"`
	// Text says what is wrong and what would be right.
	Text string `json:"text"`
}

func (p Problem) String() string {
	s := p.File
	if p.Line > 0 {
		s += fmt.Sprintf(":%d", p.Line)
	}
	if p.Field != "" {
		s += ": " + p.Field
	}
	return s + ": " + p.Text
}

// Problems is the error of files that cannot be used.
type Problems []Problem

func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i := range p {
		lines[i] = p[i].String()
	}
	return strings.Join(lines, "\n")
}

func (p Problems) sorted() Problems {
	slices.SortStableFunc(p, func(a, b Problem) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line))
	})
	return p
}

// Options of a Run.
type Options struct {
	// Only are the names of the tests to run; nil runs all.
	Only *regexp.Regexp
	// Update takes tests without an expectation, to be given what is seen.
	Update bool
}

// Report is what came out of all tests.
type Report struct {
	Passed int `json:"passed"`
	Failed int `json:"failed"`
	// Policies are those that cannot be used; the tests beside them were not run.
	Policies Problems `json:"policies,omitempty"`
	// Results are in the order of the files, of the tests in them and then of the asks.
	Results []*Result `json:"tests"`
	// Rules are how many rules and entries of requestable there are, and Unexercised those that
	// decided in no test.
	Rules       int    `json:"rules"`
	Unexercised []Rule `json:"unexercised"`

	suites []*suite
}

// Result is what came out of one test, or of one of the cases that it stands for.
type Result struct {
	File string `json:"file"`
	Line int    `json:"line"`
	Name string `json:"name"`
	OK   bool   `json:"ok"`
	Got  Seen   `json:"got"`
	// Diff is what was wanted beside what was seen; empty where OK.
	Diff []Difference `json:"diff,omitempty"`

	entry *entry
}

// OK says that nothing failed.
func (r *Report) OK() bool { return r.Failed == 0 && len(r.Policies) == 0 }

// Run runs the tests in all *_test.yaml files under the paths, which are folders or test
// files. Its error is a Problems: files that it cannot read or understand, in which case
// nothing was run.
func Run(ctx context.Context, paths []string, o Options) (*Report, error) {
	l := newLoader(o.Update)
	suites := l.load(paths)
	if len(l.problems) > 0 {
		return nil, l.problems.sorted()
	}
	report := &Report{Results: []*Result{}, Unexercised: []Rule{}, suites: suites}
	covered := coverage{}
	matched := false
	for _, s := range suites {
		broken := s.brokenPolicies()
		report.Policies = append(report.Policies, broken...)
		run := func(name string, judge func() *Result) {
			if o.Only != nil && !o.Only.MatchString(name) {
				return
			}
			matched = true
			if len(broken) > 0 {
				return
			}
			result := judge()
			covered.add(s, &result.Got)
			report.add(result)
		}
		for _, c := range s.cases {
			run(c.name, func() *Result { return c.run(ctx, s) })
		}
		for _, c := range s.asked {
			run(c.ask.Name, func() *Result { return c.run(s) })
		}
		covered.rules(s)
	}
	if !matched {
		return nil, Problems{{File: strings.Join(paths, " "), Text: fmt.Sprintf("no test has a name that matches %s", o.Only)}}
	}
	report.Policies = slices.Compact(report.Policies.sorted())
	report.Rules, report.Unexercised = covered.unexercised()
	return report, nil
}

func (r *Report) add(result *Result) {
	r.Results = append(r.Results, result)
	if result.OK {
		r.Passed++
	} else {
		r.Failed++
	}
}

// run judges one case.
func (c *testCase) run(ctx context.Context, s *suite) *Result {
	d, holding := c.decide(ctx, s)
	result := &Result{File: s.file, Line: c.test.line, Name: c.name, Got: seen(&d, holding), entry: &c.test.entry}
	result.Diff = c.test.Expect.compare(&result.Got)
	result.OK = len(result.Diff) == 0
	return result
}

// decide asks the engine as the webhook that would be asked does, but that nobody asks RBAC:
// what policies allow counts as permitted. It returns the rules that hold the request, too.
func (c *testCase) decide(ctx context.Context, s *suite) (decision.Decision, []v1alpha1.HoldingRule) {
	s.engine.LoadGrants(c.grants)
	in := engine.Input{
		Request:   c.request,
		Namespace: func() (map[string]any, error) { return c.namespace, nil },
		Confirm:   func(context.Context, *v1alpha1.AccessRequest, []string) (bool, error) { return true, nil },
	}
	if !c.authorized {
		d, held := s.engine.Decide(ctx, in)
		if held == nil {
			return d, nil
		}
		return d, held.Rules
	}
	in.Aggregated = c.test.Request.Aggregated
	in.Requester = c.requester
	if c.target != nil {
		in.Target = func() (map[string]any, error) { return c.target, nil }
	}
	d := s.engine.Authorize(ctx, in)
	if d.Action != decision.Hold {
		return d, nil
	}
	return d, s.holding(&d)
}

// requester is who asked for the AccessRequest that is the target.
func (c *testCase) requester(name string) string {
	spec, _ := c.target["spec"].(map[string]any)
	requester, _ := spec["requester"].(string)
	if name != c.request.Name {
		return ""
	}
	return requester
}

// holding are the rules that hold what was decided. The authorizer does not say who would
// have to approve: a read cannot wait for them.
func (s *suite) holding(d *decision.Decision) []v1alpha1.HoldingRule {
	var rules []v1alpha1.HoldingRule
	for _, c := range d.Causes {
		name, rule, _ := strings.Cut(c.Rule, "/")
		for _, f := range s.policies {
			for _, p := range f.policies {
				if terms := p.compiled.Terms(rule); p.object.Name == name && terms != nil {
					rules = append(rules, terms.Rule)
				}
			}
		}
	}
	return rules
}
