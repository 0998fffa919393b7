package expression

import (
	"slices"
	"strings"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
)

// podSpecsFunction is the one function that the language gets from here: podSpecs(x) is the
// list of all pod specs in a value, whatever kind of object it is of, so that rules can
// speak of workloads whose kinds they do not know.
const podSpecsFunction = "podSpecs"

// Bounds of podSpecs. Beyond either the expression fails, which denies the request.
const (
	// maxDepth is how deep it looks: CustomResourceDefinitions, the deepest objects in use,
	// have some 60 levels.
	maxDepth = 1000
	// maxPodSpecs is how many it finds.
	maxPodSpecs = 1000
)

// podSpecsOption declares the function; patch hands it the meter.
func podSpecsOption() expr.Option {
	return expr.Function(podSpecsFunction, func(...any) (any, error) { return nil, ErrEvaluation }, new(func(any) any))
}

// ownFunction says whether a call is of a function that expressions may call by name.
func ownFunction(n *ast.CallNode) bool {
	name, ok := n.Callee.(*ast.IdentifierNode)
	return ok && name.Value == podSpecsFunction && len(n.Arguments) == 1
}

// podSpecs finds, at any depth, what is a pod spec by its structure:
//
//   - a map that has containers, initContainers or ephemeralContainers, of which one at
//     least is a map;
//   - the map under a key podSpec, or under spec below a key podTemplate or podTemplateSpec
//     (in any case, and also as the end of a longer key): such a template may leave its
//     containers to its controller, and ask for the host's network all the same.
//
// A pod spec inside of another is one more. The order is that of the keys on the way, so
// that equal values give equal lists. Nothing in nil.
func podSpecs(args []any) (any, error) {
	m, ok := args[0].(*meter)
	if !ok {
		return nil, ErrEvaluation
	}
	w := podWalk{meter: m}
	found, err := w.walk(args[1], false, 0)
	if err != nil {
		return nil, err
	}
	if found == nil {
		found = []any{}
	}
	return found, nil
}

// podWalk is one search for pod specs.
type podWalk struct {
	meter *meter
	count int
}

// walk returns the pod specs in a value; named says that its key calls it one.
func (w *podWalk) walk(v any, named bool, depth int) ([]any, error) {
	if err := w.meter.tick(nil); err != nil {
		return nil, err
	}
	if depth > maxDepth {
		return nil, ErrEvaluation
	}
	switch v := v.(type) {
	case map[string]any:
		return w.walkMap(v, named, depth)
	case []any:
		var all []any
		for _, item := range v {
			found, err := w.walk(item, false, depth+1)
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
	specs []any
}

func (w *podWalk) walkMap(v map[string]any, named bool, depth int) ([]any, error) {
	var all []any
	if named || hasContainers(v) {
		w.count++
		if w.count > maxPodSpecs {
			return nil, ErrEvaluation
		}
		all = append(all, v)
	}
	var below []under
	for key, child := range v {
		specs, err := w.child(key, child, depth)
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
func (w *podWalk) child(key string, child any, depth int) ([]any, error) {
	m, isMap := child.(map[string]any)
	switch lower := strings.ToLower(key); {
	case isMap && strings.HasSuffix(lower, "podspec"):
		return w.walk(m, true, depth+1)
	case isMap && (strings.HasSuffix(lower, "podtemplate") || strings.HasSuffix(lower, "podtemplatespec")):
		if _, ok := m["spec"].(map[string]any); ok {
			return w.template(m, depth+1)
		}
	}
	return w.walk(child, false, depth+1)
}

// template is walk on a pod template, which has a spec.
func (w *podWalk) template(m map[string]any, depth int) ([]any, error) {
	spec, err := w.walk(m["spec"], true, depth+1)
	if err != nil {
		return nil, err
	}
	rest := make(map[string]any, len(m))
	for key, v := range m {
		if key != "spec" {
			rest[key] = v
		}
	}
	others, err := w.walk(rest, false, depth)
	if err != nil {
		return nil, err
	}
	return append(others, spec...), nil
}

// hasContainers says whether a map has a list of containers as pod specs have. The name
// alone is not enough: schemas and lists of names have it, too.
func hasContainers(v map[string]any) bool {
	for _, key := range []string{"containers", "initContainers", "ephemeralContainers"} {
		list, _ := v[key].([]any)
		for _, item := range list {
			if _, ok := item.(map[string]any); ok {
				return true
			}
		}
	}
	return false
}
