package expression

import (
	"fmt"
	"math"
	"reflect"
	"regexp"
	"regexp/syntax"
)

// The operators of the language that look into values: each counts the values that it meets,
// so that nothing of the request's size, and nothing that an expression has built of shared
// parts, is walked without the meter.

// equalTo is == on a meter and two values.
func equalTo(args []any) (bool, error) {
	m, ok := args[0].(*meter)
	if !ok {
		return false, ErrEvaluation
	}
	return m.equal(args[1], args[2])
}

// equal compares values of JSON; numbers by value, whatever their type.
func (m *meter) equal(a, b any) (bool, error) {
	if err := m.tick(nil); err != nil {
		return false, err
	}
	switch a := a.(type) {
	case nil:
		return b == nil, nil
	case string:
		s, ok := b.(string)
		m.work += size(a)
		return ok && a == s, nil
	case bool:
		t, ok := b.(bool)
		return ok && a == t, nil
	case map[string]any:
		other, ok := b.(map[string]any)
		if !ok || len(a) != len(other) {
			return false, nil
		}
		for k, v := range a {
			w, ok := other[k]
			if !ok {
				return false, nil
			}
			if same, err := m.equal(v, w); !same || err != nil {
				return false, err
			}
		}
		return true, nil
	}
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	switch {
	case x.Kind() == reflect.Slice:
		return m.equalLists(x, y)
	case x.CanInt() && y.IsValid() && y.CanInt():
		return x.Int() == y.Int(), nil
	}
	left, ok := number(x)
	right, also := number(y)
	return ok && also && left == right, nil
}

func (m *meter) equalLists(x, y reflect.Value) (bool, error) {
	if y.Kind() != reflect.Slice || x.Len() != y.Len() {
		return false, nil
	}
	for i := range x.Len() {
		if same, err := m.equal(x.Index(i).Interface(), y.Index(i).Interface()); !same || err != nil {
			return false, err
		}
	}
	return true, nil
}

// in says whether a list has a value, or a map a key. Nothing is in nil.
func in(args []any) (bool, error) {
	m, ok := args[0].(*meter)
	if !ok {
		return false, ErrEvaluation
	}
	if err := m.tick(nil); err != nil {
		return false, err
	}
	switch where := args[2].(type) {
	case nil:
		return false, nil
	case map[string]any:
		key, ok := args[1].(string)
		_, found := where[key]
		return ok && found, nil
	case map[string]string:
		key, ok := args[1].(string)
		_, found := where[key]
		return ok && found, nil
	}
	list := reflect.ValueOf(args[2])
	if list.Kind() != reflect.Slice {
		return false, ErrEvaluation
	}
	for i := range list.Len() {
		if same, err := m.equal(args[1], list.Index(i).Interface()); same || err != nil {
			return same, err
		}
	}
	return false, nil
}

// Bounds of regular expressions: the engine takes time up to the product of text and
// program, some 10 ns for each.
const (
	maxProgram   = 1000
	maxMatchWork = 4 << 20
)

// pattern is a compiled regular expression and the longest text that it may be tried on.
type pattern struct {
	expression *regexp.Regexp
	program    int
}

func newPattern(source string) (*pattern, error) {
	parsed, err := syntax.Parse(source, syntax.Perl)
	if err != nil {
		return nil, err
	}
	program, err := syntax.Compile(parsed.Simplify())
	if err != nil {
		return nil, err
	}
	if len(program.Inst) > maxProgram {
		return nil, fmt.Errorf("the regular expression has %d steps; want at most %d: repeat less", len(program.Inst), maxProgram)
	}
	expression, err := regexp.Compile(source)
	if err != nil {
		return nil, err
	}
	return &pattern{expression: expression, program: len(program.Inst)}, nil
}

// match is matches on a text and a pattern. Nil matches nothing, and a text that is too long
// for the pattern is an error.
func match(args []any) (any, error) {
	p, ok := args[1].(*pattern)
	if !ok {
		return nil, ErrEvaluation
	}
	if args[0] == nil {
		return false, nil
	}
	s, ok := args[0].(string)
	if !ok || len(s) > MaxText || len(s)*p.program > maxMatchWork {
		return nil, ErrEvaluation
	}
	return p.expression.MatchString(s), nil
}

// add is + on numbers, and on strings up to MaxText together.
func add(a, b any) (any, error) {
	if left, ok := a.(string); ok {
		right, ok := b.(string)
		if !ok || len(left)+len(right) > MaxText {
			return nil, ErrEvaluation
		}
		return left + right, nil
	}
	return arithmetic(a, b, plus)
}

// operation is one of arithmetic: on integers, which says whether the result fits, and on
// other numbers.
type operation struct {
	integers func(a, b int64) (int64, bool)
	floats   func(a, b float64) float64
}

var (
	plus = operation{
		func(a, b int64) (int64, bool) { c := a + b; return c, (c > a) == (b > 0) },
		func(a, b float64) float64 { return a + b },
	}
	subtract = operation{
		func(a, b int64) (int64, bool) { c := a - b; return c, (c < a) == (b > 0) },
		func(a, b float64) float64 { return a - b },
	}
	multiply = operation{
		func(a, b int64) (int64, bool) {
			c := a * b
			return c, a == 0 || (c/a == b && (a != -1 || b != math.MinInt64))
		},
		func(a, b float64) float64 { return a * b },
	}
)

// arithmetic fails where an integer would wrap around.
func arithmetic(a, b any, op operation) (any, error) {
	x, y := reflect.ValueOf(a), reflect.ValueOf(b)
	if x.IsValid() && y.IsValid() && x.CanInt() && y.CanInt() {
		out, fits := op.integers(x.Int(), y.Int())
		if !fits {
			return nil, ErrEvaluation
		}
		return out, nil
	}
	left, ok := number(x)
	right, also := number(y)
	if !ok || !also {
		return nil, ErrEvaluation
	}
	return op.floats(left, right), nil
}

func number(v reflect.Value) (value float64, ok bool) {
	switch {
	case !v.IsValid():
		return 0, false
	case v.CanInt():
		return float64(v.Int()), true
	case v.CanFloat():
		return v.Float(), true
	default:
		return 0, false
	}
}
