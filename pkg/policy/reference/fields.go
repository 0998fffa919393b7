package reference

import (
	"strings"

	"github.com/holdfast-dev/holdfast/pkg/policy/structure"
)

// walk finds references by the names of fields, at any depth: in every object annotations,
// data that is copied and Secrets that become tokens, and in custom kinds all that is named
// as references are. key is the last one on the path, parent the map that it is in.
func (f *finder) walk(v any, path *structure.Path, key string, parent map[string]any) error {
	if err := f.tick(); err != nil {
		return err
	}
	if path.Depth() > structure.MaxDepth {
		return structure.ErrBounds
	}
	if f.custom && key != "" {
		f.field(v, path, key, parent)
	}
	switch v := v.(type) {
	case map[string]any:
		return f.walkMap(v, path, key)
	case []any:
		for i, item := range v {
			if err := f.walk(item, path.Index(i), "", nil); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *finder) walkMap(m map[string]any, path *structure.Path, key string) error {
	lower := strings.ToLower(key)
	switch {
	case strings.HasSuffix(lower, "annotations"):
		return f.annotations(m, path)
	case lower == "datasource" || lower == "datasourceref":
		f.dataSource(m, path)
	}
	switch text(m["type"]) {
	case tokenType:
		f.token(m, path)
	case bootstrapType:
		f.add(Node, "", All, path.Key("type"), BootstrapToken)
	}
	if f.custom {
		f.shape(m, path, key)
	}
	for key, child := range m {
		switch {
		case path == nil && key == "status":
			// What a controller has seen tells none what to read; the pod specs in it have
			// been found already.
			continue
		case path == nil && key == "metadata":
			metadata, _ := child.(map[string]any)
			child = map[string]any{"annotations": metadata["annotations"]}
		case path == nil && f.group == "" && (key == "data" || key == "stringData" || key == "binaryData") && (f.kind == Secret || f.kind == ConfigMap):
			continue
		}
		if !f.worth(child, key) {
			if err := f.tick(); err != nil {
				return err
			}
			continue
		}
		if err := f.walk(child, path.Key(key), key, m); err != nil {
			return err
		}
	}
	return nil
}

// worth says whether a value can refer to something, or holds more values. Of single ones that
// are texts whose keys say so; they are most of an object.
func (f *finder) worth(v any, key string) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	case string:
		lower := strings.ToLower(key)
		return f.custom && (strings.Contains(lower, "secret") || strings.Contains(lower, "account") ||
			strings.Contains(lower, "configmap") || lower == "podspecpatch" || strings.HasPrefix(lower, "credentialname"))
	default:
		return false
	}
}

const (
	// tokenType is that of Secrets that the token controller fills.
	tokenType = "kubernetes.io/service-account-token" //nolint:gosec // a type of Secrets, not one
	// bootstrapType is that of Secrets that let nodes join the cluster.
	bootstrapType = "bootstrap.kubernetes.io/token"
)

// token is a Secret of tokenType, or a template of one.
func (f *finder) token(m map[string]any, path *structure.Path) {
	const key = "kubernetes.io/service-account.name"
	for _, keys := range [][]string{{"metadata", "annotations"}, {"annotations"}} {
		if name := text(at(at(m, keys...), key)); name != "" {
			f.add(ServiceAccount, namespaceOf(at(m, "metadata", "namespace"), f.namespace), name, path.Key("type"), Token)
			return
		}
	}
	f.add(ServiceAccount, f.namespace, All, path.Key("type"), Token)
}

// dataSource is what a claim starts with: another claim's data, or a snapshot's, which says
// nothing of the claim that it was taken of.
func (f *finder) dataSource(m map[string]any, path *structure.Path) {
	namespace := namespaceOf(m["namespace"], f.namespace)
	switch text(m["kind"]) {
	case PersistentVolumeClaim:
		f.add(PersistentVolumeClaim, namespace, text(m["name"]), path.Key("name"), Clone)
	case "VolumeSnapshot":
		f.add(PersistentVolumeClaim, namespace, All, path.Key("name"), VolumeSnapshot)
	}
}

// Endings of the names of fields, in lower case, that refer to something.
var (
	// secretMaps hold a map with a name, or a list of those.
	secretMaps = []string{
		"secret", "secrets", "secretref", "secretrefs", "secretkeyref", "secretkeyrefs", "secretkeyselector",
		"secretselector", "secretreference", "certificateref", "certificaterefs", "credentialsref", "secrettargetref",
	}
	// secretNames hold a name, or a list of names. Those that end in secret alone may just as
	// well hold the value, and must not be taken for a name.
	secretNames = []string{
		"secretname", "secretnames", "secret-name", "secretref", "secretrefs", "secrets", "pullsecret", "pullsecrets",
	}
	configMapMaps = []string{"configmap", "configmaps", "configmapref", "configmaprefs", "configmapkeyref", "configmapselector"}
	configNames   = []string{"configmapname", "configmapnames", "configmapref"}
	accountMaps   = []string{"serviceaccount", "serviceaccountref", "serviceaccountrefs"}
	accountNames  = []string{"serviceaccountname", "serviceaccountnames", "serviceaccount", "serviceaccountref"}
)

// secretIsName are the groups in whose kinds a string under a key that ends in secret is the
// name of one.
var secretIsName = map[string]bool{
	"monitoring.coreos.com": true, "monitoring.rhobs": true, "traefik.io": true, "traefik.containo.us": true,
}

