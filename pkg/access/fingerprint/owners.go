package fingerprint

import (
	"strings"

	utiljson "k8s.io/apimachinery/pkg/util/json"
)

// owners says which fields of an object clients have set, by its managedFields. The API
// server writes them before anything is allocated, and a client that sends some of its own
// can only add to them: what it sets is its own. nil knows nothing, and says that clients
// own all.
type owners struct {
	// sets are in the form of FieldsV1 (k8s.io/apimachinery
	// pkg/apis/meta/v1/types.go): f:<field>, k:<keys of a list's element as JSON>; an
	// empty set is a field owned with all that is below it.
	sets []map[string]any
}

// parseOwners returns nil where there are no managedFields, as the API server drops them
// where it fails to make them, and where they are in a form or version other than the
// object's.
func parseOwners(o map[string]any) *owners {
	entries, _ := metadata(o)["managedFields"].([]any)
	version := str(o["apiVersion"])
	by := &owners{}
	for _, entry := range entries {
		e := object(entry)
		fields := object(e["fieldsV1"])
		if fields == nil || str(e["fieldsType"]) != "FieldsV1" || version == "" || str(e["apiVersion"]) != version {
			return nil
		}
		by.sets = append(by.sets, fields)
	}
	if len(by.sets) == 0 {
		return nil
	}
	return by
}

// own says whether a client set the field at a path.
func (by *owners) own(path ...string) bool {
	if by == nil {
		return true
	}
	for _, set := range by.sets {
		if node, whole := descend(set, path); whole || node != nil {
			return true
		}
	}
	return false
}

// descend returns the set at a path; whole says that a field above it is owned with all that
// it has.
func descend(node map[string]any, path []string) (found map[string]any, whole bool) {
	for i, k := range path {
		if i > 0 && len(node) == 0 {
			return nil, true
		}
		child, ok := node["f:"+k]
		if !ok {
			return nil, false
		}
		if node, ok = child.(map[string]any); !ok {
			return nil, true // a form that is not known
		}
	}
	return node, false
}

// element looks for a list's element: found says that some client has it, and owned that one
// has its field, or the list as a whole.
func (by *owners) element(list []string, element map[string]any, field string) (found, owned bool) {
	if by == nil {
		return true, true
	}
	for _, set := range by.sets {
		node, whole := descend(set, list)
		if whole || node != nil && len(node) == 0 {
			return true, true
		}
		for k, v := range node {
			if k == "." {
				continue
			}
			match, known := matches(k, element)
			if !known {
				return true, true
			}
			if match {
				found = true
				fields, ok := v.(map[string]any)
				_, has := fields["f:"+field]
				owned = owned || !ok || len(fields) == 0 || has
			}
		}
	}
	return found, owned
}

// ownElement says whether a client set a field of a list's element. An element that no
// client has cannot be told, and counts as theirs.
func (by *owners) ownElement(list []string, element map[string]any, field string) bool {
	found, owned := by.element(list, element, field)
	return owned || !found
}

// hasElement says whether a client has set the element at all.
func (by *owners) hasElement(list []string, element map[string]any) bool {
	found, _ := by.element(list, element, "")
	return found
}

// matches says whether a path element such as k:{"port":80} is that of a list's element;
// known is false where it is in another form.
func matches(k string, element map[string]any) (match, known bool) {
	raw, ok := strings.CutPrefix(k, "k:")
	if !ok {
		return false, false
	}
	var keys map[string]any
	if err := utiljson.Unmarshal([]byte(raw), &keys); err != nil || len(keys) == 0 {
		return false, false
	}
	for field, want := range keys {
		if got, ok := element[field]; !ok || !same(got, want) {
			return false, true
		}
	}
	return true, true
}
