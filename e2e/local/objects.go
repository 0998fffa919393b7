package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/e2e/controlplane"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/webhook/registration"
)

const (
	// validity is how long certificates of Holdfast's own are valid.
	validity = 365 * 24 * time.Hour
	// tokenSeconds is how long agent.kubeconfig is valid.
	tokenSeconds int64 = 24 * 60 * 60
	// settle is how long the cluster has to take in what was just applied.
	settle = 30 * time.Second
)

// startControllers starts kube-controller-manager, and meanwhile fills the cluster.
func (l *Local) startControllers(ctx context.Context) error {
	component, err := l.plane.ControllerManager()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return l.add(ctx, fromComponent(component, l.dir)) })
	group.Go(func() error {
		if err := l.populate(ctx); err != nil {
			return fmt.Errorf("local: fill the cluster: %w", err)
		}
		return nil
	})
	return group.Wait()
}

// populate writes the kubeconfigs, and creates what they and Holdfast need.
func (l *Local) populate(ctx context.Context) error {
	users := []struct {
		file, user string
		groups     []string
	}{
		{adminConfig, "holdfast-admin", []string{"system:masters"}},
		{humanConfig, HumanUser, nil},
		{approverConfig, ApproverUser, []string{Approvers}},
		{approver2Config, Approver2User, []string{Approvers}},
	}
	for _, u := range users {
		config, err := l.plane.ClientKubeconfig(u.user, u.groups...)
		if err != nil {
			return err
		}
		if err := controlplane.WriteKubeconfig(l.dir.kubeconfig(u.file), config); err != nil {
			return err
		}
	}
	admin, err := l.Client(l.info.AdminKubeconfig)
	if err != nil {
		return err
	}
	kinds, err := l.applyManifests(ctx, admin)
	if err != nil {
		return err
	}
	if err := create(ctx, admin, identities()...); err != nil {
		return err
	}
	if err := l.writeAgentKubeconfig(ctx, admin); err != nil {
		return err
	}
	config, err := restConfig(l.info.AdminKubeconfig)
	if err != nil {
		return err
	}
	return awaitKinds(ctx, config, kinds)
}

// restConfig reads a kubeconfig for a client that nothing slows down.
func restConfig(kubeconfig string) (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", kubeconfig, err)
	}
	config.QPS, config.Burst = 200, 400
	return config, nil
}

// Client returns a client with a kubeconfig's rights. It knows the built-in kinds and
// Holdfast's.
func (l *Local) Client(kubeconfig string) (client.Client, error) {
	config, err := restConfig(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("local: %w", err)
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("local: make a client: %w", err)
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("local: make a client: %w", err)
	}
	return c, nil
}

// applyManifests creates Holdfast's kinds, which it returns, what manifests/rbac and
// manifests/flowcontrol have, and what is rendered to be applied.
func (l *Local) applyManifests(ctx context.Context, admin client.Client) ([]*unstructured.Unstructured, error) {
	if !l.config.Guard {
		return nil, nil
	}
	root, err := l.manifests()
	if err != nil {
		return nil, err
	}
	kinds, err := readManifests(filepath.Join(root, "crds"))
	if err != nil {
		return nil, err
	}
	if len(kinds) == 0 {
		return nil, fmt.Errorf("no kinds in %s: run make generate", filepath.Join(root, "crds"))
	}
	rights, rightsErr := readManifests(filepath.Join(root, "rbac"))
	levels, levelsErr := readManifests(filepath.Join(root, "flowcontrol"))
	rendered, err := readManifest(filepath.Join(l.registration().Dir, registration.FlowControlFile))
	if err := errors.Join(rightsErr, levelsErr, err); err != nil {
		return nil, err
	}
	others := slices.Concat(rights, levels, rendered)
	// Namespaces come before what is in them, whatever the files are called.
	slices.SortStableFunc(others, func(a, b *unstructured.Unstructured) int { return rank(a) - rank(b) })
	for _, object := range slices.Concat(kinds, others) {
		if err := create(ctx, admin, object); err != nil {
			return nil, err
		}
	}
	return kinds, nil
}

func rank(object *unstructured.Unstructured) int {
	if object.GetKind() == "Namespace" {
		return 0
	}
	return 1
}

