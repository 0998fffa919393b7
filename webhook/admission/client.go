package admission

import (
	"crypto/tls"
	"errors"
	"slices"
)

// errClient says no more: the peer is told nothing about whom Holdfast would talk to.
var errClient = errors.New("the client certificate is of nobody who may call")

// ClientNames returns a check for tls.Config.VerifyConnection that lets only clients pass
// whose verified certificate has one of the common names. No names let every verified
// client pass.
func ClientNames(names []string) func(tls.ConnectionState) error {
	return func(s tls.ConnectionState) error {
		if len(s.VerifiedChains) == 0 {
			return errClient
		}
		if len(names) > 0 && !slices.Contains(names, s.VerifiedChains[0][0].Subject.CommonName) {
			return errClient
		}
		return nil
	}
}
