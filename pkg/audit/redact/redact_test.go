package redact_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/holdfast-dev/holdfast/pkg/audit/redact"
)

// planted is what must not come out, in any of its forms.
const planted = "planted-value-4711"

var (
	planted64 = base64.StdEncoding.EncodeToString([]byte(planted))
	key       = bytes.Repeat([]byte{7}, redact.KeyMin)
)

func setup(t testing.TB) *redact.Redactor {
	t.Helper()
	r, err := redact.New(key)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// fill puts the planted value, its base64 and its digest into a template.
func fill(r *redact.Redactor, s string) string {
	return strings.NewReplacer("$P", planted, "$B", planted64, "$D", r.Digest([]byte(planted))).Replace(s)
}

func TestBodies(t *testing.T) {
	t.Parallel()
	const removed = "" // the body is gone
	r := setup(t)
	for _, tc := range []struct {
		name, resource, verb, body, want string
	}{
		{"Secret data", "secrets", "create", `{"kind":"Secret","data":{"p":"$B"}}`, `{"data":{"p":"$D"},"kind":"Secret"}`},
		{"Secret stringData, equal to data", "secrets", "create", `{"kind":"Secret","stringData":{"p":"$P"}}`, `{"kind":"Secret","stringData":{"p":"$D"}}`},
		{"data that is no map", "secrets", "create", `{"kind":"Secret","data":"$P"}`, `{"data":"$D","kind":"Secret"}`},
		{"unknown field", "secrets", "create", `{"kind":"Secret","datta":"$P"}`, `{"datta":"$D","kind":"Secret"}`},
		{"null value deletes", "secrets", "patch", `{"data":{"p":null}}`, `{"data":{"p":null}}`},
		{"metadata", "secrets", "create", `{"kind":"Secret","metadata":{"name":"n","labels":{"a":"b"},"annotations":{"x":"$P","kubernetes.io/service-account.name":"sa"},"managedFields":[{"x":"$P"}],"odd":"$P"}}`,
			`{"kind":"Secret","metadata":{"annotations":{"kubernetes.io/service-account.name":"sa","x":"$D"},"labels":{"a":"b"},"name":"n","odd":"$D"}}`},
		{"repeated key", "secrets", "create", `{"kind":"Secret","data":{"p":"$B"},"data":{}}`, `{"data":{},"kind":"Secret"}`},
		{"SecretList", "secrets", "list", `{"kind":"SecretList","items":[{"data":{"p":"$B"}}],"metadata":{"resourceVersion":"1"}}`,
			`{"items":[{"data":{"p":"$D"}}],"kind":"SecretList","metadata":{"resourceVersion":"1"}}`},
		{"Table with objects", "secrets", "list", `{"kind":"Table","columnDefinitions":[{"name":"Name"},{"name":"Odd"}],"rows":[{"cells":["n","$P"],"object":{"kind":"Secret","data":{"p":"$B"}}}]}`,
			`{"columnDefinitions":[{"name":"Name"},{"name":"Odd"}],"kind":"Table","rows":[{"cells":["n","$D"],"object":{"data":{"p":"$D"},"kind":"Secret"}}]}`},
		{"Status", "secrets", "create", `{"kind":"Status","message":"$P","reason":"Invalid","details":{"name":"s","causes":[{"field":"data[p]","message":"$P"}]}}`,
			`{"details":{"causes":[{"field":"data[p]","message":"$D"}],"name":"s"},"kind":"Status","message":"$D","reason":"Invalid"}`},
		{"Status that quotes nothing", "secrets", "get", `{"kind":"Status","message":"secrets \"s\" not found"}`, `{"kind":"Status","message":"secrets \"s\" not found"}`},
		{"merge patch", "secrets", "patch", `{"stringData":{"p":"$P"},"$$patch":"replace"}`, ``},
		{"JSON patch", "secrets", "patch", `[{"op":"add","path":"/data/p","value":"$B"},{"op":"test","path":"/stringData/p","value":"$P"},{"op":"add","path":"/metadata/labels/a","value":"b"}]`,
			`[{"op":"add","path":"/data/p","value":"$D"},{"op":"test","path":"/stringData/p","value":"$D"},{"op":"add","path":"/metadata/labels/a","value":"b"}]`},
		{"JSON patch of the whole", "secrets", "patch", `[{"op":"replace","path":"/data","value":{"p":"$B"}}]`, `[{"op":"replace","path":"/data","value":{"p":"$D"}}]`},
		{"patch that is neither", "secrets", "patch", `"$P"`, removed},
		{"unknown kind", "secrets", "create", `{"kind":"ConfigMap","data":{"p":"$P"}}`, removed},
		{"no kind", "secrets", "create", `{"data":{"p":"$P"}}`, removed},
		{"array", "secrets", "create", `[{"data":{"p":"$P"}}]`, removed},
		{"TokenRequest", "serviceaccounts/token", "create", `{"kind":"TokenRequest","spec":{"audiences":["a"]},"status":{"token":"$P","expirationTimestamp":"x"}}`,
			`{"kind":"TokenRequest","spec":{"audiences":["a"]},"status":{"expirationTimestamp":"x","token":"$D"}}`},
		{"TokenReview", "tokenreviews", "create", `{"kind":"TokenReview","spec":{"token":"$P"},"status":{"authenticated":true}}`,
			`{"kind":"TokenReview","spec":{"token":"$D"},"status":{"authenticated":true}}`},
		{"CSR", "certificatesigningrequests", "create", `{"kind":"CertificateSigningRequest","spec":{"request":"$P","signerName":"s"},"status":{"certificate":"$P"}}`,
			`{"kind":"CertificateSigningRequest","spec":{"request":"$D","signerName":"s"},"status":{"certificate":"$D"}}`},
		{"List of kinds", "foos", "create", `{"kind":"List","items":[{"kind":"Secret","data":{"p":"$B"}},{"kind":"Pod","x":1}]}`,
			`{"items":[{"data":{"p":"$D"},"kind":"Secret"},{"kind":"Pod","x":1}],"kind":"List"}`},
		{"embedded manifest", "foos", "create", `{"kind":"Foo","spec":{"template":{"kind":"Secret","stringData":{"p":"$P"}}}}`,
			`{"kind":"Foo","spec":{"template":{"kind":"Secret","stringData":{"p":"$D"}}}}`},
		{"last applied", "foos", "create", `{"kind":"Foo","metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"kind\":\"Secret\",\"data\":{\"p\":\"$B\"}}"}}}`,
			`{"kind":"Foo","metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{\"data\":{\"p\":\"$D\"},\"kind\":\"Secret\"}"}}}`},
		{"escaped kind in a string", "foos", "create", `{"kind":"Foo","x":"{\"kind\":\"\\u0053ecret\",\"data\":{\"p\":\"$B\"}}"}`,
			`{"kind":"Foo","x":"{\"data\":{\"p\":\"$D\"},\"kind\":\"Secret\"}"}`},
		{"escaped kind", "foos", "create", `{"kind":"\u0053ecret","data":{"p":"$B"}}`, `{"data":{"p":"$D"},"kind":"Secret"}`},
		{"repeated kind", "foos", "create", `{"kind":"Secret","data":{"p":"$B"},"kind":"Secret"}`, `{"data":{"p":"$D"},"kind":"Secret"}`},
		{"reference", "foos", "create", `{"kind":"Foo","ref":{"kind":"Secret","name":"n","namespace":"s"}}`, `{"kind":"Foo","ref":{"kind":"Secret","name":"n","namespace":"s"}}`},
		{"patch that embeds", "foos", "patch", `[{"op":"add","path":"/spec","value":{"kind":"Secret","data":{"p":"$B"}}}]`,
			`[{"op":"add","path":"/spec","value":{"data":{"p":"$D"},"kind":"Secret"}}]`},
		{"nothing to do", "pods", "create", `{"kind":"Pod", "spec":{"nodeName":"x"}}`, `{"kind":"Pod", "spec":{"nodeName":"x"}}`},
		{"numbers stay", "foos", "create", `{"kind":"Foo","n":1e400000,"x":"Secret"}`, `{"kind":"Foo","n":1e400000,"x":"Secret"}`},
	} {
		if tc.name == "merge patch" {
			tc.body = `{"stringData":{"p":"` + planted + `"},"$patch":"replace"}`
			tc.want = `{"$patch":"` + r.Digest([]byte("replace")) + `","stringData":{"p":"` + r.Digest([]byte(planted)) + `"}}`
		}
		resource, sub, _ := strings.Cut(tc.resource, "/")
		for _, field := range []string{"request", "response"} {
			if field == "response" && tc.verb == "patch" {
				continue
			}
			ev := &auditv1.Event{Verb: tc.verb, ObjectRef: &auditv1.ObjectReference{Resource: resource, Subresource: sub}}
			body := &runtime.Unknown{Raw: []byte(fill(r, tc.body)), ContentType: runtime.ContentTypeJSON}
			at := &ev.RequestObject
			if field == "response" {
				at = &ev.ResponseObject
			}
			*at = body
			report := r.Event(ev)
			got := ""
			if *at != nil {
				got = string((*at).Raw)
			}
			if want := fill(r, tc.want); got != want {
				t.Errorf("%s, %s:\n got %s\nwant %s", tc.name, field, got, want)
			}
			if tc.want == removed && (len(report.Removed) != 1 || report.Removed[0] != field+"Object: not understood") {
				t.Errorf("%s, %s: removed: got %q", tc.name, field, report.Removed)
			}
		}
	}
}

func TestYAMLInStrings(t *testing.T) {
	t.Parallel()
	r := setup(t)
	for _, manifest := range []string{
		"apiVersion: v1\nkind: Secret\nstringData:\n  p: $P\n",
		"kind: \"Secret\"\nstringData: {p: $P}",
		"- kind:   'Secret'\n  stringData: {p: $P}",
		"kind: >-\n  Secret\nstringData: {p: $P}",
		`see {"kind":"Secret","stringData":{"p":"$P"}}`,
		`{"kind":"Secret","stringData":{"p":"$P"}}{"kind":"Pod"}`,
		`{"kind":"Secret","stringData":{"p":"$P"`,
		`{"a":"{\"kind\":\"Secret\",\"stringData\":{\"p\":\"$P\"}}"}`,
	} {
		text, err := json.Marshal(fill(r, manifest))
		if err != nil {
			t.Fatal(err)
		}
		ev := &auditv1.Event{
			Verb: "create", ObjectRef: &auditv1.ObjectReference{Resource: "foos"},
			RequestObject: &runtime.Unknown{Raw: []byte(`{"kind":"Foo","spec":{"manifest":` + string(text) + `}}`)},
		}
		r.Event(ev)
		if got := string(ev.RequestObject.Raw); strings.Contains(got, planted) {
			t.Errorf("%s:\n got %s", manifest, got)
		}
	}
}

func TestMetadata(t *testing.T) {
	t.Parallel()
	r := setup(t)
	secret := &auditv1.ObjectReference{Resource: "secrets", Name: "s"}
	for _, tc := range []struct {
		name string
		ref  *auditv1.ObjectReference
		in   auditv1.Event
		want auditv1.Event
	}{
		{
			"exec", &auditv1.ObjectReference{Resource: "pods", Subresource: "exec"},
			auditv1.Event{RequestURI: "/exec?command=$P&container=c&%63ommand=$P&stdin=true"},
			auditv1.Event{RequestURI: "/exec?command=$D&container=c&%63ommand=$D&stdin=true"},
		}, {
			"proxied service", &auditv1.ObjectReference{Resource: "services", Subresource: "proxy"},
			auditv1.Event{RequestURI: "/proxy?q=$P"}, auditv1.Event{RequestURI: "/proxy?q=$D"},
		}, {
			"broken query", nil,
			auditv1.Event{RequestURI: "/x?%zz=$P&a=b&token=$P&c"}, auditv1.Event{RequestURI: "/x?%zz=$D&a=b&token=$D&c"},
		}, {
			"message about a Secret", secret,
			auditv1.Event{ResponseStatus: &metav1.Status{Message: "$P"}}, auditv1.Event{ResponseStatus: &metav1.Status{Message: "$D"}},
		}, {
			"our own message about a Secret", secret,
			auditv1.Event{ResponseStatus: &metav1.Status{Message: `admission webhook "guard.holdfast.dev" denied the request: no`}},
			auditv1.Event{ResponseStatus: &metav1.Status{Message: `admission webhook "guard.holdfast.dev" denied the request: no`}},
		}, {
			"RBAC's message about a Secret", secret,
			auditv1.Event{ResponseStatus: &metav1.Status{Message: `secrets "s" is forbidden: User "bot" cannot get resource "secrets" in API group "" in the namespace "n"`}},
			auditv1.Event{ResponseStatus: &metav1.Status{Message: `secrets "s" is forbidden: User "bot" cannot get resource "secrets" in API group "" in the namespace "n"`}},
		}, {
			"the authorizer's message about a Secret", secret,
			auditv1.Event{ResponseStatus: &metav1.Status{Message: `users "human" is forbidden: User "bot" cannot impersonate resource "users" in API group "" at the cluster scope: agent bot may not impersonate users "human": no [authorizer.holdfast.dev ID Deny Rule agents=bot mac=x]`}},
			auditv1.Event{ResponseStatus: &metav1.Status{Message: `users "human" is forbidden: User "bot" cannot impersonate resource "users" in API group "" at the cluster scope: agent bot may not impersonate users "human": no [authorizer.holdfast.dev ID Deny Rule agents=bot mac=x]`}},
		}, {
			"annotations of a Secret's event", secret,
			auditv1.Event{Annotations: map[string]string{"other/x": "$P", "authorization.k8s.io/decision": "allow"}},
			auditv1.Event{Annotations: map[string]string{"other/x": "$D", "authorization.k8s.io/decision": "allow"}},
		}, {
			"patch of a webhook", secret,
			auditv1.Event{Annotations: map[string]string{"patch.webhook.admission.k8s.io/round_0_index_0": `{"configuration":"c","webhook":"w","patch":[{"op":"add","path":"/data/p","value":"$B"}],"patchType":"JSONPatch"}`}},
			auditv1.Event{Annotations: map[string]string{"patch.webhook.admission.k8s.io/round_0_index_0": `{"configuration":"c","webhook":"w","patch":[{"op":"add","path":"/data/p","value":"$D"}],"patchType":"JSONPatch"}`}},
		}, {
			"decoder that quotes", &auditv1.ObjectReference{Resource: "foos"},
			auditv1.Event{ResponseStatus: &metav1.Status{Message: `v1.Secret.Data: error found in #10 byte of ...|$P|..., bigger context ...|$P|...`}},
			auditv1.Event{},
		}, {
			"value of an embedded Secret in a message", &auditv1.ObjectReference{Resource: "foos"},
			auditv1.Event{
				RequestObject:  &runtime.Unknown{Raw: []byte(`{"kind":"Foo","t":{"kind":"Secret","stringData":{"p":"` + planted + `"}}}`)},
				ResponseStatus: &metav1.Status{Message: `spec.t: Invalid value: "$P"`},
			},
			auditv1.Event{ResponseStatus: &metav1.Status{Message: `spec.t: Invalid value: "$D"`}},
		},
	} {
		ev := tc.in
		ev.ObjectRef = tc.ref
		ev.RequestURI = fill(r, ev.RequestURI)
		for k, v := range ev.Annotations {
			ev.Annotations[k] = fill(r, v)
		}
		if ev.ResponseStatus != nil {
			ev.ResponseStatus.Message = fill(r, ev.ResponseStatus.Message)
		}
		r.Event(&ev)
		all, err := json.Marshal(ev)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(all, []byte(planted)) || bytes.Contains(all, []byte(planted64)) {
			t.Errorf("%s: planted value in %s", tc.name, all)
		}
		if want := fill(r, tc.want.RequestURI); ev.RequestURI != want {
			t.Errorf("%s: got %s, want %s", tc.name, ev.RequestURI, want)
		}
		for k, v := range tc.want.Annotations {
			if want := fill(r, v); ev.Annotations[k] != want {
				t.Errorf("%s: got %s, want %s", tc.name, ev.Annotations[k], want)
			}
		}
		if tc.want.ResponseStatus != nil {
			if want := fill(r, tc.want.ResponseStatus.Message); ev.ResponseStatus.Message != want {
				t.Errorf("%s: got %s, want %s", tc.name, ev.ResponseStatus.Message, want)
			}
		}
	}
}

// TestDecisionsStayReadable: an agent must not make Holdfast's record unreadable by choosing
// its words as the value of a Secret.
func TestDecisionsStayReadable(t *testing.T) {
	t.Parallel()
	r := setup(t)
	const key, value = "guard.holdfast.dev/d-X", `{"decision":"Deny","reason":"Rule"}`
	ev := &auditv1.Event{
		Verb: "create", ObjectRef: &auditv1.ObjectReference{Resource: "secrets"}, Annotations: map[string]string{key: value},
		RequestURI:    "/api/v1/namespaces/decision/secrets",
		RequestObject: &runtime.Unknown{Raw: []byte(`{"kind":"Secret","stringData":{"a":"Deny","b":"decision","c":"Rule"}}`)},
	}
	r.Event(ev, key)
	if got := ev.Annotations[key]; got != value {
		t.Errorf("annotation: got %s, want %s", got, value)
	}
	if got := ev.RequestURI; got != "/api/v1/namespaces/decision/secrets" {
		t.Errorf("URI: got %s", got)
	}
}

// TestMessageLikeTheAuthorizers: what only ends like the authorizer's message is not kept.
func TestMessageLikeTheAuthorizers(t *testing.T) {
	t.Parallel()
	r := setup(t)
	const said = `hunter2hunter2: agent bot may not [authorizer.holdfast.dev ID Deny Rule]`
	ev := &auditv1.Event{
		Verb: "create", ObjectRef: &auditv1.ObjectReference{Resource: "secrets"},
		ResponseStatus: &metav1.Status{Message: said},
	}
	r.Event(ev)
	if got := ev.ResponseStatus.Message; got != r.Digest([]byte(said)) {
		t.Errorf("got %s, want its digest", got)
	}
}

// TestForgedDecisions: somebody else's webhook must not carry a Secret's value past redaction
// under the name of a decision.
func TestForgedDecisions(t *testing.T) {
	t.Parallel()
	r := setup(t)
	const key, value = "guard.holdfast.dev/d-X", `{"decision":"Deny","reason":"hunter2hunter2","rules":["hunter2hunter2"]}`
	for resource, want := range map[string]string{
		"secrets": `{"decision":"Deny","reason":""}`,
		"pods":    value, // nothing says that it is a Secret's
	} {
		ev := &auditv1.Event{
			Verb: "create", ObjectRef: &auditv1.ObjectReference{Resource: resource}, Annotations: map[string]string{key: value},
			RequestObject: &runtime.Unknown{Raw: []byte(`{"kind":"Secret","stringData":{"a":"hunter2hunter2"}}`)},
		}
		r.Event(ev, "guard.holdfast.dev/d-Y")
		if got := ev.Annotations[key]; resource == "secrets" && got != want || resource == "pods" && !strings.Contains(got, `"decision":"Deny"`) {
			t.Errorf("%s: got %s, want %s", resource, got, want)
		}
	}
}

func TestControl(t *testing.T) {
	t.Parallel()
	r, err := redact.NewUnsafe(key)
	if err != nil {
		t.Fatal(err)
	}
	ev := &auditv1.Event{ObjectRef: &auditv1.ObjectReference{Resource: "secrets"}, RequestObject: &runtime.Unknown{Raw: []byte(planted)}}
	r.Event(ev)
	if string(ev.RequestObject.Raw) != planted {
		t.Errorf("got %s, want what was put in", ev.RequestObject.Raw)
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	if _, err := redact.New(make([]byte, 31)); err == nil {
		t.Error("31 bytes: got no error")
	}
	a, b := setup(t), setup(t)
	if a.Digest([]byte("x")) != b.Digest([]byte("x")) || a.Digest([]byte("x")) == a.Digest([]byte("y")) {
		t.Error("digests: want equal for equal values and keys, unlike for unlike")
	}
	other, err := redact.New(bytes.Repeat([]byte{8}, 32))
	if err != nil {
		t.Fatal(err)
	}
	if a.KeyID() == other.KeyID() || a.Digest([]byte("x"))[14:] == other.Digest([]byte("x"))[14:] {
		t.Error("another key: want other digests")
	}
}

func TestMask(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		`{"kind":"Secret","data":{"p":"x"},"n":12,"b":true`: `{"kind":"******","****":{"*":"*"},"*":??,"*":????`,
		`{"kind":"EventList","items":[{"auditID":"a"}]}`:    `{"kind":"EventList","items":[{"auditID":"*"}]}`,
		`plain text`: `????? ????`,
		`"open\"`:    `"******`,
		`"kind`:      `"****`,
		"":           "",
	} {
		if got := string(redact.Mask([]byte(in), 100)); got != want {
			t.Errorf("%s:\n got %s\nwant %s", in, got, want)
		}
	}
	if got := redact.Mask(bytes.Repeat([]byte("a"), 100), 10); len(got) != 10 {
		t.Errorf("got %d bytes, want 10", len(got))
	}
}

// FuzzEvent puts the planted value where the template has $P or $B and says that neither
// comes out of a Secret, whatever the rest is.
func FuzzEvent(f *testing.F) {
	for _, s := range []string{
		`{"kind":"Secret","data":{"p":"$B"}}`, `{"kind":"SecretList","items":[{"stringData":{"p":"$P"}}]}`,
		`[{"op":"add","path":"/data/p","value":"$B"}]`, `{"kind":"Table","rows":[{"cells":["$P"]}]}`,
		`{"kind":"Status","message":"$P"}`, `"$P"`, `[[["$P"]]]`, `{"data":{"$$":"$P"}}`, `nonsense $P`,
		`{"kind":"Secret","metadata":{"annotations":{"a":"$P"}},"x":[{"y":"$P"}]}`,
	} {
		f.Add(s, "create", "/api?command=$P", "$P")
		f.Add(s, "patch", "/api?x=1", "not found")
	}
	r := setup(f)
	f.Fuzz(func(t *testing.T, body, verb, uri, message string) {
		if strings.Contains(body+verb+uri+message, planted[3:12]) || !json.Valid([]byte(fill(r, body))) {
			return
		}
		ev := &auditv1.Event{
			Verb: verb, RequestURI: uri, ObjectRef: &auditv1.ObjectReference{Resource: "secrets"},
			RequestObject:  &runtime.Unknown{Raw: []byte(fill(r, body)), ContentType: runtime.ContentTypeJSON},
			ResponseObject: &runtime.Unknown{Raw: []byte(fill(r, body)), ContentType: runtime.ContentTypeJSON},
			ResponseStatus: &metav1.Status{Message: fill(r, message)},
			Annotations:    map[string]string{"x": fill(r, message), "patch.webhook.admission.k8s.io/x": fill(r, body)},
		}
		r.Event(ev)
		out := []byte(ev.ResponseStatus.Message + ev.Annotations["x"] + ev.Annotations["patch.webhook.admission.k8s.io/x"])
		for _, u := range []*runtime.Unknown{ev.RequestObject, ev.ResponseObject} {
			if u == nil {
				continue
			}
			if !json.Valid(u.Raw) {
				t.Fatalf("not JSON: %s", u.Raw)
			}
			out = append(out, u.Raw...)
		}
		// A field's name, a path and the fields that a Secret shows may be anything; what is
		// asked for is that no value comes out.
		if leaks(body) && (bytes.Contains(out, []byte(planted)) || bytes.Contains(out, []byte(planted64))) {
			t.Fatalf("leaked: %s -> %s", body, out)
		}
	})
}

// leaks reports whether a template has its values only where values belong.
func leaks(template string) bool {
	var v any
	if json.Unmarshal([]byte(template), &v) != nil {
		return false
	}
	return onlyValues(v, "")
}

// shown are the fields whose content is not a value of a Secret.
var shown = map[string]bool{
	"apiVersion": true, "kind": true, "type": true, "labels": true, "name": true, "generateName": true,
	"namespace": true, "uid": true, "resourceVersion": true, "generation": true, "creationTimestamp": true,
	"deletionTimestamp": true, "deletionGracePeriodSeconds": true, "selfLink": true, "finalizers": true,
	"ownerReferences": true, "immutable": true, "path": true, "op": true, "from": true, "field": true,
	"reason": true, "status": true, "code": true, "columnDefinitions": true, "conditions": true, "cells": true,
	"preconditions": true, "dryRun": true, "propagationPolicy": true, "orphanDependents": true,
	"gracePeriodSeconds": true, "group": true, "retryAfterSeconds": true, "message": true,
	"value": true, "configuration": true, "webhook": true, "patchType": true,
}

func onlyValues(v any, field string) bool {
	switch v := v.(type) {
	case string:
		return !shown[field] || !strings.Contains(v, "$")
	case []any:
		for _, c := range v {
			if !onlyValues(c, field) {
				return false
			}
		}
	case map[string]any:
		for k, c := range v {
			if strings.Contains(k, "$") {
				return false
			}
			if shown[field] {
				k = field
			}
			if !onlyValues(c, k) {
				return false
			}
		}
	}
	return true
}

// FuzzMask says that a value never passes a mask, wherever it stands.
func FuzzMask(f *testing.F) {
	f.Add(`{"kind":"`, `"}`)
	f.Add(`\"`, `\\"`)
	f.Add(``, ``)
	f.Fuzz(func(t *testing.T, before, after string) {
		out := redact.Mask([]byte(before+planted+after), redact.PrefixMax)
		if bytes.Contains(out, []byte("planted")) || bytes.Contains(out, []byte("4711")) {
			t.Fatalf("leaked: %s", out)
		}
	})
}
