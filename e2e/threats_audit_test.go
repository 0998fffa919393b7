package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"regexp"
	"strings"
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

// recordsOf are Holdfast's decisions in an audit event, whichever of its hooks made them. The
// API server keeps no annotation of the checks that impersonation makes: what the authorizer
// said then stands in the answer alone.
func recordsOf(event *auditv1.Event) []decision.Record {
	records, _ := audit.Decisions(event, nil) // who signed them is of no matter here
	if len(records) > 0 || event.ResponseStatus == nil {
		return records
	}
	found := inMessage.FindStringSubmatch(event.ResponseStatus.Message)
	if found == nil {
		return nil
	}
	r := decision.Record{ID: found[1], Decision: found[2], Reason: decision.Reason(found[3])}
	for field := range strings.FieldsSeq(found[4]) {
		if rules, ok := strings.CutPrefix(field, "rules="); ok {
			r.Rules = strings.Split(rules, ",")
		}
	}
	return []decision.Record{r}
}

// inMessage is the record at the end of what the authorizer says.
var inMessage = regexp.MustCompile(`\[authorizer\.holdfast\.dev (\S+) (Allow|Hold|Deny) (\S+)([^\]]*)\]$`)

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
