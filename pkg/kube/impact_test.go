package kube

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// setupImpacts is an API server with faults; the real one is in e2e.
func setupImpacts(t *testing.T, answer http.HandlerFunc) *Impacts {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	i, err := NewImpacts(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

const (
	groups    = `{"kind":"APIGroupList","apiVersion":"v1","groups":[]}`
	versions  = `{"kind":"APIVersions","versions":["v1"]}`
	resources = `{"kind":"APIResourceList","groupVersion":"v1","resources":[
		{"name":"pods","namespaced":true,"kind":"Pod","verbs":["list","delete"]},
		{"name":"events","namespaced":true,"kind":"Event","verbs":["list","delete"]},
		{"name":"bindings","namespaced":true,"kind":"Binding","verbs":["create"]},
		{"name":"secrets","namespaced":true,"kind":"Secret","verbs":["list","delete"]}]}`
)

// discovered answers discovery, and leaves the rest to others.
func discovered(rest http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		switch r.URL.Path {
		case "/api":
			_, _ = fmt.Fprint(w, versions)
		case "/apis":
			_, _ = fmt.Fprint(w, groups)
		case "/api/v1":
			_, _ = fmt.Fprint(w, resources)
		default:
			rest(w, r)
		}
	}
}

func namespaceDelete() *decision.Request {
	return &decision.Request{Verb: "delete", Version: "v1", Resource: "namespaces", Namespace: "prod", Name: "prod"}
}

// What cannot be found out is said, in the time that there is, and never as nothing.
func TestImpactsFaults(t *testing.T) {
	t.Parallel()
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	body := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprint(w, s) }
	}
	unclear := func(why string) []string {
		return []string{
			"not known: how many pods, secrets there are; " + why,
			"not known: which persistentvolumeclaims are deleted with their data; " + why,
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   []string
	}{
		"discovery fails": {status(http.StatusInternalServerError), []string{
			`not known: what is in namespace "prod"; the API server did not say`,
			`not known: which persistentvolumeclaims are deleted with their data; the API server did not say`,
		}},
		"nothing may be read": {discovered(status(http.StatusForbidden)), unclear("Holdfast may not read that")},
		"errors":              {discovered(status(http.StatusServiceUnavailable)), unclear("the API server did not say")},
		"no JSON":             {discovered(body("<html>")), unclear("the API server did not say")},
		"endless":             {discovered(body(strings.Repeat(" ", maxImpactBody+1))), unclear("there is too much of it")},
		"everything hangs": {hang, []string{
			`not known: what is in namespace "prod"; there was no time to find out`,
			`not known: which persistentvolumeclaims are deleted with their data; there was no time to find out`,
		}},
		"counting hangs": {discovered(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/persistentvolumeclaims") {
				_, _ = fmt.Fprint(w, `{"items":[{"metadata":{"namespace":"prod","name":"db"},"spec":{"volumeName":"pv-1"}}]}`)
				return
			}
			if strings.Contains(r.URL.Path, "/persistentvolumes/") {
				http.NotFound(w, r)
				return
			}
			hang(w, r)
		}), []string{
			`cannot be undone: deletes persistentvolumeclaims "prod/db", bound to volume "pv-1": its data may be deleted: the reclaim policy is not known`,
			`not known: how many pods, secrets there are; there was no time to find out`,
		}},
		"more than is said": {discovered(body(`{"metadata":{"continue":"x"},"items":[],"rows":[{}]}`)), []string{
			"not known: how many pods, secrets there are; there are more than could be counted",
			"not known: the names of all persistentvolumeclaims; there are more than 250",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := setupImpacts(t, c.answer)
			start := time.Now()
			got := i.Of(context.Background(), namespaceDelete(), nil)
			if took := time.Since(start); took > impactBudget+2*time.Second {
				t.Errorf("it took %s", took)
			}
			if !slices.Equal(got.Affected, c.want) {
				t.Errorf("got\n  %s\nwant\n  %s", strings.Join(got.Affected, "\n  "), strings.Join(c.want, "\n  "))
			}
			if got.Counts["namespaces"] != 1 || got.Digest == "" {
				t.Errorf("counts %v, digest %q", got.Counts, got.Digest)
			}
		})
	}
}

