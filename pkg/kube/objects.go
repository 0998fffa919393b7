package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// Objects looks at objects of any kind as they are stored now. What it asks for is metadata
// alone, with the one exception of Each, whose objects are judged and not kept.
type Objects struct {
	metadata metadata.Interface
	dynamic  dynamic.Interface
}

// NewObjects returns Objects with a configuration's rights.
func NewObjects(config *rest.Config) (*Objects, error) {
	m, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for metadata: %w", err)
	}
	d, err := dynamic.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make a client for objects: %w", err)
	}
	return &Objects{metadata: m, dynamic: d}, nil
}

// Ref names an object, or, without a name, a collection.
type Ref struct {
	schema.GroupVersionResource
	// Namespace is empty for what is cluster-scoped.
	Namespace, Name string
}

// Metadata returns what is stored under a reference; nil and no error where nothing is.
func (o *Objects) Metadata(ctx context.Context, r Ref) (*metav1.PartialObjectMetadata, error) {
	found, err := o.metadata.Resource(r.GroupVersionResource).Namespace(r.Namespace).Get(ctx, r.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, fmt.Errorf("look up %s %s: %w", r.Resource, r.Name, err)
	}
	return found, nil
}

// nothing selects no objects: of a list of them only the resourceVersion is wanted.
const nothing = v1alpha1.Group + "/nothing"

// Since returns a resourceVersion of a reference's collection from which its history can be
// asked for later: what is stored from now on has a greater one. It is what the API server's
// cache has, and may be a little old, which adds to the history what has just happened.
func (o *Objects) Since(ctx context.Context, r Ref) (string, error) {
	return o.version(ctx, r, "0")
}

// version is that of the collection as the cache has it ("0"), or ("") as it is stored, for
// which the API server brings its cache up to date: that takes it up to 100 ms.
func (o *Objects) version(ctx context.Context, r Ref, atLeast string) (string, error) {
	list, err := o.metadata.Resource(r.GroupVersionResource).Namespace(r.Namespace).
		List(ctx, metav1.ListOptions{LabelSelector: nothing, ResourceVersion: atLeast})
	if err != nil {
		return "", fmt.Errorf("list %s: %w", r.Resource, err)
	}
	return list.ResourceVersion, nil
}

// errHistory says that what happened is no longer known.
var errHistory = errors.New("the API server no longer knows what has happened since")

// replay is how long the API server may take to tell what has happened.
const replay = 5 * time.Second

// Appeared says whether an object of that name, or, where there is none, of that
// generateName, was created in the collection after a resourceVersion, whatever became of it
// since. It goes through what the API server still knows of its history, and returns
// errHistory where that does not reach back.
func (o *Objects) Appeared(ctx context.Context, r Ref, generateName, since string) (bool, error) {
	if since == "" || since == "0" {
		return false, errHistory
	}
	seconds := int64(replay / time.Second)
	options := metav1.ListOptions{
		ResourceVersion: since, AllowWatchBookmarks: true, TimeoutSeconds: &seconds,
	}
	if r.Name != "" {
		options.FieldSelector = fields.OneTermEqualSelector("metadata.name", r.Name).String()
	}
	events, err := o.metadata.Resource(r.GroupVersionResource).Namespace(r.Namespace).Watch(ctx, options)
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		return false, errHistory
	}
	if err != nil {
		return false, fmt.Errorf("watch %s: %w", r.Resource, err)
	}
	defer events.Stop()
	// The API server ends the history with a bookmark two seconds before the watch's end, but
	// only where its cache has come beyond the beginning. Reading what is stored brings it
	// there, and says how far a history has to reach to be whole: the one that tells it may be
	// of another API server, which is behind.
	until, err := o.version(ctx, r, "")
	if err != nil {
		return false, err
	}
	for e := range events.ResultChan() {
		switch e.Type {
		case watch.Error:
			if err := apierrors.FromObject(e.Object); apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
				return false, errHistory
			}
			return false, fmt.Errorf("watch %s: %w", r.Resource, apierrors.FromObject(e.Object))
		case watch.Bookmark:
			if reaches(e.Object, until) {
				return false, nil
			}
		default:
			// Whatever is seen of it says that there was one; what had been there before
			// would have refused the create.
			m, ok := e.Object.(*metav1.PartialObjectMetadata)
			if !ok || r.Name != "" || m.GenerateName == generateName {
				return true, nil
			}
		}
	}
	return false, fmt.Errorf("watch %s: ended before all of the history was told", r.Resource)
}

