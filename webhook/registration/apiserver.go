package registration

import (
	"path"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apiserverv1 "k8s.io/apiserver/pkg/apis/apiserver/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
	clientcmdv1 "k8s.io/client-go/tools/clientcmd/api/v1"
	tracingv1 "k8s.io/component-base/tracing/api/v1"

	"github.com/holdfast-dev/holdfast/pkg/agent"
)

const configVersion = "apiserver.config.k8s.io/v1"

// authorizerTimeout is what the API server waits for an answer of the authorizer.
const authorizerTimeout = 10 * time.Second

// authorizationConfig is kubeadm's default, nodes and then RBAC, with Holdfast before both for
// those inside the net. Nothing is cached: an approval, its end and a suspended Agent have to
// be seen by the next request.
func authorizationConfig(c Config, net agent.Net) any {
	config := &apiserverv1.AuthorizationConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: configVersion, Kind: "AuthorizationConfiguration"},
	}
	if c.Webhook != nil && len(c.Webhook.ClientCert) > 0 {
		file := path.Join(filepath.ToSlash(c.Dir), AuthorizationKubeconfigFile)
		config.Authorizers = append(config.Authorizers, apiserverv1.AuthorizerConfiguration{
			Type: "Webhook", Name: "holdfast",
			Webhook: &apiserverv1.WebhookConfiguration{
				CacheAuthorizedRequests: ptr(false), CacheUnauthorizedRequests: ptr(false),
				// Not used without a cache, and required all the same.
				AuthorizedTTL: metav1.Duration{Duration: time.Second}, UnauthorizedTTL: metav1.Duration{Duration: time.Second},
				Timeout:                                  metav1.Duration{Duration: authorizerTimeout},
				SubjectAccessReviewVersion:               "v1",
				MatchConditionSubjectAccessReviewVersion: "v1",
				FailurePolicy:                            apiserverv1.FailurePolicyDeny,
				ConnectionInfo:                           apiserverv1.WebhookConnectionInfo{Type: "KubeConfigFile", KubeConfigFile: &file},
				MatchConditions:                          []apiserverv1.WebhookMatchCondition{{Expression: net.Expression(agent.AuthorizationPaths)}},
			},
		})
	}
	config.Authorizers = append(config.Authorizers,
		apiserverv1.AuthorizerConfiguration{Type: "Node", Name: "node"},
		apiserverv1.AuthorizerConfiguration{Type: "RBAC", Name: "rbac"})
	return config
}

// tracingConfig makes the API server send trace IDs of its own to webhooks, and replace
// those that clients send: Holdfast knows by them the calls that belong to one request. It
// samples, and so exports, nothing.
func tracingConfig() any {
	var none int32
	return &apiserverv1.TracingConfiguration{
		TypeMeta:             metav1.TypeMeta{APIVersion: configVersion, Kind: "TracingConfiguration"},
		TracingConfiguration: tracingv1.TracingConfiguration{SamplingRatePerMillion: &none},
	}
}

// pluginConfig is the form that the configurations of the webhook plugin and of the policy
// plugin share.
type pluginConfig struct {
	metav1.TypeMeta    `json:",inline"`
	KubeConfigFile     string `json:"kubeConfigFile,omitempty"`
	StaticManifestsDir string `json:"staticManifestsDir,omitempty"`
}

type admissionPlugin struct {
	Name          string       `json:"name"`
	Configuration pluginConfig `json:"configuration"`
}

