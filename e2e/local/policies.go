package local

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// applyPolicies creates the policies of the pack, and waits until Holdfast has taken them in.
func (l *Local) applyPolicies(ctx context.Context) error {
	if !l.config.Guard || l.config.Policies == noPolicies {
		return nil
	}
	root, err := l.manifests()
	if err != nil {
		return fmt.Errorf("local: %w", err)
	}
	dir := filepath.Join(root, "policies", l.config.Policies)
	policies, err := readManifests(dir)
	if err != nil {
		return fmt.Errorf("local: %w", err)
	}
	if len(policies) == 0 {
		return fmt.Errorf("local: no policies in %s", dir)
	}
	admin, err := l.Client(l.info.AdminKubeconfig)
	if err != nil {
		return err
	}
	if err := awaitCreatable(ctx, admin); err != nil {
		return err
	}
	err = await(ctx, func(ctx context.Context) error {
		for _, policy := range policies {
			// What was created has a resource version, with which it cannot be created again.
			if err := create(ctx, admin, policy.DeepCopy()); err != nil {
				return err
			}
		}
		for _, policy := range policies {
			if err := compiled(ctx, admin, policy.GetName()); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return remedy(fmt.Errorf("local: apply policies %s: %w", l.config.Policies, err), l.dir.partLog(Webhook), "")
	}
	return nil
}

// compiled is nil once the webhook has taken in the policy of that name.
func compiled(ctx context.Context, admin client.Client, name string) error {
	var p v1alpha1.AgentPolicy
	if err := admin.Get(ctx, client.ObjectKey{Name: name}, &p); err != nil {
		return fmt.Errorf("get AgentPolicy %s: %w", name, err)
	}
	if !slices.ContainsFunc(p.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type == v1alpha1.ConditionCompiled && c.Status == metav1.ConditionTrue
	}) {
		return fmt.Errorf("the webhook has not taken in AgentPolicy %s", name)
	}
	return nil
}
