// Package notify tells a receiver over HTTP what has happened to AccessRequests: CloudEvents
// 1.0 in structured JSON mode, one POST an event.
//
// It makes one attempt and says what came of it; the caller repeats, with the same ID. It
// sends neither the change nor anything else of an object's content, follows no redirect
// (the header it sends may be a credential), and puts neither the receiver's address nor its
// answer into errors: addresses of chat tools are credentials too.
package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"github.com/holdfast-dev/holdfast/pkg/access/notice"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

const (
	// maxHeaderFile bounds the header file; a token of a few KiB fits.
	maxHeaderFile = 8 << 10
	// maxAnswer is how much of an answer is read, so that its connection can be used again.
	maxAnswer = 64 << 10
	// maxRetryAfter bounds what a receiver may ask for.
	maxRetryAfter  = time.Hour
	defaultTimeout = 10 * time.Second
)

// Config says whom to tell. URL and ClusterUID are required.
type Config struct {
	// URL that events are POSTed to: https, or http to this machine itself. It has no user
	// name or password; HeaderFile is for those.
	URL string
	// HeaderFile has one line, "Name: value", which is sent along, such as an Authorization
	// header; at most 8 KiB. It is read for each event, so that a credential can be
	// replaced. Default: none.
	HeaderFile string
	// CA has the authorities, in PEM, that may sign the receiver's certificate. Default:
	// those of the system.
	CA []byte
	// ClusterUID names the cluster in the events' source, urn:uuid:<ClusterUID>: the UID of
	// namespace kube-system.
	ClusterUID string
	// Timeout is how long one attempt may take, up to the end of the answer. Default: 10s.
	Timeout time.Duration
	// Now is the clock. Default: time.Now.
	Now func() time.Time
}

// Sender sends events. It is safe for concurrent use.
type Sender struct {
	url, headerFile, source string
	client                  *http.Client
	now                     func() time.Time

	mu sync.Mutex
	// closed is until when the receiver wants to be left alone.
	closed time.Time
}

