// Package show turns Holdfast's kinds into what people read on a terminal.
//
// It is pure: it asks no API server and reads no clock but the time it is given. It lets
// nothing that an agent wrote reach a terminal unescaped: reasons, names and changes are the
// agent's words, and an agent may want its approver to see something else than what is there.
package show

import (
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// blank are letters and symbols that Unicode calls printable and fonts draw as nothing.
const blank = "\u115f\u1160\u3164\uffa0\u2800"

// Line is s on one line, with everything that a terminal would obey, or hide, made visible:
// control characters, escape sequences, bidirectional marks and overrides, zero-width and
// private characters, unusual spaces, bytes that are no UTF-8. They become \uXXXX, as JSON
// writes them (two of them beyond the basic plane), or \xXX where they are no UTF-8. What
// is written there already as \uXXXX stays: it is for eyes, not for parsers.
func Line(s string) string { return visible(s, "") }

// Block is Line for text of several lines: line feeds and tabs stay.
func Block(s string) string { return visible(s, "\n\t") }

func visible(s, keep string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case strings.ContainsRune(keep, r), unicode.IsPrint(r) && !strings.ContainsRune(blank, r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		i += size
	}
	return b.String()
}

// quote prints text of several lines behind a bar, so that no line of it can pass for one of
// ours. paint may colour a line; nil leaves it.
func quote(w io.Writer, indent, s string, paint func(string) string) {
	for line := range strings.SplitSeq(strings.TrimRight(Block(s), "\n"), "\n") {
		if paint != nil {
			line = paint(line)
		}
		printf(w, "%s| %s\n", indent, line)
	}
}

// Palette colours text, or, where it is false, does not.
type Palette bool

// Codes of ECMA-48.
const (
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
	bold   = "1"
)

func (p Palette) paint(code, s string) string {
	if !p || s == "" {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

// Good colours what is as it should be.
func (p Palette) Good(s string) string { return p.paint(green, s) }

// Bad colours what is not.
func (p Palette) Bad(s string) string { return p.paint(red, s) }

// Diff colours one line of a change by its first character.
func (p Palette) Diff(line string) string {
	switch {
	case strings.HasPrefix(line, "+"):
		return p.paint(green, line)
	case strings.HasPrefix(line, "-"):
		return p.paint(red, line)
	case strings.HasPrefix(line, "~"):
		return p.paint(yellow, line)
	case strings.HasPrefix(line, "@@"):
		return p.paint(cyan, line)
	}
	return line
}

// printf writes to a buffer or a terminal; what closes under it shows in the next write.
func printf(w io.Writer, format string, args ...any) { _, _ = fmt.Fprintf(w, format, args...) }
