package reference

import (
	"strings"

	"github.com/holdfast-dev/holdfast/pkg/policy/structure"
)

// kinds finds what the names of fields do not tell: of kinds that are built in, and of
// controllers that read with rights of their own whatever their objects ask for.
func (f *finder) kinds(root map[string]any) {
	switch f.group {
	case "":
		f.core(root)
	case "networking.k8s.io", "extensions":
		if f.kind == "Ingress" {
			path := (*structure.Path)(nil).Key("spec").Key("tls")
			list, _ := at(root, "spec", "tls").([]any)
			for i, item := range list {
				f.add(Secret, f.namespace, text(at(item, "secretName")), path.Index(i).Key("secretName"), TLS)
			}
		}
	case "certificates.k8s.io":
		if f.kind == "PodCertificateRequest" {
			f.add(ServiceAccount, f.namespace, text(at(root, "spec", "serviceAccountName")), spec("serviceAccountName"), PodCertificate)
		}
	case "snapshot.storage.k8s.io", "groupsnapshot.storage.k8s.io":
		f.snapshot(root)
	case "gateway.networking.k8s.io":
		f.referenceGrant(root)
	case "external-secrets.io":
		f.externalSecrets(root)
	case "bitnami.com":
		f.sealedSecret(root)
	case "secretgen.carvel.dev", "secretgen.k14s.io":
		f.secretgen(root)
	case "kyverno.io", "policies.kyverno.io", "config.gatekeeper.sh", "templates.gatekeeper.sh", "externaldata.gatekeeper.sh":
		f.policyEngine(root)
	}
	for _, b := range broad {
		if b.group == f.group && (b.kind == "" || b.kind == f.kind) {
			f.broad(root, b.via)
		}
	}
}

func spec(keys ...string) *structure.Path {
	path := (*structure.Path)(nil).Key("spec")
	for _, key := range keys {
		path = path.Key(key)
	}
	return path
}

func (f *finder) core(root map[string]any) {
	switch f.kind {
	case ServiceAccount:
		f.names(Secret, root["secrets"], (*structure.Path)(nil).Key("secrets"), Mounted)
		f.names(Secret, root["imagePullSecrets"], (*structure.Path)(nil).Key("imagePullSecrets"), ImagePull)
	case "Binding":
		path := (*structure.Path)(nil).Key("target").Key("name")
		f.add(Node, "", text(at(root, "target", "name")), path, NodeName)
	}
}

// snapshot is a snapshot of a claim. The content of one that was there before can be of any.
func (f *finder) snapshot(root map[string]any) {
	switch f.kind {
	case "VolumeSnapshot":
		f.add(PersistentVolumeClaim, f.namespace, text(at(root, "spec", "source", "persistentVolumeClaimName")),
			spec("source", "persistentVolumeClaimName"), VolumeSnapshot)
		if text(at(root, "spec", "source", "volumeSnapshotContentName")) != "" {
			f.add(PersistentVolumeClaim, "", All, spec("source", "volumeSnapshotContentName"), VolumeSnapshot)
		}
	case "VolumeSnapshotContent", "VolumeGroupSnapshotContent":
		f.add(PersistentVolumeClaim, "", All, spec("source"), VolumeSnapshot)
	case "VolumeGroupSnapshot":
		f.add(PersistentVolumeClaim, f.namespace, All, spec("source"), VolumeSnapshot)
	}
}

// referenceGrant lets other namespaces refer to Secrets here, to all where it names none.
// Those that it names are found by their kind.
func (f *finder) referenceGrant(root map[string]any) {
	if f.kind != "ReferenceGrant" {
		return
	}
	to, _ := at(root, "spec", "to").([]any)
	for i, item := range to {
		if text(at(item, "kind")) == Secret && text(at(item, "name")) == "" {
			f.add(Secret, f.namespace, All, spec("to").Index(i), Field)
		}
	}
}

// writes says whether a field names a Secret that the controller writes, not reads.
func (f *finder) writes(lower string, path *structure.Path) bool {
	return f.group == "cert-manager.io" && f.kind == "Certificate" && lower == "secretname" && path.Depth() == 2
}

// externalSecrets: a store of the provider kubernetes is a namespace; those that fetch from
// stores are under broad, and those that push say what by a field.
func (f *finder) externalSecrets(root map[string]any) {
	provider, ok := at(root, "spec", "provider", "kubernetes").(map[string]any)
	if !ok {
		return
	}
	// The namespace default is what the provider takes where none is said.
	f.add(Secret, namespaceOf(provider["remoteNamespace"], "default"), All, spec("provider", "kubernetes", "remoteNamespace"), External)
}

// sealedSecret: one that is sealed for its namespace and name can be opened as that alone, and
// refers to nothing. The others can be somebody else's, taken along.
func (f *finder) sealedSecret(root map[string]any) {
	const prefix = "sealedsecrets.bitnami.com/"
	annotations, _ := at(root, "metadata", "annotations").(map[string]any)
	for key, v := range annotations {
		if (key == prefix+"cluster-wide" || key == prefix+"namespace-wide") && v != "false" {
			path := (*structure.Path)(nil).Key("metadata").Key("annotations").Key(key)
			f.add(Secret, "", All, path, External)
		}
	}
}

// secretgen: an import is a copy of the Secret of its own name, an export lets it be copied.
func (f *finder) secretgen(root map[string]any) {
	switch f.kind {
	case "SecretImport":
		f.add(Secret, namespaceOf(at(root, "spec", "fromNamespace"), ""), f.name, spec("fromNamespace"), Field)
	case "SecretExport":
		f.add(Secret, f.namespace, f.name, spec("toNamespaces"), Field)
	}
}

