package e2e

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os/exec"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// Sizes of the flood.
const (
	floodEvents = 200
	floodLeases = 100
	floodHeld   = 60
	// agentCap is how many requests of one agent may wait for people at the same time.
	agentCap = 20
)

// loadThreats are many requests at once, retries, and others who have a say.
func loadThreats() []Threat {
	return []Threat{
		{
			ID: "T65", Title: "flood of Events, Leases, or held requests", Verdict: Effect,
			Effect: "Holdfast and the API server stay up for others; a cap on pending requests per agent",
			Off: func(s *scene) {
				held := s.flood()
				for _, a := range held {
					if !a.ok() {
						s.t.Fatalf("the control failed: %s", a)
					}
				}
				if made := s.made("flood-"); made != floodHeld {
					s.t.Errorf("%d exist, want %d", made, floodHeld)
				}
			},
			On: flooded,
		},
		{
			ID: "T68", Title: "eleven client retries of one held request", Verdict: Effect, Effect: "one AccessRequest",
			Off: func(s *scene) {
				s.prepare(newConfigMap("victim"))
				if out, err := s.kubectl("delete", "configmap", "victim"); err != nil {
					s.t.Fatalf("the control failed: %v %s", err, out)
				}
				s.eventually("it is gone", func() error { return objectGone(configMaps+"/victim")(s, answer{}) })
			},
			On: retried,
		},
		{
			ID: "T69", Title: "a later mutating webhook changes the object", Verdict: Effect, Effect: "the final object is judged",
			Off: func(s *scene) {
				s.mutate()
				s.succeed(podFor("pin", ""))
				s.eventually("it was changed on its way", func() error { return fieldIs(pods+"/pin", "spec.nodeName", "control-plane")(s, answer{}) })
			},
			On: func(s *scene) {
				s.mutate()
				s.expect(s.attempt(podFor("pin", "")), Denied, denyNodeName)
				if err := s.exists(pods + "/pin"); err == nil {
					s.t.Error("it was denied and is there")
				}
				// And the other way round: what is denied as it is sent passes as it is stored.
				s.expect(s.attempt(podFor("unpin", `"nodeName":"control-plane",`)), Allowed, "")
				if err := fieldIs(pods+"/unpin", "spec.nodeName", nil)(s, answer{}); err != nil {
					s.t.Error(err)
				}
				s.expect(s.attempt(podFor("neither", `"nodeName":"control-plane",`)), Denied, denyNodeName)
			},
		},
	}
}

// flood sends many writes at once, as the agent, and returns the answers to those that the
// baseline holds.
func (s *scene) flood() (held []answer) {
	s.t.Helper()
	mine := make(chan call, floodEvents+floodLeases)
	for i := range floodEvents {
		mine <- httpPost("/api/v1/namespaces/{ns}/events", fmt.Sprintf(
			`{"metadata":{"name":"flood-%d"},"involvedObject":{"kind":"Pod","namespace":"{ns}","name":"x"},"reason":"Flood","message":"m","type":"Normal"}`, i))
	}
	for i := range floodLeases {
		mine <- httpPost("/apis/coordination.k8s.io/v1/namespaces/{ns}/leases", fmt.Sprintf(`{"metadata":{"name":"flood-%d"},"spec":{"holderIdentity":"x"}}`, i))
	}
	close(mine)
	runs := make(chan call, floodHeld)
	for i := range floodHeld {
		runs <- httpPost(runners, runnerBody("v1", fmt.Sprintf("flood-%d", i), templateSpec(podSpec(""))))
	}
	close(runs)
	others := make(chan []answer)
	go func() {
		others <- s.atOnce(10, func() answer {
			for c := range mine {
				if a := s.attempt(c); !a.ok() {
					return a
				}
			}
			return answer{code: http.StatusOK}
		})
	}()
	answers := make(chan answer, floodHeld)
	s.atOnce(20, func() (last answer) {
		for c := range runs {
			last = s.attempt(c)
			answers <- last
		}
		return last
	})
	close(answers)
	for a := range answers {
		held = append(held, a)
	}
	for _, a := range <-others {
		if !a.ok() {
			s.t.Errorf("a write that nothing holds: %s", a)
		}
	}
	return held
}

func flooded(s *scene) {
	stop, people := make(chan struct{}), make(chan error, 1)
	go func() { people <- s.writeAsPerson(stop) }()
	held := s.flood()
	close(stop)
	if err := <-people; err != nil {
		s.t.Errorf("a person's write during the flood: %v", err)
	}
	refused := 0
	for _, a := range held {
		switch {
		case a.code == http.StatusTooManyRequests && a.heldAs() != "":
		case a.code == http.StatusForbidden && a.retryAfter() == 0 && strings.Contains(a.status.Message, "too many"):
			refused++
		default:
			s.t.Errorf("held, or one too many: %s", a)
		}
	}
	pending := 0
	for _, r := range s.requests() {
		if r.Status.Phase == v1alpha1.Pending || r.Status.Phase == "" {
			pending++
		}
	}
	if pending > agentCap || pending == 0 || refused < floodHeld-agentCap {
		s.t.Errorf("%d wait for people and %d of %d were one too many; want %d at most to wait", pending, refused, floodHeld, agentCap)
	}
	if made := s.made("flood-"); made != 0 {
		s.t.Errorf("%d that should be held exist", made)
	}
	// There is room for another agent's.
	s.name = "t65-other"
	s.agent = s.declare(s.name, "human")
	a := s.attempt(httpPost(runners, runnerBody("v1", "other", templateSpec(podSpec("")))))
	s.expect(a, Held, holdCustom)
	s.accessRequest(a)
}

