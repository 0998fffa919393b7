package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// inlineWait is how long one call waits at most: what is answered at once takes less.
const inlineWait = 10 * time.Second

// plainAnswer is what came back for one HTTP request.
type plainAnswer struct {
	code   int
	header http.Header
	status metav1.Status
	took   time.Duration
}

// causes are the messages of a Status' causes of a type.
func (a plainAnswer) causes(of metav1.CauseType) []string {
	var messages []string
	if a.status.Details == nil {
		return nil
	}
	for _, cause := range a.status.Details.Causes {
		if cause.Type == of {
			messages = append(messages, cause.Message)
		}
	}
	return messages
}

// restConfig is somebody's, for programs.
func (c *cluster) restConfig(t *testing.T, who identity) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig(who))
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// plain sends one HTTP request as somebody, and nothing but that.
func (c *cluster) plain(t *testing.T, who identity, method, path, body string) plainAnswer {
	t.Helper()
	config := c.restConfig(t, who)
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(t.Context(), method, config.Host+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	start := time.Now()
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	a := plainAnswer{code: response.StatusCode, header: response.Header, took: time.Since(start)}
	var data bytes.Buffer
	if _, err := data.ReadFrom(response.Body); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data.Bytes(), &a.status); err != nil {
		t.Fatalf("%d: %v: %s", a.code, err, data.String())
	}
	return a
}

// noRetries: a client that does not come back by itself is told what a program, and whoever
// reads its log, needs; and what it sent goes through when it is sent again.
func noRetries(t *testing.T, c *cluster) {
	c.must(t, human, "create", "namespace", "no-retries")
	const body = `{"metadata":{"name":"c"},"data":{"a":"b"}}`
	post := func() plainAnswer {
		return c.plain(t, agent, http.MethodPost, "/api/v1/namespaces/no-retries/configmaps", body)
	}
	got := post()
	requests := c.requestsIn(t)["no-retries"]
	if len(requests) != 1 {
		t.Fatalf("%d AccessRequests, want 1", len(requests))
	}
	name := requests[0].Name
	if got.code != http.StatusTooManyRequests || got.status.Code != http.StatusTooManyRequests || got.status.Reason != metav1.StatusReasonTooManyRequests {
		t.Errorf("answered %d %+v, want 429 TooManyRequests", got.code, got.status)
	}
	details := got.status.Details
	if details == nil || details.RetryAfterSeconds < 1 || got.header.Get("Retry-After") != fmt.Sprint(details.RetryAfterSeconds) {
		t.Fatalf("Retry-After %q and details %+v, want the same seconds in both", got.header.Get("Retry-After"), details)
	}
	if details.Name != "c" || details.Kind != "configmaps" {
		t.Errorf("details %+v, want them to name the object", details)
	}
	if causes := got.causes("HoldfastAccessRequest"); !slices.Equal(causes, []string{name}) {
		t.Errorf("causes %+v, want AccessRequest %s", details.Causes, name)
	}
	if causes := got.causes("HoldfastRule"); !slices.Equal(causes, []string{"A second pair of eyes."}) || details.Causes[0].Field != "routes/changes" {
		t.Errorf("causes %+v, want rule routes/changes with its message", details.Causes)
	}
	decisions := got.causes("HoldfastDecision")
	if len(decisions) != 1 {
		t.Fatalf("causes %+v, want the decision", details.Causes)
	}
	for what, want := range map[string]string{
		"why":             "rule routes/changes: A second pair of eyes",
		"what is missing": "it waits for approval: routes/changes has 0 of 1 approvals",
		"who can approve": "Approvers: group holdfast:approvers",
		"how":             "kubectl holdfast approve " + name,
		"what then":       "The same command goes through then",
		"which one":       fmt.Sprintf("(decision %s, AccessRequest %s)", decisions[0], name),
	} {
		if !strings.Contains(got.status.Message, want) {
			t.Errorf("the message does not say %s (%q): %s", what, want, got.status.Message)
		}
	}
	withoutRetries(t, c)
	c.approve(t, approver, name)
	c.phase(t, name, "Approved")
	if again := post(); again.code != http.StatusCreated {
		t.Errorf("sent again after the approval: %d %s", again.code, again.status.Message)
	}
	if n := len(c.requestsIn(t)["no-retries"]); n != 2 {
		t.Errorf("%d AccessRequests for two objects", n)
	}
}

// withoutRetries is client-go, told not to come back, and with less time than a call would wait:
// it gets the answer before its time is up, and the error says that it could come back.
func withoutRetries(t *testing.T, c *cluster) {
	client, err := kubernetes.NewForConfig(c.restConfig(t, agent))
	if err != nil {
		t.Fatal(err)
	}
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "d"}}
	err = client.CoreV1().RESTClient().Post().Namespace("no-retries").Resource("configmaps").Body(object).
		Timeout(6 * time.Second).MaxRetries(0).Do(context.Background()).Error()
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsTooManyRequests(err) {
		t.Fatalf("error %v, want a 429", err)
	}
	seconds, suggests := apierrors.SuggestsClientDelay(err)
	if !suggests || seconds < 1 {
		t.Errorf("error %v suggests %d seconds, want some", err, seconds)
	}
	if cause, ok := apierrors.StatusCause(err, "HoldfastAccessRequest"); !ok || !strings.Contains(err.Error(), "kubectl holdfast approve "+cause.Message) {
		t.Errorf("error %v, want the AccessRequest among its causes", err)
	}
}

