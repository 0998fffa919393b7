// Package registration renders what an API server needs in order to call Holdfast: the
// webhook registrations with the net in their match conditions, static policies that stand
// when Holdfast does not, the API server's configuration files for admission, authorization,
// tracing and audit, and the FlowSchema that puts the net on a priority level of its own.
//
// It turns a Config into files and flags. It starts nothing, calls no API, and never widens
// the guard beyond the net: people and controllers must not wait for Holdfast.
package registration

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/holdfast-dev/holdfast/pkg/agent"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// Paths of the webhook's handlers.
const (
	// GuardPath judges what agents do.
	GuardPath = "/admission/guard"
	// OwnPath judges writes to Holdfast's own kinds.
	OwnPath = "/admission/own"
	// StampPath stamps Reviews with who makes them.
	StampPath = "/admission/stamp"
	// AuthorizePath judges what agents do before RBAC does.
	AuthorizePath = "/authorize"
	// TestimonyPath takes what the collector has seen in the audit stream; the API server
	// does not call it.
	TestimonyPath = "/v1/testimony"
)

// Config says what the API server is to call, and where.
type Config struct {
	// Dir is the absolute path at which the API server will read the files.
	Dir string
	// Agents are the declared Agents: the net is rendered from their subjects. None makes a
	// net that nobody is in.
	Agents []v1alpha1.Agent
	// Webhook is where the admission webhook listens; URL without a path. Nil registers it
	// nowhere.
	Webhook *Endpoint
	// Collector is where the audit webhook listens; URL with the path of this API server.
	// Nil renders no audit webhook.
	Collector *Endpoint
	// OwnUser is Holdfast's own account, whose writes to its own kinds are not sent to it:
	// it would wait for itself. Required with Webhook.
	OwnUser string
	// StaticManifests renders the registrations into directories that the API server reads
	// itself (1.37 and later), where no API request can change them. Otherwise they are
	// rendered as API objects, into registrations.yaml, to be applied with kubectl. Never
	// use both: each request would be judged twice.
	StaticManifests bool
}

// Endpoint is a server that the API server calls over TLS with a client certificate.
type Endpoint struct {
	// URL starts with https:// and has an explicit port.
	URL string
	// CA verifies the server's certificate; PEM.
	CA []byte
	// ClientCert and ClientKey are shown to the server; PEM. Not needed where the
	// registrations are API objects and the API server has no admission configuration.
	ClientCert, ClientKey []byte
}

// File is a rendered file. Its name is a slash-separated path below Config.Dir.
type File struct {
	Name string
	Mode fs.FileMode
	Data []byte
}

// Names of the rendered files below Config.Dir.
const (
	AuthorizationFile = "authorization.yaml"
	// AuthorizationKubeconfigFile is how the API server reaches the authorizer.
	AuthorizationKubeconfigFile = "authorization.kubeconfig"
	AdmissionFile               = "admission.yaml"
	AdmissionKubeconfigFile     = "admission.kubeconfig"
	TracingFile                 = "tracing.yaml"
	AuditPolicyFile             = "audit-policy.yaml"
	AuditKubeconfigFile         = "audit.kubeconfig"
	RegistrationsFile           = "registrations.yaml"
	NetFile                     = "net.yaml"
	// FlowControlFile has an API object, to be applied with kubectl after
	// manifests/flowcontrol.
	FlowControlFile = "flowcontrol.yaml"

	mutatingDir   = "static/mutating"
	validatingDir = "static/validating"
	policyDir     = "static/policies"
)

// maxWild is how many patterns the net may have: 50, on a person of 200 groups, take less
// than half of what the API server lets a match condition cost.
const maxWild = 50

