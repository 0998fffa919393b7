package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/yaml"

	"github.com/holdfast-dev/holdfast/pkg/agent"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// serveConfig is what the flags of serve say.
type serveConfig struct {
	kubeconfig   string
	listen       string
	healthListen string
	certFile     string
	keyFile      string
	clientCAFile string
	clientNames  []string
	// collectorName is the common name of the collector's client certificate.
	collectorName string
	netFile       string
	// keyFingerprint is the file of the fingerprints' key.
	keyFingerprint string
	// keyDecision is the file of the key that decisions are signed with.
	keyDecision string
	trustTraces bool
	logFormat   string
	keep        keepConfig
	notify      notifyConfig
}

func serveCommand() *cobra.Command {
	var c serveConfig
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Answer the API server's webhook calls",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), c) },
	}
	f := cmd.Flags()
	f.StringVar(&c.kubeconfig, "kubeconfig", "", "kubeconfig of Holdfast's own account; empty: the pod's service account")
	f.StringVar(&c.listen, "listen", ":9443", "host:port that the API server calls")
	f.StringVar(&c.healthListen, "health-listen", "127.0.0.1:9440", "host:port of /healthz, /readyz and /metrics, without TLS")
	f.StringVar(&c.certFile, "tls-cert-file", "", "server certificate, PEM; read again when it changes")
	f.StringVar(&c.keyFile, "tls-private-key-file", "", "key of the server certificate, PEM")
	f.StringVar(&c.clientCAFile, "client-ca-file", "", "authority that signs the API server's client certificate, PEM")
	f.StringSliceVar(&c.clientNames, "client-name", nil, "common names of client certificates that may call; none: any that the authority signed")
	f.StringVar(&c.collectorName, "collector-name", "holdfast-collector", "common name of the collector's client certificate: it may tell what it has seen in the audit stream, and nothing else")
	f.StringVar(&c.netFile, "net-file", "", "net.yaml as rendered for the API server: lets statuses and warnings say which Agents are outside")
	f.StringVar(&c.keyFingerprint, "fingerprint-key-file", "", "at least 32 random bytes, the same for all replicas, that changes are fingerprinted with; made where it does not exist")
	f.StringVar(&c.keyDecision, "decision-key-file", "", "at least 32 random bytes, the same for all replicas and the collector, that decisions in audit events are signed with; made where it does not exist")
	f.BoolVar(&c.trustTraces, "trust-traces", false, "the API server has the rendered tracing configuration: calls with one trace ID are one request; it is probed, and not believed before")
	f.StringVar(&c.logFormat, "log-format", "text", "text or json")
	c.keep.add(f)
	c.notify.flags(f)
	for _, name := range []string{"tls-cert-file", "tls-private-key-file", "client-ca-file", "fingerprint-key-file", "decision-key-file"} {
		_ = cmd.MarkFlagRequired(name)
	}
	return cmd
}

// Policies, grants and what is watched stay for long and are small, and every call leaves
// garbage: collecting less often costs tens of megabytes, and saves the calls that a collection
// would slow down. Near memoryLimit it is collected as often as need be.
const (
	collectAt         = 400
	memoryLimit int64 = 512 << 20
)

// tune sets when memory is collected, where GOGC and GOMEMLIMIT do not.
func tune() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
}

func serve(ctx context.Context, c serveConfig) error {
	tune()
	log, err := logger(c.logFormat)
	if err != nil {
		return err
	}
	mgr, err := c.manager()
	if err != nil {
		return err
	}
	runnables, err := c.assemble(ctx, mgr, log)
	if err != nil {
		return err
	}
	for _, r := range runnables {
		if err := mgr.Add(r); err != nil {
			return err
		}
	}
	log.InfoContext(ctx, "starting", "listen", c.listen, "health_listen", c.healthListen)
	return mgr.Start(ctx)
}

// logger bridges klog and controller-runtime to the one logger.
func logger(format string) (*slog.Logger, error) {
	var handler slog.Handler
	switch format {
	case "text":
		handler = slog.NewTextHandler(os.Stderr, nil)
	case "json":
		handler = slog.NewJSONHandler(os.Stderr, nil)
	default:
		return nil, fmt.Errorf("--log-format %q: want text or json", format)
	}
	log := slog.New(handler)
	slog.SetDefault(log) // takes what net/http logs, too
	ctrl.SetLogger(logr.FromSlogHandler(handler))
	klog.SetSlogLogger(log)
	return log, nil
}

// readNet reads the rendered net; nil where no file is named.
func readNet(file string) (*agent.Net, error) {
	if file == "" {
		return nil, nil //nolint:nilnil // not known
	}
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("--net-file: %w", err)
	}
	var n agent.Net
	if err := yaml.UnmarshalStrict(data, &n); err != nil {
		return nil, fmt.Errorf("--net-file %s: want the net.yaml that render wrote: %w", file, err)
	}
	return &n, nil
}

func (c serveConfig) manager() (manager.Manager, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), corev1.AddToScheme(scheme), authenticationv1.AddToScheme(scheme), authorizationv1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	// An empty path means the pod's service account.
	config, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("--kubeconfig: %w", err)
	}
	// The API server's priority and fairness is what slows clients down, and the client's own
	// limit, of five requests a second, would have agents wait for it.
	config.QPS = -1
	return ctrl.NewManager(config, manager.Options{
		Scheme:                 scheme,
		Metrics:                metricsserver.Options{BindAddress: "0"},
		HealthProbeBindAddress: "0",
	})
}
