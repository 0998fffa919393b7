// Package redact takes the values of Secrets and tokens out of audit events before anything
// is stored.
//
// A value becomes a keyed digest, so that an analyst can see that there was one, and whether
// two are equal, but never what it was. Where the package does not understand the body of a
// resource that bears secrets, it removes the body and says so: it refuses to guess. It is
// pure, and it never returns an error: whatever it is given, what comes out is safe to keep.
package redact

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

const (
	// KeyMin is the least length of a key, in bytes.
	KeyMin = 32
	// maxBody bounds a body that is looked into, in bytes. The API server takes requests of
	// 3 MiB; only lists are larger.
	maxBody = 8 << 20
	// maxDepth bounds how deep a body is looked into. Kubernetes' own kinds stay below 30.
	maxDepth = 100
	// minTaint is the shortest value that is searched for in other fields, in bytes: shorter
	// ones would turn half of a message into digests.
	minTaint = 4
	// maxTaints bounds how many values are searched for.
	maxTaints = 1000
)

// Redactor redacts with one key. It is safe for concurrent use.
type Redactor struct {
	key []byte
	id  string
	off bool
}

// New returns a Redactor. key has at least KeyMin random bytes; whoever has it can test
// guesses of values against their digests.
func New(key []byte) (*Redactor, error) {
	if len(key) < KeyMin {
		return nil, fmt.Errorf("redaction key of %d bytes: want at least %d", len(key), KeyMin)
	}
	r := &Redactor{key: slices.Clone(key)}
	r.id = hex.EncodeToString(r.sum([]byte("holdfast.dev/redaction-key-id"))[:4])
	return r, nil
}

// NewUnsafe returns a Redactor whose Event changes nothing. It is for the control experiment
// of a test, which needs a build tag; no configuration reaches it.
func NewUnsafe(key []byte) (*Redactor, error) {
	r, err := New(key)
	if err == nil {
		r.off = true
	}
	return r, err
}

// KeyID returns the eight hexadecimal digits that name the key in digests.
func (r *Redactor) KeyID() string { return r.id }

// Digest returns "hmac:<key ID>:<32 hexadecimal digits>" for a value.
func (r *Redactor) Digest(value []byte) string {
	return r.format(r.sum(value))
}

// NewDigest returns a writer and a function that returns the Digest of what was written.
func (r *Redactor) NewDigest() (io.Writer, func() string) {
	h := hmac.New(sha256.New, r.key)
	return h, func() string { return r.format(h.Sum(nil)) }
}

func (r *Redactor) format(sum []byte) string {
	return "hmac:" + r.id + ":" + hex.EncodeToString(sum[:16])
}

func (r *Redactor) sum(value []byte) []byte {
	h := hmac.New(sha256.New, r.key)
	h.Write(value)
	return h.Sum(nil)
}

// Report is what was done to one event.
type Report struct {
	// Key is the ID of the key that the digests were made with.
	Key string `json:"key"`
	// Values counts the values that became digests.
	Values int `json:"values,omitempty"`
	// Removed has "<field>: <why>" for each body or part of one that was taken out whole.
	Removed []string `json:"removed,omitempty"`
	// Bodies is the digest of both bodies as they came; "" where the event had none. Two
	// copies of an event with different digests under one key are two stories.
	Bodies string `json:"bodies,omitempty"`
}

// Remove notes that a field was taken out.
func (r *Report) Remove(field, why string) {
	if note := field + ": " + why; !slices.Contains(r.Removed, note) {
		r.Removed = append(r.Removed, note)
	}
}

// Event redacts ev in place. The bodies stay valid JSON, or become nil. own are the keys of
// annotations that Holdfast made, which hold nothing of an object and stay as they are.
func (r *Redactor) Event(ev *auditv1.Event, own ...string) Report {
	p := &pass{r: r, own: own, report: Report{Key: r.id}}
	p.report.Bodies = r.bodies(ev)
	if r.off {
		return p.report
	}
	p.bearer = bearerOf(ev.ObjectRef)
	p.field = "requestObject"
	p.body(&ev.RequestObject, ev.Verb == "patch" || ev.Verb == "apply")
	p.field = "responseObject"
	p.body(&ev.ResponseObject, false)
	p.field = "requestURI"
	ev.RequestURI = p.uri(ev)
	p.field = "annotations"
	p.annotations(ev)
	p.field = "responseStatus"
	p.responseStatus(ev)
	return p.report
}

func (r *Redactor) bodies(ev *auditv1.Event) string {
	if ev.RequestObject == nil && ev.ResponseObject == nil {
		return ""
	}
	var b bytes.Buffer
	for _, u := range []*runtime.Unknown{ev.RequestObject, ev.ResponseObject} {
		if u != nil {
			b.Write(u.Raw)
		}
		b.WriteByte(0)
	}
	return r.Digest(b.Bytes())
}

// pass is the redaction of one event.
type pass struct {
	r      *Redactor
	report Report
	bearer *bearer
	// own are the keys of annotations that stay.
	own []string
	// field names the part of the event that is being redacted, for the report.
	field string
	// taints are values that became digests, and have to go wherever they are repeated.
	taints []string
}

// digest replaces a value and remembers it.
func (p *pass) digest(value string) string {
	p.report.Values++
	p.taint(value)
	return p.r.Digest([]byte(value))
}

func (p *pass) taint(value string) {
	if len(value) >= minTaint && len(p.taints) < maxTaints {
		p.taints = append(p.taints, value)
	}
}

// scrub replaces values that became digests elsewhere in the event.
func (p *pass) scrub(s string) string {
	for _, value := range p.taints {
		if strings.Contains(s, value) {
			p.report.Values++
			s = strings.ReplaceAll(s, value, p.r.Digest([]byte(value)))
		}
	}
	return s
}

// body redacts one body; patch says that it is a patch document.
func (p *pass) body(at **runtime.Unknown, patch bool) {
	u := *at
	if u == nil {
		return
	}
	if len(u.Raw) == 0 { // what the API server makes of a body that it dropped
		*at = nil
		return
	}
	if p.bearer == nil && !suspicious(string(u.Raw)) {
		return
	}
	if len(u.Raw) > maxBody {
		p.remove(at, "too large to look into")
		return
	}
	v, err := parse(u.Raw)
	if err != nil {
		p.remove(at, "not understood")
		return
	}
	if p.bearer != nil {
		ok := false
		if v, ok = p.bearer.redact(p, v, patch); !ok {
			p.remove(at, "not understood")
			return
		}
	} else {
		v = p.walk(v, 0)
	}
	out, err := encode(v)
	if err != nil {
		p.remove(at, "not understood")
		return
	}
	*at = &runtime.Unknown{Raw: out, ContentType: runtime.ContentTypeJSON}
}

func (p *pass) remove(at **runtime.Unknown, why string) {
	*at = nil
	p.report.Remove(p.field, why)
}

// parse decodes one JSON text, numbers as they are written. Of a repeated key the last one
// stays, so that what is looked at is what is kept.
func parse(data []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, fmt.Errorf("parsing a body: %w", err)
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("parsing a body: more than one JSON text")
	}
	return v, nil
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encoding a body: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}
