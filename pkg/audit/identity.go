package audit

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	authnv1 "k8s.io/api/authentication/v1"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// identityVersion is hashed first. What Identity covers must never change under one version:
// an event that is read again from the API server's log file, months later and by a newer
// Holdfast, has to be recognised.
const identityVersion = "holdfast.dev/event/v1"

// truncatedAnnotation is what the API server's truncating backend adds when it drops bodies.
const truncatedAnnotation = "audit.k8s.io/truncated"

// identityQuery are the query parameters whose values count in the identity: those of the
// API server itself, which hold no secrets. Of all others (command= of exec, and whatever a
// proxied service takes) only their names and number count, because the digest has no key and
// could be used to test guesses. It must never change under one identityVersion.
var identityQuery = map[string]bool{
	"allowWatchBookmarks": true, "container": true, "continue": true, "dryRun": true,
	"fieldManager": true, "fieldSelector": true, "fieldValidation": true, "follow": true,
	"force": true, "gracePeriodSeconds": true, "labelSelector": true, "limit": true,
	"orphanDependents": true, "pretty": true, "previous": true, "propagationPolicy": true,
	"resourceVersion": true, "resourceVersionMatch": true, "sendInitialEvents": true,
	"sinceSeconds": true, "sinceTime": true, "stderr": true, "stdin": true, "stdout": true,
	"tailLines": true, "timeout": true, "timeoutSeconds": true, "timestamps": true,
	"tty": true, "watch": true,
}

// Identity returns the 32 bytes that are equal for two copies of one audit event and differ
// for different events of one API server, whatever the client chose as Audit-ID.
//
// It covers the name of the API server, auditID, stage, both timestamps, and metadata. It
// leaves out bodies and the truncation mark, because a truncated copy is the same event, and
// what could hold a secret (the values of annotations, messages and foreign query parameters),
// because it has no key: a key would have to live as long as the oldest log file. It is to be
// taken before redaction.
func Identity(apiServer string, ev *auditv1.Event) [sha256.Size]byte {
	h := digest{sha256.New()}
	h.strings(identityVersion, apiServer, string(ev.AuditID), string(ev.Stage))
	h.time(ev.RequestReceivedTimestamp.Time)
	h.time(ev.StageTimestamp.Time)
	h.strings(string(ev.Level), ev.Verb, ev.UserAgent)
	h.list(ev.SourceIPs)
	h.uri(ev.RequestURI)
	h.user(&ev.User)
	h.user(ev.ImpersonatedUser)
	h.object(ev.ObjectRef)
	if s := ev.ResponseStatus; s != nil {
		h.strings("status", s.Status, string(s.Reason))
		h.number(int64(s.Code))
	}
	keys := slices.Sorted(maps.Keys(ev.Annotations))
	h.list(slices.DeleteFunc(keys, func(k string) bool { return k == truncatedAnnotation }))
	return [sha256.Size]byte(h.Sum(nil))
}

// digest hashes fields so that no two different sequences of fields give the same input: each
// is preceded by its length.
type digest struct{ hash.Hash }

func (h digest) number(n int64) {
	h.Write(binary.BigEndian.AppendUint64(nil, uint64(n))) //nolint:gosec // its bits: no two numbers share them
}

func (h digest) strings(fields ...string) {
	for _, s := range fields {
		h.number(int64(len(s)))
		h.Write([]byte(s))
	}
}

func (h digest) list(fields []string) {
	h.number(int64(len(fields)))
	h.strings(fields...)
}

// time hashes microseconds, which is what the API server writes.
func (h digest) time(t time.Time) {
	if t.IsZero() {
		h.number(-1 << 63)
		return
	}
	h.number(t.UnixMicro())
}

func (h digest) uri(s string) {
	path, query, _ := strings.Cut(s, "?")
	h.strings(path)
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		plain, err := url.QueryUnescape(name)
		h.strings(name)
		if err == nil && identityQuery[plain] {
			h.strings(value)
		}
	}
}

func (h digest) user(u *authnv1.UserInfo) {
	if u == nil {
		h.number(0)
		return
	}
	h.number(1)
	h.strings(u.Username, u.UID)
	h.list(u.Groups)
	h.number(int64(len(u.Extra)))
	for _, k := range slices.Sorted(maps.Keys(u.Extra)) {
		h.strings(k)
		h.list(u.Extra[k])
	}
}

func (h digest) object(o *auditv1.ObjectReference) {
	if o == nil {
		h.number(0)
		return
	}
	h.number(1)
	h.strings(o.APIGroup, o.APIVersion, o.Resource, o.Subresource, o.Namespace, o.Name,
		string(o.UID), o.ResourceVersion)
}
