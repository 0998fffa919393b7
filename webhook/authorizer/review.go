package authorizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	authorizationv1 "k8s.io/api/authorization/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// Bounds of a SubjectAccessReview.
const (
	// MaxReview is its size in bytes: beside names it has the groups of one user, 10,000 of
	// 200 bytes being 2 MB.
	MaxReview = 4 << 20
	// maxName is the length of a user's name in bytes. The API server lets certificates and
	// tokens of any length name users; nobody who has such a name is told from others by it.
	maxName = 64 << 10
	// maxRequirements is how many parts a selector has.
	maxRequirements = 1000
)

// ErrReview is a SubjectAccessReview that cannot be judged.
type ErrReview struct {
	// Status is 400, 405, 413 or 415.
	Status int
	// Reason names the field and what would be right. It never quotes the body.
	Reason string
}

func (e *ErrReview) Error() string { return e.Reason }

func badReview(format string, args ...any) error {
	return &ErrReview{Status: http.StatusBadRequest, Reason: fmt.Sprintf(format, args...)}
}

// DecodeReview decodes a SubjectAccessReview of authorization.k8s.io/v1 into the form in which
// the engine judges it. It returns an *ErrReview for everything else: what is no JSON, another
// version, one without a user, with no attributes or both kinds of them, or with a selector
// that cannot be parsed.
func DecodeReview(body []byte) (*decision.Request, error) {
	var review authorizationv1.SubjectAccessReview
	if err := json.Unmarshal(body, &review); err != nil {
		return nil, badReview("the body is no SubjectAccessReview in JSON")
	}
	if review.Kind != "SubjectAccessReview" || review.APIVersion != authorizationv1.SchemeGroupVersion.String() {
		return nil, badReview("want kind SubjectAccessReview of %s", authorizationv1.SchemeGroupVersion)
	}
	spec := &review.Spec
	switch {
	case spec.User == "":
		return nil, badReview("spec.user is empty")
	case len(spec.User) > maxName:
		return nil, badReview("spec.user has %d bytes; want at most %d", len(spec.User), maxName)
	case (spec.ResourceAttributes == nil) == (spec.NonResourceAttributes == nil):
		return nil, badReview("want one of spec.resourceAttributes and spec.nonResourceAttributes")
	}
	r := &decision.Request{User: decision.User{Name: spec.User, UID: spec.UID, Groups: spec.Groups}}
	if a := spec.NonResourceAttributes; a != nil {
		if a.Path == "" || a.Verb == "" {
			return nil, badReview("spec.nonResourceAttributes wants a path and a verb")
		}
		r.Verb, r.NonResourceURL = a.Verb, a.Path
		return r, nil
	}
	return r, resource(r, spec.ResourceAttributes)
}

func resource(r *decision.Request, a *authorizationv1.ResourceAttributes) error {
	if a.Verb == "" || a.Resource == "" {
		return badReview("spec.resourceAttributes wants a verb and a resource")
	}
	r.Verb, r.Group, r.Version = a.Verb, a.Group, a.Version
	r.Resource, r.Subresource, r.Namespace, r.Name = a.Resource, a.Subresource, a.Namespace, a.Name
	if r.Group == "" && r.Resource == "namespaces" && r.Name != "" {
		r.Namespace = r.Name // as in admission
	}
	var err error
	if r.FieldSelector, err = fieldSelector(a.FieldSelector); err != nil {
		return err
	}
	r.LabelSelector, err = labelSelector(a.LabelSelector)
	return err
}

func fieldSelector(a *authorizationv1.FieldSelectorAttributes) ([]decision.Requirement, error) {
	if a == nil {
		return nil, nil
	}
	given := make([]decision.Requirement, len(a.Requirements))
	for i, q := range a.Requirements {
		given[i] = decision.Requirement{Key: q.Key, Operator: string(q.Operator), Values: q.Values}
	}
	return selector("field", a.RawSelector, given, parseFields)
}

func labelSelector(a *authorizationv1.LabelSelectorAttributes) ([]decision.Requirement, error) {
	if a == nil {
		return nil, nil
	}
	given := make([]decision.Requirement, len(a.Requirements))
	for i, q := range a.Requirements {
		given[i] = decision.Requirement{Key: q.Key, Operator: string(q.Operator), Values: q.Values}
	}
	return selector("label", a.RawSelector, given, parseLabels)
}

// selector reads one of the two forms in which a selector of fields or labels comes.
func selector(
	what, raw string, given []decision.Requirement, parse func(string) ([]decision.Requirement, error),
) ([]decision.Requirement, error) {
	field := "spec.resourceAttributes." + what + "Selector"
	switch {
	case (raw == "") == (len(given) == 0):
		return nil, badReview("%s wants one of rawSelector and requirements", field)
	case len(given) > maxRequirements || len(raw) > maxName:
		return nil, badReview("%s is too long", field)
	case raw != "":
		parsed, err := parse(raw)
		if err != nil {
			return nil, badReview("%s.rawSelector is no %s selector", field, what)
		}
		return parsed, nil
	}
	for i, q := range given {
		if err := checkRequirement(fmt.Sprintf("%s.requirements[%d]", field, i), q); err != nil {
			return nil, err
		}
	}
	return given, nil
}

func parseFields(raw string) ([]decision.Requirement, error) {
	parsed, err := fields.ParseSelector(raw)
	if err != nil {
		return nil, err
	}
	var selector []decision.Requirement
	for _, q := range parsed.Requirements() {
		selector = append(selector, decision.Requirement{Key: q.Field, Operator: operators[q.Operator], Values: []string{q.Value}})
	}
	return selector, nil
}

// errOperator is a comparison such as gt, which no SubjectAccessReview has.
var errOperator = errors.New("unknown operator")

func parseLabels(raw string) ([]decision.Requirement, error) {
	parsed, err := labels.ParseToRequirements(raw)
	if err != nil {
		return nil, err
	}
	var selector []decision.Requirement
	for i := range parsed {
		operator, ok := operators[parsed[i].Operator()]
		if !ok {
			return nil, errOperator
		}
		selector = append(selector, decision.Requirement{Key: parsed[i].Key(), Operator: operator, Values: parsed[i].ValuesUnsorted()})
	}
	return selector, nil
}

// operators are the ways in which fields and labels are compared, by what kubectl writes.
var operators = map[selection.Operator]string{
	selection.Equals: "In", selection.DoubleEquals: "In", selection.In: "In",
	selection.NotEquals: "NotIn", selection.NotIn: "NotIn",
	selection.Exists: "Exists", selection.DoesNotExist: "DoesNotExist",
}

func checkRequirement(field string, q decision.Requirement) error {
	switch {
	case q.Key == "":
		return badReview("%s.key is empty", field)
	case (q.Operator == "In" || q.Operator == "NotIn") && len(q.Values) == 0:
		return badReview("%s.values is empty", field)
	case (q.Operator == "Exists" || q.Operator == "DoesNotExist") && len(q.Values) > 0:
		return badReview("%s.values: want none beside operator %s", field, q.Operator)
	case !slices.Contains([]string{"In", "NotIn", "Exists", "DoesNotExist"}, q.Operator):
		return badReview("%s.operator: want In, NotIn, Exists or DoesNotExist", field)
	}
	return nil
}
