package logs

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

const (
	// tailRefresh is how often rows are handed out at most.
	tailRefresh = 500 * time.Millisecond
	// tailMaxAge leaves backlog out: a batch whose newest line is older than this
	// when it comes is history, not news.
	tailMaxAge = 10 * time.Minute
	// tailChunk bounds the batches that one query of a tail asks for.
	tailChunk = 1000
)

// Tail calls fn with rows as they become durable, those of one commit sorted by
// time, until ctx ends (then it returns nil) or fn fails. It begins with what came
// within the given time before now; fn is called once without rows before that,
// when the query is known to be good.
//
// Rows are told by the batch that they came with, so that each is given once,
// also a late one; only batches that are history when they come (older than
// 10 min) are left out. The query's time range and limit are not used, and
// sub-queries in it see the new rows only.
//
// A query with a pipe that needs all rows (sort, stats …) is fault.ErrInvalid; a
// reader that falls so far behind that lines would be missed gets
// fault.ErrLimited.
func (s *Store) Tail(ctx context.Context, q Query, before time.Duration, fn func([]Row) error) error {
	q.Start, q.End, q.Limit, q.Offset = time.Time{}, time.Time{}, 0, 0
	p, err := s.parse(q)
	if err != nil {
		return err
	}
	if !p.CanLiveTail() {
		return fmt.Errorf("tail logs: %w", fault.Field{Path: "query", Reason: "has a pipe that needs all rows and cannot be followed live"})
	}
	release, err := s.use() // fails when the store is closed
	if err != nil {
		return err
	}
	release()
	if err := fn(nil); err != nil {
		return err
	}
	seq := s.arrived.firstSince(s.opts.Now().Add(-before))
	var tick *time.Timer
	for {
		came, next, more := s.arrived.since(seq)
		if len(came) > 0 && came[0].seq > seq {
			return fmt.Errorf("tail logs: the reader is too slow, %d batches were missed: %w", came[0].seq-seq, fault.ErrLimited)
		}
		seq = next
		rows, err := s.tailRows(ctx, q, came)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		if len(rows) > 0 {
			if err := fn(rows); err != nil {
				return err
			}
		}
		if tick == nil {
			tick = time.NewTimer(tailRefresh)
			defer tick.Stop()
		} else {
			tick.Reset(tailRefresh)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.closing.Done():
			return fmt.Errorf("log store is closing: %w", fault.ErrUnavailable)
		case <-tick.C:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-s.closing.Done():
			return fmt.Errorf("log store is closing: %w", fault.ErrUnavailable)
		case <-more:
		}
	}
}

// tailRows reads the rows of the batches that match, by time.
func (s *Store) tailRows(ctx context.Context, q Query, came []arrival) ([]Row, error) {
	came = slices.DeleteFunc(came, func(a arrival) bool {
		return q.Clusters != nil && !slices.Contains(q.Clusters, a.cluster) || a.at.UnixNano()-a.newest > int64(tailMaxAge)
	})
	var rows []timedRow
	for chunk := range slices.Chunk(came, tailChunk) {
		ids := make([]string, len(chunk))
		oldest, newest := chunk[0].oldest, chunk[0].newest
		for i, a := range chunk {
			ids[i] = strconv.Quote(a.batch)
			oldest, newest = min(oldest, a.oldest), max(newest, a.newest)
		}
		part := q
		part.Start, part.End = time.Unix(0, oldest), time.Unix(0, newest+1)
		part.Filters = append(slices.Clone(q.Filters), fieldBatch+":in("+strings.Join(ids, ",")+")")
		p, err := s.parse(part)
		if err != nil {
			return nil, err
		}
		// Hidden fields cannot be filtered on while they are hidden, so they are
		// left out of the rows here.
		err = s.run(ctx, p, s.scope(q.Clusters), nil, func(db *logstorage.DataBlock) error {
			times, ok := db.GetTimestamps(nil)
			if !ok {
				times = make([]int64, db.RowsCount())
			}
			return eachRow(db, func(i int, r Row) error {
				if r = visible(r); len(r) > 0 {
					rows = append(rows, timedRow{times[i], r.Clone()})
				}
				return nil
			})
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortStableFunc(rows, func(a, b timedRow) int { return cmp.Compare(a.at, b.at) })
	out := make([]Row, len(rows))
	for i, r := range rows {
		out[i] = r.row
	}
	return out, nil
}

func visible(r Row) Row {
	return slices.DeleteFunc(slices.Clone(r), func(f Field) bool { return strings.HasPrefix(f.Name, hiddenPrefix) })
}
