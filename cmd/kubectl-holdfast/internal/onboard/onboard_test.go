package onboard

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

func named(namespace, name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: namespace, Name: name}
}

// setup is a cluster with namespaces a, b and c, the roles, a policy for all and one for
// others; what is said goes to said.
func setup(t *testing.T, more ...client.Object) (d *Desk, said *strings.Builder) {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{v1alpha1.AddToScheme, corev1.AddToScheme, rbacv1.AddToScheme, authenticationv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	objects := append([]client.Object{
		&rbacv1.ClusterRole{ObjectMeta: named("", "edit")}, &rbacv1.ClusterRole{ObjectMeta: named("", "view")}, &rbacv1.ClusterRole{ObjectMeta: named("", askerRole)},
		&v1alpha1.AgentPolicy{ObjectMeta: named("", "all"), Spec: v1alpha1.AgentPolicySpec{Agents: []v1alpha1.Pattern{"*"}}},
		&v1alpha1.AgentPolicy{ObjectMeta: named("", "some"), Spec: v1alpha1.AgentPolicySpec{Agents: []v1alpha1.Pattern{"other"}}},
	}, more...)
	for _, name := range []string{"a", "b", "c"} {
		objects = append(objects, &corev1.Namespace{ObjectMeta: named("", name)})
	}
	said = &strings.Builder{}
	return &Desk{
		Client: fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).Build(),
		Say:    func(format string, args ...any) { fmt.Fprintf(said, format+"\n", args...) },
	}, said
}

func plan(change func(*Plan)) *Plan {
	p := &Plan{Name: "claude", Namespace: "agents", Owner: "jane", Namespaces: []string{"a", "b"}, Role: "edit", Policies: []string{"all", "some"}}
	if change != nil {
		change(p)
	}
	return p
}

// TestAdd: the first time all is made, the second nothing, and then what has changed.
func TestAdd(t *testing.T) {
	t.Parallel()
	d, said := setup(t)
	for _, step := range []struct {
		name string
		plan *Plan
		dry  bool
		want string
	}{
		{"nothing yet", plan(nil), true, `namespace/agents created (dry run)
serviceaccount/claude in agents created (dry run)
agent/claude created (dry run)
agentpolicy/all unchanged: it is for agent claude (dry run)
agentpolicy/some changed: it is for agent claude now (dry run)
clusterrolebinding/holdfast-agent-claude created (dry run)
rolebinding/holdfast-agent-claude in a created (dry run)
rolebinding/holdfast-agent-claude in b created (dry run)
`},
		{"made", plan(nil), false, `namespace/agents created
serviceaccount/claude in agents created
agent/claude created
agentpolicy/all unchanged: it is for agent claude
agentpolicy/some changed: it is for agent claude now
clusterrolebinding/holdfast-agent-claude created
rolebinding/holdfast-agent-claude in a created
rolebinding/holdfast-agent-claude in b created
`},
		{"again", plan(nil), false, `serviceaccount/claude in agents unchanged
agent/claude unchanged
agentpolicy/all unchanged: it is for agent claude
agentpolicy/some unchanged: it is for agent claude
clusterrolebinding/holdfast-agent-claude unchanged
rolebinding/holdfast-agent-claude in a unchanged
rolebinding/holdfast-agent-claude in b unchanged
`},
		{"another owner, role and place", plan(func(p *Plan) {
			p.Owner, p.Role, p.Namespaces, p.Policies = "bob", "view", []string{"b", "c"}, nil
		}), false, `serviceaccount/claude in agents unchanged
agent/claude changed
clusterrolebinding/holdfast-agent-claude unchanged
rolebinding/holdfast-agent-claude in a removed
rolebinding/holdfast-agent-claude in b removed
rolebinding/holdfast-agent-claude in b created
rolebinding/holdfast-agent-claude in c created
`},
	} {
		said.Reset()
		d.DryRun = step.dry
		if err := d.Add(t.Context(), step.plan); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if said.String() != step.want {
			t.Errorf("%s:\n%swant:\n%s", step.name, said, step.want)
		}
	}
	var agent v1alpha1.Agent
	var some v1alpha1.AgentPolicy
	for _, o := range []client.Object{&agent, &some} {
		name := map[bool]string{true: "claude", false: "some"}[o == client.Object(&agent)]
		if err := d.Client.Get(t.Context(), client.ObjectKey{Name: name}, o); err != nil {
			t.Fatal(err)
		}
	}
	if want := (v1alpha1.Subject{Kind: "ServiceAccount", Namespace: "agents", Name: "claude"}); len(agent.Spec.Subjects) != 1 || agent.Spec.Subjects[0] != want || agent.Spec.Owner.Name != "bob" {
		t.Errorf("agent %+v", agent.Spec)
	}
	if fmt.Sprint(some.Spec.Agents) != "[other claude]" {
		t.Errorf("policy for %v", some.Spec.Agents)
	}
	if account, err := d.Account(t.Context(), "claude"); err != nil || account.String() != "agents/claude" || fmt.Sprint(d.Workplaces(t.Context(), "claude")) != "[b c]" {
		t.Errorf("account %s, %v", account, err)
	}
}

