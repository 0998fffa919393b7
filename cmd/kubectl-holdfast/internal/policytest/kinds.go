package policytest

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// kinds tells kinds from resources without an API server: the built-in ones by heart.
type kinds struct {
	// resources are the kinds of each resource name, the likeliest first.
	resources map[string][]schema.GroupVersionKind
	cluster   sets.Set[string]
}

// clusterScoped are the resources without a namespace; a test holds the list against the
// typed clients. Other resources are taken for namespaced, custom ones too.
var clusterScoped = []string{
	"agentpolicies", "agents", "accessrequests", "reviews",
	"apiservices", "certificatesigningrequests", "clusterrolebindings", "clusterroles", "clustertrustbundles",
	"componentstatuses", "csidrivers", "csinodes", "customresourcedefinitions", "deviceclasses", "devicetaintrules",
	"flowschemas", "ingressclasses", "ipaddresses", "mutatingadmissionpolicies", "mutatingadmissionpolicybindings",
	"mutatingwebhookconfigurations", "namespaces", "nodes", "persistentvolumes", "podsecuritypolicies", "priorityclasses",
	"prioritylevelconfigurations", "resourcepoolstatusrequests", "resourceslices", "runtimeclasses", "selfsubjectaccessreviews",
	"selfsubjectreviews", "selfsubjectrulesreviews", "servicecidrs", "storageclasses", "storageversionmigrations",
	"storageversions", "subjectaccessreviews", "tokenreviews", "validatingadmissionpolicies",
	"validatingadmissionpolicybindings", "validatingwebhookconfigurations", "volumeattachments", "volumeattributesclasses",
	// Only authorizers know these.
	"users", "groups", "uids", "userextras", "signers",
}

// virtual are kinds that are sent to a subresource of another kind.
var virtual = map[schema.GroupKind]string{
	{Group: "policy", Kind: "Eviction"}:                    "pods/eviction",
	{Group: "authentication.k8s.io", Kind: "TokenRequest"}: "serviceaccounts/token",
	{Kind: "Binding"}:               "pods/binding",
	{Kind: "PodExecOptions"}:        "pods/exec",
	{Kind: "PodAttachOptions"}:      "pods/attach",
	{Kind: "PodPortForwardOptions"}: "pods/portforward",
	{Kind: "PodProxyOptions"}:       "pods/proxy",
	{Kind: "ServiceProxyOptions"}:   "services/proxy",
	{Kind: "NodeProxyOptions"}:      "nodes/proxy",
}

