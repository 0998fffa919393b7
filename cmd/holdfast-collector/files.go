package main

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/holdfast-dev/holdfast/cmd/internal/keyfile"
	"github.com/holdfast-dev/holdfast/pkg/audit/redact"
)

// serverTLS reads the files once, to fail at start, and the certificate again when its file
// has changed, so that it can be renewed.
func serverTLS(certFile, keyFile, caFile string) (*tls.Config, error) {
	ca, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("--client-ca-file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("--client-ca-file %s: no certificate in it", caFile)
	}
	files := &certFiles{cert: certFile, key: keyFile}
	if _, err := files.get(nil); err != nil {
		return nil, err
	}
	return &tls.Config{ClientCAs: pool, GetCertificate: files.get}, nil
}

type certFiles struct {
	cert, key string

	mu      sync.Mutex
	loaded  *tls.Certificate
	changed time.Time
}

func (f *certFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	info, err := os.Stat(f.cert)
	if err == nil && f.loaded != nil && info.ModTime().Equal(f.changed) {
		return f.loaded, nil
	}
	pair, loadErr := tls.LoadX509KeyPair(f.cert, f.key)
	switch {
	case err == nil && loadErr == nil:
		f.loaded, f.changed = &pair, info.ModTime()
	case f.loaded == nil: // between two files of a renewal, the last pair stays
		return nil, fmt.Errorf("--tls-cert-file, --tls-private-key-file: %w", errors.Join(err, loadErr))
	}
	return f.loaded, nil
}

// redactionKey reads the key, 64 hexadecimal digits, or makes it. Without a file it makes one
// that nobody else will ever have.
func redactionKey(file string) ([]byte, error) {
	key := make([]byte, redact.KeyMin)
	rand.Read(key) // never fails
	if file == "" {
		return key, nil
	}
	data, err := keyfile.ReadOrMake(file, []byte(hex.EncodeToString(key)+"\n"))
	if err != nil {
		return nil, fmt.Errorf("--redaction-key-file: %w", err)
	}
	key, err = hex.DecodeString(strings.TrimSpace(string(data)))
	if err != nil || len(key) < redact.KeyMin {
		return nil, fmt.Errorf("--redaction-key-file %s: want at least %d hexadecimal digits", file, 2*redact.KeyMin)
	}
	return key, nil
}
