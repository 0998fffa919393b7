// Package decision has the words in which Holdfast decides: the request that is judged,
// the action that comes out, and the record of it that travels in audit annotations.
//
// It holds types and their encodings only. It refuses to decide anything, to do I/O, and
// to hold an object's content in a form that reaches a log or an annotation.
package decision

import "fmt"

// Action is what becomes of a request. The zero value is Deny, so that whatever was never
// decided is denied.
type Action uint8

// The actions, from the strictest to the laxest: where several apply, the lowest wins.
const (
	Deny Action = iota
	Hold
	Allow
)

// String returns the action's name as it is written in policies, annotations and tables.
func (a Action) String() string {
	switch a {
	case Deny:
		return "Deny"
	case Hold:
		return "Hold"
	case Allow:
		return "Allow"
	default:
		return fmt.Sprintf("Action(%d)", uint8(a))
	}
}

// ParseAction is the inverse of String. Unknown names are an error, and the action returned
// beside an error is Deny.
func ParseAction(s string) (Action, error) {
	for _, a := range []Action{Deny, Hold, Allow} {
		if s == a.String() {
			return a, nil
		}
	}
	return Deny, fmt.Errorf("unknown action %q: want Allow, Hold or Deny", s)
}

// Strictest returns the stricter of two actions: Deny beats Hold beats Allow.
func Strictest(a, b Action) Action { return min(a, b) }
