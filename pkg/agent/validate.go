package agent

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// reservedNamespaces hold the control plane's own identities and Holdfast's: to declare one
// of them an agent would stop the cluster, since the net takes in the whole namespace.
var reservedNamespaces = []string{"kube-system", "holdfast-system"}

// reservedGroups take in people and controllers who must never wait for Holdfast.
var reservedGroups = []string{
	"system:authenticated", "system:unauthenticated", "system:masters", "system:monitoring",
	"system:nodes", "system:serviceaccounts",
	accountGroup + "kube-system", accountGroup + "holdfast-system",
}

// Validate says what is wrong with an Agent beyond what its schema can say: subjects that
// would take in the control plane, Holdfast or everybody. Each error names the field.
func Validate(a *v1alpha1.Agent) field.ErrorList {
	var errs field.ErrorList
	subjects := field.NewPath("spec", "subjects")
	for i, s := range a.Spec.Subjects {
		if err := validateSubject(subjects.Index(i), s); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

func validateSubject(at *field.Path, s v1alpha1.Subject) *field.Error {
	pattern := v1alpha1.Pattern(s.Name)
	switch s.Kind {
	case v1alpha1.ServiceAccountSubject:
		if slices.Contains(reservedNamespaces, s.Namespace) {
			return field.Invalid(at.Child("namespace"), s.Namespace,
				"its service accounts run the cluster or Holdfast itself; give the agent a namespace of its own")
		}
		if strings.Contains(s.Name, ":") {
			return field.Invalid(at.Child("name"), s.Name, "give the service account's name alone")
		}
	case v1alpha1.UserSubject:
		if _, _, ok := splitAccount(s.Name); ok {
			return field.Invalid(at.Child("name"), s.Name, "declare a service account with kind ServiceAccount, namespace and name")
		}
		if strings.HasPrefix(s.Name, systemPrefix) && s.Name != "system:anonymous" {
			return field.Invalid(at.Child("name"), s.Name, "names that start with system: belong to the cluster's own components")
		}
		if strings.Trim(s.Name, "*") == "" {
			return field.Invalid(at.Child("name"), s.Name, "would make every person an agent; name the users")
		}
	case v1alpha1.GroupSubject:
		for _, g := range reservedGroups {
			if matchesName(pattern, g) {
				return field.Invalid(at.Child("name"), s.Name, fmt.Sprintf("takes in %s, and with it people or controllers who must not wait for Holdfast", g))
			}
		}
		if strings.Trim(s.Name, "*") == "" {
			return field.Invalid(at.Child("name"), s.Name, "would make everybody an agent; name the groups")
		}
	default:
		return field.NotSupported(at.Child("kind"), s.Kind,
			[]v1alpha1.SubjectKind{v1alpha1.ServiceAccountSubject, v1alpha1.UserSubject, v1alpha1.GroupSubject})
	}
	return nil
}
