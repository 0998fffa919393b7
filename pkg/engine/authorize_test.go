package engine

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/agent"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/policy"
)

// readsPolicy holds reads of Secrets, denies URLs and looks into what is created.
func readsPolicy() *v1alpha1.AgentPolicy {
	return &v1alpha1.AgentPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: "reads"},
		Spec: v1alpha1.AgentPolicySpec{Agents: []v1alpha1.Pattern{"*"}, Rules: []v1alpha1.Rule{
			{
				Name: "secrets", Action: v1alpha1.Hold, Required: 2,
				Match: v1alpha1.Match{
					Verbs: []v1alpha1.Pattern{"get", "list", "watch"}, APIGroups: []v1alpha1.Pattern{""}, Resources: []v1alpha1.Pattern{"secrets"},
				},
			},
			{Name: "urls", Action: v1alpha1.Deny, Match: v1alpha1.Match{NonResourceURLs: []v1alpha1.Pattern{"*"}}},
			{Name: "deletes", Action: v1alpha1.Hold, Match: v1alpha1.Match{Verbs: []v1alpha1.Pattern{"delete"}}},
			{Name: "objects", Action: v1alpha1.Hold, When: "object.spec.x == 1", Match: v1alpha1.Match{Versions: []v1alpha1.Pattern{"*"}}},
			{
				Name: "selected", Action: v1alpha1.Deny, Match: v1alpha1.Match{
					Verbs: []v1alpha1.Pattern{"list"}, Resources: []v1alpha1.Pattern{"pods"}, LabelSelectors: []v1alpha1.Pattern{"team=*"},
				},
			},
			{
				Name: "fields", Action: v1alpha1.Deny, When: `any(request.fieldSelector, .key == "spec.nodeName")`,
				Match: v1alpha1.Match{Verbs: []v1alpha1.Pattern{"list"}, Resources: []v1alpha1.Pattern{"pods"}},
			},
		}},
	}
}

func ask(verb, resource, name string) *decision.Request {
	r := &decision.Request{User: decision.User{Name: botUser}, Verb: verb, Version: "v1", Resource: resource, Namespace: "prod", Name: name}
	r.Resource, r.Subresource, _ = strings.Cut(resource, "/")
	return r
}

func url(verb, path string) *decision.Request {
	return &decision.Request{User: decision.User{Name: botUser}, Verb: verb, NonResourceURL: path}
}

func change(r *decision.Request, by func(*decision.Request)) *decision.Request {
	by(r)
	return r
}

func ownKind(verb, name string, selector ...decision.Requirement) *decision.Request {
	return change(ask(verb, "accessrequests", name), func(r *decision.Request) {
		r.Group, r.Version, r.Namespace, r.FieldSelector = v1alpha1.Group, "v1alpha1", "", selector
	})
}

func mine(values ...string) decision.Requirement {
	return decision.Requirement{Key: "spec.requester", Operator: "In", Values: values}
}

