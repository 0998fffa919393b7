package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"

	"github.com/spf13/cobra"

	"github.com/holdfast-dev/holdfast/cmd/kubectl-holdfast/internal/policytest"
)

// badInput is the exit status of input that cannot be used.
const badInput = 2

func policyCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "policy",
		Short: "Test policies, without a cluster",
		Long: `Test policies, without a cluster: see "kubectl holdfast policy test --help".

With plain kubectl, a cluster says whether a policy compiles:
  kubectl apply --dry-run=server -f FILE`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(policyTestCommand(a))
	return cmd
}

// policyTest is policy test's flags.
type policyTest struct {
	verbose, update, coverage, requireCoverage bool
	run, junit, output                         string
}

func policyTestCommand(a *app) *cobra.Command {
	var o policyTest
	cmd := &cobra.Command{
		Use:   "test DIR...",
		Short: "Run the tests of policies: what should become of which request",
		Long: `Run the tests in all files named *_test.yaml in the folders and below, without a cluster. They are
judged by the engine that judges there, its protection of Holdfast included. The policies are
the other YAML files of a test file's folder; where that is named "tests", those of the folder
above, too.

  apiVersion: holdfast.dev/v1alpha1
  kind: PolicyTest
  tests:
  - name: deleting a pod waits for a person
    request: {verb: delete, resource: pods}
    expect: {decision: Hold, rule: baseline-deletes/hold-delete}
  - name: no workload goes past the scheduler
    kinds: ["*"]
    podSpec: {nodeName: n, containers: [{name: c}]}
    expect: Deny

docs/policy-test.md has the whole format. Exit status: 0 where all pass; 1 where a test fails, a
policy cannot be used, or, with --require-coverage, a rule is not exercised; 2 for input that
cannot be used.`,
		Example: `  kubectl holdfast policy test manifests/policies
  kubectl holdfast policy test --run 'pod' -v .
  kubectl holdfast policy test --update .     # write what is seen into the test files`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return &exit{badInput, errors.New("name the folders whose *_test.yaml files to run")}
			}
			return nil
		},
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &exit{badInput, err} })
	cmd.RunE = func(cmd *cobra.Command, args []string) error { return testPolicies(cmd.Context(), a, args, &o) }
	f := cmd.Flags()
	f.BoolVarP(&o.verbose, "verbose", "v", false, "Show what was decided in tests that pass, too.")
	f.StringVar(&o.run, "run", "", "Run only tests whose name matches this regular expression.")
	f.BoolVar(&o.update, "update", false, "Write what is seen into the expect of tests that fail or have none; nothing else of a file changes.")
	f.BoolVar(&o.coverage, "coverage", false, "List the rules that no test exercises.")
	f.BoolVar(&o.requireCoverage, "require-coverage", false, "Fail where there are any.")
	f.StringVar(&o.junit, "junit", "", "File to write the results to as JUnit's XML.")
	f.StringVarP(&o.output, "output", "o", "", "Output format: json.")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json"}, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func testPolicies(ctx context.Context, a *app, paths []string, o *policyTest) error {
	options, err := o.options()
	if err != nil {
		return &exit{badInput, err}
	}
	report, err := policytest.Run(ctx, paths, options)
	if err != nil {
		return &exit{badInput, err}
	}
	if o.update {
		if err := a.updateTests(report); err != nil {
			return err
		}
		// What stands in the files now is what counts.
		options.Update = false
		if report, err = policytest.Run(ctx, paths, options); err != nil {
			return &exit{badInput, err}
		}
	}
	if err := a.printTests(report, o); err != nil {
		return err
	}
	switch {
	case !report.OK():
		return errors.New("not all policies do what their tests say")
	case o.requireCoverage && len(report.Unexercised) > 0:
		return fmt.Errorf("no test exercises %d of %d rules", len(report.Unexercised), report.Rules)
	}
	return nil
}

func (o *policyTest) options() (policytest.Options, error) {
	options := policytest.Options{Update: o.update}
	if o.output != "" && o.output != "json" {
		return options, fmt.Errorf("--output=%s: want json", o.output)
	}
	if o.run == "" {
		return options, nil
	}
	if o.requireCoverage {
		return options, errors.New("--require-coverage needs all tests: leave out --run")
	}
	only, err := regexp.Compile(o.run)
	if err != nil {
		return options, fmt.Errorf("--run: %w", err)
	}
	options.Only = only
	return options, nil
}

// updateTests writes test files anew. What cannot be said in them is left, and told.
func (a *app) updateTests(r *policytest.Report) error {
	edits, problems := r.Updates()
	for _, e := range edits {
		if err := os.WriteFile(e.File, e.Text, 0o644); err != nil { //nolint:gosec // as open as its folder
			return fmt.Errorf("--update: %w", err)
		}
		a.note("%s: %d expectations written", e.File, e.Tests)
	}
	for _, p := range problems {
		a.note("%s", p)
	}
	return nil
}

func (a *app) printTests(r *policytest.Report, o *policyTest) error {
	if o.junit != "" {
		var b bytes.Buffer
		if err := r.JUnit(&b); err != nil {
			return err
		}
		if err := os.WriteFile(o.junit, b.Bytes(), 0o644); err != nil { //nolint:gosec // as open as its folder
			return &exit{badInput, fmt.Errorf("--junit: %w", err)}
		}
	}
	if o.output == "json" {
		return r.JSON(a.streams.Out)
	}
	return r.Print(a.streams.Out, policytest.View{
		Verbose: o.verbose, Coverage: o.coverage || o.requireCoverage, Palette: a.palette(),
	})
}
