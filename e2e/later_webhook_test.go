package e2e

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/holdfast-dev/holdfast/certs"
	"github.com/holdfast-dev/holdfast/e2e/local"

	"time"
)

// laterWebhook registers somebody else's validating webhook for what agents do to ConfigMaps
// of a namespace, and returns what removes it. It refuses with what answer returns; one call
// at a time.
func (c *cluster) laterWebhook(t *testing.T, ns string, operation registrationv1.OperationType, answer func() string) (remove func()) {
	t.Helper()
	var mu sync.Mutex
	return c.somebodysWebhook(t, "later.example.com", ns, operation, func(request *admissionv1.AdmissionRequest, response *admissionv1.AdmissionResponse) {
		if request.UserInfo.Username == "system:serviceaccount:"+local.AgentNamespace+":"+local.AgentAccount {
			mu.Lock()
			why := answer()
			mu.Unlock()
			if why != "" {
				response.Allowed, response.Result = false, &metav1.Status{Message: why}
			}
		}
	})
}

// somebodysWebhook registers a validating webhook of a name for ConfigMaps of a namespace, and
// returns what removes it. It allows, unless respond changes that.
func (c *cluster) somebodysWebhook(
	t *testing.T, name, ns string, operation registrationv1.OperationType, respond func(*admissionv1.AdmissionRequest, *admissionv1.AdmissionResponse),
) (remove func()) {
	t.Helper()
	authority, err := certs.NewAuthority("later", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := authority.IssueServer("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Request == nil {
			http.Error(w, "no review", http.StatusBadRequest)
			return
		}
		response := &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		respond(review.Request, response)
		review.Request, review.Response = nil, response
		_ = json.NewEncoder(w).Encode(review)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	server.StartTLS()
	t.Cleanup(server.Close)
	none, fail := registrationv1.SideEffectClassNone, registrationv1.Fail
	hooks := c.impatient(t, admin).AdmissionregistrationV1().ValidatingWebhookConfigurations()
	_, err = hooks.Create(t.Context(), &registrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "later-" + ns},
		Webhooks: []registrationv1.ValidatingWebhook{{
			Name: name, SideEffects: &none, FailurePolicy: &fail, AdmissionReviewVersions: []string{"v1"},
			ClientConfig:      registrationv1.WebhookClientConfig{URL: &server.URL, CABundle: authority.CertPEM()},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/metadata.name": ns}},
			Rules: []registrationv1.RuleWithOperations{{
				Operations: []registrationv1.OperationType{operation},
				Rule:       registrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"configmaps"}},
			}},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var gone sync.Once
	remove = func() {
		gone.Do(func() {
			_ = c.impatient(t, admin).AdmissionregistrationV1().ValidatingWebhookConfigurations().Delete(t.Context(), "later-"+ns, metav1.DeleteOptions{})
			time.Sleep(2 * time.Second) // until the API server has seen it
		})
	}
	t.Cleanup(func() {
		c.kubectl(t, admin, "delete", "validatingwebhookconfiguration", "later-"+ns, "--ignore-not-found")
	})
	time.Sleep(2 * time.Second) // likewise
	return remove
}

// refusingWebhook is a later webhook that refuses every delete.
func (c *cluster) refusingWebhook(t *testing.T, ns string) (remove func()) {
	t.Helper()
	return c.laterWebhook(t, ns, registrationv1.Delete, func() string { return "refused by the test" })
}

func clientset(t *testing.T, config *rest.Config) *kubernetes.Clientset {
	t.Helper()
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return set
}
