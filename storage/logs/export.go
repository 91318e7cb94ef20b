package logs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Bounds of what an export holds in memory at once.
const (
	exportRows  = 10_000
	exportBytes = 16 << 20
)

// Export calls fn with every row that matches, oldest first, without holding all
// of them: it goes through time in stretches that fit into memory. A query with
// pipes that make rows of their own, or that cannot be asked in parts of its time, is
// answered as by Query, in its order; one whose pipes take _time away, in no order.
// Limit and Offset are not used. Errors are those of Query.
func (s *Store) Export(ctx context.Context, q Query, fn func(Row) error) (err error) {
	q.Limit, q.Offset = 0, 0
	p, err := s.parse(q)
	if err != nil {
		s.counted(&err)
		return err
	}
	if !p.CanReturnLastNResults() || !divides(p) {
		return s.Query(ctx, q, fn)
	}
	defer s.counted(&err)
	tenants, hide := s.scope(q.Clusters), s.hide(q)
	at := p.GetTimestamp()
	now := s.opts.Now()
	start, end := p.GetFilterTimeRange()
	start = max(start, now.Add(-s.opts.longest()-2*day).UnixNano())
	end = min(end, now.Add(aheadLimit+day).UnixNano())
	for from, width := start, int64(time.Minute); from <= end; {
		to := min(from+width-1, end)
		part := p.CloneWithTimeFilter(at, from, to)
		rows, full, err := s.stretch(ctx, part, tenants, hide)
		if err != nil {
			return err
		}
		if full && width > int64(time.Millisecond) {
			width = max(width/4, int64(time.Millisecond))
			continue
		}
		if full {
			// So much in so little time: the library sorts, within its own bounds.
			sorted, err := logstorage.ParseQueryAtTimestamp(part.String()+" | sort by (_time)", at)
			if err != nil {
				return fmt.Errorf("query logs: %w", fault.Field{Path: "query", Reason: err.Error()})
			}
			if err := s.run(ctx, sorted, tenants, hide, rowsTo(fn)); err != nil {
				return err
			}
		}
		for _, r := range rows {
			if err := fn(r.row); err != nil {
				return err
			}
		}
		from = to + 1
		if !full && len(rows) < exportRows/8 {
			width *= 4
		}
		width = min(width, int64(30*day))
	}
	return nil
}

// errFull ends a query of which more rows came than are held.
var errFull = errors.New("too many rows for one stretch")

// stretch reads rows by time; when there are too many it says full, and gives none.
func (s *Store) stretch(ctx context.Context, q *logstorage.Query, tenants []logstorage.TenantID, hide []string) (rows []timedRow, full bool, err error) {
	size := 0
	err = s.run(ctx, q, tenants, hide, func(db *logstorage.DataBlock) error {
		times, ok := db.GetTimestamps(nil)
		if !ok {
			times = make([]int64, db.RowsCount())
		}
		return eachRow(db, func(i int, r Row) error {
			for _, f := range r {
				size += len(f.Name) + len(f.Value) + 32
			}
			if len(rows) == exportRows || size > exportBytes {
				return errFull
			}
			rows = append(rows, timedRow{times[i], r.Clone()})
			return nil
		})
	})
	if errors.Is(err, errFull) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	slices.SortStableFunc(rows, func(a, b timedRow) int { return cmp.Compare(a.at, b.at) })
	return rows, false, nil
}
