package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// customKind is a kind of somebody's controller, which is not there: what it would read, the
// API server does not know.
type customKind struct {
	group, version, kind, plural string
	// cluster: it has no namespace.
	cluster bool
}

// customKinds are those that the cases make objects of.
var customKinds = []customKind{
	{"gateway.networking.k8s.io", "v1", "Gateway", "gateways", false},
	{"gateway.networking.k8s.io", "v1beta1", "ReferenceGrant", "referencegrants", false},
	{"networking.istio.io", "v1", "Gateway", "gateways", false},
	{"traefik.io", "v1alpha1", "TLSStore", "tlsstores", false},
	{"secrets-store.csi.x-k8s.io", "v1", "SecretProviderClass", "secretproviderclasses", false},
	{"external-secrets.io", "v1", "ExternalSecret", "externalsecrets", false},
	{"external-secrets.io", "v1", "ClusterExternalSecret", "clusterexternalsecrets", true},
	{"external-secrets.io", "v1", "SecretStore", "secretstores", false},
	{"external-secrets.io", "v1", "ClusterSecretStore", "clustersecretstores", true},
	{"external-secrets.io", "v1alpha1", "PushSecret", "pushsecrets", false},
	{"bitnami.com", "v1alpha1", "SealedSecret", "sealedsecrets", false},
	{"secrets.hashicorp.com", "v1beta1", "VaultStaticSecret", "vaultstaticsecrets", false},
	{"secrets.hashicorp.com", "v1beta1", "VaultDynamicSecret", "vaultdynamicsecrets", false},
	{"secrets.hashicorp.com", "v1beta1", "VaultPKISecret", "vaultpkisecrets", false},
	{"secrets.hashicorp.com", "v1beta1", "VaultAuth", "vaultauths", false},
	{"cert-manager.io", "v1", "Issuer", "issuers", false},
	{"cert-manager.io", "v1", "ClusterIssuer", "clusterissuers", true},
	{"secretgen.carvel.dev", "v1alpha1", "SecretImport", "secretimports", false},
	{"kyverno.io", "v1", "ClusterPolicy", "clusterpolicies", true},
	{"kyverno.io", "v2alpha1", "GlobalContextEntry", "globalcontextentries", true},
	{"config.gatekeeper.sh", "v1alpha1", "Config", "configs", false},
	{"templates.gatekeeper.sh", "v1", "ConstraintTemplate", "constrainttemplates", true},
	{"externaldata.gatekeeper.sh", "v1beta1", "Provider", "providers", true},
	{"argoproj.io", "v1alpha1", "Application", "applications", false},
	{"argoproj.io", "v1alpha1", "Workflow", "workflows", false},
	{"kustomize.toolkit.fluxcd.io", "v1", "Kustomization", "kustomizations", false},
	{"helm.toolkit.fluxcd.io", "v2", "HelmRelease", "helmreleases", false},
	{"source.toolkit.fluxcd.io", "v1", "GitRepository", "gitrepositories", false},
	{"tekton.dev", "v1", "Task", "tasks", false},
	{"kubernetes.crossplane.io", "v1alpha2", "Object", "objects", true},
	{"snapshot.storage.k8s.io", "v1", "VolumeSnapshot", "volumesnapshots", false},
	{"snapshot.storage.k8s.io", "v1", "VolumeSnapshotContent", "volumesnapshotcontents", true},
	{"velero.io", "v1", "Backup", "backups", false},
	{"velero.io", "v1", "Restore", "restores", false},
}

const customDefinition = `
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: %[4]s.%[1]s
  annotations: {api-approved.kubernetes.io: "unapproved, of a test"}
spec:
  group: %[1]s
  scope: %[5]s
  names: {plural: %[4]s, singular: %[6]s, kind: %[3]s, listKind: %[3]sList}
  versions:
  - name: %[2]s
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
`

// customKinds defines them all.
func (s *stage) customKinds(t *testing.T) {
	t.Helper()
	var manifest strings.Builder
	for _, k := range customKinds {
		scope := "Namespaced"
		if k.cluster {
			scope = "Cluster"
		}
		fmt.Fprintf(&manifest, customDefinition, k.group, k.version, k.kind, k.plural, scope, strings.ToLower(k.kind))
	}
	if r := s.c.kubectlWith(t, manifest.String(), human, "create", "-f", "-"); r.code != 0 {
		t.Fatalf("create kinds: %s", r.err)
	}
	for _, k := range customKinds {
		s.admin.await(t, "/apis/"+k.group+"/"+k.version+"/"+k.plural)
	}
}

// custom is an object of a custom kind: where it is, and its body with more fields beside its
// metadata. Its name is the scene's.
func custom(group, kind, more string) (path, body string) { return customWith(group, kind, "{}", more) }

// customWith is one with annotations.
func customWith(group, kind, annotations, more string) (path, body string) {
	for _, k := range customKinds {
		if k.group != group || k.kind != kind {
			continue
		}
		in := "/namespaces/{ns}"
		if k.cluster {
			in = ""
		}
		return "/apis/" + k.group + "/" + k.version + in + "/" + k.plural + "/{ns}", fmt.Sprintf(
			`{"apiVersion":%q,"kind":%q,"metadata":{"name":"{ns}","annotations":%s},%s}`, k.group+"/"+k.version, k.kind, annotations, more)
	}
	panic("no kind " + kind + " of " + group)
}

// instructs is the trial of making an object of a custom kind, which tells its controller to read.
func instructs(name, rule, group, kind, more string) Trial {
	path, body := custom(group, kind, more)
	return makes(name, rule, path, body)
}

// reinstructs is the trial of changing one that is there, by a merge patch.
func reinstructs(name, rule, group, kind, more, patch, shows string) Trial {
	path, body := custom(group, kind, more)
	return Trial{
		Name: name, Rule: rule, Prepare: []call{httpPost(path[:strings.LastIndex(path, "/")], body)},
		Attempt: mergePatch(path, patch), Effect: objectHas(path, shows), Target: path,
	}
}
