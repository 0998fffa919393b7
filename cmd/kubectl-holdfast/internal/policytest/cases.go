package policytest

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/holdfast-dev/holdfast/pkg/access"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/decision"
	"github.com/holdfast-dev/holdfast/pkg/engine"
	"github.com/holdfast-dev/holdfast/webhook/admission"
)

// testCase is one request to judge.
type testCase struct {
	name      string
	test      *test
	request   *decision.Request
	namespace map[string]any
	// authorized: the authorizer judges it, and nobody after it.
	authorized bool
	// target is the object that a request for a subresource is of; nil where nobody looks.
	target map[string]any
	grants *access.Grants
}

// Defaults of what a test leaves out.
const (
	defaultName      = "test"
	defaultNamespace = "default"
)

// operations are the verbs that admission sees, with the kind of their options. The others
// are what an authorizer sees: no object.
var operations = map[string]struct {
	operation admissionv1.Operation
	options   string
}{
	"create":           {admissionv1.Create, "CreateOptions"},
	"update":           {admissionv1.Update, "UpdateOptions"},
	"patch":            {admissionv1.Update, "PatchOptions"}, // admission cannot tell them apart
	"delete":           {admissionv1.Delete, "DeleteOptions"},
	"deletecollection": {admissionv1.Delete, "DeleteOptions"},
	"connect":          {admissionv1.Connect, ""},
}

// others are verbs that an authorizer is asked about; constrained impersonation has more.
var others = []string{"get", "list", "watch", "impersonate", "bind", "escalate", "approve", "sign", "attest", "use", "post", "put", "head", "options"}

// builder makes the cases of one test, or of one ask.
type builder struct {
	loader *loader
	suite  *suite
	entry  *entry
	// test is nil for an ask.
	test   *test
	agents []*v1alpha1.Agent
	first  string
	failed bool
}

func (b *builder) problem(field, format string, args ...any) {
	b.failed = true
	at := b.entry.at
	if field != "" {
		at = join(at, field)
	}
	b.loader.problems = append(b.loader.problems, Problem{
		File: b.suite.file, Line: lookup(b.entry.node, field).Line, Field: at, Text: fmt.Sprintf(format, args...),
	})
}

// subject is what one case is about: an object before and after; either may be nil.
type subject struct {
	// label tells the cases of one test apart.
	label       string
	object, old map[string]any
}

// cases are those of the test; none where something is wrong with it.
func (b *builder) cases() []*testCase {
	t := b.test
	if t.Name == "" {
		b.problem("name", "is missing: name the test")
	}
	if t.Expect == nil {
		if !b.loader.update {
			b.problem("expect", "is missing: want decision (Allow, Hold or Deny), and rule as policy/rule where one decides; --update writes what is seen")
		}
		t.Expect = &expect{}
	}
	user := b.user()
	subjects := b.subjects()
	if b.failed {
		return nil
	}
	grants := b.grants(user)
	cases := make([]*testCase, 0, len(subjects))
	for _, s := range subjects {
		c := &testCase{name: t.Name, test: t, grants: grants}
		if len(subjects) > 1 {
			c.name += " [" + s.label + "]"
		}
		if c.request = b.request(c, s, user); c.request == nil {
			return nil
		}
		c.namespace = b.namespace(c)
		c.target = b.target(c)
		cases = append(cases, c)
	}
	return cases
}

// user is who makes the request.
func (b *builder) user() decision.User {
	t := b.entry
	switch {
	case t.User != "" && t.Agent != "":
		b.problem("user", "give agent or user, not both")
	case t.User != "":
		return decision.User{Name: t.User, Groups: append(accountGroups(t.User), t.Groups...)}
	}
	name := t.Agent
	if name == "" {
		name = b.first
	}
	at := slices.IndexFunc(b.agents, func(a *v1alpha1.Agent) bool { return a.Name == name })
	if at < 0 {
		var names []string
		for _, a := range b.agents {
			names = append(names, a.Name)
		}
		b.problem("agent", "no Agent is named %q%s: want one of %s, or add it to agents", name, suggest(name, names), strings.Join(names, ", "))
		return decision.User{}
	}
	if len(b.agents[at].Spec.Subjects) == 0 {
		b.problem("agent", "Agent %s has no subjects, so nobody is it", name)
		return decision.User{}
	}
	u := userOf(b.agents[at])
	u.Groups = append(u.Groups, t.Groups...)
	return u
}

