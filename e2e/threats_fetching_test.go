package e2e

import "strings"

const holdFetching = "baseline-secrets/hold-fetching"

const (
	ingresses       = "/apis/networking.k8s.io/v1/namespaces/{ns}/ingresses"
	ingressRules    = `"rules":[{"host":"a.example.com","http":{"paths":[{"path":"/","pathType":"Prefix","backend":{"service":{"name":"web","port":{"number":80}}}}]}}]`
	snippetKey      = "nginx.ingress.kubernetes.io/configuration-snippet"
	ingressTLS      = `"tls":[{"hosts":["a.example.com"],"secretName":"password"}]`
	csiProviderSpec = `"volumes":[{"name":"v","csi":{"driver":"secrets-store.csi.k8s.io","readOnly":true,"volumeAttributes":{"secretProviderClass":"mine"}}}],`
	csiSecretSpec   = `"volumes":[{"name":"v","csi":{"driver":"example.com","nodePublishSecretRef":{"name":"password"}}}],`
)

// newIngress is the body of an Ingress with annotations, and more in its spec.
func newIngress(annotations, more string) string {
	return `{"metadata":{"name":"mine","annotations":{` + annotations + `}},"spec":{` + more + ingressRules + `}}`
}

// fetchingThreats have somebody's controller read for the author.
func fetchingThreats() []Threat {
	held := func(id, title string, trials ...Trial) Threat {
		return Threat{ID: id, Title: title, Verdict: Held, AtOnce: true, Trials: trials, Control: noController}
	}
	return []Threat{
		held("S19", "Ingress and Gateway TLS references, snippet annotations", proxyTrials()...),
		held("S20", "SecretProviderClass, StorageClass, PersistentVolume secret refs", driverTrials()...),
		held("S21", "ExternalSecret, PushSecret, SealedSecret, Vault kinds", storeTrials()...),
		held("S22", "annotations that copy controllers obey", copierTrials()...),
		held("S23", "policy-engine kinds that fetch for the author", engineTrials()...),
	}
}

// proxyTrials have a proxy use a Secret as its own, or show what it reads.
func proxyTrials() []Trial {
	const mine = ingresses + "/mine"
	snippet := `"` + snippetKey + `":"return 200 $secret;"`
	changed := func(name, annotations, patch, shows string) Trial {
		return Trial{
			Name: name, Rule: holdFetching, Prepare: []call{httpPost(ingresses, newIngress(annotations, ""))},
			Attempt: mergePatch(mine, patch), Effect: objectHas(mine, shows), Target: mine,
		}
	}
	return []Trial{
		makes("an Ingress", holdUnreadable, mine, newIngress("", ingressTLS+",")),
		{
			Name: "an Ingress, afterwards", Rule: holdUnreadable, Prepare: []call{httpPost(ingresses, newIngress("", ""))},
			Attempt: mergePatch(mine, `{"spec":{`+ingressTLS+`}}`), Effect: fieldIs(mine, "spec.tls.0.secretName", "password"), Target: mine,
		},
		instructs("a Gateway", holdUnreadable, "gateway.networking.k8s.io", "Gateway",
			`"spec":{"listeners":[{"name":"a","port":443,"protocol":"HTTPS","tls":{"certificateRefs":[{"kind":"Secret","name":"password","namespace":"default"}]}}]}`),
		instructs("a ReferenceGrant to all Secrets", holdUnreadable, "gateway.networking.k8s.io", "ReferenceGrant",
			`"spec":{"from":[{"group":"gateway.networking.k8s.io","kind":"Gateway","namespace":"mine"}],"to":[{"group":"","kind":"Secret"}]}`),
		instructs("an Istio Gateway", holdUnreadable, "networking.istio.io", "Gateway",
			`"spec":{"servers":[{"hosts":["*"],"tls":{"mode":"SIMPLE","credentialName":"password"}}]}`),
		instructs("a Traefik store", holdUnreadable, "traefik.io", "TLSStore", `"spec":{"defaultCertificate":{"secretName":"password"}}`),
		makes("a snippet", holdFetching, mine, newIngress(snippet, "")),
		changed("a snippet, afterwards", "", `{"metadata":{"annotations":{`+snippet+`}}}`, snippetKey),
		changed("a snippet that says something else", snippet, `{"metadata":{"annotations":{"`+snippetKey+`":"return 201;"}}}`, "return 201;"),
		changed("a snippet under another prefix", "", `{"metadata":{"annotations":{"custom.example.com/server-snippet":"a"}}}`, "server-snippet"),
		{
			Name: "the paths of an Ingress that has one", Want: Allowed, Prepare: []call{httpPost(ingresses, newIngress(snippet, ""))},
			Attempt: jsonPatch(mine, `[{"op":"replace","path":"/spec/rules/0/host","value":"b.example.com"}]`),
			Effect:  fieldIs(mine, "spec.rules.0.host", "b.example.com"),
		},
	}
}

