package agent

import (
	"slices"
	"testing"

	"k8s.io/apiserver/pkg/cel/environment"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

func agents() []*v1alpha1.Agent {
	declare := func(name string, s ...v1alpha1.Subject) *v1alpha1.Agent {
		return &v1alpha1.Agent{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.AgentSpec{Subjects: s}}
	}
	return []*v1alpha1.Agent{
		declare("bot", v1alpha1.Subject{Kind: "ServiceAccount", Namespace: "agents", Name: "bot-*"}),
		declare("claude", v1alpha1.Subject{Kind: "User", Name: "claude@corp"}, v1alpha1.Subject{Kind: "User", Name: "*@bots.corp"}),
		declare("team", v1alpha1.Subject{Kind: "Group", Name: "holdfast:agents"}, v1alpha1.Subject{Kind: "Group", Name: "ci-*"}),
	}
}

var users = []struct {
	user  decision.User
	agent []string
	net   bool
}{
	{decision.User{Name: "system:serviceaccount:agents:bot-1", Groups: []string{"system:serviceaccounts", "system:serviceaccounts:agents"}}, []string{"bot"}, true},
	{decision.User{Name: "system:serviceaccount:agents:bot-1"}, []string{"bot"}, true},
	{decision.User{Name: "system:serviceaccount:agents:other", Groups: []string{"system:serviceaccounts:agents"}}, nil, true},
	{decision.User{Name: "system:serviceaccount:agents2:bot-1", Groups: []string{"system:serviceaccounts:agents2"}}, nil, false},
	{decision.User{Name: "someone", Groups: []string{"system:serviceaccounts:agents"}}, nil, true},
	{decision.User{Name: "claude@corp"}, []string{"claude"}, true},
	{decision.User{Name: "Claude@corp"}, nil, false},
	{decision.User{Name: "claude@corp "}, nil, false},
	{decision.User{Name: "x@bots.corp", Groups: []string{"ci-7"}}, []string{"claude", "team"}, true},
	{decision.User{Name: "system:x@bots.corp"}, nil, false},
	{decision.User{Name: "jane", Groups: []string{"system:authenticated", "ops"}}, nil, false},
	{decision.User{Name: "jane", Groups: []string{"holdfast:agents"}}, []string{"team"}, true},
	{decision.User{Name: "holdfast:agents"}, nil, false},
	{decision.User{Name: "system:serviceaccount:agents"}, nil, false},
	{decision.User{Name: "system:serviceaccount:agents:bot-1:x"}, nil, true},
	{decision.User{}, nil, false},
}

func TestIdentify(t *testing.T) {
	t.Parallel()
	s := NewSet(agents())
	for _, test := range users {
		var got []string
		for _, a := range s.Identify(test.user) {
			got = append(got, a.Name)
		}
		if !slices.Equal(got, test.agent) {
			t.Errorf("Identify(%+v) = %v, want %v", test.user, got, test.agent)
		}
	}
	var none *Set
	if none.Identify(users[0].user) != nil || NewSet(nil).Identify(users[0].user) != nil {
		t.Error("an empty set identifies somebody")
	}
}

// TestNet holds Contains against the table, and the CEL text that API servers evaluate
// against Contains; every agent has to be inside.
func TestNet(t *testing.T) {
	t.Parallel()
	n := NewNet(agents())
	env, err := environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()).Env(environment.StoredExpressions)
	if err != nil {
		t.Fatal(err)
	}
	env, err = env.Extend(celRequest())
	if err != nil {
		t.Fatal(err)
	}
	for _, paths := range []Paths{AdmissionPaths, AuthorizationPaths} {
		ast, issues := env.Compile(n.Expression(paths))
		if issues.Err() != nil {
			t.Fatal(issues.Err())
		}
		program, err := env.Program(ast)
		if err != nil {
			t.Fatal(err)
		}
		for _, test := range users {
			if got := n.Contains(test.user); got != test.net {
				t.Errorf("Contains(%+v) = %t, want %t", test.user, got, test.net)
			}
			if len(test.agent) > 0 && !test.net {
				t.Errorf("agent %+v is outside the net", test.user)
			}
			user := map[string]any{"username": test.user.Name, "user": test.user.Name}
			if test.user.Groups != nil {
				user["groups"] = test.user.Groups
			}
			request := map[string]any{"userInfo": user, "user": test.user.Name}
			if test.user.Groups != nil {
				request["groups"] = test.user.Groups
			}
			out, _, err := program.Eval(map[string]any{"request": request})
			if err != nil || out.Value() != test.net {
				t.Errorf("CEL over %s for %+v: %v, %v, want %t", paths.User, test.user, out, err, test.net)
			}
		}
	}
	if got := NewNet(nil).Expression(AdmissionPaths); got != "false" {
		t.Errorf("the empty net is %q, want false", got)
	}
}

