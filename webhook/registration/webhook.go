package registration

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/url"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-dev/holdfast/pkg/agent"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

const (
	// staticSuffix ends the names of objects in static manifests; the API server insists.
	staticSuffix = ".static.k8s.io"
	// guardTimeout is what the API server waits for a decision, in seconds.
	guardTimeout int32 = 15
	// ownTimeout is what the API server waits for a verdict on Holdfast's own kinds.
	ownTimeout int32 = 10
)

// renderer collects files, and the first error.
type renderer struct {
	config Config
	net    agent.Net
	files  []File
	err    error
}

func (r *renderer) yaml(name string, mode fs.FileMode, objects ...any) {
	var data bytes.Buffer
	for i, object := range objects {
		b, err := yaml.Marshal(object)
		if err != nil && r.err == nil {
			r.err = fmt.Errorf("registration: encode %s: %w", name, err)
		}
		if i > 0 {
			data.WriteString("---\n")
		}
		data.Write(b)
	}
	r.files = append(r.files, File{Name: name, Mode: mode, Data: data.Bytes()})
}

// webhook renders the registrations, static or not, and what the API server needs to reach
// the webhook.
func (r *renderer) webhook() {
	suffix := ""
	if r.config.StaticManifests {
		suffix = staticSuffix
	}
	guard := r.registration("holdfast-guard"+suffix, r.guard())
	own := r.registration("holdfast-own"+suffix, r.own())
	stamp := r.stamp("holdfast-stamp" + suffix)
	keep := r.policy("holdfast-own-kinds"+suffix, ownKindsRules(), "Agents may not write Holdfast's own kinds.",
		admissionv1.MatchCondition{
			// They ask by making an AccessRequest, and of their own they write the reason and
			// the withdrawal; the own-kinds webhook sees to it.
			Name:       "not-an-access-request",
			Expression: `!(request.resource.resource == "accessrequests" && (!has(request.subResource) || request.subResource == "") && request.operation in ["CREATE", "UPDATE"])`,
		})
	stop := r.policy("holdfast-stop-agents"+suffix, everything(), "All agents have been stopped by hand.")

	if r.config.StaticManifests {
		r.yaml(validatingDir+"/holdfast.yaml", 0o644, guard, own)
		r.yaml(mutatingDir+"/holdfast.yaml", 0o644, stamp)
		r.yaml(policyDir+"/own-kinds.yaml", 0o644, keep...)
		// Renamed to end in .yaml, it stops every agent, whatever else is down.
		r.yaml(policyDir+"/stop-agents.yaml.off", 0o644, stop...)
	} else {
		r.yaml(RegistrationsFile, 0o644, append([]any{guard, own, stamp}, keep...)...)
	}
	r.yaml(FlowControlFile, 0o644, r.flowSchema())
	r.yaml(AdmissionFile, 0o644, admissionConfig(r.config))
	if len(r.config.Webhook.ClientCert) > 0 {
		r.yaml(AdmissionKubeconfigFile, 0o600, admissionKubeconfig(r.config.Webhook))
		authorizer := *r.config.Webhook
		authorizer.URL += AuthorizePath
		r.yaml(AuthorizationKubeconfigFile, 0o600, kubeconfig("holdfast", &authorizer))
	}
}

func (r *renderer) registration(name string, hook admissionv1.ValidatingWebhook) *admissionv1.ValidatingWebhookConfiguration {
	return &admissionv1.ValidatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingWebhookConfiguration"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Webhooks:   []admissionv1.ValidatingWebhook{hook},
	}
}

// guard is everything that anybody inside the net does, and nothing that others do.
func (r *renderer) guard() admissionv1.ValidatingWebhook {
	hook := r.hook(decision.GuardWebhook, GuardPath, guardTimeout)
	hook.Rules = rules("*", "*/*")
	hook.MatchConditions = []admissionv1.MatchCondition{{
		Name: "net", Expression: r.net.Expression(agent.AdmissionPaths),
	}}
	return hook
}

// own is every write to Holdfast's own kinds, whoever writes, except Holdfast itself.
func (r *renderer) own() admissionv1.ValidatingWebhook {
	hook := r.hook(decision.OwnWebhook, OwnPath, ownTimeout)
	hook.Rules = rules(v1alpha1.Group, "*/*")
	hook.MatchConditions = []admissionv1.MatchCondition{{
		Name: "not-holdfast", Expression: fmt.Sprintf("%s != %q", agent.AdmissionPaths.User, r.config.OwnUser),
	}}
	return hook
}

