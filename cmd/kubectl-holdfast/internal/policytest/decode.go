package policytest

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxDepth bounds nesting: an anchor can contain itself.
const maxDepth = 100

// decoder decodes YAML nodes strictly: a field that its type does not have is a problem, and
// so is a field that is given twice. Problems have lines, which other decoders lose.
type decoder struct {
	file     string
	problems Problems
}

// nodeDecoder is a type that decodes itself.
type nodeDecoder interface {
	decodeNode(d *decoder, at string, n *yaml.Node, depth int)
}

func (d *decoder) problem(n *yaml.Node, at, format string, args ...any) {
	p := Problem{File: d.file, Field: at, Text: fmt.Sprintf(format, args...)}
	if n != nil {
		p.Line = n.Line
	}
	d.problems = append(d.problems, p)
}

// decode decodes a node into what v points to.
func (d *decoder) decode(at string, n *yaml.Node, v any) {
	d.value(at, n, reflect.ValueOf(v).Elem(), 0)
}

func (d *decoder) value(at string, n *yaml.Node, v reflect.Value, depth int) {
	if depth > maxDepth {
		d.problem(n, at, "is nested deeper than %d levels", maxDepth)
		return
	}
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return
	}
	if own, ok := v.Addr().Interface().(nodeDecoder); ok {
		own.decodeNode(d, at, n, depth)
		return
	}
	if own, ok := v.Addr().Interface().(json.Unmarshaler); ok {
		d.unmarshal(at, n, own, depth)
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.value(at, n, v.Elem(), depth)
	case reflect.Interface:
		if out := d.any(at, n, depth); out != nil {
			v.Set(reflect.ValueOf(out))
		}
	case reflect.Struct:
		d.object(at, n, v, depth)
	case reflect.Map:
		d.dictionary(at, n, v, depth)
	case reflect.Slice:
		d.list(at, n, v, depth)
	default:
		d.scalar(at, n, v)
	}
}

// unmarshal is for types such as times and durations, whose form is their own.
func (d *decoder) unmarshal(at string, n *yaml.Node, into json.Unmarshaler, depth int) {
	data, err := json.Marshal(d.any(at, n, depth))
	if err == nil {
		err = into.UnmarshalJSON(data)
	}
	if err != nil {
		d.problem(n, at, "%s: want %s", err, kindOf(reflect.TypeOf(into).Elem()))
	}
}

func (d *decoder) object(at string, n *yaml.Node, v reflect.Value, depth int) {
	if n.Kind != yaml.MappingNode {
		d.problem(n, at, "is %s: want fields (%s)", nameOf(n), strings.Join(fieldNames(v.Type()), ", "))
		return
	}
	for _, pair := range d.pairs(at, n, depth) {
		field, ok := fieldOf(v, pair.key.Value)
		if !ok {
			names := fieldNames(v.Type())
			d.problem(pair.key, join(at, pair.key.Value), "unknown field%s; want one of: %s", suggest(pair.key.Value, names), strings.Join(names, ", "))
			continue
		}
		d.value(join(at, pair.key.Value), pair.value, field, depth+1)
	}
}

func (d *decoder) dictionary(at string, n *yaml.Node, v reflect.Value, depth int) {
	if n.Kind != yaml.MappingNode {
		d.problem(n, at, "is %s: want a mapping", nameOf(n))
		return
	}
	v.Set(reflect.MakeMap(v.Type()))
	for _, pair := range d.pairs(at, n, depth) {
		element := reflect.New(v.Type().Elem()).Elem()
		d.value(join(at, pair.key.Value), pair.value, element, depth+1)
		v.SetMapIndex(reflect.ValueOf(pair.key.Value).Convert(v.Type().Key()), element)
	}
}

func (d *decoder) list(at string, n *yaml.Node, v reflect.Value, depth int) {
	if n.Kind != yaml.SequenceNode {
		d.problem(n, at, "is %s: want a list", nameOf(n))
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		d.value(fmt.Sprintf("%s[%d]", at, i), item, out.Index(i), depth+1)
	}
	v.Set(out)
}

func (d *decoder) scalar(at string, n *yaml.Node, v reflect.Value) {
	want := kindOf(v.Type())
	if n.Kind != yaml.ScalarNode {
		d.problem(n, at, "is %s: want %s", nameOf(n), want)
		return
	}
	switch value := scalarOf(n).(type) {
	case string:
		if v.Kind() == reflect.String {
			v.SetString(value)
			return
		}
	case bool:
		if v.Kind() == reflect.Bool {
			v.SetBool(value)
			return
		}
	case int64:
		if v.CanInt() && !v.OverflowInt(value) {
			v.SetInt(value)
			return
		}
	}
	if v.Kind() == reflect.String {
		want += "; put it into quotes"
	}
	d.problem(n, at, "is %s: want %s", nameOf(n), want)
}

// any is a node as the API server would decode it: numbers are int64 or float64.
func (d *decoder) any(at string, n *yaml.Node, depth int) any {
	if depth > maxDepth {
		d.problem(n, at, "is nested deeper than %d levels", maxDepth)
		return nil
	}
	switch n.Kind {
	case yaml.AliasNode:
		return d.any(at, n.Alias, depth+1)
	case yaml.MappingNode:
		out := map[string]any{}
		for _, pair := range d.pairs(at, n, depth) {
			out[pair.key.Value] = d.any(join(at, pair.key.Value), pair.value, depth+1)
		}
		return out
	case yaml.SequenceNode:
		out := make([]any, 0, len(n.Content))
		for i, item := range n.Content {
			out = append(out, d.any(fmt.Sprintf("%s[%d]", at, i), item, depth+1))
		}
		return out
	default:
		return scalarOf(n)
	}
}