// userOf is an identity that the first subject of an Agent stands for: where its name has a
// star, that stands for the Agent's name.
func userOf(a *v1alpha1.Agent) decision.User {
	s := a.Spec.Subjects[0]
	name := strings.ReplaceAll(s.Name, "*", a.Name)
	switch s.Kind {
	case v1alpha1.ServiceAccountSubject:
		user := "system:serviceaccount:" + s.Namespace + ":" + name
		return decision.User{Name: user, Groups: accountGroups(user)}
	case v1alpha1.GroupSubject:
		return decision.User{Name: a.Name, Groups: []string{"system:authenticated", name}}
	default:
		return decision.User{Name: name, Groups: accountGroups(name)}
	}
}

// accountGroups are the groups that the API server gives a user.
func accountGroups(user string) []string {
	groups := []string{"system:authenticated"}
	if parts := strings.Split(user, ":"); len(parts) == 4 && strings.HasPrefix(user, "system:serviceaccount:") {
		groups = append(groups, "system:serviceaccounts", "system:serviceaccounts:"+parts[2])
	}
	return groups
}

// subjects are what the cases are about: one, of which the objects may be nil, where the
// test has no manifests.
func (b *builder) subjects() []subject {
	t := b.test
	templates := t.PodSpec != nil || t.PodTemplate != nil || t.OldPodSpec != nil || t.OldPodTemplate != nil
	if len(t.Kinds) > 0 || templates {
		return b.wrapped()
	}
	if len(t.Manifest) > 0 && len(t.Manifests) > 0 {
		b.problem("manifests", "give manifest or manifests, not both")
	}
	current := b.objects("manifest", slices.Concat(t.Manifest, t.Manifests))
	old := b.objects("oldManifest", t.OldManifest)
	switch {
	case len(old) > 1:
		b.problem("oldManifest", "has %d objects: want one", len(old))
	case len(old) == 1 && len(current) > 1:
		b.problem("oldManifest", "is for one manifest, and there are %d", len(current))
	case len(old) == 1 && len(current) == 1:
		current[0].old = old[0].object
	case len(old) == 1:
		return []subject{{old: old[0].object}}
	case len(current) == 0:
		return []subject{{}}
	}
	return current
}

// objects reads manifests, from files too.
func (b *builder) objects(field string, all manifests) []subject {
	var out []subject
	for _, m := range all {
		if m.file == "" {
			out = append(out, subject{object: m.object, label: labelOf(m.object, len(out))})
			continue
		}
		name := filepath.Join(filepath.Dir(b.suite.file), m.file)
		text, err := os.ReadFile(name)
		if err != nil {
			b.problem(field, "%s: %s", name, cause(err))
			continue
		}
		docs, err := documents(text)
		if err != nil {
			b.problem(field, "%s: %s", name, err)
			continue
		}
		if len(docs) == 0 {
			b.problem(field, "%s has no object", name)
		}
		for _, doc := range docs {
			d := &decoder{file: name}
			object, ok := d.any("", doc.node, 0).(map[string]any)
			if !ok {
				d.problem(doc.node, "", "is %s: want an object", nameOf(doc.node))
			}
			b.failed = b.failed || len(d.problems) > 0
			b.loader.problems = append(b.loader.problems, d.problems...)
			out = append(out, subject{object: object, label: m.file + ": " + labelOf(object, len(out))})
		}
	}
	return out
}

func labelOf(object map[string]any, at int) string {
	kind, _ := object["kind"].(string)
	if kind == "" {
		return fmt.Sprintf("#%d", at+1)
	}
	metadata, _ := object["metadata"].(map[string]any)
	if name, _ := metadata["name"].(string); name != "" {
		return kind + " " + name
	}
	return kind
}

