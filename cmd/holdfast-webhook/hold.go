package main

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/holdfast-dev/holdfast/cmd/internal/keyfile"
	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/access/fingerprint"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/engine"
	"github.com/holdfast-dev/holdfast/pkg/kube"
	"github.com/holdfast-dev/holdfast/webhook/admission"
	"github.com/holdfast-dev/holdfast/webhook/hold"
)

// newHolder returns the Hold of the guard. clusterUID makes an approval one for this cluster.
func newHolder(c *serveConfig, clusterUID string, b *book) (admission.Hold, error) {
	key, err := readKey(c.keyFingerprint)
	if err != nil {
		return nil, err
	}
	hasher, err := fingerprint.New(key, clusterUID)
	if err != nil {
		return nil, fmt.Errorf("--fingerprint-key-file: %w", err)
	}
	counters, err := hold.NewMetrics(metrics.Registry)
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	holder := hold.New(hold.Config{Ledger: b.ledger, Fingerprints: changes{hasher}, Impacts: impacts{b.impacts}, Metrics: counters})
	return func(ctx context.Context, d decision.Decision, h admission.Held) decision.Decision {
		return holder.Decide(ctx, d, hold.Input{
			Request: &h.Review.Request, Held: h.Terms, Items: h.Items, Again: h.Again, TraceID: h.Review.TraceID, Timeout: h.Review.Timeout,
		})
	}, nil
}

// clusterID is the cluster's identity: the UID of kube-system, which no other cluster has.
func clusterID(ctx context.Context, live client.Reader) (string, error) {
	var ns corev1.Namespace
	if err := live.Get(ctx, client.ObjectKey{Name: metav1.NamespaceSystem}, &ns); err != nil {
		return "", fmt.Errorf("read the cluster's identity (namespace %s): %w", metav1.NamespaceSystem, err)
	}
	return string(ns.UID), nil
}

// changes is what the holder wants to know of changes.
type changes struct{ *fingerprint.Hasher }

func (changes) Diff(r *decision.Request, maxBytes int) (diff, digest string) {
	return fingerprint.Diff(r, maxBytes)
}

// impacts is what a change would do, for people.
type impacts struct{ *kube.Impacts }

func (i impacts) Show(ctx context.Context, r *decision.Request, s *v1alpha1.AccessRequestStatus) {
	would := i.Of(ctx, r, s.Items)
	s.Impact, s.Affected, s.AffectedDigest = would.Counts, would.Affected, would.Digest
}

// readKey reads the key of the fingerprints, and makes one where there is no file. Replicas
// have to share it: an approval that one of them opens means nothing to another key.
func readKey(file string) ([]byte, error) {
	if file == "" {
		return nil, errors.New("--fingerprint-key-file: want a file with at least 32 random bytes, the same for all replicas; it is made where it does not exist")
	}
	key, err := keyfile.Read(file)
	if err != nil {
		return nil, fmt.Errorf("--fingerprint-key-file: %w", err)
	}
	return key, nil
}

// lookUp finds AccessRequests for the check of Reviews; from storage, since a Review can
// follow its AccessRequest by less than a watch takes.
func lookUp(live client.Reader) admission.AccessRequests {
	return func(ctx context.Context, name string) (*v1alpha1.AccessRequest, error) {
		var r v1alpha1.AccessRequest
		err := live.Get(ctx, client.ObjectKey{Name: name}, &r)
		if apierrors.IsNotFound(err) {
			return nil, nil //nolint:nilnil // there is none
		}
		return &r, err
	}
}

// factsOf says who is an agent and who owns one. While nothing is loaded nobody counts.
func factsOf(e *engine.Engine) func(r *v1alpha1.AccessRequest) access.Facts {
	return func(r *v1alpha1.AccessRequest) access.Facts {
		f := access.Facts{Owners: e.Owners(r.Spec.Agent, r.Spec.Requester)}
		if e.Ready() {
			f.IsAgent = func(user string) bool { return e.IsAgent(decision.User{Name: user}) }
		}
		return f
	}
}
