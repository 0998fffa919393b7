package structure

import (
	"slices"
	"strings"
)

// MaxPodSpecs is how many pod specs PodSpecs finds.
const MaxPodSpecs = 1000

// PodSpec is what looks like a pod spec.
type PodSpec struct {
	Spec map[string]any
	// Metadata is that of the pod or pod template: the map metadata beside the spec. Nil
	// where there is none.
	Metadata map[string]any
	Path     *Path
}

// PodSpecs finds, at any depth, what is a pod spec by its structure:
//
//   - a map that has containers, initContainers or ephemeralContainers, of which one at
//     least is a map;
//   - a map that has containers under other names, as workflows and pipelines do:
//     container or script, steps or sidecars, of which one has an image;
//   - the map under a key podSpec, or under spec below a key podTemplate or podTemplateSpec
//     (in any case, and also as the end of a longer key): such a template may leave its
//     containers to its controller, and ask for the host's network all the same.
//
// A pod spec inside of another is one more. The order is that of the keys on the way, so
// that equal values give equal lists. Nothing in nil. tick is called at every step, and
// its error ends the search; the other error is ErrBounds.
func PodSpecs(v any, tick func() error) ([]PodSpec, error) {
	w := podWalk{tick: tick}
	return w.walk(v, place{})
}

// podWalk is one search for pod specs.
type podWalk struct {
	tick  func() error
	count int
}

// place is where a value stands.
type place struct {
	path *Path
	// named: its key calls it a pod spec.
	named bool
	// metadata is what stands beside it.
	metadata map[string]any
}

func (w *podWalk) walk(v any, at place) ([]PodSpec, error) {
	if err := w.tick(); err != nil {
		return nil, err
	}
	if at.path.Depth() > MaxDepth {
		return nil, ErrBounds
	}
	switch v := v.(type) {
	case map[string]any:
		return w.walkMap(v, at)
	case []any:
		var all []PodSpec
		for i, item := range v {
			found, err := w.walk(item, place{path: at.path.Index(i)})
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
		return all, nil
	default:
		return nil, nil
	}
}

// under is what was found under one key.
type under struct {
	key   string
	specs []PodSpec
}

func (w *podWalk) walkMap(v map[string]any, at place) ([]PodSpec, error) {
	var all []PodSpec
	if at.named || hasContainers(v) {
		w.count++
		if w.count > MaxPodSpecs {
			return nil, ErrBounds
		}
		all = append(all, PodSpec{Spec: v, Metadata: at.metadata, Path: at.path})
	}
	metadata, _ := v["metadata"].(map[string]any)
	var below []under
	for key, child := range v {
		if !nested(child) {
			if err := w.tick(); err != nil {
				return nil, err
			}
			continue
		}
		specs, err := w.child(key, child, place{path: at.path.Key(key), metadata: metadata})
		if err != nil {
			return nil, err
		}
		if len(specs) > 0 {
			below = append(below, under{key, specs})
		}
	}
	slices.SortFunc(below, func(a, b under) int { return strings.Compare(a.key, b.key) })
	for _, u := range below {
		all = append(all, u.specs...)
	}
	return all, nil
}

// child searches the value of a key. Of a pod template it is the spec that is the pod spec.
func (w *podWalk) child(key string, child any, at place) ([]PodSpec, error) {
	m, ok := child.(map[string]any)
	switch lower := strings.ToLower(key); {
	case ok && strings.HasSuffix(lower, "podspec"):
		at.named = true
	case ok && (strings.HasSuffix(lower, "podtemplate") || strings.HasSuffix(lower, "podtemplatespec")):
		if _, ok := m["spec"].(map[string]any); ok {
			return w.template(m, at)
		}
	}
	return w.walk(child, at)
}

// template is walk on a pod template, which has a spec.
func (w *podWalk) template(m map[string]any, at place) ([]PodSpec, error) {
	metadata, _ := m["metadata"].(map[string]any)
	spec, err := w.walk(m["spec"], place{path: at.path.Key("spec"), named: true, metadata: metadata})
	if err != nil {
		return nil, err
	}
	rest := make(map[string]any, len(m))
	for key, v := range m {
		if key != "spec" {
			rest[key] = v
		}
	}
	others, err := w.walk(rest, at)
	if err != nil {
		return nil, err
	}
	return append(others, spec...), nil
}

// Containers are the keys under which the containers of a pod stand, in lists. Those of
// workflows and pipelines count as such only where one has an image: other kinds have steps,
// too.
var (
	Containers      = []string{"containers", "initContainers", "ephemeralContainers"}
	OtherContainers = []string{"steps", "sidecars"}
	OneContainer    = []string{"container", "script"}
)

// hasContainers says whether a map has containers as pod specs have. The name alone is not
// enough: schemas and lists of names have it, too.
func hasContainers(v map[string]any) bool {
	for key, value := range v {
		switch {
		case !nested(value):
		case slices.Contains(Containers, key):
			list, _ := value.([]any)
			if slices.ContainsFunc(list, isMap) {
				return true
			}
		case slices.Contains(OtherContainers, key):
			list, _ := value.([]any)
			if slices.ContainsFunc(list, hasImage) {
				return true
			}
		case slices.Contains(OneContainer, key):
			if hasImage(value) {
				return true
			}
		}
	}
	return false
}

// nested says whether there is anything below a value.
func nested(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	default:
		return false
	}
}

func isMap(v any) bool {
	_, ok := v.(map[string]any)
	return ok
}

func hasImage(v any) bool {
	m, _ := v.(map[string]any)
	_, ok := m["image"].(string)
	return ok
}
