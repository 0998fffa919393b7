package local

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// layout is the folder of a run, and knows the names of everything in it.
type layout string

func (d layout) path(name string) string { return filepath.Join(string(d), name) }

func (d layout) bin(name string) string        { return filepath.Join(string(d), "bin", name) }
func (d layout) partLog(part string) string    { return filepath.Join(string(d), "logs", part+".log") }
func (d layout) kubeconfig(name string) string { return d.path(name + ".kubeconfig") }
func (d layout) state() string                 { return d.path("state.json") }
func (d layout) lock() string                  { return d.path("holdfast-local.lock") }
func (d layout) auditLog() string              { return d.path("audit.log") }
func (d layout) env() string                   { return d.path("env") }
func (d layout) localLog() string              { return d.path("local.log") }

// data is the one folder that is removed with whatever is in it.
func (d layout) data(name string) string { return filepath.Join(string(d), "data", name) }

// Names of the kubeconfigs.
const (
	adminConfig     = "admin"
	agentConfig     = "agent"
	humanConfig     = "human"
	approverConfig  = "approver"
	approver2Config = "approver2"
)

func kubeconfigNames() []string {
	return []string{adminConfig, agentConfig, humanConfig, approverConfig, approver2Config}
}

// partNames are all parts, in the order in which status shows them.
func partNames() []string {
	return []string{Etcd, Postgres, NATS, Collector, APIServer, ControllerManager, Webhook, Replica}
}

// programNames are all files in bin.
func programNames() []string {
	return []string{localProgram, Webhook, Collector, pluginProgram, kubectlProgram}
}

// owned are the files that a run may write, below Dir, apart from the folder data.
func (d layout) owned() []string {
	files := []string{d.state(), d.auditLog(), d.env(), d.localLog()}
	for _, name := range kubeconfigNames() {
		files = append(files, d.kubeconfig(name))
	}
	for _, name := range partNames() {
		files = append(files, d.partLog(name))
	}
	for _, name := range programNames() {
		files = append(files, d.bin(name))
	}
	return files
}

// checkForeign refuses a folder in which somebody else has files of our names.
func (d layout) checkForeign() error {
	for _, path := range append(d.owned(), d.data("")) {
		if _, err := os.Lstat(path); err == nil {
			return fmt.Errorf("local: %s is there and was not written by holdfast-local: choose another --dir, or remove it", path)
		} else if !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("local: %w", err)
		}
	}
	return nil
}

// clear removes what an earlier run wrote, and nothing else. It keeps the file keep.
func (d layout) clear(keep string) error {
	var errs []error
	for _, path := range d.owned() {
		if same(path, keep) {
			continue
		}
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	errs = append(errs, os.RemoveAll(d.data("")))
	for _, dir := range []string{d.bin(""), d.path("logs")} {
		// Others may have put files there: then it is not empty, and stays.
		_ = os.Remove(dir)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("local: remove what the earlier run left: %w", err)
	}
	return nil
}

// same says whether two names are one file.
func same(a, b string) bool {
	if b == "" {
		return false
	}
	infoA, errA := os.Stat(a)
	infoB, errB := os.Stat(b)
	return errA == nil && errB == nil && os.SameFile(infoA, infoB)
}

// create makes the folders of a run.
func (d layout) create() error {
	for _, dir := range []string{d.bin(""), d.path("logs"), d.data("")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("local: %w", err)
		}
	}
	return nil
}

// logTail returns the last lines of a log, for error messages.
func logTail(path string, lines int) string {
	const enough = 64 << 10
	file, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer func() { _ = file.Close() }() // only read
	if info, err := file.Stat(); err == nil && info.Size() > enough {
		if _, err := file.Seek(-enough, 2); err != nil {
			return ""
		}
	}
	data := make([]byte, enough)
	n, _ := file.Read(data)
	all := strings.Split(strings.TrimSpace(string(data[:n])), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
