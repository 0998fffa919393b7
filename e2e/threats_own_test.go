package e2e

import (
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/holdfast-dev/holdfast/e2e/local"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/engine"
	"github.com/holdfast-dev/holdfast/webhook/registration"
)

const (
	// denyOwnKinds is a policy of the API server's own, beside the registrations: it stands
	// when Holdfast does not, and is asked first.
	denyOwnKinds       = "holdfast-own-kinds" + staticPolicy
	denyOwnNamespace   = engine.ProtectionPolicy + "/own-namespace"
	denyOwnDefinitions = engine.ProtectionPolicy + "/own-definitions"
	denyAdmission      = engine.ProtectionPolicy + "/admission-registrations"
	denyAPIs           = engine.ProtectionPolicy + "/api-registrations"
	denyConversion     = engine.ProtectionPolicy + "/conversion-webhooks"
	denyFlow           = engine.ProtectionPolicy + "/flow-control"
)

const (
	holdfastAPI  = "/apis/holdfast.dev/v1alpha1"
	policies     = holdfastAPI + "/agentpolicies"
	agents       = holdfastAPI + "/agents"
	requests     = holdfastAPI + "/accessrequests"
	admissionAPI = "/apis/admissionregistration.k8s.io/v1"
	definitions  = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
	flowControl  = "/apis/flowcontrol.apiserver.k8s.io/v1"
	inOwn        = "/api/v1/namespaces/" + engine.Namespace
	ownWorkloads = "/apis/apps/v1/namespaces/" + engine.Namespace + "/deployments"
	ownLeases    = "/apis/coordination.k8s.io/v1/namespaces/" + engine.Namespace + "/leases"
)

// ownThreats go at Holdfast itself, and at what the API server asks before it stores.
func ownThreats() []Threat {
	return []Threat{
		{ID: "T39", Title: "agent writes Agent, AgentPolicy, Review or any status of Holdfast", Verdict: Denied, Trials: ownKindTrials(), Beyond: "Reviews: T38"},
		{ID: "T40", Title: "agent edits webhook registrations", Verdict: Denied, Trials: registrationEdits()},
		{
			ID: "T41", Title: "agent registers a webhook, a ValidatingAdmissionPolicy, an APIService", Verdict: Denied,
			Trials: append(newRegistrations(), apiService()),
		},
		{ID: "S25", Title: "own admission webhook", Verdict: Denied, Trials: newRegistrations()[:2]},
		{ID: "S27", Title: "APIService", Verdict: Denied, Trials: []Trial{apiService()}},
		{ID: "T42", Title: "agent deletes or scales Holdfast's own Deployment, Service, Secret, namespace", Verdict: Denied, Trials: ownNamespaceTrials()},
		{ID: "T62", Title: "CRD conversion webhook", Verdict: Denied, Trials: conversionTrials()},
		{ID: "S26", Title: "CRD conversion", Verdict: Denied, Trials: conversionTrials()[:1]},
		{ID: "T77", Title: "FlowSchema, PriorityLevelConfiguration, CRDs of holdfast.dev, Holdfast's leader Lease", Verdict: Denied, Trials: flowTrials()},
		{
			ID: "T43", Title: "Holdfast is down", Verdict: Effect, Effect: "denied for agents, allowed for all others", Alone: true,
			Off: func(s *scene) { s.succeed(newConfigMap("mine")) }, On: withoutHoldfast,
		},
		{
			ID: "T67", Title: "direct calls to Holdfast's endpoints from a pod", Verdict: Denied, Unseen: true,
			Control: "without Holdfast there are no such endpoints",
			Off: func(s *scene) {
				if s.c.info.WebhookURL != "" {
					s.t.Errorf("there is a webhook at %s", s.c.info.WebhookURL)
				}
			},
			On: calledDirectly,
		},
	}
}