// stamp is every Review that anybody makes, and every AccessRequest but those that Holdfast
// opens. To its own Reviews, which it tries to make as a probe, Holdfast is asked.
func (r *renderer) stamp(name string) *admissionv1.MutatingWebhookConfiguration {
	hook := r.hook(decision.StampWebhook, StampPath, ownTimeout)
	create := rules(v1alpha1.Group, "reviews")
	create[0].Resources = append(create[0].Resources, "accessrequests")
	create[0].Operations = []admissionv1.OperationType{admissionv1.Create}
	return &admissionv1.MutatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "MutatingWebhookConfiguration"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Webhooks: []admissionv1.MutatingWebhook{{
			Name: hook.Name, ClientConfig: hook.ClientConfig, Rules: create, FailurePolicy: hook.FailurePolicy,
			MatchConditions: []admissionv1.MatchCondition{{
				Name: "not-opened-by-holdfast", Expression: fmt.Sprintf(`request.resource.resource != "accessrequests" || %s != %q`, agent.AdmissionPaths.User, r.config.OwnUser),
			}},
			MatchPolicy: hook.MatchPolicy, SideEffects: hook.SideEffects, TimeoutSeconds: hook.TimeoutSeconds,
			AdmissionReviewVersions: hook.AdmissionReviewVersions, ReinvocationPolicy: ptr(admissionv1.IfNeededReinvocationPolicy),
		}},
	}
}

func (r *renderer) hook(name, path string, timeout int32) admissionv1.ValidatingWebhook {
	target := r.config.Webhook.URL + path
	return admissionv1.ValidatingWebhook{
		Name:                    name,
		ClientConfig:            admissionv1.WebhookClientConfig{URL: &target, CABundle: r.config.Webhook.CA},
		FailurePolicy:           ptr(admissionv1.Fail),
		MatchPolicy:             ptr(admissionv1.Exact),
		SideEffects:             ptr(admissionv1.SideEffectClassNoneOnDryRun),
		TimeoutSeconds:          &timeout,
		AdmissionReviewVersions: []string{"v1"},
	}
}

func rules(group, resource string) []admissionv1.RuleWithOperations {
	return []admissionv1.RuleWithOperations{{
		Operations: []admissionv1.OperationType{admissionv1.OperationAll},
		Rule: admissionv1.Rule{
			APIGroups: []string{group}, APIVersions: []string{"*"}, Resources: []string{resource},
			Scope: ptr(admissionv1.AllScopes),
		},
	}}
}

func ownKindsRules() []admissionv1.NamedRuleWithOperations { return named(v1alpha1.Group) }
func everything() []admissionv1.NamedRuleWithOperations    { return named("*") }

func named(group string) []admissionv1.NamedRuleWithOperations {
	return []admissionv1.NamedRuleWithOperations{{RuleWithOperations: rules(group, "*/*")[0]}}
}

// policy refuses the rules to everybody inside the net, with no webhook to wait for.
func (r *renderer) policy(
	name string, rules []admissionv1.NamedRuleWithOperations, message string, also ...admissionv1.MatchCondition,
) []any {
	meta := metav1.ObjectMeta{Name: name}
	return []any{
		&admissionv1.ValidatingAdmissionPolicy{
			TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingAdmissionPolicy"},
			ObjectMeta: meta,
			Spec: admissionv1.ValidatingAdmissionPolicySpec{
				FailurePolicy:    ptr(admissionv1.Fail),
				MatchConstraints: &admissionv1.MatchResources{ResourceRules: rules, MatchPolicy: ptr(admissionv1.Exact)},
				MatchConditions: append([]admissionv1.MatchCondition{{
					Name: "net", Expression: r.net.Expression(agent.AdmissionPaths),
				}}, also...),
				Validations: []admissionv1.Validation{{Expression: "false", Message: message, Reason: ptr(metav1.StatusReasonForbidden)}},
			},
		},
		&admissionv1.ValidatingAdmissionPolicyBinding{
			TypeMeta:   metav1.TypeMeta{APIVersion: "admissionregistration.k8s.io/v1", Kind: "ValidatingAdmissionPolicyBinding"},
			ObjectMeta: meta,
			Spec: admissionv1.ValidatingAdmissionPolicyBindingSpec{
				PolicyName:        name,
				ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny},
			},
		},
	}
}

// hostPort is how the API server looks up the credentials for a URL.
func (e *Endpoint) hostPort() string {
	u, err := url.Parse(e.URL)
	if err != nil {
		return e.URL
	}
	return u.Host
}

func ptr[T any](v T) *T { return &v }
