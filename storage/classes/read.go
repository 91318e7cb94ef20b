package classes

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/index"

	"github.com/crowsnest-dev/crowsnest/storage/metrics"
)

// Querier reads samples of all classes between two times, both included, Unix
// milliseconds.
func (s *Store) Querier(mint, maxt int64) (storage.Querier, error) {
	all := s.each()
	if len(all) == 1 {
		return all[0].Querier(mint, maxt)
	}
	var queriers []storage.Querier
	for _, db := range all {
		q, err := db.Querier(mint, maxt)
		if err != nil {
			for _, q := range queriers {
				err = errors.Join(err, q.Close())
			}
			return nil, err
		}
		queriers = append(queriers, q)
	}
	return storage.NewMergeQuerier(queriers, nil, storage.ChainedSeriesMerge), nil
}

// ChunkQuerier is Querier for encoded chunks.
func (s *Store) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	all := s.each()
	if len(all) == 1 {
		return all[0].ChunkQuerier(mint, maxt)
	}
	var queriers []storage.ChunkQuerier
	for _, db := range all {
		q, err := db.ChunkQuerier(mint, maxt)
		if err != nil {
			for _, q := range queriers {
				err = errors.Join(err, q.Close())
			}
			return nil, err
		}
		queriers = append(queriers, q)
	}
	return storage.NewMergeChunkQuerier(queriers, nil, storage.NewCompactingChunkSeriesMerger(storage.ChainedSeriesMerge)), nil
}

// ExemplarQuerier reads exemplars of all classes.
func (s *Store) ExemplarQuerier(ctx context.Context) (storage.ExemplarQuerier, error) {
	var out exemplars
	err := s.all(func(db *metrics.DB) error {
		q, err := db.ExemplarQuerier(ctx)
		out = append(out, q)
		return err
	})
	return out, err
}

type exemplars []storage.ExemplarQuerier

func (e exemplars) Select(start, end int64, ms ...[]*labels.Matcher) (out []exemplar.QueryResult, err error) {
	for _, q := range e {
		found, err := q.Select(start, end, ms...)
		if err != nil {
			return nil, err
		}
		out = append(out, found...)
	}
	slices.SortFunc(out, func(a, b exemplar.QueryResult) int { return labels.Compare(a.SeriesLabels, b.SeriesLabels) })
	return out, nil
}

// The rest is what Prometheus' API asks of a store.

// CleanTombstones removes deleted samples from disk.
func (s *Store) CleanTombstones() error { return s.all((*metrics.DB).CleanTombstones) }

// Delete marks samples of matching series as deleted.
func (s *Store) Delete(ctx context.Context, mint, maxt int64, ms ...*labels.Matcher) error {
	return s.all(func(db *metrics.DB) error { return db.Delete(ctx, mint, maxt, ms...) })
}

// Snapshot writes a copy of all blocks into one folder.
func (s *Store) Snapshot(dir string, withHead bool) error {
	return s.all(func(db *metrics.DB) error { return db.Snapshot(dir, withHead) })
}

// WALReplayStatus tells how far the replay of the catalogue's log at start is.
func (s *Store) WALReplayStatus() (tsdb.WALReplayStatus, error) {
	return s.each()[0].WALReplayStatus()
}

// BlockMetas describes the blocks of all classes on disk.
func (s *Store) BlockMetas() (out []tsdb.BlockMeta, err error) {
	err = s.all(func(db *metrics.DB) error {
		metas, err := db.BlockMetas()
		out = append(out, metas...)
		return err
	})
	return out, err
}

// Stats counts what is in memory. Series of two classes that share a label value
// are counted together; label names that are in both, in each.
func (s *Store) Stats(statsByLabelName string, limit int) (sum *tsdb.Stats, err error) {
	err = s.all(func(db *metrics.DB) error {
		st, err := db.Stats(statsByLabelName, limit)
		if err != nil {
			return err
		}
		if sum == nil {
			sum = st
			return nil
		}
		sum.NumSeries += st.NumSeries
		sum.MinTime, sum.MaxTime = min(sum.MinTime, st.MinTime), max(sum.MaxTime, st.MaxTime)
		a, b := sum.IndexPostingStats, st.IndexPostingStats
		a.CardinalityMetricsStats = joined(a.CardinalityMetricsStats, b.CardinalityMetricsStats, limit)
		a.CardinalityLabelStats = joined(a.CardinalityLabelStats, b.CardinalityLabelStats, limit)
		a.LabelValueStats = joined(a.LabelValueStats, b.LabelValueStats, limit)
		a.LabelValuePairsStats = joined(a.LabelValuePairsStats, b.LabelValuePairsStats, limit)
		a.NumLabelPairs += b.NumLabelPairs
		return nil
	})
	return sum, err
}

// joined adds up what two lists say of the same name, the largest first.
func joined(a, b []index.Stat, limit int) []index.Stat {
	counts := map[string]uint64{}
	for _, st := range slices.Concat(a, b) {
		counts[st.Name] += st.Count
	}
	out := make([]index.Stat, 0, len(counts))
	for name, n := range counts {
		out = append(out, index.Stat{Name: name, Count: n})
	}
	slices.SortFunc(out, func(x, y index.Stat) int {
		return cmp.Or(cmp.Compare(y.Count, x.Count), cmp.Compare(x.Name, y.Name))
	})
	return out[:min(len(out), limit)]
}
