package decision

// Testimony is what the audit stream tells the webhooks: what became of API requests that an
// approval let pass, and which Reviews were made under impersonation, which no hook of the
// API server but its audit log can see. It travels from the collector to the webhook as JSON.
type Testimony struct {
	Outcomes     []Outcome      `json:"outcomes,omitempty"`
	Impersonated []Impersonated `json:"impersonated,omitempty"`
}

// Outcome is how an API request ended in which a decision let an AccessRequest pass.
type Outcome struct {
	// AccessRequest is its name.
	AccessRequest string `json:"accessRequest"`
	// DecisionID names the decision.
	DecisionID string `json:"decisionID"`
	// Status is the HTTP status of the API server's answer.
	Status int `json:"status"`
}

// Impersonated is a Review that somebody made in another one's name.
type Impersonated struct {
	// Review is its name.
	Review string `json:"review"`
	// By is the user who made it, and As the user in whose name it is.
	By string `json:"by"`
	As string `json:"as"`
}

// Add appends what another one says.
func (t *Testimony) Add(other Testimony) {
	t.Outcomes = append(t.Outcomes, other.Outcomes...)
	t.Impersonated = append(t.Impersonated, other.Impersonated...)
}

// Len is how many things it says.
func (t *Testimony) Len() int { return len(t.Outcomes) + len(t.Impersonated) }
