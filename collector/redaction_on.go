//go:build !unsafe_no_redaction

package collector

import "github.com/holdfast-dev/holdfast/pkg/audit/redact"

// redactionOn says whether this binary redacts.
const redactionOn = true

func newRedactor(key []byte) (*redact.Redactor, error) { return redact.New(key) }