// writeAsPerson writes until it is told to stop, and returns the first error. A write that
// takes longer than five seconds is one.
func (s *scene) writeAsPerson(stop <-chan struct{}) error {
	for i := 0; ; i++ {
		select {
		case <-stop:
			if i == 0 {
				return errors.New("there was no time for any")
			}
			return nil
		default:
		}
		began := time.Now()
		if a := s.send(s.person, newConfigMap(fmt.Sprintf("person-%d", i))); !a.ok() {
			return errors.New(a.String())
		}
		if took := time.Since(began); took > 5*time.Second {
			return fmt.Errorf("took %s", took)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// kubectl runs the real kubectl as the scene's agent, and notes what it changed.
func (s *scene) kubectl(args ...string) (string, error) {
	s.t.Helper()
	began := time.Now()
	out, err := exec.CommandContext(s.t.Context(), s.c.info.Kubectl, append([]string{"--kubeconfig", s.kubeconfig()}, args...)...).CombinedOutput()
	for _, e := range s.audit.find(s.t, func(e *auditv1.Event) bool {
		return e.User.Username == s.user() && strings.HasPrefix(e.UserAgent, "kubectl") && e.RequestReceivedTimestamp.After(began)
	}) {
		if e.ResponseStatus != nil && e.Verb != "get" && e.Verb != "list" && e.Verb != "watch" {
			s.note(string(e.AuditID), int(e.ResponseStatus.Code))
		}
	}
	return string(out), err
}

// retried lets kubectl retry until it gives up.
func retried(s *scene) {
	s.prepare(newConfigMap("victim"))
	out, err := s.kubectl("delete", "configmap", "victim")
	if err == nil || !strings.Contains(out, "it waits for approval") {
		s.t.Errorf("want a refusal that says what it waits for: %v %s", err, out)
	}
	deletes := s.audit.find(s.t, func(e *auditv1.Event) bool {
		return e.Verb == "delete" && e.User.Username == s.user() && e.ObjectRef != nil && e.ObjectRef.Namespace == s.ns && e.ObjectRef.Name == "victim"
	})
	if len(deletes) != 11 {
		s.t.Errorf("kubectl asked %d times, want 11", len(deletes))
	}
	s.onlyRequests(v1alpha1.Pending)
	s.mustExist(configMaps + "/victim")
}

func podFor(name, more string) call {
	return httpPost(pods, fmt.Sprintf(`{"metadata":{"name":%[1]q,"labels":{"do":%[1]q}},"spec":%[2]s}`, name, podSpec(more)))
}

// mutate registers a webhook that pins pods with the label do=pin to a node, and unpins
// those with do=unpin; it returns once the API server calls it.
func (s *scene) mutate() {
	s.t.Helper()
	url, ca := tlsServer(s.t, http.HandlerFunc(pinPods))
	s.prepare(httpPost("/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations", fmt.Sprintf(`{
		"metadata":{"name":"{ns}"},
		"webhooks":[{
			"name":"pins.threats.example.com","sideEffects":"None","admissionReviewVersions":["v1"],"failurePolicy":"Fail",
			"clientConfig":{"url":%q,"caBundle":%q},
			"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"{ns}"}},
			"rules":[{"operations":["CREATE"],"apiGroups":[""],"apiVersions":["v1"],"resources":["pods"]}]
		}]}`, url, base64.StdEncoding.EncodeToString(ca))))
	s.t.Cleanup(func() {
		// After the test its context has ended.
		_ = s.c.kubectl(s.t, human, "delete", "mutatingwebhookconfiguration", s.ns)
	})
	probe := podFor("pin", "")
	probe.path += "?dryRun=All"
	s.eventually("the webhook is called", func() error {
		a := s.send(s.person, probe)
		if got := fieldOf(a.object(), "spec.nodeName"); got != "control-plane" {
			return fmt.Errorf("nodeName %v: %s", got, a)
		}
		return nil
	})
}

func pinPods(w http.ResponseWriter, r *http.Request) {
	var review admissionv1.AdmissionReview
	var pod struct{ Metadata metav1.ObjectMeta }
	if err := errors.Join(json.NewDecoder(r.Body).Decode(&review), json.Unmarshal(review.Request.Object.Raw, &pod)); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	patch := ""
	switch pod.Metadata.Labels["do"] {
	case "pin":
		patch = `[{"op":"add","path":"/spec/nodeName","value":"control-plane"}]`
	case "unpin":
		patch = `[{"op":"remove","path":"/spec/nodeName"}]`
	}
	kind := admissionv1.PatchTypeJSONPatch
	review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	if patch != "" {
		review.Response.Patch, review.Response.PatchType = []byte(patch), &kind
	}
	review.Request = nil
	w.Header().Set("Content-Type", "application/json")
	// The API server has gone if this fails.
	_ = json.NewEncoder(w).Encode(review)
}
