package postgres

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Postgres' text has no NUL and no invalid UTF-8, and its jsonb neither those nor lone
// surrogates, numbers beyond its numeric, or very deep nesting. An event may have all of
// them, so they are written as an escape that Unescape can undo. It starts with U+2400, the
// symbol for NUL, and one letter:
//
//	␀0      NUL
//	␀␀      U+2400 itself
//	␀xHH    a byte that is no UTF-8
//	␀uHHHH  a lone surrogate (jsonb)
//	␀n...   the whole string is a number (jsonb)
//	␀j...   the whole string is a JSON text (jsonb)
const escape = "␀"

const (
	// maxNumber bounds the length of a number that stays one, in bytes.
	maxNumber = 100
	// maxExponent bounds its exponent. numeric goes to 131072 digits, but a few bytes of JSON
	// must not become 128 KiB each time that a row is read.
	maxExponent = 400
	// maxDepth bounds nesting. Postgres gives up at some thousands, by its stack.
	maxDepth = 500
)

// escapeText returns s in a form that text can hold.
func escapeText(s string) string {
	if !strings.ContainsRune(s, 0) && !strings.Contains(s, escape) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		r, size := utf8.DecodeRuneInString(s[i:])
		switch {
		case r == 0:
			b.WriteString(escape + "0")
		case r == '␀':
			b.WriteString(escape + escape)
		case r == utf8.RuneError && size == 1:
			fmt.Fprintf(&b, escape+"x%02x", s[i])
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

// Unescape undoes the escapes inside of a string that was read from text or jsonb. Strings
// that stand for a number or a JSON text come back as what they stand for, unquoted; a lone
// surrogate comes back as \uHHHH.
func Unescape(s string) string {
	if !strings.Contains(s, escape) {
		return s
	}
	if rest, ok := strings.CutPrefix(s, escape+"n"); ok {
		return rest
	}
	if rest, ok := strings.CutPrefix(s, escape+"j"); ok {
		return Unescape(rest)
	}
	var b strings.Builder
	for {
		before, after, ok := strings.Cut(s, escape)
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		var n int
		switch {
		case strings.HasPrefix(after, "0"):
			b.WriteByte(0)
			n = 1
		case strings.HasPrefix(after, escape):
			b.WriteString(escape)
			n = len(escape)
		case strings.HasPrefix(after, "x") && len(after) >= 3:
			if v, err := strconv.ParseUint(after[1:3], 16, 8); err == nil {
				b.WriteByte(byte(v))
			}
			n = 3
		case strings.HasPrefix(after, "u") && len(after) >= 5:
			b.WriteString(`\u` + after[1:5])
			n = 5
		}
		s = after[n:]
	}
}

// escapeJSON returns a valid JSON text in a form that jsonb can hold.
func escapeJSON(data []byte) []byte {
	e := jsonEscaper{in: data}
	for e.pos < len(e.in) {
		switch c := e.in[e.pos]; {
		case c == '"':
			e.string()
		case c == '-' || c >= '0' && c <= '9':
			e.number()
		case c == '{' || c == '[':
			e.depth++
			if e.depth > maxDepth {
				return quote(escape + "j" + escapeText(string(data)))
			}
			e.pos++
		case c == '}' || c == ']':
			e.depth--
			e.pos++
		default:
			e.pos++
		}
	}
	if e.out == nil {
		return data
	}
	return append(e.out, e.in[e.done:]...)
}

// jsonEscaper copies a JSON text from the first place on where it has to differ.
type jsonEscaper struct {
	in    []byte
	pos   int // what is being looked at
	done  int // up to here in is in out
	out   []byte
	depth int
}

// replace puts s in the place of n bytes at the position.
func (e *jsonEscaper) replace(n int, s string) {
	e.out = append(e.out, e.in[e.done:e.pos]...)
	e.out = append(e.out, s...)
	e.pos += n
	e.done = e.pos
}

func (e *jsonEscaper) number() {
	end := e.pos
	for end < len(e.in) && strings.IndexByte("+-.eE0123456789", e.in[end]) >= 0 {
		end++
	}
	text := string(e.in[e.pos:end])
	exponent := 0
	if i := strings.IndexAny(text, "eE"); i >= 0 {
		var err error
		if exponent, err = strconv.Atoi(text[i+1:]); err != nil {
			exponent = maxExponent + 1
		}
	}
	if len(text) > maxNumber || exponent > maxExponent || exponent < -maxExponent {
		e.replace(end-e.pos, `"`+escape+"n"+text+`"`)
		return
	}
	e.pos = end
}

// string handles the string that starts at the position.
func (e *jsonEscaper) string() {
	e.pos++
	for e.pos < len(e.in) && e.in[e.pos] != '"' {
		switch c := e.in[e.pos]; {
		case c == '\\':
			e.escaped()
		case c < utf8.RuneSelf:
			e.pos++
		default:
			r, size := utf8.DecodeRune(e.in[e.pos:])
			switch {
			case r == '␀':
				e.replace(size, escape+escape)
			case r == utf8.RuneError && size == 1:
				e.replace(1, fmt.Sprintf(escape+"x%02x", c))
			default:
				e.pos += size
			}
		}
	}
	e.pos++
}

// escaped handles a backslash and what follows it.
func (e *jsonEscaper) escaped() {
	r, ok := unicodeEscape(e.in[e.pos:])
	if !ok {
		e.pos += 2
		return
	}
	switch {
	case r == 0:
		e.replace(6, escape+"0")
	case r == '␀':
		e.replace(6, escape+escape)
	case r >= 0xd800 && r < 0xdc00:
		if low, ok := unicodeEscape(e.in[e.pos+6:]); ok && low >= 0xdc00 && low < 0xe000 {
			e.pos += 12
			return
		}
		fallthrough
	case r >= 0xdc00 && r < 0xe000:
		e.replace(6, fmt.Sprintf(escape+"u%04x", r))
	default:
		e.pos += 6
	}
}

// unicodeEscape reads \uHHHH.
func unicodeEscape(b []byte) (rune, bool) {
	if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
		return 0, false
	}
	v, err := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(v), err == nil
}

// quote writes a JSON string of text that is valid UTF-8 and has no NUL.
func quote(s string) []byte {
	out := make([]byte, 0, len(s)+2)
	out = append(out, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			out = append(out, '\\', c)
		case c < 0x20:
			out = fmt.Appendf(out, `\u%04x`, c)
		default:
			out = append(out, c)
		}
	}
	return append(out, '"')
}
