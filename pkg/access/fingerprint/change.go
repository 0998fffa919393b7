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
	path []any
	// shared is how many steps at the beginning of the path are those of the change before:
	// full paths to each of many changes below a long key would make terabytes of 3 MB.
	shared   int
	old, new side
}

// comparer emits the changes from one value to another, in the order of their paths. A list
// is an ordered value: of two that are as long as each other the elements are compared, any
// other list is one change as a whole.
type comparer struct {
	emit   func(change)
	shared int
}

// compare compares what is at a path. Its recursion is bounded by checkValue.
func (c *comparer) compare(before, after any, path []any) {
	switch b := before.(type) {
	case map[string]any:
		if a, ok := after.(map[string]any); ok {
			c.maps(b, a, path)
			return
		}
	case []any:
		if a, ok := after.([]any); ok && len(a) == len(b) {
			for i := range b {
				c.shared = min(c.shared, len(path))
				c.compare(b[i], a[i], append(path, i))
			}
			return
		}
	default:
		if same(before, after) {
			return
		}
	}
	c.change(path, side{before, true}, side{after, true})
}

func (c *comparer) maps(before, after map[string]any, path []any) {
	keys := slices.AppendSeq(slices.Collect(maps.Keys(before)), maps.Keys(after))
	slices.Sort(keys)
	for _, k := range slices.Compact(keys) {
		old, had := before[k]
		now, has := after[k]
		c.shared = min(c.shared, len(path))
		if had && has {
			c.compare(old, now, append(path, k))
			continue
		}
		c.change(append(path, k), side{old, had}, side{now, has})
	}
}

func (c *comparer) change(path []any, old, now side) {
	c.emit(change{path: path, shared: c.shared, old: old, new: now})
	c.shared = len(path)
}

// same says whether two values are equal.
func same(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, same)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, same)
	}
	return scalar(b) && plain(a) == plain(b)
}

func scalar(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return false
	}
	return true
}

// plain is what a scalar is compared by.
func plain(v any) any {
	if h, ok := v.(*hidden); ok {
		return h.canonical
	}
	return v
}