func ownKindTrials() []Trial {
	policy := func(name string) string {
		return `{"apiVersion":"holdfast.dev/v1alpha1","kind":"AgentPolicy","metadata":{"name":"` + name + `"},"spec":{"agents":["nobody"],"rules":[{"name":"deny","match":{"verbs":["delete"]},"action":"Deny"}]}}`
	}
	agent := func(name string) string {
		return `{"apiVersion":"holdfast.dev/v1alpha1","kind":"Agent","metadata":{"name":"` + name + `"},"spec":{"subjects":[{"kind":"ServiceAccount","namespace":"agents","name":"` + name + `"}]}}`
	}
	madePolicy, madeAgent := []call{httpPost(policies, policy("{ns}"))}, []call{httpPost(agents, agent("{ns}"))}
	const condition = `{"status":{"conditions":[{"type":"Compiled","status":"False","reason":"Mine","message":"mine","lastTransitionTime":"2020-01-01T00:00:00Z"}]}}`
	write := func(name string, prepare []call, attempt call, effect func(*scene, answer) error) Trial {
		return Trial{
			Name: name, Rule: denyOwnKinds, Prepare: prepare, Attempt: attempt, Effect: effect,
			After: []call{httpDelete(policies+"/{ns}", ""), httpDelete(agents+"/{ns}", "")},
		}
	}
	return []Trial{
		write("an Agent", nil, httpPost(agents, agent("{ns}")), objectThere(agents+"/{ns}")),
		write("who an Agent is", madeAgent, mergePatch(agents+"/{ns}", `{"spec":{"subjects":[{"kind":"User","name":"nobody"}]}}`), fieldIs(agents+"/{ns}", "spec.subjects.0.name", "nobody")),
		write("an Agent, deleted", madeAgent, httpDelete(agents+"/{ns}", ""), objectGone(agents+"/{ns}")),
		write("an AgentPolicy", nil, httpPost(policies, policy("{ns}")), objectThere(policies+"/{ns}")),
		write("an AgentPolicy's mode", madePolicy, mergePatch(policies+"/{ns}", `{"spec":{"mode":"Audit"}}`), fieldIs(policies+"/{ns}", "spec.mode", "Audit")),
		write("an AgentPolicy, deleted", madePolicy, httpDelete(policies+"/{ns}", ""), objectGone(policies+"/{ns}")),
		write("an AgentPolicy's status", madePolicy, mergePatch(policies+"/{ns}/status", condition), fieldIs(policies+"/{ns}", "status.conditions.0.reason", "Mine")),
		write("an Agent's status", madeAgent, mergePatch(agents+"/{ns}/status", condition), fieldIs(agents+"/{ns}", "status.conditions.0.reason", "Mine")),
		{
			Name: "an AccessRequest's status", Rule: denyOwnKinds, Prepare: []call{newPod("victim")}, Ready: aRequest,
			Attempt: mergePatch(requests+"/{request}/status", `{"status":{"phase":"Approved"}}`),
			Effect:  fieldIs(requests+"/{request}", "status.phase", v1alpha1.Approved),
		},
	}
}

// aRequest is an AccessRequest of the scene's agent, whose name is {request} from then on:
// one that Holdfast opened, or where there is no Holdfast, one that a person made.
func aRequest(s *scene) error {
	if s.guarded {
		s.vars["request"] = s.accessRequest(s.attempt(httpDelete(pods+"/victim", "")))
		return nil
	}
	s.vars["request"] = s.ns
	a := s.send(s.person, httpPost(requests, `{"apiVersion":"holdfast.dev/v1alpha1","kind":"AccessRequest","metadata":{"name":"{ns}"},
		"spec":{"origin":"Intercepted","agent":"{agent}","requester":"system:serviceaccount:agents:{agent}",
		"access":{"verbs":["delete"],"apiGroups":[""],"resources":["pods"]},"rules":[{"policy":"p","rule":"r","required":1,"approvers":{"groups":["holdfast:approvers"]}}]}}`))
	if !a.ok() {
		return errors.New(a.String())
	}
	return nil
}

// nowhere is a URL that nobody is asked at: the rules of what is registered here match no kind
// that there is.
const nowhere = "https://192.0.2.1:443/"

