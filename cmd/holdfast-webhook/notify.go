package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/pflag"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/kube"
	"github.com/holdfast-dev/holdfast/webhook/notify"
)

// tellQPS and tellBurst bound, for each kind, what telling people costs the API server: a
// notice is a read and a write of an AccessRequest, and two Events.
const (
	tellQPS   = 20
	tellBurst = 40
)

// notifyConfig is what the flags of serve say about telling people.
type notifyConfig struct {
	url, headerFile, caFile string
}

func (c *notifyConfig) flags(f *pflag.FlagSet) {
	f.StringVar(&c.url, "notify-url", "", "where to POST a CloudEvent when an AccessRequest waits for people, and when it is decided or over: https, or http to this machine; empty: nowhere")
	f.StringVar(&c.headerFile, "notify-header-file", "", "file with one header, Name: value, to send along, such as Authorization; read again for each event")
	f.StringVar(&c.caFile, "notify-ca-file", "", "authority of that receiver's server certificate, PEM; empty: those of the system")
}

// receiver is who is told; nil where nobody is.
func (c *notifyConfig) receiver(clusterUID string) (*notify.Sender, error) {
	if c.url == "" {
		if c.headerFile != "" || c.caFile != "" {
			return nil, errors.New("--notify-header-file, --notify-ca-file: want --notify-url with them")
		}
		return nil, nil //nolint:nilnil // nobody
	}
	config := notify.Config{URL: c.url, HeaderFile: c.headerFile, ClusterUID: clusterUID}
	if c.caFile != "" {
		ca, err := os.ReadFile(c.caFile)
		if err != nil {
			return nil, fmt.Errorf("--notify-ca-file: %w", err)
		}
		config.CA = ca
	}
	sender, err := notify.New(config)
	if err != nil {
		return nil, fmt.Errorf("--notify-url, --notify-header-file, --notify-ca-file: %w", err)
	}
	return sender, nil
}

// tasks are what the leader does to tell people about AccessRequests: Kubernetes Events and,
// with a URL, CloudEvents. They have a client of their own, so that the limits that hold for
// telling never hold up a decision.
func (c *notifyConfig) tasks(mgr manager.Manager, log *slog.Logger, clusterUID string) ([]func(context.Context) error, error) {
	receiver, err := c.receiver(clusterUID)
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(v1alpha1.AddToScheme(scheme), eventsv1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	config := rest.CopyConfig(mgr.GetConfig())
	config.QPS, config.Burst = tellQPS, tellBurst
	own, err := client.New(config, client.Options{HTTPClient: mgr.GetHTTPClient(), Scheme: scheme, Mapper: mgr.GetRESTMapper()})
	if err != nil {
		return nil, fmt.Errorf("make the client that tells people: %w", err)
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("name this replica: %w", err)
	}
	announcer := kube.NewAnnouncer(kube.AnnouncerConfig{Cache: mgr.GetCache(), Client: own, Instance: host[:min(len(host), 128)], Log: log})
	if receiver == nil {
		return []func(context.Context) error{announcer.Run}, nil
	}
	notifier := kube.NewNotifier(kube.NotifierConfig{Cache: mgr.GetCache(), Client: own, Receiver: receiver, Log: log})
	return []func(context.Context) error{announcer.Run, notifier.Run}, nil
}
