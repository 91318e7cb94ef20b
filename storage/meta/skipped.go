package meta

import (
	"database/sql"
	"time"
)

// SkippedRound is an arrival that was stored but not evaluated at its own time.
type SkippedRound struct {
	Cluster, Sender string
	At              time.Time // up to which it was complete
	Reason          string    // late | order | overtaken
	ArrivedAt       time.Time
}

// AddSkippedRounds notes rounds; of one that is noted already the first counts.
func (tx *Tx) AddSkippedRounds(rounds []SkippedRound) error {
	for _, r := range rounds {
		if _, err := tx.exec("journal a round", "INSERT INTO skipped_rounds (cluster, sender, at, reason, arrived_at) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
			r.Cluster, r.Sender, millis(r.At), r.Reason, r.ArrivedAt.UnixMilli()); err != nil {
			return err
		}
	}
	return nil
}

// SkippedRounds gives those of a cluster within a range, both ends included.
func (tx *Tx) SkippedRounds(cluster string, from, to time.Time) ([]SkippedRound, error) {
	return all(tx, "list rounds that were left out", func(s scanner) (r SkippedRound, err error) {
		var at, arrived sql.NullInt64
		err = s.Scan(&r.Cluster, &r.Sender, &at, &r.Reason, &arrived)
		r.At, r.ArrivedAt = fromMillis(at), fromMillis(arrived)
		return r, err
	}, "SELECT cluster, sender, at, reason, arrived_at FROM skipped_rounds WHERE cluster = ? AND at >= ? AND at <= ?", cluster, millis(from), millis(to))
}
