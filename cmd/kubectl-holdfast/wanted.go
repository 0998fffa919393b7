package main

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// scope says whether objects of a kind are in namespaces.
type scope uint8

const (
	unknownScope scope = iota
	namespaced
	clusterScoped
)

// wanted is what --resource names: objects of one kind, or all of it.
type wanted struct {
	// kind is as it was written: RESOURCE or RESOURCE.GROUP.
	kind                         string
	group, resource, subresource string
	names                        []string
	scope                        scope
}

func (w *wanted) full() string {
	if w.subresource == "" {
		return w.resource
	}
	return w.resource + "/" + w.subresource
}

// parseWanted reads RESOURCE, RESOURCE/NAME and RESOURCE/SUBRESOURCE/NAME.
func parseWanted(args []string) (*wanted, error) {
	var w wanted
	for i, arg := range args {
		parts := strings.Split(arg, "/")
		var kind, sub, name string
		switch len(parts) {
		case 1:
			kind = parts[0]
		case 2:
			kind, name = parts[0], parts[1]
		case 3:
			kind, sub, name = parts[0], parts[1], parts[2]
		default:
			return nil, fmt.Errorf("--resource=%s: want RESOURCE, RESOURCE/NAME or RESOURCE/SUBRESOURCE/NAME", arg)
		}
		if kind == "" || len(parts) > 1 && name == "" || len(parts) > 2 && sub == "" {
			return nil, fmt.Errorf("--resource=%s: nothing stands beside a /; want RESOURCE, RESOURCE/NAME or RESOURCE/SUBRESOURCE/NAME", arg)
		}
		switch {
		case i == 0:
			w.kind, w.subresource = kind, sub
		case kind != w.kind || sub != w.subresource:
			return nil, fmt.Errorf("--resource=%s: is another kind than %s: an approval is for every combination, so make a request for each kind", arg, args[0])
		case (name == "") != (len(w.names) == 0):
			return nil, fmt.Errorf("--resource=%s: either all have names, or none: make two requests", arg)
		}
		if name != "" && !slices.Contains(w.names, name) {
			w.names = append(w.names, name)
		}
	}
	return &w, nil
}

// resolve finds out which resource a kind is, from the API server. Where that does not say,
// what is written in full is taken as it is.
func (w *wanted) resolve(a *app) error {
	mapper, err := a.flags.ToRESTMapper()
	if err != nil {
		return fmt.Errorf("read the kubeconfig (see --kubeconfig and --context): %w", err)
	}
	mapping, err := mappingOf(mapper, w.kind)
	if err == nil {
		w.group, w.resource, w.scope = mapping.Resource.Group, mapping.Resource.Resource, namespaced
		if mapping.Scope.Name() == meta.RESTScopeNameRoot {
			w.scope = clusterScoped
		}
		return nil
	}
	resource, group, inFull := strings.Cut(w.kind, ".")
	if !inFull {
		if meta.IsNoMatchError(err) {
			return fmt.Errorf("--resource: the API server knows no resource %q; \"kubectl api-resources\" lists those that it knows", w.kind)
		}
		return fmt.Errorf("--resource: which resource %q is could not be found out; write it in full and plural, as deployments.apps, or, in the core group, pods. with a dot: %w", w.kind, err)
	}
	w.resource, w.group, w.scope = strings.ToLower(resource), group, unknownScope
	return nil
}

// mappingOf reads a resource as kubectl does: plural, singular or short, with or without
// version and group.
func mappingOf(mapper meta.RESTMapper, kind string) (*meta.RESTMapping, error) {
	versioned, grouped := schema.ParseResourceArg(strings.ToLower(kind))
	var found schema.GroupVersionKind
	err := error(nil)
	if versioned != nil {
		found, err = mapper.KindFor(*versioned)
	}
	if versioned == nil || err != nil {
		found, err = mapper.KindFor(grouped.WithVersion(""))
	}
	if err != nil {
		return nil, err
	}
	return mapper.RESTMapping(found.GroupKind(), found.Version)
}
