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
	// Results are in the order of the files and of the tests in them.
	Results []*Result `json:"tests"`
	// Rules are how many rules there are, and Unexercised those that decided in no test.
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

	test *test
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
		for _, c := range s.cases {
			if o.Only != nil && !o.Only.MatchString(c.name) {
				continue
			}
			matched = true
			if len(broken) > 0 {
				continue
			}
			result := c.run(ctx, s)
			covered.add(s, &result.Got)
			report.add(result)
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
	d, held := decide(ctx, s.engine, c)
	result := &Result{File: s.file, Line: c.test.line, Name: c.name, Got: seen(&d, held), test: c.test}
	result.Diff = c.test.Expect.compare(&result.Got)
	result.OK = len(result.Diff) == 0
	return result
}

// decide is the one place that calls the engine. What a test cannot say yet because the
// engine does not take it, is refused where files are read: see notYet.
func decide(ctx context.Context, e *engine.Engine, c *testCase) (decision.Decision, *engine.Held) {
	return e.Decide(ctx, engine.Input{
		Request:   c.request,
		Namespace: func() (map[string]any, error) { return c.namespace, nil },
	})
}