func TestAuthorize(t *testing.T) {
	t.Parallel()
	ready, halted := New(Config{}), New(Config{})
	ready.Load(state(t, false, readsPolicy()))
	halted.Load(state(t, true, readsPolicy()))
	undeclared := New(Config{})
	undeclared.Load(State{Agents: agent.NewSet(nil), Policies: policy.NewSet(nil)})
	const (
		deny, hold, allow = decision.Deny, decision.Hold, decision.Allow
	)
	for name, test := range map[string]struct {
		engine  *Engine
		request *decision.Request
		action  decision.Action
		reason  decision.Reason
	}{
		"a Secret":                    {ready, ask("get", "secrets", "db"), hold, decision.ReasonRule},
		"all Secrets":                 {ready, ask("list", "secrets", ""), hold, decision.ReasonRule},
		"anything else":               {ready, ask("get", "configmaps", "db"), allow, decision.ReasonDefault},
		"a log":                       {ready, ask("get", "pods/log", "web"), allow, decision.ReasonDefault},
		"metrics":                     {ready, url("get", "/metrics"), deny, decision.ReasonRule},
		"discovery":                   {ready, url("get", "/apis/apps"), allow, decision.ReasonSelfReview},
		"discovery, dressed up":       {ready, url("get", "/api/../metrics"), deny, decision.ReasonRule},
		"discovery by another verb":   {ready, url("post", "/api"), deny, decision.ReasonRule},
		"a path like discovery":       {ready, url("get", "/apish"), deny, decision.ReasonRule},
		"a change, left to admission": {ready, ask("delete", "pods", "web"), allow, decision.ReasonNoPolicy},
		"exec, left to admission":     {ready, ask("get", "pods/exec", "web"), allow, decision.ReasonNoPolicy},
		"a selector that a rule matches": {ready, change(ask("list", "pods", ""), func(r *decision.Request) {
			r.LabelSelector = []decision.Requirement{{Key: "team", Operator: "In", Values: []string{"a"}}}
		}), deny, decision.ReasonRule},
		"another selector": {ready, change(ask("list", "pods", ""), func(r *decision.Request) {
			r.LabelSelector = []decision.Requirement{{Key: "app", Operator: "In", Values: []string{"a"}}}
		}), allow, decision.ReasonDefault},
		"a field that a rule looks at": {ready, change(ask("list", "pods", ""), func(r *decision.Request) {
			r.FieldSelector = []decision.Requirement{{Key: "spec.nodeName", Operator: "In", Values: []string{"a"}}}
		}), deny, decision.ReasonRule},
		"impersonation":               {ready, ask("impersonate", "users", "jane"), deny, decision.ReasonSelfProtection},
		"constrained impersonation":   {ready, ask("impersonate-on:user-info:list", "pods", ""), deny, decision.ReasonSelfProtection},
		"its mode":                    {ready, ask("impersonate:user-info", "users", "jane"), deny, decision.ReasonSelfProtection},
		"Holdfast's own keys":         {ready, change(ask("get", "secrets", "x"), func(r *decision.Request) { r.Namespace = Namespace }), deny, decision.ReasonSelfProtection},
		"suspended, a read":           {halted, ask("get", "configmaps", "db"), deny, decision.ReasonSuspended},
		"suspended, discovery":        {halted, url("get", "/api"), deny, decision.ReasonSuspended},
		"suspended, an ask":           {halted, ownKind("create", ""), deny, decision.ReasonSuspended},
		"nothing loaded":              {New(Config{}), ask("get", "pods", "x"), deny, decision.ReasonNotReady},
		"nothing loaded, discovery":   {New(Config{}), url("get", "/api"), allow, decision.ReasonSelfReview},
		"undeclared":                  {undeclared, ask("get", "pods", "x"), deny, decision.ReasonUndeclared},
		"undeclared, discovery":       {undeclared, url("get", "/version"), allow, decision.ReasonSelfReview},
		"an ask":                      {ready, ownKind("create", ""), allow, decision.ReasonOwnRequest},
		"its own ask":                 {ready, ownKind("get", "asked-mine"), allow, decision.ReasonOwnRequest},
		"its own ask, withdrawn":      {ready, ownKind("patch", "asked-mine"), allow, decision.ReasonOwnRequest},
		"another's ask":               {ready, ownKind("get", "asked-other"), deny, decision.ReasonSelfProtection},
		"an ask that is not there":    {ready, ownKind("get", "asked-none"), deny, decision.ReasonSelfProtection},
		"all asks":                    {ready, ownKind("list", ""), deny, decision.ReasonSelfProtection},
		"its own asks":                {ready, ownKind("list", "", mine(botUser)), allow, decision.ReasonOwnRequest},
		"another's asks":              {ready, ownKind("watch", "", mine("jane")), deny, decision.ReasonSelfProtection},
		"asks that are not another's": {ready, ownKind("list", "", decision.Requirement{Key: "spec.requester", Operator: "NotIn", Values: []string{botUser}}), deny, decision.ReasonSelfProtection},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := test.engine.Authorize(context.Background(), Input{Request: test.request, Requester: func(name string) string {
				return map[string]string{"asked-mine": botUser, "asked-other": "jane"}[name]
			}})
			if d.Action != test.action || d.Reason != test.reason {
				t.Errorf("%s %s %q, want %s %s", d.Action, d.Reason, d.Message, test.action, test.reason)
			}
			if (d.Message == "") != (d.Action == allow) {
				t.Errorf("%s with message %q", d.Action, d.Message)
			}
		})
	}
}

