package local

import (
	"fmt"
	"os"
	"strings"
)

// Info says where everything of a run is.
type Info struct {
	// Dir is the run's folder.
	Dir string
	// AdminKubeconfig (system:masters), AgentKubeconfig, HumanKubeconfig,
	// ApproverKubeconfig and Approver2Kubeconfig are paths.
	AdminKubeconfig, AgentKubeconfig, HumanKubeconfig, ApproverKubeconfig, Approver2Kubeconfig string
	// AuditLog is the API server's own log of what it emitted.
	AuditLog string
	// Kubectl is a program.
	Kubectl string
	// ReplicaURL is where the second webhook listens once StartReplica has returned.
	ReplicaURL string
	// APIServerURL, WebhookURL and CollectorURL are https addresses without a path.
	APIServerURL, WebhookURL, CollectorURL string
	// WebhookHealthURL and CollectorHealthURL are http addresses without a path.
	WebhookHealthURL, CollectorHealthURL string
	// DatabaseURL and NATSURL are empty where there is no evidence.
	DatabaseURL, NATSURL string
	// HoldfastCA verifies the webhook and the collector; CallerCert and CallerKey are what
	// the API server shows to them, CollectorCert and CollectorKey what the collector shows to
	// the webhook. Paths.
	HoldfastCA, CallerCert, CallerKey, CollectorCert, CollectorKey string
}

func newInfo(d layout, p ports, c Config) Info {
	info := Info{
		Dir:                 string(d),
		AdminKubeconfig:     d.kubeconfig(adminConfig),
		AgentKubeconfig:     d.kubeconfig(agentConfig),
		HumanKubeconfig:     d.kubeconfig(humanConfig),
		ApproverKubeconfig:  d.kubeconfig(approverConfig),
		Approver2Kubeconfig: d.kubeconfig(approver2Config),
		AuditLog:            d.auditLog(),
		Kubectl:             d.bin(kubectlProgram),
		APIServerURL:        "https://" + loopback(p.apiServer),
	}
	if c.Guard {
		info.WebhookURL = "https://" + loopback(p.webhook)
		info.ReplicaURL = "https://" + loopback(p.replica)
		info.WebhookHealthURL = "http://" + loopback(p.webhookHealth)
		info.HoldfastCA, info.CallerCert, info.CallerKey = d.data("holdfast/ca.crt"), d.data("holdfast/caller.crt"), d.data("holdfast/caller.key")
	}
	if c.evidence() {
		info.CollectorCert, info.CollectorKey = d.data("holdfast/collector.crt"), d.data("holdfast/collector.key")
		info.CollectorURL = "https://" + loopback(p.collector)
		info.CollectorHealthURL = "http://" + loopback(p.collectorHealth)
		info.NATSURL = "nats://" + loopback(p.nats)
	}
	return info
}

// variable is a line of env.
type variable struct{ name, value string }

func (i Info) variables() []variable {
	vars := []variable{
		{"HOLDFAST_DIR", i.Dir},
		{"HOLDFAST_ADMIN_KUBECONFIG", i.AdminKubeconfig},
		{"HOLDFAST_AGENT_KUBECONFIG", i.AgentKubeconfig},
		{"HOLDFAST_HUMAN_KUBECONFIG", i.HumanKubeconfig},
		{"HOLDFAST_APPROVER_KUBECONFIG", i.ApproverKubeconfig},
		{"HOLDFAST_APPROVER2_KUBECONFIG", i.Approver2Kubeconfig},
		{"HOLDFAST_AUDIT_LOG", i.AuditLog},
		{"HOLDFAST_APISERVER_PORT", portOf(i.APIServerURL)},
		{"HOLDFAST_WEBHOOK_PORT", portOf(i.WebhookURL)},
		{"HOLDFAST_WEBHOOK_HEALTH_PORT", portOf(i.WebhookHealthURL)},
		{"HOLDFAST_COLLECTOR_PORT", portOf(i.CollectorURL)},
		{"HOLDFAST_COLLECTOR_HEALTH_PORT", portOf(i.CollectorHealthURL)},
		{"HOLDFAST_NATS_PORT", portOf(i.NATSURL)},
		{"HOLDFAST_NATS_URL", i.NATSURL},
		{"DATABASE_URL", i.DatabaseURL},
		// By this the next `up` knows that DATABASE_URL came from here, and goes with this run.
		{localDatabaseVariable, i.DatabaseURL},
	}
	var set []variable
	for _, v := range vars {
		if v.value != "" {
			set = append(set, v)
		}
	}
	return set
}

func portOf(url string) string { return url[strings.LastIndexByte(url, ':')+1:] }

// localDatabaseVariable is set, beside DATABASE_URL, to a database that belongs to a run.
const localDatabaseVariable = "HOLDFAST_LOCAL_DATABASE_URL"

// DatabaseURLFromEnv returns DATABASE_URL, unless it comes from the env file of a run.
func DatabaseURLFromEnv() string {
	url := os.Getenv("DATABASE_URL")
	if url == os.Getenv(localDatabaseVariable) {
		return ""
	}
	return url
}

// envFile is a file for a POSIX shell to source.
func (i Info) envFile() string {
	var b strings.Builder
	b.WriteString("# Written by holdfast-local; for sh, with: . " + quote(i.Dir+"/env") + "\n")
	for _, v := range i.variables() {
		fmt.Fprintf(&b, "export %s=%s\n", v.name, quote(v.value))
	}
	fmt.Fprintf(&b, "export PATH=%s\"${PATH:+:$PATH}\"\n", quote(layout(i.Dir).bin("")))
	return b.String()
}

// quote makes any text one word of a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
