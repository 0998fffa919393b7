package controlplane

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/holdfast-dev/holdfast/certs"
)

// Names of the files below pki, as kubeadm calls them.
const (
	caCert = "ca.crt"
	caKey  = "ca.key"

	etcdCACert   = "etcd-ca.crt"
	frontCACert  = "front-proxy-ca.crt"
	accountsKey  = "sa.key"
	accountsPub  = "sa.pub"
	kcmConfig    = "controller-manager.kubeconfig"
	clusterName  = "holdfast-local"
	serviceRange = "10.96.0.0/16"
	// firstServiceIP is the ClusterIP of the service kubernetes in serviceRange.
	firstServiceIP = "10.96.0.1"
	loopback       = "127.0.0.1"
	yearlong       = 365 * 24 * time.Hour
)

// authorities are the three of a kubeadm cluster: a client that one of them vouches for
// means nothing to the others.
type authorities struct{ cluster, etcd, front *certs.Authority }

func newAuthorities(validity time.Duration) (a authorities, err error) {
	if a.cluster, err = certs.NewAuthority("kubernetes", validity); err != nil {
		return a, err
	}
	if a.etcd, err = certs.NewAuthority("etcd-ca", validity); err != nil {
		return a, err
	}
	a.front, err = certs.NewAuthority("front-proxy-ca", validity)
	return a, err
}

// pair is a certificate to write: its name without an extension, and how to get it.
type pair struct {
	name  string
	issue func() (certs.Pair, error)
}

func (a authorities) pairs() []pair {
	server := func(ca *certs.Authority, hosts ...string) func() (certs.Pair, error) {
		return func() (certs.Pair, error) { return ca.IssueServer(hosts...) }
	}
	client := func(ca *certs.Authority, name string, groups ...string) func() (certs.Pair, error) {
		return func() (certs.Pair, error) { return ca.IssueClient(name, groups...) }
	}
	return []pair{
		{"apiserver", server(a.cluster, "kubernetes", "kubernetes.default", "kubernetes.default.svc",
			"kubernetes.default.svc.cluster.local", "localhost", loopback, "::1", firstServiceIP)},
		{"apiserver-kubelet-client", client(a.cluster, "kube-apiserver-kubelet-client", "kubeadm:cluster-admins")},
		{"apiserver-etcd-client", client(a.etcd, "kube-apiserver-etcd-client")},
		{"front-proxy-client", client(a.front, "front-proxy-client")},
		{"controller-manager", server(a.cluster, ControllerManager, "localhost", loopback)},
		{"etcd", func() (certs.Pair, error) { return a.etcd.IssuePeer("localhost", loopback) }},
	}
}

// writePKI fills the folder pki below dir.
func (a authorities) writePKI(dir string) error {
	ca := a.cluster.Pair()
	files := map[string][]byte{
		caCert: ca.Cert, caKey: ca.Key, etcdCACert: a.etcd.CertPEM(), frontCACert: a.front.CertPEM(),
	}
	for _, p := range a.pairs() {
		issued, err := p.issue()
		if err != nil {
			return err
		}
		files[p.name+".crt"], files[p.name+".key"] = issued.Cert, issued.Key
	}
	private, public, err := accountKeys()
	if err != nil {
		return err
	}
	files[accountsKey], files[accountsPub] = private, public
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// accountKeys makes the key pair that signs and verifies the tokens of service accounts.
func accountKeys() (private, public []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("make the service accounts' key: %w", err)
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	pubDER, pubErr := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err := errors.Join(err, pubErr); err != nil {
		return nil, nil, fmt.Errorf("encode the service accounts' key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}),
		pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pubDER}), nil
}