func admissionConfig(c Config) any {
	at := func(file string) string { return path.Join(filepath.ToSlash(c.Dir), file) }
	webhooks := pluginConfig{TypeMeta: metav1.TypeMeta{APIVersion: configVersion, Kind: "WebhookAdmissionConfiguration"}}
	if len(c.Webhook.ClientCert) > 0 {
		webhooks.KubeConfigFile = at(AdmissionKubeconfigFile)
	}
	config := struct {
		metav1.TypeMeta `json:",inline"`
		Plugins         []admissionPlugin `json:"plugins"`
	}{TypeMeta: metav1.TypeMeta{APIVersion: configVersion, Kind: "AdmissionConfiguration"}}
	if c.StaticManifests {
		config.Plugins = append(config.Plugins, admissionPlugin{
			Name: "ValidatingAdmissionPolicy",
			Configuration: pluginConfig{
				TypeMeta:           metav1.TypeMeta{APIVersion: configVersion, Kind: "ValidatingAdmissionPolicyConfiguration"},
				StaticManifestsDir: at(policyDir),
			},
		})
	}
	validating, mutating := webhooks, webhooks
	if c.StaticManifests {
		validating.StaticManifestsDir, mutating.StaticManifestsDir = at(validatingDir), at(mutatingDir)
	}
	config.Plugins = append(config.Plugins,
		admissionPlugin{Name: "MutatingAdmissionWebhook", Configuration: mutating},
		admissionPlugin{Name: "ValidatingAdmissionWebhook", Configuration: validating},
	)
	return config
}

// admissionKubeconfig gives the client certificate to the webhook's address and to no other:
// it has neither a wildcard user nor a current context, which the API server would use for
// every webhook that anybody registers.
func admissionKubeconfig(e *Endpoint) any {
	return &clientcmdv1.Config{
		APIVersion: "v1", Kind: "Config",
		AuthInfos: []clientcmdv1.NamedAuthInfo{{Name: e.hostPort(), AuthInfo: e.authInfo()}},
	}
}

func kubeconfig(name string, e *Endpoint) any {
	return &clientcmdv1.Config{
		APIVersion: "v1", Kind: "Config",
		Clusters: []clientcmdv1.NamedCluster{{
			Name: name, Cluster: clientcmdv1.Cluster{Server: e.URL, CertificateAuthorityData: e.CA},
		}},
		AuthInfos:      []clientcmdv1.NamedAuthInfo{{Name: name, AuthInfo: e.authInfo()}},
		Contexts:       []clientcmdv1.NamedContext{{Name: name, Context: clientcmdv1.Context{Cluster: name, AuthInfo: name}}},
		CurrentContext: name,
	}
}

func (e *Endpoint) authInfo() clientcmdv1.AuthInfo {
	return clientcmdv1.AuthInfo{ClientCertificateData: e.ClientCert, ClientKeyData: e.ClientKey}
}

// auditPolicy records every request when it is complete, with bodies where they help an
// analyst and never where they hold credentials: the log backend shares this policy and
// redacts nothing.
func auditPolicy() any {
	return &auditv1.Policy{
		TypeMeta: metav1.TypeMeta{APIVersion: "audit.k8s.io/v1", Kind: "Policy"},
		// RequestReceived adds nothing to what the other stages say.
		OmitStages: []auditv1.Stage{auditv1.StageRequestReceived},
		Rules: []auditv1.PolicyRule{
			// Probes, and leases that components renew every few seconds.
			{Level: auditv1.LevelNone, NonResourceURLs: []string{"/healthz*", "/livez*", "/readyz*"}},
			{
				Level: auditv1.LevelNone, UserGroups: []string{"system:nodes", "system:serviceaccounts:kube-system"},
				Verbs:     []string{"get", "update"},
				Resources: []auditv1.GroupResources{{Group: "coordination.k8s.io", Resources: []string{"leases"}}},
			},
			{
				Level: auditv1.LevelMetadata,
				Resources: []auditv1.GroupResources{
					{Group: "", Resources: []string{"secrets", "configmaps", "serviceaccounts/token"}},
					{Group: "authentication.k8s.io", Resources: []string{"tokenreviews", "tokenreviews/status"}},
					{Group: "certificates.k8s.io", Resources: []string{"certificatesigningrequests", "certificatesigningrequests/status", "certificatesigningrequests/approval"}},
				},
			},
			// Mutations with what was asked; get, list and watch carry no request body.
			{Level: auditv1.LevelRequest},
		},
	}
}
