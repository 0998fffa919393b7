package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

const (
	holdRBAC           = "baseline-access/hold-rbac"
	denyCertificates   = "baseline-access/deny-certificates"
	denyTokens         = "baseline-access/deny-tokens"
	denyBootstrapToken = "baseline-secrets/deny-bootstrap-tokens"
)

const (
	rbac         = "/apis/rbac.authorization.k8s.io/v1"
	roles        = rbac + "/namespaces/{ns}/roles"
	roleBindings = rbac + "/namespaces/{ns}/rolebindings"
	clusterRoles = rbac + "/clusterroles"
	clusterBinds = rbac + "/clusterrolebindings"
	signing      = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
)

// toReadSecrets is a role's rules; toBind the rules of one that takes more.
const (
	toReadSecrets = `[{"apiGroups":[""],"resources":["secrets"],"verbs":["get","list"]}]`
	toBind        = `[{"apiGroups":["rbac.authorization.k8s.io"],"resources":["clusterroles","roles"],"verbs":["bind","escalate"]},{"apiGroups":[""],"resources":["users"],"verbs":["impersonate"]}]`
)

func role(rules string) string { return `{"metadata":{"name":"{ns}"},"rules":` + rules + `}` }

func binding(kind, name string) string {
	return fmt.Sprintf(`{"metadata":{"name":"{ns}"},"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":%q,"name":%q},"subjects":[{"kind":"User","apiGroup":"rbac.authorization.k8s.io","name":"mine"}]}`, kind, name)
}

// rbacTrials give somebody more rights. Where an object is cluster-scoped it has the name of
// the scene.
func rbacTrials() []Trial {
	made := func(name, path, body string) Trial {
		return Trial{Name: name, Rule: holdRBAC, Attempt: httpPost(path, body), Effect: objectThere(path + "/{ns}"), Target: path + "/{ns}"}
	}
	return []Trial{
		made("a Role", roles, role(toReadSecrets)),
		made("a ClusterRole with bind, escalate and impersonate", clusterRoles, role(toBind)),
		made("a RoleBinding", roleBindings, binding("ClusterRole", "admin")),
		made("a ClusterRoleBinding", clusterBinds, binding("ClusterRole", "cluster-admin")),
		made("a ClusterRole that others take in", clusterRoles, strings.Replace(
			role(`[{"apiGroups":["{ns}.example.com"],"resources":["things"],"verbs":["get"]}]`),
			`"metadata":{`, `"metadata":{"labels":{"rbac.example.com/aggregate-to-{ns}":"true"},`, 1)),
		{
			Name: "such a label, afterwards", Rule: holdRBAC, Prepare: []call{httpPost(clusterRoles, role(`[{"apiGroups":["{ns}.example.com"],"resources":["things"],"verbs":["get"]}]`))},
			Attempt: mergePatch(clusterRoles+"/{ns}", `{"metadata":{"labels":{"rbac.example.com/aggregate-to-{ns}":"true"}}}`),
			Effect:  fieldIs(clusterRoles+"/{ns}", "metadata.labels", "map[rbac.example.com/aggregate-to-{ns}:true]"), Target: clusterRoles + "/{ns}",
		},
		{
			Name: "more rules of a Role", Rule: holdRBAC, Prepare: []call{httpPost(roles, role(`[]`))},
			Attempt: mergePatch(roles+"/{ns}", `{"rules":`+toReadSecrets+`}`),
			Effect:  fieldIs(roles+"/{ns}", "rules.0.resources.0", "secrets"), Target: roles + "/{ns}",
		},
		{
			Name: "one more who is bound", Rule: holdRBAC, Prepare: []call{httpPost(roleBindings, binding("ClusterRole", "view"))},
			Attempt: jsonPatch(roleBindings+"/{ns}", `[{"op":"add","path":"/subjects/-","value":{"kind":"ServiceAccount","namespace":"{ns}","name":"default"}}]`),
			Effect:  fieldIs(roleBindings+"/{ns}", "subjects.1.name", "default"), Target: roleBindings + "/{ns}",
		},
	}
}

