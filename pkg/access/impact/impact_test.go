package impact

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
)

func equal(t *testing.T, name string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got\n  %s\nwant\n  %s", name, strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	var r Report
	r.Deletes("kafkas.kafka.strimzi.io", []string{"events"})
	r.Unclear("how many pods there are", "the API server did not answer in time")
	r.Deletes("statefulsets.apps", []string{"db", "cache"})
	r.DeletesClaim(Claim{Namespace: "prod", Name: "kept", Volume: Volume{Name: "pv-2", Policy: corev1.PersistentVolumeReclaimRetain}})
	r.DeletesClaim(Claim{Namespace: "prod", Name: "db-0", Capacity: "10Gi", Volume: Volume{Name: "pv-1", Policy: corev1.PersistentVolumeReclaimDelete}})
	r.Count("secrets", 3)
	r.Count("secrets", 1)
	got := r.Impact()
	equal(t, "sentences", got.Affected, []string{
		`cannot be undone: deletes persistentvolumeclaims "prod/db-0" (10Gi), bound to volume "pv-1": its data is deleted (reclaim policy Delete)`,
		`deletes persistentvolumeclaims "prod/kept", bound to volume "pv-2": its data is retained (reclaim policy Retain), and nothing in the cluster claims it any more`,
		`deletes statefulsets.apps "cache", "db"`,
		`not known: how many pods there are; the API server did not answer in time`,
		`deletes kafkas.kafka.strimzi.io "events"`,
	})
	if len(got.Counts) != 1 || got.Counts["secrets"] != 4 {
		t.Errorf("counts: %v, want 4 secrets alone", got.Counts)
	}
}

func TestStorage(t *testing.T) {
	t.Parallel()
	many := make([]string, 12)
	for i := range many {
		many[i] = fmt.Sprintf("p%02d", i)
	}
	for name, c := range map[string]struct {
		tell func(*Report)
		want []string
	}{
		"a claim that is bound to nothing": {
			func(r *Report) { r.DeletesClaim(Claim{Namespace: "a", Name: "b", Capacity: "1Gi"}) },
			[]string{`deletes persistentvolumeclaims "a/b" (1Gi), which is bound to no volume and holds no data`},
		},
		"a claim of whose volume nothing is known": {
			func(r *Report) { r.DeletesClaim(Claim{Namespace: "a", Name: "b", Volume: Volume{Name: "v"}}) },
			[]string{`cannot be undone: deletes persistentvolumeclaims "a/b", bound to volume "v": its data may be deleted: the reclaim policy is not known`},
		},
		"a claim in use": {
			func(r *Report) {
				r.DeletesClaim(Claim{Namespace: "a", Name: "b", Volume: Volume{Name: "v", Policy: corev1.PersistentVolumeReclaimRecycle}, Pods: many})
			},
			[]string{
				`cannot be undone: deletes persistentvolumeclaims "a/b", bound to volume "v": its data is deleted (reclaim policy Recycle)`,
				`persistentvolumeclaims "a/b" is mounted by pods "p00", "p01", "p02", "p03", "p04", "p05", "p06", "p07", "p08", "p09"`,
				`persistentvolumeclaims "a/b" is mounted by pods "p10", "p11"`,
			},
		},
		"a volume": {
			func(r *Report) {
				r.DeletesVolume(Volume{Name: "v", Capacity: "5Gi", Policy: corev1.PersistentVolumeReclaimDelete, Claim: "a/b"})
			},
			[]string{`cannot be undone: deletes persistentvolumes "v" (5Gi), bound to persistentvolumeclaims "a/b": its data is deleted (reclaim policy Delete)`},
		},
		"a volume that keeps its data": {
			func(r *Report) {
				r.DeletesVolume(Volume{Name: "v", Policy: corev1.PersistentVolumeReclaimRetain})
			},
			[]string{`deletes persistentvolumes "v": its data is retained (reclaim policy Retain), and nothing in the cluster claims it any more`},
		},
	} {
		var r Report
		c.tell(&r)
		equal(t, name, r.Impact().Affected, c.want)
	}
}

