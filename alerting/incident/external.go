package incident

import "time"

// External is an alert that somebody else judged, as Alertmanager's API takes
// it. Its labels are its identity.
type External struct {
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	StartsAt     time.Time         `json:"starts_at"`        // zero: when it was received
	EndsAt       time.Time         `json:"ends_at,omitzero"` // past: it ended; future: it ends then unless it is received again; zero: until told
	UpdatedAt    time.Time         `json:"updated_at,omitzero"`
	GeneratorURL string            `json:"generator_url,omitempty"`
	Expr         string            `json:"expr,omitempty"` // of the rule, when it is ours and so about series that are here
}
