package fingerprint

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// minShown is what is shown of any one value at least, in bytes.
const minShown = 64

// Diff returns the change that a request makes, for people who approve it, in at most
// maxBytes, and the SHA-256 of the whole text in hex. The lines are sorted by path:
//
//   - path: what is there
//   - path: what will be there
//
// each after its sign, "- " or "+ ". Of a text of several lines, those that change are
// shown, as path line N: |text. A create has only what will be there, a delete is one line.
// What Sum leaves out is left out here too. Values of Secrets are shown as <masked, N bytes>,
// in the digest too: two changes of a Secret have different fingerprints, but may have one
// digest. No byte but printable ones and line ends comes out. No single value takes more than
// an eighth of maxBytes; where something is cut, the last line says how much. The request is
// not changed. An object that Sum refuses is not shown at all, and the line says why.
func Diff(r *decision.Request, maxBytes int) (diff, digest string) {
	d := &differ{max: max(maxBytes, 0), whole: sha256.New()}
	d.limit = max(d.max/8, minShown)
	if err := check(r); err != nil {
		d.line("", "! this change cannot be shown: "+err.Error(), "", nothing{})
		return d.end()
	}
	switch r.Verb {
	case "create":
		d.side("+ ", nil, conceal(r, created(r)))
	case "update":
		before, after := updated(r)
		compare(conceal(r, before), conceal(r, after), nil, d.change)
	case "delete", "deletecollection":
		d.deletion(r)
	default:
		d.side("+ ", nil, conceal(r, r.Object))
	}
	return d.end()
}

// differ writes lines to the digest, and as many as fit to the text.
type differ struct {
	max, limit int
	whole      hash.Hash
	shown      strings.Builder
	// full and lines count the whole; fits is the length of the text that leaves room for
	// the last line, and fitted its lines.
	full, lines, fits, fitted int
	cutting                   bool
}

// lastLine bounds the line that says how much was cut.
const lastLine = 120

func (d *differ) end() (diff, digest string) {
	digest = hex.EncodeToString(d.whole.Sum(nil))
	text := d.shown.String()
	if len(text) == d.full {
		return text, digest
	}
	if d.cutting || len(text)+lastLine > d.max {
		text = text[:d.fits]
	} else {
		d.fitted = d.lines
	}
	text += fmt.Sprintf("... cut: %d of %d lines and %d of %d bytes are not shown\n",
		d.lines-d.fitted, d.lines, d.full-len(text), d.full)
	return text[:min(len(text), d.max)], digest
}

// line writes one line: sign, path, and the value after between. A value of type filled or
// *hidden is said in angle brackets, which no other value has.
func (d *differ) line(sign, path, between string, value any) {
	whole := sign + path + between + show(value, math.MaxInt) + "\n"
	_, _ = d.whole.Write([]byte(whole))
	d.full += len(whole)
	d.lines++
	if d.cutting {
		return
	}
	part := sign + clip(path, d.limit) + between + show(value, d.limit) + "\n"
	if d.shown.Len()+len(part) > d.max {
		d.cutting = true
		return
	}
	d.shown.WriteString(part)
	if d.shown.Len()+lastLine <= d.max {
		d.fits, d.fitted = d.shown.Len(), d.lines
	}
}

func (d *differ) change(c change) {
	old, isList := c.old.value.([]any)
	now, willBe := c.new.value.([]any)
	before, isText := c.old.value.(string)
	after, willBeText := c.new.value.(string)
	switch {
	case isList && willBe:
		d.lists(c.path, old, now)
	case isText && willBeText && strings.Contains(before+after, "\n"):
		d.texts(c.path, strings.Split(before, "\n"), strings.Split(after, "\n"))
	default:
		if c.old.has {
			d.side("- ", c.path, c.old.value)
		}
		if c.new.has {
			d.side("+ ", c.path, c.new.value)
		}
	}
}

// lists shows lists of different lengths, without the elements at both ends that are equal.
func (d *differ) lists(path []any, old, now []any) {
	start, end := common(len(old), len(now), func(i, j int) bool { return same(old[i], now[j]) })
	old, now = old[:len(old)-end], now[:len(now)-end]
	for i := start; i < max(len(old), len(now)); i++ {
		at := append(slices.Clone(path), i)
		switch {
		case i >= len(now):
			d.side("- ", at, old[i])
		case i >= len(old):
			d.side("+ ", at, now[i])
		default:
			compare(old[i], now[i], at, d.change)
		}
	}
}

// texts does the same for the lines of a text.
func (d *differ) texts(path []any, old, now []string) {
	start, end := common(len(old), len(now), func(i, j int) bool { return old[i] == now[j] })
	d.textLines("- ", path, old[:len(old)-end], start)
	d.textLines("+ ", path, now[:len(now)-end], start)
}

func (d *differ) textLines(sign string, path []any, lines []string, from int) {
	at := join(path)
	for i := from; i < len(lines); i++ {
		d.line(sign, at, " line "+strconv.Itoa(i+1)+": ", textLine(lines[i]))
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
	if len(path) > 0 {
		d.line(sign, join(path), ": ", v)
	}
}

// deletion is one line.
func (d *differ) deletion(r *decision.Request) {
	what := r.Verb + " " + escape(r.FullResource())
	if r.Group != "" {
		what += "." + escape(r.Group)
	}
	if r.Name != "" {
		what += " " + show(r.Name, d.limit)
	}
	if r.Namespace != "" && !is(r, "", "namespaces") {
		what += " in namespace " + show(r.Namespace, d.limit)
	}
	what += ", uid " + show(str(metadata(r.OldObject)["uid"]), d.limit)
	compare(map[string]any{}, deletion(r.Options), nil, func(c change) {
		what += ", " + clip(join(c.path), d.limit) + " " + show(c.new.value, d.limit)
	})
	d.line("- ", "", what, nothing{})
}

// textLine is one line of a text, textLine or not shown with quotes.
type textLine string

// nothing is the value of a line that has none.
type nothing struct{}

// plainKey is a key that is shown as it is.
var plainKey = regexp.MustCompile(`^[A-Za-z0-9_$-]+$`)

func join(path []any) string {
	var b strings.Builder
	for _, step := range path {
		switch step := step.(type) {
		case int:
			b.WriteString("[" + strconv.Itoa(step) + "]")
		case string:
			switch {
			case !plainKey.MatchString(step):
				b.WriteString("[" + strconv.Quote(step) + "]")
			case b.Len() > 0:
				b.WriteString("." + step)
			default:
				b.WriteString(step)
			}
		}
	}
	return b.String()
}

// show writes a value with at most about limit bytes.
func show(v any, limit int) string {
	switch v := v.(type) {
	case nothing:
		return ""
	case nil:
		return "null"
	case filled:
		return "<" + string(v) + ">"
	case *hidden:
		return "<masked, " + strconv.Itoa(v.size) + " bytes>"
	case textLine:
		return clip("|"+escape(string(v)), limit)
	case string:
		return clip(strconv.Quote(v), limit)
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case []any:
		if len(v) == 0 {
			return "[]"
		}
	case map[string]any:
		if len(v) == 0 {
			return "{}"
		}
	}
	return clip(compact(v), limit)
}
