package controlplane

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
)

// Etcd is the store: one member, reachable with a client certificate only.
func (p *ControlPlane) Etcd() Component {
	client, peer := hostPort(p.config.Ports.EtcdClient), hostPort(p.config.Ports.EtcdPeer)
	args := []string{
		"--name=holdfast-local",
		"--data-dir=" + p.etcdData(),
		"--listen-client-urls=https://" + client,
		"--advertise-client-urls=https://" + client,
		"--listen-peer-urls=https://" + peer,
		"--initial-advertise-peer-urls=https://" + peer,
		"--initial-cluster=holdfast-local=https://" + peer,
		"--client-cert-auth=true",
		"--trusted-ca-file=" + p.pki(etcdCACert),
		"--cert-file=" + p.pki("etcd.crt"),
		"--key-file=" + p.pki("etcd.key"),
		"--peer-client-cert-auth=true",
		"--peer-trusted-ca-file=" + p.pki(etcdCACert),
		"--peer-cert-file=" + p.pki("etcd.crt"),
		"--peer-key-file=" + p.pki("etcd.key"),
		"--log-level=warn",
	}
	if p.config.EtcdNoSync {
		args = append(args, "--unsafe-no-fsync=true")
	}
	return Component{
		Name: Etcd, Path: p.config.Binaries.Etcd, Args: args, Address: client,
		// etcd opens its client port only when it has a leader.
		Ready: func(ctx context.Context) error { return dial(ctx, client) },
	}
}

func dial(ctx context.Context, address string) error {
	dialer := net.Dialer{Timeout: readyTimeout}
	conn, err := dialer.DialContext(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	return conn.Close()
}

// APIServer is kube-apiserver with the flags of kubeadm, and Config.APIServerArgs over them.
func (p *ControlPlane) APIServer() (Component, error) {
	probe, err := p.ClientKubeconfig("holdfast-local-probe", "system:monitoring")
	if err != nil {
		return Component{}, fmt.Errorf("control plane: %w", err)
	}
	return Component{
		Name: APIServer, Path: p.config.Binaries.APIServer,
		Args:    p.apiServerFlags(),
		Address: hostPort(p.config.Ports.APIServer),
		Ready:   ready(probe, p.URL()+"/readyz"),
	}, nil
}

func (p *ControlPlane) apiServerFlags() []string {
	flags := []string{
		"--advertise-address=" + loopback,
		"--allow-privileged=true",
		"--authorization-mode=Node,RBAC",
		"--bind-address=" + loopback,
		"--client-ca-file=" + p.pki(caCert),
		"--enable-admission-plugins=NodeRestriction",
		"--enable-bootstrap-token-auth=true",
		// The service kubernetes would get 127.0.0.1 as its endpoint, which Endpoints refuse.
		"--endpoint-reconciler-type=none",
		"--etcd-cafile=" + p.pki(etcdCACert),
		"--etcd-certfile=" + p.pki("apiserver-etcd-client.crt"),
		"--etcd-keyfile=" + p.pki("apiserver-etcd-client.key"),
		"--etcd-servers=https://" + hostPort(p.config.Ports.EtcdClient),
		"--kubelet-client-certificate=" + p.pki("apiserver-kubelet-client.crt"),
		"--kubelet-client-key=" + p.pki("apiserver-kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
		"--profiling=false",
		"--proxy-client-cert-file=" + p.pki("front-proxy-client.crt"),
		"--proxy-client-key-file=" + p.pki("front-proxy-client.key"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-client-ca-file=" + p.pki(frontCACert),
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--secure-port=" + fmt.Sprint(p.config.Ports.APIServer),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + p.pki(accountsPub),
		"--service-account-signing-key-file=" + p.pki(accountsKey),
		"--service-cluster-ip-range=" + serviceRange,
		"--tls-cert-file=" + p.pki("apiserver.crt"),
		"--tls-private-key-file=" + p.pki("apiserver.key"),
	}
	// The API server refuses to be told about authorization twice.
	if slices.ContainsFunc(p.config.APIServerArgs, func(flag string) bool {
		return strings.HasPrefix(strings.TrimLeft(flag, "-"), "authorization-config=")
	}) {
		flags = slices.DeleteFunc(flags, func(flag string) bool { return strings.HasPrefix(flag, "--authorization-mode=") })
	}
	return mergeFlags(flags, p.config.APIServerArgs)
}

// ControllerManager is kube-controller-manager with the flags of kubeadm, except that it
// elects no leader: it is the only one, and would wait 15 seconds for its dead predecessor.
func (p *ControlPlane) ControllerManager() (Component, error) {
	probe, err := p.ClientKubeconfig("holdfast-local-probe", "system:monitoring")
	if err != nil {
		return Component{}, fmt.Errorf("control plane: %w", err)
	}
	address := hostPort(p.config.Ports.ControllerManager)
	kubeconfig := p.pki(kcmConfig)
	flags := []string{
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=" + loopback,
		"--client-ca-file=" + p.pki(caCert),
		"--cluster-name=kubernetes",
		"--cluster-signing-cert-file=" + p.pki(caCert),
		"--cluster-signing-key-file=" + p.pki(caKey),
		"--controllers=*,bootstrapsigner,tokencleaner",
		"--kubeconfig=" + kubeconfig,
		"--leader-elect=false",
		"--profiling=false",
		"--requestheader-client-ca-file=" + p.pki(frontCACert),
		"--root-ca-file=" + p.pki(caCert),
		"--secure-port=" + fmt.Sprint(p.config.Ports.ControllerManager),
		"--service-account-private-key-file=" + p.pki(accountsKey),
		"--service-cluster-ip-range=" + serviceRange,
		"--tls-cert-file=" + p.pki("controller-manager.crt"),
		"--tls-private-key-file=" + p.pki("controller-manager.key"),
		"--use-service-account-credentials=true",
	}
	return Component{
		Name: ControllerManager, Path: p.config.Binaries.ControllerManager,
		Args:    mergeFlags(flags, p.config.ControllerManagerArgs),
		Address: address,
		Ready:   ready(probe, "https://"+address+"/healthz"),
	}, nil
}
