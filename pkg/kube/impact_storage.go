package kube

import (
	"context"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/holdfast-dev/holdfast/pkg/access/impact"
)

// claim is what becomes of the data of a PersistentVolumeClaim that is deleted, and who uses
// it.
func (s *survey) claim(ctx context.Context) {
	s.report.Count("persistentvolumeclaims", 1)
	var claim corev1.PersistentVolumeClaim
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(s.request.OldObject, &claim); err != nil {
		s.report.Unclear("which data it holds", "the object is not understood")
		return
	}
	c := claimOf(&claim, s.lookUpVolumes(ctx, []corev1.PersistentVolumeClaim{claim}))
	pods, err := listOf[mountingPod](ctx, s.api, listPath{version: "v1", resource: "pods", namespace: claim.Namespace}, asWhole)
	if err != nil {
		s.report.Unclear("which pods mount it", why(err))
	}
	for i := range pods.Items {
		if pods.Items[i].mounts(claim.Name) {
			c.Pods = append(c.Pods, pods.Items[i].Metadata.Name)
		}
	}
	s.beyond(pods.extent, "pods that may mount it")
	s.report.DeletesClaim(c)
}

// mountingPod is what is kept of a pod: its name, and the claims that it mounts.
type mountingPod struct {
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		Volumes []struct {
			Name                  string                                    `json:"name"`
			PersistentVolumeClaim *corev1.PersistentVolumeClaimVolumeSource `json:"persistentVolumeClaim"`
			Ephemeral             *struct{}                                 `json:"ephemeral"`
		} `json:"volumes"`
	} `json:"spec"`
}

func (p *mountingPod) mounts(claim string) bool {
	for _, v := range p.Spec.Volumes {
		if v.PersistentVolumeClaim != nil && v.PersistentVolumeClaim.ClaimName == claim {
			return true
		}
		// The claim of an ephemeral volume is called <pod>-<volume>.
		if v.Ephemeral != nil && p.Metadata.Name+"-"+v.Name == claim {
			return true
		}
	}
	return false
}

// claims are those of a namespace that are deleted, with what becomes of their data.
func (s *survey) claims(ctx context.Context, namespace string, deleted func(types.UID) bool) {
	l, err := listOf[corev1.PersistentVolumeClaim](ctx, s.api, listPath{version: "v1", resource: "persistentvolumeclaims", namespace: namespace}, asWhole)
	if err != nil {
		s.report.Unclear("which persistentvolumeclaims are deleted with their data", why(err))
		return
	}
	var claims []corev1.PersistentVolumeClaim
	for i := range l.Items {
		if deleted(l.Items[i].UID) {
			claims = append(claims, l.Items[i])
		}
	}
	s.beyond(l.extent, "persistentvolumeclaims")
	if s.request.Verb == "delete" && len(claims) > 0 { // items of a collection are counted already
		s.report.Count("persistentvolumeclaims", int64(len(claims))+l.remaining())
	}
	s.reportClaims(ctx, claims)
}

func (s *survey) reportClaims(ctx context.Context, claims []corev1.PersistentVolumeClaim) {
	volumes := s.lookUpVolumes(ctx, claims)
	for i := range claims {
		s.report.DeletesClaim(claimOf(&claims[i], volumes))
	}
}

// claimOf is a claim with what is known of its volume.
func claimOf(c *corev1.PersistentVolumeClaim, volumes map[string]impact.Volume) impact.Claim {
	capacity, ok := c.Status.Capacity[corev1.ResourceStorage]
	if !ok {
		capacity = c.Spec.Resources.Requests[corev1.ResourceStorage]
	}
	claim := impact.Claim{Namespace: c.Namespace, Name: c.Name, Volume: volumes[c.Spec.VolumeName]}
	claim.Volume.Name = c.Spec.VolumeName
	if !capacity.IsZero() {
		claim.Capacity = capacity.String()
	}
	return claim
}

// lookUpVolumes finds the volumes of the first maxVolumes claims; the others are not shown
// either. What it does not find stays unknown, and is taken for lost.
func (s *survey) lookUpVolumes(ctx context.Context, claims []corev1.PersistentVolumeClaim) map[string]impact.Volume {
	found := make([]corev1.PersistentVolume, min(len(claims), maxVolumes))
	var group errgroup.Group
	group.SetLimit(impactLists)
	for i := range found {
		name := claims[i].Spec.VolumeName
		if name == "" {
			continue
		}
		group.Go(func() error {
			var v corev1.PersistentVolume
			if s.api.get(ctx, listPath{version: "v1", resource: "persistentvolumes"}, name, asWhole, &v) == nil {
				found[i] = v
			}
			return nil
		})
	}
	_ = group.Wait() // none of them returns an error
	volumes := make(map[string]impact.Volume, len(found))
	for i := range found {
		volumes[found[i].Name] = volumeOf(&found[i])
	}
	return volumes
}

func volumeOf(v *corev1.PersistentVolume) impact.Volume {
	volume := impact.Volume{Name: v.Name, Policy: v.Spec.PersistentVolumeReclaimPolicy}
	if capacity, ok := v.Spec.Capacity[corev1.ResourceStorage]; ok {
		volume.Capacity = capacity.String()
	}
	if c := v.Spec.ClaimRef; c != nil {
		volume.Claim = c.Namespace + "/" + c.Name
	}
	return volume
}

// volume is what becomes of the data of a PersistentVolume that is deleted.
func (s *survey) volume(context.Context) {
	s.report.Count("persistentvolumes", 1)
	var v corev1.PersistentVolume
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(s.request.OldObject, &v); err != nil {
		s.report.Unclear("which data it holds", "the object is not understood")
		return
	}
	s.report.DeletesVolume(volumeOf(&v))
}

// volumes are those of a collection that are deleted.
func (s *survey) volumes(ctx context.Context, deleted func(types.UID) bool) {
	l, err := listOf[corev1.PersistentVolume](ctx, s.api, listPath{version: "v1", resource: "persistentvolumes"}, asWhole)
	if err != nil {
		s.report.Unclear("which persistentvolumes are deleted with their data", why(err))
		return
	}
	for i := range l.Items {
		if deleted(l.Items[i].UID) {
			s.report.DeletesVolume(volumeOf(&l.Items[i]))
		}
	}
	s.beyond(l.extent, "persistentvolumes")
}

// pod says what owns a pod that is deleted or evicted.
func (s *survey) pod(ctx context.Context) {
	r := s.request
	s.report.Count("pods", 1)
	var pod metav1.Object = &unstructured.Unstructured{Object: r.OldObject}
	if r.Verb != "delete" {
		var evicted metav1.PartialObjectMetadata
		at := listPath{version: "v1", resource: "pods", namespace: r.Namespace}
		if err := s.api.get(ctx, at, r.Name, asOneMetadata, &evicted); err != nil {
			s.report.Unclear("what owns the pod", why(err))
			return
		}
		pod = &evicted
	}
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		owner = &metav1.OwnerReference{}
	}
	s.report.DeletesPod(r.Namespace, r.Name, owner.Kind, owner.Name)
}
