// Package onboard gives an agent an identity of its own: a service account, the Agent that
// declares it, what RBAC lets it do, and a kubeconfig with a token that ends.
//
// It touches nothing that it did not make, except that it adds the agent's name to policies
// that it is told to. Everything can be done again: what is there is left as it is.
package onboard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// Labels of everything that is made for an agent; and its values.
const (
	managedByLabel = "app.kubernetes.io/managed-by"
	managedBy      = "kubectl-holdfast"
	agentLabel     = v1alpha1.Group + "/agent"
)

// askerRole is the ClusterRole of those who ask (manifests/rbac).
const askerRole = "holdfast-agent"

// ErrForeign is an object of that name which somebody else made.
var ErrForeign = errors.New("is there, and was not made by this command")

// Plan is what an agent is to be. All fields but Policies are required.
type Plan struct {
	// Name of the Agent, and of its service account.
	Name string
	// Namespace in which the service account lives.
	Namespace string
	// Owner is the user who answers for it.
	Owner string
	// Namespaces in which it works, by the ClusterRole Role.
	Namespaces []string
	Role       string
	// Policies that are to judge it, by name.
	Policies []string
}

// Desk makes and removes agents.
type Desk struct {
	Client client.Client
	// Say is told of everything that has been done, or, where DryRun is set, would be.
	Say    func(format string, args ...any)
	DryRun bool
}

// Validate says what is wrong with a plan, before anything is done.
func (p *Plan) Validate() error {
	var errs []error
	if why := validation.IsDNS1123Label(p.Name); len(why) > 0 {
		errs = append(errs, fmt.Errorf("name %q: %s", p.Name, strings.Join(why, "; ")))
	}
	for _, namespace := range append([]string{p.Namespace}, p.Namespaces...) {
		if why := validation.IsDNS1123Label(namespace); len(why) > 0 {
			errs = append(errs, fmt.Errorf("namespace %q: %s", namespace, strings.Join(why, "; ")))
		}
	}
	if len(p.Namespaces) == 0 {
		errs = append(errs, errors.New("--namespaces: say in which namespaces the agent works"))
	}
	if p.Role == "" {
		errs = append(errs, errors.New("--role: want the name of a ClusterRole, such as edit or view"))
	}
	return errors.Join(errs...)
}

// Add makes all that the plan says, or makes it so. Rights come last: whoever has them is
// declared, and judged, before. An error says what it was about; all before it has been done,
// and the same plan goes on from there.
func (d *Desk) Add(ctx context.Context, p *Plan) error {
	if err := errors.Join(p.Validate(), d.check(ctx, p)); err != nil {
		return err
	}
	for _, step := range []func(context.Context, *Plan) error{d.home, d.account, d.agent, d.policies, d.asker, d.bindings} {
		if err := step(ctx, p); err != nil {
			return err
		}
	}
	return nil
}

