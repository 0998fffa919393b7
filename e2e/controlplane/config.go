package controlplane

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// Names of the components, and of their programs.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
)

// Ports are TCP ports on 127.0.0.1.
type Ports struct {
	EtcdClient, EtcdPeer, APIServer, ControllerManager int
}

// Config describes one control plane.
type Config struct {
	// Dir gets the certificates, kubeconfigs and etcd's data; absolute. It holds keys to
	// everything and is made with mode 0700.
	Dir string
	// Binaries are what Build returned.
	Binaries Binaries
	// Ports are where the components listen; all are required.
	Ports Ports
	// APIServerArgs are flags of kube-apiserver, as name=value with or without leading
	// dashes. They replace flags of the same name; a name given twice is passed twice.
	APIServerArgs []string
	// ControllerManagerArgs are the same for kube-controller-manager.
	ControllerManagerArgs []string
	// EtcdNoSync lets etcd answer before its data is on the disk. It makes a start and each
	// write faster, and loses data when the machine stops, not when a process does.
	EtcdNoSync bool
	// Validity is how long the certificates are valid. Default: a year.
	Validity time.Duration
}

// Component is a process of the control plane: what to run, and how to tell that it is
// ready. It logs to its standard error.
type Component struct {
	Name    string
	Path    string
	Args    []string
	Address string // host:port
	// Ready returns nil once the component serves. It asks once and does not wait.
	Ready func(context.Context) error
}

// ownedByConfig are the flags that decide where the components find each other.
var ownedByConfig = [...]string{"secure-port", "bind-address", "etcd-servers"}

func (c Config) validate() error {
	var errs []error
	if !filepath.IsAbs(c.Dir) {
		errs = append(errs, fmt.Errorf("dir %q: want an absolute path", c.Dir))
	}
	for name, port := range map[string]int{
		"etcd client": c.Ports.EtcdClient, "etcd peer": c.Ports.EtcdPeer,
		APIServer: c.Ports.APIServer, ControllerManager: c.Ports.ControllerManager,
	} {
		if port < 1 || port > 65535 {
			errs = append(errs, fmt.Errorf("port of %s: %d, want 1 to 65535", name, port))
		}
	}
	for _, flag := range append(append([]string{}, c.APIServerArgs...), c.ControllerManagerArgs...) {
		name, _, _ := strings.Cut(strings.TrimLeft(flag, "-"), "=")
		if name == "" {
			errs = append(errs, fmt.Errorf("argument %q: want name=value", flag))
		}
		for _, owned := range ownedByConfig {
			if name == owned {
				errs = append(errs, fmt.Errorf("argument %q: --%s is chosen by the control plane itself; leave it out", flag, name))
			}
		}
	}
	return errors.Join(errs...)
}

// mergeFlags returns base with each flag replaced whose name extra has, followed by those
// that extra adds. Flags are name=value with or without dashes; the result has two.
func mergeFlags(base, extra []string) []string {
	given := map[string][]string{}
	var order []string
	for _, flag := range extra {
		flag = "--" + strings.TrimLeft(flag, "-")
		name, _, _ := strings.Cut(flag, "=")
		if given[name] == nil {
			order = append(order, name)
		}
		given[name] = append(given[name], flag)
	}
	var merged []string
	for _, flag := range base {
		name, _, _ := strings.Cut(flag, "=")
		replacement, ok := given[name]
		if !ok {
			merged = append(merged, flag)
			continue
		}
		merged = append(merged, replacement...)
		given[name] = nil
	}
	for _, name := range order {
		merged = append(merged, given[name]...)
	}
	return merged
}
