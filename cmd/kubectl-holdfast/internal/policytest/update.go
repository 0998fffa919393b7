package policytest

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Edit is a test file's new text.
type Edit struct {
	File string
	Text []byte
	// Tests is how many expectations are new.
	Tests int
}

// Updates are the test files with what was seen in the place of expectations that failed.
// Nothing else of a file changes, comments included. Problems are tests whose cases want
// different decisions, which one expectation cannot say.
func (r *Report) Updates() ([]Edit, Problems) {
	var edits []Edit
	var problems Problems
	for _, s := range r.suites {
		e := editor{suite: s}
		for _, t := range s.tests {
			if all := r.failed(&t.entry); all != nil {
				e.renew(&t.entry, t.Expect, all)
			}
		}
		for _, a := range s.asks {
			if all := r.failed(&a.entry); all != nil {
				e.renew(&a.entry, a.Expect, all)
			}
		}
		problems = append(problems, e.problems...)
		if len(e.splices) == 0 {
			continue
		}
		text := e.apply()
		if err := same(s.text, text); err != nil {
			problems = append(problems, Problem{File: s.file, Text: fmt.Sprintf("cannot be updated in place (%s): edit it by hand", err)})
			continue
		}
		edits = append(edits, Edit{File: s.file, Text: text, Tests: len(e.splices)})
	}
	return edits, problems
}

// failed is what was seen in the cases of a test of which one failed; nil where none did.
func (r *Report) failed(e *entry) []*Seen {
	failed := false
	var all []*Seen
	for _, result := range r.Results {
		if result.entry == e {
			failed = failed || !result.OK
			all = append(all, &result.Got)
		}
	}
	if !failed {
		return nil
	}
	return all
}

// splice replaces a part of a text.
type splice struct {
	from, to int
	text     string
}

type editor struct {
	suite    *suite
	splices  []splice
	problems Problems
}

func (e *editor) renew(t *entry, expected expectation, all []*Seen) {
	for _, s := range all {
		if s.Decision != all[0].Decision {
			e.problems = append(e.problems, Problem{
				File: e.suite.file, Line: t.line, Field: t.at + ".expect",
				Text: fmt.Sprintf("its cases are decided %s and %s: make them two tests", all[0].Decision, s.Decision),
			})
			return
		}
	}
	old := expected.written()
	n := expected.renewed(all)
	if n == nil {
		return
	}
	text := e.suite.text
	switch {
	case old == nil && t.node.Style&yaml.FlowStyle != 0:
		end := flowEnd(text, offset(text, t.node)) - 1
		e.splices = append(e.splices, splice{end, end, ", expect: " + encode(flow(n), 0)})
	case old == nil:
		end := blockEnd(text, t.node)
		e.splices = append(e.splices, splice{end, end, newline(text, end) + strings.Repeat(" ", t.node.Column-1) + "expect: " + encode(flow(n), 0)})
	case old.Kind == yaml.ScalarNode || old.Style&yaml.FlowStyle != 0:
		from := offset(text, old)
		to := flowEnd(text, from)
		e.splices = append(e.splices, splice{from, to, encode(n, 0)})
	default:
		from := offset(text, old)
		e.splices = append(e.splices, splice{from, blockEnd(text, old), encode(n, old.Column-1)})
	}
}

func newline(text []byte, at int) string {
	if at > 0 && at <= len(text) && text[at-1] == '\n' {
		return ""
	}
	return "\n"
}

// apply makes the new text, from the end so that places before stay what they are.
func (e *editor) apply() []byte {
	text := slices.Clone(e.suite.text)
	slices.SortFunc(e.splices, func(a, b splice) int { return b.from - a.from })
	for _, s := range e.splices {
		text = slices.Concat(text[:s.from], []byte(s.text), text[s.to:])
	}
	return text
}

// renewed is the expectation with what was seen in the fields that it has, as a new node;
// nil where nothing would change. Where it had none, it gets decision and rule.
func (e *expect) renewed(all []*Seen) *yaml.Node {
	got := all[0]
	if e.node == nil {
		n := &yaml.Node{Kind: yaml.MappingNode}
		set1(n, "decision", scalar(got.Decision))
		setRules(n, all, "rule")
		return n
	}
	if e.node.Kind == yaml.ScalarNode {
		return scalar(got.Decision)
	}
	n := clone(e.node)
	set1(n, "decision", scalar(got.Decision))
	for _, s := range all {
		for _, d := range e.compare(s) {
			e.renew(n, d.Field, all)
		}
	}
	return n
}

