package impact

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Volume is a PersistentVolume as far as it says what becomes of its data.
type Volume struct {
	// Name of the volume.
	Name string
	// Capacity, such as 10Gi; empty where it is not known.
	Capacity string
	// Policy is the reclaim policy; empty where it is not known.
	Policy corev1.PersistentVolumeReclaimPolicy
	// Claim is namespace/name of the PersistentVolumeClaim that it is bound to; empty where
	// it is bound to none.
	Claim string
}

// Claim is a PersistentVolumeClaim that is deleted.
type Claim struct {
	Namespace, Name string
	// Capacity, such as 10Gi; empty where it is not known.
	Capacity string
	// Volume that it is bound to; without a name where it is bound to none.
	Volume Volume
	// Pods that mount it, by name.
	Pods []string
}

// DeletesClaim says what becomes of the data of a PersistentVolumeClaim.
func (r *Report) DeletesClaim(c Claim) {
	what := "deletes persistentvolumeclaims " + path(c.Namespace, c.Name) + size(c.Capacity)
	if c.Volume.Name == "" {
		r.say(stateful, "%s, which is bound to no volume and holds no data", what)
	} else {
		k, fate := fate(c.Volume.Policy)
		r.say(k, "%s, bound to volume %s: its data %s", what, path("", c.Volume.Name), fate)
	}
	for part := range slices.Chunk(slices.Sorted(slices.Values(c.Pods)), listed) {
		r.say(stateful, "persistentvolumeclaims %s is mounted by pods %s", path(c.Namespace, c.Name), quoted(part))
	}
}

// DeletesVolume says what becomes of the data of a PersistentVolume.
func (r *Report) DeletesVolume(v Volume) {
	what := "deletes persistentvolumes " + path("", v.Name) + size(v.Capacity)
	if v.Claim != "" {
		what += ", bound to persistentvolumeclaims " + path("", v.Claim)
	}
	k, fate := fate(v.Policy)
	r.say(k, "%s: its data %s", what, fate)
}

func size(capacity string) string {
	if capacity == "" {
		return ""
	}
	return " (" + word(capacity) + ")"
}

// fate is what becomes of data under a reclaim policy. What is not known to be kept is taken
// for lost.
func fate(p corev1.PersistentVolumeReclaimPolicy) (rank, string) {
	switch p {
	case corev1.PersistentVolumeReclaimRetain:
		return stateful, "is retained (reclaim policy Retain), and nothing in the cluster claims it any more"
	case corev1.PersistentVolumeReclaimDelete, corev1.PersistentVolumeReclaimRecycle:
		return lost, "is deleted (reclaim policy " + string(p) + ")"
	default:
		return lost, "may be deleted: the reclaim policy is not known"
	}
}
