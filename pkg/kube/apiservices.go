package kube

import (
	"context"
	"fmt"
	"sync"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
)

// APIServices knows which APIs are served by other API servers, to which the cluster's own
// passes requests on without asking its admission webhooks.
type APIServices struct {
	mu sync.RWMutex
	// served are the groups and versions of others, by the name of their APIService.
	served map[string]schema.GroupVersion
	synced func() bool
}

// NewAPIServices watches APIServices. It has to be called before the cache starts.
func NewAPIServices(ctx context.Context, c cache.Cache) (*APIServices, error) {
	a := &APIServices{served: map[string]schema.GroupVersion{}}
	kind := &unstructured.Unstructured{}
	kind.SetGroupVersionKind(schema.GroupVersionKind{Group: "apiregistration.k8s.io", Version: "v1", Kind: "APIService"})
	informer, err := c.GetInformer(ctx, kind)
	if err != nil {
		return nil, fmt.Errorf("watch APIServices: %w", err)
	}
	registered, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: a.put, UpdateFunc: func(_, changed any) { a.put(changed) }, DeleteFunc: a.remove,
	})
	if err != nil {
		return nil, fmt.Errorf("watch APIServices: %w", err)
	}
	a.synced = registered.HasSynced
	return a, nil
}

// Aggregated says whether another API server serves a version of a group, or, where the
// version is empty, any of it. While that is not known, it is so.
func (a *APIServices) Aggregated(group, version string) bool {
	if !a.synced() {
		return true
	}
	a.mu.RLock()
	defer a.mu.RUnlock()
	for _, gv := range a.served {
		if gv.Group == group && (gv.Version == version || version == "" || version == "*") {
			return true
		}
	}
	return false
}

func (a *APIServices) put(object any) {
	u, ok := object.(*unstructured.Unstructured)
	if !ok {
		return
	}
	service, _, _ := unstructured.NestedMap(u.Object, "spec", "service")
	group, _, _ := unstructured.NestedString(u.Object, "spec", "group")
	version, _, _ := unstructured.NestedString(u.Object, "spec", "version")
	a.mu.Lock()
	defer a.mu.Unlock()
	if service == nil {
		delete(a.served, u.GetName())
		return
	}
	a.served[u.GetName()] = schema.GroupVersion{Group: group, Version: version}
}

func (a *APIServices) remove(object any) {
	if gone, ok := object.(toolscache.DeletedFinalStateUnknown); ok {
		object = gone.Obj
	}
	if u, ok := object.(*unstructured.Unstructured); ok {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.served, u.GetName())
	}
}
