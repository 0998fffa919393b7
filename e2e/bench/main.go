// Command bench measures what Holdfast costs, each figure beside its floor in the same run.
//
// Servers are measured in processes of their own, by the CPU time that the system counts
// for them, so that the client's work and the machine's other tenants stay out of it. It
// fails where nothing was measured; it never fails because a figure is large.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
)

// Figure is one measurement. Ratio is Value divided by Floor.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
	Floor float64 `json:"floor"`
	Ratio float64 `json:"ratio"`
}

func main() {
	out := flag.String("out", "build/bench.json", "file to write the figures into")
	only := flag.String("only", "", "measure only one of engine, admission, authorizer and cluster")
	serve := flag.String("serve", "", "be the server of that name (used by the benchmark itself)")
	flag.Parse()
	var err error
	if *serve != "" {
		err = serveHandler(*serve)
	} else {
		err = run(*out, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(out, only string) error {
	var figures []Figure
	for _, part := range []struct {
		name    string
		measure func() ([]Figure, error)
	}{{"engine", engineFigures}, {"admission", admissionFigures}, {"authorizer", authorizerFigures}, {"cluster", clusterFigures}} {
		if only != "" && only != part.name {
			continue
		}
		measured, err := part.measure()
		if err != nil {
			return err
		}
		for _, f := range measured {
			f.Ratio = f.Value / f.Floor
			fmt.Printf("%-32s %12.3f %-12s floor %12.3f  ratio %6.2f\n", f.Name, f.Value, f.Unit, f.Floor, f.Ratio)
			figures = append(figures, f)
		}
	}
	data, err := json.MarshalIndent(figures, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(out, append(data, '\n'), 0o644) //nolint:gosec // figures for everybody
}