// renew sets one field to what was seen, or takes it out where the cases differ.
func (e *expect) renew(n *yaml.Node, field string, all []*Seen) {
	got := all[0]
	agree := func(value func(*Seen) string) bool {
		return !slices.ContainsFunc(all, func(s *Seen) bool { return value(s) != value(got) })
	}
	put := func(field string, same bool, value *yaml.Node) {
		if same && value != nil {
			set1(n, field, value)
		} else {
			remove(n, field)
		}
	}
	switch field {
	case "rule", "rules":
		setRules(n, all, field)
	case "reason":
		put(field, agree(func(s *Seen) string { return s.Reason }), scalar(got.Reason))
	case "message", "messageMatches":
		remove(n, "messageMatches")
		put("message", agree(func(s *Seen) string { return s.Message }), scalar(got.Message))
	case "warnings":
		put(field, agree(func(s *Seen) string { return strings.Join(s.Warnings, "\n") }), sequence(got.Warnings))
	case "observed":
		put(field, agree(func(s *Seen) string { return strings.Join(s.Observed, "\n") }), sequence(got.Observed))
	case "required", "approvers":
		if agree(func(s *Seen) string {
			if field == "required" {
				return fmt.Sprint(s.Required)
			}
			return s.Approvers.String()
		}) {
			setPeople(n, field, got)
		} else {
			remove(n, field)
		}
	}
}

// setPeople writes required or approvers; no approvers where nobody has to approve.
func setPeople(n *yaml.Node, field string, got *Seen) {
	if field == "required" {
		set1(n, field, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: fmt.Sprint(got.Required)})
		return
	}
	if got.Approvers == nil {
		remove(n, field)
		return
	}
	value := flow(&yaml.Node{Kind: yaml.MappingNode})
	if len(got.Approvers.Groups) > 0 {
		set1(value, "groups", sequence(got.Approvers.Groups))
	}
	if len(got.Approvers.Users) > 0 {
		set1(value, "users", sequence(got.Approvers.Users))
	}
	set1(n, field, value)
}

// setRules writes rule or rules, whichever says it; neither where the cases differ, or where
// no rule decided.
func setRules(n *yaml.Node, all []*Seen, field string) {
	got := all[0].Rules
	same := !slices.ContainsFunc(all, func(s *Seen) bool { return !slices.Equal(s.Rules, got) })
	switch {
	case !same || len(got) == 0:
		remove(n, "rule")
		remove(n, "rules")
	case len(got) == 1 && field == "rule":
		set1(n, "rule", scalar(got[0]))
	default:
		if field == "rule" {
			rename(n, "rule", "rules")
		}
		set1(n, "rules", sequence(got))
	}
}

func scalar(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	return n
}

func sequence(list []string) *yaml.Node {
	n := &yaml.Node{Kind: yaml.SequenceNode, Style: yaml.FlowStyle}
	for _, s := range list {
		n.Content = append(n.Content, scalar(s))
	}
	return n
}

func flow(n *yaml.Node) *yaml.Node {
	n.Style |= yaml.FlowStyle
	return n
}

// set1 sets a field, and keeps the comment that stands beside it.
func set1(n *yaml.Node, field string, value *yaml.Node) {
	if old := child(n, field); old != nil {
		if old.Kind == value.Kind && old.Value == value.Value && len(old.Content)+len(value.Content) == 0 {
			return
		}
		value.HeadComment, value.LineComment, value.FootComment = old.HeadComment, old.LineComment, old.FootComment
		if old.Kind == yaml.SequenceNode && value.Kind == yaml.SequenceNode {
			value.Style = old.Style
		}
		*old = *value
		return
	}
	n.Content = append(n.Content, scalar(field), value)
}

func remove(n *yaml.Node, field string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == field {
			n.Content = slices.Delete(n.Content, i, i+2)
			return
		}
	}
}

func rename(n *yaml.Node, from, to string) {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == from {
			n.Content[i].Value = to
		}
	}
}

// clone copies a node and all below it. Comments around the whole are left behind: they stand
// outside of what is replaced.
func clone(n *yaml.Node) *yaml.Node {
	out := deep(n)
	out.HeadComment, out.LineComment, out.FootComment = "", "", ""
	if len(out.Content) > 1 {
		out.Content[0].HeadComment = ""
		out.Content[len(out.Content)-2].FootComment = ""
		out.Content[len(out.Content)-1].FootComment = ""
	}
	return out
}

