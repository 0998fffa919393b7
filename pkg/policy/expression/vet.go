package expression

import (
	"fmt"
	"slices"
	"strings"

	"github.com/expr-lang/expr/ast"
)

// loops are the allowed functions that take a predicate; the values say nothing.
var loops = []string{
	"all", "none", "any", "one", "filter", "map", "find", "findIndex", "findLast", "findLastIndex", "count",
}

// functions are the other allowed functions. Each takes time and memory at most linear in
// its arguments, so that looking at the deadline before it is enough. Not here, and why:
// repeat, reduce, concat, join, replace, toJSON and string make long values of short ones;
// sort, sortBy, uniq and groupBy take more than linear time; now and date would make a
// decision depend on the clock; flatten, fromJSON, max, min and sum recurse.
var functions = []string{
	"len", "type", "abs", "ceil", "floor", "round", "int", "float", "trim", "trimPrefix", "trimSuffix",
	"upper", "lower", "split", "indexOf", "lastIndexOf", "hasPrefix", "hasSuffix",
	"first", "last", "get", "keys", "values",
}

// vetting is what one walk over an expression's tree finds.
type vetting struct {
	object, oldObject, namespace, agent, target bool
	depth                                       int
	err                                         *CompileError
	at                                          int
}

// vet walks over the tree of an expression and notes what it uses and the first thing that
// is not allowed.
func vet(node ast.Node) *vetting {
	v := &vetting{}
	v.walk(node)
	return v
}

func (v *vetting) refuse(node ast.Node, format string, args ...any) {
	if v.err == nil {
		v.err = &CompileError{Reason: fmt.Sprintf(format, args...)}
		v.at = node.Location().From
	}
}

// walk goes down by itself rather than by ast.Walk, which comes up from the leaves and so
// knows no depth.
func (v *vetting) walk(node ast.Node) {
	switch n := node.(type) {
	case *ast.IdentifierNode:
		v.identifier(n)
	case *ast.BinaryNode:
		v.binary(n)
	case *ast.CallNode:
		v.call(n)
	case *ast.BuiltinNode:
		v.builtin(n)
	case *ast.VariableDeclaratorNode:
		if strings.HasPrefix(n.Name, "__") {
			v.refuse(n, "names that start with __ are not for expressions")
		}
	}
	if v.err != nil {
		return
	}
	predicate, ok := node.(*ast.PredicateNode)
	if ok {
		v.depth++
		if v.depth > MaxNesting {
			v.refuse(predicate, "loops are nested deeper than %d", MaxNesting)
		}
		defer func() { v.depth-- }()
	}
	for _, child := range children(node) {
		v.walk(child)
	}
}

func (v *vetting) identifier(n *ast.IdentifierNode) {
	switch n.Value {
	case "object":
		v.object = true
	case "oldObject":
		v.oldObject = true
	case "namespace":
		v.namespace = true
	case "agent":
		v.agent = true
	case "target":
		v.target = true
	case "$env":
		v.refuse(n, "$env is not for expressions; use request, object, oldObject, agent, namespace or target")
	}
	if ownNamed(n.Value) != nil {
		v.refuse(n, "%s is a function; call it with a value", n.Value)
	}
	if strings.HasPrefix(n.Value, "__") {
		v.refuse(n, "names that start with __ are not for expressions")
	}
}

func (v *vetting) binary(n *ast.BinaryNode) {
	switch n.Operator {
	case "..":
		v.refuse(n, "ranges are not allowed; loop over a list of the object")
	case "matches":
		pattern, ok := n.Right.(*ast.StringNode)
		if !ok {
			v.refuse(n, "matches wants a regular expression that is written out")
			return
		}
		if _, err := newPattern(pattern.Value); err != nil {
			v.refuse(n, "matches: %s", err)
		}
	}
}

func (v *vetting) call(n *ast.CallNode) {
	if f := ownCall(n); f != nil {
		last, ok := n.Arguments[len(n.Arguments)-1].(*ast.StringNode)
		if f.written != nil && (!ok || !slices.Contains(f.written, last.Value)) {
			v.refuse(n, "%s wants %s, written out, in the end", f.name, quoted(f.written))
		}
		return
	}
	if name, ok := n.Callee.(*ast.IdentifierNode); ok {
		v.refuse(n, "unknown function %s", name.Value)
		return
	}
	v.refuse(n, "only functions can be called, not values")
}

func (v *vetting) builtin(n *ast.BuiltinNode) {
	if !slices.Contains(loops, n.Name) && !slices.Contains(functions, n.Name) {
		v.refuse(n, "function %s is not allowed in policies", n.Name)
	}
}

// children are the nodes directly below one.
func children(node ast.Node) []ast.Node {
	switch n := node.(type) {
	case *ast.UnaryNode:
		return []ast.Node{n.Node}
	case *ast.BinaryNode:
		return []ast.Node{n.Left, n.Right}
	case *ast.ChainNode:
		return []ast.Node{n.Node}
	case *ast.MemberNode:
		return []ast.Node{n.Node, n.Property}
	case *ast.SliceNode:
		return present(n.Node, n.From, n.To)
	case *ast.CallNode:
		if ownCall(n) != nil {
			return n.Arguments
		}
		return append([]ast.Node{n.Callee}, n.Arguments...)
	case *ast.BuiltinNode:
		return n.Arguments
	case *ast.PredicateNode:
		return []ast.Node{n.Node}
	case *ast.VariableDeclaratorNode:
		return []ast.Node{n.Value, n.Expr}
	case *ast.SequenceNode:
		return n.Nodes
	case *ast.ConditionalNode:
		return []ast.Node{n.Cond, n.Exp1, n.Exp2}
	case *ast.ArrayNode:
		return n.Nodes
	case *ast.MapNode:
		return n.Pairs
	case *ast.PairNode:
		return []ast.Node{n.Key, n.Value}
	default:
		return nil
	}
}

// quoted is a list of texts, as "a" or "b".
func quoted(texts []string) string {
	return `"` + strings.Join(texts, `" or "`) + `"`
}

func present(nodes ...ast.Node) []ast.Node {
	return slices.DeleteFunc(nodes, func(n ast.Node) bool { return n == nil })
}
