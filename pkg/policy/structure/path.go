// Package structure finds its way through decoded objects of any kind: where something
// stands in them, and where their pod specs are.
//
// It knows no kinds and keeps nothing. Objects are an agent's, so every search is bounded:
// in depth, in what it finds, and by a callback that can end it at any step.
package structure

import (
	"errors"
	"strconv"
	"strings"
)

// MaxDepth is how deep a search looks: CustomResourceDefinitions, the deepest objects in
// use, have some 60 levels.
const MaxDepth = 1000

// ErrBounds: an object is too deep, or holds more of what is searched than anybody needs.
var ErrBounds = errors.New("the object is too deep or holds too many of them")

// Bounds of Path.String, in bytes: an agent chooses the keys.
const (
	maxKey  = 128
	maxPath = 1024
)

// Path is the place of a value in an object. It is cheap to extend; nil is the object.
type Path struct {
	up    *Path
	key   string
	index int
	depth int
}

// Key is the place of a map's value.
func (p *Path) Key(key string) *Path { return &Path{up: p, key: key, index: -1, depth: p.Depth() + 1} }

// Index is the place of a list's item.
func (p *Path) Index(i int) *Path { return &Path{up: p, index: i, depth: p.Depth() + 1} }

// Depth is how many steps lead to the place.
func (p *Path) Depth() int {
	if p == nil {
		return 0
	}
	return p.depth
}

// String is the path as spec.volumes[0].secret.secretName; keys that are no identifiers
// stand in brackets. Of a path that is too long only the end is shown.
func (p *Path) String() string {
	var steps []string
	length := 0
	for at := p; at != nil; at = at.up {
		step := at.step()
		length += len(step)
		if length > maxPath {
			steps = append(steps, "…")
			break
		}
		steps = append(steps, step)
	}
	var b strings.Builder
	for i := len(steps) - 1; i >= 0; i-- {
		b.WriteString(steps[i])
	}
	return strings.TrimPrefix(b.String(), ".")
}

func (p *Path) step() string {
	if p.index >= 0 {
		return "[" + strconv.Itoa(p.index) + "]"
	}
	key := p.key
	if len(key) > maxKey {
		key = strings.ToValidUTF8(key[:maxKey], "") + "…"
	}
	if key == "" || strings.ContainsFunc(key, func(r rune) bool {
		return r != '-' && r != '_' && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}) {
		return "[" + key + "]"
	}
	return "." + key
}