func deep(n *yaml.Node) *yaml.Node {
	out := *n
	out.Content = nil
	for _, c := range n.Content {
		out.Content = append(out.Content, deep(c))
	}
	return &out
}

// encode is a node as YAML, with every line but the first indented.
func encode(n *yaml.Node, indent int) string {
	var b bytes.Buffer
	encoder := yaml.NewEncoder(&b)
	encoder.SetIndent(2)
	encoder.CompactSeqIndent()
	// It fails for nodes of no kind; these have one.
	_ = encoder.Encode(n)
	_ = encoder.Close()
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	for i := 1; i < len(lines); i++ {
		if lines[i] != "" {
			lines[i] = strings.Repeat(" ", indent) + lines[i]
		}
	}
	return strings.Join(lines, "\n")
}

// offset is where a node starts in the text, in bytes; nodes count columns in characters.
func offset(text []byte, n *yaml.Node) int {
	at := 0
	for range n.Line - 1 {
		at += bytes.IndexByte(text[at:], '\n') + 1
	}
	line := []rune(string(text[at:]))
	return at + len(string(line[:n.Column-1]))
}

// blockEnd is where a block mapping ends: behind its last line that is more than blank or a
// comment, without the line feed. Its lines are those that are indented as far as it is.
func blockEnd(text []byte, n *yaml.Node) int {
	at := offset(text, n)
	end := at
	for first := true; at < len(text); first = false {
		next := len(text)
		if i := bytes.IndexByte(text[at:], '\n'); i >= 0 {
			next = at + i
		}
		line := string(text[at:next])
		body := strings.TrimLeft(line, " ")
		blank := strings.TrimSpace(body) == "" || strings.HasPrefix(body, "#")
		if !first && !blank && len(line)-len(body) < n.Column-1 {
			break
		}
		if !blank {
			end = at + len(strings.TrimRight(line, "\r"))
		}
		at = next + 1
	}
	return end
}

// flowEnd is where a flow mapping, or a scalar on one line, that starts at a place ends.
func flowEnd(text []byte, at int) int {
	switch text[at] {
	case '{':
		depth := 0
		for i := at; i < len(text); i++ {
			switch c := text[i]; {
			case c == '{' || c == '[':
				depth++
			case c == '}' || c == ']':
				if depth--; depth == 0 {
					return i + 1
				}
			case (c == '"' || c == '\'') && bytes.IndexByte([]byte(" ,:[{\n"), text[i-1]) >= 0:
				i = quoteEnd(text, i) - 1
			case c == '#' && (text[i-1] == ' ' || text[i-1] == '\n'):
				for i+1 < len(text) && text[i+1] != '\n' {
					i++
				}
			}
		}
		return len(text)
	case '"', '\'':
		return quoteEnd(text, at)
	default:
		end := at
		for end < len(text) && bytes.IndexByte([]byte(" ,}\r\n"), text[end]) < 0 {
			end++
		}
		return end
	}
}

// quoteEnd is behind the quote that closes the one at a place.
func quoteEnd(text []byte, at int) int {
	quote := text[at]
	for i := at + 1; i < len(text); i++ {
		switch {
		case quote == '"' && text[i] == '\\':
			i++
		case text[i] == quote && quote == '\'' && i+1 < len(text) && text[i+1] == quote:
			i++
		case text[i] == quote:
			return i + 1
		}
	}
	return len(text)
}

// same says what of two texts differs but for expectations; nil where nothing does.
func same(before, after []byte) error {
	shape := func(text []byte) (string, error) {
		docs, err := documents(text)
		if err != nil {
			return "", err
		}
		var b strings.Builder
		for _, doc := range docs {
			for _, field := range []string{"tests", "asks"} {
				if tests := child(doc.node, field); tests != nil {
					for _, t := range tests.Content {
						remove(t, "expect")
					}
				}
			}
			var value any
			if err := doc.node.Decode(&value); err != nil {
				return "", err
			}
			fmt.Fprintf(&b, "%v\n", value)
		}
		return b.String(), nil
	}
	want, err := shape(before)
	if err != nil {
		return err
	}
	got, err := shape(after)
	if err != nil {
		return err
	}
	if want != got {
		return fmt.Errorf("more than expect would change")
	}
	return nil
}
