package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// once is a transport under which clients do not come back: they do only where an answer
// says when.
type once struct{ http.RoundTripper }

func (o once) RoundTrip(r *http.Request) (*http.Response, error) {
	answer, err := o.RoundTripper.RoundTrip(r)
	if answer != nil {
		answer.Header.Del("Retry-After")
	}
	return answer, err
}

// config is for a client of somebody that nothing slows down and that does not retry.
func (c *cluster) config(t *testing.T, kubeconfig string) *rest.Config {
	t.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	config.QPS = -1
	config.Wrap(func(rt http.RoundTripper) http.RoundTripper { return once{rt} })
	return config
}

// impatient is a client of somebody that does not come back when it is told to.
func (c *cluster) impatient(t *testing.T, who identity) *kubernetes.Clientset {
	t.Helper()
	set, err := kubernetes.NewForConfig(c.config(t, c.kubeconfig(who)))
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// mutual is an HTTP client that shows the webhook a certificate.
func (c *cluster) mutual(t *testing.T, certFile, keyFile string) *http.Client {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := os.ReadFile(c.info.HoldfastCA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{
		Certificates: []tls.Certificate{pair}, RootCAs: pool, MinVersion: tls.VersionTLS13,
	}}}
}

// objects is a client of somebody that knows Holdfast's kinds.
func (c *cluster) objects(t *testing.T, who identity) client.Client {
	t.Helper()
	c.own(t)
	objects, err := c.run.Client(c.kubeconfig(who))
	if err != nil {
		t.Fatal(err)
	}
	return objects
}

// approval approves a pending request through the API, and returns when it is approved.
func approval(ctx context.Context, approver client.Client, name string) error {
	review := &v1alpha1.Review{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "review-"},
		Spec:       v1alpha1.ReviewSpec{AccessRequest: name, Verdict: v1alpha1.Approve},
	}
	if err := approver.Create(ctx, review); err != nil {
		return fmt.Errorf("approve %s: %w", name, err)
	}
	return reaches(ctx, approver, name, v1alpha1.Approved)
}

// reaches waits until a request is in a phase, for twenty seconds.
func reaches(ctx context.Context, c client.Client, name string, phase v1alpha1.Phase) error {
	deadline := time.Now().Add(20 * time.Second)
	for {
		var r v1alpha1.AccessRequest
		if err := c.Get(ctx, client.ObjectKey{Name: name}, &r); err != nil {
			return err
		}
		if r.Status.Phase == phase {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s is %s, want %s", name, r.Status.Phase, phase)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// requestIn is the name of the AccessRequest that an answer to an agent names; empty where it
// names none.
func requestIn(err error) string {
	if err == nil {
		return ""
	}
	_, rest, ok := strings.Cut(err.Error(), "AccessRequest ")
	if !ok {
		return ""
	}
	return strings.TrimRight(strings.Fields(rest)[0], ".,)")
}
