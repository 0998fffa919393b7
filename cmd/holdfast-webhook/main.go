// Command holdfast-webhook answers the API server's webhook calls (serve) and renders what
// the API server needs in order to make them (render).
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
	defer stop()
	root := &cobra.Command{
		Use:           "holdfast-webhook",
		Short:         "Keeps autonomous agents to least privilege from inside the API server",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(serveCommand(), renderCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "holdfast-webhook:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop has been called
	}
}
