package redact

import (
	"regexp"
	"strings"
)

// marks are the beginnings of the words without which a text names no kind that bears
// secrets, and of what the API server's decoders say when they quote their input.
var marks = []string{"Secret", "TokenRe", "CertificateSigning", "bigger context", "error found in #", `\u`}

// suspicious reports whether a JSON text has to be parsed and looked into. `\u` could spell
// any of the other marks.
func suspicious(s string) bool {
	for _, m := range marks {
		if strings.Contains(s, m) {
			return true
		}
	}
	return false
}

// manifest finds a kind that bears secrets in a text that does not parse: YAML, a template,
// JSON inside of prose.
var manifest = regexp.MustCompile(
	`\bkind\\*["']?\s*:\s*[>|]?-?\s*\\*["']?(Secret|SecretList|TokenRequest|TokenReview|CertificateSigningRequest)\b`)

// walk redacts a value of a resource that bears no secrets itself: embedded manifests, lists
// of mixed kinds, annotations with the last applied configuration.
func (p *pass) walk(v any, depth int) any {
	if depth > maxDepth {
		p.report.Remove(p.field, "part nested too deep")
		return p.digestAny(v)
	}
	switch v := v.(type) {
	case string:
		return p.text(v, depth)
	case []any:
		for i := range v {
			v[i] = p.walk(v[i], depth+1)
		}
	case map[string]any:
		kind, _ := v["kind"].(string)
		if redact := kinds[kind]; redact != nil && !reference(v) {
			redact(p, v)
			return v
		}
		for k, child := range v {
			v[k] = p.walk(child, depth+1)
		}
	}
	return v
}

// text redacts a string that may be a manifest.
func (p *pass) text(s string, depth int) string {
	if !suspicious(s) {
		return s
	}
	trimmed := strings.TrimLeft(s, " \t\r\n")
	if strings.HasPrefix(trimmed, "{") || strings.HasPrefix(trimmed, "[") {
		v, err := parse([]byte(s))
		if err != nil && (manifest.MatchString(s) || strings.Contains(s, `\u`)) {
			return p.digest(s)
		}
		if err == nil {
			before := p.report.Values
			v = p.walk(v, depth+1)
			out, err := encode(v)
			switch {
			case err != nil:
				return p.digest(s)
			case p.report.Values != before || strings.Contains(s, `\u`):
				return string(out)
			}
			return s
		}
	}
	if manifest.MatchString(s) || quotesInput(s) {
		return p.digest(s)
	}
	return s
}

// quotesInput reports whether a message is one of a decoder that quotes what it was given,
// as json-iterator's "error found in #10 byte of ...|...|..., bigger context ...|...|..." does.
func quotesInput(s string) bool {
	return strings.Contains(s, "error found in #") || strings.Contains(s, "bigger context")
}

// referenceKeys are the fields that a reference to an object may have.
var referenceKeys = map[string]bool{
	"apiVersion": true, "kind": true, "group": true, "apiGroup": true, "version": true,
	"namespace": true, "name": true, "uid": true, "resourceVersion": true, "fieldPath": true,
	"controller": true, "blockOwnerDeletion": true, "optional": true, "sectionName": true,
}

// reference reports whether an object with the kind of a secret only points at one, as an
// ownerReference, involvedObject or certificateRef does.
func reference(obj map[string]any) bool {
	for k, v := range obj {
		if !referenceKeys[k] {
			return false
		}
		switch v.(type) {
		case map[string]any, []any:
			return false
		}
	}
	return true
}