// reaches says whether a bookmark is of a resourceVersion or of a later one.
func reaches(bookmark runtime.Object, version string) bool {
	m, ok := bookmark.(*metav1.PartialObjectMetadata)
	if !ok {
		return false
	}
	order, err := resourceversion.CompareResourceVersion(m.ResourceVersion, version)
	return err == nil && order >= 0
}

// Each lists a collection in pages and shows every object, decoded, to visit, whose error
// ends it. It says whether there are more than most, of which it shows none beyond.
func (o *Objects) Each(ctx context.Context, r Ref, most int, visit func(object map[string]any) error) (more bool, err error) {
	// Objects have 1.5 MB at most: a page takes 40 MB, decoded several times that.
	const page = 25
	options, seen := metav1.ListOptions{Limit: page}, 0
	for {
		list, err := o.dynamic.Resource(r.GroupVersionResource).Namespace(r.Namespace).List(ctx, options)
		if err != nil {
			return false, fmt.Errorf("list %s: %w", r.Resource, err)
		}
		for i := range list.Items {
			if seen == most {
				return true, nil
			}
			seen++
			if err := visit(list.Items[i].Object); err != nil {
				return false, err
			}
		}
		if options.Continue = list.GetContinue(); options.Continue == "" {
			return false, nil
		}
	}
}

// eachMetadata shows the UID of every object of a collection, and whether it is being deleted.
func (o *Objects) eachMetadata(ctx context.Context, r Ref, visit func(uid types.UID, deleting bool)) error {
	options := metav1.ListOptions{Limit: 500}
	for {
		list, err := o.metadata.Resource(r.GroupVersionResource).Namespace(r.Namespace).List(ctx, options)
		if err != nil {
			return fmt.Errorf("list %s: %w", r.Resource, err)
		}
		for i := range list.Items {
			visit(list.Items[i].UID, list.Items[i].DeletionTimestamp != nil)
		}
		if options.Continue = list.Continue; options.Continue == "" {
			return nil
		}
	}
}

// Gone says why what an AccessRequest is about can no longer be changed as was asked; empty
// where it can.
func (o *Objects) Gone(ctx context.Context, r *v1alpha1.AccessRequest) (string, error) {
	if r.Status.TargetUID == "" {
		return "", nil
	}
	ref := refOf(r)
	now, err := o.Metadata(ctx, ref)
	switch {
	case err != nil:
		return "", err
	case now == nil:
		return fmt.Sprintf("%s %q is gone", ref.Resource, ref.Name), nil
	case now.UID != r.Status.TargetUID:
		return fmt.Sprintf("%s %q has been deleted and made again since", ref.Resource, ref.Name), nil
	default:
		return "", nil
	}
}

// refTo is what a request is about: its collection where withName is false.
func refTo(r *decision.Request, withName bool) Ref {
	ref := Ref{
		GroupVersionResource: schema.GroupVersionResource{Group: r.Group, Version: r.Version, Resource: r.Resource},
		Namespace:            r.Namespace,
	}
	if r.Group == "" && r.Resource == "namespaces" {
		ref.Namespace = "" // it is the name
	}
	if withName {
		ref.Name = r.Name
	}
	return ref
}

// Collection shows every object of a request's resource in its namespace: see Each.
func (o *Objects) Collection(ctx context.Context, r *decision.Request, most int, visit func(object map[string]any) error) (more bool, err error) {
	return o.Each(ctx, refTo(r, false), most, visit)
}

// UID is that of the object which a request names; empty and no error where there is none.
func (o *Objects) UID(ctx context.Context, r *decision.Request) (string, error) {
	m, err := o.Metadata(ctx, refTo(r, true))
	if err != nil || m == nil {
		return "", err
	}
	return string(m.UID), nil
}
