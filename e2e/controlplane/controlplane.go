// Package controlplane builds and describes a Kubernetes control plane that needs no
// container engine: etcd, kube-apiserver and kube-controller-manager as upstream's own mains,
// built from the Go module proxy once, with the flags that a cluster made by kubeadm has. For
// tests of what older clients do it builds the kubectl of an older version as well.
//
// It prepares files and says what to run and how to tell that it is ready; it starts no
// process itself (e2e/local does), runs no kubelet and no scheduler (pods are stored, never
// run), and knows nothing of Holdfast: what the API server needs for it comes in as flags.
package controlplane

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Version is the Kubernetes version that is built.
const Version = "v1.37.2"

// OlderVersion is the Kubernetes version of BuildOlderKubectl: three minor versions older than
// the control plane, what somebody who has not updated for a year has.
const OlderVersion = "v1.34.4"

// modulePath is the first line of the go.mod that marks the source tree.
const modulePath = "module github.com/holdfast-dev/holdfast"

// ErrNoSource means that there is no source tree of this module to build from.
var ErrNoSource = errors.New("not inside the source tree of github.com/holdfast-dev/holdfast")

// FindSource returns the root of the source tree that dir is in; an empty dir is the working
// directory. The error is ErrNoSource where there is none.
func FindSource(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", fmt.Errorf("find the source tree: %w", err)
	}
	for {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && isModule(string(data)) {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", ErrNoSource
		}
		dir = parent
	}
}

func isModule(gomod string) bool {
	for line := range strings.Lines(gomod) {
		if strings.TrimSpace(line) == modulePath {
			return true
		}
	}
	return false
}
