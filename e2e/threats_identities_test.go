package e2e

import (
	"errors"
	"fmt"
	"strings"

	"github.com/holdfast-dev/holdfast/e2e/local"
)

const (
	holdServiceAccount = "baseline-secrets/hold-service-account"
	holdTokens         = "baseline-secrets/hold-tokens"
	denyTokenSecrets   = "baseline-secrets/deny-token-secrets"
)

// robot is a service account that is not the agent's. Pods are not admitted without theirs.
var robot = httpPost("/api/v1/namespaces/{ns}/serviceaccounts", `{"metadata":{"name":"robot"}}`)

// asOtherThreats read as somebody else.
func asOtherThreats() []Threat {
	projected := func(source string) string {
		return podSpec(`"volumes":[{"name":"v","projected":{"sources":[` + source + `]}}],`)
	}
	accounts := everywhere([]way{
		{name: "serviceAccountName", spec: podSpec(`"serviceAccountName":"robot",`), shows: `"serviceAccountName":"robot"`, rule: holdServiceAccount},
		{name: "serviceAccount", spec: podSpec(`"serviceAccount":"robot",`), shows: `"serviceAccount":"robot"`, rule: holdServiceAccount},
	}, robot)
	accounts = append(accounts, reimaged("another image", podSpec(`"serviceAccountName":"robot",`), holdServiceAccount, "", robot)...)
	pod := carriers()[0]
	accounts = append(accounts, Trial{
		Name: "that of the namespace", Want: Allowed,
		Attempt: pod.create(podSpec(`"serviceAccountName":"default",`)), Effect: objectThere(pod.path()),
	})
	return []Threat{
		{ID: "S07", Title: "another serviceAccountName", Verdict: Held, AtOnce: true, Control: noPods, Trials: accounts},
		tokenSecrets(),
		{
			ID: "S10", Title: "projected token with an audience", Verdict: Held, AtOnce: true, Control: noPods,
			Trials: everywhere([]way{{
				name: "a token", spec: projected(`{"serviceAccountToken":{"path":"token","audience":"vault"}}`),
				shows: `"audience":"vault"`, rule: holdTokens,
			}}),
		},
		{
			ID: "S30", Title: "impersonation", Verdict: Denied,
			Trials: []Trial{{
				Rule: denyImpersonation, Prepare: []call{newSecret()}, Effect: tellsSecret,
				Attempt: httpGet(secrets+"/password").with("Impersonate-User", local.HumanUser),
			}},
		},
		{
			ID: "S32", Title: "pod certificate projections", Verdict: Held, AtOnce: true, Control: noPods,
			Trials: everywhere([]way{{
				name: "a certificate", rule: holdTokens, shows: `"signerName":"example.com/mine"`,
				spec: projected(`{"podCertificate":{"signerName":"example.com/mine","keyType":"ED25519","credentialBundlePath":"bundle.pem"}}`),
			}}),
		},
	}
}

// tokenSecrets are filled with the token of a service account by a controller.
func tokenSecrets() Threat {
	const kind, annotation = "kubernetes.io/service-account-token", "kubernetes.io/service-account.name"
	body := func(name, account string) string {
		return fmt.Sprintf(`{"metadata":{"name":%q,"annotations":{%q:%q}},"type":%q}`, name, annotation, account, kind)
	}
	const mine = secrets + "/mine"
	filled := func(path string) func(*scene, answer) error {
		return func(s *scene, _ answer) error {
			if a := s.read(path); fieldOf(a.object(), "data.token") == nil {
				return errors.New("there is no token in it")
			}
			return nil
		}
	}
	template := fmt.Sprintf(`"template":{"type":%q,"metadata":{"annotations":{%q:"robot"}}}`, kind, annotation)
	return Threat{
		ID: "S09", Title: "creating a Secret of type service-account-token", Verdict: Denied, AtOnce: true,
		Control: "of the templates, that the API server takes the object",
		Trials: []Trial{
			{
				Name: "a Secret", Rule: denyTokenSecrets, Prepare: []call{robot},
				Attempt: httpPost(secrets, body("mine", "robot")), Effect: filled(mine), Target: mine,
			},
			{
				Name: "a Secret of the agent's own service account", Rule: denyTokenSecrets,
				Attempt: httpPost("/api/v1/namespaces/agents/secrets", body("{ns}", "{agent}")),
				Effect:  filled("/api/v1/namespaces/agents/secrets/{ns}"), Target: "/api/v1/namespaces/agents/secrets/{ns}",
				After: []call{httpDelete("/api/v1/namespaces/agents/secrets/{ns}", "")},
			},
			{
				Name: "one by server-side apply", Rule: denyTokenSecrets, Prepare: []call{robot},
				Attempt: applyPatch(mine+"?fieldManager=agent", `{"apiVersion":"v1","kind":"Secret",`+strings.TrimPrefix(body("mine", "robot"), "{")),
				Effect:  filled(mine), Target: mine,
			},
			{
				Name: "one for another service account", Rule: denyTokenSecrets, Prepare: []call{robot, httpPost(secrets, body("mine", "default"))},
				Ready:   func(s *scene) error { return filled(mine)(s, answer{}) },
				Attempt: mergePatch(mine, `{"metadata":{"annotations":{"`+annotation+`":"robot"}}}`),
				Effect:  objectHas(mine, `"`+annotation+`":"robot"`), Target: mine,
			},
			instructs("a SealedSecret's template", denyTokenSecrets, "bitnami.com", "SealedSecret", `"spec":{"encryptedData":{"a":"AgB"},`+template+`}`),
			instructs("an ExternalSecret's template", denyTokenSecrets, "external-secrets.io", "ExternalSecret", `"spec":{"target":{"name":"mine",`+template+`}}`),
		},
	}
}
