package reference

import (
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/pkg/policy/structure"
)

// pod finds what a pod spec refers to. Whether a reference is optional makes no difference:
// what is there is read.
func (f *finder) pod(p structure.PodSpec) error {
	account := "default"
	for _, key := range []string{"serviceAccount", "serviceAccountName"} {
		if name := text(p.Spec[key]); name != "" {
			account = name
			f.add(ServiceAccount, f.namespace, name, p.Path.Key(key), ServiceAccountName)
		}
	}
	f.add(Node, "", text(p.Spec["nodeName"]), p.Path.Key("nodeName"), NodeName)
	f.controlPlane(p)
	f.names(Secret, p.Spec["imagePullSecrets"], p.Path.Key("imagePullSecrets"), ImagePull)
	for _, key := range slices.Concat(structure.Containers, structure.OtherContainers) {
		list, _ := p.Spec[key].([]any)
		for i, c := range list {
			if err := f.container(c, p.Path.Key(key).Index(i)); err != nil {
				return err
			}
		}
	}
	for _, key := range structure.OneContainer {
		if err := f.container(p.Spec[key], p.Path.Key(key)); err != nil {
			return err
		}
	}
	volumes := p.Path.Key("volumes")
	f.pods[volumes.String()] = true
	return f.volumes(p.Spec["volumes"], volumes, account)
}

// names are those of a list of maps with a name.
func (f *finder) names(kind string, v any, path *structure.Path, via string) {
	list, _ := v.([]any)
	for i, item := range list {
		f.add(kind, f.namespace, text(at(item, "name")), path.Index(i).Key("name"), via)
	}
}

// container finds what the environment of a container is made of.
func (f *finder) container(c any, path *structure.Path) error {
	env, _ := at(c, "env").([]any)
	for i, item := range env {
		if err := f.tick(); err != nil {
			return err
		}
		from := path.Key("env").Index(i).Key("valueFrom")
		f.add(Secret, f.namespace, text(at(item, "valueFrom", "secretKeyRef", "name")), from.Key("secretKeyRef").Key("name"), Env)
		f.add(ConfigMap, f.namespace, text(at(item, "valueFrom", "configMapKeyRef", "name")), from.Key("configMapKeyRef").Key("name"), Env)
	}
	all, _ := at(c, "envFrom").([]any)
	for i, item := range all {
		if err := f.tick(); err != nil {
			return err
		}
		from := path.Key("envFrom").Index(i)
		f.add(Secret, f.namespace, text(at(item, "secretRef", "name")), from.Key("secretRef").Key("name"), EnvFrom)
		f.add(ConfigMap, f.namespace, text(at(item, "configMapRef", "name")), from.Key("configMapRef").Key("name"), EnvFrom)
	}
	return nil
}

// volumes finds what a pod's volumes are made of, and what they are opened with.
func (f *finder) volumes(v any, path *structure.Path, account string) error {
	list, _ := v.([]any)
	for i, item := range list {
		if err := f.tick(); err != nil {
			return err
		}
		volume, _ := item.(map[string]any)
		at := path.Index(i)
		for key, source := range volume {
			source, ok := source.(map[string]any)
			if !ok {
				continue
			}
			if err := f.volume(key, source, at.Key(key), account); err != nil {
				return err
			}
		}
	}
	return nil
}

// volume is one source. Those that are opened with a Secret say so in few ways: secretRef,
// secretName, nodePublishSecretRef; so a source that comes later will, too.
func (f *finder) volume(key string, source map[string]any, path *structure.Path, account string) error {
	via := Volume
	switch key {
	case "projected":
		return f.projected(source["sources"], path.Key("sources"), account)
	case "configMap":
		f.add(ConfigMap, f.namespace, text(source["name"]), path.Key("name"), Volume)
	case "csi":
		via = CSI
		f.csi(source, path)
	}
	for name, v := range source {
		lower := strings.ToLower(name)
		switch {
		case strings.HasSuffix(lower, "secretref"):
			f.add(Secret, f.namespace, text(at(v, "name")), path.Key(name).Key("name"), via)
		case strings.HasSuffix(lower, "secretname"):
			f.add(Secret, f.siblingNamespace(source, name), text(v), path.Key(name), via)
		}
	}
	return nil
}

// csi is an inline CSI volume: its driver may be told Secrets in attributes of its own, and
// the secrets store brings whatever its class says.
func (f *finder) csi(source map[string]any, path *structure.Path) {
	attributes, _ := source["volumeAttributes"].(map[string]any)
	path = path.Key("volumeAttributes")
	if class, ok := attributes["secretProviderClass"]; ok {
		if name, isText := class.(string); !isText || name != "" {
			f.add(Secret, f.namespace, All, path.Key("secretProviderClass"), CSI)
		}
	}
	f.parameters(attributes, path, CSI)
}

