package e2e

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// grantThreats outlive what was granted, act where admission does not see it, or write down
// what nobody decided.
func grantThreats() []Threat {
	return []Threat{
		{
			ID: "T70", Title: "a revoked grant", Verdict: Effect, Effect: "the next request is denied", Waits: waitsAuthorizer,
			Rules: []string{holdSecretReads},
			Off: func(s *scene) {
				s.prepare(newSecret())
				s.tells(s.attempt(httpGet(secrets + "/password")))
			},
			On: revokedGrant,
		},
		{
			ID: "T71", Title: "suspended agent", Verdict: Effect, Effect: "every request that starts a second later is denied, on every replica",
			Waits: waitsAuthorizer, Beyond: "more than one replica: each watches Agents by itself, as this one does",
			Off: func(s *scene) {
				s.prepare(newPod("victim"))
				for name, c := range ofAllKinds() {
					if a := s.attempt(c); !a.ok() {
						s.t.Errorf("the control failed: %s: %s", name, a)
					}
				}
			},
			On: suspendedAgent,
		},
		{
			ID: "T76", Title: "mutation through an aggregated API (no admission there)", Verdict: Denied, Waits: waitsAuthorizer,
			Rules: []string{holdDelete},
			Off: func(s *scene) {
				calls := s.extend()
				for name, c := range throughExtension() {
					before := calls.Load()
					if a := s.attempt(c); !a.ok() || calls.Load() == before {
						s.t.Errorf("the control failed: %s: %s", name, a)
					}
				}
			},
			On: func(s *scene) {
				calls := s.extend()
				for name, c := range throughExtension() {
					a := s.attempt(c)
					s.show(a)
					if a.code != http.StatusForbidden || s.decided(a, decision.Deny) != nil && s.decided(a, decision.Hold) != nil {
						s.t.Errorf("%s: want it refused by Holdfast: %s", name, a)
					}
				}
				if n := calls.Load(); n != 0 {
					s.t.Errorf("%d changes came to the other API server", n)
				}
				if a := s.attempt(httpGet(extensionPath)); !a.ok() {
					s.t.Errorf("reads of it are free: %s", a)
				}
			},
		},
		{
			ID: "T78", Title: "forged audit annotation by a webhook of somebody's own", Verdict: Effect, Effect: "not believed", Waits: waitsSignatures,
			Control: "the annotation lands in the API server's audit log under Holdfast's name",
			Off: func(s *scene) {
				s.forgeDecision()
				a := s.succeed(newConfigMap("mine"))
				s.eventually("the audit log has it", func() error { return s.forgedIn(a) })
			},
			On: func(s *scene) {
				s.forgeDecision()
				a := s.succeed(newConfigMap("mine"))
				s.show(a)
				s.eventually("the audit log has it", func() error { return s.forgedIn(a) })
				db := s.c.database(s.t)
				s.eventually("the attempt is in Postgres", func() error {
					var decided string
					var rules []string
					err := db.QueryRow(s.t.Context(), `SELECT decision, rules FROM agent_activity WHERE audit_id = $1`, a.auditID).Scan(&decided, &rules)
					if err != nil {
						return err
					}
					if decided != "Allow" || strings.Contains(fmt.Sprint(rules), "forged") {
						s.t.Fatalf("Postgres believes decision %s by %v", decided, rules)
					}
					return nil
				})
			},
		},
	}
}

// tells says that an answer has the Secret's value.
func (s *scene) tells(a answer) {
	s.t.Helper()
	if err := tellsSecret(s, a); err != nil {
		s.t.Errorf("%v: %s", err, a)
	}
}

// ask asks ahead to read the Secret password, and returns the AccessRequest's name.
func (s *scene) ask() string {
	s.t.Helper()
	a := s.succeed(httpPost(requests, `{"apiVersion":"holdfast.dev/v1alpha1","kind":"AccessRequest","metadata":{"generateName":"asked-"},
		"spec":{"origin":"Asked","reason":"to see whether it was rotated",
		"access":{"verbs":["get"],"apiGroups":[""],"resources":["secrets"],"namespaces":["{ns}"],"names":["password"],"duration":"10m"}}}`))
	return fmt.Sprint(fieldOf(a.object(), "metadata.name"))
}

