package local

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/certs"
	"github.com/holdfast-dev/holdfast/e2e/controlplane"
	"github.com/holdfast-dev/holdfast/e2e/local/process"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/webhook/registration"
)

const (
	webhookAccount = "holdfast-webhook"
	// webhookUser is Holdfast's own account in the cluster.
	webhookUser = "system:serviceaccount:" + SystemNamespace + ":" + webhookAccount
)

// botAgent declares every service account of AgentNamespace.
func botAgent() v1alpha1.Agent {
	return v1alpha1.Agent{
		TypeMeta:   metav1.TypeMeta{APIVersion: v1alpha1.GroupVersion.String(), Kind: "Agent"},
		ObjectMeta: metav1.ObjectMeta{Name: AgentName},
		Spec: v1alpha1.AgentSpec{
			Subjects: []v1alpha1.Subject{{Kind: v1alpha1.ServiceAccountSubject, Namespace: AgentNamespace, Name: "*"}},
			Owner:    &v1alpha1.Owner{Kind: v1alpha1.UserSubject, Name: HumanUser},
		},
	}
}

// startPostgres starts a database, unless one was given.
func (l *Local) startPostgres(ctx context.Context) error {
	if given := l.config.DatabaseURL; given != "" {
		l.info.DatabaseURL = given
		return l.store.update(func(s *state) {
			p := s.part(Postgres)
			p.State, p.Address = partExternal, databaseAddress(given)
		})
	}
	c, err := newCluster(ctx, l.ports.postgres, l.dir.partLog(Postgres))
	if err != nil {
		return fmt.Errorf("local: %w", err)
	}
	if err := l.store.update(func(s *state) { s.Remove = append(s.Remove, c.folder) }); err != nil {
		return err
	}
	if err := c.init(ctx); err != nil {
		return remedy(fmt.Errorf("local: %w", err), c.log, "")
	}
	l.info.DatabaseURL = c.url(postgresDatabase)
	return l.add(ctx, &part{name: Postgres, address: loopback(c.port), spec: c.spec(), ready: c.ready})
}

// databaseAddress is host:port of a database URL, for people; it never has the password.
func databaseAddress(databaseURL string) string {
	u, err := url.Parse(databaseURL)
	if err != nil || u.Host == "" {
		return "DATABASE_URL"
	}
	if u.Port() == "" {
		return net.JoinHostPort(u.Hostname(), "5432")
	}
	return u.Host
}

func (l *Local) startNATS(ctx context.Context) error {
	address := loopback(l.ports.nats)
	return l.add(ctx, &part{
		name: NATS, address: address,
		spec: process.Spec{
			Path: l.dir.bin(localProgram),
			Args: []string{"nats", "--listen", address, "--store", l.dir.data("nats")},
			Log:  l.dir.partLog(NATS),
		},
		ready: func(ctx context.Context) error { return natsReady(ctx, address) },
	})
}

// preparePlane makes all certificates and renders what the API server reads.
func (l *Local) preparePlane() error {
	if err := l.issue(); err != nil {
		return fmt.Errorf("local: %w", err)
	}
	rendered := l.registration()
	files, err := registration.Render(rendered)
	if err != nil {
		return fmt.Errorf("local: %w", err)
	}
	for i := range files {
		if files[i].Name == registration.AuditPolicyFile && l.config.AuditPolicy != nil {
			files[i].Data = l.config.AuditPolicy
		}
	}
	if err := registration.Write(rendered.Dir, files); err != nil {
		return fmt.Errorf("local: %w", err)
	}
	flags := append(registration.APIServerFlags(rendered),
		"--audit-log-path="+l.info.AuditLog,
		// In MB: the log is complete, never rotated.
		"--audit-log-maxsize=10240",
	)
	if rendered.Collector != nil {
		flags = append(flags, "--audit-webhook-batch-max-wait=1s")
	}
	l.plane, err = controlplane.Prepare(controlplane.Config{
		Dir:      l.dir.data("controlplane"),
		Binaries: l.binaries,
		Ports: controlplane.Ports{
			EtcdClient: l.ports.etcdClient, EtcdPeer: l.ports.etcdPeer,
			APIServer: l.ports.apiServer, ControllerManager: l.ports.controllerManager,
		},
		APIServerArgs: overFlags(flags, l.config.APIServerArgs),
		// What is tried here is what Holdfast keeps, not what etcd does.
		EtcdNoSync: true,
	})
	return err
}

// overFlags lets the flags given win over rendered ones of the same name.
func overFlags(rendered, given []string) []string {
	return slices.Concat(slices.DeleteFunc(rendered, func(flag string) bool {
		return slices.ContainsFunc(given, func(g string) bool { return flagName(g) == flagName(flag) })
	}), given)
}

// flagName is the name in a flag such as --name=value.
func flagName(flag string) string {
	name, _, _ := strings.Cut(strings.TrimLeft(flag, "-"), "=")
	return name
}

