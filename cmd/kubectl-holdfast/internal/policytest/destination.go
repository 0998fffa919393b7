package policytest

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// destination is what a request is sent to.
type destination struct {
	schema.GroupVersionResource
	subresource string
	// kind is empty where nobody knows.
	kind       schema.GroupVersionKind
	namespaced bool
}

// resource finds the request's resource: what the test says goes before what follows from
// the object's kind.
func (b *builder) resource(s subject) (*destination, error) {
	q := b.test.Request
	kind, err := kindOfObjects(s)
	if err != nil {
		return nil, err
	}
	full := schema.GroupVersionResource{Resource: q.Resource}
	switch {
	case q.Resource == "" && kind.Kind == "":
		return nil, errors.New("want resource, such as pods or pods/exec, or a manifest with apiVersion and kind")
	case q.Resource == "":
		if full, err = b.loader.kinds.ofKind(kind); err != nil {
			return nil, err
		}
	}
	r := &destination{kind: kind}
	r.Resource, r.subresource, _ = strings.Cut(full.Resource, "/")
	if r.Resource == "" || strings.ToLower(full.Resource) != full.Resource || strings.ContainsAny(full.Resource, "* ") {
		return nil, fmt.Errorf("resource %q: want it in lower case and plural, such as pods or pods/exec", q.Resource)
	}
	if q.Resource == "" {
		r.Group, r.Version = full.Group, full.Version
	} else {
		group, version := q.Group, q.Version
		if group == nil && guess(kind) == r.Resource {
			group = &kind.Group
		}
		if version == "" && group != nil && *group == kind.Group {
			version = kind.Version
		}
		known, err := b.loader.kinds.ofResource(r.Resource, group, version)
		if err != nil {
			return nil, err
		}
		r.Group, r.Version = known.Group, known.Version
		if r.kind.Kind == "" {
			r.kind = known
		}
	}
	if q.Group != nil {
		r.Group = *q.Group
	}
	if q.Version != "" {
		r.Version = q.Version
	}
	r.namespaced = !b.loader.kinds.cluster.Has(r.Resource)
	return r, nil
}

// kindOfObjects is the kind of the object, or of the old one; empty where neither says.
func kindOfObjects(s subject) (schema.GroupVersionKind, error) {
	for _, object := range []map[string]any{s.object, s.old} {
		apiVersion, _ := object["apiVersion"].(string)
		kind, _ := object["kind"].(string)
		switch {
		case apiVersion == "" && kind == "":
		case apiVersion == "" || kind == "":
			return schema.GroupVersionKind{}, errors.New("a manifest has apiVersion and kind, or neither where request.resource says what it is")
		default:
			gv, err := schema.ParseGroupVersion(apiVersion)
			if err != nil {
				return schema.GroupVersionKind{}, fmt.Errorf("apiVersion %q: want group/version, or v1", apiVersion)
			}
			return gv.WithKind(kind), nil
		}
	}
	return schema.GroupVersionKind{}, nil
}

// place is the name and the namespace of the request.
func (b *builder) place(s subject, r *destination) (name, namespace string, ok bool) {
	q := b.test.Request
	name = q.Name
	for _, object := range []map[string]any{s.object, s.old} {
		metadata, _ := object["metadata"].(map[string]any)
		has := func(field string) string { v, _ := metadata[field].(string); return v }
		switch n := has("name"); {
		case n == "" && has("generateName") != "" && name == "":
			name = has("generateName") + "x1x1x"
		case n != "" && name != "" && n != name:
			b.problem("request.name", "is %q, and the manifest is of %q: want one name", name, n)
			return "", "", false
		case n != "":
			name = n
		}
		if n := has("namespace"); n != "" {
			if namespace != "" && n != namespace || q.Namespace != nil && n != *q.Namespace {
				b.problem("request.namespace", "is not that of the manifests: want one namespace")
				return "", "", false
			}
			namespace = n
		}
	}
	switch {
	case q.Namespace != nil:
		namespace = *q.Namespace
	case namespace == "" && r.namespaced:
		namespace = defaultNamespace
	}
	if !r.namespaced && namespace != "" && r.Resource != "namespaces" {
		b.problem("request.namespace", "%s are in no namespace: leave it out", r.Resource)
		return "", "", false
	}
	return name, namespace, true
}