// driverTrials have a storage driver fetch, or use, a Secret.
func driverTrials() []Trial {
	trials := everywhere([]way{
		{name: "a volume of a provider", spec: podSpec(csiProviderSpec), shows: `"secretProviderClass":"mine"`, rule: holdUnreadable},
		{name: "a volume with a Secret", spec: podSpec(csiSecretSpec), shows: `"nodePublishSecretRef":{"name":"password"}`, rule: holdUnreadable},
	})
	const of = "/apis/storage.k8s.io/v1/storageclasses/{ns}"
	const volume = "/api/v1/persistentvolumes/{ns}"
	after := func(t Trial) Trial {
		t.After = []call{httpDelete(t.Target, "")}
		return t
	}
	return append(
		trials,
		instructs("a SecretProviderClass", holdFetching, "secrets-store.csi.x-k8s.io", "SecretProviderClass",
			`"spec":{"provider":"vault","parameters":{"objects":"- secretPath: secret/data/db"},"secretObjects":[{"secretName":"mine","type":"Opaque"}]}`),
		reinstructs("what a SecretProviderClass fetches", holdFetching, "secrets-store.csi.x-k8s.io", "SecretProviderClass",
			`"spec":{"provider":"vault","parameters":{"objects":"- secretPath: secret/data/mine"}}`,
			`{"spec":{"parameters":{"objects":"- secretPath: secret/data/db"}}}`, "secret/data/db"),
		after(makes("a StorageClass", holdUnreadable, of,
			`{"metadata":{"name":"{ns}"},"provisioner":"example.com/mine","parameters":{"csi.storage.k8s.io/node-stage-secret-name":"password","csi.storage.k8s.io/node-stage-secret-namespace":"default"}}`)),
		after(makes("a PersistentVolume", holdUnreadable, volume,
			`{"metadata":{"name":"{ns}"},"spec":{"capacity":{"storage":"1Gi"},"accessModes":["ReadWriteOnce"],"storageClassName":"{ns}","csi":{"driver":"example.com","volumeHandle":"mine","nodePublishSecretRef":{"name":"password","namespace":"default"}}}}`)),
	)
}

