package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/holdfast-dev/holdfast/pkg/audit/redact"
)

// The bounds of a message, in bytes.
const (
	// MessageTarget is what a message is filled up to. A payload above it becomes several
	// messages.
	MessageTarget = 4 << 20
	// MessageMax is the most that a message may have: one event that is larger than
	// MessageTarget has a message of its own, and one that would be larger than this loses
	// its bodies, with a mark. A NATS server needs at least this as its max_payload.
	MessageMax = 8 << 20
	// messageOverhead is left for the frame around the records and for headers.
	messageOverhead = 64 << 10
)

// messageVersion is the version of Batch's encoding.
const messageVersion = 1

// ErrBadMessage says that a message was not written by Pack, or by a version of it that is
// newer than this one.
var ErrBadMessage = errors.New("not a message of audit records")

// Record is one event on its way to the database.
type Record struct {
	// Identity is what Identity returned for the event as it came.
	Identity []byte `json:"identity"`
	// Event is the event after redaction.
	Event auditv1.Event `json:"event"`
	// Redaction says what redaction did to it.
	Redaction redact.Report `json:"redaction"`
	// Signed are the keys of the annotations that Holdfast itself made.
	Signed []string `json:"signed,omitempty"`
}

// NewRecord redacts ev, which it changes and keeps. signed is what Signed returned for it.
func NewRecord(apiServer string, ev *auditv1.Event, r *redact.Redactor, signed []string) Record {
	id := Identity(apiServer, ev)
	report := r.Event(ev, signed...)
	return Record{Identity: id[:], Event: *ev, Redaction: report, Signed: signed}
}

// Quarantine is something that came instead of an event, or an event that has no place in the
// tables.
type Quarantine struct {
	// Reason is a constant sentence: why it is here.
	Reason string `json:"reason"`
	// Digest is the keyed digest of all of it, as redact.Redactor.Digest writes it.
	Digest string `json:"digest"`
	// Length is its length in bytes, as far as it was read.
	Length int64 `json:"length"`
	// Prefix is its beginning with everything masked but JSON's structure.
	Prefix []byte `json:"prefix,omitempty"`
	// Event is the whole event after redaction, as JSON; nil where redaction never saw one.
	Event []byte `json:"event,omitempty"`
}

// Batch is the content of one message.
type Batch struct {
	// Version is 1.
	Version int `json:"v"`
	// APIServer names the API server that the events came from.
	APIServer string `json:"apiServer"`
	// Records are events.
	Records []Record `json:"records,omitempty"`
	// Quarantine is what came and was none.
	Quarantine []Quarantine `json:"quarantine,omitempty"`
	// ReceivedAt is when the message became durable. It is not part of the encoding: equal
	// payloads have to give equal messages, so that the stream recognises a repetition.
	ReceivedAt time.Time `json:"-"`
}

// Delivery is one message that the durable log handed out.
type Delivery struct {
	// Data is the message.
	Data []byte
	// StoredAt is when the log stored it.
	StoredAt time.Time
	// Attempt counts deliveries of this message; 1 is the first.
	Attempt uint64
	// Ack removes the message from the log. Callers MUST have committed its content first.
	Ack func(context.Context) error
	// Nak gives it back, to be delivered again after the delay.
	Nak func(delay time.Duration) error
}

// LogState is what the durable log holds.
type LogState struct {
	// Messages that are stored and not yet acknowledged by the database's side.
	Messages uint64
	// Bytes that they take on disk.
	Bytes uint64
	// MaxBytes is where the log begins to refuse.
	MaxBytes int64
	// Oldest is when the oldest of them was stored; zero when there is none.
	Oldest time.Time
}

// Pack encodes a batch into messages of at most MessageMax bytes, deterministically. Events
// that do not fit lose their bodies, and then are put into quarantine by r's digest. The
// error of a record that cannot be encoded is a bug: all of them came from JSON.
func Pack(b Batch, r *redact.Redactor) ([][]byte, error) {
	p := packer{apiServer: b.APIServer}
	for i := range b.Records {
		data, err := encodeRecord(&b.Records[i])
		if err != nil {
			return nil, err
		}
		if len(data) > MessageMax-messageOverhead {
			b.Quarantine = append(b.Quarantine, Quarantine{
				Reason: "event without bodies is larger than a message",
				Digest: r.Digest(data), Length: int64(len(data)), Prefix: redact.Mask(data, redact.PrefixMax),
			})
			continue
		}
		p.add(data, "records")
	}
	for _, q := range b.Quarantine {
		data, err := json.Marshal(q)
		if err != nil {
			return nil, fmt.Errorf("encoding a quarantine entry: %w", err)
		}
		p.add(data, "quarantine")
	}
	p.flush()
	return p.messages, nil
}

func encodeRecord(rec *Record) ([]byte, error) {
	data, err := json.Marshal(rec)
	if err != nil {
		return nil, fmt.Errorf("encoding a record: %w", err)
	}
	if len(data) <= MessageMax-messageOverhead {
		return data, nil
	}
	for _, body := range []struct {
		field string
		at    **runtime.Unknown
	}{{"requestObject", &rec.Event.RequestObject}, {"responseObject", &rec.Event.ResponseObject}} {
		if *body.at != nil {
			*body.at = nil
			rec.Redaction.Remove(body.field, "larger than a message")
		}
	}
	if data, err = json.Marshal(rec); err != nil {
		return nil, fmt.Errorf("encoding a record: %w", err)
	}
	return data, nil
}

// packer fills messages with elements of the two arrays; a message has only one of them.
type packer struct {
	apiServer string
	field     string
	buf       bytes.Buffer
	messages  [][]byte
}

func (p *packer) add(data []byte, field string) {
	if p.buf.Len() > 0 && (p.field != field || p.buf.Len()+len(data) > MessageTarget) {
		p.flush()
	}
	if p.buf.Len() == 0 {
		name, _ := json.Marshal(p.apiServer) // a string always encodes
		fmt.Fprintf(&p.buf, `{"v":%d,"apiServer":%s,"%s":[`, messageVersion, name, field)
		p.field = field
	} else {
		p.buf.WriteByte(',')
	}
	p.buf.Write(data)
}

func (p *packer) flush() {
	if p.buf.Len() == 0 {
		return
	}
	p.buf.WriteString("]}")
	p.messages = append(p.messages, bytes.Clone(p.buf.Bytes()))
	p.buf.Reset()
}

// Unpack decodes one message. The error wraps ErrBadMessage and holds nothing of the content.
func Unpack(data []byte) (Batch, error) {
	var b Batch
	if err := json.Unmarshal(data, &b); err != nil {
		return Batch{}, fmt.Errorf("%w: %d bytes", ErrBadMessage, len(data))
	}
	if b.Version != messageVersion {
		return Batch{}, fmt.Errorf("%w: version %d, want %d", ErrBadMessage, b.Version, messageVersion)
	}
	return b, nil
}

// Written is what became of batches in the database, in rows.
type Written struct {
	// Stored events are new.
	Stored int64
	// Duplicates are events that were there already.
	Duplicates int64
	// Decisions are new rows of decisions.
	Decisions int64
	// Quarantined are new rows of the quarantine.
	Quarantined int64
}

// Plus returns the sums.
func (w Written) Plus(o Written) Written {
	w.Stored += o.Stored
	w.Duplicates += o.Duplicates
	w.Decisions += o.Decisions
	w.Quarantined += o.Quarantined
	return w
}
