// Package reference finds what an object of any kind refers to that may be secret: Secrets,
// ConfigMaps, the identities of service accounts and nodes, and volumes that are copied.
// Whoever writes such an object reads, by way of a pod or a controller, what it names.
//
// Kinds that are built in are known by their fields. Custom kinds are found out by the names
// and shapes that their fields have by convention; where a convention is ambiguous, one
// reference too many is better than one too few. It reads names only: a value that cannot be
// a name is never returned, so that no reference holds a Secret's value.
package reference

import (
	"cmp"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/pkg/policy/structure"
)

// Max is how many references Find returns; an object that has more is an error.
const Max = 1000

// All is the Name of a reference to all that there is, or to something that cannot be pinned
// to a name.
const All = "*"

// Kinds of what is referred to.
const (
	Secret                = "Secret"
	ConfigMap             = "ConfigMap"
	ServiceAccount        = "ServiceAccount"
	Node                  = "Node"
	PersistentVolumeClaim = "PersistentVolumeClaim"
)

// Ways of referring to something: the values of Via.
const (
	// In pod specs.
	Volume             = "Volume"             // a volume of a Secret or ConfigMap, or one that is opened with a Secret
	Projected          = "Projected"          // a projected volume's Secret or ConfigMap
	CSI                = "CSI"                // an inline CSI volume
	Env                = "Env"                // one variable
	EnvFrom            = "EnvFrom"            // all keys as variables
	ImagePull          = "ImagePull"          // image pull secrets, of service accounts too
	ServiceAccountName = "ServiceAccountName" // the identity of the pod
	ProjectedToken     = "ProjectedToken"     // its token, for the API server
	AudienceToken      = "AudienceToken"      // its token, for somebody else
	PodCertificate     = "PodCertificate"     // its certificate
	NodeName           = "NodeName"           // past the scheduler to a node
	ControlPlane       = "ControlPlane"       // to nodes of the control plane: selected or tolerated
	// In kinds that are built in.
	TLS              = "TLS"              // an Ingress
	Token            = "Token"            // a Secret that is filled with the token of a service account
	BootstrapToken   = "BootstrapToken"   // a Secret by which nodes join the cluster
	Mounted          = "Mounted"          // ServiceAccount.secrets
	PersistentVolume = "PersistentVolume" // what a volume is opened with
	Parameter        = "Parameter"        // parameters of storage classes and their like
	Clone            = "Clone"            // the data of another claim
	VolumeSnapshot   = "VolumeSnapshot"   // the data of a snapshot, or a snapshot of a claim
	// In custom kinds.
	Field    = "Field"    // a field that is named as references are
	Write    = "Write"    // a Secret that the controller writes, not reads
	External = "External" // a controller that fetches from a store outside, with its own rights
	Deployer = "Deployer" // a controller that applies whatever manifests it is told to
	Backup   = "Backup"   // a controller that copies whole namespaces
	Fetch    = "Fetch"    // a policy engine that reads for the author
	// In annotations.
	Annotation = "Annotation"
	Snippet    = "Snippet" // configuration of a proxy, which may read what the proxy can
)

// Reference is one thing that an object refers to.
type Reference struct {
	Kind string
	// Namespace is empty for Nodes, and where it cannot be pinned: then any may be meant.
	Namespace string
	// Name is All where everything is meant, or what is meant cannot be pinned.
	Name string
	// Path is where the object says so.
	Path string
	// Via is the way, one of the constants.
	Via string
}

// String is the kind and name of what is referred to, as "Secret prod/db"; "Secret */*" for
// any of all namespaces.
func (r Reference) String() string {
	if r.Kind == Node {
		return r.Kind + " " + r.Name
	}
	return r.Kind + " " + cmp.Or(r.Namespace, "*") + "/" + r.Name
}

// Find returns what an object refers to, in order of the paths. namespace is that of the
// object where it does not say one itself. A value without apiVersion is taken for one of a
// custom kind; nothing is in nil.
//
// tick is called at every step, and its error ends the search; the other error is
// structure.ErrBounds.
func Find(object any, namespace string, tick func() error) ([]Reference, error) {
	f := &finder{tick: tick, found: map[Reference]bool{}, seen: map[Reference]bool{}, pods: map[string]bool{}}
	root, _ := object.(map[string]any)
	f.describe(root, namespace)
	pods, err := structure.PodSpecs(object, tick)
	if err != nil {
		return nil, err
	}
	for _, pod := range pods {
		if err := f.pod(pod); err != nil {
			return nil, err
		}
	}
	if root != nil {
		f.kinds(root)
	}
	if err := f.walk(object, nil, "", nil); err != nil {
		return nil, err
	}
	if f.full {
		return nil, structure.ErrBounds
	}
	return f.sorted(), nil
}

