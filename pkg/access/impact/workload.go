package impact

import (
	"slices"
)

// Workload is something that keeps pods.
type Workload struct {
	// Resource, such as deployments.apps.
	Resource        string
	Namespace, Name string
}

func (w Workload) String() string { return word(w.Resource) + " " + path(w.Namespace, w.Name) }

// Fate is what becomes of a workload's pods.
type Fate uint8

// The fates.
const (
	// Deleted: they go with the workload.
	Deleted Fate = iota
	// Orphaned: they stay, and the workload no longer keeps them.
	Orphaned
	// Replaced: they are deleted, and others take their places.
	Replaced
)

// Pods says what becomes of the pods of a workload, which are given by name.
func (r *Report) Pods(w Workload, f Fate, pods []string) {
	format := map[Fate]string{
		Deleted:  "deletes pods %[2]s of %[1]s",
		Orphaned: "leaves pods %[2]s of %[1]s as they are, without it",
		Replaced: "replaces pods %[2]s of %[1]s",
	}[f]
	for part := range slices.Chunk(slices.Sorted(slices.Values(pods)), listed) {
		r.say(named, format, w, quoted(part))
	}
	if len(pods) == 0 {
		r.say(named, "%s has no pods", w)
	}
}

// Template says that a change of the pod template concerns no pods that are there already.
func (r *Report) Template(w Workload, why string) {
	r.say(named, "changes the pods that %s will start; those that are there stay: %s", w, why)
}

// Scales says from how many pods to how many a workload is scaled.
func (r *Report) Scales(w Workload, from, to int64) {
	switch {
	case to < from:
		r.say(named, "scales %s from %d to %d pods: %d are deleted", w, from, to, from-to)
	case to > from:
		r.say(named, "scales %s from %d to %d pods: %d are started", w, from, to, to-from)
	}
}

// DeletesPod says what follows from deleting one pod. owner is what controls it, such as
// ReplicaSet "web-5f"; without a name nothing does.
func (r *Report) DeletesPod(namespace, name, ownerKind, ownerName string) {
	if ownerName == "" {
		r.say(named, "deletes pods %s, which nothing owns: nothing starts it again", path(namespace, name))
		return
	}
	r.say(named, "deletes pods %s, which %s %s owns: that decides whether another one takes its place",
		path(namespace, name), word(ownerKind), path("", ownerName))
}
