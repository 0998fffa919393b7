package e2e

import "strings"

const holdClones = "baseline-secrets/hold-clones"

const claimSpec = `"accessModes":["ReadWriteOnce"],"resources":{"requests":{"storage":"1Gi"}}`

// copyThreats read a copy of what they may not read.
func copyThreats() []Threat {
	const claims = "/api/v1/namespaces/{ns}/persistentvolumeclaims"
	const snapshots = "snapshot.storage.k8s.io"
	const clone = `"dataSource":{"kind":"PersistentVolumeClaim","name":"data"}`
	claim := func(name, more string) Trial {
		return makes(name, holdClones, claims+"/mine", `{"metadata":{"name":"mine"},"spec":{`+claimSpec+`,`+more+`}}`)
	}
	copies := everywhere([]way{{
		name: "a clone for a pod", rule: holdClones, shows: `"dataSource":{`,
		spec: podSpec(`"volumes":[{"name":"v","ephemeral":{"volumeClaimTemplate":{"spec":{` + claimSpec + `,` + clone + `}}}}],`),
	}})
	set := carriers()[5].create(podSpec(""))
	set.body = strings.Replace(set.body, `"replicas":0,`, `"replicas":0,"volumeClaimTemplates":[{"metadata":{"name":"v"},"spec":{`+claimSpec+`,`+clone+`}}],`, 1)
	copies = append(
		copies,
		claim("a clone", clone),
		claim("a clone, the newer way", strings.Replace(clone, "dataSource", "dataSourceRef", 1)),
		claim("of a snapshot", `"dataSource":{"apiGroup":"`+snapshots+`","kind":"VolumeSnapshot","name":"data"}`),
		Trial{Name: "clones for a StatefulSet", Rule: holdClones, Attempt: set, Effect: objectHas(statefulSets+"/mine", `"dataSource":{`), Target: statefulSets + "/mine"},
		instructs("a snapshot", holdClones, snapshots, "VolumeSnapshot", `"spec":{"source":{"persistentVolumeClaimName":"data"}}`),
		instructs("a snapshot of one that was there", holdClones, snapshots, "VolumeSnapshot", `"spec":{"source":{"volumeSnapshotContentName":"somebodys"}}`),
		instructs("a snapshot's content", holdClones, snapshots, "VolumeSnapshotContent",
			`"spec":{"driver":"example.com","deletionPolicy":"Retain","source":{"snapshotHandle":"somebodys"},"volumeSnapshotRef":{"name":"mine","namespace":"{ns}"}}`),
		instructs("a backup", holdFetching, "velero.io", "Backup", `"spec":{"includedNamespaces":["*"],"storageLocation":"mine"}`),
		instructs("a restore", holdFetching, "velero.io", "Restore", `"spec":{"backupName":"nightly","namespaceMapping":{"default":"{ns}"}}`),
		Trial{
			Name: "an empty claim", Want: Allowed,
			Attempt: httpPost(claims, `{"metadata":{"name":"mine"},"spec":{`+claimSpec+`}}`), Effect: objectThere(claims + "/mine"),
		},
	)
	return []Threat{
		{ID: "S35", Title: "volume clones, snapshots, backups", Verdict: Held, AtOnce: true, Control: noController, Trials: copies},
		helmReleases(),
	}
}

// helmReleases are Secrets in which Helm keeps all values of an installation.
func helmReleases() Threat {
	const name = "sh.helm.release.v1.web.v1"
	release := httpPost(secrets, `{"metadata":{"name":"`+name+`","labels":{"owner":"helm","name":"web"}},"type":"helm.sh/release.v1","stringData":{"release":"`+threatSecret+`"}}`)
	read := func(trial, path string) Trial {
		return Trial{Name: trial, Rule: holdSecretReads, Prepare: []call{release}, Attempt: httpGet(path), Effect: tellsSecret}
	}
	return Threat{
		ID: "S24", Title: "Helm release Secrets", Verdict: Unheld, AtOnce: true,
		Trials: []Trial{
			read("by its name", secrets+"/"+name),
			read("by its label", secrets+"?labelSelector=owner%3Dhelm"),
			read("by its type, everywhere", "/api/v1/secrets?fieldSelector=type%3Dhelm.sh%2Frelease.v1"),
			read("by a watch", secrets+"?watch=true&timeoutSeconds=1&labelSelector=owner%3Dhelm"),
			granted("what was granted", "secrets/password", httpGet(secrets+"/password"), tellsSecret),
		},
	}
}
