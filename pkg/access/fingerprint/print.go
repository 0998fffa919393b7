package fingerprint

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// escape makes control characters visible: what an agent wrote must not steer an approver's
// terminal.
func escape(s string) string {
	quoted := strconv.Quote(s)
	return strings.ReplaceAll(quoted[1:len(quoted)-1], `\"`, `"`)
}

// clip cuts a text to about limit bytes, at a character, and says how long it was.
func clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	cut := max(0, limit)
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return fmt.Sprintf("%s... (%d bytes)", s[:cut], len(s))
}

// compact writes a list or an object on one line, keys sorted, values as show writes them.
func compact(v any) string {
	var parts []string
	switch v := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			parts = append(parts, strconv.Quote(k)+": "+show(v[k], math.MaxInt))
		}
		return "{" + strings.Join(parts, ", ") + "}"
	case []any:
		for _, child := range v {
			parts = append(parts, show(child, math.MaxInt))
		}
		return "[" + strings.Join(parts, ", ") + "]"
	default:
		return fmt.Sprintf("<%T>", v) // checkValue lets no such value pass
	}
}
