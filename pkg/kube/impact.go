package kube

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/semaphore"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/holdfast-dev/holdfast/pkg/access/impact"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// Bounds of finding out what a change would do.
const (
	// impactBudget is how long it may take. The agent's command waits meanwhile, and the API
	// server waits for its webhook.
	impactBudget = 1500 * time.Millisecond
	// impactPlaces is how many changes are looked into at the same time; others wait for
	// their turn within their budget. Each has impactLists requests under way with bodies of
	// at most maxImpactBody: 64 MiB in all at worst.
	impactPlaces  = 2
	impactLists   = 8
	maxImpactBody = 4 << 20
	// impactPage is how many objects of a kind are looked at by name.
	impactPage = 250
	// maxVolumes is how many volumes are looked up one by one.
	maxVolumes = impact.MaxSentences
)

// Impacts finds out what a change would do, by looking at the cluster as it is now. Of what
// it counts it asks for metadata alone, and of Secrets not even for that: the annotations of
// one that was applied hold its values. It is safe for concurrent use.
type Impacts struct {
	api    *impactAPI
	places *semaphore.Weighted
	kinds  *namespacedKinds
}

// NewImpacts returns Impacts with a configuration's rights. What these do not allow it to
// see, it says it does not know.
func NewImpacts(config *rest.Config) (*Impacts, error) {
	config = rest.CopyConfig(config)
	// What it asks is bounded by the constants above, not by a rate: within its budget there
	// is no time to wait for one.
	config.QPS = -1
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for impacts: %w", err)
	}
	base, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for impacts: %w", err)
	}
	d, err := discovery.NewDiscoveryClientForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("make a client for discovery: %w", err)
	}
	return &Impacts{
		api: &impactAPI{base: base, client: client}, places: semaphore.NewWeighted(impactPlaces),
		kinds: &namespacedKinds{discovery: d, now: time.Now},
	}, nil
}

// Of says what a request would do. items are those of a deletecollection; nil for anything
// else. It takes no longer than impactBudget, and never fails: what it could not find out is
// said in a sentence. The zero Impact says that there is nothing to say about that kind of
// change.
func (i *Impacts) Of(ctx context.Context, r *decision.Request, items []v1alpha1.Item) impact.Impact {
	s := &survey{api: i.api, kinds: i.kinds, request: r}
	look := s.looker(items)
	if look == nil {
		return impact.Impact{}
	}
	ctx, cancel := context.WithTimeout(ctx, impactBudget)
	defer cancel()
	if err := i.places.Acquire(ctx, 1); err != nil {
		s.report.Unclear("what it affects", "Holdfast is busy finding that out for other requests")
		return s.report.Impact()
	}
	defer i.places.Release(1)
	look(ctx)
	return s.report.Impact()
}

// survey is what is found out about one request.
type survey struct {
	api     *impactAPI
	kinds   *namespacedKinds
	request *decision.Request
	report  impact.Report
}

// looker returns what looks into the request; nil where there is nothing to look into.
func (s *survey) looker(items []v1alpha1.Item) func(context.Context) {
	r := s.request
	if r.Verb == "deletecollection" {
		return func(ctx context.Context) { s.collection(ctx, items) }
	}
	kind := schema.GroupResource{Group: r.Group, Resource: r.FullResource()}.String()
	if look := s.deleted(kind); look != nil && r.Verb == "delete" {
		return look
	}
	switch kind {
	case "pods/eviction":
		return s.pod
	case "roles.rbac.authorization.k8s.io", "clusterroles.rbac.authorization.k8s.io":
		return s.role
	case "rolebindings.rbac.authorization.k8s.io", "clusterrolebindings.rbac.authorization.k8s.io":
		return s.binding
	}
	if r.Verb == "update" && keepsPods(r.Group, r.Resource) && (r.Subresource == "" || r.Subresource == "scale") {
		return s.changedWorkload
	}
	return nil
}

// deleted returns what looks into the deletion of an object of a kind.
func (s *survey) deleted(kind string) func(context.Context) {
	switch kind {
	case "namespaces":
		return s.namespace
	case "pods":
		return s.pod
	case "persistentvolumeclaims":
		return s.claim
	case "persistentvolumes":
		return s.volume
	case "customresourcedefinitions.apiextensions.k8s.io":
		return s.definition
	}
	if keepsPods(s.request.Group, s.request.Resource) && s.request.Subresource == "" {
		return s.deletedWorkload
	}
	return nil
}

// collection says which items go. Of claims and volumes it finds out what becomes of their
// data; Secrets are only counted.
func (s *survey) collection(ctx context.Context, items []v1alpha1.Item) {
	r := s.request
	resource := schema.GroupResource{Group: r.Group, Resource: r.Resource}.String()
	s.report.Count(resource, int64(len(items)))
	rest := make(map[types.UID]string, len(items))
	for _, item := range items {
		rest[item.UID] = item.Name
	}
	take := func(uid types.UID) bool {
		_, found := rest[uid]
		delete(rest, uid)
		return found
	}
	switch {
	case r.Resource == "secrets":
		return
	case resource == "persistentvolumeclaims":
		s.claims(ctx, r.Namespace, take)
	case resource == "persistentvolumes":
		s.volumes(ctx, take)
	}
	// What has not been said in more words is said by name.
	s.report.Deletes(resource, slices.Collect(maps.Values(rest)))
}

// definition says which objects go with their CustomResourceDefinition.
func (s *survey) definition(ctx context.Context) {
	group, version, plural := definedBy(s.request.OldObject)
	kind := schema.GroupResource{Group: group, Resource: plural}.String()
	s.report.Count("customresourcedefinitions.apiextensions.k8s.io", 1)
	if version == "" {
		s.report.Unclear("which "+kind+" there are, all of which are deleted", "no version of them is served")
		return
	}
	list, err := listOf[bareObject](ctx, s.api, listPath{group: group, version: version, resource: plural}, asMetadata)
	if err != nil {
		s.report.Unclear("which "+kind+" there are, all of which are deleted", why(err))
		return
	}
	names := make([]string, 0, len(list.Items))
	for _, o := range list.Items {
		names = append(names, strings.TrimPrefix(o.Metadata.Namespace+"/"+o.Metadata.Name, "/"))
	}
	s.report.Count(kind, list.least())
	s.report.Deletes(kind, names)
	s.beyond(list.extent, kind)
}

// beyond says that there are more than were looked at by name.
func (s *survey) beyond(e extent, what string) {
	if e.Metadata.Continue != "" {
		s.report.Unclear("the names of all "+what, fmt.Sprintf("there are more than %d", impactPage))
	}
}
