package meta

import (
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// SpendTicket notes that a ticket acted; of one that did before it is a
// fault.ErrConflict. Rows of tickets that expired go at the same time.
func (tx *Tx) SpendTicket(id string, expires, now time.Time) error {
	if _, err := tx.exec("drop expired tickets", "DELETE FROM spent_tickets WHERE expires_at < ?", now.UnixMilli()); err != nil {
		return err
	}
	spent, err := tx.TicketSpent(id)
	if err != nil {
		return err
	}
	if spent {
		return fault.Because(fault.ErrConflict, fault.LinkUsed)
	}
	_, err = tx.exec("spend a ticket", "INSERT INTO spent_tickets (id, expires_at) VALUES (?, ?)", id, expires.UnixMilli())
	return err
}

// ReturnTicket takes SpendTicket back: what it was for could not be done.
func (tx *Tx) ReturnTicket(id string) error {
	_, err := tx.exec("return a ticket", "DELETE FROM spent_tickets WHERE id = ?", id)
	return err
}

// TicketSpent says whether a ticket acted already.
func (tx *Tx) TicketSpent(id string) (bool, error) {
	found, err := all(tx, "look for a spent ticket", func(s scanner) (n int, err error) { return n, s.Scan(&n) }, "SELECT 1 FROM spent_tickets WHERE id = ?", id)
	return len(found) > 0, err
}
