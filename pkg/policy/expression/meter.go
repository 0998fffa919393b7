package expression

import (
	"reflect"
	"slices"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"

	"github.com/holdfast-dev/holdfast/pkg/policy/reference"
)

// meter watches over one evaluation.
type meter struct {
	// own is when the expression's time is up, provided that it has done minWork: below
	// that it was the processor that was away. At deadline it is up in any case.
	own, deadline time.Time
	work          int
	// look is the amount of work at which the clock is looked at next.
	look    int
	expired bool

	// variables are what the expression is run on.
	variables *Variables
	// refused are what this evaluation has noted in the variables' Reads.
	refused map[reference.Reference]bool
}

// interval is how much work may pass between two looks at the clock: some microseconds.
const interval = 64

// tick counts a step over a value, and fails once the time is up.
func (m *meter) tick(v any) error {
	m.work += 1 + size(v)
	if m.work < m.look && !m.expired {
		return nil
	}
	m.look = m.work + interval
	now := time.Now()
	if m.expired || now.After(m.deadline) || (m.work >= minWork && now.After(m.own)) {
		m.expired = true
		return ErrDeadline
	}
	return nil
}

// step is tick for a search that takes its steps over small values.
func (m *meter) step() error { return m.tick(nil) }

// size is how much work a step over a value may be, in steps over small ones.
func size(v any) int {
	switch v := v.(type) {
	case string:
		return len(v) / 64
	case []any:
		return len(v) / 8
	case map[string]any:
		return len(v) / 8
	default:
		return 0
	}
}

// The functions that patch puts into expressions.
const (
	getFunction      = "__get"
	pathFunction     = "__path"
	tickFunction     = "__tick"
	tickBoolFunction = "__tickBool"
	textFunction     = "__text"
	matchFunction    = "__match"
	equalFunction    = "__equal"
	inFunction       = "__in"
	addFunction      = "__add"
	subFunction      = "__sub"
	mulFunction      = "__mul"
	meterVariable    = "__meter"
)

func meterFunctions() []expr.Option {
	return []expr.Option{
		expr.Function(getFunction, metered(func(args []any) (any, error) { return get(args[0], args[1]), nil }),
			new(func(*meter, any, any) any)),
		expr.Function(pathFunction, metered(path), new(func(*meter, any, []any) any)),
		expr.Function(tickFunction, metered(func(args []any) (any, error) { return args[0], nil }),
			new(func(*meter, any) any)),
		expr.Function(tickBoolFunction, metered(func(args []any) (any, error) { return args[0], nil }),
			new(func(*meter, bool) bool)),
		expr.Function(textFunction, metered(func(args []any) (any, error) { return text(args[0]) }),
			new(func(*meter, any) any)),
		expr.Function(matchFunction, metered(match), new(func(*meter, any, *pattern) bool)),
		expr.Function(addFunction, metered(func(args []any) (any, error) { return add(args[0], args[1]) }),
			new(func(*meter, any, any) any)),
		expr.Function(subFunction, metered(func(args []any) (any, error) { return arithmetic(args[0], args[1], subtract) }),
			new(func(*meter, any, any) any)),
		expr.Function(mulFunction, metered(func(args []any) (any, error) { return arithmetic(args[0], args[1], multiply) }),
			new(func(*meter, any, any) any)),
		expr.Function(equalFunction, func(args ...any) (any, error) { return equalTo(args) },
			new(func(*meter, any, any) bool)),
		expr.Function(inFunction, func(args ...any) (any, error) { return in(args) },
			new(func(*meter, any, any) bool)),
	}
}

// metered is a function of the language whose first argument is the meter.
func metered(f func(args []any) (any, error)) func(args ...any) (any, error) {
	return func(args ...any) (any, error) {
		m, ok := args[0].(*meter)
		if !ok {
			return nil, ErrEvaluation
		}
		if err := m.tick(args[1]); err != nil {
			return nil, err
		}
		out, err := f(args[1:])
		m.work += size(out)
		return out, err
	}
}

// get is member access on decoded JSON: what is not there is nil, however deep.
func get(from, key any) any {
	switch from := from.(type) {
	case map[string]any:
		if k, ok := key.(string); ok {
			return from[k]
		}
	case map[string]string:
		if k, ok := key.(string); ok {
			if value, ok := from[k]; ok {
				return value
			}
		}
	case []any:
		if i, ok := index(key, len(from)); ok {
			return from[i]
		}
	case []string:
		if i, ok := index(key, len(from)); ok {
			return from[i]
		}
	}
	return nil
}

// path is get along several keys that are written out in the expression.
func path(args []any) (any, error) {
	keys, ok := args[1].([]any)
	if !ok {
		return nil, ErrEvaluation
	}
	v := args[0]
	for _, key := range keys {
		v = get(v, key)
	}
	return v, nil
}

// index counts from the end where it is negative.
func index(key any, length int) (int, bool) {
	var i int
	switch key := key.(type) {
	case int:
		i = key
	case int64:
		i = int(key)
	default:
		return 0, false
	}
	if i < 0 {
		i += length
	}
	return i, i >= 0 && i < length
}

