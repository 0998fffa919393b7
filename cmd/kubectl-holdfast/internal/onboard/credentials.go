package onboard

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

// MinLife is the shortest life of a token that the API server gives.
const MinLife = 10 * time.Minute

// Token is what an agent shows the API server.
type Token struct {
	Value string
	// Expires is when it ends.
	Expires time.Time
}

// Token asks the API server for one of a service account, with a life of about that time: the
// API server may give another one.
func (d *Desk) Token(ctx context.Context, account client.ObjectKey, life time.Duration) (*Token, error) {
	seconds := int64(life / time.Second)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	sa := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: account.Namespace, Name: account.Name}}
	if err := d.Client.SubResource("token").Create(ctx, sa, request); err != nil {
		return nil, fmt.Errorf("get a token for %s: %w", Title(sa), err)
	}
	return &Token{Value: request.Status.Token, Expires: request.Status.ExpirationTimestamp.Time}, nil
}

// Account is the service account that an Agent is.
func (d *Desk) Account(ctx context.Context, name string) (client.ObjectKey, error) {
	var agent v1alpha1.Agent
	if err := d.Client.Get(ctx, client.ObjectKey{Name: name}, &agent); err != nil {
		return client.ObjectKey{}, fmt.Errorf("read agent/%s: %w", name, err)
	}
	var found []client.ObjectKey
	for _, s := range agent.Spec.Subjects {
		if s.Kind == v1alpha1.ServiceAccountSubject && v1alpha1.Pattern(s.Name).Literal() {
			found = append(found, client.ObjectKey{Namespace: s.Namespace, Name: s.Name})
		}
	}
	if len(found) != 1 {
		return client.ObjectKey{}, fmt.Errorf("agent/%s has %d service accounts by name among its subjects, and one is wanted: \"kubectl create token NAME -n NAMESPACE\" gives a token of any", name, len(found))
	}
	return found[0], nil
}

// Workplaces are the namespaces in which an agent was given a role; none where that cannot be
// found out.
func (d *Desk) Workplaces(ctx context.Context, name string) []string {
	var list rbacv1.RoleBindingList
	if err := d.Client.List(ctx, &list, client.MatchingLabels(labels(name))); err != nil {
		return nil
	}
	names := map[string]bool{}
	for i := range list.Items {
		names[list.Items[i].Namespace] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// Net is what Holdfast says about an Agent and the net: a condition of status True, False or
// Unknown. It waits for it for a while; nil where nothing was said.
func (d *Desk) Net(ctx context.Context, name string, patience time.Duration) (*metav1.Condition, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		var agent v1alpha1.Agent
		err := d.Client.Get(ctx, client.ObjectKey{Name: name}, &agent)
		if err == nil {
			if c := meta.FindStatusCondition(agent.Status.Conditions, v1alpha1.ConditionInNet); c != nil && c.ObservedGeneration >= agent.Generation {
				return c, nil
			}
		} else if ctx.Err() == nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("read agent/%s: %w", name, err)
		}
		select {
		case <-ctx.Done():
			return nil, nil //nolint:nilnil // nothing was said
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// Kubeconfig is a kubeconfig with a token, for the API server that the configuration is for.
func Kubeconfig(config *rest.Config, agent, namespace, token string) (*clientcmdapi.Config, error) {
	trusted := rest.AnonymousClientConfig(config)
	if err := rest.LoadTLSFiles(trusted); err != nil {
		return nil, fmt.Errorf("read the certificate authority of the API server: %w", err)
	}
	out := clientcmdapi.NewConfig()
	out.Clusters[agent] = &clientcmdapi.Cluster{
		Server: config.Host + config.APIPath, CertificateAuthorityData: trusted.CAData,
		InsecureSkipTLSVerify: trusted.Insecure, TLSServerName: trusted.ServerName,
	}
	out.AuthInfos[agent] = &clientcmdapi.AuthInfo{Token: token}
	out.Contexts[agent] = &clientcmdapi.Context{Cluster: agent, AuthInfo: agent, Namespace: namespace}
	out.CurrentContext = agent
	return out, nil
}

// Free says whether a file can be written for an agent: there is none, or it is a kubeconfig
// that was written for it before.
func Free(file, agent string) error {
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	config, err := clientcmd.LoadFromFile(file)
	if err != nil || len(config.AuthInfos) != 1 || config.AuthInfos[agent] == nil || config.AuthInfos[agent].Token == "" {
		return fmt.Errorf("--out %s: is there, and is no kubeconfig of agent %s alone; name another file, or remove it", file, agent)
	}
	return nil
}

// Write writes a kubeconfig that nobody else can read, whole or not at all.
func Write(file string, config *clientcmdapi.Config) error {
	data, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("encode the kubeconfig: %w", err)
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*") // of mode 0600
	if err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }() // gone after the rename
	_, err = tmp.Write(data)
	if err := errors.Join(err, tmp.Close()); err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return fmt.Errorf("write the kubeconfig: %w", err)
	}
	return nil
}
