package kube

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-dev/holdfast/pkg/access/impact"
)

// keepsPods says whether a resource is a workload.
func keepsPods(group, resource string) bool {
	return slices.Contains([]string{
		"deployments.apps", "statefulsets.apps", "daemonsets.apps", "replicasets.apps", "jobs.batch", "cronjobs.batch",
		"replicationcontrollers",
	}, schema.GroupResource{Group: group, Resource: resource}.String())
}

func (s *survey) workload() impact.Workload {
	r := s.request
	return impact.Workload{
		Resource:  schema.GroupResource{Group: r.Group, Resource: r.Resource}.String(),
		Namespace: r.Namespace, Name: r.Name,
	}
}

// deletedWorkload is what becomes of a workload's pods, and of the claims that go with it.
func (s *survey) deletedWorkload(ctx context.Context) {
	w := s.workload()
	s.report.Count(w.Resource, 1)
	fate := impact.Deleted
	if s.orphans() {
		fate = impact.Orphaned
	}
	s.pods(ctx, w, fate)
	if fate == impact.Deleted && w.Resource == "statefulsets.apps" && retention(s.request.OldObject, "whenDeleted") == "Delete" {
		s.ordinals(ctx, s.request.OldObject, 0, replicas(s.request.OldObject))
	}
}

// orphans says whether what the object owns stays when it is deleted, as the API server
// decides it (k8s.io/apiserver pkg/registry/generic/registry/store.go,
// shouldOrphanDependents).
func (s *survey) orphans() bool {
	r := s.request
	if orphan, ok := r.Options["orphanDependents"].(bool); ok {
		return orphan
	}
	switch r.Options["propagationPolicy"] {
	case string(metav1.DeletePropagationOrphan):
		return true
	case string(metav1.DeletePropagationBackground), string(metav1.DeletePropagationForeground):
		return false
	}
	for _, f := range (&unstructured.Unstructured{Object: r.OldObject}).GetFinalizers() {
		switch f {
		case metav1.FinalizerOrphanDependents:
			return true
		case metav1.FinalizerDeleteDependents:
			return false
		}
	}
	return r.Resource == "jobs" || r.Resource == "replicationcontrollers"
}

// changedWorkload is what a new number of replicas, or a new pod template, does to the pods.
func (s *survey) changedWorkload(ctx context.Context) {
	r, w := s.request, s.workload()
	if r.Resource == "cronjobs" || r.Resource == "jobs" {
		return // what it changes concerns later runs; a Job's template cannot change
	}
	from, to := replicas(r.OldObject), replicas(r.Object)
	if r.Resource != "daemonsets" && from != to {
		s.report.Count("pods", max(from-to, to-from))
		s.report.Scales(w, from, to)
		if r.Resource == "statefulsets" && to < from {
			s.shrunk(ctx, to, from)
		}
	}
	before, _, _ := unstructured.NestedFieldNoCopy(r.OldObject, "spec", "template")
	after, _, _ := unstructured.NestedFieldNoCopy(r.Object, "spec", "template")
	if r.Subresource == "scale" || equality.Semantic.DeepEqual(before, after) {
		return
	}
	strategy, _, _ := unstructured.NestedString(r.Object, "spec", "updateStrategy", "type")
	switch {
	case strategy == "OnDelete":
		s.report.Template(w, "its update strategy is OnDelete")
	case r.Resource == "replicasets", r.Resource == "replicationcontrollers":
		s.report.Template(w, "it replaces none that run")
	default:
		s.pods(ctx, w, impact.Replaced)
	}
}

// replicas is how many pods a workload wants; the API server fills in what is missing.
func replicas(workload map[string]any) int64 { return number64(workload, "spec", "replicas") }

// number64 is a whole number in decoded JSON, of whatever decoder; 0 where there is none.
func number64(o map[string]any, fields ...string) int64 {
	switch v, _, _ := unstructured.NestedFieldNoCopy(o, fields...); n := v.(type) {
	case int64:
		return n
	case float64:
		return int64(n)
	}
	return 0
}

// pods says what becomes of a workload's pods.
func (s *survey) pods(ctx context.Context, w impact.Workload, fate impact.Fate) {
	pods, more, err := s.podsOf(ctx, fate)
	if err != nil {
		s.report.Unclear("which pods it has", why(err))
		return
	}
	if more {
		s.report.Unclear("all pods that it has", fmt.Sprintf("there are more than %d", impactPage))
	}
	if len(pods) > 0 {
		s.report.Count("pods", int64(len(pods)))
	}
	if len(pods) > 0 || !more {
		s.report.Pods(w, fate, pods)
	}
}

