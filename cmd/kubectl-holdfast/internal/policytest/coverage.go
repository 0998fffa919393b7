package policytest

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// Rule is a rule of a policy, an entry of requestable, or the default.
type Rule struct {
	File string `json:"file"`
	Line int    `json:"line"`
	// Name is policy/rule; for a default of Hold or Deny the policy's name alone.
	Name string `json:"name"`
}

// coverage is what rules there are, and whether they decided in a test or, of Warn and Audit
// policies, would have.
type coverage map[Rule]bool

// rules adds those of a suite.
func (c coverage) rules(s *suite) {
	for _, f := range s.policies {
		for _, p := range f.policies {
			for _, r := range p.rules(f.name) {
				if _, known := c[r]; !known {
					c[r] = false
				}
			}
		}
	}
}

// add notes what one case hit.
func (c coverage) add(s *suite, got *Seen) {
	for _, f := range s.policies {
		for _, p := range f.policies {
			for _, r := range p.rules(f.name) {
				if slices.Contains(got.hit, r.Name) {
					c[r] = true
				}
			}
		}
	}
}

func (p *policyEntry) rules(file string) []Rule {
	var all []Rule
	if d := p.object.Spec.Default; d != "" && d != "Allow" {
		all = append(all, Rule{File: file, Line: lookup(p.node, "spec.default").Line, Name: p.object.Name})
	}
	add := func(list string, i int, name string) {
		line := p.node.Line
		if n := child(lookup(p.node, list), strconv.Itoa(i)); n != nil {
			line = n.Line
		}
		all = append(all, Rule{File: file, Line: line, Name: p.object.Name + "/" + name})
	}
	for i := range p.object.Spec.Rules {
		add("spec.rules", i, p.object.Spec.Rules[i].Name)
	}
	for i := range p.object.Spec.Requestable {
		add("spec.requestable", i, p.object.Spec.Requestable[i].Name)
	}
	return all
}

// requestable says whether a name, as policy/name, is that of an entry of requestable.
func (s *suite) requestable(name string) bool {
	for _, f := range s.policies {
		for _, p := range f.policies {
			for i := range p.object.Spec.Requestable {
				if name == p.object.Name+"/"+p.object.Spec.Requestable[i].Name {
					return true
				}
			}
		}
	}
	return false
}

// unexercised is how many rules there are, and those that no test hit.
func (c coverage) unexercised() (int, []Rule) {
	missed := []Rule{}
	for r, hit := range c {
		if !hit {
			missed = append(missed, r)
		}
	}
	slices.SortFunc(missed, func(a, b Rule) int {
		return cmp.Or(strings.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), strings.Compare(a.Name, b.Name))
	})
	return len(c), missed
}
