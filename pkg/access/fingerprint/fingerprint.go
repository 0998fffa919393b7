// Package fingerprint says which requests are the same: a keyed digest of who asks and of the
// change itself, to which an approval is bound, and the text of that change for people.
//
// What the API server fills in anew on each retry does not count; where it cannot be told
// whether the client or the API server set a value, it counts, so that in doubt a retry is
// held anew and nothing rides along. The package is pure. It refuses to show a value of a
// Secret, and to guess at an object that it does not understand.
package fingerprint

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"errors"
	"fmt"
	"hash"
	"slices"
	"strings"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

const (
	// KeyMin is the least length of a key, in bytes.
	KeyMin = 32
	// MaxDepth is how deep an object may be nested. Kubernetes' own kinds stay below 30.
	MaxDepth = 1000
)

// The tags keep digests of one use and form apart from those of another.
const (
	tagRequest = "holdfast.dev/fingerprint/v1"
	tagName    = "holdfast.dev/access-request-name/v1"
)

var (
	// ErrDepth: an object is nested deeper than MaxDepth.
	ErrDepth = fmt.Errorf("nested deeper than %d levels", MaxDepth)
	// ErrIncomplete: the request lacks what a fingerprint needs, such as the user's name or
	// the object.
	ErrIncomplete = errors.New("request is incomplete")
	// ErrType: an object holds a value that JSON does not have.
	ErrType = errors.New("no JSON value")
)

// text is how digests are written: lower case, digits, no padding, fit for a DNS label.
var text = base32.StdEncoding.WithPadding(base32.NoPadding)

// Hasher makes fingerprints of one cluster with one key. It is safe for concurrent use.
type Hasher struct {
	key        []byte
	clusterUID string
}

// New returns a Hasher. key has at least KeyMin random bytes: whoever has it can test guesses
// of a Secret's change against its fingerprint. clusterUID is what no other cluster has, such
// as the UID of the namespace kube-system.
func New(key []byte, clusterUID string) (*Hasher, error) {
	if len(key) < KeyMin {
		return nil, fmt.Errorf("fingerprint key of %d bytes: want at least %d", len(key), KeyMin)
	}
	if clusterUID == "" {
		return nil, errors.New("cluster UID is empty")
	}
	return &Hasher{key: slices.Clone(key), clusterUID: clusterUID}, nil
}

// Sum returns the fingerprint of a request: 52 characters of lower case and digits. Requests
// have the same fingerprint where they are by the same user, on the same target, and make
// the same change. DryRun does not count. The request is not changed.
//
// What counts of the change, by verb: update, the changed paths with old and new values, and
// all of the old object but its status and metadata, of which labels, finalizers and
// ownerReferences count; delete, the options; deletecollection, as SumCollection with
// the one object; every other verb, the object. Wherever there is an OldObject, its UID
// counts: for a create on a subresource, such as an eviction, a caller that knows the target
// may put it there.
//
// It returns ErrIncomplete, ErrDepth or ErrType, wrapped.
func (h *Hasher) Sum(r *decision.Request) (string, error) {
	if err := check(r); err != nil {
		return "", err
	}
	uid := str(metadata(r.OldObject)["uid"])
	if r.Verb == "deletecollection" {
		return h.collection(r, []string{uid})
	}
	e, mac := h.encoder(tagRequest)
	e.request(r, h.clusterUID)
	e.present(r.OldObject != nil)
	e.str(uid)
	switch r.Verb {
	case "create":
		e.value(created(r))
	case "update":
		e.update(r)
	case "delete":
		e.value(deletion(r))
	default:
		e.present(r.Object != nil)
		e.value(r.Object)
	}
	return e.sum(mac), nil
}

// SumCollection returns the fingerprint of a deletecollection request that deletes the
// objects with these UIDs: their order and repetitions do not count, the options do. r is
// what any one of its calls brings; its name and objects do not count.
//
// It returns ErrIncomplete, ErrDepth or ErrType, wrapped.
func (h *Hasher) SumCollection(r *decision.Request, uids []string) (string, error) {
	if r == nil || r.Verb != "deletecollection" {
		return "", fmt.Errorf("%w: no deletecollection", ErrIncomplete)
	}
	if err := checkFrame(r); err != nil {
		return "", err
	}
	return h.collection(r, uids)
}

