package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/webhook/authorizer"
)

const (
	// grants is how many approvals of what was asked for ahead the authorizer knows.
	grants = 1000
	// rate is how many reviews a second come while the time of each is taken, for paceTime,
	// over connections.
	rate        = 2000
	paceTime    = 2 * time.Second
	connections = 32
)

// authorizerFigures measures the authorizer, with 1,000 rules and 1,000 live grants of the
// agent who asks, over TLS. The floor is a handler over the same TLS that decodes the review
// and has no opinion. What a grant costs beside that is a read from storage, which is left out
// here.
func authorizerFigures() ([]Figure, error) {
	var figures []Figure
	for _, kind := range []struct{ name, resource, object, want string }{
		{"read", "pods", "web", `"allowed":false}`},
		{"granted", "secrets", "db-999", `"allowed":`}, // true, and false by the floor
	} {
		body, want := accessReview(kind.resource, kind.object), []byte(kind.want)
		value, floor, err := besides("authorizer", "authorizer-noop", func(c *child) (float64, error) { return c.cpu(body, want) })
		if err != nil {
			return nil, err
		}
		figures = append(figures, Figure{Name: "authorizer_cpu_" + kind.name, Value: value, Unit: "us/review", Floor: floor})
	}
	body, want := accessReview("pods", "web"), []byte(`"allowed":false}`)
	value, floor, err := besides("authorizer", "authorizer-noop", func(c *child) (float64, error) { return c.pace(body, want) })
	if err != nil {
		return nil, err
	}
	return append(figures, Figure{Name: "authorizer_p99_at_2000_a_second", Value: value, Unit: "ms", Floor: floor}), nil
}

// pace sends reviews at the rate, and returns the 99th percentile of their times, in
// milliseconds, from when each was due.
func (c *child) pace(body, want []byte) (float64, error) {
	const n = int(rate * paceTime / time.Second)
	took, errs := make([]float64, n), make([]error, n)
	begin := time.Now().Add(10 * time.Millisecond)
	var group sync.WaitGroup
	for worker := range connections {
		group.Go(func() {
			for i := worker; i < n; i += connections {
				due := begin.Add(time.Duration(i) * time.Second / rate)
				time.Sleep(time.Until(due))
				errs[i] = c.review(body, want)
				took[i] = float64(time.Since(due).Microseconds()) / 1000
			}
		})
	}
	group.Wait()
	slices.Sort(took)
	return took[n*99/100], errors.Join(errs...)
}

// accessReview is the review of an agent's get.
func accessReview(resource, name string) []byte {
	body, err := json.Marshal(&authorizationv1.SubjectAccessReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "authorization.k8s.io/v1", Kind: "SubjectAccessReview"},
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User:   "system:serviceaccount:agents:bot",
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:agents", "system:authenticated"},
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: "shop", Verb: "get", Version: "v1", Resource: resource, Name: name,
			},
		},
	})
	if err != nil {
		return nil
	}
	return body
}

// benchAuthorizer has 1,000 rules and as many grants.
func benchAuthorizer(key *decision.Key) (http.Handler, error) {
	e, err := engineWith(1000)
	if err != nil {
		return nil, err
	}
	var asked []*v1alpha1.AccessRequest
	for i := range grants {
		asked = append(asked, &v1alpha1.AccessRequest{
			ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("asked-%d", i)},
			Spec: v1alpha1.AccessRequestSpec{
				Origin: v1alpha1.Asked, Agent: "bot", Requester: "system:serviceaccount:agents:bot",
				Access: v1alpha1.Access{
					Verbs: []string{"get"}, APIGroups: []string{""}, Resources: []string{"secrets"},
					Namespaces: []string{"shop"}, Names: []string{fmt.Sprintf("db-%d", i)},
				},
			},
			Status: v1alpha1.AccessRequestStatus{Phase: v1alpha1.Approved, ExpiresAt: &metav1.Time{Time: time.Now().Add(time.Hour)}},
		})
	}
	e.LoadGrants(access.NewGrants(asked))
	return authorizer.NewHandler(authorizer.Config{Engine: e, Cluster: nothing{}, Key: key, Log: slog.New(slog.DiscardHandler)}), nil
}

// noopAuthorizer does what any authorizer has to.
func noopAuthorizer(w http.ResponseWriter, r *http.Request) {
	var review authorizationv1.SubjectAccessReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	review.Spec = authorizationv1.SubjectAccessReviewSpec{}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(&review) //nolint:errchkjson // the caller has gone if this fails
}

// nothing is a cluster with nothing in it, where every grant stands.
type nothing struct{}

func (nothing) Namespace(context.Context, string) (map[string]any, error) {
	return map[string]any{}, nil
}

func (nothing) Pod(context.Context, string, string) (map[string]any, error) {
	return map[string]any{}, nil
}

func (nothing) Permitted(context.Context, *decision.Request) (bool, error) { return true, nil }
func (nothing) Aggregated(string, string) bool                             { return false }
func (nothing) Requester(context.Context, string) string                   { return "" }
func (nothing) Confirm(context.Context, *v1alpha1.AccessRequest, []string) (bool, error) {
	return true, nil
}

// reads is how many reads the end-to-end cost is the median of.
const reads = 500

// read measures an agent's get of a ConfigMap, which costs a call of the authorizer, beside
// that of a service account that is no agent.
func read(ctx context.Context, p *plane) ([]Figure, error) {
	object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "read"}}
	if err := p.admin.Create(ctx, object); err != nil {
		return nil, err
	}
	var times [2][]float64
	for who, config := range []string{"agent", "worker"} {
		c, err := client.New(p.configs[config], client.Options{Scheme: p.admin.Scheme()})
		if err != nil {
			return nil, err
		}
		for i := range reads + reads/10 {
			began := time.Now()
			if err := c.Get(ctx, client.ObjectKeyFromObject(object), &corev1.ConfigMap{}); err != nil {
				return nil, err
			}
			if i >= reads/10 { // warm
				times[who] = append(times[who], float64(time.Since(began).Microseconds())/1000)
			}
		}
	}
	return []Figure{{Name: "agent_get", Value: median(times[0]), Unit: "ms", Floor: median(times[1])}}, nil
}