func (l *Local) manifests() (string, error) {
	if l.source != "" {
		return filepath.Join(l.source, "manifests"), nil
	}
	beside := filepath.Join(l.config.InstallDir, "manifests")
	if _, err := os.Stat(beside); err != nil {
		return "", fmt.Errorf("no manifests: run this inside the source tree of Holdfast, or put its folder manifests beside holdfast-local: %w", err)
	}
	return beside, nil
}

// readManifests reads all objects of the YAML files in a folder; none if there is no folder.
func readManifests(dir string) ([]*unstructured.Unstructured, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("read manifests: %w", err)
	}
	var objects []*unstructured.Unstructured
	for _, name := range files {
		if strings.HasSuffix(name, "_test.yaml") {
			continue // tests of policies, which no API server knows
		}
		some, err := readManifest(name)
		if err != nil {
			return nil, err
		}
		objects = append(objects, some...)
	}
	return objects, nil
}

// readManifest reads all objects of a YAML file.
func readManifest(name string) ([]*unstructured.Unstructured, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read manifests: %w", err)
	}
	defer func() { _ = file.Close() }() // only read
	var objects []*unstructured.Unstructured
	decoder := utilyaml.NewYAMLOrJSONDecoder(file, 4096)
	for err == nil {
		object := &unstructured.Unstructured{}
		if err = decoder.Decode(object); err == nil && len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
	if !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return objects, nil
}

// create creates objects; those that are there already are left as they are.
func create(ctx context.Context, c client.Client, objects ...client.Object) error {
	for _, object := range objects {
		if err := c.Create(ctx, object); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("create %s %s: %w", kindOf(object), object.GetName(), err)
		}
	}
	return nil
}

func kindOf(object client.Object) string {
	if kind := object.GetObjectKind().GroupVersionKind().Kind; kind != "" {
		return kind
	}
	return fmt.Sprintf("%T", object)
}

// awaitKinds waits until objects of the kinds can be listed: that is a moment after a kind is
// established, and clients that ask in between are told to come back in a second.
func awaitKinds(ctx context.Context, config *rest.Config, kinds []*unstructured.Unstructured) error {
	asker, err := rest.HTTPClientFor(config)
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	return await(ctx, func(ctx context.Context) error {
		for _, kind := range kinds {
			url := config.Host + listPath(kind)
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return err
			}
			response, err := asker.Do(request)
			if err != nil {
				return err
			}
			_ = response.Body.Close() // only the status is wanted
			if response.StatusCode != http.StatusOK {
				return fmt.Errorf("list %s: %s", kind.GetName(), response.Status)
			}
		}
		return nil
	})
}

// listPath is where the API server lists what a CustomResourceDefinition defines.
func listPath(kind *unstructured.Unstructured) string {
	group, _, _ := unstructured.NestedString(kind.Object, "spec", "group")
	plural, _, _ := unstructured.NestedString(kind.Object, "spec", "names", "plural")
	versions, _, _ := unstructured.NestedSlice(kind.Object, "spec", "versions")
	for _, v := range versions {
		if version, ok := v.(map[string]any); ok && version["served"] == true {
			return fmt.Sprintf("/apis/%s/%v/%s", group, version["name"], plural)
		}
	}
	return "/apis/" + group
}

// await asks until there is no error, and returns the last one when settle is over.
func await(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	var last error
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		// The error of a question that was cut off says nothing.
		if ctx.Err() == nil || last == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), last)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// writeAgentKubeconfig gives the agent a token of its service account.
func (l *Local) writeAgentKubeconfig(ctx context.Context, admin client.Client) error {
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: AgentNamespace, Name: AgentAccount}}
	seconds := tokenSeconds
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	if err := admin.SubResource("token").Create(ctx, account, request); err != nil {
		return fmt.Errorf("get the agent's token: %w", err)
	}
	return controlplane.WriteKubeconfig(l.info.AgentKubeconfig, l.plane.TokenKubeconfig(AgentAccount, request.Status.Token))
}

