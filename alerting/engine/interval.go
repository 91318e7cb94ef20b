package engine

import (
	"context"
	"fmt"
	"time"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// intervalLooks are how far back it is looked for what senders said of
// themselves, until some did.
var intervalLooks = []time.Duration{time.Hour, 24 * time.Hour, 7 * 24 * time.Hour}

// intervalOf gives the interval of a cluster for a look at its past up to a time:
// what its senders say now, else, as of a cluster that is silent since this
// server was started, what they said last. May be called concurrently.
func (e *Engine) intervalOf(ctx context.Context, cluster string, until time.Time) (time.Duration, error) {
	if d := e.Intervals()[cluster]; d > 0 {
		return d, nil
	}
	for _, back := range intervalLooks {
		d, err := e.intervalSaid(ctx, cluster, until.Add(-back), until)
		if err != nil || d > 0 {
			return d, err
		}
	}
	return defaultInterval, nil
}

// intervalSaid is the longest of what each sender of a cluster said last in a
// range; 0: none said anything.
func (e *Engine) intervalSaid(ctx context.Context, cluster string, from, to time.Time) (time.Duration, error) {
	mint, maxt := from.UnixMilli(), to.UnixMilli()
	q, err := e.opts.Queryable.Querier(mint, maxt)
	if err != nil {
		return 0, fmt.Errorf("open querier: %w", err)
	}
	defer q.Close()
	var longest time.Duration
	set := q.Select(ctx, false, &storage.SelectHints{Start: mint, End: maxt}, matchers(rollup.SenderInterval, cluster)...)
	var it chunkenc.Iterator
	for set.Next() {
		var last float64
		it = set.At().Iterator(it)
		for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
			if _, v := it.At(); vt == chunkenc.ValFloat && v > 0 {
				last = v
			}
		}
		if err := it.Err(); err != nil {
			return 0, fmt.Errorf("read senders' intervals: %w", err)
		}
		longest = max(longest, time.Duration(last*float64(time.Second)))
	}
	if err := set.Err(); err != nil {
		return 0, fmt.Errorf("read senders' intervals: %w", err)
	}
	return longest, nil
}