// TestAuthorizeAggregated: what another API server serves is judged here or nowhere.
func TestAuthorizeAggregated(t *testing.T) {
	t.Parallel()
	e := New(Config{})
	e.Load(state(t, false, readsPolicy()))
	for verb, want := range map[string]decision.Reason{"delete": decision.ReasonUnseen, "create": decision.ReasonUnseen, "get": decision.ReasonDefault} {
		r := change(ask(verb, "widgets", "x"), func(r *decision.Request) { r.Group = "widgets.example.com" })
		d := e.Authorize(context.Background(), Input{Request: r, Aggregated: true})
		if d.Reason != want || (d.Action == decision.Allow) != (verb == "get") {
			t.Errorf("%s: %s %s, want %s", verb, d.Action, d.Reason, want)
		}
	}
}

// TestAuthorizeKubelets: what kubelets ask about is admitted by nobody, and judged here.
func TestAuthorizeKubelets(t *testing.T) {
	t.Parallel()
	rule := func(verb, resource v1alpha1.Pattern, action v1alpha1.Action) v1alpha1.Rule {
		return v1alpha1.Rule{Name: "r", Action: action, Match: v1alpha1.Match{Verbs: []v1alpha1.Pattern{verb}, Resources: []v1alpha1.Pattern{resource}}}
	}
	for name, test := range map[string]struct {
		rule    v1alpha1.Rule
		request *decision.Request
		action  decision.Action
		reason  decision.Reason
	}{
		"a command":          {rule("connect", "nodes/proxy", v1alpha1.Deny), ask("create", "nodes/proxy", "n"), decision.Deny, decision.ReasonRule},
		"a read by proxy":    {rule("connect", "nodes/proxy", v1alpha1.Hold), ask("get", "nodes/proxy", "n"), decision.Hold, decision.ReasonRule},
		"a pod's proxy":      {rule("connect", "*/proxy", v1alpha1.Deny), ask("get", "pods/proxy", "web"), decision.Allow, decision.ReasonNoPolicy},
		"a checkpoint":       {rule("create", "nodes/checkpoint", v1alpha1.Deny), ask("create", "nodes/checkpoint", "n"), decision.Deny, decision.ReasonRule},
		"metrics":            {rule("create", "nodes/*", v1alpha1.Deny), ask("get", "nodes/metrics", "n"), decision.Allow, decision.ReasonDefault},
		"a status":           {rule("*", "nodes/*", v1alpha1.Deny), ask("update", "nodes/status", "n"), decision.Allow, decision.ReasonNoPolicy},
		"a node":             {rule("*", "nodes", v1alpha1.Deny), ask("delete", "nodes", "n"), decision.Allow, decision.ReasonNoPolicy},
		"of a group's nodes": {rule("*", "nodes/*", v1alpha1.Deny), change(ask("create", "nodes/log", "n"), func(r *decision.Request) { r.Group = "x.example.com" }), decision.Allow, decision.ReasonNoPolicy},
	} {
		p := &v1alpha1.AgentPolicy{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: v1alpha1.AgentPolicySpec{
			Agents: []v1alpha1.Pattern{"*"}, Rules: []v1alpha1.Rule{test.rule},
		}}
		e := New(Config{})
		e.Load(state(t, false, p))
		if d := e.Authorize(context.Background(), Input{Request: test.request}); d.Action != test.action || d.Reason != test.reason {
			t.Errorf("%s: %s %s, want %s %s", name, d.Action, d.Reason, test.action, test.reason)
		}
	}
}