// check looks for what has to be there already.
func (d *Desk) check(ctx context.Context, p *Plan) error {
	var errs []error
	for _, name := range p.Namespaces {
		err := d.Client.Get(ctx, client.ObjectKey{Name: name}, &corev1.Namespace{})
		if apierrors.IsNotFound(err) {
			err = fmt.Errorf("--namespaces: there is no namespace %q; create it first, or leave it out", name)
		}
		errs = append(errs, err)
	}
	for _, name := range p.Policies {
		err := d.Client.Get(ctx, client.ObjectKey{Name: name}, &v1alpha1.AgentPolicy{})
		if apierrors.IsNotFound(err) {
			err = fmt.Errorf("--policy: there is no AgentPolicy %q (see kubectl get agentpolicies)", name)
		}
		errs = append(errs, err)
	}
	for _, name := range []string{p.Role, askerRole} {
		err := d.Client.Get(ctx, client.ObjectKey{Name: name}, &rbacv1.ClusterRole{})
		switch {
		case apierrors.IsNotFound(err) && name == askerRole:
			err = fmt.Errorf("there is no ClusterRole %q, with which agents ask; apply manifests/rbac of Holdfast first", name)
		case apierrors.IsNotFound(err):
			err = fmt.Errorf("--role: there is no ClusterRole %q", name)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func labels(name string) map[string]string {
	l := map[string]string{managedByLabel: managedBy}
	if name != "" {
		l[agentLabel] = name
	}
	return l
}

// ours says whether an object was made for the agent of that name.
func ours(o client.Object, name string) bool {
	l := o.GetLabels()
	return l[managedByLabel] == managedBy && l[agentLabel] == name
}

// ensure makes an object, or makes what is there so: change says whether it had to change
// anything in it.
func (d *Desk) ensure(ctx context.Context, name string, want client.Object, change func(found client.Object) bool) error {
	found, ok := want.DeepCopyObject().(client.Object)
	if !ok {
		return fmt.Errorf("%s is no object", Title(want))
	}
	err := d.Client.Get(ctx, client.ObjectKeyFromObject(want), found)
	switch {
	case apierrors.IsNotFound(err):
		if !d.DryRun {
			if err := d.Client.Create(ctx, want); err != nil {
				return fmt.Errorf("create %s: %w", Title(want), err)
			}
		}
		d.did("%s created", Title(want))
		return nil
	case err != nil:
		return fmt.Errorf("read %s: %w", Title(want), err)
	case !ours(found, name):
		return fmt.Errorf("%s %w: choose another name, or, to hand it over, label it %s=%s and %s=%s",
			Title(want), ErrForeign, managedByLabel, managedBy, agentLabel, name)
	case !change(found):
		d.did("%s unchanged", Title(want))
		return nil
	}
	if !d.DryRun {
		if err := d.Client.Update(ctx, found); err != nil {
			return fmt.Errorf("change %s: %w", Title(want), err)
		}
	}
	d.did("%s changed", Title(want))
	return nil
}

func (d *Desk) did(format string, args ...any) {
	if d.DryRun {
		format += " (dry run)"
	}
	d.Say(format, args...)
}

// Title is such as serviceaccount/bot in agents.
func Title(o client.Object) string {
	kind := "object"
	switch o.(type) {
	case *corev1.Namespace:
		kind = "namespace"
	case *corev1.ServiceAccount:
		kind = "serviceaccount"
	case *rbacv1.RoleBinding:
		kind = "rolebinding"
	case *rbacv1.ClusterRoleBinding:
		kind = "clusterrolebinding"
	case *v1alpha1.Agent:
		kind = "agent"
	}
	if o.GetNamespace() == "" {
		return kind + "/" + o.GetName()
	}
	return fmt.Sprintf("%s/%s in %s", kind, o.GetName(), o.GetNamespace())
}

// home makes the namespace of the service account, where there is none.
func (d *Desk) home(ctx context.Context, p *Plan) error {
	err := d.Client.Get(ctx, client.ObjectKey{Name: p.Namespace}, &corev1.Namespace{})
	if !apierrors.IsNotFound(err) {
		return err
	}
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: p.Namespace, Labels: labels("")}}
	if !d.DryRun {
		if err := d.Client.Create(ctx, ns); err != nil {
			return fmt.Errorf("create %s: %w", Title(ns), err)
		}
	}
	d.did("%s created", Title(ns))
	return nil
}

func (d *Desk) account(ctx context.Context, p *Plan) error {
	return d.ensure(ctx, p.Name, &corev1.ServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name, Labels: labels(p.Name)},
	}, func(client.Object) bool { return false })
}

func (d *Desk) agent(ctx context.Context, p *Plan) error {
	subject := v1alpha1.Subject{Kind: v1alpha1.ServiceAccountSubject, Namespace: p.Namespace, Name: p.Name}
	owner := &v1alpha1.Owner{Kind: v1alpha1.UserSubject, Name: p.Owner}
	return d.ensure(ctx, p.Name, &v1alpha1.Agent{
		ObjectMeta: metav1.ObjectMeta{Name: p.Name, Labels: labels(p.Name)},
		Spec:       v1alpha1.AgentSpec{Subjects: []v1alpha1.Subject{subject}, Owner: owner},
	}, func(o client.Object) bool {
		found, ok := o.(*v1alpha1.Agent)
		if !ok {
			return false
		}
		changed := found.Spec.Owner == nil || *found.Spec.Owner != *owner
		found.Spec.Owner = owner
		if !slices.Contains(found.Spec.Subjects, subject) {
			found.Spec.Subjects, changed = append(found.Spec.Subjects, subject), true
		}
		return changed // whoever is suspended stays it
	})
}

// policies adds the name where no pattern covers it.
func (d *Desk) policies(ctx context.Context, p *Plan) error {
	for _, name := range p.Policies {
		err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
			var policy v1alpha1.AgentPolicy
			if err := d.Client.Get(ctx, client.ObjectKey{Name: name}, &policy); err != nil {
				return err
			}
			if policy.Selects(p.Name) {
				d.did("agentpolicy/%s unchanged: it is for agent %s", name, p.Name)
				return nil
			}
			policy.Spec.Agents = append(policy.Spec.Agents, v1alpha1.Pattern(p.Name))
			if !d.DryRun {
				if err := d.Client.Update(ctx, &policy); err != nil {
					return err
				}
			}
			d.did("agentpolicy/%s changed: it is for agent %s now", name, p.Name)
			return nil
		})
		if err != nil {
			return fmt.Errorf("add the agent to agentpolicy/%s: %w", name, err)
		}
	}
	return nil
}

