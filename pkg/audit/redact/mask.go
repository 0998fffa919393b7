package redact

// PrefixMax is how much of something unreadable is kept, masked, in bytes.
const PrefixMax = 4 << 10

// known are the strings of an audit payload's frame that a mask lets through.
var known = map[string]bool{
	"kind": true, "apiVersion": true, "metadata": true, "items": true, "EventList": true,
	"Event": true, "audit.k8s.io/v1": true, "level": true, "auditID": true, "stage": true,
	"requestURI": true, "verb": true, "user": true, "username": true, "groups": true,
	"objectRef": true, "resource": true, "namespace": true, "name": true, "requestObject": true,
	"responseObject": true, "responseStatus": true, "stageTimestamp": true,
	"requestReceivedTimestamp": true, "annotations": true, "sourceIPs": true, "userAgent": true,
}

// Mask returns at most limit bytes of the beginning of data, of which only JSON's structure
// and the names of an audit payload's own fields are left: every other string has each byte
// replaced by *, everything outside of strings by ?. data need not be JSON. A secret can not
// pass, wherever it stands, because nothing passes that is not on a list.
func Mask(data []byte, limit int) []byte {
	data = data[:min(len(data), limit)]
	out := make([]byte, 0, len(data))
	for i := 0; i < len(data); {
		c := data[i]
		if c != '"' {
			out = append(out, maskByte(c))
			i++
			continue
		}
		end, closed := stringEnd(data, i+1)
		text := data[i+1 : end]
		out = append(out, '"')
		for _, b := range text {
			if !closed || !known[string(text)] {
				b = '*'
			}
			out = append(out, b)
		}
		i = end
		if closed {
			out = append(out, '"')
			i++
		}
	}
	return out
}

// stringEnd returns the index of the quote that ends a string, or the length of data.
func stringEnd(data []byte, from int) (end int, closed bool) {
	for i := from; i < len(data); i++ {
		switch data[i] {
		case '\\':
			i++
		case '"':
			return i, true
		}
	}
	return len(data), false
}

func maskByte(c byte) byte {
	switch c {
	case '{', '}', '[', ']', ':', ',', ' ', '\n', '\t', '\r':
		return c
	default:
		return '?'
	}
}