func TestAddRefuses(t *testing.T) {
	t.Parallel()
	theirs := &corev1.ServiceAccount{ObjectMeta: named("agents", "claude")}
	for name, test := range map[string]struct {
		change func(*Plan)
		more   []client.Object
		want   string
	}{
		"a name":        {func(p *Plan) { p.Name = "Claude_1" }, nil, `name "Claude_1": a lowercase RFC 1123 label`},
		"no namespaces": {func(p *Plan) { p.Namespaces = nil }, nil, "--namespaces: say in which namespaces the agent works"},
		"namespaces that are not there": {func(p *Plan) { p.Namespaces = []string{"a", "x", "y"} }, nil,
			"--namespaces: there is no namespace \"x\"; create it first, or leave it out\n--namespaces: there is no namespace \"y\""},
		"a policy that is not there": {func(p *Plan) { p.Policies = []string{"x"} }, nil, `--policy: there is no AgentPolicy "x"`},
		"a role that is not there":   {func(p *Plan) { p.Role = "x" }, nil, `--role: there is no ClusterRole "x"`},
		"somebody else's account": {nil, []client.Object{theirs},
			"serviceaccount/claude in agents is there, and was not made by this command: choose another name, or, to hand it over, label it app.kubernetes.io/managed-by=kubectl-holdfast and holdfast.dev/agent=claude"},
		"an Agent made by hand": {nil, []client.Object{&v1alpha1.Agent{ObjectMeta: named("", "claude")}}, "agent/claude is there, and was not made by this command"},
	} {
		d, said := setup(t, test.more...)
		err := d.Add(t.Context(), plan(test.change))
		if err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
		var bindings rbacv1.RoleBindingList
		if err := d.Client.List(t.Context(), &bindings); err != nil || len(bindings.Items) > 0 {
			t.Errorf("%s: rights were given all the same: %v, %s", name, err, said)
		}
		if len(test.more) > 0 && !errors.Is(err, ErrForeign) {
			t.Errorf("%s: %v is not ErrForeign", name, err)
		}
	}
}

// TestRemove: what was made goes, the Agent last, and nothing else.
func TestRemove(t *testing.T) {
	t.Parallel()
	d, said := setup(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "agents", Name: "other", Labels: labels("other")}})
	if err := d.Add(t.Context(), plan(nil)); err != nil {
		t.Fatal(err)
	}
	said.Reset()
	belongings, err := d.Belongings(t.Context(), "claude")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Remove(t.Context(), belongings); err != nil {
		t.Fatal(err)
	}
	if want := `rolebinding/holdfast-agent-claude in a removed
rolebinding/holdfast-agent-claude in b removed
clusterrolebinding/holdfast-agent-claude removed
serviceaccount/claude in agents removed
agent/claude removed
`; said.String() != want {
		t.Errorf("%swant:\n%s", said, want)
	}
	if left, err := d.Belongings(t.Context(), "other"); err != nil || len(left) != 1 {
		t.Errorf("of another agent %d are left, %v", len(left), err)
	}
	if names, err := d.Naming(t.Context(), "claude"); err != nil || fmt.Sprint(names) != "[some]" {
		t.Errorf("policies that name it: %v, %v", names, err)
	}
}

func TestKubeconfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.crt")
	if err := os.WriteFile(ca, []byte("CA"), 0o600); err != nil {
		t.Fatal(err)
	}
	config := &rest.Config{
		Host: "https://api:6443", BearerToken: "of a person", Username: "jane", Password: "x",
		TLSClientConfig: rest.TLSClientConfig{CAFile: ca, CertData: []byte("person"), KeyData: []byte("person"), ServerName: "kubernetes"},
	}
	out, err := Kubeconfig(config, "claude", "shop", "token")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "claude.kubeconfig")
	if err := Free(file, "claude"); err != nil {
		t.Error(err)
	}
	if err := Write(file, out); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	read, err := clientcmd.LoadFromFile(file)
	if err != nil {
		t.Fatal(err)
	}
	cluster, user, current := read.Clusters["claude"], read.AuthInfos["claude"], read.Contexts[read.CurrentContext]
	if cluster.Server != "https://api:6443" || string(cluster.CertificateAuthorityData) != "CA" || cluster.TLSServerName != "kubernetes" ||
		user.Token != "token" || current.Namespace != "shop" {
		t.Errorf("%+v %+v %+v", cluster, user, current)
	}
	data, err := os.ReadFile(file)
	if err != nil || strings.Contains(string(data), "person") {
		t.Errorf("it has credentials of the person: %s", data)
	}
	if err := Free(file, "claude"); err != nil {
		t.Errorf("it cannot be written again: %v", err)
	}
	for _, name := range []string{file, ca} {
		if err := Free(name, "other"); err == nil {
			t.Errorf("another agent's kubeconfig may be written over %s", filepath.Base(name))
		}
	}
}
