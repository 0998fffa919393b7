//go:build unsafe_no_redaction

package collector

import "github.com/holdfast-dev/holdfast/pkg/audit/redact"

// redactionOn says whether this binary redacts. This one is for a test that shows that the
// search for planted secrets finds them where nothing was redacted.
const redactionOn = false

func newRedactor(key []byte) (*redact.Redactor, error) { return redact.NewUnsafe(key) }