func TestHowToAsk(t *testing.T) {
	t.Parallel()
	e := New(Config{})
	e.Load(state(t, false, readsPolicy()))
	d := e.Authorize(context.Background(), Input{Request: ask("get", "secrets", "db")})
	want := `agent bot may not get secrets "db" in namespace "prod": rule reads/secrets To ask for it: kubectl holdfast request --verbs get --resource secrets/db -n prod --for 10m --reason '...' (decision ` + d.ID + `)`
	if d.Message != want {
		t.Errorf("got  %s\nwant %s", d.Message, want)
	}
}

// TestHowToAskOfALog: it is the Secrets that the agent has to ask for.
func TestHowToAskOfALog(t *testing.T) {
	t.Parallel()
	e := New(Config{})
	logs := readsPolicy()
	logs.Name, logs.Spec.Rules = "logs", []v1alpha1.Rule{{
		Name: "log", Action: v1alpha1.Hold, When: `any(references(target), not mayRead(#))`,
		Match: v1alpha1.Match{Resources: []v1alpha1.Pattern{"pods/log"}, Versions: []v1alpha1.Pattern{"v1"}},
	}}
	e.Load(state(t, false, readsPolicy(), logs))
	pod := map[string]any{"apiVersion": "v1", "kind": "Pod", "spec": map[string]any{"containers": []any{
		map[string]any{"name": "c", "envFrom": []any{map[string]any{"secretRef": map[string]any{"name": "db"}}}},
	}}}
	d := e.Authorize(context.Background(), Input{Request: ask("get", "pods/log", "web"), Target: func() (map[string]any, error) { return pod, nil }})
	want := `agent bot may not get pods/log "web" in namespace "prod": rule logs/log It may not read Secret prod/db. To ask for it: kubectl holdfast request --verbs get --resource secrets/db -n prod --for 10m --reason '...' (decision ` + d.ID + `)`
	if d.Message != want {
		t.Errorf("got  %s\nwant %s", d.Message, want)
	}
}

// grant is an approval of what the bot asked for ahead: to get secrets/db in prod.
func grant(by func(*v1alpha1.AccessRequest)) *v1alpha1.AccessRequest {
	g := &v1alpha1.AccessRequest{
		ObjectMeta: metav1.ObjectMeta{Name: "asked-x", UID: "u"},
		Spec: v1alpha1.AccessRequestSpec{
			Origin: v1alpha1.Asked, Agent: "bot", Requester: botUser,
			Access: v1alpha1.Access{Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"}, Namespaces: []string{"prod"}, Names: []string{"db"}},
			Rules:  []v1alpha1.HoldingRule{{Policy: "reads", Rule: "secrets", Required: 2, Approvers: v1alpha1.Approvers{Groups: []string{policy.DefaultApprovers}}}},
		},
		Status: v1alpha1.AccessRequestStatus{Phase: v1alpha1.Approved, ExpiresAt: &metav1.Time{Time: time.Now().Add(time.Hour)}},
	}
	if by != nil {
		by(g)
	}
	return g
}

func TestGrants(t *testing.T) {
	t.Parallel()
	yes := func(context.Context, *v1alpha1.AccessRequest, []string) (bool, error) { return true, nil }
	no := func(context.Context, *v1alpha1.AccessRequest, []string) (bool, error) { return false, nil }
	fails := func(context.Context, *v1alpha1.AccessRequest, []string) (bool, error) {
		return true, errors.New("away")
	}
	type confirm = func(context.Context, *v1alpha1.AccessRequest, []string) (bool, error)
	for name, test := range map[string]struct {
		change  func(*v1alpha1.AccessRequest)
		request *decision.Request
		confirm confirm
		granted bool
	}{
		"exactly that":                     {nil, ask("get", "secrets", "db"), yes, true},
		"storage knows better":             {nil, ask("get", "secrets", "db"), no, false},
		"storage is away":                  {nil, ask("get", "secrets", "db"), fails, false},
		"nobody confirms":                  {nil, ask("get", "secrets", "db"), nil, false},
		"another name":                     {nil, ask("get", "secrets", "other"), yes, false},
		"another verb":                     {nil, ask("list", "secrets", ""), yes, false},
		"another namespace":                {nil, change(ask("get", "secrets", "db"), func(r *decision.Request) { r.Namespace = "dev" }), yes, false},
		"another agent":                    {nil, change(ask("get", "secrets", "db"), func(r *decision.Request) { r.User.Name += "2" }), yes, false},
		"another account of the name":      {func(g *v1alpha1.AccessRequest) { g.Spec.RequesterUID = "1" }, change(ask("get", "secrets", "db"), func(r *decision.Request) { r.User.UID = "2" }), yes, false},
		"over":                             {func(g *v1alpha1.AccessRequest) { g.Status.ExpiresAt.Time = time.Now().Add(-time.Second) }, ask("get", "secrets", "db"), yes, false},
		"not yet approved":                 {func(g *v1alpha1.AccessRequest) { g.Status.Phase = v1alpha1.Pending }, ask("get", "secrets", "db"), yes, false},
		"a held request's approval":        {func(g *v1alpha1.AccessRequest) { g.Spec.Origin = v1alpha1.Intercepted }, ask("get", "secrets", "db"), yes, false},
		"approved by fewer than asked now": {func(g *v1alpha1.AccessRequest) { g.Spec.Rules[0].Required = 1 }, ask("get", "secrets", "db"), yes, false},
		"of another rule":                  {func(g *v1alpha1.AccessRequest) { g.Spec.Rules[0].Rule = "other" }, ask("get", "secrets", "db"), yes, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := New(Config{})
			e.Load(state(t, false, readsPolicy()))
			e.LoadGrants(access.NewGrants([]*v1alpha1.AccessRequest{grant(test.change)}))
			d := e.Authorize(context.Background(), Input{Request: test.request, Confirm: test.confirm})
			if granted := d.Action == decision.Allow && d.Reason == decision.ReasonGranted && d.AccessRequest == "asked-x"; granted != test.granted {
				t.Errorf("%s %s by %q, want granted %t", d.Action, d.Reason, d.AccessRequest, test.granted)
			}
			if !test.granted && d.Action == decision.Allow {
				t.Errorf("allowed: %s", d.Reason)
			}
		})
	}
}

