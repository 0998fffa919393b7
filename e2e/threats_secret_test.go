package e2e

import (
	"errors"
	"fmt"
)

const (
	holdUnreadable   = "baseline-secrets/hold-unreadable"
	holdFetching     = "baseline-secrets/hold-fetching"
	holdAccount      = "baseline-secrets/hold-service-account"
	holdTokens       = "baseline-secrets/hold-tokens"
	denyTokenSecrets = "baseline-secrets/deny-token-secrets"
	holdClones       = "baseline-secrets/hold-clones"
)

const (
	accounts  = "/api/v1/namespaces/{ns}/serviceaccounts"
	ingresses = "/apis/networking.k8s.io/v1/namespaces/{ns}/ingresses"
	claims    = "/api/v1/namespaces/{ns}/persistentvolumeclaims"
)

// inPod are the ways in which a pod spec reads the Secret password.
func inPod() []struct{ name, spec string } {
	const env = `"env":[{"name":"P","valueFrom":{"secretKeyRef":{"name":"password","key":"password"}}}]`
	const envFrom = `"envFrom":[{"secretRef":{"name":"password"}}]`
	const plain = `"containers":[{"name":"c","image":"registry.invalid/c:1"}]`
	return []struct{ name, spec string }{
		{"a volume", podSpec(`"volumes":[{"name":"v","secret":{"secretName":"password"}}],`)},
		{"a projected volume", podSpec(`"volumes":[{"name":"v","projected":{"sources":[{"secret":{"name":"password"}}]}}],`)},
		{"a subPath", `{"volumes":[{"name":"v","secret":{"secretName":"password"}}],"containers":[` +
			containerWith("c", `"volumeMounts":[{"name":"v","mountPath":"/p","subPath":"password"}]`) + `]}`},
		{"env", podSpecWith(env)},
		{"envFrom", podSpecWith(envFrom)},
		{"env of an init container", `{"initContainers":[` + containerWith("i", env) + `],` + plain + `}`},
		{"envFrom of a sidecar", `{"initContainers":[` + containerWith("i", `"restartPolicy":"Always",`+envFrom) + `],` + plain + `}`},
	}
}

