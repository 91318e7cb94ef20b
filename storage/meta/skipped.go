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

// ReasonLate is that of rounds whose samples came too late to be judged then.
const ReasonLate = "late"

// LateRange are a cluster's late rounds that were not stepped through yet.
type LateRange struct {
	Cluster                   string
	From, To                  time.Time // of their samples
	FirstArrived, LastArrived time.Time
}

// LateRanges gives one for each cluster that has such rounds.
func (tx *Tx) LateRanges() ([]LateRange, error) {
	return all(tx, "list late rounds", func(s scanner) (r LateRange, err error) {
		var from, to, first, last sql.NullInt64
		err = s.Scan(&r.Cluster, &from, &to, &first, &last)
		r.From, r.To, r.FirstArrived, r.LastArrived = fromMillis(from), fromMillis(to), fromMillis(first), fromMillis(last)
		return r, err
	}, "SELECT cluster, min(at), max(at), min(arrived_at), max(arrived_at) FROM skipped_rounds WHERE stepped = 0 AND reason = 'late' GROUP BY cluster ORDER BY cluster")
}

// StepLate notes that a cluster's late rounds were stepped through, as far as
// they had arrived by a time.
func (tx *Tx) StepLate(cluster string, arrived time.Time) error {
	_, err := tx.exec("note late rounds", "UPDATE skipped_rounds SET stepped = 1 WHERE stepped = 0 AND reason = 'late' AND cluster = ? AND arrived_at <= ?", cluster, arrived.UnixMilli())
	return err
}