// TestGrantOfChange: a grant lets a change pass both hooks, and never what is denied.
func TestGrantOfChange(t *testing.T) {
	t.Parallel()
	yes := func(context.Context, *v1alpha1.AccessRequest, []string) (bool, error) { return true, nil }
	deletion := func(g *v1alpha1.AccessRequest) {
		g.Spec.Access = v1alpha1.Access{Verbs: []string{"delete"}, APIGroups: []string{""}, Resources: []string{"pods"}, Namespaces: []string{"prod"}, Names: []string{"web"}}
		g.Spec.Rules[0].Rule, g.Spec.Rules[0].Required = "deletes", 1
	}
	e := New(Config{})
	e.Load(state(t, false, readsPolicy()))
	e.LoadGrants(access.NewGrants([]*v1alpha1.AccessRequest{grant(deletion)}))
	in := Input{Request: ask("delete", "pods", "web"), Confirm: yes}
	if d := e.Authorize(context.Background(), in); d.Reason != decision.ReasonGranted {
		t.Errorf("authorizer: %s %s, want Granted", d.Action, d.Reason)
	}
	if d, held := e.Decide(context.Background(), in); d.Action != decision.Allow || d.Reason != decision.ReasonGranted || held != nil {
		t.Errorf("admission: %s %s, want Granted", d.Action, d.Reason)
	}
	if d, held := e.Decide(context.Background(), Input{Request: ask("delete", "pods", "other"), Confirm: yes}); d.Action != decision.Hold || held == nil {
		t.Errorf("another pod: %s %s, want Hold", d.Action, d.Reason)
	}
	e.Load(state(t, false, readsPolicy(), denyDeletes(v1alpha1.Enforce, v1alpha1.Deny)))
	if d, _ := e.Decide(context.Background(), in); d.Action != decision.Deny {
		t.Errorf("denied by another policy: %s %s, want Deny", d.Action, d.Reason)
	}
}