// scalarOf is a scalar's value. Kubernetes reads YAML 1.1, in which a bare yes is true.
func scalarOf(n *yaml.Node) any {
	bare := n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) == 0
	switch n.Tag {
	case "!!null":
		return nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true")
	case "!!int":
		if i, err := strconv.ParseInt(n.Value, 0, 64); err == nil {
			return i
		}
		var f float64
		if n.Decode(&f) == nil {
			return f
		}
	case "!!float":
		var f float64
		if n.Decode(&f) == nil {
			return f
		}
	case "!!str":
		if bare && slices.Contains([]string{"y", "yes", "on"}, strings.ToLower(n.Value)) {
			return true
		}
		if bare && slices.Contains([]string{"n", "no", "off"}, strings.ToLower(n.Value)) {
			return false
		}
	}
	return n.Value
}

type pair struct{ key, value *yaml.Node }

// pairs are the fields of a mapping, with those that it merges by <<. One that is given
// twice is a problem.
func (d *decoder) pairs(at string, n *yaml.Node, depth int) []pair {
	var own, merged []pair
	given := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		switch {
		case key.Kind != yaml.ScalarNode:
			d.problem(key, at, "has a key that is %s: want text", nameOf(key))
		case key.Tag == "!!merge":
			merged = append(merged, d.merge(at, value, depth)...)
		case given[key.Value]:
			d.problem(key, join(at, key.Value), "is given twice")
		default:
			given[key.Value] = true
			own = append(own, pair{key, value})
		}
	}
	for _, p := range merged {
		if !given[p.key.Value] {
			given[p.key.Value] = true
			own = append(own, p)
		}
	}
	return own
}

func (d *decoder) merge(at string, n *yaml.Node, depth int) []pair {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch {
	case depth > maxDepth:
		d.problem(n, at, "is nested deeper than %d levels", maxDepth)
	case n.Kind == yaml.MappingNode:
		return d.pairs(at, n, depth+1)
	case n.Kind == yaml.SequenceNode:
		var all []pair
		for _, item := range n.Content {
			all = append(all, d.merge(at, item, depth+1)...)
		}
		return all
	default:
		d.problem(n, at, "<< takes a mapping")
	}
	return nil
}

// fieldOf finds a field by its name in JSON, in embedded structs too.
func fieldOf(v reflect.Value, name string) (reflect.Value, bool) {
	t := v.Type()
	for i := range t.NumField() {
		tag, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		switch {
		case hidden(t.Field(i)) || tag == "-":
		case inlined(t.Field(i), tag, options):
			if field, ok := fieldOf(v.Field(i), name); ok {
				return field, true
			}
		case tag == name:
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

func hidden(f reflect.StructField) bool { return !f.IsExported() && !f.Anonymous }

func inlined(f reflect.StructField, tag, options string) bool {
	return tag == "" && (f.Anonymous || options == "inline")
}

func fieldNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		tag, options, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		switch {
		case hidden(t.Field(i)) || tag == "-":
		case inlined(t.Field(i), tag, options):
			names = append(names, fieldNames(t.Field(i).Type)...)
		case tag != "":
			names = append(names, tag)
		}
	}
	return names
}

func nameOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return nameOf(n.Alias)
	default:
		switch v := scalarOf(n).(type) {
		case string:
			return fmt.Sprintf("the text %q", v)
		case nil:
			return "null"
		default:
			return n.Value
		}
	}
}

func kindOf(t reflect.Type) string {
	if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		return "text"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Struct:
		if strings.HasSuffix(t.Name(), "Duration") {
			return "a duration such as 2m or 1h30m"
		}
	}
	return t.Name()
}

func join(at, field string) string {
	if at == "" {
		return field
	}
	return at + "." + field
}

// suggest is " (did you mean X?)" where a name comes close, and empty otherwise.
func suggest(given string, names []string) string {
	best, least := "", 3
	for _, name := range names {
		n := distance(strings.ToLower(given), strings.ToLower(name))
		if n < least && n < len(name) {
			best, least = name, n
		}
	}
	if best == "" {
		return ""
	}
	return fmt.Sprintf(" (did you mean %q?)", best)
}

// distance is how many letters to insert, remove or replace to make a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		previous := row[0]
		row[0] = i + 1
		for j := range len(b) {
			replace := previous
			if a[i] != b[j] {
				replace++
			}
			previous = row[j+1]
			row[j+1] = min(replace, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

// lookup is the node at a path such as spec.rules[0].when, or the nearest above it that is
// there.
func lookup(n *yaml.Node, path string) *yaml.Node {
	for _, step := range strings.FieldsFunc(path, func(r rune) bool { return r == '.' || r == '[' || r == ']' }) {
		for n.Kind == yaml.AliasNode || n.Kind == yaml.DocumentNode {
			if n.Kind == yaml.AliasNode {
				n = n.Alias
			} else {
				n = n.Content[0]
			}
		}
		next := child(n, step)
		if next == nil {
			return n
		}
		n = next
	}
	return n
}

func child(n *yaml.Node, step string) *yaml.Node {
	if n.Kind == yaml.SequenceNode {
		if i, err := strconv.Atoi(step); err == nil && i < len(n.Content) {
			return n.Content[i]
		}
		return nil
	}
	if n.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == step {
			return n.Content[i+1]
		}
	}
	return nil
}

// elem is what a pointer points to.
func elem(v any) reflect.Value { return reflect.ValueOf(v).Elem() }
