// Package expression compiles and evaluates the conditions of policy rules: a sandboxed
// subset of expr-lang.
//
// The language's own virtual machine can neither be cancelled nor trusted to bound its
// memory, so an expression is vetted before it is compiled (an allowlist of functions, at
// most two nested loops, constant regular expressions) and metered while it runs: every
// step that can be repeated, or that touches a value of the request's size, first looks at
// the deadline. The package never returns an error text of the virtual machine, since those
// quote the values that they failed on.
package expression

import (
	"errors"
	"fmt"
	"reflect"
	"sync"
	"time"

	"github.com/expr-lang/expr"
	"github.com/expr-lang/expr/file"
	"github.com/expr-lang/expr/parser"
	"github.com/expr-lang/expr/vm"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// Limits of the language.
const (
	// MaxSource is the length of an expression, in bytes.
	MaxSource = 8 << 10
	// MaxNesting is how deep loops (all, any, filter, map and the like) may be nested.
	MaxNesting = 2
	// MaxTime is how long one evaluation may take, if it has done any work worth the name:
	// on a busy machine 50 ms can pass between two steps, and a small expression must not
	// deny for that.
	MaxTime = 50 * time.Millisecond
	// minWork is what takes a few milliseconds, in steps over small values.
	minWork = 20_000
	// MaxText is the length of a string, in bytes, that + may make and that split and
	// matches may look at; matches less, the more its expression has to do.
	MaxText = 64 << 10
)

// Errors of Run. They carry no more than their own text.
var (
	// ErrDeadline: the expression ran longer than it may.
	ErrDeadline = errors.New("the expression took longer than it may")
	// ErrEvaluation: the expression failed on this request, as on an ordering against nil
	// or a result that is no truth value.
	ErrEvaluation = errors.New("the expression failed on this request")
)

// CompileError says what is wrong with an expression, and where.
type CompileError struct {
	// Line and Column start with 1; both are 0 where the whole expression is meant.
	Line, Column int
	// Reason is one line for the author of the policy.
	Reason string
}

func (e *CompileError) Error() string {
	if e.Line == 0 {
		return e.Reason
	}
	return fmt.Sprintf("line %d, column %d: %s", e.Line, e.Column, e.Reason)
}

// User is the variable request.user.
type User struct {
	Name   string   `expr:"name"`
	UID    string   `expr:"uid"`
	Groups []string `expr:"groups"`
}

// Request is the variable request.
type Request struct {
	User           User   `expr:"user"`
	Verb           string `expr:"verb"`
	Group          string `expr:"group"`
	Version        string `expr:"version"`
	Resource       string `expr:"resource"`
	Subresource    string `expr:"subresource"`
	Namespace      string `expr:"namespace"`
	Name           string `expr:"name"`
	NonResourceURL string `expr:"nonResourceURL"`
	DryRun         bool   `expr:"dryRun"`
	Options        any    `expr:"options"`
	// Lists, watches and deletecollections as the authorizer sees them; empty in admission.
	FieldSelector []Requirement `expr:"fieldSelector"`
	LabelSelector []Requirement `expr:"labelSelector"`
}

// Requirement is one part of request.fieldSelector or request.labelSelector.
type Requirement struct {
	Key      string   `expr:"key"`
	Operator string   `expr:"operator"`
	Values   []string `expr:"values"`
}

// Agent is the variable agent.
type Agent struct {
	Name   string            `expr:"name"`
	Owner  string            `expr:"owner"`
	Labels map[string]string `expr:"labels"`
}

// Variables are what an expression can look at. Object, OldObject, Namespace and Target
// are nil or decoded JSON (map[string]any, []any, string, int64, float64, bool).
type Variables struct {
	Request   Request `expr:"request"`
	Object    any     `expr:"object"`
	OldObject any     `expr:"oldObject"`
	Agent     Agent   `expr:"agent"`
	Namespace any     `expr:"namespace"`
	// Target is the object that a request for a subresource is about, such as the pod of
	// pods/log.
	Target any `expr:"target"`

	// These are out of reach for expressions: names that start with __ are refused.
	Meter *meter `expr:"__meter"`
	// Reads answers mayRead; nil knows nothing.
	Reads *Reads `expr:"__reads"`
	// Searches, if set, spare the evaluations that share it what others have found.
	Searches *Searches `expr:"__searches"`
}

// RequestVariable makes the variable request of a request.
func RequestVariable(r *decision.Request) Request {
	v := Request{
		User: User{Name: r.User.Name, UID: r.User.UID, Groups: r.User.Groups},
		Verb: r.Verb, Group: r.Group, Version: r.Version, Resource: r.Resource, Subresource: r.Subresource,
		Namespace: r.Namespace, Name: r.Name, NonResourceURL: r.NonResourceURL, DryRun: r.DryRun,
	}
	if r.Options != nil {
		v.Options = r.Options
	}
	v.FieldSelector, v.LabelSelector = requirements(r.FieldSelector), requirements(r.LabelSelector)
	return v
}

func requirements(selector []decision.Requirement) []Requirement {
	if len(selector) == 0 {
		return nil
	}
	list := make([]Requirement, len(selector))
	for i, q := range selector {
		list[i] = Requirement(q)
	}
	return list
}

// Program is a compiled expression. It is immutable and safe for concurrent use.
type Program struct {
	program *vm.Program
	// The variables that the expression looks at.
	Object, OldObject, Namespace, Agent, Target bool
}

// Compile vets and compiles an expression. Its error is a *CompileError.
func Compile(source string) (*Program, error) {
	if len(source) > MaxSource {
		return nil, &CompileError{Reason: fmt.Sprintf("the expression has %d bytes; want at most %d", len(source), MaxSource)}
	}
	tree, err := parser.Parse(source)
	if err != nil {
		return nil, compileError(err)
	}
	v := vet(tree.Node)
	if v.err != nil {
		v.err.Line, v.err.Column = position(source, v.at)
		return nil, v.err
	}
	// Once as it is written, for the errors of names and types that patching would hide.
	options := append(ownOptions(), expr.Env(&Variables{}), expr.AsAny())
	if _, err := expr.Compile(source, options...); err != nil {
		return nil, compileError(err)
	}
	options = append(options, expr.Patch(&patch{}))
	options = append(append(options, meterFunctions()...), ownMetered()...)
	program, err := expr.Compile(source, options...)
	if err != nil {
		return nil, compileError(err)
	}
	// Not expr.AsBool: it would take nil for false.
	if out := program.Node(); !dynamic(out) && out.Type().Kind() != reflect.Bool {
		return nil, &CompileError{Reason: fmt.Sprintf("the expression gives a %s; want true or false", out.Type())}
	}
	return &Program{program: program, Object: v.object, OldObject: v.oldObject, Namespace: v.namespace, Agent: v.agent, Target: v.target}, nil
}

// machines reuses virtual machines, whose stacks are the larger part of an evaluation's
// memory.
var machines = sync.Pool{New: func() any { return new(vm.VM) }}

// Run evaluates the expression until the deadline at the latest, and for MaxTime if there
// is enough to do; it uses the variables for itself meanwhile. Its error is ErrDeadline or ErrEvaluation, and the result beside an error is false.
func (p *Program) Run(v *Variables, deadline time.Time) (matched bool, err error) {
	m := &meter{own: time.Now().Add(MaxTime), deadline: deadline, variables: v}
	v.Meter = m
	if v.Reads != nil {
		v.Reads.refused = nil
	}
	machine, ok := machines.Get().(*vm.VM)
	if !ok {
		return false, ErrEvaluation
	}
	out, err := machine.Run(p.program, v)
	// The machine's stack and variables hold parts of the request: forget them. (What its
	// scopes hold goes with the next run.)
	clear(machine.Stack[:cap(machine.Stack)])
	clear(machine.Variables)
	machines.Put(machine)
	if m.expired {
		return false, ErrDeadline
	}
	if err != nil {
		return false, ErrEvaluation
	}
	matched, ok = out.(bool)
	if !ok {
		return false, ErrEvaluation
	}
	return matched, nil
}

func compileError(err error) *CompileError {
	var at *file.Error
	if errors.As(err, &at) {
		return &CompileError{Line: at.Line, Column: at.Column + 1, Reason: at.Message}
	}
	return &CompileError{Reason: err.Error()}
}

// position turns an offset in runes into line and column, both from 1.
func position(source string, offset int) (line, column int) {
	line, column = 1, 1
	for i, r := range []rune(source) {
		if i == offset {
			break
		}
		if r == '\n' {
			line++
			column = 0
		}
		column++
	}
	return line, column
}
