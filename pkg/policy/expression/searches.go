package expression

import (
	"reflect"
	"time"
)

// Searches remembers what searches through the objects of one decision have found, for its
// rules: most ask the same of the same objects. It is not safe for concurrent use.
type Searches struct {
	found map[search][]any
}

// search is a function, with what it is called with besides, of an object. An object is told
// by its address, which no other can have while the variables hold it.
type search struct {
	function string
	object   uintptr
}

// NewSearches returns Searches that remember nothing yet.
func NewSearches() *Searches { return &Searches{found: map[search][]any{}} }

// once runs a search, unless it has been run on that object. Only the objects of the request
// are remembered: what an expression makes comes and goes.
func (m *meter) once(function string, v any, run func() ([]any, error)) ([]any, error) {
	object, ok := v.(map[string]any)
	if !ok || m.variables == nil || m.variables.Searches == nil || !m.whole(object) {
		return run()
	}
	key := search{function, reflect.ValueOf(object).Pointer()}
	if found, ok := m.variables.Searches.found[key]; ok {
		return found, m.tick(found)
	}
	// What is found once for all rules is no rule's own work: the few functions on the three
	// objects take time that is linear in the request, up to the deadline of all rules.
	start, own := time.Now(), m.own
	m.own = m.deadline
	found, err := run()
	m.own = own.Add(time.Since(start))
	if err == nil {
		m.variables.Searches.found[key] = found
	}
	return found, err
}

// whole says whether a map is an object of the request.
func (m *meter) whole(object map[string]any) bool {
	for _, v := range []any{m.variables.Object, m.variables.OldObject, m.variables.Target} {
		whole, ok := v.(map[string]any)
		if ok && reflect.ValueOf(whole).Pointer() == reflect.ValueOf(object).Pointer() {
			return true
		}
	}
	return false
}