// wrapped are a pod template in each of the kinds.
func (b *builder) wrapped() []subject {
	t := b.test
	template := b.template("podSpec", t.PodSpec, t.PodTemplate)
	old := b.template("oldPodSpec", t.OldPodSpec, t.OldPodTemplate)
	var names []string
	for _, name := range t.Kinds {
		if name == "*" {
			names = append(names, workloadNames...)
		} else {
			names = append(names, name)
		}
	}
	switch {
	case len(t.Manifest)+len(t.Manifests)+len(t.OldManifest) > 0:
		b.problem("kinds", "give kinds with podSpec or podTemplate, or manifests; not both")
	case len(t.Kinds) == 0:
		b.problem("kinds", "is missing: want the kinds to wrap the pod into (%s), or * for all of them", strings.Join(workloadNames, ", "))
	case template == nil && old == nil:
		b.problem("podSpec", "is missing: want the pod's spec, or its podTemplate, to wrap into each of the kinds")
	}
	var out []subject
	for _, name := range names {
		gvk, err := workload(name)
		if err != nil {
			b.problem("kinds", "%s", err)
			continue
		}
		s := subject{label: name}
		if template != nil {
			s.object = wrap(gvk, template)
		}
		if old != nil {
			s.old = wrap(gvk, old)
		}
		out = append(out, s)
	}
	return out
}

func (b *builder) template(field string, spec, template map[string]any) map[string]any {
	switch {
	case spec != nil && template != nil:
		b.problem(field, "give the pod's spec alone or its template, not both")
	case spec != nil:
		return map[string]any{"spec": spec}
	}
	return template
}

// verb is the request's: what the test says, or what follows from the objects that it has.
func (b *builder) verb(s subject) string {
	t := b.test
	verb := t.Request.Verb
	switch {
	case t.Verb != "" && verb != "":
		b.problem("verb", "is given here and in request: want one of them")
	case t.Verb != "":
		verb = t.Verb
	case verb != "":
	case s.object != nil && s.old != nil:
		verb = "update"
	case s.object != nil:
		verb = "create"
	case s.old != nil:
		verb = "delete"
	default:
		b.problem("request.verb", "is missing: want create, update, delete, deletecollection, connect, get, list, watch or another verb")
		return ""
	}
	if _, ok := operations[verb]; ok || slices.Contains(others, verb) || strings.HasPrefix(verb, "impersonate:") || strings.HasPrefix(verb, "impersonate-on:") {
		return verb
	}
	all := append(slices.Sorted(maps.Keys(operations)), others...)
	field := "request.verb"
	if t.Verb != "" {
		field = "verb"
	}
	b.problem(field, "%q is no verb%s: want one of %s", verb, suggest(verb, all), strings.Join(all, ", "))
	return ""
}

// request is the case's request in the engine's form; nil where something is wrong.
func (b *builder) request(c *testCase, s subject, user decision.User) *decision.Request {
	verb := b.verb(s)
	if verb == "" {
		return nil
	}
	if b.test.Request.NonResourceURL != "" {
		c.authorized = true
		return b.urlRequest(s, verb, user)
	}
	if verb == "delete" || verb == "deletecollection" {
		if s.object != nil && s.old != nil {
			b.problem("manifest", "a %s has one object: give manifest or oldManifest", verb)
			return nil
		}
		if s.old == nil {
			s.object, s.old = nil, s.object
		}
	}
	r, err := b.resource(s)
	if err != nil {
		b.problem("request", "%s", err)
		return nil
	}
	name, namespace, ok := b.place(s, r)
	if !ok {
		return nil
	}
	full := &decision.Request{Verb: verb, Group: r.Group, Resource: r.Resource, Subresource: r.subresource}
	switch {
	case verb != "connect" && (b.test.Request.Aggregated || !engine.Admitted(full)):
		c.authorized = true
		if s.object != nil || s.old != nil {
			b.problem("manifest", "no object is seen of a %s: give request.resource and name", verb)
			return nil
		}
		return b.access(verb, user, r, name, namespace)
	case verb != "connect" && decision.Connects(r.Group, full.FullResource()):
		b.problem("request.verb", "is %s: admission is told connect of %s, whatever the client sends; say that", verb, full.FullResource())
		return nil
	default:
		return b.admission(s, verb, user, r, name, namespace)
	}
}