// parameters are strings for a driver; of its keys those that name a Secret end alike.
func (f *finder) parameters(m map[string]any, path *structure.Path, via string) {
	for key, v := range m {
		lower := strings.ToLower(key)
		if strings.HasSuffix(lower, "secretname") || strings.HasSuffix(lower, "secret-name") {
			f.add(Secret, f.siblingNamespace(m, key), text(v), path.Key(key), via)
		}
	}
}

// siblingNamespace is the namespace that stands beside a key that ends in name: under the
// same key with namespace in the place of name, or under namespace; else the object's.
func (f *finder) siblingNamespace(m map[string]any, key string) string {
	prefix, end := key[:len(key)-len("name")], key[len(key)-len("name"):]
	beside := "namespace"
	if end[0] == 'N' {
		beside = "Namespace"
	}
	for _, k := range []string{prefix + beside, "namespace"} {
		if v, ok := m[k]; ok {
			return namespaceOf(v, f.namespace)
		}
	}
	return f.namespace
}

// namespaceOf reads a namespace. An empty one is as if it were not there; what is no
// namespace may become any.
func namespaceOf(v any, otherwise string) string {
	s, ok := v.(string)
	switch {
	case v == nil || (ok && s == ""):
		return otherwise
	case !isName(s):
		return ""
	default:
		return s
	}
}

// projected are the sources of a projected volume. Trust bundles are public.
func (f *finder) projected(v any, path *structure.Path, account string) error {
	sources, _ := v.([]any)
	for i, source := range sources {
		if err := f.tick(); err != nil {
			return err
		}
		path := path.Index(i)
		f.add(Secret, f.namespace, text(at(source, "secret", "name")), path.Key("secret").Key("name"), Projected)
		f.add(ConfigMap, f.namespace, text(at(source, "configMap", "name")), path.Key("configMap").Key("name"), Projected)
		if token, ok := at(source, "serviceAccountToken").(map[string]any); ok {
			via := ProjectedToken
			if audience, ok := token["audience"]; ok && audience != "" {
				via = AudienceToken
			}
			f.add(ServiceAccount, f.namespace, account, path.Key("serviceAccountToken"), via)
		}
		if _, ok := at(source, "podCertificate").(map[string]any); ok {
			f.add(ServiceAccount, f.namespace, account, path.Key("podCertificate"), PodCertificate)
		}
	}
	return nil
}

// controlPlaneRoles are the labels and taints of nodes that run the control plane, with those
// of installers that use names of their own.
var controlPlaneRoles = []string{
	"node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master",
	"node-role.kubernetes.io/controlplane", "node-role.kubernetes.io/etcd",
}

// controlPlane finds what places a pod on the control plane: whoever runs there is close to
// its keys.
func (f *finder) controlPlane(p structure.PodSpec) {
	selector, _ := p.Spec["nodeSelector"].(map[string]any)
	for key := range selector {
		if slices.Contains(controlPlaneRoles, key) {
			f.add(Node, "", All, p.Path.Key("nodeSelector").Key(key), ControlPlane)
		}
	}
	tolerations, _ := p.Spec["tolerations"].([]any)
	for i, item := range tolerations {
		t, _ := item.(map[string]any)
		key, effect := text(t["key"]), text(t["effect"])
		// Without a key every taint is tolerated. NoExecute alone does not let a pod in.
		everything := key == "" && t != nil && effect != "NoExecute"
		if everything || slices.Contains(controlPlaneRoles, key) {
			f.add(Node, "", All, p.Path.Key("tolerations").Index(i), ControlPlane)
		}
	}
	path := p.Path.Key("affinity").Key("nodeAffinity")
	affinity := at(p.Spec, "affinity", "nodeAffinity")
	const required, preferred = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
	terms, _ := at(affinity, required, "nodeSelectorTerms").([]any)
	for i, term := range terms {
		f.nodeTerm(term, path.Key(required).Key("nodeSelectorTerms").Index(i))
	}
	terms, _ = at(affinity, preferred).([]any)
	for i, term := range terms {
		f.nodeTerm(at(term, "preference"), path.Key(preferred).Index(i).Key("preference"))
	}
}

// nodeTerm is a term of node affinity. Away from the control plane is no way to it.
func (f *finder) nodeTerm(term any, path *structure.Path) {
	expressions, _ := at(term, "matchExpressions").([]any)
	for i, e := range expressions {
		operator := text(at(e, "operator"))
		if slices.Contains(controlPlaneRoles, text(at(e, "key"))) && operator != "DoesNotExist" && operator != "NotIn" {
			f.add(Node, "", All, path.Key("matchExpressions").Index(i), ControlPlane)
		}
	}
}
