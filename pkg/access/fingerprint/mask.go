package fingerprint

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// hidden stands for a value that nobody is shown, but for its size. Two are equal where the
// values are.
type hidden struct {
	canonical canonical
	size      int
}

// canonical is a value in the one form that it has.
type canonical string

func hide(v any, isBase64 bool) *hidden {
	var b strings.Builder
	e := &encoder{to: &b}
	e.value(v)
	e.flush()
	h := &hidden{canonical: canonical(b.String())}
	switch v := v.(type) {
	case nil:
	case string:
		h.size = len(v)
		if raw, err := base64.StdEncoding.DecodeString(v); isBase64 && err == nil {
			h.size = len(raw)
		}
	default:
		if raw, err := json.Marshal(v); err == nil {
			h.size = len(raw)
		}
	}
	return h
}

// conceal copies an object with the values of Secrets hidden: all of a Secret that is not
// known to be harmless, wherever it stands; what was last applied, which repeats the object;
// tokens; and texts that have a manifest of a Secret in them.
func conceal(r *decision.Request, o map[string]any) map[string]any {
	switch {
	case o == nil:
		return nil
	case r.Resource == "secrets": // in any group
		return concealSecret(o)
	}
	m, _ := concealValue(o).(map[string]any)
	return m
}

func concealValue(v any) any {
	switch v := v.(type) {
	case string:
		if manifest.MatchString(v) {
			return hide(v, false)
		}
	case []any:
		list := make([]any, len(v))
		for i := range v {
			list[i] = concealValue(v[i])
		}
		return list
	case map[string]any:
		return concealMap(v)
	}
	return v
}

func concealMap(o map[string]any) map[string]any {
	switch kind := str(o["kind"]); kind {
	case "Secret":
		// What names a Secret, such as a reference, has nothing that is hidden.
		if o["data"] != nil || o["stringData"] != nil || o["metadata"] != nil {
			return concealSecret(o)
		}
	case "SecretList":
		o = maps.Clone(o)
		for _, item := range enterList(o, "items") {
			concealed := concealSecret(item)
			maps.Copy(item, concealed)
		}
		return o
	case "TokenRequest", "TokenReview":
		o = maps.Clone(o)
		for _, part := range []string{"spec", "status"} {
			if m := enter(o, part); m["token"] != nil {
				m["token"] = hide(m["token"], false)
			}
		}
	}
	copied := make(map[string]any, len(o))
	for k, v := range o {
		switch values, ok := v.(map[string]any); {
		case ok && k == "annotations":
			copied[k] = concealAnnotations(values)
		default:
			copied[k] = concealValue(v)
		}
	}
	return copied
}

// concealAnnotations hides copies of the whole object, as kubectl and other tools keep them.
func concealAnnotations(annotations map[string]any) map[string]any {
	copied := make(map[string]any, len(annotations))
	for k, v := range annotations {
		if strings.Contains(k, "last-applied") {
			copied[k] = hide(v, false)
			continue
		}
		copied[k] = concealValue(v)
	}
	return copied
}

// harmless are the fields of a Secret, and those of its metadata, that say nothing of its
// values.
var (
	harmless         = []string{"apiVersion", "kind", "type", "immutable"}
	harmlessMetadata = []string{
		"name", "generateName", "namespace", "uid", "labels", "finalizers", "ownerReferences",
		"creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds",
	}
)

func concealSecret(o map[string]any) map[string]any {
	copied := make(map[string]any, len(o))
	for k, v := range o {
		switch values, ok := v.(map[string]any); {
		case slices.Contains(harmless, k) && scalar(v):
			copied[k] = v
		case ok && k == "metadata":
			copied[k] = concealMetadata(values)
		case ok:
			copied[k] = hideEach(values, k == "data")
		default:
			copied[k] = hide(v, false)
		}
	}
	return copied
}

func concealMetadata(meta map[string]any) map[string]any {
	copied := make(map[string]any, len(meta))
	for k, v := range meta {
		_, isFilled := v.(filled)
		switch values, ok := v.(map[string]any); {
		case isFilled || slices.Contains(harmlessMetadata, k):
			copied[k] = v
		case ok && k == "annotations":
			copied[k] = hideEach(values, false)
		default:
			copied[k] = hide(v, false)
		}
	}
	return copied
}

func hideEach(values map[string]any, isBase64 bool) map[string]any {
	copied := make(map[string]any, len(values))
	for k, v := range values {
		copied[k] = hide(v, isBase64)
	}
	return copied
}

// manifest finds a kind that bears secrets in a text: JSON, YAML, a template, prose around
// them.
var manifest = regexp.MustCompile(
	`kind\\*["']?\s*:\s*[>|]?-?\s*\\*["']?(Secret|SecretList|TokenRequest|TokenReview)\b`)
