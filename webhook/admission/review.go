package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	utilnet "k8s.io/apimachinery/pkg/util/net"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// MaxReview bounds an AdmissionReview, in bytes. The API server takes requests of up to
// 3 MiB, and a review has at most two objects (old and new) of that size beside less than
// 1 MiB of other things.
const MaxReview = 7 << 20

// maxUnderWay bounds the reviews that are in memory at the same time, in bytes of their
// encoded size; decoded they take several times as much. Others wait their turn.
const maxUnderWay = 4 * MaxReview

// ErrReview is an AdmissionReview that cannot be judged. Errors that wrap it have the HTTP
// status that says why.
type ErrReview struct {
	// Status is 400, 413 or 415.
	Status int
	// Reason names what is wrong and never quotes the body.
	Reason string
}

func (e *ErrReview) Error() string { return e.Reason }

func badReview(format string, args ...any) error {
	return &ErrReview{Status: http.StatusBadRequest, Reason: fmt.Sprintf(format, args...)}
}

// readReview reads the body of a call, at most MaxReview. Its error is an *ErrReview, or
// what reading failed with.
func readReview(r *http.Request) ([]byte, error) {
	if r.Method != http.MethodPost {
		return nil, &ErrReview{Status: http.StatusMethodNotAllowed, Reason: "want POST"}
	}
	if mediaType, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || mediaType != "application/json" {
		return nil, &ErrReview{Status: http.StatusUnsupportedMediaType, Reason: "want Content-Type application/json"}
	}
	tooLarge := &ErrReview{Status: http.StatusRequestEntityTooLarge, Reason: fmt.Sprintf("the review is larger than %d bytes", MaxReview)}
	if r.ContentLength > MaxReview {
		return nil, tooLarge
	}
	var body []byte
	if r.ContentLength > 0 {
		body = make([]byte, r.ContentLength)
		if _, err := io.ReadFull(r.Body, body); err != nil {
			return nil, fmt.Errorf("read the review: %w", err)
		}
		return body, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, MaxReview+1))
	if err != nil {
		return nil, fmt.Errorf("read the review: %w", err)
	}
	if len(body) > MaxReview {
		return nil, tooLarge
	}
	return body, nil
}

// Review is a decoded AdmissionReview.
type Review struct {
	UID types.UID
	// Request is the review in the engine's form.
	Request decision.Request
	// Kind is the kind of the object, and Operation what is done to it.
	Kind      metav1.GroupVersionKind
	Operation admissionv1.Operation
	// Object and OldObject are as they were sent; empty where there are none.
	Object, OldObject json.RawMessage
	// TraceID is the one that the API server gave the request; empty where it gives none
	// that can be trusted.
	TraceID string
	// Timeout is how long the API server waits for the answer.
	Timeout time.Duration
	// Patch is set by the Judge of a mutating webhook: a JSON patch of the object.
	Patch json.RawMessage
}

// DecodeReview decodes an AdmissionReview of admission.k8s.io/v1, with its objects, into
// the form in which the engine judges it. It returns an *ErrReview for everything else:
// what is no JSON, another version, a review without a request or without an operation that
// it knows.
func DecodeReview(body []byte) (*Review, error) {
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(body, &review); err != nil {
		return nil, badReview("the body is no AdmissionReview in JSON")
	}
	if review.Kind != "AdmissionReview" || review.APIVersion != admissionv1.SchemeGroupVersion.String() {
		return nil, badReview("want kind AdmissionReview of %s", admissionv1.SchemeGroupVersion)
	}
	q := review.Request
	if q == nil {
		return nil, badReview("the AdmissionReview has no request")
	}
	if q.UID == "" {
		return nil, badReview("request.uid is empty")
	}
	r := &Review{UID: q.UID, Kind: q.Kind, Operation: q.Operation, Object: q.Object.Raw, OldObject: q.OldObject.Raw}
	r.Request = decision.Request{
		User:  decision.User{Name: q.UserInfo.Username, UID: q.UserInfo.UID, Groups: q.UserInfo.Groups},
		Group: q.Resource.Group, Version: q.Resource.Version, Resource: q.Resource.Resource,
		Subresource: q.SubResource, Namespace: q.Namespace, Name: q.Name,
		DryRun: q.DryRun != nil && *q.DryRun,
	}
	if r.Request.User.Name == "" || r.Request.Resource == "" {
		return nil, badReview("request.userInfo.username and request.resource are required")
	}
	for _, part := range []struct {
		name string
		raw  []byte
		into *map[string]any
	}{
		{"object", q.Object.Raw, &r.Request.Object},
		{"oldObject", q.OldObject.Raw, &r.Request.OldObject},
		{"options", q.Options.Raw, &r.Request.Options},
	} {
		if len(part.raw) == 0 || string(part.raw) == "null" {
			continue
		}
		if err := utiljson.Unmarshal(part.raw, part.into); err != nil {
			return nil, badReview("request.%s is no JSON object", part.name)
		}
	}
	verb, err := verbOf(&r.Request, q.Operation)
	if err != nil {
		return nil, err
	}
	r.Request.Verb = verb
	if err := complete(&r.Request); err != nil {
		return nil, err
	}
	return r, nil
}

// verbOf is the request verb that an operation stands for. A DELETE without a name is one
// object's share of a deletecollection.
func verbOf(r *decision.Request, o admissionv1.Operation) (string, error) {
	switch o {
	case admissionv1.Create, admissionv1.Update, admissionv1.Connect:
		return strings.ToLower(string(o)), nil
	case admissionv1.Delete:
		if r.Name == "" {
			return "deletecollection", nil
		}
		return "delete", nil
	default:
		return "", badReview("request.operation is none of CREATE, UPDATE, DELETE and CONNECT")
	}
}

// complete fills in the name where the API server leaves it out, for generated names and in
// deletecollection, and gives Namespace objects their own name as namespace throughout.
//
// The proxy subresources take names such as https:web:443; the object's own is web.
func complete(r *decision.Request) error {
	for _, object := range []map[string]any{r.Object, r.OldObject} {
		if r.Name != "" {
			break
		}
		metadata, _ := object["metadata"].(map[string]any)
		r.Name, _ = metadata["name"].(string)
	}
	if r.Group == "" && r.Resource == "namespaces" {
		r.Namespace = r.Name
	}
	if r.Group == "" && r.Subresource == "proxy" {
		_, name, _, ok := utilnet.SplitSchemeNamePort(r.Name)
		if !ok {
			return badReview("request.name is no name to proxy to")
		}
		r.Name = name
	}
	return nil
}

// writeError answers with a Status, which the API server takes for a failed call: under
// failurePolicy Fail nothing passes.
func writeError(w http.ResponseWriter, err error) int {
	status := http.StatusInternalServerError
	var review *ErrReview
	switch {
	case errors.As(err, &review):
		status = review.Status
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		status = http.StatusServiceUnavailable
	}
	message := http.StatusText(status)
	if review != nil {
		message = review.Reason
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	//nolint:errchkjson // the caller has gone if this fails
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: int32(status), Message: message, //nolint:gosec // an HTTP status
	})
	return status
}
