package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/internal/keyfile"
	"github.com/holdfast-dev/holdfast/collector"
	"github.com/holdfast-dev/holdfast/pkg/jetstream"
	"github.com/holdfast-dev/holdfast/pkg/postgres"
)

// options are the flags of serve.
type options struct {
	listen, healthListen      string
	certFile, keyFile, caFile string
	natsURL, databaseURL      string
	redactionKeyFile          string
	decisionKeyFile           string
	streamMaxBytes            int64
	streamReplicas            int
	logFormat                 string
	webhook                   webhookOptions
}

func serveCommand() *cobra.Command {
	var o options
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Take audit events until SIGTERM",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return serve(cmd.Context(), o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", "127.0.0.1:9443", "address for the API servers' audit webhooks (HTTPS), POST /v1/audit/<API server>")
	f.StringVar(&o.healthListen, "health-listen", "127.0.0.1:9444", "address for /healthz, /readyz and /metrics (HTTP)")
	f.StringVar(&o.certFile, "tls-cert-file", "", "server certificate, PEM")
	f.StringVar(&o.keyFile, "tls-private-key-file", "", "its private key, PEM")
	f.StringVar(&o.caFile, "client-ca-file", "", "CA of the API servers' client certificates, PEM")
	f.StringVar(&o.natsURL, "nats-url", "", "NATS server, nats://host:port; needs JetStream, sync_interval: always, and max_payload of at least 8 MiB")
	f.StringVar(&o.databaseURL, "database-url", "", "Postgres; DATABASE_URL in the environment is better, since flags are visible to others")
	f.StringVar(&o.redactionKeyFile, "redaction-key-file", "", "key of the digests that stand for values; made, with mode 0600, if it does not exist; without the flag each process has its own, and equal values can be seen only within one run")
	f.StringVar(&o.decisionKeyFile, "decision-key-file", "", "the webhook's file of that name: decisions in audit events that are not signed with its key are stored as unverified and not acted upon; made, with mode 0600, if it does not exist")
	f.Int64Var(&o.streamMaxBytes, "stream-max-bytes", jetstream.DefaultMaxBytes, "bound of the stream on disk; a full stream refuses, it discards nothing")
	f.IntVar(&o.streamReplicas, "stream-replicas", 1, "copies of the stream in a NATS cluster")
	f.StringVar(&o.logFormat, "log-format", "text", "text or json")
	o.webhook.add(f)
	for _, name := range []string{"tls-cert-file", "tls-private-key-file", "client-ca-file", "nats-url", "decision-key-file"} {
		cobra.CheckErr(cmd.MarkFlagRequired(name))
	}
	return cmd
}

// serve runs until ctx ends. What was asked for first stops first: requests, mover, log,
// database.
func serve(ctx context.Context, o options) error {
	logger, err := newLogger(o.logFormat)
	if err != nil {
		return err
	}
	cfg, err := o.collector(ctx, logger)
	if err != nil {
		return err
	}
	if o.databaseURL == "" {
		o.databaseURL = os.Getenv("DATABASE_URL")
	}
	store, err := postgres.Open(ctx, postgres.Config{URL: o.databaseURL, Logger: logger})
	if err != nil {
		return err
	}
	defer store.Close()
	log, err := jetstream.Start(context.WithoutCancel(ctx), jetstream.Config{
		URL: o.natsURL, MaxBytes: o.streamMaxBytes, Replicas: o.streamReplicas, Logger: logger,
	})
	if err != nil {
		return err
	}
	defer log.Stop()
	cfg.Log, cfg.Store = log, store
	c, err := collector.Start(ctx, cfg)
	if err != nil {
		return err
	}
	defer c.Stop(context.WithoutCancel(ctx))
	select {
	case <-ctx.Done():
		logger.InfoContext(ctx, "stopping")
		return nil
	case err := <-c.Failed():
		return err
	}
}

func (o *options) collector(ctx context.Context, logger *slog.Logger) (collector.Config, error) {
	tlsConfig, err := serverTLS(o.certFile, o.keyFile, o.caFile)
	if err != nil {
		return collector.Config{}, err
	}
	key, err := redactionKey(o.redactionKeyFile)
	if err != nil {
		return collector.Config{}, err
	}
	if o.redactionKeyFile == "" {
		logger.WarnContext(ctx, "redaction_key_is_of_this_process_only")
	}
	decisions, err := keyfile.Decision(o.decisionKeyFile)
	if err != nil {
		return collector.Config{}, err
	}
	teller, err := o.webhook.teller(logger)
	if err != nil {
		return collector.Config{}, err
	}
	return collector.Config{
		Listen: o.listen, HealthListen: o.healthListen, TLS: tlsConfig, RedactionKey: key,
		DecisionKey: decisions, Teller: teller, Logger: logger,
	}, nil
}

func newLogger(format string) (*slog.Logger, error) {
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(os.Stderr, nil)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(os.Stderr, nil)), nil
	}
	return nil, fmt.Errorf("--log-format %q: %w", format, errors.New("want text or json"))
}
