package expression

import (
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"

	"github.com/holdfast-dev/holdfast/pkg/policy/structure"
)

// podSecurityLevels are the Pod Security Standards that forbid anything.
func podSecurityLevels() []string {
	return []string{string(api.LevelBaseline), string(api.LevelRestricted)}
}

// evaluator has the checks of Kubernetes' own admission plugin, of the version that Holdfast
// is built with.
var evaluator = sync.OnceValues(func() (policy.Evaluator, error) {
	return policy.NewEvaluator(policy.DefaultChecks(), nil)
})

// podSecurity is podSecurity(x, level): one text for each check of the level that a pod spec
// in x violates, whatever kind of object x is of. It says the check, what is wrong, and where
// the pod spec stands, so that an update's texts that are not among the old object's are what
// it would add. What looks like a pod spec and cannot be read as one is an error.
func podSecurity(m *meter, v any, level string) ([]any, error) {
	checks, err := evaluator()
	if err != nil {
		return nil, err
	}
	found, err := structure.PodSpecs(v, m.step)
	if err != nil {
		return nil, err
	}
	violated := []any{}
	for _, pod := range found {
		// The walk has counted every value of the spec, and reading it takes about as long.
		if err := m.step(); err != nil {
			return nil, err
		}
		metadata, spec, err := readPod(pod)
		if err != nil {
			return nil, err
		}
		at := api.LevelVersion{Level: api.Level(level), Version: api.LatestVersion()}
		for _, result := range checks.EvaluatePod(at, metadata, spec) {
			if result.Allowed {
				continue
			}
			text := result.ForbiddenReason
			if result.ForbiddenDetail != "" {
				text += " (" + result.ForbiddenDetail + ")"
			}
			violated = append(violated, text+" at "+pod.Path.String())
		}
	}
	return violated, nil
}

// readPod reads a pod spec, and the annotations that it comes with: some checks are on those,
// as they were before there were fields. Fields that pods do not have are no matter.
func readPod(pod structure.PodSpec) (*metav1.ObjectMeta, *corev1.PodSpec, error) {
	var spec corev1.PodSpec
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(allContainers(pod.Spec), &spec); err != nil {
		return nil, nil, ErrEvaluation
	}
	annotations, _ := pod.Metadata["annotations"].(map[string]any)
	metadata := &metav1.ObjectMeta{Annotations: make(map[string]string, len(annotations))}
	for key, v := range annotations {
		s, ok := v.(string)
		if !ok {
			return nil, nil, ErrEvaluation
		}
		metadata.Annotations[key] = s
	}
	return metadata, &spec, nil
}

// allContainers has the containers that workflows and pipelines call something else among
// those of the pod.
func allContainers(spec map[string]any) map[string]any {
	var others []any
	for _, key := range structure.OneContainer {
		if c, ok := spec[key].(map[string]any); ok {
			others = append(others, c)
		}
	}
	for _, key := range structure.OtherContainers {
		list, _ := spec[key].([]any)
		for _, item := range list {
			if c, ok := item.(map[string]any); ok {
				others = append(others, c)
			}
		}
	}
	if len(others) == 0 {
		return spec
	}
	all := make(map[string]any, len(spec)+1)
	for key, v := range spec {
		all[key] = v
	}
	list, _ := spec["containers"].([]any)
	all["containers"] = slices.Concat(list, others)
	return all
}
