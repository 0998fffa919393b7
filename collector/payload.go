package collector

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/holdfast-dev/holdfast/pkg/audit"
	"github.com/holdfast-dev/holdfast/pkg/audit/redact"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// drainMost is how far a payload over the bound is read for its length, in bytes. What is
// longer is said to be at least that long.
const drainMost = 256 << 20

// errClient says that the request broke off: the API server will send it again.
var errClient = errors.New("the request broke off")

// payload is a body as it was read.
type payload struct {
	data   []byte
	length int64  // of all of it, as far as it was read
	digest string // of all of it, as far as it was read; "" is that of data
	reason string // why it cannot be decoded; "" when it can be tried
}

// read takes a body in. An error is errClient, errBusy or the context's; whatever is wrong
// with the content is in payload.reason. free gives back what large payloads take.
func (c *Collector) read(ctx context.Context, req *http.Request) (p payload, free func(), err error) {
	wire := &wireReader{r: req.Body}
	var body io.Reader = wire
	switch encoding := strings.ToLower(strings.TrimSpace(req.Header.Get("Content-Encoding"))); encoding {
	case "", "identity":
	case "gzip":
		zr, err := gzip.NewReader(wire)
		if err != nil {
			return c.unreadable(wire, "not gzip, though it says so")
		}
		body = zr
	default:
		return c.unreadable(wire, "content encoding is neither gzip nor identity")
	}
	return c.readAll(ctx, body, wire)
}

func (c *Collector) readAll(ctx context.Context, body io.Reader, wire *wireReader) (payload, func(), error) {
	free := func() {}
	var buf bytes.Buffer
	_, err := io.CopyN(&buf, body, min(smallBody, c.cfg.MaxBody)+1)
	if err == nil && c.cfg.MaxBody > smallBody {
		if free, err = take(ctx, c.places.large); err != nil {
			return payload{}, func() {}, err
		}
		_, err = io.CopyN(&buf, body, c.cfg.MaxBody+1-int64(buf.Len()))
	}
	p := payload{data: buf.Bytes(), length: int64(buf.Len())}
	switch {
	case wire.err != nil:
		free()
		return payload{}, func() {}, fmt.Errorf("%w: %w", errClient, wire.err)
	case err == nil: // one byte more than allowed
		n, digest, err := c.drain(p.data, body)
		p.length, p.digest = p.length+n, digest
		p.reason = "larger than the bound"
		if err != nil || n == drainMost {
			p.reason = "larger than the bound; the length is a lower bound"
		}
	case !errors.Is(err, io.EOF):
		p.reason = "broken gzip"
	}
	return p, free, nil
}

// unreadable reads the beginning of a body that cannot be decoded.
func (c *Collector) unreadable(wire *wireReader, reason string) (payload, func(), error) {
	head, _ := io.ReadAll(io.LimitReader(wire, redact.PrefixMax))
	n, digest, _ := c.drain(head, wire)
	if wire.err != nil {
		return payload{}, func() {}, fmt.Errorf("%w: %w", errClient, wire.err)
	}
	return payload{data: head, length: int64(len(head)) + n, digest: digest, reason: reason}, func() {}, nil
}

// drain reads what is left of a body that is not kept, and digests it with its beginning.
func (c *Collector) drain(head []byte, rest io.Reader) (int64, string, error) {
	w, digest := c.redactor.NewDigest()
	if _, err := w.Write(head); err != nil {
		return 0, "", fmt.Errorf("digesting: %w", err)
	}
	n, err := io.Copy(w, io.LimitReader(rest, drainMost))
	return n, digest(), err
}

// wireReader remembers whether the request itself broke, which is no fault of its content.
type wireReader struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (w *wireReader) Read(b []byte) (int, error) {
	n, err := w.r.Read(b)
	if err != nil && !errors.Is(err, io.EOF) {
		w.err = err
	}
	return n, err
}

// batch makes what is stored of a payload. Nothing in it has escaped redaction.
func (c *Collector) batch(apiServer string, p payload) audit.Batch {
	b := audit.Batch{APIServer: apiServer}
	if p.reason != "" {
		b.Quarantine = append(b.Quarantine, c.quarantine(p.reason, p))
		return b
	}
	list, err := audit.Decode(p.data)
	if err != nil {
		b.Quarantine = append(b.Quarantine, c.quarantine(reasonOf(err), p))
		return b
	}
	for _, rej := range list.Rejected {
		b.Quarantine = append(b.Quarantine, c.quarantine(rej.Reason, payload{data: rej.Raw, length: int64(len(rej.Raw))}))
	}
	b.Records = make([]audit.Record, 0, len(list.Events))
	signed := make([][]string, len(list.Events))
	for i := range list.Events {
		signed[i] = audit.Signed(&list.Events[i], c.cfg.DecisionKey)
	}
	c.tell(list.Events, signed)
	for i := range list.Events {
		rec := audit.NewRecord(apiServer, &list.Events[i], c.redactor, signed[i])
		records, _ := audit.Decisions(&rec.Event, signed[i])
		c.metrics.unverified.Add(float64(len(records) - len(signed[i])))
		c.metrics.redacted.Add(float64(rec.Redaction.Values))
		c.metrics.removed.Add(float64(len(rec.Redaction.Removed)))
		b.Records = append(b.Records, rec)
	}
	return b
}

// tell passes on what events say of AccessRequests: before they are durable, so that the
// webhook learns it while the log is away.
func (c *Collector) tell(events []auditv1.Event, signed [][]string) {
	if c.cfg.Teller == nil {
		return
	}
	var said decision.Testimony
	for i := range events {
		said.Add(audit.Testify(&events[i], signed[i]))
	}
	c.cfg.Teller.Tell(said)
}

func (c *Collector) quarantine(reason string, p payload) audit.Quarantine {
	if p.digest == "" {
		p.digest = c.redactor.Digest(p.data)
	}
	return audit.Quarantine{
		Reason: reason, Digest: p.digest, Length: p.length,
		Prefix: redact.Mask(p.data, redact.PrefixMax),
	}
}

// reasonOf leaves out positions, so that reasons can be counted.
func reasonOf(err error) string {
	for _, known := range []error{audit.ErrNotJSON, audit.ErrNotEventList, audit.ErrTooManyItems} {
		if errors.Is(err, known) {
			return known.Error()
		}
	}
	return "not understood"
}
