package fingerprint

import (
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// show writes a value that has nothing in it. What stands in angle brackets is Holdfast's
// own, as strings have quotes.
func (d *differ) show(v any) string {
	switch v := v.(type) {
	case string:
		return d.clipped(v, strconv.Quote)
	case filled:
		return "<" + string(v) + ">"
	case *hidden:
		return "<masked, " + strconv.Itoa(v.size) + " bytes>"
	case bool:
		return strconv.FormatBool(v)
	case int64:
		return strconv.FormatInt(v, 10)
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64)
	case []any:
		return "[]"
	case map[string]any:
		return "{}"
	default:
		return "null"
	}
}

// clipped writes the beginning of a string in some way, and says how much is missing.
func (d *differ) clipped(s string, write func(string) string) string {
	if len(s) <= d.clip {
		return write(s)
	}
	n := d.clip
	for n > d.clip-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	d.clippedBytes += len(s) - n
	return write(s[:n]) + "... (" + strconv.Itoa(len(s)-n) + " more bytes)"
}

// plainKey is a key that is shown as it is.
var plainKey = regexp.MustCompile(`^[A-Za-z0-9_$-]+$`)

// join writes a path, and says how many steps are missing where it is long.
func (d *differ) join(path []any) string {
	var b strings.Builder
	for i, step := range path {
		if b.Len() > 2*d.clip {
			b.WriteString("... (" + strconv.Itoa(len(path)-i) + " more steps)")
			break
		}
		switch step := step.(type) {
		case int:
			b.WriteString("[" + strconv.Itoa(step) + "]")
		case string:
			switch {
			case len(step) > d.clip || !plainKey.MatchString(step):
				b.WriteString("[" + d.clipped(step, strconv.Quote) + "]")
			case b.Len() > 0:
				b.WriteString("." + step)
			default:
				b.WriteString(step)
			}
		}
	}
	return b.String()
}

// escape makes control characters visible, and those that turn the direction of text: what
// an agent wrote must not steer an approver's terminal.
func escape(s string) string {
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}
