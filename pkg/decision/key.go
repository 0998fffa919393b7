package decision

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// KeyMin is the least length of a Key's secret, in bytes.
const KeyMin = 32

// The message authentication code of a record is the last field of its value: 16 bytes of
// HMAC-SHA-256 in base64url.
const (
	macBytes  = 16
	macPrefix = `,"mac":"`
	macSuffix = `"}`
)

// macLength is what the code adds to a value, less the brace that it stands for.
var macLength = len(macPrefix) + base64.RawURLEncoding.EncodedLen(macBytes) + len(macSuffix)

// macDomain keeps the codes of records apart from whatever else is made with the secret.
const macDomain = "holdfast.dev/decision/v1"

// Key tells the records that Holdfast's webhooks made from those that somebody else's webhook
// wrote under their names. The webhooks and whoever reads audit events share its secret. A nil
// Key signs nothing, and believes nothing.
//
// It says who made a record, and not of which request: a record that somebody has read and
// writes again under its own ID is as good as the first.
type Key struct{ secret []byte }

// NewKey returns the Key of a secret of at least KeyMin random bytes.
func NewKey(secret []byte) (*Key, error) {
	if len(secret) < KeyMin {
		return nil, fmt.Errorf("a decision key of %d bytes: want at least %d", len(secret), KeyMin)
	}
	return &Key{secret: slices.Clone(secret)}, nil
}

// Annotation is the record's, with a code over webhook, ID and value. r.Webhook has to be set.
func (k *Key) Annotation(r Record) (key, value string) {
	key, value = r.Annotation()
	if k == nil {
		return key, value
	}
	return key, strings.TrimSuffix(value, "}") + macPrefix + k.mac(r.Webhook+"/"+key, value) + macSuffix
}

// Signed says whether an annotation of an audit event has the code that this Key makes for it.
func (k *Key) Signed(key, value string) bool {
	if k == nil || len(value) <= macLength {
		return false
	}
	if key == AuthorizationReason {
		return k.signedReason(value)
	}
	body, tail := value[:len(value)-macLength]+"}", value[len(value)-macLength:]
	mac, ok := strings.CutPrefix(tail, macPrefix)
	return ok && hmac.Equal([]byte(mac), []byte(k.mac(key, body)+macSuffix))
}

// mac is over the bytes as they are, so that a field that one of the two sides does not know
// yet is covered, too.
func (k *Key) mac(key, value string) string {
	h := hmac.New(sha256.New, k.secret)
	for _, part := range []string{macDomain, key, value} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(part)))) //nolint:gosec // a few KiB
		h.Write([]byte(part))
	}
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:macBytes])
}