// storeTrials have a controller fetch from, or put into, a store outside.
func storeTrials() []Trial {
	const eso, vault = "external-secrets.io", "secrets.hashicorp.com"
	const remote = `"data":[{"secretKey":"a","remoteRef":{"key":"db"}}]`
	const server = `"spec":{"vault":{"server":"https://vault.example.com","path":"pki","auth":{"tokenSecretRef":{"name":"password","key":"password"}}}}`
	sealed, body := customWith("bitnami.com", "SealedSecret", `{"sealedsecrets.bitnami.com/cluster-wide":"true"}`, `"spec":{"encryptedData":{"a":"AgB"}}`)
	return []Trial{
		instructs("ExternalSecret", holdFetching, eso, "ExternalSecret", `"spec":{"secretStoreRef":{"name":"shared","kind":"ClusterSecretStore"},`+remote+`}`),
		reinstructs("what an ExternalSecret fetches", holdFetching, eso, "ExternalSecret",
			`"spec":{"secretStoreRef":{"name":"shared"},"data":[{"secretKey":"a","remoteRef":{"key":"mine"}}]}`, `{"spec":{`+remote+`}}`, `"key":"db"`),
		instructs("ClusterExternalSecret", holdFetching, eso, "ClusterExternalSecret", `"spec":{"externalSecretSpec":{"secretStoreRef":{"name":"shared"},`+remote+`}}`),
		instructs("SecretStore of another namespace", holdFetching, eso, "SecretStore",
			`"spec":{"provider":{"kubernetes":{"remoteNamespace":"kube-system","auth":{"serviceAccount":{"name":"default"}}}}}`),
		instructs("ClusterSecretStore", holdUnreadable, eso, "ClusterSecretStore",
			`"spec":{"provider":{"vault":{"server":"https://mine.example.com","auth":{"tokenSecretRef":{"name":"password","namespace":"default","key":"password"}}}}}`),
		instructs("PushSecret", holdUnreadable, eso, "PushSecret", `"spec":{"secretStoreRefs":[{"name":"mine"}],"selector":{"secret":{"name":"password"}}}`),
		makes("SealedSecret of anybody", holdFetching, sealed, body),
		instructs("VaultStaticSecret", holdFetching, vault, "VaultStaticSecret", `"spec":{"mount":"kv","type":"kv-v2","path":"db","destination":{"name":"mine","create":true}}`),
		instructs("VaultDynamicSecret", holdFetching, vault, "VaultDynamicSecret", `"spec":{"mount":"db","path":"creds/admin","destination":{"name":"mine","create":true}}`),
		instructs("VaultPKISecret", holdFetching, vault, "VaultPKISecret", `"spec":{"mount":"pki","role":"admin","commonName":"admin"}`),
		instructs("VaultAuth", holdUnreadable, vault, "VaultAuth", `"spec":{"method":"appRole","mount":"approle","appRole":{"roleId":"a","secretRef":"password"}}`),
		instructs("cert-manager Issuer", holdUnreadable, "cert-manager.io", "Issuer", server),
		reinstructs("the server of an Issuer", holdUnreadable, "cert-manager.io", "Issuer", server,
			`{"spec":{"vault":{"server":"https://mine.example.com"}}}`, "mine.example.com"),
		instructs("cert-manager ClusterIssuer", holdUnreadable, "cert-manager.io", "ClusterIssuer", server),
		instructs("SecretImport", holdUnreadable, "secretgen.carvel.dev", "SecretImport", `"spec":{"fromNamespace":"default"}`),
	}
}

// copierTrials have a controller copy, or inject, what an annotation says.
func copierTrials() []Trial {
	annotated := func(name, annotations string) Trial {
		return makes(name, holdFetching, secrets+"/mine", `{"metadata":{"name":"mine","annotations":{`+annotations+`}}}`)
	}
	const inject = `{"vault.hashicorp.com/agent-inject":"true","vault.hashicorp.com/agent-inject-secret-a":"secret/data/db"}`
	trials := []Trial{
		annotated("reflector", `"reflector.v1.k8s.emberstack.com/reflects":"default/password"`),
		annotated("replicator", `"replicator.v1.mittwald.de/replicate-from":"default/password"`),
		{
			Name: "replicator's permission", Rule: holdFetching, Prepare: []call{newSecret()},
			Attempt: mergePatch(secrets+"/password", `{"metadata":{"annotations":{"replicator.v1.mittwald.de/replication-allowed":"true","replicator.v1.mittwald.de/replication-allowed-namespaces":"*"}}}`),
			Effect:  objectHas(secrets+"/password", "replication-allowed"),
		},
		{
			Name: "config-syncer", Rule: holdFetching, Prepare: []call{newSecret()},
			Attempt: mergePatch(secrets+"/password", `{"metadata":{"annotations":{"kubed.appscode.com/sync":"team=mine"}}}`),
			Effect:  objectHas(secrets+"/password", "kubed.appscode.com/sync"),
		},
		makes("an Ingress's auth-secret", holdFetching, ingresses+"/mine", newIngress(`"nginx.ingress.kubernetes.io/auth-secret":"default/password"`, "")),
		makes("an Ingress's auth-tls-secret", holdFetching, ingresses+"/mine", newIngress(`"nginx.ingress.kubernetes.io/auth-tls-secret":"default/password"`, "")),
	}
	for _, k := range carriers() {
		trials = append(trials, Trial{
			Name: "an injector, " + k.kind, Rule: holdFetching,
			Attempt: k.annotated(podSpec(""), "{}", inject), Effect: objectHas(k.path(), "agent-inject-secret-a"), Target: k.path(),
		})
	}
	web := carriers()[4]
	return append(trials, Trial{
		Name: "what an injector is to fetch", Rule: holdFetching,
		Prepare: []call{web.annotated(podSpec(""), "{}", strings.Replace(inject, "data/db", "data/mine", 1))},
		Attempt: mergePatch(web.path(), `{"spec":{"template":{"metadata":{"annotations":`+inject+`}}},"metadata":{"annotations":{"a":"b"}}}`),
		Effect:  objectHas(web.path(), "secret/data/db"), Target: web.path(),
	})
}

