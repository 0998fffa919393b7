package notify

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/holdfast-dev/holdfast/pkg/access/notice"
	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

const (
	contentType = "application/cloudevents+json; charset=UTF-8"
	// typePrefix starts the types of events: dev.holdfast.accessrequest.pending.
	typePrefix = "dev.holdfast.accessrequest."
	// maxEvent is how large an event may be: every CloudEvents intermediary has to forward
	// 64 KiB (CloudEvents 1.0.2, "Size Limits"). What is larger is told in short.
	maxEvent = 64 << 10
	// maxShort bounds each free text, and maxReviews the reviews (the newest), of what is
	// told in short. By the bounds of the kinds: 32 names, 16 groups and 16 resources of 253
	// bytes, 16 verbs and 16 namespaces of 63 are 18 KiB, 32 rules of 370 are 12, 8 reviews
	// of 1,900 are 15, and reason, message and requester are 3.
	maxShort   = 1 << 10
	maxReviews = 8
)

// event is a CloudEvent (CloudEvents 1.0.2, JSON format).
type event struct {
	SpecVersion     string     `json:"specversion"`
	ID              string     `json:"id"`
	Source          string     `json:"source"`
	Type            string     `json:"type"`
	Subject         string     `json:"subject"`
	Time            *time.Time `json:"time,omitempty"`
	DataContentType string     `json:"datacontenttype"`
	Data            data       `json:"data"`
}

// data is what is told of an AccessRequest. Each field is taken over by name: what the
// AccessRequest knows of the change, its impact and the objects behind it stays there.
type data struct {
	Name      string          `json:"name"`
	Origin    v1alpha1.Origin `json:"origin"`
	Agent     string          `json:"agent"`
	Requester string          `json:"requester"`
	Phase     v1alpha1.Phase  `json:"phase"`
	Access    wanted          `json:"access"`
	Rules     []rule          `json:"rules"`
	// Reason is in the agent's own words.
	Reason    string     `json:"reason,omitempty"`
	ExpiresAt *time.Time `json:"expiresAt,omitempty"`
	Reviews   []review   `json:"reviews,omitempty"`
	Message   string     `json:"message,omitempty"`
	// VoidedReview names the Review that an event of type voided is about.
	VoidedReview string   `json:"voidedReview,omitempty"`
	Commands     commands `json:"commands"`
	// Short is true where the event would be too large: the rules' messages and approvers
	// and the comments are left out, and texts and reviews are cut.
	Short bool `json:"short,omitempty"`
}

type wanted struct {
	Verbs      []string `json:"verbs"`
	APIGroups  []string `json:"apiGroups"`
	Resources  []string `json:"resources"`
	Namespaces []string `json:"namespaces,omitempty"`
	Names      []string `json:"names,omitempty"`
	// Duration is for how long it is granted, where it was asked ahead.
	Duration string `json:"duration,omitempty"`
}

type rule struct {
	Policy    string     `json:"policy"`
	Rule      string     `json:"rule"`
	Message   string     `json:"message,omitempty"`
	Required  int32      `json:"required"`
	Approvers *approvers `json:"approvers,omitempty"`
}

type approvers struct {
	Groups []string `json:"groups,omitempty"`
	Users  []string `json:"users,omitempty"`
}

type review struct {
	Name     string           `json:"name"`
	Reviewer string           `json:"reviewer"`
	Verdict  v1alpha1.Verdict `json:"verdict"`
	Comment  string           `json:"comment,omitempty"`
	// Refused says why it does not count.
	Refused string `json:"refused,omitempty"`
}

// commands are what a person types who wants to look or to decide.
type commands struct {
	Describe string `json:"describe"`
	Approve  string `json:"approve,omitempty"`
	Deny     string `json:"deny,omitempty"`
}

// encode returns the event; in short, where it would be larger than maxEvent. The name of an
// AccessRequest is a DNS name, and so safe in a command.
func encode(source string, r *v1alpha1.AccessRequest, n notice.Notice) ([]byte, error) {
	e := event{
		SpecVersion: "1.0", ID: n.ID, Source: source, Type: typePrefix + string(n.Occasion),
		Subject: r.Name, DataContentType: "application/json",
		Data: dataOf(r, n),
	}
	if !n.Time.IsZero() {
		t := n.Time.UTC()
		e.Time = &t
	}
	body, err := marshal(e)
	if err != nil || len(body) <= maxEvent {
		return body, err
	}
	e.Data.shorten()
	return marshal(e)
}

// marshal leaves <, > and & readable: this is not HTML.
func marshal(e event) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(e)
	return bytes.TrimRight(b.Bytes(), "\n"), err
}

func dataOf(r *v1alpha1.AccessRequest, n notice.Notice) data {
	a := r.Spec.Access
	d := data{
		Name: r.Name, Origin: r.Spec.Origin, Agent: r.Spec.Agent, Requester: r.Spec.Requester, Phase: n.Phase,
		Access: wanted{Verbs: a.Verbs, APIGroups: a.APIGroups, Resources: a.Resources, Namespaces: a.Namespaces, Names: a.Names},
		Rules:  make([]rule, 0, len(r.Spec.Rules)),
		Reason: r.Spec.Reason, Message: r.Status.Message, VoidedReview: n.Review,
		Commands: commands{Describe: "kubectl holdfast describe " + r.Name},
	}
	if a.Duration != nil {
		d.Access.Duration = a.Duration.Duration.String()
	}
	if r.Status.ExpiresAt != nil {
		t := r.Status.ExpiresAt.UTC()
		d.ExpiresAt = &t
	}
	for i := range r.Spec.Rules {
		from := &r.Spec.Rules[i]
		d.Rules = append(d.Rules, rule{
			Policy: from.Policy, Rule: from.Rule, Message: from.Message, Required: from.Required,
			Approvers: &approvers{Groups: from.Approvers.Groups, Users: from.Approvers.Users},
		})
	}
	for i := range r.Status.Reviews {
		from := &r.Status.Reviews[i]
		d.Reviews = append(d.Reviews, review{
			Name: from.Name, Reviewer: from.Reviewer, Verdict: from.Verdict, Comment: from.Comment, Refused: from.Refused,
		})
	}
	if n.Phase == v1alpha1.Pending {
		d.Commands.Approve = "kubectl holdfast approve " + r.Name
		d.Commands.Deny = "kubectl holdfast deny " + r.Name + ` -m "WHY"`
	}
	return d
}

// shorten makes room. Everything left out is in the AccessRequest.
func (d *data) shorten() {
	d.Short = true
	d.Reason, d.Message = cut(d.Reason), cut(d.Message)
	for i := range d.Rules {
		d.Rules[i].Message, d.Rules[i].Approvers = "", nil
	}
	d.Reviews = d.Reviews[max(0, len(d.Reviews)-maxReviews):]
	for i := range d.Reviews {
		d.Reviews[i].Comment, d.Reviews[i].Refused = "", cut(d.Reviews[i].Refused)
	}
}

// cut cuts a text to maxShort bytes, between two characters.
func cut(s string) string {
	if len(s) <= maxShort {
		return s
	}
	n := maxShort
	for n > 0 && s[n]&0xC0 == 0x80 {
		n--
	}
	return s[:n]
}