// revokedGrant: two people grant a read, which then passes; one takes it back.
func revokedGrant(s *scene) {
	s.prepare(newSecret())
	read := httpGet(secrets + "/password")
	s.expect(s.attempt(read), Unheld, holdSecretReads)
	request := s.ask()
	s.eventually("it waits for people", func() error {
		return fieldIs(requests+"/"+request, "status.phase", v1alpha1.Pending)(s, answer{})
	})
	s.approve(request)
	s.eventually("the read passes", func() error { return tellsSecret(s, s.attempt(read)) })
	if a := s.attempt(httpGet(secrets)); a.code != http.StatusForbidden {
		s.t.Errorf("the grant is for one Secret: %s", a)
	}
	deny := s.send(s.reviewers[approver], httpPost(holdfastAPI+"/reviews", fmt.Sprintf(
		`{"apiVersion":"holdfast.dev/v1alpha1","kind":"Review","metadata":{"generateName":"review-"},"spec":{"accessRequest":%q,"verdict":"Deny","comment":"enough"}}`, request)))
	if !deny.ok() {
		s.t.Fatalf("revoke: %s", deny)
	}
	s.phase(request, v1alpha1.Revoked)
	a := s.attempt(read)
	if a.code != http.StatusForbidden {
		s.t.Errorf("want the read after the revocation denied: %s", a)
	}
}

// ofAllKinds are requests of every kind that there is: by each of the hooks.
func ofAllKinds() map[string]call {
	return map[string]call{
		"a read": httpGet(configMaps), "a read of one": httpGet(pods + "/victim"), "a create": newConfigMap("mine"),
		"a change": mergePatch(pods+"/victim", `{"metadata":{"labels":{"a":"b"}}}`), "a delete, dry": httpDelete(pods+"/victim?dryRun=All", ""),
		"a read of no object": httpGet("/metrics"),
	}
}

func suspendedAgent(s *scene) {
	s.prepare(newPod("victim"))
	suspend := func(on bool) {
		s.prepare(mergePatch(agents+"/{agent}", fmt.Sprintf(`{"spec":{"suspended":%t}}`, on)))
	}
	if a := s.attempt(httpGet(configMaps)); !a.ok() {
		s.t.Errorf("before it is suspended: %s", a)
	}
	suspend(true)
	time.Sleep(time.Second)
	for name, c := range ofAllKinds() {
		a := s.attempt(c)
		s.show(a)
		if a.code != http.StatusForbidden || !strings.Contains(a.body, "suspended") {
			s.t.Errorf("%s: want it denied, since the agent is suspended: %s", name, a)
		}
	}
	s.mustExist(pods + "/victim")
	suspend(false)
	s.eventually("the agent goes on", func() error {
		if a := s.attempt(httpGet(configMaps)); !a.ok() {
			return errors.New(a.String())
		}
		return nil
	})
}

const (
	extensionGroup = "extension.example.com"
	extensionPath  = "/apis/" + extensionGroup + "/v1/namespaces/{ns}/gadgets"
)

// throughExtension are changes by way of another API server.
func throughExtension() map[string]call {
	const body = `{"apiVersion":"` + extensionGroup + `/v1","kind":"Gadget","metadata":{"name":"mine"}}`
	return map[string]call{
		"a create": httpPost(extensionPath, body), "a change": mergePatch(extensionPath+"/mine", `{"metadata":{"labels":{"a":"b"}}}`),
		"an update": httpPut(extensionPath+"/mine", body), "a delete": httpDelete(extensionPath+"/mine", ""),
		"a deletecollection": httpDelete(extensionPath, ""),
	}
}