// answersAtOnce: what cannot wait is refused without a time to come back, and opens nothing.
func answersAtOnce(t *testing.T, c *cluster) {
	const ns = "at-once"
	c.withPod(t, ns)
	for _, test := range []struct{ name, method, path, body, want string }{
		{"create", http.MethodPost, "/api/v1/namespaces/at-once/configmaps?dryRun=All", `{"metadata":{"name":"c"}}`, "a dry run opens no request"},
		{"delete", http.MethodDelete, "/api/v1/namespaces/at-once/configmaps/kube-root-ca.crt?dryRun=All", "", "a dry run opens no request"},
		{"dry run in the body", http.MethodDelete, "/api/v1/namespaces/at-once", `{"kind":"DeleteOptions","apiVersion":"v1","dryRun":["All"]}`, "a dry run opens no request"},
		{"deletecollection", http.MethodDelete, "/api/v1/namespaces/at-once/configmaps?dryRun=All", "", "a dry run opens no request"},
		{"exec", http.MethodPost, "/api/v1/namespaces/at-once/pods/p/exec?command=ls&stdout=true", "", "a connection cannot wait"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := c.plain(t, agent, test.method, test.path, test.body)
			if got.code != http.StatusForbidden || got.status.Reason != metav1.StatusReasonForbidden || !strings.Contains(got.status.Message, test.want) {
				t.Errorf("answered %d %+v, want 403 with %q", got.code, got.status, test.want)
			}
			if after := got.header.Get("Retry-After"); after != "" || got.status.Details == nil || got.status.Details.RetryAfterSeconds != 0 {
				t.Errorf("Retry-After %q and details %+v, want no time to come back", after, got.status.Details)
			}
			if len(got.causes("HoldfastRule")) != 1 || len(got.causes("HoldfastDecision")) != 1 || len(got.causes("HoldfastAccessRequest")) != 0 {
				t.Errorf("details %+v, want the rule, the decision, and no AccessRequest", got.status.Details)
			}
			if got.took >= inlineWait {
				t.Errorf("answered after %s: it waited", got.took)
			}
		})
	}
	if opened := c.requestsIn(t)[ns]; len(opened) != 0 {
		t.Errorf("%d AccessRequests were opened, want none", len(opened))
	}
}

// withPod makes a namespace with a pod in it.
func (c *cluster) withPod(t *testing.T, ns string) {
	t.Helper()
	manifest := fmt.Sprintf("apiVersion: v1\nkind: Namespace\nmetadata: {name: %s}\n---\n%s", ns, strings.ReplaceAll(routePod, "NS", ns))
	c.prepare(t, manifest)
}

// atOnce is the same with a kubectl.
func atOnce(t *testing.T, c *cluster, k kubectl) {
	ns := strings.ReplaceAll(k.version, ".", "-") + "-at-once"
	c.withPod(t, ns)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"create", "configmap", "c", "-n", ns, "--dry-run=server"}, "a dry run opens no request"},
		{[]string{"annotate", "configmap", "kube-root-ca.crt", "-n", ns, "a=b", "--dry-run=server"}, "a dry run opens no request"},
		{[]string{"delete", "namespace", ns, "--dry-run=server"}, "a dry run opens no request"},
		{[]string{"exec", "p", "-n", ns, "--", "ls"}, "a connection cannot wait"},
	} {
		start := time.Now()
		r := c.program(t, k.path, "", agent, test.args...)
		if r.code == 0 || !strings.Contains(r.err, test.want) {
			t.Errorf("kubectl %v: exit %d %s, want a refusal with %q", test.args, r.code, r.err, test.want)
		}
		// kubectl does not print the code; answersAtOnce has it.
		if took := time.Since(start); took >= inlineWait {
			t.Errorf("kubectl %v ended after %s: it waited", test.args, took)
		}
	}
	// The controls: it is Holdfast that refuses the agent, not this cluster without nodes.
	c.must(t, human, "create", "configmap", "c", "-n", ns, "--dry-run=server")
	if r := c.program(t, k.path, "", human, "exec", "p", "-n", ns, "--", "ls"); r.code == 0 || !strings.Contains(r.err, "does not have a host assigned") {
		t.Errorf("a person's exec: exit %d %s, want to get as far as the missing node", r.code, r.err)
	}
	if opened := c.requestsIn(t)[ns]; len(opened) != 0 {
		t.Errorf("%d AccessRequests were opened, want none", len(opened))
	}
}
