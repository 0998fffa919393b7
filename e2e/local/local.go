// Package local runs all of Holdfast on one machine for development, demos and end-to-end
// tests: a real control plane, NATS, Postgres, the webhook and the collector, as the real
// programs, in processes of their own, and leaves none of them behind.
//
// It is not a way to run Holdfast for real: one member of everything, keys on the disk, an
// agent that is cluster-admin on purpose. It needs Unix.
package local

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
)

// Names of the parts.
const (
	Etcd              = "etcd"
	Postgres          = "postgres"
	NATS              = "nats"
	Collector         = "holdfast-collector"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Webhook           = "holdfast-webhook"
	// Replica is a second webhook, if StartReplica was called.
	Replica = "holdfast-webhook-2"
)

// Names that Up uses in the cluster.
const (
	// AgentName is the Agent that declares every service account of AgentNamespace.
	AgentName      = "bot"
	AgentNamespace = "agents"
	// AgentAccount is the service account of agent.kubeconfig.
	AgentAccount = "bot"
	// HumanUser is the user of human.kubeconfig, and owner of the Agent.
	HumanUser = "human"
	// Approvers is the group of ApproverUser and Approver2User.
	Approvers     = "holdfast:approvers"
	ApproverUser  = "approver"
	Approver2User = "approver2"
	// SystemNamespace is Holdfast's own.
	SystemNamespace = "holdfast-system"
	// AuditSource is this API server's name at the collector.
	AuditSource = "local"
)

// Values of Config.Policies.
const (
	baseline   = "baseline"
	noPolicies = "none"
)

// Config says what to bring up, and where. Dir alone is required.
type Config struct {
	// Dir gets kubeconfigs, logs, data and the file env. It is made if it does not exist;
	// files of others in it are left alone.
	Dir string
	// Guard registers Holdfast with the API server. Without it there is the same control
	// plane and audit log, and nothing of Holdfast.
	Guard bool
	// NoEvidence leaves out NATS, Postgres, the collector and the audit webhook.
	NoEvidence bool
	// NoAgent does not create the Agent; the net is the same.
	NoAgent bool
	// Policies is the pack of policies to apply: "baseline", which is manifests/policies/baseline,
	// or "none". Default: baseline.
	Policies string
	// DatabaseURL is a Postgres to use. Default: one of its own, started and removed.
	DatabaseURL string
	// APIServerArgs are flags for kube-apiserver, as name=value; they replace others of the
	// same name.
	APIServerArgs []string
	// AuditPolicy replaces the rendered audit policy; YAML.
	AuditPolicy []byte
	// WebhookArgs, WebhookEnv, CollectorArgs and CollectorEnv are added to those of the
	// programs; variables as name=value.
	WebhookArgs, WebhookEnv, CollectorArgs, CollectorEnv []string
	// WebhookTags and CollectorTags are build tags of the programs.
	WebhookTags, CollectorTags []string
	// SourceDir is a folder in this module's source tree, from which the programs are
	// built. Default: the working directory; outside of a source tree the programs are
	// taken from InstallDir, or from PATH.
	SourceDir string
	// BinDir is where Holdfast's programs are built, and kept so that what has not changed
	// is not linked again; Dir/bin gets what was built. Default: a folder for each source
	// tree in the user's cache directory.
	BinDir string
	// Executable is a holdfast-local, which serves NATS too. Default: built like the other
	// programs.
	Executable string
	// InstallDir has Holdfast's programs and manifests outside of a source tree. Default:
	// the folder of Executable.
	InstallDir string
	// Log tells what happens. Default: slog.Default().
	Log *slog.Logger
	// Progress gets lines for people about long builds. Default: none.
	Progress io.Writer
	// prepared means that Detach has cleared Dir already.
	prepared bool
}

// Prepared returns the Config for the process that Detach has started: Dir has been cleared
// already, and holds what the two share.
func (c Config) Prepared() Config {
	c.prepared = true
	return c
}

// complete validates the Config and fills in defaults.
func (c Config) complete() (Config, error) {
	var errs []error
	if c.Dir == "" {
		errs = append(errs, errors.New("dir: want a folder"))
	}
	if c.Policies == "" {
		c.Policies = baseline
	}
	if c.Policies != noPolicies && c.Policies != baseline {
		errs = append(errs, fmt.Errorf("policies %q: want baseline or none", c.Policies))
	}
	if err := errors.Join(errs...); err != nil {
		return c, fmt.Errorf("local: %w", err)
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, fmt.Errorf("local: %w", err)
	}
	c.Dir = dir
	if c.InstallDir == "" && c.Executable != "" {
		c.InstallDir = filepath.Dir(c.Executable)
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Progress == nil {
		c.Progress = io.Discard
	}
	return c, nil
}

// evidence says whether NATS, Postgres and the collector run.
func (c Config) evidence() bool { return c.Guard && !c.NoEvidence }
