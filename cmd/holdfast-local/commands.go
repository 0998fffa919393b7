package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/e2e/local"
)

// upFlags are the flags of up.
type upFlags struct {
	config   local.Config
	guard    string
	detach   bool
	prepared string
}

func upCommand(log *slog.Logger) *cobra.Command {
	var f upFlags
	cmd := &cobra.Command{
		Use:   "up --dir DIR",
		Short: "Bring everything up, and run until Ctrl-C, or in the background with --detach",
		Args:  cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return up(cmd, f, log) }
	flags := cmd.Flags()
	dirFlag(cmd, &f.config.Dir)
	flags.BoolVar(&f.detach, "detach", false, "return when everything is ready, and leave it running until down")
	flags.StringVar(&f.guard, "guard", "on", "on, or off: the same control plane with Holdfast registered nowhere")
	flags.StringVar(&f.config.Policies, "policies", "baseline", "pack of policies to apply: baseline or none")
	flags.StringArrayVar(&f.config.APIServerArgs, "apiserver-arg", nil, "flag of kube-apiserver as name=value; may be repeated")
	flags.StringVar(&f.prepared, "prepared", "", "folder of the holdfast-local that has cleared --dir and detached this one")
	// Only --detach itself uses it. Marking fails for flags that do not exist.
	_ = flags.MarkHidden("prepared")
	return cmd
}

func up(cmd *cobra.Command, f upFlags, log *slog.Logger) error {
	if f.guard != "on" && f.guard != "off" {
		return fmt.Errorf("--guard=%s: want on or off", f.guard)
	}
	config := f.config
	var err error
	if config.Executable, err = os.Executable(); err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	if config.Dir, err = filepath.Abs(config.Dir); err != nil {
		return fmt.Errorf("--dir: %w", err)
	}
	config.Guard = f.guard == "on"
	config.DatabaseURL = local.DatabaseURLFromEnv()
	config.Log, config.Progress = log, cmd.ErrOrStderr()
	// It runs, whether or not anybody reads how to use it.
	ready := func() { _, _ = fmt.Fprint(cmd.OutOrStdout(), local.Summary(config)) }
	if !f.detach {
		if f.prepared != "" {
			config.InstallDir = f.prepared
			config, ready = config.Prepared(), func() {}
		}
		return local.Run(cmd.Context(), config, ready)
	}
	args := []string{"up", "--prepared", filepath.Dir(config.Executable), "--dir", config.Dir, "--guard", f.guard, "--policies", config.Policies}
	for _, arg := range config.APIServerArgs {
		args = append(args, "--apiserver-arg", arg)
	}
	if err := local.Detach(cmd.Context(), config, args); err != nil {
		return err
	}
	ready()
	return nil
}

func downCommand(log *slog.Logger) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "down --dir DIR",
		Short: "Stop everything, and leave no process behind",
		Args:  cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if _, err := os.Stat(dir); err != nil {
			return fmt.Errorf("--dir: %w", err)
		}
		err := local.Down(cmd.Context(), dir, log)
		if errors.Is(err, local.ErrNotRunning) {
			// The exit status says as much: there is nothing left.
			_, _ = fmt.Fprintln(cmd.OutOrStdout(), "nothing is running in", dir)
			return nil
		}
		return err
	}
	dirFlag(cmd, &dir)
	return cmd
}

// errNotUp makes status exit with 1; the table has said all.
var errNotUp = errors.New("not everything is up")

func statusCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "status --dir DIR",
		Short: "Show every part; exit status 0 only when all are up",
		Args:  cobra.NoArgs,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		status, err := local.Status(cmd.Context(), dir)
		if err != nil {
			return err
		}
		if err := status.Print(cmd.OutOrStdout()); err != nil {
			return err
		}
		if !status.Up() {
			return errNotUp
		}
		return nil
	}
	dirFlag(cmd, &dir)
	return cmd
}

func natsCommand() *cobra.Command {
	var config local.NATSConfig
	cmd := &cobra.Command{
		Use:    "nats",
		Short:  "Serve NATS, as a part of up",
		Args:   cobra.NoArgs,
		Hidden: true,
	}
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return local.ServeNATS(cmd.Context(), config) }
	cmd.Flags().StringVar(&config.Listen, "listen", "", "loopback address")
	cmd.Flags().StringVar(&config.StoreDir, "store", "", "folder of the streams")
	return cmd
}

func dirFlag(cmd *cobra.Command, dir *string) {
	cmd.Flags().StringVar(dir, "dir", "", "folder of the run: kubeconfigs, logs, data and env")
	// It fails for flags that do not exist.
	_ = cmd.MarkFlagRequired("dir")
}