func endsIn(key string, endings []string) bool {
	for _, ending := range endings {
		if strings.HasSuffix(key, ending) {
			return true
		}
	}
	return false
}

// field finds what a field of a custom kind refers to, by its name.
func (f *finder) field(v any, path *structure.Path, key string, parent map[string]any) {
	lower := strings.ToLower(key)
	via := f.via
	switch {
	case strings.HasSuffix(lower, "secrettoref") || f.writes(lower, path):
		f.byName(Secret, v, path, key, parent, Write)
		f.byMap(Secret, v, path, Write)
		return
	case strings.HasSuffix(lower, "pullsecret") || strings.HasSuffix(lower, "pullsecrets"):
		via = ImagePull
	}
	if endsIn(lower, secretNames) || (strings.HasSuffix(lower, "secret") && secretIsName[f.group]) {
		f.byName(Secret, v, path, key, parent, via)
	}
	if endsIn(lower, secretMaps) {
		f.byMap(Secret, v, path, via)
	}
	if endsIn(lower, configNames) {
		f.byName(ConfigMap, v, path, key, parent, via)
	}
	if endsIn(lower, configMapMaps) {
		f.byMap(ConfigMap, v, path, via)
	}
	if endsIn(lower, accountNames) {
		f.byName(ServiceAccount, v, path, key, parent, ServiceAccountName)
	}
	if endsIn(lower, accountMaps) {
		f.byMap(ServiceAccount, v, path, ServiceAccountName)
	}
	switch lower {
	case "volumes":
		// Those of pod specs have been looked at, and an error of the ticks comes again at the
		// next step of the walk.
		if !f.pods[path.String()] {
			_ = f.volumes(v, path, "default")
		}
	case "podspecpatch":
		// Text that is laid over a pod spec may name anything.
		if text(v) != "" {
			f.add(Secret, f.namespace, All, path, via)
		}
	case "credentialname", "credentialnames":
		if strings.HasSuffix(f.group, "istio.io") {
			// They are looked up where the proxy runs.
			for name, path := range texts(v, path) {
				f.add(Secret, "", name, path, via)
			}
		}
	}
}

// byName takes names from a string or a list of strings. A name may have its namespace
// before it, as prod/db.
func (f *finder) byName(kind string, v any, path *structure.Path, key string, parent map[string]any, via string) {
	namespace := f.namespace
	if lower := strings.ToLower(key); strings.HasSuffix(lower, "name") {
		namespace = f.siblingNamespace(parent, key)
	}
	for name, path := range texts(v, path) {
		f.qualified(kind, namespace, name, path, via)
	}
}

// qualified adds what a text as prod/db or db names.
func (f *finder) qualified(kind, namespace, name string, path *structure.Path, via string) {
	if before, after, ok := strings.Cut(name, "/"); ok && isName(before) && isName(after) {
		namespace, name = before, after
	}
	f.add(kind, namespace, name, path, via)
}

// texts are a string, or those of a list, with their places.
func texts(v any, path *structure.Path) func(yield func(string, *structure.Path) bool) {
	return func(yield func(string, *structure.Path) bool) {
		if s, ok := v.(string); ok {
			yield(s, path)
			return
		}
		list, _ := v.([]any)
		for i, item := range list {
			if s, ok := item.(string); ok && !yield(s, path.Index(i)) {
				return
			}
		}
	}
}

// byMap takes names from a map, or a list of maps.
func (f *finder) byMap(kind string, v any, path *structure.Path, via string) {
	switch v := v.(type) {
	case map[string]any:
		f.named(kind, v, path, via)
	case []any:
		for i, item := range v {
			if m, ok := item.(map[string]any); ok {
				f.named(kind, m, path.Index(i), via)
			}
		}
	}
}

// named takes the name and namespace of a map. It may say that it is of another kind; and
// what is selected by labels can be any.
func (f *finder) named(kind string, m map[string]any, path *structure.Path, via string) {
	switch said := text(m["kind"]); said {
	case "":
	case Secret, ConfigMap, ServiceAccount:
		kind = said
	default:
		return
	}
	namespace := namespaceOf(m["namespace"], f.namespace)
	if name, ok := m["name"].(string); ok {
		f.qualified(kind, namespace, name, path.Key("name"), via)
		return
	}
	for _, key := range []string{"selector", "labelSelector", "matchLabels", "matchExpressions"} {
		if _, ok := m[key].(map[string]any); ok {
			f.add(kind, namespace, All, path.Key(key), via)
			return
		}
	}
}

// shape finds maps that look like references, whatever their name: those that say that they
// are of a Secret or ConfigMap, and those of a name and a key alone.
func (f *finder) shape(m map[string]any, path *structure.Path, key string) {
	name, named := m["name"].(string)
	if !named {
		return
	}
	namespace := namespaceOf(m["namespace"], f.namespace)
	switch text(m["kind"]) {
	case Secret, ConfigMap:
		if _, embedded := m["metadata"]; !embedded {
			f.add(text(m["kind"]), namespace, name, path.Key("name"), f.via)
		}
		return
	case "":
	default:
		return
	}
	if _, ok := m["key"].(string); !ok || key == "" || strings.Contains(strings.ToLower(key), "configmap") {
		return
	}
	for k := range m {
		switch k {
		case "name", "key", "optional", "namespace":
		default:
			return
		}
	}
	f.add(Secret, namespace, name, path.Key("name"), f.via)
}
