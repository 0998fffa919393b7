package redact

import (
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"
)

// kinds are the objects that bear secrets, wherever they are found.
var kinds = map[string]func(*pass, map[string]any){
	"Secret":                        (*pass).secret,
	"SecretList":                    func(p *pass, o map[string]any) { p.list(o, (*pass).secret) },
	"TokenRequest":                  (*pass).token,
	"TokenReview":                   (*pass).token,
	"CertificateSigningRequest":     (*pass).csr,
	"CertificateSigningRequestList": func(p *pass, o map[string]any) { p.list(o, (*pass).csr) },
}

// bearer is a resource whose bodies bear secrets: a body that is not one of its kinds goes.
type bearer struct {
	// kinds are those that the resource itself has.
	kinds []string
	// object redacts one object of it, or a merge patch of one.
	object func(*pass, map[string]any)
}

// bearers are indexed by resource, or resource/subresource. The API group does not count: a
// resource called secrets bears secrets in any group.
var bearers = map[string]*bearer{
	"secrets":                    {kinds: []string{"Secret", "SecretList"}, object: (*pass).secret},
	"serviceaccounts/token":      {kinds: []string{"TokenRequest"}, object: (*pass).token},
	"tokenreviews":               {kinds: []string{"TokenReview"}, object: (*pass).token},
	"certificatesigningrequests": {kinds: []string{"CertificateSigningRequest", "CertificateSigningRequestList"}, object: (*pass).csr},
}

// bearerOf returns nil for a resource that bears no secrets itself.
func bearerOf(ref *auditv1.ObjectReference) *bearer {
	if ref == nil {
		return nil
	}
	if b := bearers[ref.Resource]; b != nil {
		return b
	}
	return bearers[ref.Resource+"/"+ref.Subresource]
}

// redact redacts a body of the resource; false says that it is not understood.
func (b *bearer) redact(p *pass, v any, patch bool) (any, bool) {
	if patch {
		switch v := v.(type) {
		case []any:
			return p.jsonPatch(v)
		case map[string]any:
			b.object(p, v)
			return v, true
		}
		return nil, false
	}
	obj, ok := v.(map[string]any)
	if !ok {
		return nil, false
	}
	kind, _ := obj["kind"].(string)
	switch {
	case slices.Contains(b.kinds, kind):
		kinds[kind](p, obj)
	case kind == "Status":
		p.status(obj)
	case kind == "Table":
		p.table(obj)
	case kind == "PartialObjectMetadata":
		p.secret(obj)
	case kind == "PartialObjectMetadataList":
		p.list(obj, (*pass).secret)
	case kind == "DeleteOptions":
		p.keep(obj, "apiVersion", "kind", "gracePeriodSeconds", "preconditions",
			"orphanDependents", "propagationPolicy", "dryRun")
	default:
		return nil, false
	}
	return obj, true
}

// secret redacts a Secret, a merge patch of one, or the metadata of one.
func (p *pass) secret(obj map[string]any) {
	for k, v := range obj {
		switch k {
		case "apiVersion", "kind", "type", "immutable":
			obj[k] = p.scalar(v)
		case "metadata":
			obj[k] = p.metadata(v)
		case "data":
			obj[k] = p.values(v, true)
		case "stringData":
			obj[k] = p.values(v, false)
		default:
			obj[k] = p.digestAny(v)
		}
	}
}

// values redacts a map from names to values. A value of data is digested as what its base64
// stands for, so that it equals the same value in stringData.
func (p *pass) values(v any, encoded bool) any {
	m, ok := v.(map[string]any)
	if !ok {
		return p.digestAny(v)
	}
	for k, value := range m {
		s, ok := value.(string)
		if !ok {
			m[k] = p.digestAny(value)
			continue
		}
		if plain, err := base64.StdEncoding.DecodeString(s); encoded && err == nil {
			p.taint(s)
			m[k] = p.digest(string(plain))
			continue
		}
		p.taint(base64.StdEncoding.EncodeToString([]byte(s)))
		m[k] = p.digest(s)
	}
	return m
}

