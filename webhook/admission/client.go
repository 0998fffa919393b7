package admission

import (
	"crypto/tls"
	"errors"
	"net/http"
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

// NotBy refuses calls with a certificate of that common name: the collector's is good for
// telling what it has seen, and not for asking as the API server.
func NotBy(name string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil && len(r.TLS.PeerCertificates) > 0 && r.TLS.PeerCertificates[0].Subject.CommonName == name {
			http.Error(w, "only the API server may ask", http.StatusForbidden)
			return
		}
		h.ServeHTTP(w, r)
	})
}