// extend starts another API server, has requests passed on to it, and counts the changes that
// come to it.
func (s *scene) extend() *atomic.Int32 {
	s.t.Helper()
	var changes atomic.Int32
	server, _ := tlsServer(s.t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		answer := `{"kind":"Gadget","apiVersion":"` + extensionGroup + `/v1","metadata":{"name":"mine"}}`
		switch {
		case r.Method != http.MethodGet:
			changes.Add(1)
		case strings.HasSuffix(r.URL.Path, "/v1"):
			// No verb by which controllers would come here.
			answer = `{"kind":"APIResourceList","apiVersion":"v1","groupVersion":"` + extensionGroup + `/v1","resources":[
				{"name":"gadgets","singularName":"gadget","namespaced":true,"kind":"Gadget","verbs":["get","create","update","patch"]}]}`
		case !strings.Contains(r.URL.Path, "gadgets"):
			http.Error(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":404}`, http.StatusNotFound)
			return
		}
		fmt.Fprint(w, answer)
	}))
	at, err := url.Parse(server)
	if err != nil {
		s.t.Fatal(err)
	}
	s.prepare(httpPost(services, `{"metadata":{"name":"extension"},"spec":{"type":"ExternalName","externalName":"localhost","ports":[{"port":`+at.Port()+`}]}}`),
		httpPost("/apis/apiregistration.k8s.io/v1/apiservices", `{"metadata":{"name":"v1.`+extensionGroup+`"},"spec":{"group":"`+extensionGroup+`","version":"v1",
			"insecureSkipTLSVerify":true,"groupPriorityMinimum":100,"versionPriority":100,"service":{"namespace":"{ns}","name":"extension","port":`+at.Port()+`}}}`))
	s.t.Cleanup(func() {
		s.tidy([]call{httpDelete("/apis/apiregistration.k8s.io/v1/apiservices/v1."+extensionGroup, "")})
	})
	s.eventually("the other API server is asked", func() error { return s.exists(extensionPath) })
	return &changes
}

// The decision that a webhook of somebody's own claims.
const (
	forgedDecision = "FORGEDFORGEDFORGEDFORGEDFO"
	forgedRecord   = `{"decision":"Deny","reason":"Rule","agents":["nobody"],"rules":["forged/rule"]}`
)

// forgeDecision registers, as a person, a webhook under the name of Holdfast's, which lets
// everything pass and says that Holdfast denied it.
func (s *scene) forgeDecision() {
	s.t.Helper()
	at, ca := tlsServer(s.t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = &admissionv1.AdmissionResponse{
			UID: review.Request.UID, Allowed: true, AuditAnnotations: map[string]string{"d-" + forgedDecision: forgedRecord},
		}
		review.Request = nil
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(review) // the API server has gone if this fails
	}))
	s.prepare(httpPost(validating, fmt.Sprintf(`{
		"metadata":{"name":"{ns}"},
		"webhooks":[{
			"name":"guard.holdfast.dev","sideEffects":"None","admissionReviewVersions":["v1"],"failurePolicy":"Fail",
			"clientConfig":{"url":%q,"caBundle":%q},
			"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"{ns}"}},
			"rules":[{"operations":["CREATE"],"apiGroups":[""],"apiVersions":["v1"],"resources":["configmaps"]}]
		}]}`, at, base64.StdEncoding.EncodeToString(ca))))
	s.t.Cleanup(func() { s.tidy([]call{httpDelete(validating+"/{ns}", "")}) })
	s.eventually("it is asked", func() error {
		probe := newDryConfigMap()
		a := s.send(s.person, probe)
		if !a.ok() {
			return errors.New(a.String())
		}
		return s.forgedIn(a)
	})
}

// forgedIn is nil if the audit log has the forged decision of a request.
func (s *scene) forgedIn(a answer) error {
	for _, r := range s.audit.decisions(s.t, a.auditID) {
		if r.ID == forgedDecision {
			return nil
		}
	}
	return fmt.Errorf("no forged decision of %s", a.auditID)
}
