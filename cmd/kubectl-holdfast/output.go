package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/holdfast-dev/holdfast/cmd/kubectl-holdfast/internal/show"
)

// formats of -o.
var formats = []string{"json", "yaml", "name", "wide"}

// output is -o and --no-headers.
type output struct {
	format    string
	noHeaders bool
}

func (o *output) add(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.format, "output", "o", "", "Output format. One of: ("+strings.Join(formats, ", ")+").")
	cmd.Flags().BoolVar(&o.noHeaders, "no-headers", false, "Print no headers over the columns.")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

// table says how to print for people; ok is false where the format is for machines.
func (o *output) table(a *app) (t show.Table, ok bool, err error) {
	switch o.format {
	case "", "wide":
		return show.Table{Wide: o.format == "wide", NoHeaders: o.noHeaders, Now: a.now()}, true, nil
	case "json", "yaml", "name":
		return show.Table{}, false, nil
	}
	return show.Table{}, false, fmt.Errorf("--output=%s: want one of %s", o.format, strings.Join(formats, ", "))
}

// print writes objects for machines, as kubectl get does: one by itself where it was asked
// for by name, or a List. On a terminal, what a terminal would obey is escaped in JSON's
// manner; a pipe gets the bytes as they are.
func (o *output) print(a *app, objects []runtime.Object, single bool) error {
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	types := printers.NewTypeSetter(scheme)
	var printer printers.ResourcePrinter = &printers.NamePrinter{ShortOutput: true}
	if o.format != "name" {
		if printer, err = (&genericclioptions.JSONYamlPrintFlags{}).ToPrinter(o.format); err != nil {
			return fmt.Errorf("--output: %w", err)
		}
	}
	var buffer bytes.Buffer
	if o.format == "name" || single && len(objects) == 1 {
		for _, object := range objects {
			if err := types.ToPrinter(printer).PrintObj(object, &buffer); err != nil {
				return fmt.Errorf("print: %w", err)
			}
		}
	} else if err := printList(types, printer, objects, &buffer); err != nil {
		return err
	}
	text := buffer.String()
	if printers.IsTerminal(a.streams.Out) {
		text = show.Block(text)
	}
	if _, err := io.WriteString(a.streams.Out, text); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func printList(types *printers.TypeSetterPrinter, printer printers.ResourcePrinter, objects []runtime.Object, w io.Writer) error {
	list := &corev1.List{TypeMeta: metav1.TypeMeta{Kind: "List", APIVersion: "v1"}, Items: []runtime.RawExtension{}}
	for _, object := range objects {
		var raw bytes.Buffer
		if err := types.ToPrinter(&printers.OmitManagedFieldsPrinter{Delegate: &printers.JSONPrinter{}}).PrintObj(object, &raw); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		list.Items = append(list.Items, runtime.RawExtension{Raw: json.RawMessage(raw.Bytes())})
	}
	if err := printer.PrintObj(list, w); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