// finder is one search.
type finder struct {
	tick  func() error
	found map[Reference]bool
	// seen are kinds, names and paths without the way: what pod specs say is found by the
	// names of fields once more.
	seen map[Reference]bool
	// pods are the places of the volumes of pod specs.
	pods map[string]bool
	full bool

	namespace   string
	group, kind string
	name        string
	// custom: fields are known by their names alone.
	custom bool
	// via is the way by which fields with telling names refer to things.
	via string
}

// builtin are the groups of the API server itself that have a dot; those without are its own
// in any case.
var builtin = map[string]bool{
	"admissionregistration.k8s.io": true, "apiextensions.k8s.io": true, "apiregistration.k8s.io": true,
	"authentication.k8s.io": true, "authorization.k8s.io": true, "certificates.k8s.io": true,
	"coordination.k8s.io": true, "discovery.k8s.io": true, "events.k8s.io": true,
	"flowcontrol.apiserver.k8s.io": true, "internal.apiserver.k8s.io": true, "networking.k8s.io": true,
	"node.k8s.io": true, "rbac.authorization.k8s.io": true, "resource.k8s.io": true,
	"scheduling.k8s.io": true, "storage.k8s.io": true, "storagemigration.k8s.io": true,
}

// describe notes what the object is.
func (f *finder) describe(root map[string]any, namespace string) {
	f.namespace, f.via, f.custom = namespace, Field, true
	metadata, _ := root["metadata"].(map[string]any)
	if own, ok := metadata["namespace"].(string); ok && own != "" {
		f.namespace = own
	}
	if !isName(f.namespace) {
		f.namespace = ""
	}
	f.kind, f.name = text(root["kind"]), text(metadata["name"])
	if f.name == "" {
		// It is about to be made up.
		f.name = All
	}
	version, ok := root["apiVersion"].(string)
	if !ok {
		return
	}
	group, _, dotted := strings.Cut(version, "/")
	if !dotted {
		group = ""
	}
	f.group = group
	f.custom = strings.Contains(group, ".") && !builtin[group]
	switch {
	case group == "" && f.kind == "PersistentVolume":
		f.custom, f.via, f.namespace = true, PersistentVolume, claimNamespace(root)
	case group == "storage.k8s.io" && (f.kind == "StorageClass" || f.kind == "VolumeAttributesClass"):
		f.custom, f.via = true, Parameter
	case strings.HasSuffix(group, "snapshot.storage.k8s.io"):
		f.via = Parameter
	}
}

// claimNamespace is the namespace in which a PersistentVolume is used.
func claimNamespace(root map[string]any) string {
	claim, _ := at(root, "spec", "claimRef").(map[string]any)
	namespace, _ := claim["namespace"].(string)
	if !isName(namespace) {
		return ""
	}
	return namespace
}

// add notes a reference. What cannot be a name is All, and what cannot be a namespace is
// any; an empty name refers to nothing.
func (f *finder) add(kind, namespace, name string, path *structure.Path, via string) {
	if name == "" || f.full {
		return
	}
	if !isName(name) {
		name = All
	}
	if !isName(namespace) {
		namespace = ""
	}
	r := Reference{Kind: kind, Namespace: namespace, Name: name, Path: path.String()}
	if f.seen[r] {
		return
	}
	if len(f.found) >= Max {
		f.full = true
		return
	}
	f.seen[r] = true
	r.Via = via
	f.found[r] = true
}

func (f *finder) sorted() []Reference {
	all := make([]Reference, 0, len(f.found))
	for r := range f.found {
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Reference) int {
		return cmp.Or(comparePaths(a.Path, b.Path), cmp.Compare(a.Path, b.Path), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Namespace, b.Namespace),
			cmp.Compare(a.Name, b.Name), cmp.Compare(a.Via, b.Via))
	})
	return all
}

// comparePaths puts the tenth item after the ninth.
func comparePaths(a, b string) int {
	for a != "" && b != "" {
		x, y := digits(a), digits(b)
		if x > 0 && y > 0 {
			if order := cmp.Or(cmp.Compare(x, y), cmp.Compare(a[:x], b[:y])); order != 0 {
				return order
			}
			a, b = a[x:], b[y:]
			continue
		}
		if a[0] != b[0] {
			return cmp.Compare(a[0], b[0])
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

// digits is how many of them a text starts with.
func digits(s string) int {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return i
		}
	}
	return len(s)
}

// isName says whether a text can be a name of Kubernetes.
func isName(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for _, r := range s {
		if r != '-' && r != '.' && (r < '0' || r > '9') && (r < 'a' || r > 'z') {
			return false
		}
	}
	return s[0] != '-' && s[0] != '.'
}

// at is the value along several keys.
func at(v any, keys ...string) any {
	for _, key := range keys {
		m, _ := v.(map[string]any)
		v = m[key]
	}
	return v
}

func text(v any) string {
	s, _ := v.(string)
	return s
}