// Two are looked into at a time; another one does not wait for longer than its budget, and
// says that it has not looked.
func TestImpactsBusy(t *testing.T) {
	t.Parallel()
	i := setupImpacts(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	if err := i.places.Acquire(context.Background(), impactPlaces); err != nil {
		t.Fatal(err)
	}
	got := i.Of(context.Background(), namespaceDelete(), nil).Affected
	if want := []string{"not known: what it affects; Holdfast is busy finding that out for other requests"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Many who ask at once cause one discovery, which is kept, and is not lost with whom it was
// begun for.
func TestKindsAreDiscoveredOnce(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	release := make(chan struct{})
	i := setupImpacts(t, discovered(http.NotFound))
	inner := i.kinds.discovery
	i.kinds.discovery = slowDiscovery{inner, func() { asked.Add(1); <-release }}
	first, leave := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if _, err := i.kinds.get(first); err == nil {
			t.Error("who has gone got an answer")
		}
	})
	for asked.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	leave()
	wg.Wait()
	for range 10 {
		wg.Go(func() {
			got, err := i.kinds.get(context.Background())
			if err != nil || len(got.resources) != 2 {
				t.Errorf("%v, error %v", got, err)
			}
		})
	}
	close(release)
	wg.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
	late := i.kinds.now().Add(keepKinds)
	i.kinds.now = func() time.Time { return late }
	if _, err := i.kinds.get(context.Background()); err != nil || asked.Load() != 2 {
		t.Errorf("what is old is not asked for again: asked %d times, error %v", asked.Load(), err)
	}
}

type slowDiscovery struct {
	kindsDiscovery
	before func()
}

func (d slowDiscovery) ServerPreferredNamespacedResourcesWithContext(ctx context.Context) ([]*metav1.APIResourceList, error) {
	d.before()
	return d.kindsDiscovery.ServerPreferredNamespacedResourcesWithContext(ctx)
}

// Names of objects cannot lead to other paths.
func TestNamesStayNames(t *testing.T) {
	t.Parallel()
	i := setupImpacts(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked for %s", r.URL) })
	for _, name := range []string{"", ".", "..", "../secrets/x", "a/b", "%2e%2e"} {
		var into struct{}
		if err := i.api.get(context.Background(), rbacPath("roles", "prod"), name, asWhole, &into); err == nil {
			t.Errorf("%q was read", name)
		}
	}
}

// What there is nothing to say about asks nothing.
func TestImpactOfOtherChanges(t *testing.T) {
	t.Parallel()
	i := setupImpacts(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked for %s", r.URL) })
	for _, r := range []*decision.Request{
		{Verb: "create", Resource: "pods"},
		{Verb: "update", Resource: "namespaces"},
		{Verb: "update", Group: "apps", Resource: "deployments", Subresource: "status"},
		{Verb: "update", Group: "batch", Resource: "cronjobs", Subresource: "status"},
		{Verb: "delete", Resource: "configmaps"},
		{Verb: "delete", Group: "other.example.com", Resource: "namespaces"},
	} {
		if got := i.Of(context.Background(), r, nil); got.Counts != nil || got.Affected != nil || got.Digest != "" {
			t.Errorf("%s %s.%s: %+v", r.Verb, r.FullResource(), r.Group, got)
		}
	}
	items := []v1alpha1.Item{{Name: "b", UID: "2"}, {Name: "a", UID: "1"}}
	got := i.Of(context.Background(), &decision.Request{Verb: "deletecollection", Resource: "configmaps", Namespace: "prod"}, items)
	if want := []string{`deletes configmaps "a", "b"`}; !slices.Equal(got.Affected, want) || got.Counts["configmaps"] != 2 {
		t.Errorf("a collection: %+v, want %v", got, want)
	}
}

func TestOrphans(t *testing.T) {
	t.Parallel()
	with := func(finalizer string) map[string]any {
		return map[string]any{"metadata": map[string]any{"finalizers": []any{finalizer}}}
	}
	for _, c := range []struct {
		name, resource string
		options, old   map[string]any
		want           bool
	}{
		{"a Deployment", "deployments", nil, nil, false},
		{"a Job", "jobs", nil, nil, true},
		{"a ReplicationController", "replicationcontrollers", nil, nil, true},
		{"a Job in the background", "jobs", map[string]any{"propagationPolicy": "Background"}, nil, false},
		{"a Deployment alone", "deployments", map[string]any{"propagationPolicy": "Orphan"}, with("foregroundDeletion"), true},
		{"in the old way", "deployments", map[string]any{"orphanDependents": true}, nil, true},
		{"by finalizer", "deployments", nil, with("orphan"), true},
		{"by the other finalizer", "jobs", nil, with("foregroundDeletion"), false},
	} {
		s := &survey{request: &decision.Request{Verb: "delete", Resource: c.resource, Options: c.options, OldObject: c.old}}
		if got := s.orphans(); got != c.want {
			t.Errorf("%s: %t, want %t", c.name, got, c.want)
		}
	}
}
