package controlplane

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// readyTimeout bounds one question whether a component is ready.
const readyTimeout = 5 * time.Second

// ControlPlane is a control plane whose files are written: it can be run, and kubeconfigs
// for it can be made, before it runs too.
type ControlPlane struct {
	config      Config
	authorities authorities
}

// Prepare makes the certificates and writes all that the components need below Config.Dir.
func Prepare(c Config) (*ControlPlane, error) {
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	if c.Validity == 0 {
		c.Validity = yearlong
	}
	p := &ControlPlane{config: c}
	var err error
	if p.authorities, err = newAuthorities(c.Validity); err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	for _, dir := range []string{p.pki(""), p.etcdData()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("control plane: %w", err)
		}
	}
	if err := p.authorities.writePKI(p.pki("")); err != nil {
		return nil, fmt.Errorf("control plane: write certificates: %w", err)
	}
	config, err := p.ClientKubeconfig("system:kube-controller-manager")
	if err == nil {
		err = WriteKubeconfig(p.pki(kcmConfig), config)
	}
	if err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	return p, nil
}

func (p *ControlPlane) pki(name string) string { return filepath.Join(p.config.Dir, "pki", name) }
func (p *ControlPlane) etcdData() string       { return filepath.Join(p.config.Dir, "etcd") }

func hostPort(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }

// URL is the API server's address.
func (p *ControlPlane) URL() string { return "https://" + hostPort(p.config.Ports.APIServer) }

// CA verifies the API server's certificate; PEM.
func (p *ControlPlane) CA() []byte { return p.authorities.cluster.CertPEM() }

// ClientKubeconfig makes a kubeconfig with a new client certificate of the user and groups.
func (p *ControlPlane) ClientKubeconfig(user string, groups ...string) (*clientcmdapi.Config, error) {
	pair, err := p.authorities.cluster.IssueClient(user, groups...)
	if err != nil {
		return nil, err
	}
	return p.kubeconfig(user, &clientcmdapi.AuthInfo{
		ClientCertificateData: pair.Cert, ClientKeyData: pair.Key,
	}), nil
}

// TokenKubeconfig makes a kubeconfig of the user with a bearer token.
func (p *ControlPlane) TokenKubeconfig(user, token string) *clientcmdapi.Config {
	return p.kubeconfig(user, &clientcmdapi.AuthInfo{Token: token})
}

func (p *ControlPlane) kubeconfig(user string, auth *clientcmdapi.AuthInfo) *clientcmdapi.Config {
	name := user + "@" + clusterName
	config := clientcmdapi.NewConfig()
	config.Clusters[clusterName] = &clientcmdapi.Cluster{Server: p.URL(), CertificateAuthorityData: p.CA()}
	config.AuthInfos[user] = auth
	config.Contexts[name] = &clientcmdapi.Context{Cluster: clusterName, AuthInfo: user}
	config.CurrentContext = name
	return config
}

// WriteKubeconfig writes a kubeconfig that only its owner can read.
func WriteKubeconfig(path string, config *clientcmdapi.Config) error {
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(path), err)
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

// ready asks url for 200, with the credentials of a kubeconfig.
func ready(config *clientcmdapi.Config, url string) func(context.Context) error {
	client, err := httpClient(config)
	return func(ctx context.Context) error {
		if err != nil {
			return err
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return fmt.Errorf("ask whether it is ready: %w", err)
		}
		response, err := client.Do(request)
		if err != nil {
			return fmt.Errorf("not ready: %w", err)
		}
		defer func() { _ = response.Body.Close() }() // the status has been read
		if response.StatusCode != http.StatusOK {
			reason, _ := io.ReadAll(io.LimitReader(response.Body, 512))
			return fmt.Errorf("not ready: %s answers %s: %s", url, response.Status, strings.TrimSpace(string(reason)))
		}
		return nil
	}
}

func httpClient(config *clientcmdapi.Config) (*http.Client, error) {
	restConfig, err := clientcmd.NewDefaultClientConfig(*config, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("read kubeconfig: %w", err)
	}
	restConfig.Timeout = readyTimeout
	client, err := rest.HTTPClientFor(restConfig)
	if err != nil {
		return nil, errors.Join(errors.New("make a client"), err)
	}
	return client, nil
}
