package metrics

import (
	"math"
	"time"
)

// Forecast says when the store's file system will be full if samples go on
// arriving as in the last day; never, when the oldest go as fast by then, by age
// or by size. known is false while there is no block of the last day to tell by.
// Full is when less than MinFreeBytes are left, since the store takes nothing
// then. What else grows on the file system is not in it.
func (db *DB) Forecast() (in time.Duration, never, known bool) {
	now := db.opts.Now().UnixMilli()
	const day = int64(24 * time.Hour / time.Millisecond)
	var blocks []sizedBlock
	for _, b := range db.tsdb.Blocks() {
		blocks = append(blocks, sizedBlock{b.Meta().MinTime, b.Meta().MaxTime, b.Size()})
	}
	free, err := db.opts.FreeBytes(db.opts.Dir)
	if err != nil {
		return 0, false, false
	}
	room := int64(min(free, math.MaxInt64)) - int64(db.opts.MinFreeBytes)
	return forecast(blocks, now, day, db.opts.Retention.Milliseconds(), room, db.opts.MaxBytes)
}

type sizedBlock struct{ mint, maxt, bytes int64 }

// forecast is Forecast on figures: times in Unix milliseconds, room in bytes
// until it is full, maxBytes 0 for none.
func forecast(blocks []sizedBlock, now, window, retention, room, maxBytes int64) (in time.Duration, never, known bool) {
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
		return 0, false, false
	}
	if room <= 0 {
		return 0, false, true
	}
	perMilli := recent / float64(to-from)
	left := float64(room) / perMilli
	// Until then the store only grows; after it, as much goes as comes.
	growing := float64(oldest + retention - now)
	if maxBytes > 0 {
		growing = min(growing, float64(maxBytes-total)/perMilli)
	}
	if left > max(growing, 0) || left > float64(math.MaxInt64/int64(time.Millisecond)) {
		return 0, true, true
	}
	return time.Duration(left * float64(time.Millisecond)), false, true
}

// setForecast keeps the gauge: +Inf for never, NaN for unknown.
func (db *DB) setForecast() {
	in, never, known := db.Forecast()
	switch {
	case !known:
		db.metrics.full.Set(math.NaN())
	case never:
		db.metrics.full.Set(math.Inf(1))
	default:
		db.metrics.full.Set(in.Seconds())
	}
}