func webhooks(kind string) string {
	return fmt.Sprintf(`{"apiVersion":"admissionregistration.k8s.io/v1","kind":%q,"metadata":{"name":"{ns}"},"webhooks":[{
		"name":"mine.example.com","sideEffects":"None","admissionReviewVersions":["v1"],"failurePolicy":"Fail","clientConfig":{"url":%q},
		"rules":[{"operations":["CREATE"],"apiGroups":["{ns}.example.com"],"apiVersions":["v1"],"resources":["things"]}]}]}`, kind, nowhere)
}

// admissionPolicy is a policy of the API server's own that matches nothing.
const admissionPolicy = `{"metadata":{"name":"{ns}"},"spec":{"matchConstraints":{"resourceRules":[
	{"operations":["CREATE"],"apiGroups":["{ns}.example.com"],"apiVersions":["v1"],"resources":["things"]}]},
	"validations":[{"expression":"true"}]}}`

const (
	validating = admissionAPI + "/validatingwebhookconfigurations"
	mutating   = admissionAPI + "/mutatingwebhookconfigurations"
	ownVAP     = admissionAPI + "/validatingadmissionpolicies"
	bindingVAP = admissionAPI + "/validatingadmissionpolicybindings"
)

func newRegistrations() []Trial {
	return []Trial{
		creates("a validating webhook", denyAdmission, validating+"/{ns}", webhooks("ValidatingWebhookConfiguration")),
		creates("a mutating webhook", denyAdmission, mutating+"/{ns}", webhooks("MutatingWebhookConfiguration")),
		creates("a ValidatingAdmissionPolicy", denyAdmission, ownVAP+"/{ns}", admissionPolicy),
		creates("a binding of one", denyAdmission, bindingVAP+"/{ns}", `{"metadata":{"name":"{ns}"},"spec":{"policyName":"{ns}","validationActions":["Deny"]}}`),
	}
}

func registrationEdits() []Trial {
	edit := func(name, path, kind string, attempt call, effect func(*scene, answer) error) Trial {
		return Trial{
			Name: name, Rule: denyAdmission, Prepare: []call{httpPost(path, webhooks(kind))}, Attempt: attempt, Effect: effect,
			Target: path + "/{ns}", After: []call{httpDelete(path+"/{ns}", "")},
		}
	}
	const ignore = `[{"op":"replace","path":"/webhooks/0/failurePolicy","value":"Ignore"}]`
	return []Trial{
		edit("a validating webhook", validating, "ValidatingWebhookConfiguration", jsonPatch(validating+"/{ns}", ignore), fieldIs(validating+"/{ns}", "webhooks.0.failurePolicy", "Ignore")),
		edit("a mutating webhook", mutating, "MutatingWebhookConfiguration", jsonPatch(mutating+"/{ns}", ignore), fieldIs(mutating+"/{ns}", "webhooks.0.failurePolicy", "Ignore")),
		edit("none any more", validating, "ValidatingWebhookConfiguration", mergePatch(validating+"/{ns}", `{"webhooks":[]}`), fieldIs(validating+"/{ns}", "webhooks.0", nil)),
		edit("deleted", validating, "ValidatingWebhookConfiguration", httpDelete(validating+"/{ns}", ""), objectGone(validating+"/{ns}")),
		edit("all deleted", mutating, "MutatingWebhookConfiguration", httpDelete(mutating+"?fieldSelector=metadata.name%3D{ns}", ""), objectGone(mutating+"/{ns}")),
	}
}

// apiService is one that the API server serves itself: one that goes nowhere would be in the
// way of whoever lists all kinds.
func apiService() Trial {
	return creates("an APIService", denyAPIs, "/apis/apiregistration.k8s.io/v1/apiservices/v1.{ns}.example.com",
		`{"metadata":{"name":"v1.{ns}.example.com"},"spec":{"group":"{ns}.example.com","version":"v1","groupPriorityMinimum":100,"versionPriority":100}}`)
}

