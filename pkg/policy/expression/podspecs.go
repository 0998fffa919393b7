package expression

import (
	"github.com/holdfast-dev/holdfast/pkg/policy/structure"
)

// podSpecs is podSpecs(x): the list of all pod specs in a value, whatever kind of object it
// is of, so that rules can speak of workloads whose kinds they do not know. Nothing in nil;
// beyond the bounds of structure.PodSpecs the expression fails, which denies the request.
func podSpecs(m *meter, v any) ([]any, error) {
	found, err := structure.PodSpecs(v, m.step)
	if err != nil {
		return nil, err
	}
	specs := make([]any, len(found))
	for i, pod := range found {
		specs[i] = pod.Spec
	}
	return specs, nil
}
