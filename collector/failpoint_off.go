//go:build !failpoints

package collector

// failpoint is where a binary built with the tag failpoints can be made to die.
func failpoint(string) {}
