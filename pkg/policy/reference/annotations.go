package reference

import (
	"strings"

	"github.com/holdfast-dev/holdfast/pkg/policy/structure"
)

// Prefixes of the annotations by which controllers copy what has them. The reflector and the
// replicator also pull: a copy names its source.
const (
	reflector  = "reflector.v1.k8s.emberstack.com/"
	replicator = "replicator.v1.mittwald.de/"
	syncer     = "kubed.appscode.com/"
	vault      = "vault.hashicorp.com/"
	vaultEnv   = "vault.security.banzaicloud.io/"
)

// annotations finds what annotations make controllers read, in the metadata of objects and of
// templates.
func (f *finder) annotations(m map[string]any, path *structure.Path) error {
	for key, v := range m {
		if err := f.tick(); err != nil {
			return err
		}
		value, ok := v.(string)
		if !ok {
			continue
		}
		f.annotation(m, key, value, path.Key(key))
	}
	return nil
}

func (f *finder) annotation(m map[string]any, key, value string, path *structure.Path) {
	_, last, ok := strings.Cut(key, "/")
	if !ok {
		return
	}
	switch {
	case strings.HasPrefix(key, reflector), strings.HasPrefix(key, replicator), strings.HasPrefix(key, syncer):
		f.copied(last, value, path)
	case strings.HasPrefix(key, vaultEnv), strings.HasPrefix(key, vault) && strings.HasPrefix(last, "agent-inject"):
		if value != "false" {
			f.add(Secret, f.namespace, All, path, Annotation)
		}
	case key == vault+"agent-configmap":
		f.add(ConfigMap, f.namespace, value, path, Annotation)
	case strings.HasSuffix(last, "-snippet"), strings.HasSuffix(last, "-snippets"):
		// The proxy reads the Secrets of all namespaces, and its own token.
		if value != "" {
			f.add(Secret, "", All, path, Snippet)
		}
	case last == "auth-idp-oidc", key == "sidecar.istio.io/userVolume":
		// Both hold JSON that names Secrets.
		f.add(Secret, f.namespace, All, path, Annotation)
	case strings.HasSuffix(last, "-secret"), strings.HasSuffix(last, "secret-name"), strings.HasSuffix(last, "SecretName"):
		f.annotated(m, key, value, path)
	}
}

// annotated is an annotation whose name says that it is a Secret's name. What is none is
// nothing that a controller could find.
func (f *finder) annotated(m map[string]any, key, value string, path *structure.Path) {
	before, after, two := strings.Cut(value, "/")
	switch {
	case two && isName(before) && isName(after):
		f.add(Secret, before, after, path, Annotation)
	case isName(value):
		namespace := f.namespace
		if strings.HasSuffix(strings.ToLower(key), "name") {
			namespace = f.siblingNamespace(m, key)
		}
		f.add(Secret, namespace, value, path, Annotation)
	}
}

// copied is an annotation of a copying controller: the source of a copy, or a permission to
// copy the object itself.
func (f *finder) copied(last, value string, path *structure.Path) {
	kind := Secret
	if f.kind == ConfigMap {
		kind = ConfigMap
	}
	switch last {
	case "reflects", "replicate-from":
		f.qualified(kind, f.namespace, value, path, Annotation)
	case "reflected-version", "reflected-at", "auto-reflects", "replicated-at", "replicated-from-version",
		"replicated-keys", "strip-labels", "keep-owner-references", "origin":
		// What the controllers write down for themselves.
	default:
		if value != "false" {
			f.add(kind, f.namespace, f.name, path, Annotation)
		}
	}
}