// declareAgent creates the Agent, and waits until Holdfast has taken it in.
func (l *Local) declareAgent(ctx context.Context) error {
	if !l.config.Guard || l.config.NoAgent {
		return nil
	}
	admin, err := l.Client(l.info.AdminKubeconfig)
	if err != nil {
		return err
	}
	if err := awaitCreatable(ctx, admin); err != nil {
		return err
	}
	err = await(ctx, func(ctx context.Context) error {
		agent := botAgent()
		if err := create(ctx, admin, &agent); err != nil {
			return err
		}
		var now v1alpha1.Agent
		if err := admin.Get(ctx, client.ObjectKey{Name: AgentName}, &now); err != nil {
			return fmt.Errorf("get the Agent: %w", err)
		}
		if !slices.ContainsFunc(now.Status.Conditions, func(c metav1.Condition) bool {
			return c.Type == v1alpha1.ConditionCompiled && c.Status == metav1.ConditionTrue
		}) {
			return errors.New("the webhook has not taken in the Agent")
		}
		return nil
	})
	if err != nil {
		return remedy(fmt.Errorf("local: declare Agent %s: %w", AgentName, err), l.dir.partLog(Webhook), "")
	}
	return nil
}

// awaitCreatable waits until the kind Agent has been established for two seconds. Before, the
// API server makes every create of such an object wait for two seconds, counted from the
// request (k8s.io/apiextensions-apiserver, pkg/apiserver/customresource_handler.go).
func awaitCreatable(ctx context.Context, admin client.Client) error {
	kind := &unstructured.Unstructured{}
	kind.SetAPIVersion("apiextensions.k8s.io/v1")
	kind.SetKind("CustomResourceDefinition")
	if err := admin.Get(ctx, client.ObjectKey{Name: "agents." + v1alpha1.Group}, kind); err != nil {
		return fmt.Errorf("local: get the kind Agent: %w", err)
	}
	since, ok := conditionSince(kind, "Established")
	if !ok {
		return nil // then it is the API server that waits
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(time.Until(since.Add(2 * time.Second))):
		return nil
	}
}

// conditionSince is when an object's condition changed last.
func conditionSince(object *unstructured.Unstructured, name string) (time.Time, bool) {
	conditions, _, _ := unstructured.NestedSlice(object.Object, "status", "conditions")
	for _, c := range conditions {
		if condition, ok := c.(map[string]any); ok && condition["type"] == name {
			since, err := time.Parse(time.RFC3339, fmt.Sprint(condition["lastTransitionTime"]))
			return since, err == nil
		}
	}
	return time.Time{}, false
}

// identities are the namespaces, accounts and rights of those who have kubeconfigs.
func identities() []client.Object {
	meta := func(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }
	bind := func(name, role string, subject rbacv1.Subject) client.Object {
		return &rbacv1.ClusterRoleBinding{
			ObjectMeta: meta("holdfast-local:" + name),
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects:   []rbacv1.Subject{subject},
		}
	}
	approvers := rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: Approvers}
	read := []string{"get", "list", "watch"}
	return []client.Object{
		&corev1.Namespace{ObjectMeta: meta(AgentNamespace)},
		&corev1.Namespace{ObjectMeta: meta(SystemNamespace)},
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: AgentNamespace, Name: AgentAccount}},
		// On purpose: what Holdfast is there for.
		bind("agent", "cluster-admin", rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: AgentNamespace, Name: AgentAccount}),
		bind("human", "cluster-admin", rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.UserKind, Name: HumanUser}),
		// Approvers see what they judge, Secrets excepted, and write reviews.
		&rbacv1.ClusterRole{
			ObjectMeta: meta("holdfast-local:approver"),
			Rules: []rbacv1.PolicyRule{
				{APIGroups: []string{v1alpha1.Group}, Resources: []string{"*"}, Verbs: read},
				{APIGroups: []string{v1alpha1.Group}, Resources: []string{"reviews"}, Verbs: []string{"create"}},
				{APIGroups: []string{""}, Resources: []string{"namespaces", "nodes", "persistentvolumes"}, Verbs: read},
				{APIGroups: []string{"rbac.authorization.k8s.io", "admissionregistration.k8s.io", "apiextensions.k8s.io", "storage.k8s.io"}, Resources: []string{"*"}, Verbs: read},
			},
		},
		bind("approvers-view", "view", approvers),
		bind("approvers", "holdfast-local:approver", approvers),
	}
}