// secretThreats read a Secret by what refers to it. The Secret may not be there: whoever may
// not read it may not try for it either.
func secretThreats() []Threat {
	ways := inPod()
	held := func(id, title string, trials ...Trial) Threat {
		return Threat{ID: id, Title: title, Verdict: Held, Waits: waitsReferences, Trials: trials}
	}
	var volumes, envs, templates []Trial
	for i, way := range ways {
		trial := carries(carriers()[0], way.name, holdUnreadable, way.spec)
		if i < 3 {
			volumes = append(volumes, trial)
		} else {
			envs = append(envs, trial)
		}
	}
	envs = append(envs, Trial{
		Name: "env of an ephemeral container", Rule: holdUnreadable, Prepare: []call{newPod("victim")},
		Attempt: strategicPatch(pods+"/victim/ephemeralcontainers", `{"spec":{"ephemeralContainers":[`+containerWith("mine", `"envFrom":[{"secretRef":{"name":"password"}}]`)+`]}}`),
		Effect:  fieldIs(pods+"/victim", "spec.ephemeralContainers.0.name", "mine"), Target: pods + "/victim",
	})
	for _, of := range carriers()[1:] {
		templates = append(templates, carries(of, "", holdUnreadable, ways[0].spec))
	}
	templates = append(templates,
		Trial{
			Name: "somebody's kind", Rule: holdUnreadable,
			Attempt: httpPost(runners, runnerBody("v1", "mine", templateSpec(ways[3].spec))), Effect: objectThere(runners + "/mine"), Target: runners + "/mine",
		},
		Trial{
			Name: "afterwards", Rule: holdUnreadable, Prepare: []call{newDeployment("web", 1)},
			Attempt: strategicPatch(deployments+"/web", `{"spec":{"template":{"spec":{"containers":[{"name":"c","envFrom":[{"secretRef":{"name":"password"}}]}]}}}}`),
			Effect:  fieldIs(deployments+"/web", "spec.template.spec.containers.0.envFrom.0.secretRef.name", "password"), Target: deployments + "/web",
		})
	other := httpPost(accounts, `{"metadata":{"name":"other"}}`)
	asOther := carries(carriers()[0], "", holdAccount, podSpec(`"serviceAccountName":"other",`))
	asOther.Prepare = []call{other}
	return []Threat{
		held("S04", "volumes: secret, projected, subPath", volumes...),
		held("S05", "env and envFrom of any container", envs...),
		held("S06", "pod templates of every controller", templates...),
		held("S07", "another serviceAccountName", called(asOther, "Pod"), carries(carriers()[1], "", holdAccount, podSpec(`"serviceAccountName":"other",`))),
		{
			ID: "S09", Title: "creating a Secret of type service-account-token", Verdict: Denied, Waits: waitsReferences,
			Trials: []Trial{{
				Rule: denyTokenSecrets, Prepare: []call{other},
				Attempt: httpPost(secrets, `{"metadata":{"name":"mine","annotations":{"kubernetes.io/service-account.name":"other"}},"type":"kubernetes.io/service-account-token"}`),
				Effect: func(s *scene, _ answer) error {
					if fieldOf(s.read(secrets+"/mine").object(), "data.token") == nil {
						return errors.New("there is no token in it")
					}
					return nil
				},
			}},
		},
		held("S10", "projected token with an audience",
			carries(carriers()[0], "", holdTokens, podSpec(`"volumes":[{"name":"t","projected":{"sources":[{"serviceAccountToken":{"audience":"vault","path":"token"}}]}}],`))),
		held("S18", "imagePullSecrets",
			carries(carriers()[0], "", holdUnreadable, podSpec(`"imagePullSecrets":[{"name":"password"}],`)),
			Trial{
				Name: "of a service account", Rule: holdUnreadable, Prepare: []call{other},
				Attempt: mergePatch(accounts+"/other", `{"imagePullSecrets":[{"name":"password"}]}`),
				Effect:  fieldIs(accounts+"/other", "imagePullSecrets.0.name", "password"), Target: accounts + "/other",
			}),
		held("S32", "pod certificate projections",
			carries(carriers()[0], "", holdTokens, podSpec(`"volumes":[{"name":"t","projected":{"sources":[{"podCertificate":{"signerName":"example.com/mine","keyType":"ED25519","credentialBundlePath":"bundle"}}]}}],`))),
		held("S19", "Ingress and Gateway TLS references, snippet annotations", edgeTrials()...),
		held("S20", "SecretProviderClass, StorageClass, PersistentVolume secret refs", storageTrials()...),
		held("S21", "ExternalSecret, PushSecret, SealedSecret, Vault kinds", storeTrials()...),
		held("S22", "annotations that copy controllers obey",
			Trial{
				Name: "a Secret that mirrors another", Rule: holdFetching,
				Attempt: httpPost(secrets, `{"metadata":{"name":"mine","annotations":{"reflector.v1.k8s.emberstack.com/reflects":"kube-system/password"}}}`),
				Effect:  objectThere(secrets + "/mine"), Target: secrets + "/mine",
			},
			Trial{
				Name: "a ConfigMap that does", Rule: holdFetching, Prepare: []call{newConfigMap("web")},
				Attempt: mergePatch(configMaps+"/web", `{"metadata":{"annotations":{"replicator.v1.mittwald.de/replicate-from":"kube-system/password"}}}`),
				Effect:  fieldHas(configMaps+"/web", "metadata.annotations", "replicate-from"), Target: configMaps + "/web",
			}),
		held("S23", "policy-engine kinds that fetch for the author",
			custom("kyverno.io", "v1", "clusterpolicies", "ClusterPolicy", false, holdFetching,
				`{"rules":[{"name":"copy","match":{"any":[{"resources":{"kinds":["ConfigMap"]}}]},"generate":{"apiVersion":"v1","kind":"Secret","name":"mine","namespace":"{ns}","clone":{"namespace":"kube-system","name":"password"}}}]}`)),
		held("S35", "volume clones, snapshots, backups", cloneTrials()...),
	}
}

// custom is the trial of creating an object of somebody's kind, which a person defines first.
func custom(group, version, plural, kind string, namespaced bool, rule, spec string) Trial {
	path, scope := "/apis/"+group+"/"+version+"/"+plural, "Cluster"
	if namespaced {
		path, scope = "/apis/"+group+"/"+version+"/namespaces/{ns}/"+plural, "Namespaced"
	}
	list := "/apis/" + group + "/" + version + "/" + plural
	definition := fmt.Sprintf(`{"metadata":{"name":"%[3]s.%[1]s","annotations":{"api-approved.kubernetes.io":"unapproved, for a test"}},"spec":{"group":%[1]q,"scope":%[5]q,
		"names":{"plural":%[3]q,"kind":%[4]q},"versions":[{"name":%[2]q,"served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object","x-kubernetes-preserve-unknown-fields":true}}}]}}`,
		group, version, plural, kind, scope)
	body := fmt.Sprintf(`{"apiVersion":"%s/%s","kind":%q,"metadata":{"name":"{ns}"}`, group, version, kind)
	if spec != "" {
		body += `,"spec":` + spec
	}
	return Trial{
		Name: kind, Rule: rule, Attempt: httpPost(path, body+`}`), Effect: objectThere(path + "/{ns}"), Target: path + "/{ns}",
		Ready: func(s *scene) error {
			if s.exists(list) == nil {
				return nil
			}
			if err := thereOr(definitions+"/"+plural+"."+group, httpPost(definitions, definition))(s); err != nil {
				return err
			}
			return s.exists(list)
		},
	}
}