// secretAnnotations are the annotations of a Secret that hold nothing of its content. All
// others become digests: tools keep whole manifests in theirs.
var secretAnnotations = map[string]bool{
	"kubernetes.io/service-account.name": true,
	"kubernetes.io/service-account.uid":  true,
}

func (p *pass) metadata(v any) any {
	m, ok := v.(map[string]any)
	if !ok {
		return p.digestAny(v)
	}
	for k, v := range m {
		switch k {
		case "name", "generateName", "namespace", "uid", "resourceVersion", "generation",
			"creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink":
			m[k] = p.scalar(v)
		case "labels":
			m[k] = p.strings(v, func(string) bool { return true })
		case "annotations":
			m[k] = p.strings(v, func(k string) bool { return secretAnnotations[k] })
		case "ownerReferences", "finalizers":
		case "managedFields":
			delete(m, k)
		default:
			m[k] = p.digestAny(v)
		}
	}
	return m
}

// strings keeps those of a map's strings whose key passes.
func (p *pass) strings(v any, pass func(key string) bool) any {
	m, ok := v.(map[string]any)
	if !ok {
		return p.digestAny(v)
	}
	for k, v := range m {
		if s, ok := v.(string); !ok || !pass(k) || len(s) > 1024 {
			m[k] = p.digestAny(v)
		}
	}
	return m
}

// list redacts each item; they have no kind of their own.
func (p *pass) list(obj map[string]any, item func(*pass, map[string]any)) {
	for k, v := range obj {
		items, ok := v.([]any)
		if k != "items" || !ok {
			continue
		}
		for i := range items {
			if o, ok := items[i].(map[string]any); ok {
				item(p, o)
			} else {
				items[i] = p.digestAny(items[i])
			}
		}
	}
	p.listMetadata(obj)
	if _, ok := obj["items"].([]any); !ok {
		p.keep(obj, "apiVersion", "kind", "metadata")
		return
	}
	p.keep(obj, "apiVersion", "kind", "metadata", "items")
}

// listMetadata redacts the metadata of a list, a Table or a Status.
func (p *pass) listMetadata(obj map[string]any) {
	p.part(obj, "metadata", "resourceVersion", "continue", "remainingItemCount", "selfLink")
}

// token redacts a TokenRequest or a TokenReview.
func (p *pass) token(obj map[string]any) {
	p.keep(obj, "apiVersion", "kind", "metadata", "spec", "status")
	p.part(obj, "spec", "audiences", "expirationSeconds", "boundObjectRef")
	p.part(obj, "status", "expirationTimestamp", "authenticated", "user", "audiences")
	if v, ok := obj["metadata"]; ok {
		obj["metadata"] = p.metadata(v)
	}
}

// csr redacts a CertificateSigningRequest.
func (p *pass) csr(obj map[string]any) {
	p.keep(obj, "apiVersion", "kind", "metadata", "spec", "status")
	p.part(obj, "spec", "signerName", "usages", "username", "uid", "groups", "extra", "expirationSeconds")
	p.part(obj, "status", "conditions")
	if v, ok := obj["metadata"]; ok {
		obj["metadata"] = p.metadata(v)
	}
}

// part is keep for a field that is an object.
func (p *pass) part(obj map[string]any, field string, names ...string) {
	v, ok := obj[field]
	if !ok {
		return
	}
	if m, ok := v.(map[string]any); ok {
		p.keep(m, names...)
		return
	}
	obj[field] = p.digestAny(v)
}

// keep digests every field but the named ones.
func (p *pass) keep(obj map[string]any, names ...string) {
	for k, v := range obj {
		if !slices.Contains(names, k) {
			obj[k] = p.digestAny(v)
		}
	}
}

// status redacts a Status about an object that bears secrets: validation quotes values.
func (p *pass) status(obj map[string]any) {
	p.keep(obj, "apiVersion", "kind", "metadata", "status", "message", "reason", "details", "code")
	p.listMetadata(obj)
	if s, ok := obj["message"].(string); !ok || !harmless(s) {
		if v, ok := obj["message"]; ok {
			obj["message"] = p.digestAny(v)
		}
	}
	p.part(obj, "details", "name", "group", "kind", "uid", "causes", "retryAfterSeconds")
	details, _ := obj["details"].(map[string]any)
	causes, _ := details["causes"].([]any)
	for i, c := range causes {
		if m, ok := c.(map[string]any); ok {
			p.keep(m, "reason", "field")
		} else {
			causes[i] = p.digestAny(c)
		}
	}
}