func conversionTrials() []Trial {
	const name = "things.{ns}.example.com"
	const webhook = `{"strategy":"Webhook","webhook":{"conversionReviewVersions":["v1"],"clientConfig":{"url":"` + nowhere + `"}}}`
	body := func(conversion string) string {
		return `{"metadata":{"name":"` + name + `"},"spec":{"group":"{ns}.example.com","scope":"Cluster","conversion":` + conversion + `,
			"names":{"plural":"things","kind":"Thing"},"versions":[{"name":"v1","served":true,"storage":true,"schema":{"openAPIV3Schema":{"type":"object"}}}]}}`
	}
	return []Trial{
		creates("of a new kind", denyConversion, definitions+"/"+name, body(webhook)),
		{
			Name: "of a kind that is there", Rule: denyConversion, Prepare: []call{httpPost(definitions, body(`{"strategy":"None"}`))},
			Attempt: mergePatch(definitions+"/"+name, `{"spec":{"conversion":`+webhook+`}}`),
			Effect:  fieldIs(definitions+"/"+name, "spec.conversion.strategy", "Webhook"), After: []call{httpDelete(definitions+"/"+name, "")},
		},
	}
}

func ownNamespaceTrials() []Trial {
	web := []call{httpPost(ownWorkloads, workloadBody("{ns}", 2))}
	at := ownWorkloads + "/{ns}"
	const secret, service = inOwn + "/secrets/{ns}", inOwn + "/services/{ns}"
	return []Trial{
		{Name: "its Deployment", Rule: denyOwnNamespace, Prepare: web, Attempt: httpDelete(at, ""), Effect: objectGone(at), Target: at},
		{
			Name: "its Deployment's scale", Rule: denyOwnNamespace, Prepare: web, Attempt: mergePatch(at+"/scale", `{"spec":{"replicas":0}}`),
			Effect: fieldIs(at, "spec.replicas", 0), Target: at,
		},
		{
			Name: "its Deployment's image", Rule: denyOwnNamespace, Prepare: web,
			Attempt: jsonPatch(at, `[{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"registry.invalid/mine:1"}]`),
			Effect:  fieldIs(at, "spec.template.spec.containers.0.image", "registry.invalid/mine:1"), Target: at,
		},
		{
			Name: "its Service", Rule: denyOwnNamespace, Prepare: []call{httpPost(inOwn+"/services", `{"metadata":{"name":"{ns}"},"spec":{"ports":[{"port":443}]}}`)},
			Attempt: httpDelete(service, ""), Effect: objectGone(service), Target: service,
		},
		{
			Name: "its Secret", Rule: denyOwnNamespace, Prepare: []call{httpPost(inOwn+"/secrets", `{"metadata":{"name":"{ns}"},"stringData":{"key":"theirs"}}`)},
			Attempt: mergePatch(secret, `{"stringData":{"key":"mine"}}`),
			Effect:  fieldIs(secret, "data.key", base64.StdEncoding.EncodeToString([]byte("mine"))), Target: secret,
		},
		{
			Name: "a pod beside it", Rule: denyOwnNamespace, Attempt: httpPost(inOwn+"/pods", `{"metadata":{"name":"{ns}"},"spec":`+podSpec("")+`}`),
			Effect: objectThere(inOwn + "/pods/{ns}"), Target: inOwn + "/pods/{ns}",
		},
		// As a dry run, since other cases are played in it.
		{
			Name: "its namespace", Rule: denyOwnNamespace, Attempt: httpDelete(inOwn+"?dryRun=All", ""), Effect: answerHas("metadata.name"), Target: inOwn,
		},
	}
}

