package meta

import (
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// PutEvidence keeps what was around an alert when it began.
func (tx *Tx) PutEvidence(alertID string, at time.Time, data json.RawMessage) error {
	_, err := tx.exec("save evidence", `INSERT INTO evidence (alert_id, at, data) VALUES (?, ?, ?)
		ON CONFLICT (alert_id) DO UPDATE SET at = excluded.at, data = excluded.data`, alertID, millis(at), string(data))
	return err
}

// Evidence gives what is kept of an alert; nil: nothing is.
func (tx *Tx) Evidence(alertID string) (json.RawMessage, error) {
	data, err := one(tx, "read evidence", func(s scanner) (string, error) {
		var data sql.NullString
		err := s.Scan(&data)
		return data.String, err
	}, "SELECT data FROM evidence WHERE alert_id = ?", alertID)
	if errors.Is(err, fault.ErrNotFound) || data == "" {
		return nil, nil
	}
	return json.RawMessage(data), err
}

// Muzzle notes that an alert was ended by hand while it was bad; with on false,
// that its object was good since.
func (tx *Tx) Muzzle(policyID, cluster, key string, on bool) error {
	if !on {
		_, err := tx.exec("lift a muzzle", "UPDATE alerts SET muzzled = 0 WHERE policy_id = ? AND cluster = ? AND key = ? AND muzzled = 1", policyID, cluster, key)
		return err
	}
	_, err := tx.exec("muzzle an alert", `UPDATE alerts SET muzzled = 1 WHERE id =
		(SELECT id FROM alerts WHERE policy_id = ? AND cluster = ? AND key = ? ORDER BY started_at DESC, id DESC LIMIT 1)`, policyID, cluster, key)
	return err
}

// MuzzledAlerts gives the alerts that were ended by hand and whose objects were
// not good since.
func (tx *Tx) MuzzledAlerts() ([]Alert, error) {
	return all(tx, "list muzzled alerts", scanAlert, "SELECT "+alertColumns+" FROM alerts WHERE muzzled = 1")
}
