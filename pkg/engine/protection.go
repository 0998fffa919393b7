package engine

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
	"github.com/holdfast-dev/holdfast/pkg/policy"
)

// ProtectionPolicy is the name under which the rules that protect Holdfast itself appear in
// decisions. No AgentPolicy can have it: the API server allows no colon in names.
const ProtectionPolicy = "holdfast:self-protection"

// selfProtection are the rules that no policy can lift: agents do not change what guards
// them. They are policy like any other, so that they are judged by the same code.
func selfProtection() *policy.Set {
	writes := []v1alpha1.Pattern{"create", "update", "patch", "delete", "deletecollection", "connect"}
	deny := func(name, message string, m v1alpha1.Match) v1alpha1.Rule {
		m.Verbs = writes
		return v1alpha1.Rule{Name: name, Match: m, Action: v1alpha1.Deny, Message: message}
	}
	all := []v1alpha1.Pattern{"*"}
	compiled, err := policy.Compile(&v1alpha1.AgentPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: ProtectionPolicy},
		Spec: v1alpha1.AgentPolicySpec{Agents: all, Rules: []v1alpha1.Rule{
			ownKinds(writes),
			deny("own-namespace", "Agents may not touch the namespace that Holdfast runs in.",
				v1alpha1.Match{Namespaces: []v1alpha1.Pattern{Namespace}}),
			deny("own-definitions", "Agents may not change the definitions of Holdfast's kinds.",
				v1alpha1.Match{
					APIGroups: []v1alpha1.Pattern{"apiextensions.k8s.io"},
					Resources: []v1alpha1.Pattern{"customresourcedefinitions", "customresourcedefinitions/*"},
					Names:     []v1alpha1.Pattern{"*." + v1alpha1.Group},
				}),
			conversions(),
			{
				Name: "impersonation", Action: v1alpha1.Deny, Message: "Agents act under their own names.",
				Match: v1alpha1.Match{Verbs: []v1alpha1.Pattern{"impersonate", "impersonate:*", "impersonate-on:*"}},
			},
			{
				Name: "own-secrets", Action: v1alpha1.Deny, Message: "Agents may not read the keys of Holdfast.",
				Match: v1alpha1.Match{
					Verbs: []v1alpha1.Pattern{"get", "list", "watch"}, APIGroups: []v1alpha1.Pattern{""},
					Resources: []v1alpha1.Pattern{"secrets"}, Namespaces: []v1alpha1.Pattern{Namespace},
				},
			},
			deny("own-access", "Agents may not change what Holdfast itself is allowed.",
				v1alpha1.Match{APIGroups: []v1alpha1.Pattern{"rbac.authorization.k8s.io"}, Resources: all, Names: []v1alpha1.Pattern{"holdfast-*"}}),
			deny("admission-registrations", "Agents may not change what the API server asks before it admits a request.",
				v1alpha1.Match{APIGroups: []v1alpha1.Pattern{"admissionregistration.k8s.io"}, Resources: all}),
			deny("flow-control", "Agents may not change whose requests the API server takes first.",
				v1alpha1.Match{APIGroups: []v1alpha1.Pattern{"flowcontrol.apiserver.k8s.io"}, Resources: all}),
			deny("api-registrations", "Agents may not register API servers of their own.",
				v1alpha1.Match{APIGroups: []v1alpha1.Pattern{"apiregistration.k8s.io"}, Resources: all}),
		}},
	})
	if err != nil {
		// Fixed text: a test compiles it. Were it ever wrong, everything is denied.
		return policy.NewSet([]*policy.Policy{policy.Broken(&v1alpha1.AgentPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: ProtectionPolicy},
			Spec:       v1alpha1.AgentPolicySpec{Agents: all},
		})})
	}
	return policy.NewSet([]*policy.Policy{compiled})
}

// ownKinds leaves agents two writes, which the own-kinds webhook judges: they ask for
// something ahead by creating an AccessRequest, and of their own they write the reason and
// the withdrawal.
func ownKinds(writes []v1alpha1.Pattern) v1alpha1.Rule {
	return v1alpha1.Rule{
		Name: "own-kinds", Action: v1alpha1.Deny, Message: "Agents may not change Agents, policies or anything else of Holdfast.",
		Match: v1alpha1.Match{Verbs: writes, APIGroups: []v1alpha1.Pattern{v1alpha1.Group}, Resources: []v1alpha1.Pattern{"*"}},
		When:  `not (request.resource == "accessrequests" and request.subresource == "" and request.verb in ["create", "update"])`,
	}
}

// conversions are webhooks, too: they see and change every object of their kind.
func conversions() v1alpha1.Rule {
	return v1alpha1.Rule{
		Name: "conversion-webhooks", Action: v1alpha1.Deny, Message: "Agents may not register conversion webhooks.",
		Match: v1alpha1.Match{
			Verbs: []v1alpha1.Pattern{"create", "update"}, APIGroups: []v1alpha1.Pattern{"apiextensions.k8s.io"},
			Versions: []v1alpha1.Pattern{"v1"}, Resources: []v1alpha1.Pattern{"customresourcedefinitions"},
		},
		When: `object.spec.conversion.strategy == "Webhook"`,
	}
}

// Namespace is where Holdfast runs.
const Namespace = "holdfast-system"