func flowTrials() []Trial {
	const schema = `{"metadata":{"name":"{ns}"},"spec":{"priorityLevelConfiguration":{"name":"exempt"},"matchingPrecedence":9000,
		"rules":[{"subjects":[{"kind":"User","user":{"name":"nobody"}}],"nonResourceRules":[{"verbs":["get"],"nonResourceURLs":["/mine"]}]}]}}`
	const level = `{"metadata":{"name":"{ns}"},"spec":{"type":"Limited","limited":{"nominalConcurrencyShares":1,"limitResponse":{"type":"Reject"}}}}`
	const lease, own = ownLeases + "/holdfast-webhook", definitions + "/accessrequests.holdfast.dev"
	there := thereOr(lease, httpPost(ownLeases, `{"metadata":{"name":"holdfast-webhook"},"spec":{"holderIdentity":"somebody"}}`))
	return []Trial{
		creates("a FlowSchema", denyFlow, flowControl+"/flowschemas/{ns}", schema),
		{
			Name: "a FlowSchema, edited", Rule: denyFlow, Prepare: []call{httpPost(flowControl+"/flowschemas", schema)},
			Attempt: mergePatch(flowControl+"/flowschemas/{ns}", `{"spec":{"matchingPrecedence":9001}}`),
			Effect:  fieldIs(flowControl+"/flowschemas/{ns}", "spec.matchingPrecedence", 9001),
			Target:  flowControl + "/flowschemas/{ns}", After: []call{httpDelete(flowControl+"/flowschemas/{ns}", "")},
		},
		creates("a PriorityLevelConfiguration", denyFlow, flowControl+"/prioritylevelconfigurations/{ns}", level),
		{
			Name: "a CRD of holdfast.dev", Rule: denyOwnDefinitions, Attempt: mergePatch(own, `{"metadata":{"annotations":{"mine":"{ns}"}}}`),
			Effect: fieldIs(own, "metadata.annotations.mine", "{ns}"),
		},
		{Name: "such a CRD, deleted", Rule: denyOwnDefinitions, Attempt: httpDelete(own+"?dryRun=All", ""), Effect: answerHas("metadata")},
		{
			Name: "the leader's Lease", Rule: denyOwnNamespace, Ready: there, Attempt: mergePatch(lease, `{"spec":{"holderIdentity":"mine"}}`),
			Effect: fieldIs(lease, "spec.holderIdentity", "mine"),
		},
		{Name: "the leader's Lease, deleted", Rule: denyOwnNamespace, Ready: there, Attempt: httpDelete(lease, ""), Effect: objectGone(lease)},
	}
}

// withoutHoldfast: its webhook is killed. Agents are stopped; people and controllers do not
// notice.
func withoutHoldfast(s *scene) {
	s.succeed(newConfigMap("before"))
	if err := s.c.run.Kill(local.Webhook); err != nil {
		s.t.Fatal(err)
	}
	tried := map[string]call{
		"a read": httpGet(configMaps), "a create": newConfigMap("mine"), "a change": mergePatch(configMaps+"/before", `{"data":{"a":"c"}}`), "a delete": httpDelete(configMaps+"/before", ""),
	}
	for name, c := range tried {
		// The API server says that it cannot ask: an error of the server, with the same end.
		a := s.attempt(c)
		if a.code != http.StatusInternalServerError || !strings.Contains(a.body, "/authorize?") {
			s.t.Errorf("%s without Holdfast: want it refused: %s", name, a)
		}
	}
	if err := objectGone(configMaps+"/mine")(s, answer{}); err != nil {
		s.t.Error(err)
	}
	s.prepare(newConfigMap("person"), mergePatch(configMaps+"/person", `{"data":{"a":"c"}}`), httpDelete(configMaps+"/person", ""), newDeployment("web", 2))
	s.eventually("controllers go on", func() error {
		if names := s.names(pods); len(names) != 2 {
			return fmt.Errorf("pods %v, want two", names)
		}
		return nil
	})
	if err := s.c.run.Start(s.t.Context(), local.Webhook); err != nil {
		s.t.Fatal(err)
	}
	s.eventually("the agent goes on", func() error {
		if a := s.attempt(mergePatch(configMaps+"/before", `{"data":{"a":"d"}}`)); !a.ok() {
			return errors.New(a.String())
		}
		return nil
	})
}

// calledDirectly: whoever reaches Holdfast over the network is not the API server.
func calledDirectly(s *scene) {
	client := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // whoever calls does not care who answers
	}}
	for _, url := range []string{
		s.c.info.WebhookURL + registration.GuardPath, s.c.info.WebhookURL + registration.OwnPath, s.c.info.WebhookURL + registration.StampPath,
		s.c.info.WebhookURL + registration.TestimonyPath, s.c.info.CollectorURL + "/v1/audit/" + local.AuditSource,
	} {
		request, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, url, strings.NewReader("{}"))
		if err != nil {
			s.t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := client.Do(request)
		if err == nil {
			_ = response.Body.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "certificate required") {
			s.t.Errorf("%s without a client certificate: %v, want a refusal by TLS", url, err)
		}
	}
}