// edgeTrials have an edge proxy read.
func edgeTrials() []Trial {
	const rules = `"rules":[{"host":"{ns}.example.com","http":{"paths":[{"path":"/","pathType":"Prefix","backend":{"service":{"name":"web","port":{"number":80}}}}]}}]`
	return []Trial{
		{
			Name: "an Ingress", Rule: holdUnreadable, Attempt: httpPost(ingresses, `{"metadata":{"name":"mine"},"spec":{"tls":[{"secretName":"password"}],`+rules+`}}`),
			Effect: objectThere(ingresses + "/mine"), Target: ingresses + "/mine",
		},
		{
			Name: "a snippet", Rule: holdFetching,
			Attempt: httpPost(ingresses, `{"metadata":{"name":"mine","annotations":{"nginx.ingress.kubernetes.io/configuration-snippet":"return 200;"}},"spec":{`+rules+`}}`),
			Effect:  objectThere(ingresses + "/mine"), Target: ingresses + "/mine",
		},
		custom("gateway.networking.k8s.io", "v1", "gateways", "Gateway", true, holdUnreadable,
			`{"gatewayClassName":"x","listeners":[{"name":"l","port":443,"protocol":"HTTPS","tls":{"certificateRefs":[{"name":"password"}]}}]}`),
		{
			Name: "an Ingress without TLS", Want: Allowed, Attempt: httpPost(ingresses, `{"metadata":{"name":"mine"},"spec":{`+rules+`}}`),
			Effect: objectThere(ingresses + "/mine"),
		},
	}
}

func storageTrials() []Trial {
	return []Trial{
		creates("a StorageClass", holdStorage, storage+"/storageclasses/{ns}",
			`{"metadata":{"name":"{ns}"},"provisioner":"example.com/mine","parameters":{"csi.storage.k8s.io/provisioner-secret-name":"password","csi.storage.k8s.io/provisioner-secret-namespace":"kube-system"}}`),
		creates("a PersistentVolume", holdUnreadable, "/api/v1/persistentvolumes/{ns}", `{"metadata":{"name":"{ns}"},"spec":{"capacity":{"storage":"1Gi"},"accessModes":["ReadWriteOnce"],
			"csi":{"driver":"example.com","volumeHandle":"x","nodeStageSecretRef":{"name":"password","namespace":"kube-system"}}}}`),
		custom("secrets-store.csi.x-k8s.io", "v1", "secretproviderclasses", "SecretProviderClass", true, holdFetching,
			`{"provider":"vault","parameters":{"objects":"password"}}`),
	}
}

// storeTrials have a controller fetch from, or push to, a store outside.
func storeTrials() []Trial {
	return []Trial{
		custom("external-secrets.io", "v1", "externalsecrets", "ExternalSecret", true, holdFetching,
			`{"secretStoreRef":{"kind":"ClusterSecretStore","name":"vault"},"target":{"name":"mine"},"data":[{"secretKey":"p","remoteRef":{"key":"password"}}]}`),
		custom("external-secrets.io", "v1alpha1", "pushsecrets", "PushSecret", true, holdUnreadable,
			`{"secretStoreRefs":[{"kind":"SecretStore","name":"mine"}],"selector":{"secret":{"name":"password"}},"data":[{"match":{"secretKey":"password","remoteRef":{"remoteKey":"mine"}}}]}`),
		custom("secrets.hashicorp.com", "v1beta1", "vaultstaticsecrets", "VaultStaticSecret", true, holdFetching,
			`{"vaultAuthRef":"kube-system/default","mount":"kv","type":"kv-v2","path":"password","destination":{"name":"mine","create":true}}`),
	}
}

func cloneTrials() []Trial {
	claim := func(more string) string {
		return `{"metadata":{"name":"mine"},"spec":{` + more + `"accessModes":["ReadWriteOnce"],"storageClassName":"","resources":{"requests":{"storage":"1Gi"}}}}`
	}
	return []Trial{
		{
			Name: "a clone", Rule: holdClones, Attempt: httpPost(claims, claim(`"dataSource":{"kind":"PersistentVolumeClaim","name":"theirs"},`)),
			Effect: objectThere(claims + "/mine"), Target: claims + "/mine",
		},
		{
			Name: "from a snapshot", Rule: holdClones,
			Attempt: httpPost(claims, claim(`"dataSource":{"apiGroup":"snapshot.storage.k8s.io","kind":"VolumeSnapshot","name":"theirs"},`)),
			Effect:  objectThere(claims + "/mine"), Target: claims + "/mine",
		},
		custom("snapshot.storage.k8s.io", "v1", "volumesnapshots", "VolumeSnapshot", true, holdClones,
			`{"source":{"persistentVolumeClaimName":"theirs"}}`),
		custom("velero.io", "v1", "backups", "Backup", true, holdFetching, `{"includedNamespaces":["kube-system"]}`),
		{
			Name: "an empty one", Want: Allowed, Attempt: httpPost(claims, claim("")), Effect: objectThere(claims + "/mine"),
		},
	}
}
