package fingerprint

import (
	"encoding/binary"
	"io"
	"maps"
	"math"
	"slices"
)

// The tags of the encoding. Each value starts with one, and is followed by its length, or has
// a fixed one: no encoding is the beginning of another.
const (
	tagNil    = 'n'
	tagFalse  = 'F'
	tagTrue   = 'T'
	tagInt    = 'i'
	tagFloat  = 'f'
	tagString = 's'
	tagList   = 'l'
	tagMap    = 'm'
	tagFilled = 'a'
	tagHidden = 'h'
	tagChange = 'c'
	tagEnd    = 'e'
)

// encoder writes values in the one form that they have.
type encoder struct {
	to  io.Writer // a hash, which never fails
	buf []byte
}

func (e *encoder) flush() {
	_, _ = e.to.Write(e.buf)
	e.buf = e.buf[:0]
}

func (e *encoder) byte(b byte) {
	if e.buf = append(e.buf, b); len(e.buf) >= 4096 {
		e.flush()
	}
}

func (e *encoder) present(b bool) {
	if b {
		e.byte(tagTrue)
		return
	}
	e.byte(tagFalse)
}

func (e *encoder) number(tag byte, n uint64) {
	e.byte(tag)
	e.buf = binary.BigEndian.AppendUint64(e.buf, n)
}

func (e *encoder) length(tag byte, n int) {
	e.number(tag, uint64(n)) //nolint:gosec // lengths are not negative
}

func (e *encoder) str(s string) {
	e.length(tagString, len(s))
	e.buf = append(e.buf, s...)
}

// value encodes a JSON value that checkValue has let pass.
func (e *encoder) value(v any) {
	switch v := v.(type) {
	case string:
		e.str(v)
	case bool:
		e.present(v)
	case int:
		e.number(tagInt, uint64(v)) //nolint:gosec // the bits count
	case int64:
		e.number(tagInt, uint64(v)) //nolint:gosec // the bits count
	case float64:
		e.number(tagFloat, math.Float64bits(v+0)) // -0 is 0
	case filled:
		e.byte(tagFilled)
		e.str(string(v))
	case *hidden: // in digests that people are shown: they tell no more than the text
		e.length(tagHidden, v.size)
	case []any:
		e.length(tagList, len(v))
		for _, child := range v {
			e.value(child)
		}
	case map[string]any:
		e.length(tagMap, len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			e.str(k)
			e.value(v[k])
		}
	default:
		e.byte(tagNil)
	}
}
