package policytest

import (
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"strings"

	"github.com/holdfast-dev/holdfast/cmd/kubectl-holdfast/internal/show"
)

// View is how a Report is printed for people.
type View struct {
	// Verbose adds to each test that passes what was decided, by which rules, and the message.
	Verbose bool
	// Coverage adds the rules that no test exercises.
	Coverage bool
	Palette  show.Palette
}

// Print writes the report for people: a line for each test, what differs under those that
// fail, and a summary.
func (r *Report) Print(w io.Writer, v View) error {
	var b strings.Builder
	for _, p := range r.Policies {
		fmt.Fprintf(&b, "%s  %s\n", v.Palette.Bad("FAIL"), show.Line(p.String()))
	}
	for _, result := range r.Results {
		result.print(&b, v)
	}
	if v.Coverage {
		for _, rule := range r.Unexercised {
			fmt.Fprintf(&b, "%s:%d: no test exercises rule %s\n", show.Line(rule.File), rule.Line, show.Line(rule.Name))
		}
		fmt.Fprintf(&b, "%d of %d rules exercised\n", r.Rules-len(r.Unexercised), r.Rules)
	}
	if len(r.Policies) > 0 {
		fmt.Fprintf(&b, "policies that cannot be used: %d; the tests of their folders were not run\n", len(r.Policies))
	}
	fmt.Fprintf(&b, "%d passed, %d failed\n", r.Passed, r.Failed)
	if _, err := io.WriteString(w, b.String()); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func (r *Result) print(b *strings.Builder, v View) {
	mark := v.Palette.Good("ok  ")
	if !r.OK {
		mark = v.Palette.Bad("FAIL")
	}
	fmt.Fprintf(b, "%s  %s:%d  %s\n", mark, show.Line(r.File), r.Line, show.Line(r.Name))
	if r.OK && !v.Verbose {
		return
	}
	for _, line := range r.lines() {
		fmt.Fprintf(b, "      %s\n", v.Palette.Diff(show.Line(line)))
	}
}

// lines are what was wanted (-), what was seen (+), and the rest of what was seen.
func (r *Result) lines() []string {
	var lines []string
	told := map[string]bool{}
	for _, d := range r.Diff {
		told[strings.TrimSuffix(strings.TrimSuffix(d.Field, "Matches"), "s")] = true
		told["message"] = told["message"] || d.Field == "refused"
		lines = append(lines, fmt.Sprintf("- %s: %s", d.Field, d.Want), fmt.Sprintf("+ %s: %s", d.Field, d.Got))
	}
	for _, f := range []Difference{
		{Field: "decision", Got: r.Got.Decision},
		{Field: "rules", Got: strings.Join(r.Got.Rules, ", ")},
		{Field: "reason", Got: r.Got.Reason},
		{Field: "observed", Got: strings.Join(r.Got.Observed, ", ")},
		{Field: "message", Got: r.Got.Message},
	} {
		if f.Got != "" && !told[strings.TrimSuffix(f.Field, "s")] {
			lines = append(lines, fmt.Sprintf("  %s: %s", f.Field, f.Got))
		}
	}
	return lines
}

// JSON writes the report for programs.
func (r *Report) JSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(r); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

type junitSuites struct {
	XMLName  xml.Name      `xml:"testsuites"`
	Tests    int           `xml:"tests,attr"`
	Failures int           `xml:"failures,attr"`
	Suites   []*junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name     string      `xml:"name,attr"`
	Tests    int         `xml:"tests,attr"`
	Failures int         `xml:"failures,attr"`
	Cases    []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	File    string        `xml:"file,attr"`
	Line    int           `xml:"line,attr,omitempty"`
	Failure *junitFailure `xml:"failure"`
}

type junitFailure struct {
	Message string `xml:"message,attr"`
	Text    string `xml:",chardata"`
}

// JUnit writes the report as JUnit's XML, a suite for each file.
func (r *Report) JUnit(w io.Writer) error {
	var all junitSuites
	add := func(file string, c junitCase) {
		if n := len(all.Suites); n == 0 || all.Suites[n-1].Name != file {
			all.Suites = append(all.Suites, &junitSuite{Name: file})
		}
		s := all.Suites[len(all.Suites)-1]
		s.Cases = append(s.Cases, c)
		s.Tests++
		all.Tests++
		if c.Failure != nil {
			s.Failures++
			all.Failures++
		}
	}
	for _, p := range r.Policies {
		add(p.File, junitCase{Class: p.File, Name: "policies", File: p.File, Line: p.Line, Failure: &junitFailure{Message: p.String()}})
	}
	for _, result := range r.Results {
		c := junitCase{Class: result.File, Name: result.Name, File: result.File, Line: result.Line}
		if !result.OK {
			d := result.Diff[0]
			c.Failure = &junitFailure{
				Message: fmt.Sprintf("%s: want %s, got %s", d.Field, d.Want, d.Got),
				Text:    strings.Join(result.lines(), "\n"),
			}
		}
		add(result.File, c)
	}
	data, err := xml.MarshalIndent(all, "", "  ")
	if err != nil {
		return fmt.Errorf("JUnit: %w", err)
	}
	if _, err := fmt.Fprintf(w, "%s%s\n", xml.Header, data); err != nil {
		return fmt.Errorf("JUnit: %w", err)
	}
	return nil
}
