package fingerprint

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

const (
	tagDiff = "holdfast.dev/change/v1"
	// minClip is what is shown of any one value or key at least, in bytes.
	minClip = 64
	// lastLine bounds the line that says how much was cut.
	lastLine = 100
)

// Diff returns the change that a request makes, for people who approve it, in at most
// maxBytes, and the SHA-256 of the whole change in hex. The lines are sorted by path:
//
//   - path: what is there
//   - path: what will be there
//
// after "- " and "+ ". Of a text of several lines those that change are shown, as
// path line N: |text. A create has only what will be there; a delete is one line. What Sum
// leaves out is left out here too.
//
// Values of Secrets are shown as <masked, N bytes>, and the digest knows no more than that:
// two changes of a Secret have different fingerprints, but may have one digest. No bytes but
// printable ones and line ends come out. No value takes more than an eighth of maxBytes, and
// says how much of it is missing; where anything is missing, the last line says how much. An
// object that Sum refuses is not shown, and a line says why. The request is not changed.
func Diff(r *decision.Request, maxBytes int) (diff, digest string) {
	sum := sha256.New()
	e := &encoder{to: sum}
	e.str(tagDiff)
	d := &differ{max: max(maxBytes, 0)}
	d.clip = max(d.max/8, minClip)
	before, after, err := shown(r)
	switch {
	case err != nil:
		line := "! this change cannot be shown: " + escape(err.Error())
		e.str(line)
		d.line(line)
	case r.Verb == "delete" || r.Verb == "deletecollection":
		e.value(after)
		e.value(deletion(r))
		d.deletion(r)
	case r.Verb == "update":
		e.changes(before, after)
		d.compare(before, after, nil)
	default:
		e.value(after)
		d.side("+ ", nil, after)
	}
	e.flush()
	return d.end(), hex.EncodeToString(sum.Sum(nil))
}

// shown returns the objects of which people are shown the change, with secrets hidden.
func shown(r *decision.Request) (before, after map[string]any, err error) {
	if err := check(r); err != nil {
		return nil, nil, err
	}
	switch r.Verb {
	case "create":
		after = created(r)
	case "update":
		before, after = updated(r)
	case "delete", "deletecollection":
		return nil, map[string]any{
			"verb": r.Verb, "group": r.Group, "resource": r.FullResource(), "namespace": r.Namespace,
			"name": r.Name, "uid": str(metadata(r.OldObject)["uid"]),
		}, nil
	default:
		after = r.Object
	}
	return conceal(r, before), conceal(r, after), nil
}

// differ writes as many lines as fit, and counts the others.
type differ struct {
	max, clip int
	text      strings.Builder
	// lines are those so far; fits is the length of the text that leaves room for the last
	// line, and fitted how many lines it has.
	lines, fits, fitted int
	cutting             bool
	// clippedBytes are those that are missing in values and keys.
	clippedBytes int
}

func (d *differ) end() string {
	text, fitted := d.text.String(), d.lines
	switch {
	case !d.cutting && d.clippedBytes == 0:
		return text
	case d.cutting || len(text)+lastLine > d.max:
		text, fitted = text[:d.fits], d.fitted
	}
	text += fmt.Sprintf("... cut: %d of %d lines, and %d bytes of others, are not shown\n",
		d.lines-fitted, d.lines, d.clippedBytes)
	return text[:min(len(text), d.max)]
}

// line writes one line, which is clean.
func (d *differ) line(s string) {
	d.lines++
	if d.cutting || d.text.Len()+len(s)+1 > d.max {
		d.cutting = true
		return
	}
	d.text.WriteString(s + "\n")
	if d.text.Len()+lastLine <= d.max {
		d.fits, d.fitted = d.text.Len(), d.lines
	}
}

func (d *differ) compare(before, after any, path []any) {
	c := &comparer{emit: d.change}
	c.compare(before, after, path)
}

func (d *differ) change(c change) {
	old, isList := c.old.value.([]any)
	now, willBe := c.new.value.([]any)
	before, isText := c.old.value.(string)
	after, willBeText := c.new.value.(string)
	switch {
	case isList && willBe:
		d.changeList(c.path, old, now)
	case isText && willBeText && strings.Contains(before+after, "\n"):
		d.changeText(c.path, strings.Split(before, "\n"), strings.Split(after, "\n"))
	default:
		if c.old.has {
			d.side("- ", c.path, c.old.value)
		}
		if c.new.has {
			d.side("+ ", c.path, c.new.value)
		}
	}
}

// changeList shows lists of different lengths, without the elements at both ends that are
// equal.
func (d *differ) changeList(path []any, old, now []any) {
	start, end := common(len(old), len(now), func(i, j int) bool { return same(old[i], now[j]) })
	old, now = old[:len(old)-end], now[:len(now)-end]
	at := append(slices.Clone(path), 0) // the path is the comparer's
	for i := start; i < max(len(old), len(now)); i++ {
		at[len(path)] = i
		switch {
		case i >= len(now):
			d.side("- ", at, old[i])
		case i >= len(old):
			d.side("+ ", at, now[i])
		default:
			d.compare(old[i], now[i], at)
		}
	}
}

// changeText does the same for the lines of a text.
func (d *differ) changeText(path []any, old, now []string) {
	start, end := common(len(old), len(now), func(i, j int) bool { return old[i] == now[j] })
	d.textLines("- ", path, old[:len(old)-end], start)
	d.textLines("+ ", path, now[:len(now)-end], start)
}

func (d *differ) textLines(sign string, path []any, lines []string, from int) {
	for i := from; i < len(lines); i++ {
		if d.cutting {
			d.lines += len(lines) - i
			return
		}
		d.line(sign + d.join(path) + " line " + strconv.Itoa(i+1) + ": |" + d.clipped(lines[i], escape))
	}
}

// common returns how many elements are equal at the beginning and, of the others, at the end.
func common(n, m int, equal func(i, j int) bool) (start, end int) {
	for start < min(n, m) && equal(start, start) {
		start++
	}
	for end < min(n, m)-start && equal(n-1-end, m-1-end) {
		end++
	}
	return start, end
}

// side shows a value with everything in it.
func (d *differ) side(sign string, path []any, v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			d.side(sign, append(path, k), v[k])
		}
		if len(v) > 0 {
			return
		}
	case []any:
		for i := range v {
			d.side(sign, append(path, i), v[i])
		}
		if len(v) > 0 {
			return
		}
	case string:
		if strings.Contains(v, "\n") {
			d.textLines(sign, path, strings.Split(v, "\n"), 0)
			return
		}
	}
	switch {
	case len(path) == 0:
	case d.cutting:
		d.lines++ // no need to write what nobody sees
	default:
		d.line(sign + d.join(path) + ": " + d.show(v))
	}
}

// deletion is one line.
func (d *differ) deletion(r *decision.Request) {
	quoted := func(s string) string { return d.clipped(s, strconv.Quote) }
	what := "- " + escape(r.Verb) + " " + escape(r.FullResource())
	if r.Group != "" {
		what += "." + escape(r.Group)
	}
	if r.Name != "" {
		what += " " + quoted(r.Name)
	}
	if r.Namespace != "" && !is(r, "", "namespaces") {
		what += " in namespace " + quoted(r.Namespace)
	}
	what += ", uid " + quoted(str(metadata(r.OldObject)["uid"]))
	options := &differ{max: d.max, clip: d.clip}
	options.side(", ", nil, deletion(r))
	d.clippedBytes += options.clippedBytes
	d.line(what + strings.ReplaceAll(options.text.String(), "\n", ""))
}
