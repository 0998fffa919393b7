package certs_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/certs"
)

func setup(t *testing.T) *certs.Authority {
	t.Helper()
	authority, err := certs.NewAuthority("test authority", time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return authority
}

func parse(t *testing.T, data []byte) *x509.Certificate {
	t.Helper()
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" || len(rest) != 0 {
		t.Fatalf("want one CERTIFICATE block, got %q", data)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func verify(t *testing.T, authority *certs.Authority, cert *x509.Certificate, host string, usage x509.ExtKeyUsage) error {
	t.Helper()
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authority.CertPEM()) {
		t.Fatal("the authority's certificate cannot be read")
	}
	_, err := cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, KeyUsages: []x509.ExtKeyUsage{usage}})
	return err
}

func TestAuthority(t *testing.T) {
	t.Parallel()
	cert := parse(t, setup(t).CertPEM())
	if !cert.IsCA || !cert.BasicConstraintsValid || !cert.MaxPathLenZero || cert.MaxPathLen != 0 {
		t.Errorf("CA %v, constraints %v, path length %d: want a CA of path length 0", cert.IsCA, cert.BasicConstraintsValid, cert.MaxPathLen)
	}
	if cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		t.Error("may not sign certificates")
	}
	if behind := time.Since(cert.NotBefore); behind < 5*time.Minute || behind > 6*time.Minute {
		t.Errorf("starts %s ago, want 5m", behind)
	}
	if left := time.Until(cert.NotAfter); left < 59*time.Minute || left > time.Hour {
		t.Errorf("ends in %s, want 1h", left)
	}
}

func TestIssueServer(t *testing.T) {
	t.Parallel()
	authority := setup(t)
	pair, err := authority.IssueServer("localhost", "127.0.0.1", "::1", "kubernetes.default.svc")
	if err != nil {
		t.Fatal(err)
	}
	cert := parse(t, pair.Cert)
	for _, host := range []string{"localhost", "127.0.0.1", "[::1]", "kubernetes.default.svc"} {
		if err := verify(t, authority, cert, host, x509.ExtKeyUsageServerAuth); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"127.0.0.2", "example.com"} {
		if err := verify(t, authority, cert, host, x509.ExtKeyUsageServerAuth); err == nil {
			t.Errorf("%s: verified, and was not asked for", host)
		}
	}
	if err := verify(t, authority, cert, "localhost", x509.ExtKeyUsageClientAuth); err == nil {
		t.Error("a server's certificate passes as a client's")
	}
	if err := verify(t, setup(t), cert, "localhost", x509.ExtKeyUsageServerAuth); err == nil {
		t.Error("verified by another authority")
	}
	if cert.Subject.CommonName != "localhost" || cert.IsCA {
		t.Errorf("common name %q, CA %v", cert.Subject.CommonName, cert.IsCA)
	}
	if key, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok || key.Curve != elliptic.P256() {
		t.Errorf("public key %T, want ECDSA P-256", cert.PublicKey)
	}
	if _, err := tls.X509KeyPair(pair.Cert, pair.Key); err != nil {
		t.Errorf("certificate and key do not belong together: %v", err)
	}
}

func TestIssuePeer(t *testing.T) {
	t.Parallel()
	authority := setup(t)
	pair, err := authority.IssuePeer("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		if err := verify(t, authority, parse(t, pair.Cert), "127.0.0.1", usage); err != nil {
			t.Errorf("usage %v: %v", usage, err)
		}
	}
}

func TestIssueClient(t *testing.T) {
	t.Parallel()
	authority := setup(t)
	pair, err := authority.IssueClient("jane", "holdfast:approvers", "staff")
	if err != nil {
		t.Fatal(err)
	}
	cert := parse(t, pair.Cert)
	if err := verify(t, authority, cert, "", x509.ExtKeyUsageClientAuth); err != nil {
		t.Error(err)
	}
	if err := verify(t, authority, cert, "", x509.ExtKeyUsageServerAuth); err == nil {
		t.Error("a client's certificate passes as a server's")
	}
	// A name is a set in DER, so organizations come back in an order of their own.
	organizations := slices.Sorted(slices.Values(cert.Subject.Organization))
	if cert.Subject.CommonName != "jane" || !slices.Equal(organizations, []string{"holdfast:approvers", "staff"}) {
		t.Errorf("subject %s", cert.Subject)
	}
	if cert.NotAfter.After(parse(t, authority.CertPEM()).NotAfter) {
		t.Error("outlives its authority")
	}
	if _, err := tls.X509KeyPair(pair.Cert, pair.Key); err != nil {
		t.Errorf("certificate and key do not belong together: %v", err)
	}
}

func TestSerialNumbersDiffer(t *testing.T) {
	t.Parallel()
	authority := setup(t)
	seen := map[string]bool{}
	for range 20 {
		pair, err := authority.IssueClient("jane")
		if err != nil {
			t.Fatal(err)
		}
		serial := parse(t, pair.Cert).SerialNumber.String()
		if seen[serial] {
			t.Fatalf("serial number %s twice", serial)
		}
		seen[serial] = true
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	authority := setup(t)
	tests := map[string]struct {
		do   func() error
		want string
	}{
		"authority without name": {
			func() error { _, err := certs.NewAuthority("", time.Hour); return err },
			"certs: authority: want a common name",
		},
		"authority without validity": {
			func() error { _, err := certs.NewAuthority("a", 0); return err },
			"certs: authority a: validity 0s: want more than zero",
		},
		"server without hosts": {
			func() error { _, err := authority.IssueServer(); return err },
			"certs: server certificate: want at least one host",
		},
		"server with an empty host": {
			func() error { _, err := authority.IssueServer("a", ""); return err },
			"certs: server certificate: a host is empty",
		},
		"peer without hosts": {
			func() error { _, err := authority.IssuePeer(); return err },
			"certs: peer certificate: want at least one host",
		},
		"client without name": {
			func() error { _, err := authority.IssueClient(""); return err },
			"certs: client certificate: want a common name",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if err := test.do(); err == nil || err.Error() != test.want {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}