// admission is a request as the webhook decodes it from what the API server would send.
func (b *builder) admission(s subject, verb string, user decision.User, r *destination, name, namespace string) *decision.Request {
	if name == "" {
		name = defaultName
	}
	for _, field := range []struct {
		name  string
		given bool
	}{
		{"fieldSelector", b.test.Request.FieldSelector != ""}, {"labelSelector", b.test.Request.LabelSelector != ""},
		{"aggregated", b.test.Request.Aggregated},
	} {
		if field.given {
			b.problem("request."+field.name, "admission sees none in a %s: leave it out", verb)
			return nil
		}
	}
	fill := func(object map[string]any) map[string]any { return completed(object, r, name, namespace) }
	o := operations[verb]
	q := &admissionv1.AdmissionRequest{
		UID: "test", Operation: o.operation, Name: name, Namespace: namespace,
		Kind:     metav1.GroupVersionKind(r.kind),
		Resource: metav1.GroupVersionResource(r.GroupVersionResource), SubResource: r.subresource,
		UserInfo: authenticationv1.UserInfo{Username: user.Name, Groups: user.Groups},
		DryRun:   &b.test.Request.DryRun,
	}
	raw := func(object map[string]any) runtime.RawExtension {
		data, err := json.Marshal(object)
		if err != nil { // what was read from YAML always encodes, but for .nan and .inf
			b.problem("", "cannot be sent as JSON: %s", err)
		}
		return runtime.RawExtension{Raw: data}
	}
	if o.operation != admissionv1.Delete && (o.operation != admissionv1.Connect || s.object != nil) {
		q.Object = raw(fill(s.object))
	}
	if o.operation == admissionv1.Update || o.operation == admissionv1.Delete {
		q.OldObject = raw(fill(s.old))
	}
	if verb == "deletecollection" {
		q.Name = ""
	}
	if o.options != "" {
		q.Options = raw(b.options(o.options))
	}
	body, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"}, Request: q,
	})
	if err != nil {
		b.problem("", "cannot be sent as JSON: %s", err)
		return nil
	}
	review, err := admission.DecodeReview(body)
	if err != nil {
		b.problem("request", "%s", err)
		return nil
	}
	return &review.Request
}

func (b *builder) options(kind string) map[string]any {
	options := map[string]any{"apiVersion": "meta.k8s.io/v1", "kind": kind}
	if b.test.Request.DryRun {
		options["dryRun"] = []any{metav1.DryRunAll}
	}
	maps.Copy(options, b.test.Request.Options)
	return options
}

// completed is the object with what the API server would have filled in of kind, name and
// namespace; the test's own stays as it is.
func completed(object map[string]any, r *destination, name, namespace string) map[string]any {
	out := maps.Clone(object)
	if out == nil {
		out = map[string]any{}
	}
	if out["kind"] == nil && r.kind.Kind != "" {
		out["apiVersion"], out["kind"] = r.kind.GroupVersion().String(), r.kind.Kind
	}
	metadata, ok := out["metadata"].(map[string]any)
	if !ok && out["metadata"] != nil {
		return out
	}
	metadata = maps.Clone(metadata)
	if metadata == nil {
		metadata = map[string]any{}
	}
	if metadata["name"] == nil {
		metadata["name"] = name
	}
	if metadata["namespace"] == nil && namespace != "" && (r.Group != "" || r.Resource != "namespaces") {
		metadata["namespace"] = namespace
	}
	out["metadata"] = metadata
	return out
}

// namespace is the Namespace object of a request; nil where it has none.
func (b *builder) namespace(c *testCase) map[string]any {
	t, r := b.test, c.request
	given := b.objects("namespaceObject", t.NamespaceObject)
	switch {
	case len(given) > 1:
		b.problem("namespaceObject", "has %d objects: want one", len(given))
		return nil
	case len(given) == 1 && r.Namespace == "":
		b.problem("namespaceObject", "the request is in no namespace: leave it out")
		return nil
	case r.Namespace == "":
		return nil
	case len(given) == 0 && r.Group == "" && r.Resource == "namespaces" && !c.authorized:
		return r.OldObject
	}
	object := map[string]any{}
	if len(given) == 1 {
		object = given[0].object
	}
	space := &destination{kind: schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}, GroupVersionResource: schema.GroupVersionResource{Resource: "namespaces"}}
	object = completed(object, space, r.Namespace, "")
	if metadata, ok := object["metadata"].(map[string]any); ok {
		labels, _ := metadata["labels"].(map[string]any)
		labels = maps.Clone(labels)
		if labels == nil {
			labels = map[string]any{}
		}
		labels["kubernetes.io/metadata.name"] = r.Namespace
		metadata["labels"] = labels
	}
	return object
}
