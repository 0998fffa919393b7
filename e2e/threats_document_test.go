package e2e

import (
	"bytes"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"text/template"
)

var update = flag.Bool("update", false, "write the documents that are made from tables")

const (
	threatTemplate = "testdata/threat-model.md"
	threatDocument = "../docs/threat-model.md"
)

// TestThreatModel holds docs/threat-model.md against the table.
func TestThreatModel(t *testing.T) {
	t.Parallel()
	text, err := template.ParseFiles(threatTemplate)
	if err != nil {
		t.Fatal(err)
	}
	var made bytes.Buffer
	if err := text.Execute(&made, documentOf(Threats())); err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(threatDocument, made.Bytes(), 0o644); err != nil { //nolint:gosec // a document
			t.Fatal(err)
		}
	}
	there, err := os.ReadFile(threatDocument)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(there, made.Bytes()) {
		t.Errorf("%s is not what the table says; make generate writes it", threatDocument)
	}
}

// document is what the template is filled with.
type document struct {
	Parts   []documentPart
	Waiting []documentCase
}

type documentPart struct {
	Title string
	Cases []documentCase
}

type documentCase struct {
	ID, Title, Verdict, Rules, Proof, Control, Beyond, Waits string
	Trials                                                   []documentTrial
}

type documentTrial struct{ Name, Verdict, Rule string }

// inWords are the verdicts as the document has them.
var inWords = map[Verdict]string{Denied: "denied", Held: "held", Unheld: "refused", Allowed: "allowed", Unasked: "free"}

func documentOf(cases []Threat) document {
	d := document{Parts: []documentPart{{Title: "Routes around a rule"}, {Title: "Ways to a Secret other than reading it"}}}
	for i := range cases {
		part := 0
		if strings.HasPrefix(cases[i].ID, "S") {
			part = 1
		}
		made := documentCaseOf(&cases[i])
		d.Parts[part].Cases = append(d.Parts[part].Cases, made)
		if made.Waits != "" {
			d.Waiting = append(d.Waiting, made)
		}
	}
	return d
}

func documentCaseOf(c *Threat) documentCase {
	made := documentCase{
		ID: c.ID, Title: cell(c.Title), Verdict: capital(c.words(c.Verdict)), Proof: "`TestThreats/on/" + c.ID + "`.",
		Control: c.Control, Beyond: c.Beyond, Waits: c.Waits,
	}
	if !c.played() && c.Waits == "" {
		made.Waits = "somebody who writes it"
	}
	if made.Waits != "" {
		made.Proof = "Not played yet."
	}
	if len(c.Trials) > 1 {
		for _, trial := range c.Trials {
			made.add(documentTrial{Name: cell(trial.Name), Verdict: c.words(trial.verdict(c)), Rule: codes([]string{trial.Rule})})
		}
	} else {
		made.Rules = codes(c.rules())
	}
	if len(c.Rules) > 0 {
		made.Rules = codes(c.Rules)
	}
	return made
}

// add adds a trial to those that end in the same way, by the same rule.
func (d *documentCase) add(trial documentTrial) {
	for i, before := range d.Trials {
		if before.Verdict == trial.Verdict && before.Rule == trial.Rule {
			d.Trials[i].Name += "; " + trial.Name
			return
		}
	}
	d.Trials = append(d.Trials, trial)
}

// words is a verdict in words.
func (c *Threat) words(v Verdict) string {
	if v == Effect {
		return c.Effect
	}
	return inWords[v]
}

// codes are names in code marks; rules of a trial's own policy are not the baseline's, and
// said to be so.
func codes(rules []string) string {
	var marked []string
	for _, rule := range rules {
		switch {
		case rule == "":
		case strings.HasPrefix(rule, "baseline-") || strings.HasPrefix(rule, "holdfast"):
			marked = append(marked, "`"+rule+"`")
		default:
			marked = append(marked, "one of the test's own")
		}
	}
	return strings.Join(slices.Compact(marked), ", ")
}

func cell(text string) string {
	return strings.NewReplacer("|", `\|`, "*", `\*`, "<", `\<`).Replace(text)
}

func capital(text string) string {
	if text == "" {
		return ""
	}
	return strings.ToUpper(text[:1]) + text[1:]
}
