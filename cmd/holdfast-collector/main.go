// Command holdfast-collector takes the audit events of API servers, makes them durable in NATS
// JetStream and moves them into Postgres. It wires parts together and does nothing itself.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	root := &cobra.Command{
		Use:           "holdfast-collector",
		Short:         "Makes audit events durable and queryable",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(serveCommand())
	err := root.ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "holdfast-collector:", err)
		os.Exit(1)
	}
}
