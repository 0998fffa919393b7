package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// caller sends requests as somebody, by a plain HTTP client: it retries nothing.
type caller struct {
	config *rest.Config
	client *http.Client
	// agent: what it sends is what the cases are about.
	agent bool
}

func newCaller(t *testing.T, c *cluster, who identity) *caller {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig(who))
	if err != nil {
		t.Fatal(err)
	}
	return callerOf(t, config)
}

func callerOf(t *testing.T, config *rest.Config) *caller {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	client.Timeout = time.Minute
	return &caller{config: config, client: client}
}

// as is a caller to the same API server with a token.
func (c *caller) as(t *testing.T, token string) *caller {
	t.Helper()
	config := rest.AnonymousClientConfig(c.config)
	config.BearerToken = token
	return callerOf(t, config)
}

// await waits until what was just defined can be listed.
func (c *caller) await(t *testing.T, path string) {
	t.Helper()
	eventually(t, 30*time.Second, path+" is served", func() error {
		if a := c.send(t.Context(), httpGet(path)); !a.ok() {
			return errors.New(a.String())
		}
		return nil
	})
}

// call is one request. In path, body and headers {ns} and {agent} stand for the scene's.
type call struct {
	method, path, contentType, body string
	header                          map[string]string
}

func httpGet(path string) call { return call{method: http.MethodGet, path: path} }

func httpPost(path, body string) call { return httpCall(http.MethodPost, path, "json", body) }

func httpPut(path, body string) call { return httpCall(http.MethodPut, path, "json", body) }

func httpDelete(path, body string) call { return httpCall(http.MethodDelete, path, "json", body) }

func mergePatch(path, body string) call {
	return httpCall(http.MethodPatch, path, "merge-patch+json", body)
}

func jsonPatch(path, body string) call {
	return httpCall(http.MethodPatch, path, "json-patch+json", body)
}

func strategicPatch(path, body string) call {
	return httpCall(http.MethodPatch, path, "strategic-merge-patch+json", body)
}

func applyPatch(path, body string) call {
	return httpCall(http.MethodPatch, path, "apply-patch+yaml", body)
}

func httpCall(method, path, contentType, body string) call {
	return call{method: method, path: path, contentType: "application/" + contentType, body: body}
}

// with is the call with one more header.
func (q call) with(name, value string) call {
	header := maps.Clone(q.header)
	if header == nil {
		header = map[string]string{}
	}
	header[name] = value
	q.header = header
	return q
}

// answer is what came of a call.
type answer struct {
	code    int
	body    string
	auditID string
	// status is what a refusal says.
	status metav1.Status
	err    error
}

func (c *caller) send(ctx context.Context, q call) answer {
	request, err := http.NewRequestWithContext(ctx, q.method, strings.TrimSuffix(c.config.Host, "/")+q.path, strings.NewReader(q.body))
	if err != nil {
		return answer{err: err}
	}
	if q.contentType != "" && q.body != "" {
		request.Header.Set("Content-Type", q.contentType)
	}
	for name, value := range q.header {
		request.Header.Set(name, value)
	}
	response, err := c.client.Do(request)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	a := answer{code: response.StatusCode, body: string(body), auditID: response.Header.Get("Audit-Id"), err: err}
	if !a.ok() {
		// What is no Status leaves an empty one.
		_ = json.Unmarshal(body, &a.status)
	}
	return a
}

func (a answer) ok() bool { return a.err == nil && a.code >= 200 && a.code < 300 }

func (a answer) String() string {
	if a.err != nil {
		return "no answer: " + a.err.Error()
	}
	return fmt.Sprintf("HTTP %d %.1000s", a.code, a.body)
}

func (a answer) object() any {
	var object any
	if json.Unmarshal([]byte(a.body), &object) != nil {
		return nil
	}
	return object
}

// ruleInMessage is how a sentence of Holdfast names a rule.
var ruleInMessage = regexp.MustCompile(`\brule ([a-z0-9.:-]+/[a-z0-9.-]+)`)

// rules are those that a refusal names, as policy/rule: admission's in its causes, the
// authorizer's in its sentence.
func (a answer) rules() []string {
	var rules []string
	for _, found := range ruleInMessage.FindAllStringSubmatch(a.status.Message, -1) {
		rules = append(rules, found[1])
	}
	if a.status.Details != nil {
		for _, c := range a.status.Details.Causes {
			rules = append(rules, c.Field)
		}
	}
	return rules
}

// heldAs is the AccessRequest that a refusal names; empty where it names none.
func (a answer) heldAs() string {
	if a.status.Details != nil {
		for _, c := range a.status.Details.Causes {
			if c.Type == "HoldfastAccessRequest" {
				return c.Message
			}
		}
	}
	return ""
}

func (a answer) retryAfter() int32 {
	if a.status.Details == nil {
		return 0
	}
	return a.status.Details.RetryAfterSeconds
}
