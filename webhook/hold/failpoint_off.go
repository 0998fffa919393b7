//go:build !failpoints

package hold

// failpoint is where a binary built with the tag failpoints can be made to die.
func failpoint(string) {}