// New returns a Sender. Errors name the field of Config; the header file is tried once.
func New(c Config) (*Sender, error) {
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	s := &Sender{url: c.URL, headerFile: c.HeaderFile, source: "urn:uuid:" + c.ClusterUID, now: c.Now}
	errs := []error{checkURL(c.URL)}
	if c.ClusterUID == "" {
		errs = append(errs, errors.New("cluster UID: want the UID of namespace kube-system"))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("timeout %s: want more than 0", c.Timeout))
	}
	if _, _, err := s.header(); err != nil {
		errs = append(errs, err)
	}
	transport := &http.Transport{
		Proxy:             http.ProxyFromEnvironment,
		TLSClientConfig:   &tls.Config{MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
		MaxIdleConns:      4,
		IdleConnTimeout:   time.Minute,
	}
	if c.CA != nil {
		transport.TLSClientConfig.RootCAs = x509.NewCertPool()
		if !transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(c.CA) {
			errs = append(errs, errors.New("CA: want certificates in PEM"))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	s.client = &http.Client{
		Transport: transport, Timeout: c.Timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return s, nil
}

// checkURL does not repeat the URL: its path may be a credential.
func checkURL(text string) error {
	u, err := url.Parse(text)
	switch {
	case err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http"):
		return errors.New("URL: want https://host/path")
	case u.User != nil:
		return errors.New("URL: want no user name or password in it; give an Authorization header in the header file")
	case u.Scheme == "http" && !loopback(u.Hostname()):
		return fmt.Errorf("URL: http to host %q would send requests of agents and their reviews in the clear: want https, or http to localhost", u.Hostname())
	default:
		return nil
	}
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// Refusal is a receiver that has not taken an event.
type Refusal struct {
	// Status is the HTTP status it answered; 0 where it was not asked, because it wants to
	// be left alone.
	Status int
	// After is how long it wants to be left alone; 0 where it does not say. At most an hour.
	After time.Duration
}

// Error implements error.
func (r *Refusal) Error() string {
	if r.Status == 0 {
		return fmt.Sprintf("the receiver wants to be left alone for another %s", r.After.Round(time.Second))
	}
	return fmt.Sprintf("the receiver answered %d %s", r.Status, http.StatusText(r.Status))
}

// RetryAfter is After, for those who know errors by what they can say.
func (r *Refusal) RetryAfter() time.Duration { return r.After }

// Tell sends one event and returns nil once the receiver has taken it, with a status of
// 2xx. An error is a *Refusal where the receiver answered anything else, or has asked, by
// Retry-After on an earlier event, to be left alone; others are of the network or of the
// header file. After any error the receiver may have taken the event all the same.
func (s *Sender) Tell(ctx context.Context, r *v1alpha1.AccessRequest, n notice.Notice) error {
	if wait := s.wait(); wait > 0 {
		return &Refusal{After: wait}
	}
	body, err := encode(s.source, r, n)
	if err != nil {
		return fmt.Errorf("encode the event: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, bytes.NewReader(body))
	if err != nil {
		return errors.New("make the request to the receiver") // err has the URL
	}
	name, value, err := s.header()
	if err != nil {
		return err
	}
	if name != "" {
		request.Header.Set(name, value)
	}
	request.Header.Set("Content-Type", contentType)
	request.Header.Set("User-Agent", "holdfast-webhook")
	response, err := s.client.Do(request)
	if err != nil {
		return fmt.Errorf("send to the receiver: %w", withoutURL(err))
	}
	defer func() { _ = response.Body.Close() }() // nothing is wanted from it
	_, _ = io.CopyN(io.Discard, response.Body, maxAnswer)
	if response.StatusCode >= 200 && response.StatusCode < 300 {
		return nil
	}
	return &Refusal{Status: response.StatusCode, After: s.refused(response)}
}

// withoutURL takes the URL out of what net/http says.
func withoutURL(err error) error {
	var with *url.Error
	if errors.As(err, &with) {
		return with.Err
	}
	return err
}

// wait is how long the receiver still wants to be left alone.
func (s *Sender) wait() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed.Sub(s.now())
}

// refused is how long the receiver wants to be left alone, which then holds for all events.
func (s *Sender) refused(response *http.Response) time.Duration {
	if response.StatusCode != http.StatusTooManyRequests && response.StatusCode < 500 {
		return 0
	}
	after := retryAfter(response.Header.Get("Retry-After"), s.now())
	if after > 0 {
		s.mu.Lock()
		defer s.mu.Unlock()
		if until := s.now().Add(after); until.After(s.closed) {
			s.closed = until
		}
	}
	return after
}

// retryAfter reads seconds or a date (RFC 9110, 10.2.3); 0 for neither.
func retryAfter(text string, now time.Time) time.Duration {
	var after time.Duration
	if seconds, err := strconv.ParseInt(text, 10, 64); err == nil {
		after = time.Duration(min(seconds, int64(maxRetryAfter/time.Second))) * time.Second
	} else if date, err := http.ParseTime(text); err == nil {
		after = date.Sub(now)
	}
	return min(max(after, 0), maxRetryAfter)
}

// header reads the header file. Its errors have nothing of what the file says.
func (s *Sender) header() (name, value string, err error) {
	if s.headerFile == "" {
		return "", "", nil
	}
	file, err := os.Open(s.headerFile)
	if err != nil {
		return "", "", fmt.Errorf("header file: %w", err)
	}
	defer func() { _ = file.Close() }() // only read
	data, err := io.ReadAll(io.LimitReader(file, maxHeaderFile+1))
	if err != nil {
		return "", "", fmt.Errorf("header file: %w", err)
	}
	if len(data) > maxHeaderFile {
		return "", "", fmt.Errorf("header file %s: want at most %d bytes", s.headerFile, maxHeaderFile)
	}
	name, value, _ = strings.Cut(strings.TrimSpace(string(data)), ":")
	value = strings.TrimSpace(value)
	if value == "" || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
		return "", "", fmt.Errorf("header file %s: want one line, Name: value", s.headerFile)
	}
	name = http.CanonicalHeaderKey(name)
	if slices.Contains([]string{"Content-Type", "Content-Length", "Transfer-Encoding", "Connection", "Host"}, name) {
		return "", "", fmt.Errorf("header file %s: want a header other than %s", s.headerFile, name)
	}
	return name, value, nil
}
