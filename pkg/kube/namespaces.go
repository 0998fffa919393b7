package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Namespaces looks up Namespace objects for policies whose rules look at them.
type Namespaces struct {
	// Cached is asked first; Live where the cache does not know the namespace, which may
	// have been created a moment ago.
	Cached, Live client.Reader
}

// Namespace returns the Namespace object in decoded JSON; nil and no error where there is
// none.
func (n Namespaces) Namespace(ctx context.Context, name string) (map[string]any, error) {
	var ns corev1.Namespace
	err := n.Cached.Get(ctx, client.ObjectKey{Name: name}, &ns)
	if apierrors.IsNotFound(err) {
		err = n.Live.Get(ctx, client.ObjectKey{Name: name}, &ns)
	}
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // there is none
	}
	if err != nil {
		return nil, fmt.Errorf("look up namespace %s: %w", name, err)
	}
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(&ns)
	if err != nil {
		return nil, fmt.Errorf("convert namespace %s: %w", name, err)
	}
	return object, nil
}
