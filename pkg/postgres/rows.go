package postgres

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"
	"unicode/utf8"

	authnv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/holdfast-dev/holdfast/pkg/audit"
)

// maxIndexed bounds a column that is in an index, in bytes. An entry of a btree has at most
// 2,704, and a name in a URL can be as long as a URL; the largest index has three such columns.
const maxIndexed = 512

// row is one event on its way into the tables.
type row struct {
	event      *auditv1.Event
	record     *audit.Record
	apiServer  string
	receivedAt time.Time
	digest     []byte
	overlong   map[string]string
}

// eventColumns are the columns of audit_events, in the order of eventValues.
var eventColumns = []string{
	"stage_timestamp", "event_digest", "api_server", "audit_id", "stage", "level",
	"request_received_timestamp", "received_at", "verb", "request_uri",
	"username", "user_uid", "user_groups", "user_extra",
	"impersonated_username", "impersonated_user_uid", "impersonated_user_groups",
	"impersonated_user_extra", "impersonation_constraint",
	"source_ips", "user_agent",
	"api_group", "api_version", "resource", "subresource", "namespace", "name", "object_uid",
	"object_resource_version",
	"response_code", "response_status", "response_reason", "response_message", "response_details",
	"annotations", "request_object", "response_object",
	"redaction_key", "redacted_values", "removed", "body_digest", "overlong",
}

func (r *row) eventValues() []any {
	ev := r.event
	v := []any{
		ev.StageTimestamp.UTC(), r.digest, escapeText(r.apiServer), r.indexed("audit_id", string(ev.AuditID)),
		escapeText(string(ev.Stage)), escapeText(string(ev.Level)),
		timeOrNull(ev.RequestReceivedTimestamp.Time), r.receivedAt.UTC(), escapeText(ev.Verb), escapeText(ev.RequestURI),
		r.indexed("username", ev.User.Username), escapeText(ev.User.UID), texts(ev.User.Groups), object(ev.User.Extra),
	}
	v = append(v, impersonated(ev)...)
	v = append(v, texts(ev.SourceIPs), escapeText(ev.UserAgent))
	v = append(v, r.objectRef()...)
	v = append(v, response(ev)...)
	v = append(v, object(ev.Annotations), body(ev.RequestObject), body(ev.ResponseObject))
	v = append(v, escapeText(r.record.Redaction.Key), r.record.Redaction.Values,
		texts(r.record.Redaction.Removed), textOrNull(r.record.Redaction.Bodies))
	return append(v, object(r.overlong)) // last: the others fill it
}

func impersonated(ev *auditv1.Event) []any {
	constraint := any(nil)
	if m := ev.AuthenticationMetadata; m != nil {
		constraint = textOrNull(m.ImpersonationConstraint)
	}
	u := ev.ImpersonatedUser
	if u == nil {
		return []any{nil, nil, nil, nil, constraint}
	}
	return []any{escapeText(u.Username), escapeText(u.UID), texts(u.Groups), object(u.Extra), constraint}
}

func (r *row) objectRef() []any {
	o := r.event.ObjectRef
	if o == nil {
		return []any{nil, nil, nil, nil, nil, nil, nil, nil}
	}
	return []any{
		escapeText(o.APIGroup), escapeText(o.APIVersion), r.indexed("resource", o.Resource),
		escapeText(o.Subresource), r.indexed("namespace", o.Namespace), r.indexed("name", o.Name),
		textOrNull(string(o.UID)), textOrNull(o.ResourceVersion),
	}
}

func response(ev *auditv1.Event) []any {
	s := ev.ResponseStatus
	if s == nil {
		return []any{nil, nil, nil, nil, nil}
	}
	details := any(nil)
	if s.Details != nil {
		details = jsonb(s.Details)
	}
	return []any{s.Code, textOrNull(s.Status), textOrNull(string(s.Reason)), textOrNull(s.Message), details}
}

// indexed cuts the value of a column that is in an index, and keeps the whole in overlong.
func (r *row) indexed(column, s string) string {
	s = escapeText(s)
	cut := bounded(s)
	if cut != s {
		if r.overlong == nil {
			r.overlong = map[string]string{}
		}
		r.overlong[column] = s
	}
	return cut
}

// bounded cuts a text to maxIndexed bytes so that unlike texts stay unlike.
func bounded(s string) string {
	if len(s) <= maxIndexed {
		return s
	}
	sum := sha256.Sum256([]byte(s))
	end := maxIndexed - 50
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "...sha256:" + hex.EncodeToString(sum[:16])
}

func timeOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC()
}

func textOrNull(s string) any {
	if s == "" {
		return nil
	}
	return escapeText(s)
}

// texts is never null: an absent list is an empty one.
func texts(list []string) []string {
	out := make([]string, len(list))
	for i, s := range list {
		out[i] = escapeText(s)
	}
	return out
}

// object is null for an empty map.
func object[M map[string]string | map[string]authnv1.ExtraValue](m M) any {
	if len(m) == 0 {
		return nil
	}
	return jsonb(m)
}

func jsonb(v any) any {
	data, err := json.Marshal(v)
	if err != nil { // maps and structs of strings always encode
		return nil
	}
	return escapeJSON(data)
}

func body(u *runtime.Unknown) any {
	if u == nil || len(u.Raw) == 0 {
		return nil
	}
	return escapeJSON(u.Raw)
}