// issue makes the authority of Holdfast's own servers, and the certificates that they and
// the API server show to each other.
func (l *Local) issue() error {
	var err error
	if l.authority, err = certs.NewAuthority("holdfast-local", validity); err != nil {
		return err
	}
	server, serverErr := l.authority.IssueServer("127.0.0.1", "localhost")
	l.clientPair, err = l.authority.IssueClient("kube-apiserver")
	teller, tellerErr := l.authority.IssueClient(Collector)
	if err := errors.Join(serverErr, err, tellerErr); err != nil {
		return err
	}
	for name, data := range map[string][]byte{
		"ca.crt": l.authority.CertPEM(), "server.crt": server.Cert, "server.key": server.Key,
		"caller.crt": l.clientPair.Cert, "caller.key": l.clientPair.Key,
		"collector.crt": teller.Cert, "collector.key": teller.Key,
	} {
		path := l.dir.data(filepath.Join("holdfast", name))
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (l *Local) registration() registration.Config {
	endpoint := func(url string) *registration.Endpoint {
		return &registration.Endpoint{
			URL: url, CA: l.authority.CertPEM(), ClientCert: l.clientPair.Cert, ClientKey: l.clientPair.Key,
		}
	}
	c := registration.Config{
		Dir: l.dir.data("apiserver"), Agents: []v1alpha1.Agent{botAgent()},
		OwnUser: webhookUser, StaticManifests: true,
	}
	if l.config.Guard {
		c.Webhook = endpoint(l.info.WebhookURL)
	}
	if l.config.evidence() {
		c.Collector = endpoint(l.info.CollectorURL + "/v1/audit/" + AuditSource)
	}
	return c
}

// serverFlags are what the webhook and the collector have in common.
func (l *Local) serverFlags(port, healthPort int) []string {
	return []string{
		"serve",
		"--listen", loopback(port),
		"--health-listen", loopback(healthPort),
		"--tls-cert-file", l.dir.data("holdfast/server.crt"),
		"--tls-private-key-file", l.dir.data("holdfast/server.key"),
		"--client-ca-file", l.dir.data("holdfast/ca.crt"),
	}
}

// decisionKeyFile is shared by the webhook, which signs with it, and the collector. Whichever
// starts first makes it.
const decisionKeyFile = "holdfast/decision.key"

func (l *Local) startCollector(ctx context.Context) error {
	if !l.config.evidence() {
		return nil
	}
	return l.add(ctx, &part{
		name: Collector, address: loopback(l.ports.collector),
		spec: process.Spec{
			Path: l.dir.bin(Collector),
			Args: slices.Concat(l.serverFlags(l.ports.collector, l.ports.collectorHealth),
				[]string{
					"--nats-url", l.info.NATSURL, "--redaction-key-file", l.dir.data("holdfast/redaction.key"),
					"--decision-key-file", l.dir.data(decisionKeyFile),
					"--webhook-url", l.info.WebhookURL, "--webhook-ca-file", l.dir.data("holdfast/ca.crt"),
					"--webhook-client-cert-file", l.dir.data("holdfast/collector.crt"), "--webhook-client-key-file", l.dir.data("holdfast/collector.key"),
				},
				l.config.CollectorArgs),
			Env: slices.Concat([]string{"DATABASE_URL=" + l.info.DatabaseURL}, l.config.CollectorEnv),
			Log: l.dir.partLog(Collector),
		},
		ready: httpReady(l.info.CollectorHealthURL + "/readyz"),
	})
}

func (l *Local) startAPIServer(ctx context.Context) error {
	component, err := l.plane.APIServer()
	if err != nil {
		return err
	}
	return l.add(ctx, fromComponent(component, l.dir))
}

// startWebhook starts the webhook under its own account in the cluster.
func (l *Local) startWebhook(ctx context.Context) error {
	if !l.config.Guard {
		return nil
	}
	config, err := l.plane.ClientKubeconfig(webhookUser, "system:serviceaccounts", "system:serviceaccounts:"+SystemNamespace)
	if err == nil {
		err = controlplane.WriteKubeconfig(l.webhookKubeconfig(), config)
	}
	if err != nil {
		return fmt.Errorf("local: %w", err)
	}
	return l.add(ctx, l.webhookPart(Webhook, l.ports.webhook, l.ports.webhookHealth))
}

// StartReplica starts a second webhook, which decides as the first one does. The API server
// does not call it.
func (l *Local) StartReplica(ctx context.Context) error {
	return l.add(ctx, l.webhookPart(Replica, l.ports.replica, l.ports.replicaHealth))
}

func (l *Local) webhookPart(name string, port, healthPort int) *part {
	return &part{
		name: name, address: loopback(port),
		spec: process.Spec{
			Path: l.dir.bin(Webhook),
			Args: slices.Concat(l.serverFlags(port, healthPort),
				[]string{
					"--kubeconfig", l.webhookKubeconfig(), "--net-file", filepath.Join(l.registration().Dir, registration.NetFile),
					"--fingerprint-key-file", l.dir.data("holdfast/fingerprint.key"), "--trust-traces",
					"--decision-key-file", l.dir.data(decisionKeyFile),
				},
				l.config.WebhookArgs),
			Env: l.config.WebhookEnv,
			Log: l.dir.partLog(name),
		},
		ready: httpReady("http://" + loopback(healthPort) + "/readyz"),
	}
}

func (l *Local) webhookKubeconfig() string { return l.dir.data("holdfast/webhook.kubeconfig") }
