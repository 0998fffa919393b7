//go:build failpoints

package hold

import "os"

// failpoint kills the process, as kill -9 would, where HOLDFAST_FAILPOINT names the place and
// the file that HOLDFAST_FAILPOINT_FILE names is there. It removes the file, so that the next
// process lives.
func failpoint(name string) {
	if os.Getenv("HOLDFAST_FAILPOINT") == name && os.Remove(os.Getenv("HOLDFAST_FAILPOINT_FILE")) == nil {
		os.Exit(137)
	}
}