func newKinds() *kinds {
	k := &kinds{resources: map[string][]schema.GroupVersionKind{}, cluster: sets.New(clusterScoped...)}
	known := []schema.GroupVersionKind{
		{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"},
		{Group: "apiregistration.k8s.io", Version: "v1", Kind: "APIService"},
		// What is impersonated, and who signs certificates: nothing that is stored.
		{Version: "v1", Kind: "User"},
		{Version: "v1", Kind: "Group"},
		{Group: "authentication.k8s.io", Version: "v1", Kind: "UID"},
		{Group: "authentication.k8s.io", Version: "v1", Kind: "UserExtra"},
		{Group: "certificates.k8s.io", Version: "v1", Kind: "Signer"},
	}
	for _, kind := range []string{"Agent", "AgentPolicy", "AccessRequest", "Review"} {
		known = append(known, v1alpha1.GroupVersion.WithKind(kind))
	}
	for gvk := range scheme.Scheme.AllKnownTypes() {
		known = append(known, gvk)
	}
	for _, gvk := range known {
		if gvk.Version == "__internal" || gvk.Kind == "Status" || gvk.Kind == "WatchEvent" ||
			strings.HasSuffix(gvk.Kind, "List") || strings.HasSuffix(gvk.Kind, "Options") {
			continue
		}
		resource := guess(gvk)
		k.resources[resource] = append(k.resources[resource], gvk)
	}
	for _, kinds := range k.resources {
		slices.SortFunc(kinds, byLikelihood)
	}
	return k
}

// byLikelihood puts stable versions first, then the core group and apps, then newer versions.
func byLikelihood(a, b schema.GroupVersionKind) int {
	unstable := func(k schema.GroupVersionKind) int {
		if strings.Contains(k.Version, "alpha") || strings.Contains(k.Version, "beta") {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(unstable(a), unstable(b)),
		cmp.Compare(strings.Count(a.Group, "."), strings.Count(b.Group, ".")),
		strings.Compare(a.Group, b.Group),
		-version.CompareKubeAwareVersionStrings(a.Version, b.Version),
	)
}

// guess is the resource of a kind, but for its group and version.
func guess(gvk schema.GroupVersionKind) string {
	if lower := strings.ToLower(gvk.Kind); strings.HasSuffix(lower, "ay") || strings.HasSuffix(lower, "ey") {
		return lower + "s" // gateways
	}
	plural, _ := meta.UnsafeGuessKindToResource(gvk)
	return plural.Resource
}

// ofKind is the resource, with its subresource, that an object of a kind is sent to.
func (k *kinds) ofKind(gvk schema.GroupVersionKind) (schema.GroupVersionResource, error) {
	if sub, ok := virtual[gvk.GroupKind()]; ok {
		return schema.GroupVersionResource{Version: "v1", Resource: sub}, nil
	}
	if gvk.Group == "autoscaling" && gvk.Kind == "Scale" {
		return schema.GroupVersionResource{}, fmt.Errorf("a Scale is sent to the resource that it scales: say request.resource, such as deployments/scale")
	}
	return gvk.GroupVersion().WithResource(guess(gvk)), nil
}

// ofResource is the kind of a resource; group and version may be left out for built-in ones.
// The kind is empty where the resource is not built in, or not in that version.
func (k *kinds) ofResource(resource string, group *string, version string) (schema.GroupVersionKind, error) {
	var in []schema.GroupVersionKind
	for _, gvk := range k.resources[resource] {
		if group == nil || gvk.Group == *group {
			in = append(in, gvk)
		}
	}
	for _, gvk := range in {
		if version == "" || gvk.Version == version {
			return gvk, nil
		}
	}
	switch {
	case len(in) > 0:
		return schema.GroupVersionKind{Group: in[0].Group, Version: version}, nil
	case group != nil && version != "":
		return schema.GroupVersionKind{Group: *group, Version: version}, nil
	}
	names := make([]string, 0, len(k.resources))
	for name := range k.resources {
		names = append(names, name)
	}
	slices.Sort(names)
	return schema.GroupVersionKind{}, fmt.Errorf("%q is no built-in resource%s: say its group and version", resource, suggest(resource, names))
}

// workload kinds that carry a pod template, and where. Pod is one itself.
var workloads = map[string]schema.GroupVersionKind{
	"Pod":                   {Version: "v1", Kind: "Pod"},
	"PodTemplate":           {Version: "v1", Kind: "PodTemplate"},
	"ReplicationController": {Version: "v1", Kind: "ReplicationController"},
	"Deployment":            {Group: "apps", Version: "v1", Kind: "Deployment"},
	"ReplicaSet":            {Group: "apps", Version: "v1", Kind: "ReplicaSet"},
	"StatefulSet":           {Group: "apps", Version: "v1", Kind: "StatefulSet"},
	"DaemonSet":             {Group: "apps", Version: "v1", Kind: "DaemonSet"},
	"Job":                   {Group: "batch", Version: "v1", Kind: "Job"},
	"CronJob":               {Group: "batch", Version: "v1", Kind: "CronJob"},
}

// workloadNames are the keys of workloads, in the order in which * stands for them.
var workloadNames = []string{
	"Pod", "PodTemplate", "Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "ReplicationController", "Job", "CronJob",
}

// workload is the kind that an entry of kinds names: one of workloads, or a custom kind as
// Kind.version.group.
func workload(name string) (schema.GroupVersionKind, error) {
	if gvk, ok := workloads[name]; ok {
		return gvk, nil
	}
	if gvk, _ := schema.ParseKindArg(name); gvk != nil && strings.Contains(gvk.Group, ".") {
		return *gvk, nil
	}
	return schema.GroupVersionKind{}, fmt.Errorf("is %q%s: want one of %s, * for all of them, or a custom kind as Rollout.v1alpha1.argoproj.io",
		name, suggest(name, workloadNames), strings.Join(workloadNames, ", "))
}

// wrap makes an object of a kind around a pod template.
func wrap(gvk schema.GroupVersionKind, template map[string]any) map[string]any {
	object := map[string]any{"apiVersion": gvk.GroupVersion().String(), "kind": gvk.Kind}
	switch gvk {
	case workloads["Pod"]:
		for name, value := range template {
			object[name] = value
		}
	case workloads["PodTemplate"]:
		object["template"] = template
	case workloads["CronJob"]:
		object["spec"] = map[string]any{
			"schedule":    "0 0 * * *",
			"jobTemplate": map[string]any{"spec": map[string]any{"template": template}},
		}
	default:
		object["spec"] = map[string]any{"template": template}
	}
	return object
}
