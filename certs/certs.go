// Package certs issues the X.509 certificates with which Holdfast's parts and the API server
// know each other: an authority of its own, server and client certificates, all ECDSA P-256,
// in PEM.
//
// It keeps everything in memory and writes no file; it never signs a request that somebody
// else made, and no certificate of its own outlives the authority that signed it.
package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"time"
)

// backdate is how far certificates start in the past, for peers whose clocks are behind.
const backdate = 5 * time.Minute

// Types of PEM blocks.
const (
	certificateBlock = "CERTIFICATE"
	keyBlock         = "EC PRIVATE KEY"
)

// Pair is a certificate and its private key, each in PEM.
type Pair struct {
	// Cert is one CERTIFICATE block.
	Cert []byte
	// Key is one EC PRIVATE KEY block (SEC 1), which the API server's components read too.
	Key []byte
}

// Authority signs certificates. It is safe for concurrent use.
type Authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pair Pair
}

// NewAuthority makes a self-signed authority that is valid from five minutes ago until
// validity from now. It signs end certificates only, no further authorities.
func NewAuthority(commonName string, validity time.Duration) (*Authority, error) {
	if commonName == "" {
		return nil, errors.New("certs: authority: want a common name")
	}
	if validity <= 0 {
		return nil, fmt.Errorf("certs: authority %s: validity %s: want more than zero", commonName, validity)
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: commonName},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(validity),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	a := &Authority{}
	pair, cert, key, err := a.sign(template)
	if err != nil {
		return nil, fmt.Errorf("certs: authority %s: %w", commonName, err)
	}
	a.cert, a.key, a.pair = cert, key, pair
	return a, nil
}

// CertPEM returns the authority's certificate: what a peer verifies with.
func (a *Authority) CertPEM() []byte { return a.pair.Cert }

// Pair returns the authority's certificate and private key. Whoever has them can sign
// anything; kube-controller-manager needs them to answer CertificateSigningRequests.
func (a *Authority) Pair() Pair { return a.pair }

// IssueServer signs a server certificate for hosts, which are DNS names and IP addresses; at
// least one. The first is its common name as well.
func (a *Authority) IssueServer(hosts ...string) (Pair, error) {
	if len(hosts) == 0 {
		return Pair{}, errors.New("certs: server certificate: want at least one host")
	}
	return a.issueServing(hosts, x509.ExtKeyUsageServerAuth)
}

// IssuePeer signs a certificate that is shown both as server and as client, as the members
// of an etcd cluster do to each other. Hosts are as for IssueServer.
func (a *Authority) IssuePeer(hosts ...string) (Pair, error) {
	if len(hosts) == 0 {
		return Pair{}, errors.New("certs: peer certificate: want at least one host")
	}
	return a.issueServing(hosts, x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth)
}

func (a *Authority) issueServing(hosts []string, usages ...x509.ExtKeyUsage) (Pair, error) {
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: hosts[0]},
		ExtKeyUsage: usages,
	}
	for _, host := range hosts {
		if host == "" {
			return Pair{}, errors.New("certs: server certificate: a host is empty")
		}
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
			continue
		}
		template.DNSNames = append(template.DNSNames, host)
	}
	return a.issue(template)
}

// IssueClient signs a client certificate. The API server takes the common name as the user's
// name and the organizations as the user's groups.
func (a *Authority) IssueClient(commonName string, organizations ...string) (Pair, error) {
	if commonName == "" {
		return Pair{}, errors.New("certs: client certificate: want a common name")
	}
	return a.issue(&x509.Certificate{
		Subject:     pkix.Name{CommonName: commonName, Organization: organizations},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

// issue signs an end certificate that is valid as long as the authority.
func (a *Authority) issue(template *x509.Certificate) (Pair, error) {
	template.NotBefore = time.Now().Add(-backdate)
	if template.NotBefore.Before(a.cert.NotBefore) {
		template.NotBefore = a.cert.NotBefore
	}
	template.NotAfter = a.cert.NotAfter
	template.KeyUsage = x509.KeyUsageDigitalSignature
	template.BasicConstraintsValid = true
	pair, _, _, err := a.sign(template)
	if err != nil {
		return Pair{}, fmt.Errorf("certs: certificate %s: %w", template.Subject.CommonName, err)
	}
	return pair, nil
}

// sign makes a key and signs the template for it: with the authority's key, or with the new
// key itself while the authority has none.
func (a *Authority) sign(template *x509.Certificate) (Pair, *x509.Certificate, *ecdsa.PrivateKey, error) {
	fail := func(err error) (Pair, *x509.Certificate, *ecdsa.PrivateKey, error) { return Pair{}, nil, nil, err }
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fail(fmt.Errorf("make a key: %w", err))
	}
	// 128 random bits, and never zero: RFC 5280, 4.1.2.2.
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 128))
	if err != nil {
		return fail(fmt.Errorf("make a serial number: %w", err))
	}
	template.SerialNumber = serial.Add(serial, big.NewInt(1))
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		return fail(fmt.Errorf("sign: %w", err))
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fail(fmt.Errorf("read back: %w", err))
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fail(fmt.Errorf("encode the key: %w", err))
	}
	return Pair{
		Cert: pem.EncodeToMemory(&pem.Block{Type: certificateBlock, Bytes: der}),
		Key:  pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: keyDER}),
	}, cert, key, nil
}
