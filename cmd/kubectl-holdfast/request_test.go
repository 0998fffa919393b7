package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// discovery answers what an API server says of its kinds; ok is false for other paths.
func discovery(path string) (object any, ok bool) {
	kinds := func(version string, list ...metav1.APIResource) any {
		return &metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}, GroupVersion: version, APIResources: list}
	}
	apps := metav1.GroupVersionForDiscovery{GroupVersion: "apps/v1", Version: "v1"}
	switch path {
	case "/api":
		return &metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}}, true
	case "/apis":
		return &metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}, Groups: []metav1.APIGroup{
			{Name: "apps", Versions: []metav1.GroupVersionForDiscovery{apps}, PreferredVersion: apps},
		}}, true
	case "/api/v1":
		return kinds("v1",
			metav1.APIResource{Name: "secrets", SingularName: "secret", Kind: "Secret", Namespaced: true, Verbs: []string{"get", "list"}},
			metav1.APIResource{Name: "pods", SingularName: "pod", ShortNames: []string{"po"}, Kind: "Pod", Namespaced: true, Verbs: []string{"get", "list"}},
			metav1.APIResource{Name: "namespaces", SingularName: "namespace", ShortNames: []string{"ns"}, Kind: "Namespace", Verbs: []string{"get", "list"}}), true
	case "/apis/apps/v1":
		return kinds("apps/v1", metav1.APIResource{
			Name: "deployments", SingularName: "deployment", ShortNames: []string{"deploy"}, Kind: "Deployment", Namespaced: true, Verbs: []string{"get", "list"},
		}), true
	default:
		return nil, false
	}
}

