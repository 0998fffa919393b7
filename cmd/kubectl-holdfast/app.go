package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/cli-runtime/pkg/printers"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/cmd/kubectl-holdfast/internal/show"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// app is what all commands share.
type app struct {
	flags   *genericclioptions.ConfigFlags
	streams genericiooptions.IOStreams
	now     func() time.Time
}

// exit is an error with an exit status of its own.
type exit struct {
	code int
	err  error
}

func (e *exit) Error() string { return e.err.Error() }
func (e *exit) Unwrap() error { return e.err }

// report prints an error, which may quote what an agent wrote, and returns the exit status.
func (a *app) report(err error) int {
	if err == nil {
		return 0
	}
	_, _ = fmt.Fprintln(a.streams.ErrOut, "error:", show.Block(err.Error()))
	var e *exit
	if errors.As(err, &e) {
		return e.code
	}
	return 1
}

// palette colours what goes to a terminal, unless NO_COLOR is set.
func (a *app) palette() show.Palette { return show.Palette(printers.AllowsColorOutput(a.streams.Out)) }

// say prints a line. What it is given must be visible already.
func (a *app) say(format string, args ...any) {
	_, _ = fmt.Fprintf(a.streams.Out, format+"\n", args...)
}

// note prints a line beside the output proper.
func (a *app) note(format string, args ...any) {
	_, _ = fmt.Fprintf(a.streams.ErrOut, format+"\n", args...)
}

// scheme has the kinds that the commands read and write.
func newScheme() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, authenticationv1.AddToScheme, corev1.AddToScheme, rbacv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, fmt.Errorf("register kinds: %w", err)
		}
	}
	return scheme, nil
}

// newMapper knows the few resources by heart: no discovery for each command, nor any right
// to it.
func newMapper() meta.RESTMapper {
	versions := []schema.GroupVersion{v1alpha1.GroupVersion, authenticationv1.SchemeGroupVersion, corev1.SchemeGroupVersion, rbacv1.SchemeGroupVersion}
	mapper := meta.NewDefaultRESTMapper(versions)
	for _, kind := range []string{"AccessRequest", "Review", "Agent", "AgentPolicy"} {
		mapper.Add(v1alpha1.GroupVersion.WithKind(kind), meta.RESTScopeRoot)
	}
	mapper.Add(authenticationv1.SchemeGroupVersion.WithKind("SelfSubjectReview"), meta.RESTScopeRoot)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("Namespace"), meta.RESTScopeRoot)
	mapper.Add(corev1.SchemeGroupVersion.WithKind("ServiceAccount"), meta.RESTScopeNamespace)
	mapper.Add(rbacv1.SchemeGroupVersion.WithKind("RoleBinding"), meta.RESTScopeNamespace)
	mapper.Add(rbacv1.SchemeGroupVersion.WithKind("ClusterRoleBinding"), meta.RESTScopeRoot)
	mapper.Add(rbacv1.SchemeGroupVersion.WithKind("ClusterRole"), meta.RESTScopeRoot)
	return mapper
}

// connect makes a client from the flags.
func (a *app) connect() (client.WithWatch, error) {
	config, err := a.flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig (see --kubeconfig and --context): %w", err)
	}
	config.WarningHandler = warnings{a.streams.ErrOut}
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	c, err := client.NewWithWatch(config, client.Options{Scheme: scheme, Mapper: newMapper()})
	if err != nil {
		return nil, fmt.Errorf("make a client: %w", err)
	}
	return c, nil
}

// warnings prints the API server's.
type warnings struct{ out io.Writer }

// HandleWarningHeader prints warnings of code 299, as kubectl does.
func (w warnings) HandleWarningHeader(code int, _, text string) {
	if code == 299 && text != "" {
		_, _ = fmt.Fprintln(w.out, "Warning:", show.Line(text))
	}
}
