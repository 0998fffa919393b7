package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/webhook/registration"
)

// renderConfig is what the flags of render say.
type renderConfig struct {
	out, dir           string
	agentFiles         []string
	webhook, collector endpointFlags
	ownUser            string
	apiObjects         bool
}

// endpointFlags are the flags of one server that the API server calls.
type endpointFlags struct{ url, caFile, certFile, keyFile string }

func renderCommand() *cobra.Command {
	var c renderConfig
	cmd := &cobra.Command{
		Use:   "render",
		Short: "Write the files with which an API server calls Holdfast, and print its flags",
		Long: `Writes the API server's configuration: webhook registrations with the net of the declared
Agents, the authorizer with the same net, admission, tracing and audit configuration. Put the files into the
folder named by --dir on every control-plane host (with --out there, or by moving each file
into place: a file that is half copied counts as no registration, and agents pass), and add
the printed flags. Apply flowcontrol.yaml with kubectl, after manifests/flowcontrol: it puts the
agents on a priority level of their own. Render again
whenever an Agent gets a subject that the net does not cover; the API server reads the
static registrations and authorization.yaml again by itself.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return render(cmd.OutOrStdout(), c) },
	}
	f := cmd.Flags()
	f.StringVar(&c.out, "out", "", "folder to write into")
	f.StringVar(&c.dir, "dir", "/etc/kubernetes/holdfast", "absolute folder in which the API server will find the files")
	f.StringSliceVar(&c.agentFiles, "agents", nil, "YAML files with Agents, from which the net is rendered; - for standard input")
	f.StringVar(&c.ownUser, "own-user", "system:serviceaccount:holdfast-system:holdfast-webhook", "Holdfast's own account")
	f.BoolVar(&c.apiObjects, "api-objects", false, "render the registrations as API objects instead of static manifests (API servers before 1.37)")
	c.webhook.add(cmd, "webhook", "the admission webhook, https://host:port")
	c.collector.add(cmd, "collector", "the collector, https://host:port/v1/audit/<name of this API server>")
	_ = cmd.MarkFlagRequired("out")
	return cmd
}

func (e *endpointFlags) add(cmd *cobra.Command, name, what string) {
	f := cmd.Flags()
	f.StringVar(&e.url, name+"-url", "", "address of "+what+"; empty: not rendered")
	f.StringVar(&e.caFile, name+"-ca-file", "", "authority of its server certificate, PEM")
	f.StringVar(&e.certFile, name+"-client-cert-file", "", "client certificate that the API server shows it, PEM")
	f.StringVar(&e.keyFile, name+"-client-key-file", "", "key of that client certificate, PEM")
}

func render(w io.Writer, c renderConfig) error {
	config := registration.Config{Dir: c.dir, OwnUser: c.ownUser, StaticManifests: !c.apiObjects}
	var errs []error
	var err error
	if config.Agents, err = readAgents(c.agentFiles); err != nil {
		errs = append(errs, err)
	}
	if config.Webhook, err = c.webhook.read(); err != nil {
		errs = append(errs, err)
	}
	if config.Collector, err = c.collector.read(); err != nil {
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	files, err := registration.Render(config)
	if err != nil {
		return err
	}
	if err := registration.Write(c.out, files); err != nil {
		return err
	}
	_, err = fmt.Fprintln(w, strings.Join(registration.APIServerFlags(config), "\n"))
	return err
}

func (e *endpointFlags) read() (*registration.Endpoint, error) {
	if e.url == "" {
		return nil, nil //nolint:nilnil // not wanted
	}
	endpoint := &registration.Endpoint{URL: e.url}
	for _, part := range []struct {
		file string
		into *[]byte
	}{{e.caFile, &endpoint.CA}, {e.certFile, &endpoint.ClientCert}, {e.keyFile, &endpoint.ClientKey}} {
		if part.file == "" {
			continue
		}
		data, err := os.ReadFile(part.file)
		if err != nil {
			return nil, err
		}
		*part.into = data
	}
	return endpoint, nil
}

// readAgents reads Agents and lists of Agents, and refuses everything else.
func readAgents(files []string) ([]v1alpha1.Agent, error) {
	var agents []v1alpha1.Agent
	for _, file := range files {
		data, err := readFile(file)
		if err != nil {
			return nil, fmt.Errorf("--agents: %w", err)
		}
		decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(data), 4096)
		for {
			var document struct {
				v1alpha1.Agent `json:",inline"`
				Items          []v1alpha1.Agent `json:"items,omitempty"`
			}
			if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				return nil, fmt.Errorf("--agents %s: %w", file, err)
			}
			switch document.Kind {
			case "":
			case "Agent":
				agents = append(agents, document.Agent)
			case "List", "AgentList":
				agents = append(agents, document.Items...)
			default:
				return nil, fmt.Errorf("--agents %s: kind %s: want Agents", file, document.Kind)
			}
		}
	}
	return agents, nil
}

func readFile(name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(os.Stdin)
	}
	return os.ReadFile(name)
}