// accessThreats get rights, or identities, that were not given.
func accessThreats() []Threat {
	token := Trial{
		Rule: denyTokens, Prepare: []call{httpPost("/api/v1/namespaces/{ns}/serviceaccounts", `{"metadata":{"name":"other"}}`)},
		Attempt: httpPost("/api/v1/namespaces/{ns}/serviceaccounts/other/token", `{"spec":{}}`),
		Effect:  answerHas("status.token"),
	}
	return []Threat{
		{
			ID: "T53", Title: "token of another service account (serviceaccounts/token)", Verdict: Denied,
			Trials: []Trial{called(token, "another's"), {
				Name: "its own", Rule: denyTokens,
				Attempt: httpPost("/api/v1/namespaces/agents/serviceaccounts/{agent}/token", `{"spec":{}}`), Effect: answerHas("status.token"),
			}},
		},
		{ID: "S08", Title: "TokenRequest", Verdict: Denied, Trials: []Trial{token}},
		{ID: "T60", Title: "Role, ClusterRole, bindings; bind, escalate; aggregation labels", Verdict: Held, Trials: rbacTrials()},
		{ID: "S29", Title: "RBAC", Verdict: Held, Trials: []Trial{rbacTrials()[0], rbacTrials()[2]}},
		{ID: "T61", Title: "CertificateSigningRequest create or approve", Verdict: Denied, Trials: certificateTrials()},
		{ID: "S31", Title: "CertificateSigningRequest", Verdict: Denied, Trials: certificateTrials()[:1]},
		{
			ID: "T74", Title: "Secret of type bootstrap.kubernetes.io/token", Verdict: Denied,
			Trials: []Trial{
				{
					Name: "create", Rule: denyBootstrapToken,
					Attempt: httpPost("/api/v1/namespaces/kube-system/secrets", bootstrapToken("aaaaa1")),
					Effect:  objectThere("/api/v1/namespaces/kube-system/secrets/bootstrap-token-aaaaa1"),
					Target:  "/api/v1/namespaces/kube-system/secrets/bootstrap-token-aaaaa1",
					After:   []call{httpDelete("/api/v1/namespaces/kube-system/secrets/bootstrap-token-aaaaa1", "")},
				},
				{
					Name: "change one", Rule: denyBootstrapToken,
					Prepare: []call{httpPost("/api/v1/namespaces/kube-system/secrets", bootstrapToken("aaaaa2"))},
					Attempt: mergePatch("/api/v1/namespaces/kube-system/secrets/bootstrap-token-aaaaa2", `{"stringData":{"usage-bootstrap-signing":"true"}}`),
					Effect:  fieldIs("/api/v1/namespaces/kube-system/secrets/bootstrap-token-aaaaa2", "data.usage-bootstrap-signing", base64.StdEncoding.EncodeToString([]byte("true"))),
					Target:  "/api/v1/namespaces/kube-system/secrets/bootstrap-token-aaaaa2",
					After:   []call{httpDelete("/api/v1/namespaces/kube-system/secrets/bootstrap-token-aaaaa2", "")},
				},
			},
		},
	}
}

func called(trial Trial, name string) Trial {
	trial.Name = name
	return trial
}

// answerHas is the effect that the answer itself has a field.
func answerHas(field string) func(*scene, answer) error {
	return func(_ *scene, a answer) error {
		if !a.ok() || fieldOf(a.object(), field) == nil {
			return errors.New("the answer has no " + field)
		}
		return nil
	}
}

func bootstrapToken(id string) string {
	return fmt.Sprintf(`{"metadata":{"name":"bootstrap-token-%[1]s"},"type":"bootstrap.kubernetes.io/token","stringData":{"token-id":%[1]q,"token-secret":"0123456789abcdef","usage-bootstrap-authentication":"true"}}`, id)
}

// certificateTrials ask for a certificate of somebody else's name, and approve one.
func certificateTrials() []Trial {
	body := func(signer string) string {
		return fmt.Sprintf(`{"metadata":{"name":"{ns}"},"spec":{"request":%q,"signerName":%q,"usages":["client auth"]}}`, certificateRequest(), signer)
	}
	const approved = `{"status":{"conditions":[{"type":"Approved","status":"True","reason":"mine","message":"mine"}]}}`
	made := []call{httpPost(signing, body("kubernetes.io/kube-apiserver-client"))}
	return []Trial{
		{
			Name: "ask", Rule: denyCertificates, Attempt: httpPost(signing, body("kubernetes.io/kube-apiserver-client")),
			Effect: objectThere(signing + "/{ns}"), Target: signing + "/{ns}",
		},
		{
			Name: "ask another signer", Rule: denyCertificates, Attempt: httpPost(signing, body("example.com/mine")),
			Effect: objectThere(signing + "/{ns}"), Target: signing + "/{ns}",
		},
		{
			Name: "approve", Rule: denyCertificates, Prepare: made,
			Attempt: mergePatch(signing+"/{ns}/approval", approved),
			Effect:  fieldIs(signing+"/{ns}", "status.conditions.0.type", "Approved"),
		},
		{
			Name: "sign", Rule: denyCertificates, Prepare: append(made, mergePatch(signing+"/{ns}/approval", approved)),
			Attempt: mergePatch(signing+"/{ns}/status", `{"metadata":{"annotations":{"signed":"{ns}"}}}`),
			Effect:  fieldIs(signing+"/{ns}", "metadata.annotations.signed", "{ns}"),
		},
	}
}

// certificateRequest asks for a certificate of a person whom RBAC knows.
func certificateRequest() string {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "human"}}, key)
	if err != nil {
		panic(err)
	}
	return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}