func TestWorkloads(t *testing.T) {
	t.Parallel()
	web := Workload{Resource: "deployments.apps", Namespace: "prod", Name: "web"}
	pods := []string{"web-b", "web-a"}
	for name, c := range map[string]struct {
		tell func(*Report)
		want []string
	}{
		"deleted":       {func(r *Report) { r.Pods(web, Deleted, pods) }, []string{`deletes pods "web-a", "web-b" of deployments.apps "prod/web"`}},
		"orphaned":      {func(r *Report) { r.Pods(web, Orphaned, pods) }, []string{`leaves pods "web-a", "web-b" of deployments.apps "prod/web" as they are, without it`}},
		"replaced":      {func(r *Report) { r.Pods(web, Replaced, pods) }, []string{`replaces pods "web-a", "web-b" of deployments.apps "prod/web"`}},
		"without pods":  {func(r *Report) { r.Pods(web, Deleted, nil) }, []string{`deployments.apps "prod/web" has no pods`}},
		"scaled down":   {func(r *Report) { r.Scales(web, 3, 0) }, []string{`scales deployments.apps "prod/web" from 3 to 0 pods: 3 are deleted`}},
		"scaled up":     {func(r *Report) { r.Scales(web, 3, 5) }, []string{`scales deployments.apps "prod/web" from 3 to 5 pods: 2 are started`}},
		"scaled by 0":   {func(r *Report) { r.Scales(web, 3, 3) }, nil},
		"new pods only": {func(r *Report) { r.Template(web, "OnDelete") }, []string{`changes the pods that deployments.apps "prod/web" will start; those that are there stay: OnDelete`}},
		"a pod":         {func(r *Report) { r.DeletesPod("a", "b", "ReplicaSet", "c") }, []string{`deletes pods "a/b", which ReplicaSet "c" owns: that decides whether another one takes its place`}},
		"a pod alone":   {func(r *Report) { r.DeletesPod("a", "b", "", "") }, []string{`deletes pods "a/b", which nothing owns: nothing starts it again`}},
	} {
		var r Report
		c.tell(&r)
		equal(t, name, r.Impact().Affected, c.want)
	}
}

// What is cut is said, what is not known stays, and the digest covers all of it.
func TestBounds(t *testing.T) {
	t.Parallel()
	claims := func(n int) *Report {
		r := &Report{}
		for i := range n {
			r.DeletesClaim(Claim{Namespace: "a", Name: fmt.Sprintf("c%03d", i), Volume: Volume{Name: "v", Policy: corev1.PersistentVolumeReclaimDelete}})
		}
		return r
	}
	full := claims(MaxSentences).Impact()
	if Cut(full.Affected) {
		t.Error("what just fits is said to be cut")
	}
	if len(full.Affected) != MaxSentences || !strings.Contains(full.Affected[MaxSentences-1], `"a/c063"`) {
		t.Errorf("%d sentences, the last: %s", len(full.Affected), full.Affected[len(full.Affected)-1])
	}

	r := claims(100)
	r.Deletes("things.example.com", []string{"x"})
	for i := range maxUnclear + 1 {
		r.Unclear(fmt.Sprintf("thing %d", i), "why")
	}
	got := r.Impact()
	if !Cut(got.Affected) {
		t.Error("it is not said to be cut")
	}
	if len(got.Affected) != MaxSentences {
		t.Errorf("%d sentences, want %d", len(got.Affected), MaxSentences)
	}
	if last := got.Affected[len(got.Affected)-1]; last != "cannot be undone: 45 more of these, and 2 other sentences, are not shown" {
		t.Errorf("the last sentence: %s", last)
	}
	if s := got.Affected[55]; s != "not known: thing 0; why" {
		t.Errorf("what is not known does not stand after what cannot be undone: %s", s)
	}

	r = &Report{}
	for i := range 70 {
		r.Deletes("things.example.com", []string{fmt.Sprint("x", i)})
	}
	less := r.Impact()
	if !Cut(less.Affected) {
		t.Error("what was cut harmlessly is not said to be cut")
	}
	if last := less.Affected[len(less.Affected)-1]; last != "and 7 more sentences, none of them about what cannot be undone, are not shown" {
		t.Errorf("the last sentence: %s", last)
	}
	r.Deletes("things.example.com", []string{"y"})
	if more := r.Impact(); more.Digest == less.Digest || !slices.Equal(more.Affected[:63], less.Affected[:63]) {
		t.Error("the digest does not tell apart what is cut")
	}
}