// engineTrials have policy engines and deployers read, or make, what the author may not.
func engineTrials() []Trial {
	const kyverno = "kyverno.io"
	return []Trial{
		instructs("Kyverno clones", holdFetching, kyverno, "ClusterPolicy",
			`"spec":{"rules":[{"name":"a","match":{"any":[{"resources":{"kinds":["ConfigMap"]}}]},"generate":{"apiVersion":"v1","kind":"Secret","name":"mine","namespace":"{ns}","clone":{"namespace":"default","name":"password"}}}]}`),
		instructs("Kyverno calls the API", holdFetching, kyverno, "ClusterPolicy",
			`"spec":{"rules":[{"name":"a","context":[{"name":"a","apiCall":{"urlPath":"/api/v1/namespaces/default/secrets"}}]}]}`),
		reinstructs("Kyverno calls, afterwards", holdFetching, kyverno, "ClusterPolicy", `"spec":{"rules":[]}`,
			`{"spec":{"rules":[{"name":"a","context":[{"name":"a","apiCall":{"urlPath":"/api/v1/secrets"}}]}]}}`, "/api/v1/secrets"),
		instructs("Kyverno keeps", holdFetching, kyverno, "GlobalContextEntry", `"spec":{"kubernetesResource":{"version":"v1","resource":"secrets","namespace":"default"}}`),
		instructs("Gatekeeper keeps", holdFetching, "config.gatekeeper.sh", "Config", `"spec":{"sync":{"syncOnly":[{"group":"","version":"v1","kind":"Secret"}]}}`),
		instructs("Gatekeeper sends", holdFetching, "templates.gatekeeper.sh", "ConstraintTemplate",
			`"spec":{"targets":[{"target":"admission.k8s.gatekeeper.sh","rego":"violation[{\"msg\": m}] { m := http.send({\"url\": \"https://mine.example.com\"}) }"}]}`),
		instructs("Gatekeeper asks", holdFetching, "externaldata.gatekeeper.sh", "Provider", `"spec":{"url":"https://mine.example.com","timeout":3}`),
		instructs("Argo CD deploys", holdFetching, "argoproj.io", "Application", `"spec":{"project":"default","source":{"repoURL":"https://mine.example.com","path":"."}}`),
		instructs("Argo runs", holdCustom, "argoproj.io", "Workflow", `"spec":{"templates":[{"name":"a","container":{"image":"registry.invalid/mine:1"}}]}`),
		instructs("Flux applies", holdFetching, "kustomize.toolkit.fluxcd.io", "Kustomization", `"spec":{"path":"./","sourceRef":{"kind":"GitRepository","name":"mine"}}`),
		instructs("Flux applies as somebody", holdServiceAccount, "kustomize.toolkit.fluxcd.io", "Kustomization",
			`"spec":{"path":"./","sourceRef":{"kind":"GitRepository","name":"mine"},"serviceAccountName":"deployer"}`),
		instructs("Flux installs", holdFetching, "helm.toolkit.fluxcd.io", "HelmRelease", `"spec":{"chart":{"spec":{"chart":"mine","sourceRef":{"kind":"HelmRepository","name":"mine"}}}}`),
		instructs("Flux sends a Secret along", holdUnreadable, "source.toolkit.fluxcd.io", "GitRepository", `"spec":{"url":"https://mine.example.com","secretRef":{"name":"password"}}`),
		instructs("Tekton runs beside a Secret", holdUnreadable, "tekton.dev", "Task",
			`"spec":{"steps":[{"name":"a","image":"registry.invalid/mine:1","env":[{"name":"A","valueFrom":{"secretKeyRef":{"name":"password","key":"password"}}}]}]}`),
		instructs("Crossplane applies", holdFetching, "kubernetes.crossplane.io", "Object", `"spec":{"forProvider":{"manifest":{"apiVersion":"v1","kind":"ConfigMap"}}}`),
	}
}