func (h *Hasher) collection(r *decision.Request, uids []string) (string, error) {
	if slices.Contains(uids, "") {
		return "", fmt.Errorf("%w: an object without a UID", ErrIncomplete)
	}
	uids = slices.Clone(uids)
	slices.Sort(uids)
	uids = slices.Compact(uids)
	whole := *r
	whole.Name, whole.Object, whole.OldObject = "", nil, nil
	if is(r, "", "namespaces") {
		whole.Namespace = "" // it is the name
	}
	e, mac := h.encoder(tagRequest)
	e.request(&whole, h.clusterUID)
	e.length(tagList, len(uids))
	for _, uid := range uids {
		e.str(uid)
	}
	e.value(deletion(r))
	return e.sum(mac), nil
}

// Key returns the name of what belongs to an identity and a fingerprint: 32 characters of
// lower case and digits, a DNS label with room for a suffix.
func (h *Hasher) Key(user decision.User, fingerprint string) string {
	e, mac := h.encoder(tagName)
	e.str(user.Name)
	e.str(user.UID)
	e.str(fingerprint)
	return e.sum(mac)[:32] // 160 bits
}

func (h *Hasher) encoder(tag string) (*encoder, hash.Hash) {
	mac := hmac.New(sha256.New, h.key)
	e := &encoder{to: mac}
	e.str(tag)
	return e, mac
}

// sum ends the encoding and returns its digest.
func (e *encoder) sum(mac hash.Hash) string {
	e.flush()
	return strings.ToLower(text.EncodeToString(mac.Sum(nil)))
}

// request encodes who asks for what. The kinds and numbers of fields are fixed, each has its
// length in front, and so no two requests have one encoding.
func (e *encoder) request(r *decision.Request, clusterUID string) {
	namespace, name := r.Namespace, r.Name
	generated, ok := generatedName(r)
	if ok {
		name = generated
		if is(r, "", "namespaces") {
			namespace = "" // it is the name
		}
	}
	for _, s := range []string{
		clusterUID, r.User.Name, r.User.UID, r.Verb, r.Group, r.Resource, r.Subresource,
		namespace, name, r.NonResourceURL,
	} {
		e.str(s)
	}
	e.present(ok)
}

// update encodes the change of an update, and of the old object what must not have been
// edited since somebody approved.
func (e *encoder) update(r *decision.Request) {
	e.value(fixed(r.OldObject))
	before, after := updated(r)
	e.changes(before, after)
}

// changes encodes all changes from one object to another.
func (e *encoder) changes(before, after map[string]any) {
	c := &comparer{emit: func(c change) {
		e.length(tagChange, c.shared)
		e.length(tagList, len(c.path)-c.shared)
		for _, step := range c.path[c.shared:] {
			e.value(step)
		}
		e.side(c.old)
		e.side(c.new)
	}}
	c.compare(before, after, nil)
	e.byte(tagEnd)
}

func (e *encoder) side(s side) {
	e.present(s.has)
	if s.has {
		e.value(s.value)
	}
}

// check refuses what has no fingerprint.
func check(r *decision.Request) error {
	if err := checkFrame(r); err != nil {
		return err
	}
	needOld := r.Verb == "update" || r.Verb == "delete" || r.Verb == "deletecollection"
	needNew := r.Verb == "create" || r.Verb == "update"
	switch {
	case needNew && r.Object == nil:
		return fmt.Errorf("%w: %s without an object", ErrIncomplete, r.Verb)
	case needOld && str(metadata(r.OldObject)["uid"]) == "":
		return fmt.Errorf("%w: %s without the UID of the old object", ErrIncomplete, r.Verb)
	}
	for _, part := range []struct {
		name  string
		value map[string]any
	}{{"object", r.Object}, {"oldObject", r.OldObject}} {
		if err := checkValue(part.value, MaxDepth); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

// checkFrame refuses a request without identity or verb, and options that are none.
func checkFrame(r *decision.Request) error {
	switch {
	case r == nil:
		return fmt.Errorf("%w: none", ErrIncomplete)
	case r.User.Name == "":
		return fmt.Errorf("%w: no user name", ErrIncomplete)
	case r.Verb == "":
		return fmt.Errorf("%w: no verb", ErrIncomplete)
	}
	if err := checkValue(r.Options, MaxDepth); err != nil {
		return fmt.Errorf("options: %w", err)
	}
	return nil
}

// checkValue bounds the recursion of everything that comes after it.
func checkValue(v any, depth int) error {
	if depth < 0 {
		return ErrDepth
	}
	switch v := v.(type) {
	case nil, string, bool, int64, float64:
		return nil
	case map[string]any:
		for _, child := range v {
			if err := checkValue(child, depth-1); err != nil {
				return err
			}
		}
		return nil
	case []any:
		for _, child := range v {
			if err := checkValue(child, depth-1); err != nil {
				return err
			}
		}
		return nil
	default:
		return fmt.Errorf("%w: %T", ErrType, v)
	}
}
