package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// impactAPI reads from the API server. It has no rate limit, and no body that it reads is
// larger than maxImpactBody.
type impactAPI struct {
	base   *url.URL
	client *http.Client
}

// listPath names a collection of objects.
type listPath struct {
	group, version, resource string
	// namespace is empty for what is cluster-scoped, and for all namespaces.
	namespace string
	// selector selects by labels; empty for all.
	selector string
}

func (c listPath) String() string {
	p := path.Join("/apis", c.group, c.version)
	if c.group == "" {
		p = path.Join("/api", c.version)
	}
	if c.namespace != "" {
		p = path.Join(p, "namespaces", c.namespace)
	}
	return path.Join(p, c.resource)
}

// form is in what form objects are asked for.
type form string

const (
	// asWhole is whole objects.
	asWhole form = "application/json"
	// asMetadata is everything but spec, status and data. Annotations are metadata.
	asMetadata form = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
	// asOneMetadata is the same of one object.
	asOneMetadata form = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
	// asRows is what kubectl get prints, without the objects.
	asRows form = "application/json;as=Table;g=meta.k8s.io;v=v1"
)

var errTooLarge = fmt.Errorf("more than %d bytes", maxImpactBody)

// statusError is an answer other than 200.
type statusError int

func (e statusError) Error() string { return "status " + strconv.Itoa(int(e)) }

func isNotFound(err error) bool { return errors.Is(err, statusError(http.StatusNotFound)) }

// why says why something is not known, in words that quote nothing.
func why(err error) string {
	var status statusError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "there was no time to find out"
	case errors.Is(err, errTooLarge):
		return "there is too much of it"
	case errors.As(err, &status) && (status == http.StatusForbidden || status == http.StatusUnauthorized):
		return "Holdfast may not read that"
	default:
		return "the API server did not say"
	}
}

// read gets a path and decodes the answer.
func (a *impactAPI) read(ctx context.Context, at string, query url.Values, as form, into any) error {
	u := *a.base
	u.Path, u.RawQuery = path.Join(u.Path, at), query.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		return fmt.Errorf("read %s: %w", at, err)
	}
	request.Header.Set("Accept", string(as))
	response, err := a.client.Do(request)
	if err != nil {
		return fmt.Errorf("read %s: %w", at, err)
	}
	defer response.Body.Close() //nolint:errcheck // only read
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("read %s: %w", at, statusError(response.StatusCode))
	}
	body, err := io.ReadAll(io.LimitReader(response.Body, maxImpactBody+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", at, err)
	}
	if len(body) > maxImpactBody {
		return fmt.Errorf("read %s: %w", at, errTooLarge)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("read %s: no JSON of the form that was asked for", at)
	}
	return nil
}

// extent says how much of a collection a listing has.
type extent struct {
	Metadata metav1.ListMeta `json:"metadata"`
}

// remaining is how many objects the API server says there are beyond the listing.
func (e extent) remaining() int64 {
	if e.Metadata.RemainingItemCount == nil {
		return 0
	}
	return *e.Metadata.RemainingItemCount
}

// complete says whether least is the number of all.
func (e extent) complete() bool {
	return e.Metadata.Continue == "" || e.Metadata.RemainingItemCount != nil
}

// listing is the beginning of a collection.
type listing[T any] struct {
	extent
	Items []T `json:"items"`
}

// least is how many objects there are at least: all, where the API server said how many
// remain.
func (l listing[T]) least() int64 { return int64(len(l.Items)) + l.remaining() }

// bareObject is what is kept of an object's metadata.
type bareObject struct {
	Metadata struct {
		Name            string                  `json:"name"`
		Namespace       string                  `json:"namespace"`
		UID             types.UID               `json:"uid"`
		OwnerReferences []metav1.OwnerReference `json:"ownerReferences"`
	} `json:"metadata"`
}

// listOf lists at most impactPage objects of a collection. A collection that does not exist
// is empty.
func listOf[T any](ctx context.Context, a *impactAPI, c listPath, as form) (listing[T], error) {
	return listPages[T](ctx, a, c, as, 1)
}

// listPages is listOf for some pages of impactPage objects.
func listPages[T any](ctx context.Context, a *impactAPI, c listPath, as form, pages int) (listing[T], error) {
	query := url.Values{"limit": {strconv.Itoa(impactPage)}}
	if c.selector != "" {
		query.Set("labelSelector", c.selector)
	}
	var all []T
	for {
		var l listing[T]
		err := a.read(ctx, c.String(), query, as, &l)
		if isNotFound(err) {
			return listing[T]{}, nil
		}
		if err != nil {
			return listing[T]{}, err
		}
		all = append(all, l.Items...)
		pages--
		if pages == 0 || l.Metadata.Continue == "" {
			return listing[T]{extent: l.extent, Items: all}, nil
		}
		query.Set("continue", l.Metadata.Continue)
	}
}

// get reads one object.
func (a *impactAPI) get(ctx context.Context, c listPath, name string, as form, into any) error {
	if name == "" || name == "." || name == ".." || strings.ContainsAny(name, "/%") {
		return fmt.Errorf("read %s: no name of an object", c)
	}
	return a.read(ctx, c.String()+"/"+name, nil, as, into)
}

// count says how many objects a collection has, and whether these are all. No object is
// read: one row is, which for a Secret has its name, its type and how many values it has.
func (a *impactAPI) count(ctx context.Context, c listPath) (n int64, all bool, err error) {
	var table struct {
		extent
		Rows []struct{} `json:"rows"`
	}
	err = a.read(ctx, c.String(), url.Values{"limit": {"1"}, "includeObject": {"None"}}, asRows, &table)
	if isNotFound(err) {
		return 0, true, nil
	}
	if err != nil {
		return 0, false, err
	}
	return int64(len(table.Rows)) + table.remaining(), table.complete(), nil
}
