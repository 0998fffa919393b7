package kube

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"

	"github.com/holdfast-dev/holdfast/pkg/access/impact"
)

// namespacedKinds are the resources that a namespace can hold, kept for a while: they change
// seldom.
type namespacedKinds struct {
	discovery kindsDiscovery
	now       func() time.Time

	mu    sync.Mutex
	until time.Time
	known contents
	// asking is closed when the discovery that is under way has ended; nil where none is.
	asking chan struct{}
	err    error
}

// kindsDiscovery is what it wants of a discovery client.
type kindsDiscovery interface {
	ServerPreferredNamespacedResourcesWithContext(ctx context.Context) ([]*metav1.APIResourceList, error)
}

// contents are the resources that a namespace can hold, and the API groups of which that is
// not known.
type contents struct {
	resources []schema.GroupVersionResource
	failed    []string
}

const (
	// keepKinds is how long a new kind may go without being counted.
	keepKinds = 2 * time.Minute
	// keepFailed is how long it is not asked again where a part of the answer was missing.
	keepFailed = 10 * time.Second
	// discoveryTimeout bounds a discovery, which goes on when who asked for it has gone.
	discoveryTimeout = 10 * time.Second
)

// get returns what is known, or asks, together with all others who want to know.
func (k *namespacedKinds) get(ctx context.Context) (contents, error) {
	k.mu.Lock()
	if k.now().Before(k.until) {
		defer k.mu.Unlock()
		return k.known, nil
	}
	if k.asking == nil {
		k.asking = make(chan struct{})
		go k.ask(context.WithoutCancel(ctx))
	}
	asking := k.asking
	k.mu.Unlock()
	select {
	case <-ctx.Done():
		return contents{}, ctx.Err()
	case <-asking:
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.known, k.err
}

func (k *namespacedKinds) ask(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, discoveryTimeout)
	defer cancel()
	lists, err := k.discovery.ServerPreferredNamespacedResourcesWithContext(ctx)
	var partly *discovery.ErrGroupDiscoveryFailed
	if errors.As(err, &partly) {
		err = nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	close(k.asking)
	k.asking, k.err = nil, err
	if err != nil {
		return
	}
	k.known, k.until = contents{resources: countable(lists)}, k.now().Add(keepKinds)
	if partly != nil {
		k.until = k.now().Add(keepFailed)
		for g := range partly.Groups {
			k.known.failed = append(k.known.failed, g.String())
		}
		slices.Sort(k.known.failed)
	}
}

// countable are the resources that can be listed and deleted, but for those that come and go
// by themselves, and claims, which are looked at with their volumes; stateful ones first, so
// that they are looked at while there is time.
func countable(lists []*metav1.APIResourceList) []schema.GroupVersionResource {
	var found []schema.GroupVersionResource
	for _, l := range lists {
		gv, err := schema.ParseGroupVersion(l.GroupVersion)
		if err != nil {
			continue // none that the API server serves
		}
		for _, r := range l.APIResources {
			gvr := gv.WithResource(r.Name)
			left := slices.Contains([]string{
				"events", "events.events.k8s.io", "leases.coordination.k8s.io", "endpoints",
				"endpointslices.discovery.k8s.io", "controllerrevisions.apps",
				"persistentvolumeclaims",
			}, gvr.GroupResource().String())
			if !left && slices.Contains(r.Verbs, "list") && slices.Contains(r.Verbs, "delete") {
				found = append(found, gvr)
			}
		}
	}
	slices.SortFunc(found, func(a, b schema.GroupVersionResource) int {
		return impact.Compare(a.GroupResource().String(), b.GroupResource().String())
	})
	return found
}

// byName says whether the objects of a resource are named rather than counted: those that
// hold data, and custom resources, of which only their operators know what they stand for.
func byName(r schema.GroupVersionResource) bool {
	builtIn := !strings.Contains(r.Group, ".") || strings.HasSuffix(r.Group, ".k8s.io")
	return impact.Stateful(r.GroupResource().String()) || !builtIn && r.Resource != "secrets"
}

// held is what a namespace has of one resource.
type held struct {
	n     int64
	all   bool
	names []string
	more  extent
	err   error
}

// namespace says what is in a namespace that is deleted.
func (s *survey) namespace(ctx context.Context) {
	name := s.request.Name
	s.report.Count("namespaces", 1)
	s.claims(ctx, name, func(types.UID) bool { return true })
	kinds, err := s.kinds.get(ctx)
	if err != nil {
		s.report.Unclear("what is in namespace "+strconv.Quote(name), why(err))
		return
	}
	if len(kinds.failed) > 0 {
		s.report.Unclear("what is in namespace "+strconv.Quote(name)+" of API groups "+strings.Join(kinds.failed, ", "), "the API server did not say")
	}
	results := make([]held, len(kinds.resources))
	var group errgroup.Group
	group.SetLimit(impactLists)
	for i, r := range kinds.resources {
		group.Go(func() error {
			results[i] = s.holds(ctx, r, name)
			return nil
		})
	}
	_ = group.Wait() // none of them returns an error
	unclear := map[string][]string{}
	for i, r := range kinds.resources {
		resource, found := r.GroupResource().String(), results[i]
		switch {
		case found.err != nil:
			unclear[why(found.err)] = append(unclear[why(found.err)], resource)
			continue
		case !found.all:
			unclear["there are more than could be counted"] = append(unclear["there are more than could be counted"], resource)
		}
		if found.n > 0 {
			s.report.Count(resource, found.n)
			s.report.Deletes(resource, found.names)
			s.beyond(found.more, resource)
		}
	}
	for _, reason := range slices.Sorted(maps.Keys(unclear)) {
		for part := range slices.Chunk(unclear[reason], 20) {
			s.report.Unclear("how many "+strings.Join(part, ", ")+" there are", reason)
		}
	}
}

// holds finds out what a namespace has of a resource.
func (s *survey) holds(ctx context.Context, r schema.GroupVersionResource, namespace string) held {
	at := listPath{group: r.Group, version: r.Version, resource: r.Resource, namespace: namespace}
	if !byName(r) {
		n, all, err := s.api.count(ctx, at)
		return held{n: n, all: all, err: err}
	}
	l, err := listOf[bareObject](ctx, s.api, at, asMetadata)
	if err != nil {
		return held{err: err}
	}
	names := make([]string, 0, len(l.Items))
	for _, o := range l.Items {
		names = append(names, o.Metadata.Name)
	}
	return held{n: l.least(), all: l.complete(), names: names, more: l.extent}
}

// definedBy is what a CustomResourceDefinition defines, with a version that is served.
func definedBy(definition map[string]any) (group, version, plural string) {
	group, _, _ = unstructured.NestedString(definition, "spec", "group")
	plural, _, _ = unstructured.NestedString(definition, "spec", "names", "plural")
	versions, _, _ := unstructured.NestedSlice(definition, "spec", "versions")
	for _, v := range versions {
		if m, ok := v.(map[string]any); ok && m["served"] == true {
			return group, fmt.Sprint(m["name"]), plural
		}
	}
	return group, "", plural
}
