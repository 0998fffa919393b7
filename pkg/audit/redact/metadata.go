package redact

import (
	"encoding/json"
	"net/url"
	"regexp"
	"slices"
	"strings"

	auditv1 "k8s.io/apiserver/pkg/apis/audit/v1"

	"github.com/holdfast-dev/holdfast/pkg/decision"
)

// commandParameters are query parameters that carry what somebody typed or authenticates
// with. Case does not count.
var commandParameters = map[string]bool{
	"command": true, "token": true, "access_token": true, "id_token": true, "password": true,
	"passwd": true, "secret": true, "api_key": true, "apikey": true, "authorization": true,
}

// uri redacts the query of a request: the command of an exec, and all values for a proxied
// service, whose parameters nobody here knows.
func (p *pass) uri(ev *auditv1.Event) string {
	path, query, ok := strings.Cut(ev.RequestURI, "?")
	if !ok {
		return path
	}
	proxied := ev.ObjectRef != nil && ev.ObjectRef.Subresource == "proxy"
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		name, value, _ := strings.Cut(pair, "=")
		plain, err := url.QueryUnescape(name)
		if value == "" || err == nil && !proxied && !commandParameters[strings.ToLower(plain)] {
			continue
		}
		if v, err := url.QueryUnescape(value); err == nil {
			value = v
		}
		pairs[i] = name + "=" + p.digest(value)
	}
	return path + "?" + strings.Join(pairs, "&")
}

// patchAnnotation starts the keys under which the API server records the patches of mutating
// webhooks (admission/plugin/webhook/mutating/dispatcher.go), at level Request and above.
const patchAnnotation = "patch.webhook.admission.k8s.io/"

// harmlessAnnotations start the keys of annotations whose values say nothing of an object.
var harmlessAnnotations = []string{
	"authorization.k8s.io/", "authentication.k8s.io/", "audit.k8s.io/", "apiserver.latency.k8s.io/",
	"mutation.webhook.admission.k8s.io/", "failed-open.validation.webhook.admission.k8s.io/",
	"failed-open.mutation.webhook.admission.k8s.io/", "pod-security.kubernetes.io/",
	"k8s.io/deprecated", "k8s.io/removed-release",
}

func (p *pass) annotations(ev *auditv1.Event) {
	for k, v := range ev.Annotations {
		harmless := slices.Contains(p.own, k) || slices.ContainsFunc(harmlessAnnotations, func(prefix string) bool {
			return strings.HasPrefix(k, prefix)
		})
		claim, err := decision.ParseAnnotation(k, v)
		switch {
		case strings.HasPrefix(k, patchAnnotation):
			ev.Annotations[k] = p.webhookPatch(v)
		case harmless:
			// Not scrubbed either: an agent that creates a Secret with the value "Deny" must
			// not make Holdfast's own record of it unreadable.
		case p.bearer != nil && err == nil:
			// Somebody else's, under the name of a decision: that there was one is kept, and
			// none of its words.
			_, ev.Annotations[k] = decision.Record{Decision: claim.Decision}.Annotation()
		case p.bearer != nil:
			ev.Annotations[k] = p.digest(v)
		default:
			ev.Annotations[k] = p.scrub(p.text(v, 0))
		}
	}
}

// webhookPatch redacts {"configuration","webhook","patch","patchType"}.
func (p *pass) webhookPatch(s string) string {
	if p.bearer == nil {
		return p.scrub(p.text(s, 0))
	}
	var v struct {
		Configuration string `json:"configuration"`
		Webhook       string `json:"webhook"`
		Patch         []any  `json:"patch,omitempty"`
		PatchType     string `json:"patchType"`
	}
	if err := json.Unmarshal([]byte(s), &v); err != nil {
		return p.digest(s)
	}
	if _, ok := p.jsonPatch(v.Patch); !ok {
		return p.digest(s)
	}
	out, err := encode(v)
	if err != nil {
		return p.digest(s)
	}
	return string(out)
}

// responseStatus redacts the messages of the status that every event has.
func (p *pass) responseStatus(ev *auditv1.Event) {
	s := ev.ResponseStatus
	if s == nil {
		return
	}
	s.Message = p.message(s.Message)
	if s.Details == nil {
		return
	}
	s.Details.Causes = slices.Clone(s.Details.Causes)
	for i := range s.Details.Causes {
		s.Details.Causes[i].Message = p.message(s.Details.Causes[i].Message)
	}
}

func (p *pass) message(s string) string {
	switch {
	case s == "":
		return s
	case p.bearer != nil && !harmless(s):
		return p.digest(s)
	default:
		return p.scrub(p.text(s, 0))
	}
}

// harmlessMessages are sentences of the API server about an object that bears secrets which
// quote nothing but its name; all others become digests.
var harmlessMessages = []*regexp.Regexp{
	regexp.MustCompile(`^[a-z.]+ "[-a-z0-9.]{1,253}" (not found|already exists)$`),
	regexp.MustCompile(`^[a-z.]+( "[-a-z0-9.]{1,253}")? is forbidden: User "[^"\\]{1,253}" cannot [a-z]+ resource "[a-z/]+" in API group "[a-z0-9.]*" (in the namespace "[-a-z0-9]{1,63}"|at the cluster scope)$`),
	regexp.MustCompile(`^Operation cannot be fulfilled on [a-z.]+ "[-a-z0-9.]{1,253}": the object has been modified; please apply your changes to the latest version and try again$`),
	regexp.MustCompile(`^Unauthorized$`),
	// Holdfast's own webhooks promise to quote no values. Of impersonation, which the API server
	// checks before anything else, it keeps what the authorizer said nowhere else.
	regexp.MustCompile(`^[a-z.]+( "[^"\\]{1,253}")? is forbidden: User "[^"\\]{1,253}" cannot [a-z:-]+ resource "[a-z/.-]+" in API group "[a-z0-9.]*" (in the namespace "[-a-z0-9]{1,63}"|at the cluster scope): agent [^\n]* \[authorizer\.holdfast\.dev [^\]\n]*\]$`),
	regexp.MustCompile(`^admission webhook "(guard|own)\.holdfast\.dev" denied the request: [^\n]*$`),
}

func harmless(s string) bool {
	return slices.ContainsFunc(harmlessMessages, func(re *regexp.Regexp) bool { return re.MatchString(s) })
}
