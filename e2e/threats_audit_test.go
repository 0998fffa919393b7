package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"sync"
	"testing"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/holdfast-dev/holdfast/pkg/audit"
	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// auditIndex reads the API server's audit log as it grows.
type auditIndex struct {
	path string

	mu     sync.Mutex
	offset int64
	rest   []byte
	events map[string]auditv1.Event // what was complete, by audit ID
}

// find reads what is new and returns the events for which want is true.
func (x *auditIndex) find(t *testing.T, want func(*auditv1.Event) bool) []auditv1.Event {
	t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.read(t)
	var found []auditv1.Event
	for _, e := range x.events {
		if want(&e) {
			found = append(found, e)
		}
	}
	return found
}

// decisions are Holdfast's, in the audit event of a request.
func (x *auditIndex) decisions(t *testing.T, auditID string) []decision.Record {
	t.Helper()
	x.mu.Lock()
	x.read(t)
	event := x.events[auditID]
	x.mu.Unlock()
	return recordsOf(&event)
}

// recordsOf are the decisions in an audit event, whichever of the hooks made them; who signed them is
// of no matter here.
func recordsOf(event *auditv1.Event) []decision.Record {
	records, _ := audit.Decisions(event, nil)
	return records
}

func (x *auditIndex) read(t *testing.T) {
	t.Helper()
	f, err := os.Open(x.path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Seek(x.offset, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	data, err := io.ReadAll(f)
	if err != nil {
		t.Fatal(err)
	}
	x.offset += int64(len(data))
	x.rest = append(x.rest, data...)
	for {
		line, rest, ok := bytes.Cut(x.rest, []byte("\n"))
		if !ok {
			return // a last line without its end is being written
		}
		x.rest = rest
		var e auditv1.Event
		if err := json.Unmarshal(line, &e); err != nil {
			t.Fatalf("audit log: %v", err)
		}
		if e.Stage == auditv1.StageResponseComplete {
			x.events[string(e.AuditID)] = e
		}
	}
}