func TestMissing(t *testing.T) {
	t.Parallel()
	n := NewNet(agents())
	for _, a := range agents() {
		if missing := n.Missing(a); len(missing) != 0 {
			t.Errorf("Missing(%s) = %v, want none", a.Name, missing)
		}
	}
	stranger := &v1alpha1.Agent{Spec: v1alpha1.AgentSpec{Subjects: []v1alpha1.Subject{
		{Kind: "ServiceAccount", Namespace: "elsewhere", Name: "bot"},
		{Kind: "User", Name: "y@bots.corp"},
		{Kind: "User", Name: "y*@corp"},
		{Kind: "Group", Name: "ci-1"},
	}}}
	missing := n.Missing(stranger)
	if len(missing) != 2 || missing[0].Namespace != "elsewhere" || missing[1].Name != "y*@corp" {
		t.Errorf("Missing = %v, want the namespace and the pattern", missing)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		subject v1alpha1.Subject
		want    string
	}{
		{v1alpha1.Subject{Kind: "ServiceAccount", Namespace: "agents", Name: "*"}, ""},
		{v1alpha1.Subject{Kind: "User", Name: "system:anonymous"}, ""},
		{v1alpha1.Subject{Kind: "Group", Name: "holdfast:agents"}, ""},
		{v1alpha1.Subject{Kind: "ServiceAccount", Namespace: "kube-system", Name: "x"}, `spec.subjects[0].namespace: Invalid value: "kube-system": its service accounts run the cluster or Holdfast itself; give the agent a namespace of its own`},
		{v1alpha1.Subject{Kind: "User", Name: "*"}, `spec.subjects[0].name: Invalid value: "*": would make every person an agent; name the users`},
		{v1alpha1.Subject{Kind: "User", Name: "system:serviceaccount:agents:bot"}, `spec.subjects[0].name: Invalid value: "system:serviceaccount:agents:bot": declare a service account with kind ServiceAccount, namespace and name`},
		{v1alpha1.Subject{Kind: "User", Name: "system:node:*"}, `spec.subjects[0].name: Invalid value: "system:node:*": names that start with system: belong to the cluster's own components`},
		{v1alpha1.Subject{Kind: "Group", Name: "system:*"}, `spec.subjects[0].name: Invalid value: "system:*": takes in system:authenticated, and with it people or controllers who must not wait for Holdfast`},
		{v1alpha1.Subject{Kind: "Group", Name: "**"}, `spec.subjects[0].name: Invalid value: "**": would make everybody an agent; name the groups`},
		{v1alpha1.Subject{Kind: "Robot", Name: "x"}, `spec.subjects[0].kind: Unsupported value: "Robot": supported values: "ServiceAccount", "User", "Group"`},
	} {
		err := Validate(&v1alpha1.Agent{Spec: v1alpha1.AgentSpec{Subjects: []v1alpha1.Subject{test.subject}}}).ToAggregate()
		if got := errorText(err); got != test.want {
			t.Errorf("%+v:\ngot  %s\nwant %s", test.subject, got, test.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