// BindingName is that of the bindings of an agent. Agents may not change RBAC objects that
// are called holdfast-something.
func BindingName(agent string) string { return "holdfast-agent-" + agent }

func subjectsOf(p *Plan) []rbacv1.Subject {
	return []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: p.Namespace, Name: p.Name}}
}

func roleOf(name string) rbacv1.RoleRef {
	return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}
}

// asker lets the agent ask.
func (d *Desk) asker(ctx context.Context, p *Plan) error {
	subjects := subjectsOf(p)
	return d.ensure(ctx, p.Name, &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: BindingName(p.Name), Labels: labels(p.Name)}, RoleRef: roleOf(askerRole), Subjects: subjects,
	}, func(o client.Object) bool {
		found, ok := o.(*rbacv1.ClusterRoleBinding)
		if !ok || slices.Equal(found.Subjects, subjects) {
			return false
		}
		found.Subjects = subjects
		return true
	})
}

// bindings give the agent its role in the namespaces, and take it away in others.
func (d *Desk) bindings(ctx context.Context, p *Plan) error {
	var there rbacv1.RoleBindingList
	if err := d.Client.List(ctx, &there, client.MatchingLabels(labels(p.Name))); err != nil {
		return fmt.Errorf("list the role bindings of agent %s: %w", p.Name, err)
	}
	for i := range there.Items {
		b := &there.Items[i]
		if slices.Contains(p.Namespaces, b.Namespace) && b.RoleRef == roleOf(p.Role) && b.Name == BindingName(p.Name) {
			continue // another role cannot be written into a binding
		}
		if err := d.remove(ctx, b); err != nil {
			return err
		}
	}
	subjects := subjectsOf(p)
	for _, namespace := range p.Namespaces {
		err := d.ensure(ctx, p.Name, &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: BindingName(p.Name), Labels: labels(p.Name)},
			RoleRef:    roleOf(p.Role), Subjects: subjects,
		}, func(o client.Object) bool {
			found, ok := o.(*rbacv1.RoleBinding)
			if !ok || slices.Equal(found.Subjects, subjects) {
				return false
			}
			found.Subjects = subjects
			return true
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (d *Desk) remove(ctx context.Context, o client.Object) error {
	if !d.DryRun {
		uid := o.GetUID()
		if err := client.IgnoreNotFound(d.Client.Delete(ctx, o, client.Preconditions{UID: &uid})); err != nil {
			return fmt.Errorf("remove %s: %w", Title(o), err)
		}
	}
	d.did("%s removed", Title(o))
	return nil
}

// Belongings are what was made for an agent, in the order in which it has to go: rights
// first, and the Agent last, so that whoever has rights is declared.
func (d *Desk) Belongings(ctx context.Context, name string) ([]client.Object, error) {
	var all []client.Object
	var roles rbacv1.RoleBindingList
	var clusterRoles rbacv1.ClusterRoleBindingList
	var accounts corev1.ServiceAccountList
	var agents v1alpha1.AgentList
	for _, list := range []client.ObjectList{&roles, &clusterRoles, &accounts, &agents} {
		if err := d.Client.List(ctx, list, client.MatchingLabels(labels(name))); err != nil {
			return nil, fmt.Errorf("look for what was made for agent %s: %w", name, err)
		}
	}
	for i := range roles.Items {
		all = append(all, &roles.Items[i])
	}
	for i := range clusterRoles.Items {
		all = append(all, &clusterRoles.Items[i])
	}
	for i := range accounts.Items {
		all = append(all, &accounts.Items[i])
	}
	for i := range agents.Items {
		all = append(all, &agents.Items[i])
	}
	return all, nil
}

// Remove removes what Belongings returned.
func (d *Desk) Remove(ctx context.Context, belongings []client.Object) error {
	for _, o := range belongings {
		if err := d.remove(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

// Naming are the policies that name an agent without a pattern.
func (d *Desk) Naming(ctx context.Context, name string) ([]string, error) {
	var list v1alpha1.AgentPolicyList
	if err := d.Client.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list policies: %w", err)
	}
	var names []string
	for i := range list.Items {
		if slices.Contains(list.Items[i].Spec.Agents, v1alpha1.Pattern(name)) {
			names = append(names, list.Items[i].Name)
		}
	}
	return names, nil
}
