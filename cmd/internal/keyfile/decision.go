package keyfile

import (
	"errors"
	"fmt"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// Decision reads the key that decisions are signed with, and makes one where there is no file.
// The webhook's replicas and the collector have to share it: a decision signed with another
// key is nobody's. Errors name the flag --decision-key-file, which both have.
func Decision(file string) (*decision.Key, error) {
	if file == "" {
		return nil, errors.New("--decision-key-file: want a file with at least 32 random bytes, the same for all replicas and the collector; it is made where it does not exist")
	}
	secret, err := Read(file)
	if err != nil {
		return nil, fmt.Errorf("--decision-key-file: %w", err)
	}
	key, err := decision.NewKey(secret)
	if err != nil {
		return nil, fmt.Errorf("--decision-key-file %s: %w", file, err)
	}
	return key, nil
}