// text lets pass what is no string, and strings up to MaxText.
func text(v any) (any, error) {
	if s, ok := v.(string); ok && len(s) > MaxText {
		return nil, ErrEvaluation
	}
	return v, nil
}

// patch rewrites an expression so that it is metered and so that absent paths are nil.
type patch struct{}

// Visit implements ast.Visitor; children come before their parents.
func (patch) Visit(node *ast.Node) {
	switch n := (*node).(type) {
	case *ast.MemberNode:
		if dynamic(n.Node) {
			patchMember(node, n)
		}
	case *ast.ChainNode:
		// An optional chain is what every path is already.
		*node = n.Node
	case *ast.PredicateNode:
		if t := n.Node.Type(); t != nil && t.Kind() == reflect.Bool {
			replace(&n.Node, tickBoolFunction, n.Node)
		} else {
			replace(&n.Node, tickFunction, n.Node)
		}
	case *ast.BinaryNode:
		patchBinary(node, n)
	case *ast.UnaryNode:
		if n.Operator == "-" && dynamic(n.Node) {
			replace(node, subFunction, &ast.IntegerNode{Value: 0}, n.Node)
		}
	case *ast.BuiltinNode:
		patchBuiltin(n)
	case *ast.CallNode:
		if f := ownCall(n); f != nil {
			replace(node, f.hidden(), n.Arguments...)
		}
	}
}

// patchMember makes one step of a path, and one call of a whole path where its keys are
// written out.
func patchMember(node *ast.Node, n *ast.MemberNode) {
	key, ok := written(n.Property)
	if !ok {
		replace(node, getFunction, n.Node, n.Property)
		return
	}
	if base, ok := n.Node.(*ast.CallNode); ok && len(base.Arguments) == 3 {
		if keys, ok := base.Arguments[2].(*ast.ConstantNode); ok {
			if list, ok := keys.Value.([]any); ok {
				replace(node, pathFunction, base.Arguments[1], &ast.ConstantNode{Value: append(slices.Clone(list), key)})
				return
			}
		}
	}
	replace(node, pathFunction, n.Node, &ast.ConstantNode{Value: []any{key}})
}

// written is the value of a key that stands in the expression itself.
func written(n ast.Node) (any, bool) {
	switch n := n.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.IntegerNode:
		return n.Value, true
	default:
		return nil, false
	}
}

func patchBinary(node *ast.Node, n *ast.BinaryNode) {
	switch n.Operator {
	case "+":
		if !numeric(n.Left) || !numeric(n.Right) {
			replace(node, addFunction, n.Left, n.Right)
		}
	case "-", "*":
		if !numeric(n.Left) || !numeric(n.Right) {
			replace(node, map[string]string{"-": subFunction, "*": mulFunction}[n.Operator], n.Left, n.Right)
		}
	case "matches":
		if source, ok := n.Right.(*ast.StringNode); ok {
			if p, err := newPattern(source.Value); err == nil {
				replace(node, matchFunction, n.Left, &ast.ConstantNode{Value: p})
			}
		}
	case "in":
		replace(node, inFunction, n.Left, n.Right)
	case "==":
		if !scalar(n.Left) || !scalar(n.Right) {
			replace(node, equalFunction, n.Left, n.Right)
		}
	case "!=":
		if !scalar(n.Left) || !scalar(n.Right) {
			equal := ast.Node(n)
			replace(&equal, equalFunction, n.Left, n.Right)
			not := &ast.UnaryNode{Operator: "not", Node: equal}
			not.SetLocation(n.Location())
			*node = not
		}
	case "contains", "startsWith", "endsWith":
		if dynamic(n.Left) {
			replace(&n.Left, tickFunction, n.Left)
		}
	}
}

// scalar says whether a value is surely a short one: of a static type that is no list. The
// language's own comparison is right for those, and checks their types.
func scalar(n ast.Node) bool {
	t := n.Type()
	if t == nil {
		return false
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Float64:
		return true
	default:
		return false
	}
}

func patchBuiltin(n *ast.BuiltinNode) {
	if len(n.Arguments) == 0 || !dynamic(n.Arguments[0]) {
		return
	}
	switch {
	case n.Name == "split":
		replace(&n.Arguments[0], textFunction, n.Arguments[0])
	case slices.Contains(functions, n.Name):
		replace(&n.Arguments[0], tickFunction, n.Arguments[0])
	}
}

// dynamic says whether a value's type is known only when the expression runs.
func dynamic(n ast.Node) bool {
	t := n.Type()
	return t == nil || t.Kind() == reflect.Interface || t.Kind() == reflect.Map
}

func numeric(n ast.Node) bool {
	t := n.Type()
	return t != nil && (t.Kind() == reflect.Int || t.Kind() == reflect.Float64)
}

func replace(node *ast.Node, function string, args ...ast.Node) {
	call := &ast.CallNode{
		Callee:    &ast.IdentifierNode{Value: function},
		Arguments: append([]ast.Node{&ast.IdentifierNode{Value: meterVariable}}, args...),
	}
	call.SetLocation((*node).Location())
	*node = call
}
