package metrics

// Series that are over stay in memory until the head's next block. Where 1 % of the
// pods are replaced a minute they are nearly as many as the living by then, and take as
// much each. When memory is scarce, and they are many, they go into blocks of their own
// before, and out of memory. Not else: whoever asks for the present meets these blocks
// besides the head for up to a block's time, and sorts what both have.
const (
	endedLeast = 50_000 // series
	endedShare = 8      // of which they are one at least
)

// manyEnded says whether so many of all series are over that it is worth it. left are
// those that could not go the last time, as they have late samples.
func manyEnded(ended, left, all, least uint64) bool {
	could := ended - min(left, ended)
	return could >= least && could >= all/endedShare
}

// compactEnded lets go of series that are over, where that is worth it.
func (db *DB) compactEnded() error {
	db.compaction.mu.Lock()
	defer db.compaction.mu.Unlock()
	head := db.tsdb.Head()
	if !manyEnded(head.NumStaleSeries(), db.compaction.ended, head.NumSeries(), db.compaction.least) || !db.opts.Scarce() {
		return nil
	}
	before, began := head.NumSeries(), db.opts.Now()
	err := db.letGoOfEndedLocked()
	if err == nil {
		db.opts.Logger.Info("wrote blocks of series that are over, as memory is scarce", "series_before", before, "series", head.NumSeries(), "took_seconds", db.opts.Now().Sub(began).Seconds())
	}
	return err
}

// letGoOfEndedLocked goes by stale markers. Series that get a sample meanwhile stay, and
// those that have late samples in memory.
func (db *DB) letGoOfEndedLocked() error {
	if err := db.tsdb.CompactStaleHead(); err != nil {
		return err
	}
	db.compaction.ended = db.tsdb.Head().NumStaleSeries()
	db.metrics.endedCompactions.Inc()
	return nil
}
