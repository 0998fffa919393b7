package e2e

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	natsjs "github.com/nats-io/nats.go/jetstream"

	"github.com/holdfast-dev/holdfast/e2e/local"
	"github.com/holdfast-dev/holdfast/pkg/audit"
	"github.com/holdfast-dev/holdfast/pkg/jetstream"
)

// secretsInFull is an audit policy that no cluster should have: it records Secrets with
// their values, so that only redaction stands between them and the database.
const secretsInFull = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: RequestResponse
  resources: [{group: "", resources: [secrets]}]
- level: Metadata
`

// TestRedaction plants a value in Secrets and looks for it everywhere that Holdfast keeps
// things. With redaction compiled out, the same look has to find it.
func TestRedaction(t *testing.T) {
	for _, test := range []struct {
		name string
		tags []string
		want bool
	}{
		{"Redacted", nil, false},
		{"Control", []string{"unsafe_no_redaction"}, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := up(t, func(config *local.Config) {
				config.AuditPolicy = []byte(secretsInFull)
				config.CollectorTags = test.tags
			})
			value := "planted-" + rand.Text()
			// With Postgres away the messages stay in the stream, where they can be read.
			if err := c.run.Kill(local.Postgres); err != nil {
				t.Fatal(err)
			}
			c.plant(t, value)
			messages := c.messages(t)
			if err := c.run.Start(t.Context(), local.Postgres); err != nil {
				t.Fatal(err)
			}
			c.drained(t)
			for where, text := range map[string]string{"JetStream": messages, "Postgres": c.dump(t)} {
				if !strings.Contains(text, "planted-name") {
					t.Errorf("%s does not even have the Secret's name: the look means nothing", where)
				}
				if got := holds(text, value); got != test.want {
					t.Errorf("%s holds the planted value: %t, want %t", where, got, test.want)
				}
			}
			for _, part := range []string{local.Webhook, local.Collector, local.NATS, local.Postgres} {
				text, err := os.ReadFile(c.run.LogPath(part))
				if err != nil {
					t.Fatal(err)
				}
				if holds(string(text), value) {
					t.Errorf("the log of %s holds the planted value", part)
				}
			}
		})
	}
}

// plant writes the value into Secrets in the ways that clients have, as admin and as agent.
func (c *cluster) plant(t *testing.T, value string) {
	for _, who := range []identity{admin, agent} {
		name := "planted-name-" + string(who)
		manifest := fmt.Sprintf("apiVersion: v1\nkind: Secret\nmetadata: {name: %s}\nstringData: {password: %s}\n", name, value)
		for _, command := range [][]string{
			{"apply", "-f", "-"},
			{"apply", "--server-side", "--force-conflicts", "-f", "-"},
			{"replace", "-f", "-"},
			{"delete", "-f", "-", "--cascade=foreground"},
			{"create", "-f", "-"},
		} {
			if r := c.kubectlWith(t, manifest, who, command...); r.code != 0 {
				t.Fatalf("kubectl %v as %s: %s", command, who, r.err)
			}
		}
		encoded := base64.StdEncoding.EncodeToString([]byte(value))
		for kind, patch := range map[string]string{
			"merge":     fmt.Sprintf(`{"stringData":{"again":%q}}`, value),
			"strategic": fmt.Sprintf(`{"data":{"more":%q}}`, encoded),
			"json":      fmt.Sprintf(`[{"op":"add","path":"/data/last","value":%q}]`, encoded),
		} {
			c.must(t, who, "patch", "secret", name, "--type="+kind, "-p", patch)
		}
		c.must(t, who, "get", "secret", name, "-o", "yaml")
		c.must(t, who, "get", "secrets", "-o", "yaml")
		c.must(t, who, "get", "secrets")
		// An error that quotes what it was sent.
		c.kubectl(t, who, "patch", "secret", name, "--type=merge", "-p", fmt.Sprintf(`{"data":{"bad":%q}}`, value))
	}
}

// messages is all that the stream holds, decoded, once it holds what the API server logged
// of the planting.
func (c *cluster) messages(t *testing.T) string {
	t.Helper()
	conn, err := nats.Connect(c.info.NATSURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	js, err := natsjs.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	var last string
	for _, e := range c.auditLog(t) {
		if e.ObjectRef != nil && e.ObjectRef.Resource == "secrets" {
			last = string(e.AuditID)
		}
	}
	var all strings.Builder
	eventually(t, 30*time.Second, "the stream holds the events", func() error {
		all.Reset()
		if err := readStream(t.Context(), js, &all); err != nil {
			return err
		}
		if !strings.Contains(all.String(), last) {
			return fmt.Errorf("event %s is not there yet", last)
		}
		return nil
	})
	return all.String()
}

func readStream(ctx context.Context, js natsjs.JetStream, all *strings.Builder) error {
	stream, err := js.Stream(ctx, jetstream.DefaultStream)
	if err != nil {
		return err
	}
	info, err := stream.Info(ctx)
	if err != nil {
		return err
	}
	for sequence := info.State.FirstSeq; sequence <= info.State.LastSeq; sequence++ {
		message, err := stream.GetMsg(ctx, sequence)
		if errors.Is(err, natsjs.ErrMsgNotFound) {
			continue // stored before Postgres went away
		}
		if err != nil {
			return err
		}
		batch, err := audit.Unpack(message.Data)
		if err != nil {
			return err
		}
		decoded, err := json.Marshal(batch)
		if err != nil {
			return err
		}
		// Both: as it lies there, and decoded.
		all.Write(message.Data)
		all.Write(decoded)
	}
	return nil
}

// drained waits until everything is in Postgres.
func (c *cluster) drained(t *testing.T) {
	t.Helper()
	db := c.database(t)
	eventually(t, 60*time.Second, "Postgres has the planting", func() error {
		logged := 0
		for _, e := range c.auditLog(t) {
			if e.ObjectRef != nil && e.ObjectRef.Resource == "secrets" {
				logged++
			}
		}
		var stored int
		if err := db.QueryRow(t.Context(), `SELECT count(*) FROM audit_events WHERE resource = 'secrets'`).Scan(&stored); err != nil {
			return err
		}
		if stored < logged {
			return fmt.Errorf("%d of %d events", stored, logged)
		}
		return nil
	})
}

// dump is what pg_dump writes.
func (c *cluster) dump(t *testing.T) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "pg_dump", c.info.DatabaseURL).Output()
	if err != nil {
		t.Fatalf("pg_dump (of PostgreSQL's client package): %v", err)
	}
	return string(out)
}

// holds looks for a value as it is and in base64, wherever in the encoded text it starts.
func holds(text, value string) bool {
	if strings.Contains(text, value) {
		return true
	}
	for offset := range 3 {
		encoded := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("\x00", offset) + value))
		// The first and last characters depend on what stands beside the value.
		if strings.Contains(text, encoded[4:len(encoded)-4]) {
			return true
		}
	}
	return false
}

func TestHolds(t *testing.T) {
	t.Parallel()
	value := "planted-0123456789"
	for _, text := range []string{
		"a " + value, base64.StdEncoding.EncodeToString([]byte("xy" + value + "z")),
		base64.StdEncoding.EncodeToString([]byte(`{"a":"` + value + `"}`)),
	} {
		if !holds(text, value) {
			t.Errorf("does not find the value in %s", text)
		}
	}
	if holds(base64.StdEncoding.EncodeToString([]byte("planted-other")), value) {
		t.Error("finds what is not there")
	}
}