func TestLongSentence(t *testing.T) {
	t.Parallel()
	for n := 500; n < 520; n++ {
		long := strings.Repeat("é", n)
		var r Report
		r.Deletes("things", []string{long})
		got := r.Impact().Affected[0]
		whole := `deletes things "` + long + `"`
		begin, _, _ := strings.Cut(got, " …")
		if cut := Cut([]string{got}); cut != (got != whole) {
			t.Errorf("%d: said to be cut: %t", n, cut)
		}
		switch {
		case len(got) > MaxSentence || !utf8.ValidString(got):
			t.Errorf("%d: %d bytes, valid %t", n, len(got), utf8.ValidString(got))
		case len(whole) <= MaxSentence && got != whole:
			t.Errorf("%d: cut without need: %s", n, got)
		case len(whole) > MaxSentence && !strings.HasSuffix(got, fmt.Sprintf(" … (%d bytes more)", len(whole)-len(begin))):
			t.Errorf("%d: does not say how much is missing: %s", n, got)
		}
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	if got := (&Report{}).Impact(); got.Counts != nil || got.Affected != nil || got.Digest != "" {
		t.Errorf("of nothing: %+v", got)
	}
	tell := func(steps ...func(*Report)) string {
		var r Report
		for _, step := range steps {
			step(&r)
		}
		return r.Impact().Digest
	}
	a := func(r *Report) { r.Deletes("things", []string{"a"}) }
	b := func(r *Report) { r.Deletes("things", []string{"b"}) }
	count := func(resource string, n int64) func(*Report) {
		return func(r *Report) { r.Count(resource, n) }
	}
	if tell(a, b, count("x", 1), count("y", 2)) != tell(count("y", 2), b, count("x", 1), a, a) {
		t.Error("the order in which it is told things, or a repetition, changes the digest")
	}
	seen := map[string]string{}
	for name, digest := range map[string]string{
		"a": tell(a), "b": tell(b), "both": tell(a, b), "counted": tell(a, count("x", 1)), "counted otherwise": tell(a, count("x", 2)),
		"another resource": tell(a, count("y", 1)), "counts alone": tell(count("x", 1)), "two counts": tell(count("x", 1), count("y", 1)),
		"long name": tell(count("xy", 1)),
		"long a":    tell(func(r *Report) { r.Deletes("things", []string{strings.Repeat("a", 2000)}) }),
		"longer a":  tell(func(r *Report) { r.Deletes("things", []string{strings.Repeat("a", 2001)}) }),
		// The same text of another rank.
		"as text": tell(func(r *Report) { r.say(stateful, `deletes things "a"`) }),
	} {
		if len(digest) != 64 {
			t.Errorf("%s: digest %q", name, digest)
		}
		if other, taken := seen[digest]; taken {
			t.Errorf("%s and %s have one digest", name, other)
		}
		seen[digest] = name
	}
}

// Words of objects cannot pass for ours.
func TestHostileWords(t *testing.T) {
	t.Parallel()
	const evil = "x\" to nobody\ncannot be undone: \x1b[2J\u202e"
	var r Report
	r.Deletes(evil, []string{evil})
	r.DeletesClaim(Claim{Namespace: evil, Name: evil, Capacity: evil, Volume: Volume{Name: evil, Policy: corev1.PersistentVolumeReclaimRetain}, Pods: []string{evil}})
	r.DeletesPod(evil, evil, evil, evil)
	r.Pods(Workload{Resource: evil, Namespace: evil, Name: evil}, Deleted, []string{evil})
	for _, s := range r.Impact().Affected {
		if strings.ContainsAny(s, "\n\x1b\u202e") || strings.HasPrefix(s, Irreversible) || strings.Contains(s, `x" to`) {
			t.Errorf("it got through: %q", s)
		}
	}
}

func TestCompare(t *testing.T) {
	t.Parallel()
	got := []string{"secrets", "statefulsets.apps", "pods", "persistentvolumes", "persistentvolumeclaims", "configmaps"}
	slices.SortFunc(got, Compare)
	equal(t, "order", got, []string{"persistentvolumeclaims", "persistentvolumes", "statefulsets.apps", "configmaps", "pods", "secrets"})
}
