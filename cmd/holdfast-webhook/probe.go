package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/webhook/admission"
)

const (
	// probeEvery is how often the API server is asked, and probeSoon while it has not been
	// found to send trace IDs of its own: at a start its registrations may not be there yet.
	probeEvery = 5 * time.Minute
	probeSoon  = 2 * time.Second
)

// traced puts a trace ID into requests.
type traced struct {
	http.RoundTripper
	id string
}

func (t traced) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Traceparent", "00-"+t.id+"-"+t.id[:16]+"-00")
	return t.RoundTripper.RoundTrip(r)
}

// newTraces returns Traces, which trust nothing until a probe has come back, and what probes.
func newTraces(ctx context.Context, mgr manager.Manager, log *slog.Logger) (*admission.Traces, manager.Runnable, error) {
	self := &authenticationv1.SelfSubjectReview{}
	if err := mgr.GetClient().Create(ctx, self); err != nil {
		return nil, nil, fmt.Errorf("ask for the name of Holdfast's own account: %w", err)
	}
	traces := &admission.Traces{OwnUser: self.Status.UserInfo.Username}
	return traces, everyReplica(func(ctx context.Context) error {
		last := ""
		for {
			before := traces.Probed()
			err := probe(ctx, mgr.GetConfig(), mgr.GetClient())
			now, wait := "trusted", probeEvery
			switch {
			case ctx.Err() != nil:
				return nil
			case traces.Probed() == before && !traces.Trusted():
				now, wait = "the probe did not come back", probeSoon
			case !traces.Trusted():
				now, wait = "not trusted: the API server has no tracing configuration", probeSoon
			}
			if now != last {
				log.InfoContext(ctx, "trace_ids_probed", "result", now, "answer", err)
				last = now
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(wait):
			}
		}
	}), nil
}

// everyReplica is a Runnable for which nobody is elected.
type everyReplica func(context.Context) error

func (r everyReplica) Start(ctx context.Context) error { return r(ctx) }
func (everyReplica) NeedLeaderElection() bool          { return false }

// probe tries to make a Review that nothing would come of, under a trace ID of its own. The
// API server asks the webhook about it, which then knows what becomes of such an ID; the
// answer, a refusal, says nothing.
func probe(ctx context.Context, config *rest.Config, known client.Client) error {
	var id [16]byte
	if _, err := rand.Read(id[:]); err != nil {
		return fmt.Errorf("make a trace ID: %w", err)
	}
	config = rest.CopyConfig(config)
	config.Timeout = 5 * time.Second
	config.Wrap(func(rt http.RoundTripper) http.RoundTripper { return traced{rt, hex.EncodeToString(id[:])} })
	c, err := client.New(config, client.Options{Scheme: known.Scheme(), Mapper: known.RESTMapper()})
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	return c.Create(ctx, &v1alpha1.Review{
		ObjectMeta: metav1.ObjectMeta{Name: admission.ProbePrefix + hex.EncodeToString(id[:])},
		Spec:       v1alpha1.ReviewSpec{AccessRequest: "none", Verdict: v1alpha1.Reject},
	}, client.DryRunAll)
}
