// Package ticket owns the sealed words in links of notifications, by which
// whoever got the message may do one thing to one incident, once. It must not
// know how that is done.
package ticket

import (
	"encoding/base64"
	"encoding/json"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// ValidFor is how long a link can be used.
const ValidFor = 72 * time.Hour

// Action is what a ticket is for.
type Action string

const (
	Acknowledge Action = "acknowledge"
	Silence     Action = "silence"
)

// Ticket is what the link says.
type Ticket struct {
	ID       string    `json:"i"` // of the notification and the action: one use each
	Action   Action    `json:"a"`
	Incident string    `json:"n"`
	Target   string    `json:"t"` // who was told, which is who acts
	Expires  time.Time `json:"e"`
}

// Sealer encrypts and authenticates; *notify.Keyring is one.
type Sealer interface {
	Seal(plain []byte, owner string) []byte
	Open(sealed []byte, owner string) ([]byte, error)
}

const owner = "ticket"

// New makes a ticket of a notification.
func New(action Action, incident, notification, target string, now time.Time) Ticket {
	return Ticket{ID: notification + "/" + string(action), Action: action, Incident: incident, Target: target, Expires: now.Add(ValidFor).UTC().Truncate(time.Second)}
}

// Seal gives the ticket as it stands in a URL.
func (t Ticket) Seal(s Sealer) string {
	plain, err := json.Marshal(t)
	if err != nil {
		panic("BUG: a ticket is no JSON: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(s.Seal(plain, owner))
}

// Open reads a ticket back. What is none, or none of this server, is a
// fault.ErrNotFound; one whose time is over is a fault.ErrForbidden.
func Open(text string, s Sealer, now time.Time) (Ticket, error) {
	sealed, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return Ticket{}, fault.Because(fault.ErrNotFound, fault.LinkBroken)
	}
	plain, err := s.Open(sealed, owner)
	if err != nil {
		return Ticket{}, fault.Because(fault.ErrNotFound, fault.LinkForeign)
	}
	var t Ticket
	if err := json.Unmarshal(plain, &t); err != nil {
		return Ticket{}, fault.Because(fault.ErrNotFound, fault.LinkBroken)
	}
	if !now.Before(t.Expires) {
		return Ticket{}, fault.Because(fault.ErrForbidden, fault.LinkExpired, t.Expires.Format(time.RFC3339))
	}
	return t, nil
}
