package metrics

import (
	"cmp"
	"math"
	"slices"
	"time"
)

// Forecast says when the store's file system will be full if samples go on
// arriving as in the last day; never, when the oldest go as fast by then, by age
// or by size. known is false while there is no block of the last day to tell by.
// Full is when less than MinFreeBytes are left, since the store takes nothing
// then. What else grows on the file system is not in it.
func (db *DB) Forecast() (in time.Duration, never, known bool) {
	return ForecastOf(db.Room(), db.Growth())
}

// Room is how many bytes may still be written until the store takes nothing
// more; unknown is the largest.
func (db *DB) Room() int64 {
	free, err := db.opts.FreeBytes(db.opts.Dir)
	if err != nil {
		return math.MaxInt64
	}
	return int64(min(free, math.MaxInt64)) - int64(db.opts.MinFreeBytes)
}

// Size of all blocks in bytes.
func (db *DB) Size() (bytes int64) {
	db.described.RLock()
	defer db.described.RUnlock()
	for _, b := range db.tsdb.Blocks() {
		bytes += b.Size()
	}
	return bytes
}

// NewestBlock is up to when the store has blocks, Unix milliseconds; 0 where it has none.
func (db *DB) NewestBlock() (until int64) {
	for _, b := range db.tsdb.Blocks() {
		until = max(until, b.MaxTime()) // which never changes: no lock is needed that a deletion holds
	}
	return until
}

// Growth is how a store grows, as in the last day, and for how long: then as much
// goes by age or size as comes. The zero value is unknown.
type Growth struct {
	BytesPerMilli float64
	Millis        float64
}

// Growth of the store.
func (db *DB) Growth() Growth {
	var blocks []sizedBlock
	db.described.RLock()
	defer db.described.RUnlock()
	for _, b := range db.tsdb.Blocks() {
		blocks = append(blocks, sizedBlock{b.Meta().MinTime, b.Meta().MaxTime, b.Size()})
	}
	const day = int64(24 * time.Hour / time.Millisecond)
	return growth(blocks, db.opts.Now().UnixMilli(), day, db.opts.Retention.Milliseconds(), db.opts.MaxBytes)
}

type sizedBlock struct{ mint, maxt, bytes int64 }

// growth is Growth on figures: times in Unix milliseconds, maxBytes 0 for none.
func growth(blocks []sizedBlock, now, window, retention, maxBytes int64) Growth {
	var recent float64
	var total int64
	oldest, from, to := now, now, now-window
	for _, b := range blocks {
		total += b.bytes
		oldest = min(oldest, b.mint)
		mint, maxt := max(b.mint, now-window), min(b.maxt, now)
		if mint < maxt && b.maxt > b.mint {
			recent += float64(b.bytes) * float64(maxt-mint) / float64(b.maxt-b.mint)
			from, to = min(from, mint), max(to, maxt)
		}
	}
	if to <= from || recent == 0 {
		return Growth{}
	}
	g := Growth{BytesPerMilli: recent / float64(to-from), Millis: float64(oldest + retention - now)}
	if maxBytes > 0 {
		g.Millis = min(g.Millis, float64(maxBytes-total)/g.BytesPerMilli)
	}
	g.Millis = max(g.Millis, 0)
	return g
}

// ForecastOf says when stores that share a file system have used up its room, as
// Forecast does for one.
func ForecastOf(room int64, all ...Growth) (in time.Duration, never, known bool) {
	all = slices.DeleteFunc(slices.Clone(all), func(g Growth) bool { return g.BytesPerMilli == 0 })
	if len(all) == 0 {
		return 0, false, false
	}
	if room <= 0 {
		return 0, false, true
	}
	// One store after the other stops growing.
	slices.SortFunc(all, func(a, b Growth) int { return cmp.Compare(a.Millis, b.Millis) })
	left, at := float64(room), 0.0
	for n, g := range all {
		perMilli := 0.0
		for _, growing := range all[n:] {
			perMilli += growing.BytesPerMilli
		}
		if need := left / perMilli; at+need <= g.Millis {
			if at+need > float64(math.MaxInt64/int64(time.Millisecond)) {
				return 0, true, true
			}
			return time.Duration((at + need) * float64(time.Millisecond)), false, true
		}
		left -= perMilli * (g.Millis - at)
		at = g.Millis
	}
	return 0, true, true
}

// setForecast keeps the gauge: +Inf for never, NaN for unknown.
func (db *DB) setForecast() {
	in, never, known := db.opts.Forecast()
	switch {
	case !known:
		db.metrics.full.Set(math.NaN())
	case never:
		db.metrics.full.Set(math.Inf(1))
	default:
		db.metrics.full.Set(in.Seconds())
	}
}
