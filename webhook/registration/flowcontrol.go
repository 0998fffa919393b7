package registration

import (
	"fmt"
	"strings"

	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// agentsLevel is the priority level of the agents (manifests/flowcontrol).
	agentsLevel = "holdfast-agents"
	// agentsPrecedence is before the API server's own schema for service accounts (9000) and
	// those for everybody, and behind Holdfast's (200).
	agentsPrecedence int32 = 300
	// uncoveredAnnotation lists the patterns of the net that a FlowSchema cannot say.
	uncoveredAnnotation = "holdfast.dev/uncovered"
)

// flowSchema puts everybody inside the net on the agents' level, each identity as a flow of
// its own. A FlowSchema knows no patterns: who is inside by one stays on the level that the
// API server's other schemas give them, and the annotation says so.
func (r *renderer) flowSchema() *flowcontrolv1.FlowSchema {
	schema := &flowcontrolv1.FlowSchema{
		TypeMeta:   metav1.TypeMeta{APIVersion: "flowcontrol.apiserver.k8s.io/v1", Kind: "FlowSchema"},
		ObjectMeta: metav1.ObjectMeta{Name: agentsLevel},
		Spec: flowcontrolv1.FlowSchemaSpec{
			PriorityLevelConfiguration: flowcontrolv1.PriorityLevelConfigurationReference{Name: agentsLevel},
			MatchingPrecedence:         agentsPrecedence,
			DistinguisherMethod:        &flowcontrolv1.FlowDistinguisherMethod{Type: flowcontrolv1.FlowDistinguisherMethodByUserType},
		},
	}
	subjects, uncovered := r.subjects()
	if len(uncovered) > 0 {
		schema.Annotations = map[string]string{uncoveredAnnotation: strings.Join(uncovered, ", ")}
	}
	if len(subjects) == 0 {
		return schema // matches nobody
	}
	schema.Spec.Rules = []flowcontrolv1.PolicyRulesWithSubjects{{
		Subjects: subjects,
		ResourceRules: []flowcontrolv1.ResourcePolicyRule{{
			Verbs: []string{flowcontrolv1.VerbAll}, APIGroups: []string{flowcontrolv1.APIGroupAll},
			Resources: []string{flowcontrolv1.ResourceAll}, ClusterScope: true, Namespaces: []string{flowcontrolv1.NamespaceEvery},
		}},
		NonResourceRules: []flowcontrolv1.NonResourcePolicyRule{{
			Verbs: []string{flowcontrolv1.VerbAll}, NonResourceURLs: []string{flowcontrolv1.NonResourceAll},
		}},
	}}
	return schema
}

// subjects are those of the net: service accounts by name and by group, as the guard knows
// them, and users and groups without a star.
func (r *renderer) subjects() (subjects []flowcontrolv1.Subject, uncovered []string) {
	group := func(name string) {
		subjects = append(subjects, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindGroup, Group: &flowcontrolv1.GroupSubject{Name: name}})
	}
	for _, ns := range r.net.AccountNamespaces {
		subjects = append(subjects, flowcontrolv1.Subject{
			Kind:           flowcontrolv1.SubjectKindServiceAccount,
			ServiceAccount: &flowcontrolv1.ServiceAccountSubject{Namespace: ns, Name: flowcontrolv1.NameAll},
		})
		group("system:serviceaccounts:" + ns)
	}
	for _, user := range r.net.Users {
		if !user.Literal() {
			uncovered = append(uncovered, fmt.Sprintf("user %s", user))
			continue
		}
		subjects = append(subjects, flowcontrolv1.Subject{Kind: flowcontrolv1.SubjectKindUser, User: &flowcontrolv1.UserSubject{Name: string(user)}})
	}
	for _, g := range r.net.Groups {
		if !g.Literal() {
			uncovered = append(uncovered, fmt.Sprintf("group %s", g))
			continue
		}
		group(string(g))
	}
	return subjects, uncovered
}
