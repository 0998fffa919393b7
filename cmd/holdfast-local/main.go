// Command holdfast-local runs all of Holdfast on one machine: a real control plane, NATS,
// Postgres, the webhook and the collector. See package e2e/local, which does it; here are
// only flags.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
	controllerlog "sigs.k8s.io/controller-runtime/pkg/log"
)

func main() {
	// A terminal that closes ends a run in its foreground, like Ctrl-C.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	klog.SetSlogLogger(log)
	controllerlog.SetLogger(logr.FromSlogHandler(log.Handler()))
	root := &cobra.Command{
		Use:           "holdfast-local",
		Short:         "Run Holdfast with a control plane of its own on this machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(upCommand(log), downCommand(log), statusCommand(), natsCommand())
	err := root.ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "holdfast-local:", err)
		os.Exit(1)
	}
}
