package kube

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Pods looks up pods, in storage: one of a name can be replaced by another at any time.
type Pods struct{ Live client.Reader }

// Pod returns the Pod in decoded JSON; nil and no error where there is none.
func (p Pods) Pod(ctx context.Context, namespace, name string) (map[string]any, error) {
	pod := &unstructured.Unstructured{}
	pod.SetGroupVersionKind(schema.GroupVersionKind{Version: "v1", Kind: "Pod"})
	err := p.Live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, pod)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, fmt.Errorf("look up pod %s/%s: %w", namespace, name, err)
	}
	return pod.Object, nil
}