// tableColumns are those of the API server's own table of Secrets.
var tableColumns = map[string]bool{"Name": true, "Type": true, "Data": true, "Age": true}

// table redacts a Table of objects that bear secrets: unknown columns, and the objects.
func (p *pass) table(obj map[string]any) {
	p.keep(obj, "apiVersion", "kind", "metadata", "columnDefinitions", "rows")
	p.listMetadata(obj)
	columns, _ := obj["columnDefinitions"].([]any)
	rows, ok := obj["rows"].([]any)
	if v, has := obj["rows"]; has && !ok {
		obj["rows"] = p.digestAny(v)
	}
	for i, r := range rows {
		row, ok := r.(map[string]any)
		if !ok {
			rows[i] = p.digestAny(r)
			continue
		}
		p.keep(row, "cells", "object", "conditions")
		if o, ok := row["object"].(map[string]any); ok {
			p.secret(o)
		} else if v, ok := row["object"]; ok {
			row["object"] = p.digestAny(v)
		}
		cells, ok := row["cells"].([]any)
		if v, has := row["cells"]; has && !ok {
			row["cells"] = p.digestAny(v)
		}
		for j := range cells {
			if j >= len(columns) || !tableColumns[columnName(columns[j])] {
				cells[j] = p.digestAny(cells[j])
			}
		}
	}
}

func columnName(v any) string {
	m, _ := v.(map[string]any)
	name, _ := m["name"].(string)
	return name
}

// patchable are the paths of a Secret whose values a JSON patch may show.
var patchable = []string{"/metadata/labels", "/metadata/finalizers", "/metadata/ownerReferences", "/type", "/immutable"}

// jsonPatch redacts an RFC 6902 patch of an object that bears secrets.
func (p *pass) jsonPatch(ops []any) (any, bool) {
	for i, v := range ops {
		op, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		path, _ := op["path"].(string)
		show := slices.ContainsFunc(patchable, func(prefix string) bool {
			return path == prefix || strings.HasPrefix(path, prefix+"/")
		})
		p.keep(op, "op", "path", "from", "value")
		if v, ok := op["value"]; ok && !show {
			op["value"] = p.patchValue(path, v)
		}
		ops[i] = op
	}
	return ops, true
}

// patchValue digests a value the way the same value in an object would be.
func (p *pass) patchValue(path string, v any) any {
	switch {
	case path == "/data" || path == "/stringData":
		return p.values(v, path == "/data")
	case strings.HasPrefix(path, "/data/"):
		return p.values(map[string]any{"value": v}, true).(map[string]any)["value"]
	default:
		return p.digestAny(v)
	}
}

// scalar keeps what is neither an object nor long.
func (p *pass) scalar(v any) any {
	switch v := v.(type) {
	case nil, bool:
		return v
	case string:
		if len(v) <= 1024 {
			return v
		}
	case fmt.Stringer: // json.Number
		if len(v.String()) <= 32 {
			return v
		}
	}
	return p.digestAny(v)
}

// digestAny replaces a value of any type; null, which is how a patch deletes, stays.
func (p *pass) digestAny(v any) any {
	switch v := v.(type) {
	case nil:
		return nil
	case string:
		return p.digest(v)
	}
	p.taintAll(v, 0)
	out, err := encode(v)
	if err != nil {
		p.report.Values++
		return p.r.Digest(nil)
	}
	p.report.Values++
	return p.r.Digest(out)
}

// taintAll remembers the strings in a value that was digested whole.
func (p *pass) taintAll(v any, depth int) {
	if depth > maxDepth {
		return
	}
	switch v := v.(type) {
	case string:
		p.taint(v)
	case []any:
		for _, c := range v {
			p.taintAll(c, depth+1)
		}
	case map[string]any:
		for _, c := range v {
			p.taintAll(c, depth+1)
		}
	}
}
