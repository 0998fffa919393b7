//go:build failpoints

package hold

import "os"

// failpoint kills the process, as kill -9 would, where HOLDFAST_FAILPOINT names the place.
func failpoint(name string) {
	if os.Getenv("HOLDFAST_FAILPOINT") == name {
		os.Exit(137)
	}
}
