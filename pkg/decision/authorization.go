package decision

import (
	"crypto/hmac"
	"fmt"
	"strings"
)

// The annotations in which the API server keeps what its authorizers said. The reason of a
// request that no authorizer allowed joins what each of them said.
const (
	AuthorizationDecision = "authorization.k8s.io/decision"
	AuthorizationReason   = "authorization.k8s.io/reason"
)

// What the record of an authorizer's decision stands between, at the end of its reason.
const (
	reasonBegin = " [" + AuthorizerWebhook + " "
	reasonEnd   = "]"
)

// maxReasonRules bounds the rules that a reason names, in bytes: the client sees them, too.
const maxReasonRules = 1024

// macField is the last of a reason's fields: the code over those before it.
const macField = " mac="

// AuthorizationReason is the reason that an authorizer gives for a decision: a sentence for
// people, and the record behind it in brackets, with a code over it. An Allow's is for the
// audit event alone; a Deny's reaches the client.
func (k *Key) AuthorizationReason(r Record, sentence string) string {
	fields := []string{r.ID, r.Decision, string(r.Reason)}
	for _, list := range []struct {
		name  string
		names []string
	}{{"request", present(r.AccessRequest)}, {"agents", r.Agents}, {"rules", r.Rules}, {"observed", r.Observed}} {
		if len(list.names) > 0 {
			fields = append(fields, list.name+"="+joined(list.names))
		}
	}
	text := strings.Join(fields, " ")
	if k != nil {
		text += macField + k.mac(AuthorizerWebhook, text)
	}
	return sentence + reasonBegin + text + reasonEnd
}

func present(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// signedReason says whether the record in a reason has the code that this Key makes for it.
func (k *Key) signedReason(reason string) bool {
	text, ok := recordIn(reason)
	at := strings.LastIndex(text, macField)
	return ok && at >= 0 && hmac.Equal([]byte(text[at+len(macField):]), []byte(k.mac(AuthorizerWebhook, text[:at])))
}

// recordIn is the text of the record at the end of a reason. The sentence before it can quote
// what the client sent, so that only the end counts.
func recordIn(reason string) (text string, ok bool) {
	at := strings.LastIndex(reason, reasonBegin)
	text, ok = strings.CutSuffix(reason, reasonEnd)
	if at < 0 || !ok {
		return "", false
	}
	return text[at+len(reasonBegin):], true
}

// joined joins names, none of which has a comma, as far as there is room for them.
func joined(names []string) string {
	length := 0
	for i, name := range names {
		length += len(name) + 1
		if length > maxReasonRules {
			return strings.Join(append(names[:i:i], "..."), ",")
		}
	}
	return strings.Join(names, ",")
}

// ParseAuthorizationReason reads the record that AuthorizationReason wrote. It returns
// ErrNotDecision where there is none, and another error where there is one that it does not
// understand. The record is a claim; Key.Signed tells whether to believe it.
func ParseAuthorizationReason(reason string) (Record, error) {
	text, ok := recordIn(reason)
	if !ok {
		return Record{}, ErrNotDecision
	}
	fields := strings.Fields(text)
	if len(fields) < 3 {
		return Record{}, fmt.Errorf("authorization reason: want an ID, a decision and a reason, got %d words", len(fields))
	}
	if _, err := ParseAction(fields[1]); err != nil {
		return Record{}, fmt.Errorf("authorization reason: %w", err)
	}
	r := Record{Webhook: AuthorizerWebhook, ID: fields[0], Decision: fields[1], Reason: Reason(fields[2])}
	for _, field := range fields[3:] {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "request":
			r.AccessRequest = value
		case "agents":
			r.Agents = split(value, &r)
		case "rules":
			r.Rules = split(value, &r)
		case "observed":
			r.Observed = split(value, &r)
		}
	}
	return r, nil
}

func split(value string, r *Record) []string {
	names := strings.Split(value, ",")
	if names[len(names)-1] == "..." {
		r.Truncated = true
		names = names[:len(names)-1]
	}
	return names
}