func TestRequest(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args     string
		hidden   bool // the API server does not tell of its kinds
		want     string
		out, err string
	}{
		{args: "--verbs get --resource secrets/db -n prod --for 15m --reason why",
			want: `{"verbs":["get"],"apiGroups":[""],"resources":["secrets"],"namespaces":["prod"],"names":["db"],"duration":"15m0s"} why`,
			out:  "asked-x asks to get secrets/db -n prod for 15m0s\n  p/r needs 2 of: group ops, user ann\nTo approve: kubectl holdfast approve asked-x\nTo wait:    kubectl holdfast wait asked-x\n"},
		{args: "--verbs get,PATCH --resource deploy/web,deploy/api -n a,b -o name",
			want: `{"verbs":["get","patch"],"apiGroups":["apps"],"resources":["deployments"],"namespaces":["a","b"],"names":["web","api"]} `, out: "accessrequest.holdfast.dev/asked-x\n"},
		{args: "--verbs create --resource po/exec/web-0 -o name", want: `{"verbs":["create"],"apiGroups":[""],"resources":["pods/exec"],"namespaces":["mine"],"names":["web-0"]} `, out: "accessrequest.holdfast.dev/asked-x\n"},
		{args: "--verbs list --resource pods -A -o name", want: `{"verbs":["list"],"apiGroups":[""],"resources":["pods"]} `, out: "accessrequest.holdfast.dev/asked-x\n"},
		{args: "--verbs delete --resource ns/prod-a -n x -o name", want: `{"verbs":["delete"],"apiGroups":[""],"resources":["namespaces"],"names":["prod-a"]} `, out: "accessrequest.holdfast.dev/asked-x\n"},
		{args: "--verbs get --resource deployments.apps/web -o name", want: `{"verbs":["get"],"apiGroups":["apps"],"resources":["deployments"],"namespaces":["mine"],"names":["web"]} `, out: "accessrequest.holdfast.dev/asked-x\n"},
		{args: "--verbs get --resource deployments.v1.apps/web -o name", want: `{"verbs":["get"],"apiGroups":["apps"],"resources":["deployments"],"namespaces":["mine"],"names":["web"]} `, out: "accessrequest.holdfast.dev/asked-x\n"},
		{args: "--verbs get --resource frobs/x", err: "error: --resource: the API server knows no resource \"frobs\"; \"kubectl api-resources\" lists those that it knows\n"},
		{args: "--verbs get --resource deployments.apps/web -n shop -o name", hidden: true,
			want: `{"verbs":["get"],"apiGroups":["apps"],"resources":["deployments"],"namespaces":["shop"],"names":["web"]} `, out: "accessrequest.holdfast.dev/asked-x\n"},
		{args: "--verbs get --resource secrets./db -n shop -o name", hidden: true,
			want: `{"verbs":["get"],"apiGroups":[""],"resources":["secrets"],"namespaces":["shop"],"names":["db"]} `, out: "accessrequest.holdfast.dev/asked-x\n"},
		{args: "--verbs get --resource things.example.com/x -o name", hidden: true,
			want: `{"verbs":["get"],"apiGroups":["example.com"],"resources":["things"],"names":["x"]} `, out: "accessrequest.holdfast.dev/asked-x\n",
			err: "Whether things are in namespaces is not known: asking for what is in none; say --namespace where that is wrong.\n"},
		{args: "--verbs get --resource secrets/db", hidden: true, err: "error: --resource: which resource \"secrets\" is could not be found out; write it in full and plural, as deployments.apps, or, in the core group, pods. with a dot: "},
		{args: "--verbs get --resource secrets/db --dry-run client", out: "would ask to get secrets/db -n mine (client dry run)\n"},
		{args: "--verbs get --resource secrets/db --dry-run server", want: `{"verbs":["get"],"apiGroups":[""],"resources":["secrets"],"namespaces":["mine"],"names":["db"]} dry`, out: "would ask to get secrets/db -n mine (server dry run)\n"},
		{args: "--verbs get --resource secrets/db --wait -o name", want: `{"verbs":["get"],"apiGroups":[""],"resources":["secrets"],"namespaces":["mine"],"names":["db"]} `,
			out: "accessrequest.holdfast.dev/asked-x\n", err: "asked-x is Approved, 10m left\n"},
		{args: "--resource secrets/db", err: "error: --verbs: say what you would do: get, list, watch, create, update, patch, delete\n"},
		{args: "--verbs get", err: "error: --resource: say to what, such as secrets/db or deployments.apps/web\n"},
		{args: "--verbs get --resource a/b/c/d", err: "error: --resource=a/b/c/d: want RESOURCE, RESOURCE/NAME or RESOURCE/SUBRESOURCE/NAME\n"},
		{args: "--verbs get --resource secrets/", err: "error: --resource=secrets/: nothing stands beside a /; want RESOURCE, RESOURCE/NAME or RESOURCE/SUBRESOURCE/NAME\n"},
		{args: "--verbs get --resource secrets/a --resource pods/b", err: "error: --resource=pods/b: is another kind than secrets/a: an approval is for every combination, so make a request for each kind\n"},
		{args: "--verbs list --resource pods --resource pods/b", err: "error: --resource=pods/b: either all have names, or none: make two requests\n"},
		{args: "--verbs get --resource secrets/a -A -n x", err: "error: --namespace and --all-namespaces exclude each other\n"},
		{args: "--verbs get --resource secrets/a --for -1s", err: "error: --for=-1s: want more than 0\n"},
		{args: "--verbs get --resource secrets/a -o wide", err: "error: --output=wide: want one of json, yaml, name\n"},
		{args: "--verbs get --resource secrets/a --dry-run yes", err: "error: --dry-run=yes: want none, client or server\n"},
		{args: "--verbs get --resource secrets/a --timeout 1s", err: "error: --timeout is for --wait\n"},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			made := ""
			a, out, errOut := setupServer(t, func(method, path string, body []byte) (int, any) {
				if object, ok := discovery(path); ok && !c.hidden {
					return http.StatusOK, object
				}
				r := &v1alpha1.AccessRequest{}
				switch {
				case method == http.MethodPost && path == "accessrequests":
					if err := json.Unmarshal(body, r); err != nil || r.GenerateName != "asked-" {
						t.Errorf("%s: %v", body, err)
					}
					access, err := json.Marshal(r.Spec.Access)
					if err != nil {
						t.Error(err)
					}
					made = string(access) + " " + r.Spec.Reason
					if strings.Contains(c.args, "--dry-run server") {
						made += "dry"
					}
					r.Spec.Rules = []v1alpha1.HoldingRule{{Policy: "p", Rule: "r", Required: 2, Approvers: v1alpha1.Approvers{Groups: []string{"ops"}, Users: []string{"ann"}}}}
				case method == http.MethodGet && path == "accessrequests/asked-x":
					r.Status.Phase, r.Status.ExpiresAt = v1alpha1.Approved, &metav1.Time{Time: noon.Add(10 * time.Minute)}
				default:
					return http.StatusForbidden, &metav1.Status{TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}, Status: metav1.StatusFailure, Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: "no"}
				}
				r.TypeMeta, r.Name = typed("AccessRequest"), "asked-x"
				return http.StatusCreated, r
			})
			inNamespace(t, a, "mine")
			code := run(t, a, append([]string{"request"}, splitArgs(c.args)...)...)
			if (code == 0) != !strings.HasPrefix(c.err, "error: ") || out.String() != c.out || !strings.HasPrefix(errOut.String(), c.err) || c.err == "" && errOut.Len() > 0 {
				t.Errorf("exit %d\nout  %q\nwant %q\nerr  %q\nwant %q", code, out, c.out, errOut, c.err)
			}
			if made != c.want {
				t.Errorf("asked for %s\nwant      %s", made, c.want)
			}
		})
	}
}

func splitArgs(s string) []string { return strings.Fields(s) }

// inNamespace gives the program a kubeconfig whose context has a namespace, and a cache of
// its own.
func inNamespace(t *testing.T, a *app, namespace string) {
	t.Helper()
	dir := t.TempDir()
	config := filepath.Join(dir, "kubeconfig")
	text := "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: 'http://unused'}}]\ncontexts: [{name: c, context: {cluster: c, namespace: " + namespace + "}}]\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a.flags.KubeConfig, a.flags.CacheDir = &config, &dir
}