func (c Config) validate() error {
	var errs []error
	if !filepath.IsAbs(c.Dir) {
		errs = append(errs, fmt.Errorf("dir %q: want the absolute path at which the API server reads the files", c.Dir))
	}
	if c.Webhook != nil {
		errs = append(errs, c.Webhook.validate("webhook"))
		if c.OwnUser == "" {
			errs = append(errs, errors.New("own user: want the user name of Holdfast's own account"))
		}
	}
	if c.Collector != nil {
		errs = append(errs, c.Collector.validate("collector"))
	}
	if n := netOf(c.Agents).Wild(); n > maxWild {
		errs = append(errs, fmt.Errorf("agents: %d patterns of users and groups; want at most %d: the API server bounds what a match condition may cost, and over it refuses people's requests too", n, maxWild))
	}
	for i := range c.Agents {
		if err := agent.Validate(&c.Agents[i]).ToAggregate(); err != nil {
			errs = append(errs, fmt.Errorf("agent %s: %w", c.Agents[i].Name, err))
		}
	}
	return errors.Join(errs...)
}

func (e *Endpoint) validate(name string) error {
	u, err := url.Parse(e.URL)
	if err != nil || u.Scheme != "https" || u.Port() == "" {
		return fmt.Errorf("%s URL %q: want https://host:port", name, e.URL)
	}
	if len(e.CA) == 0 {
		return fmt.Errorf("%s CA: want the certificate authority of its server, in PEM", name)
	}
	if (len(e.ClientCert) == 0) != (len(e.ClientKey) == 0) {
		return fmt.Errorf("%s client certificate: want both certificate and key, in PEM", name)
	}
	return nil
}

// Render returns the files that the API server reads. The same Config gives the same bytes.
// Errors name the field of Config and what would be right.
func Render(c Config) ([]File, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("registration: %w", err)
	}
	r := &renderer{config: c, net: netOf(c.Agents)}
	r.yaml(AuthorizationFile, 0o644, authorizationConfig(c, r.net))
	r.yaml(TracingFile, 0o644, tracingConfig())
	r.yaml(AuditPolicyFile, 0o644, auditPolicy())
	r.yaml(NetFile, 0o644, r.net)
	if c.Collector != nil {
		r.yaml(AuditKubeconfigFile, 0o600, kubeconfig("collector", c.Collector))
	}
	if c.Webhook != nil {
		r.webhook()
	}
	return r.files, r.err
}

// APIServerFlags returns the kube-apiserver flags, as --name=value, that make it read the
// files of Render.
func APIServerFlags(c Config) []string {
	at := func(file string) string { return path.Join(filepath.ToSlash(c.Dir), file) }
	flags := []string{
		"--authorization-config=" + at(AuthorizationFile),
		"--tracing-config-file=" + at(TracingFile),
		"--audit-policy-file=" + at(AuditPolicyFile),
	}
	if c.Webhook != nil {
		flags = append(flags, "--admission-control-config-file="+at(AdmissionFile))
	}
	if c.Collector != nil {
		flags = append(flags,
			"--audit-webhook-config-file="+at(AuditKubeconfigFile),
			"--audit-webhook-version=audit.k8s.io/v1",
		)
	}
	return flags
}

// Write puts the files below dir, each by renaming a complete one into place: the API server
// watches its static directories, and would take a half-written or missing file for an
// empty set of registrations, under which agents pass.
func Write(dir string, files []File) error {
	for _, f := range files {
		name := filepath.Join(dir, filepath.FromSlash(f.Name))
		if err := writeFile(name, f); err != nil {
			return fmt.Errorf("registration: write %s: %w", f.Name, err)
		}
		// What somebody has switched on by renaming it follows the net, too.
		on, off := strings.CutSuffix(name, ".off")
		if _, err := os.Stat(on); off && err == nil {
			if err := writeFile(on, f); err != nil {
				return fmt.Errorf("registration: write %s: %w", on, err)
			}
		}
	}
	return nil
}

func writeFile(name string, f File) error {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	// The name ends in none of .yaml, .yml and .json, so that the API server ignores it.
	tmp, err := os.CreateTemp(filepath.Dir(name), "."+filepath.Base(name)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone after the rename
	if _, err := tmp.Write(f.Data); err != nil {
		return errors.Join(err, tmp.Close())
	}
	if err := errors.Join(tmp.Chmod(f.Mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), name)
}

func netOf(agents []v1alpha1.Agent) agent.Net {
	list := make([]*v1alpha1.Agent, len(agents))
	for i := range agents {
		list[i] = &agents[i]
	}
	return agent.NewNet(list)
}
