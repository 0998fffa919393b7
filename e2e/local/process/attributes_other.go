//go:build unix && !linux

package process

import "syscall"

// attributes keep a Ctrl-C in the terminal from the child.
func attributes(spec Spec) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Credential: spec.Credential}
}
