package process

import "syscall"

// attributes keep a Ctrl-C in the terminal from the child, and end it with its parent.
func attributes(spec Spec) *syscall.SysProcAttr {
	death := spec.DeathSignal
	if death == 0 {
		death = syscall.SIGKILL
	}
	return &syscall.SysProcAttr{Setpgid: true, Credential: spec.Credential, Pdeathsig: death}
}
