package expression

import (
	"time"

	"github.com/holdfast-dev/holdfast/pkg/policy/reference"
)

// references is references(x): what an object refers to, as a list of maps with kind,
// namespace, name, path and via, in order of the paths. Its namespace is that of the request
// where it does not say one. Nothing in nil.
func references(m *meter, v any) ([]any, error) {
	found, err := reference.Find(v, m.variables.Request.Namespace, m.step)
	if err != nil {
		return nil, err
	}
	list := make([]any, len(found))
	for i, r := range found {
		list[i] = map[string]any{"kind": r.Kind, "namespace": r.Namespace, "name": r.Name, "path": r.Path, "via": r.Via}
	}
	return list, nil
}

// Reads asks whether the agent may read what references name, each once, and remembers what
// it may not. The rules of one decision share it; it is not safe for concurrent use.
type Reads struct {
	ask     func(reference.Reference) (bool, error)
	answers map[reference.Reference]answer
	refused []reference.Reference
}

type answer struct {
	yes bool
	err error
}

// NewReads returns Reads that ask by a callback; nil knows nothing, so that to ask is an
// error. The answer may depend on kind, namespace and name alone.
func NewReads(ask func(reference.Reference) (bool, error)) *Reads {
	return &Reads{ask: ask, answers: map[reference.Reference]answer{}}
}

// Refused are what the last evaluation asked for and the agent may not read, each once, in
// the order of asking.
func (r *Reads) Refused() []reference.Reference {
	if r == nil {
		return nil
	}
	return r.refused
}

// mayRead is mayRead(ref): whether the agent may read what a reference names. A map that is
// no reference, and an answer that is not known, are errors.
func mayRead(m *meter, v any) (bool, error) {
	r, ok := referenceOf(v)
	if !ok || m.variables.Reads == nil || m.variables.Reads.ask == nil {
		return false, ErrEvaluation
	}
	if err := m.tick(nil); err != nil {
		return false, err
	}
	return m.mayRead(r)
}

func (m *meter) mayRead(r reference.Reference) (bool, error) {
	reads := m.variables.Reads
	what := reference.Reference{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name}
	got, known := reads.answers[what]
	if !known {
		start := time.Now()
		got.yes, got.err = reads.ask(r)
		reads.answers[what] = got
		// The expression's own time is for its own work; the deadline stands.
		m.own = m.own.Add(time.Since(start))
	}
	if got.err != nil {
		return false, ErrEvaluation
	}
	if !got.yes && !m.refused[what] {
		if m.refused == nil {
			m.refused = map[reference.Reference]bool{}
		}
		m.refused[what] = true
		reads.refused = append(reads.refused, r)
	}
	return got.yes, nil
}

// referenceOf reads what references returns, or a map like it that the expression has made.
func referenceOf(v any) (reference.Reference, bool) {
	m, _ := v.(map[string]any)
	var r reference.Reference
	for key, field := range map[string]*string{"kind": &r.Kind, "namespace": &r.Namespace, "name": &r.Name, "path": &r.Path, "via": &r.Via} {
		s, ok := m[key].(string)
		if !ok && m[key] != nil {
			return r, false
		}
		*field = s
	}
	switch r.Kind {
	case reference.Secret, reference.ConfigMap, reference.ServiceAccount, reference.Node, reference.PersistentVolumeClaim:
		return r, r.Name != ""
	default:
		return r, false
	}
}