// podsOf finds the pods that a workload owns, itself or through what it owns, and says
// whether there may be more.
func (s *survey) podsOf(ctx context.Context, fate impact.Fate) (names []string, more bool, err error) {
	r := s.request
	owners := map[types.UID]bool{(&unstructured.Unstructured{Object: r.OldObject}).GetUID(): true}
	selector, err := selectorOf(r.Resource, r.OldObject)
	if err != nil {
		return nil, false, err
	}
	between := map[string]listPath{
		"deployments": {group: "apps", version: "v1", resource: "replicasets", namespace: r.Namespace, selector: selector},
		"cronjobs":    {group: "batch", version: "v1", resource: "jobs", namespace: r.Namespace},
	}[r.Resource]
	if between.resource != "" {
		l, err := listOf[bareObject](ctx, s.api, between, asMetadata)
		if err != nil {
			return nil, false, err
		}
		more = l.Metadata.Continue != ""
		owned := ownedBy(l.Items, owners)
		owners = map[types.UID]bool{}
		for _, o := range owned {
			owners[o.Metadata.UID] = true
		}
		if len(owned) > 0 && fate == impact.Deleted {
			s.report.Count(schema.GroupResource{Group: between.group, Resource: between.resource}.String(), int64(len(owned)))
		}
	}
	l, err := listOf[bareObject](ctx, s.api, listPath{version: "v1", resource: "pods", namespace: r.Namespace, selector: selector}, asMetadata)
	if err != nil {
		return nil, false, err
	}
	for _, o := range ownedBy(l.Items, owners) {
		names = append(names, o.Metadata.Name)
	}
	return names, more || l.Metadata.Continue != "", nil
}

func ownedBy(objects []bareObject, owners map[types.UID]bool) []bareObject {
	return slices.DeleteFunc(objects, func(o bareObject) bool {
		return !slices.ContainsFunc(o.Metadata.OwnerReferences, func(r metav1.OwnerReference) bool { return owners[r.UID] })
	})
}

// selectorOf is the label selector of a workload's pods.
func selectorOf(resource string, workload map[string]any) (string, error) {
	selector, _, err := unstructured.NestedMap(workload, "spec", "selector")
	if err != nil {
		return "", fmt.Errorf("selector: %w", err)
	}
	if resource == "cronjobs" {
		return "batch.kubernetes.io/job-name", nil // the pods of any job
	}
	if resource == "replicationcontrollers" {
		set := labels.Set{}
		for k, v := range selector {
			set[k] = fmt.Sprint(v)
		}
		return set.String(), nil
	}
	var s metav1.LabelSelector
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(selector, &s); err != nil {
		return "", fmt.Errorf("selector: %w", err)
	}
	parsed, err := metav1.LabelSelectorAsSelector(&s)
	if err != nil {
		return "", fmt.Errorf("selector: %w", err)
	}
	return parsed.String(), nil
}

// retention is what becomes of a StatefulSet's claims when it is deleted or scaled.
func retention(set map[string]any, when string) string {
	policy, _, _ := unstructured.NestedString(set, "spec", "persistentVolumeClaimRetentionPolicy", when)
	return policy
}

// shrunk is what becomes of the claims of a StatefulSet that loses replicas. A scale does not
// show the set.
func (s *survey) shrunk(ctx context.Context, to, from int64) {
	set := s.request.Object
	if s.request.Subresource == "scale" {
		at := listPath{group: "apps", version: "v1", resource: "statefulsets", namespace: s.request.Namespace}
		set = nil // what it points to is the request's
		if err := s.api.get(ctx, at, s.request.Name, asWhole, &set); err != nil {
			s.report.Unclear("whether its persistentvolumeclaims are deleted with their data", why(err))
			return
		}
	}
	if retention(set, "whenScaled") == "Delete" {
		s.ordinals(ctx, set, to, from)
	}
}

// ordinals are the claims of some of a StatefulSet's pods, from one number up to another, by
// which they are called <template>-<set>-<number>.
func (s *survey) ordinals(ctx context.Context, set map[string]any, from, to int64) {
	start := number64(set, "spec", "ordinals", "start")
	templates, _, _ := unstructured.NestedSlice(set, "spec", "volumeClaimTemplates")
	if (to-from)*int64(len(templates)) > impactPage {
		s.report.Unclear("which persistentvolumeclaims are deleted with their data", "there are too many to look at")
		return
	}
	var names []string
	for n := from; n < to; n++ {
		for _, t := range templates {
			template, _ := t.(map[string]any)
			names = append(names, fmt.Sprintf("%s-%s-%d", (&unstructured.Unstructured{Object: template}).GetName(), s.request.Name, start+n))
		}
	}
	s.namedClaims(ctx, names)
}

// namedClaims looks up claims by name; those that do not exist are left out.
func (s *survey) namedClaims(ctx context.Context, names []string) {
	found := make([]corev1.PersistentVolumeClaim, len(names))
	failed := make([]error, len(names))
	var group errgroup.Group
	group.SetLimit(impactLists)
	for i, name := range names {
		group.Go(func() error {
			at := listPath{version: "v1", resource: "persistentvolumeclaims", namespace: s.request.Namespace}
			failed[i] = s.api.get(ctx, at, name, asWhole, &found[i])
			return nil
		})
	}
	_ = group.Wait() // none of them returns an error
	var claims []corev1.PersistentVolumeClaim
	var unknown []string
	for i := range found {
		switch {
		case failed[i] == nil:
			claims = append(claims, found[i])
		case !isNotFound(failed[i]):
			unknown = append(unknown, names[i])
		}
	}
	if len(unknown) > 0 {
		s.report.Unclear("what becomes of the data of persistentvolumeclaims "+strings.Join(unknown, ", "), "the API server did not say")
	}
	if len(claims) > 0 {
		s.report.Count("persistentvolumeclaims", int64(len(claims)))
	}
	s.reportClaims(ctx, claims)
}
