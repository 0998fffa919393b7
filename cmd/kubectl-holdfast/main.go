// Command kubectl-holdfast is the kubectl plugin with which people see what agents wait for,
// decide on it, and stop an agent; and with which agents say why they ask. Here are only
// commands: how things look is in internal/show, how they are followed in internal/follow.
//
// It has no powers of its own: every command is one or two requests that plain kubectl makes
// too, under the rights of whoever runs it. Each command's --help says which.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
	"time"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	a := &app{
		flags:   genericclioptions.NewConfigFlags(true),
		streams: genericiooptions.IOStreams{In: os.Stdin, Out: os.Stdout, ErrOut: os.Stderr},
		now:     time.Now,
	}
	err := rootCommand(a).ExecuteContext(ctx)
	stop()
	os.Exit(a.report(err))
}
