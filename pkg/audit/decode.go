// Package audit has the audit events of the API server as Holdfast keeps them: how a payload
// of the audit webhook is decoded, what makes an event the same event when it comes again,
// which of Holdfast's decisions it carries, and the message in which redacted events travel
// from the collector to the database.
//
// It is pure. It refuses to do I/O, to decide what is sensitive (package redact does), and to
// drop anything silently: what it cannot use comes back with a reason.
package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// MaxItems bounds the items of one EventList. The API server sends batches of at most 400 by
// default; a payload of the largest size made of empty items would have 32 million.
const MaxItems = 200_000

// The errors of Decode; each stands for a payload that no event was taken from.
var (
	// ErrNotJSON says that the payload is no JSON text.
	ErrNotJSON = errors.New("not JSON")
	// ErrNotEventList says that the payload is JSON, but no audit.k8s.io/v1 EventList.
	ErrNotEventList = errors.New("not an audit.k8s.io/v1 EventList")
	// ErrTooManyItems says that the list is longer than MaxItems.
	ErrTooManyItems = errors.New("too many items in the EventList")
)

// ErrPushback says that something durable cannot take more right now: it is away, slow or
// full. Nothing was lost; the caller tries again later.
var ErrPushback = errors.New("cannot make durable now")

// List is what a payload holds.
type List struct {
	// Events are the items that decoded, in the order of the payload.
	Events []auditv1.Event
	// Rejected are the items that did not.
	Rejected []Reject
}

// Reject is an item of an EventList that is no event.
type Reject struct {
	// Reason is a constant sentence without any of the item's content.
	Reason string
	// Raw is the item as it came. It has not been redacted.
	Raw []byte
}

// serverName is what an API server may be called: it becomes a path element of the
// collector's URL and a column.
var serverName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,61}[a-z0-9])?$`)

// ValidServerName reports whether name may stand for an API server: a DNS name of at most 63
// characters.
func ValidServerName(name string) bool { return serverName.MatchString(name) }

// Decode takes an EventList apart. The caller bounds the length of data. An error is one of
// ErrNotJSON, ErrNotEventList and ErrTooManyItems, wrapped, and holds nothing of the content.
// Items that are no events do not spoil the others: they are in List.Rejected.
func Decode(data []byte) (List, error) {
	var head struct {
		Kind       string `json:"kind"`
		APIVersion string `json:"apiVersion"`
		Items      items  `json:"items"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return List{}, decodeError(err)
	}
	if head.Kind != "EventList" || head.APIVersion != "audit.k8s.io/v1" || !head.Items.seen {
		return List{}, ErrNotEventList
	}
	return head.Items.list, nil
}

// decodeError leaves out the decoder's own words: they quote the input.
func decodeError(err error) error {
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, ErrTooManyItems):
		return fmt.Errorf("%w: want at most %d", ErrTooManyItems, MaxItems)
	case errors.As(err, &syntax):
		return fmt.Errorf("%w: at byte %d", ErrNotJSON, syntax.Offset)
	default:
		return ErrNotEventList
	}
}

// items decodes the array one item at a time, so that a broken one costs only itself.
type items struct {
	list List
	seen bool
}

// UnmarshalJSON implements json.Unmarshaler. b is valid JSON.
func (it *items) UnmarshalJSON(b []byte) error {
	// Of a repeated key the last one counts, as everywhere in encoding/json.
	*it = items{}
	if len(b) == 0 || b[0] != '[' {
		return ErrNotEventList
	}
	it.seen = true
	for rest := b[1:]; ; {
		var item []byte
		item, rest = nextItem(rest)
		if item == nil {
			return nil
		}
		if len(it.list.Events)+len(it.list.Rejected) >= MaxItems {
			return ErrTooManyItems
		}
		ev, reason := decodeEvent(item)
		if reason != "" {
			it.list.Rejected = append(it.list.Rejected, Reject{Reason: reason, Raw: bytes.Clone(item)})
			continue
		}
		it.list.Events = append(it.list.Events, ev)
	}
}

// nextItem cuts the next element off the inside of a valid JSON array; nil at its end.
func nextItem(b []byte) (item, rest []byte) {
	b = bytes.TrimLeft(b, " \t\r\n,")
	depth, quoted := 0, false
	for i := 0; i < len(b); i++ {
		c := b[i]
		switch {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			depth++
		case depth == 0 && (c == ',' || c == ']'):
			item = bytes.TrimRight(b[:i], " \t\r\n")
			if len(item) == 0 {
				return nil, nil
			}
			return item, b[i:]
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil, nil
}

func decodeEvent(item []byte) (auditv1.Event, string) {
	var ev auditv1.Event
	if item[0] != '{' {
		return ev, "item is no object"
	}
	if err := json.Unmarshal(item, &ev); err != nil {
		return ev, "item is no audit event"
	}
	switch {
	case ev.AuditID == "":
		return ev, "event without auditID"
	case ev.Stage == "":
		return ev, "event without stage"
	case ev.StageTimestamp.IsZero():
		return ev, "event without stageTimestamp"
	}
	return ev, ""
}
