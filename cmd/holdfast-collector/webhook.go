package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"

	"github.com/spf13/pflag"

	"github.com/holdfast-dev/holdfast/collector"
)

// webhookOptions are the flags about the webhook, which is told what the audit stream says of
// AccessRequests.
type webhookOptions struct{ url, caFile, certFile, keyFile string }

func (o *webhookOptions) add(f *pflag.FlagSet) {
	f.StringVar(&o.url, "webhook-url", "", "holdfast-webhook, https://host:port, which is told how requests ended that an approval let pass, and which Reviews were made under impersonation; empty: nobody is told")
	f.StringVar(&o.caFile, "webhook-ca-file", "", "authority of its server certificate, PEM")
	f.StringVar(&o.certFile, "webhook-client-cert-file", "", "client certificate by which it knows the collector, PEM; read again when it changes")
	f.StringVar(&o.keyFile, "webhook-client-key-file", "", "key of that client certificate, PEM")
}

// teller returns nil where there is nobody to tell.
func (o *webhookOptions) teller(log *slog.Logger) (*collector.Teller, error) {
	if o.url == "" {
		return nil, nil //nolint:nilnil // nobody to tell
	}
	u, err := url.Parse(o.url)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("--webhook-url %q: want https://host:port", o.url)
	}
	ca, err := os.ReadFile(o.caFile)
	if err != nil {
		return nil, fmt.Errorf("--webhook-ca-file: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("--webhook-ca-file %s: no certificate in it", o.caFile)
	}
	files := &certFiles{cert: o.certFile, key: o.keyFile}
	if _, err := files.get(nil); err != nil {
		return nil, errors.Join(errors.New("--webhook-client-cert-file, --webhook-client-key-file: want a certificate and its key"), err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: pool,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return files.get(nil) },
	}}
	return collector.NewTeller(u.JoinPath(testimonyPath).String(), &http.Client{Transport: transport}, log), nil
}

// testimonyPath is where the webhook listens.
const testimonyPath = "/v1/testimony"
