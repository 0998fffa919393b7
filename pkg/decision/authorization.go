package decision

import (
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

// AuthorizationReason is the reason that an authorizer gives for a decision: a sentence for
// people, and the record behind it in brackets. An Allow's is for the audit event alone; a
// Deny's reaches the client.
func (r Record) AuthorizationReason(sentence string) string {
	fields := []string{r.ID, r.Decision, string(r.Reason)}
	if r.AccessRequest != "" {
		fields = append(fields, "request="+r.AccessRequest)
	}
	if len(r.Agents) > 0 {
		fields = append(fields, "agents="+joined(r.Agents))
	}
	if len(r.Rules) > 0 {
		fields = append(fields, "rules="+joined(r.Rules))
	}
	if len(r.Observed) > 0 {
		fields = append(fields, "observed="+joined(r.Observed))
	}
	return sentence + reasonBegin + strings.Join(fields, " ") + reasonEnd
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
// understand. The record is a claim.
func ParseAuthorizationReason(reason string) (Record, error) {
	// The sentence can quote what the client sent, so that only the end counts.
	at := strings.LastIndex(reason, reasonBegin)
	text, ok := strings.CutSuffix(reason, reasonEnd)
	if at < 0 || !ok {
		return Record{}, ErrNotDecision
	}
	fields := strings.Fields(text[at+len(reasonBegin):])
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
