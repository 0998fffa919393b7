package fingerprint

import (
	"maps"
	"slices"
)

// side is a value before or after a change; has tells null from none.
type side struct {
	value any
	has   bool
}

// change is one path whose value is another after the request. Steps are keys (string) and
// indexes (int). The path is only good until the next change.
type change struct {
	path     []any
	old, new side
}

// compare emits the changes from one value to another, in the order of their paths. A list
// is an ordered value: of two that are as long as each other the elements are compared, any
// other list is one change as a whole.
func compare(before, after any, path []any, emit func(change)) {
	switch b := before.(type) {
	case map[string]any:
		if a, ok := after.(map[string]any); ok {
			compareMaps(b, a, path, emit)
			return
		}
	case []any:
		if a, ok := after.([]any); ok && len(a) == len(b) {
			for i := range b {
				compare(b[i], a[i], append(path, i), emit)
			}
			return
		}
	default:
		if scalar(after) && plain(before) == plain(after) {
			return
		}
	}
	emit(change{path: path, old: side{before, true}, new: side{after, true}})
}

func compareMaps(before, after map[string]any, path []any, emit func(change)) {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(before)), maps.Keys(after))
	slices.Sort(keys)
	for _, k := range slices.Compact(keys) {
		old, had := before[k]
		now, has := after[k]
		if had && has {
			compare(old, now, append(path, k), emit)
			continue
		}
		emit(change{path: append(path, k), old: side{old, had}, new: side{now, has}})
	}
}

// same says whether two values are equal.
func same(a, b any) bool {
	equal := true
	compare(a, b, nil, func(change) { equal = false })
	return equal
}

func scalar(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return false
	}
	return true
}

// plain is what a value is compared by.
func plain(v any) any {
	if h, ok := v.(*hidden); ok {
		return h.canonical
	}
	return v
}