// broad are the controllers that read what cannot be pinned to a name: with rights of their
// own, from a store or repository that their objects name.
var broad = []struct{ group, kind, via string }{
	{"external-secrets.io", "ExternalSecret", External},
	{"external-secrets.io", "ClusterExternalSecret", External},
	{"kubernetes-client.io", "ExternalSecret", External},
	{"secrets-store.csi.x-k8s.io", "SecretProviderClass", External},
	{"secrets.hashicorp.com", "VaultStaticSecret", External},
	{"secrets.hashicorp.com", "VaultDynamicSecret", External},
	{"secrets.hashicorp.com", "VaultPKISecret", External},
	{"secrets.hashicorp.com", "HCPVaultSecretsApp", External},
	{"secrets.hashicorp.com", "SecretTransformation", External},
	{"ricoberger.de", "VaultSecret", External},
	{"redhatcop.redhat.io", "VaultSecret", External},
	{"koudingspawn.de", "Vault", External},
	{"onepassword.com", "OnePasswordItem", External},
	{"secrets.infisical.com", "InfisicalSecret", External},
	{"secrets.doppler.com", "DopplerSecret", External},
	{"k8s.bitwarden.com", "BitwardenSecret", External},
	{"spv.no", "AzureKeyVaultSecret", External},

	{"argoproj.io", "Application", Deployer},
	{"argoproj.io", "ApplicationSet", Deployer},
	{"kustomize.toolkit.fluxcd.io", "Kustomization", Deployer},
	// What these fetch is applied by those who refer to them.
	{"source.toolkit.fluxcd.io", "", Deployer},
	{"helm.toolkit.fluxcd.io", "HelmRelease", Deployer},
	{"helm.cattle.io", "HelmChart", Deployer},
	{"helm.cattle.io", "HelmChartConfig", Deployer},
	{"fleet.cattle.io", "", Deployer},
	{"kubernetes.crossplane.io", "Object", Deployer},
	{"kubernetes.m.crossplane.io", "Object", Deployer},
	{"helm.crossplane.io", "Release", Deployer},
	{"work.open-cluster-management.io", "ManifestWork", Deployer},
	{"kappctrl.k14s.io", "App", Deployer},

	{"velero.io", "Backup", Backup},
	{"velero.io", "Restore", Backup},
	{"velero.io", "Schedule", Backup},
	{"velero.io", "BackupStorageLocation", Backup},
	{"velero.io", "DownloadRequest", Backup},
	{"cr.kanister.io", "ActionSet", Backup},
	{"actions.kio.kasten.io", "", Backup},
	{"config.kio.kasten.io", "", Backup},
}

// broad notes that an object reads with the rights of its controller, unless it says whose
// rights are taken instead: that service account is a reference of its own.
func (f *finder) broad(root map[string]any, via string) {
	if via == Deployer && (f.kind == "Kustomization" || f.kind == "HelmRelease") && text(at(root, "spec", "serviceAccountName")) != "" {
		return
	}
	f.add(Secret, "", All, (*structure.Path)(nil).Key("spec"), via)
}

// policyEngine: Kyverno copies what a rule clones and asks the API for what a context calls;
// Gatekeeper keeps a copy of what it syncs, and asks providers.
func (f *finder) policyEngine(root map[string]any) {
	path := (*structure.Path)(nil).Key("spec")
	if f.group == "externaldata.gatekeeper.sh" {
		f.add(Secret, "", All, path, Fetch)
		return
	}
	f.fetches(root["spec"], path)
}

// fetches looks for what makes a policy engine read, at any depth: keys whose values are
// calls, and expressions that call. The walk that follows has the same ticks and bounds.
func (f *finder) fetches(v any, path *structure.Path) {
	if f.tick() != nil || path.Depth() > structure.MaxDepth {
		return
	}
	switch v := v.(type) {
	case map[string]any:
		for key, child := range v {
			f.fetch(v, key, child, path.Key(key))
			f.fetches(child, path.Key(key))
		}
	case []any:
		for i, item := range v {
			f.fetches(item, path.Index(i))
		}
	case string:
		for _, call := range []string{"http.send", "data.inventory", "external_data", "resource.Get(", "resource.List(", "http.Get(", "http.Post(", "globalContext.Get("} {
			if strings.Contains(v, call) {
				f.add(Secret, "", All, path, Fetch)
				return
			}
		}
	}
}

func (f *finder) fetch(parent map[string]any, key string, v any, path *structure.Path) {
	m, isMap := v.(map[string]any)
	switch {
	case !isMap:
		// Gatekeeper's syncOnly is a list of kinds.
		if list, _ := v.([]any); key == "syncOnly" {
			for i, item := range list {
				if kind := text(at(item, "kind")); kind == Secret || kind == "*" {
					f.add(Secret, "", All, path.Index(i), Fetch)
				}
			}
		}
	case key == "apiCall" || key == "kubernetesResource" || key == "globalReference":
		f.add(Secret, "", All, path, Fetch)
	case key == "clone":
		if kind := text(parent["kind"]); kind == ConfigMap || kind == Secret {
			f.add(kind, namespaceOf(m["namespace"], ""), text(m["name"]), path.Key("name"), Fetch)
		} else if !isName(strings.ToLower(kind)) {
			f.add(Secret, namespaceOf(m["namespace"], ""), text(m["name"]), path.Key("name"), Fetch)
		}
	case key == "cloneList":
		f.add(Secret, namespaceOf(m["namespace"], ""), All, path, Fetch)
	}
}
