package expression

import (
	"slices"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/ast"
)

// own is a function that the language gets from here. Expressions call it by its name; patch
// puts in its place the one that is metered.
type own struct {
	name string
	// arguments is how many it takes.
	arguments int
	// written are what the last argument may be, which has to be written out; any where nil.
	written []string
	// signature is a new(func(...) ...) without the meter; metered has it as the first.
	signature, metered any
	run                func(m *meter, args []any) (any, error)
}

// hidden is the name of the metered function.
func (f *own) hidden() string { return "__" + f.name }

// ownFunctions are the functions that look into objects of any kind.
func ownFunctions() []*own {
	return []*own{
		{
			name: "podSpecs", arguments: 1, signature: new(func(any) any), metered: new(func(*meter, any) any),
			run: func(m *meter, args []any) (any, error) {
				return m.once("podSpecs", args[0], func() ([]any, error) { return podSpecs(m, args[0]) })
			},
		},
		{
			name: "references", arguments: 1, signature: new(func(any) any), metered: new(func(*meter, any) any),
			run: func(m *meter, args []any) (any, error) {
				return m.once("references", args[0], func() ([]any, error) { return references(m, args[0]) })
			},
		},
		{
			name: "mayRead", arguments: 1, signature: new(func(any) bool), metered: new(func(*meter, any) bool),
			run: func(m *meter, args []any) (any, error) { return mayRead(m, args[0]) },
		},
		{
			name: "podSecurity", arguments: 2, written: podSecurityLevels(),
			signature: new(func(any, string) any), metered: new(func(*meter, any, string) any),
			run: func(m *meter, args []any) (any, error) {
				level, ok := args[1].(string)
				if !ok {
					return nil, ErrEvaluation
				}
				return m.once(level, args[0], func() ([]any, error) { return podSecurity(m, args[0], level) })
			},
		},
	}
}

// ownNamed is the function of that name, or nil.
func ownNamed(name string) *own {
	all := ownFunctions()
	if i := slices.IndexFunc(all, func(f *own) bool { return f.name == name }); i >= 0 {
		return all[i]
	}
	return nil
}

// ownOptions declare the functions for expressions as they are written.
func ownOptions() []expr.Option {
	var options []expr.Option
	for _, f := range ownFunctions() {
		options = append(options, expr.Function(f.name, func(...any) (any, error) { return nil, ErrEvaluation }, f.signature))
	}
	return options
}

// ownMetered declare the functions that take their place.
func ownMetered() []expr.Option {
	var options []expr.Option
	for _, f := range ownFunctions() {
		options = append(options, expr.Function(f.hidden(), func(args ...any) (any, error) {
			m, ok := args[0].(*meter)
			if !ok {
				return nil, ErrEvaluation
			}
			out, err := f.run(m, args[1:])
			m.work += size(out)
			return out, err
		}, f.metered))
	}
	return options
}

// ownCall is the function that a call is of, or nil.
func ownCall(n *ast.CallNode) *own {
	name, ok := n.Callee.(*ast.IdentifierNode)
	if !ok {
		return nil
	}
	f := ownNamed(name.Value)
	if f == nil || len(n.Arguments) != f.arguments {
		return nil
	}
	return f
}
