package logs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Query says which rows.
type Query struct {
	Text     string    // LogsQL; required
	Start    time.Time // inclusive; zero: from the oldest row
	End      time.Time // exclusive; zero: to the newest row
	At       time.Time // for filters like _time:5m in the text; default End, or now
	Clusters []string  // ids; nil: all, empty: none
	NoPipes  bool      // leave the text's pipes out
	Limit    int       // the newest so many rows, newest first; 0: all, in no order
	Offset   int       // with Limit: skip so many of the newest
	// Filters are further LogsQL filters, each of which rows must match, in
	// sub-queries too.
	Filters []string
	// Narrow gives one more of them, when the query is read, and for each of a tail's
	// looks: what it names may change meanwhile.
	Narrow func() (string, error)
	// Hide names fields that the query does not see, as if rows did not have
	// them; "secret*" for all that begin so.
	Hide []string
}

// Field is a name with a value.
type Field = logstorage.Field

// Row is a row of an answer: its fields that are not empty, in the order of the
// answer.
type Row []Field

// Get gives the value of a field; empty when the row does not have it.
func (r Row) Get(name string) string {
	for _, f := range r {
		if f.Name == name {
			return f.Value
		}
	}
	return ""
}

// Clone copies a row, so that it can be kept.
func (r Row) Clone() Row {
	out := make(Row, len(r))
	for i, f := range r {
		out[i] = Field{Name: strings.Clone(f.Name), Value: strings.Clone(f.Value)}
	}
	return out
}

// Results of a query, as counted.
const (
	resultOK       = "ok"
	resultInvalid  = "invalid"
	resultCanceled = "canceled"
	resultError    = "error"
)

var queryResults = []string{resultOK, resultInvalid, resultCanceled, resultError}

// maxNewest bounds the rows that are held to find the newest; for more the
// library sorts, within its own bound of memory.
const maxNewest = 10_000

// Query calls fn with every row, one at a time. A row is valid until fn returns;
// Clone keeps it. An error of fn ends the query and is returned.
//
// When Query returns nil, fn has seen the complete answer. Errors:
// fault.ErrInvalid with the parser's message for a wrong text, the context's
// error when it ended first, fault.ErrUnavailable when the store is closing.
func (s *Store) Query(ctx context.Context, q Query, fn func(Row) error) (err error) {
	defer s.counted(&err)
	p, err := s.parse(q)
	if err != nil {
		return err
	}
	if q.Limit <= 0 {
		return s.run(ctx, p, s.scope(q.Clusters), s.hide(q), rowsTo(fn))
	}
	if err := guard("parse query", func() error {
		if p.CanReturnLastNResults() {
			p.AddPipeSortByTimeDesc()
		}
		p.AddPipeOffsetLimit(uint64(max(0, q.Offset)), uint64(q.Limit))
		return nil
	}); err != nil {
		return err
	}
	tenants := s.scope(q.Clusters)
	if s.far != nil {
		return s.run(ctx, p, tenants, s.hide(q), rowsTo(fn)) // the engine looks for the newest itself
	}
	if last, offset, limit := lastN(p); last != nil && offset+limit <= maxNewest {
		rows, err := s.newest(ctx, last, tenants, s.hide(q), offset+limit)
		if err != nil {
			return err
		}
		for i, r := range rows {
			if uint64(i) < offset {
				continue
			}
			if err := fn(r.row); err != nil {
				return err
			}
		}
		return nil
	}
	return s.run(ctx, p, tenants, s.hide(q), rowsTo(fn))
}

// columnBytes is what one more name of Columns takes in memory besides its text, about.
const columnBytes = 64

// Columns gives the names of the fields that rows of a query have: in the order of its
// last pipe where that says which, else sorted, as the rows have them by now. Errors are
// those of Query, and fault.ErrTooLarge where the names take more than maxBytes.
func (s *Store) Columns(ctx context.Context, q Query, maxBytes int64) ([]string, error) {
	p, err := s.parse(q)
	if err != nil {
		s.counted(&err)
		return nil, err
	}
	if names, ok := p.GetFixedFields(); ok {
		return names, nil
	}
	names, size := map[string]bool{}, int64(0)
	note := func(name string) error {
		if names[name] {
			return nil
		}
		if size += int64(len(name)) + columnBytes; size > maxBytes {
			return fmt.Errorf("query logs: names of fields take more than %d bytes: %w", maxBytes, fault.ErrTooLarge)
		}
		names[strings.Clone(name)] = true
		return nil
	}
	bare := q
	bare.NoPipes = true
	if b, err := s.parse(bare); err != nil {
		return nil, err
	} else if q.Limit > 0 || b.String() != p.String() {
		// The library would hold all names that pipes make, which have no bound as those
		// of the store's fields have.
		err = s.Query(ctx, q, func(r Row) error {
			for _, f := range r {
				if err := note(f.Name); err != nil {
					return err
				}
			}
			return nil
		})
		return slices.Sorted(maps.Keys(names)), err
	}
	found, err := s.FieldNames(ctx, q, "")
	for _, f := range found {
		err = cmp.Or(err, note(f.Value))
	}
	return slices.Sorted(maps.Keys(names)), err
}

// parse reads the text and adds the time range and the filters.
func (s *Store) parse(q Query) (*logstorage.Query, error) {
	now := s.opts.Now().UnixNano()
	start, end := int64(math.MinInt64), int64(math.MaxInt64)
	if !q.Start.IsZero() {
		start = nanos(q.Start)
	}
	at := now
	if !q.End.IsZero() {
		// The library's ranges include their end, and "_time:1d" leaves out the time it is read at.
		at = nanos(q.End)
		end = max(at, math.MinInt64+1) - 1
	}
	if !q.At.IsZero() {
		at = nanos(q.At)
	}
	if start > end {
		return nil, fmt.Errorf("query logs: %w", fault.Field{Path: "start", Reason: "must be before end", Value: q.Start})
	}
	if q.Limit < 0 {
		return nil, fmt.Errorf("query logs: %w", fault.Field{Path: "limit", Reason: "must not be negative", Value: q.Limit})
	}
	if q.Offset < 0 {
		return nil, fmt.Errorf("query logs: %w", fault.Field{Path: "offset", Reason: "must not be negative", Value: q.Offset})
	}
	filters := q.Filters
	if q.Narrow != nil {
		more, err := q.Narrow()
		if err != nil {
			return nil, fmt.Errorf("query logs: %w", err)
		}
		filters = append(slices.Clip(filters), more)
	}
	var p *logstorage.Query
	err := guard("parse query", func() (err error) {
		if p, err = logstorage.ParseQueryAtTimestamp(q.Text, at); err != nil {
			return fault.Field{Path: "query", Reason: err.Error()}
		}
		if q.NoPipes {
			p.DropAllPipes()
		}
		if !q.Start.IsZero() || !q.End.IsZero() {
			p.AddTimeFilter(start, end)
		}
		for _, text := range filters {
			f, err := parseFilter(text, now)
			if err != nil {
				return fault.Field{Path: "extra_filters", Reason: err.Error(), Value: text}
			}
			p.AddExtraFilters(f)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("query logs: %w", err)
	}
	return p, s.knows(q.Clusters)
}

// parseFilter reads a filter. The library leaves options out of one without a word, though one of
// them is a filter itself.
func parseFilter(text string, at int64) (*logstorage.Filter, error) {
	f, err := logstorage.ParseFilterAtTimestamp(text, at)
	if err != nil {
		return nil, err
	}
	if q, err := logstorage.ParseQueryAtTimestamp(text, at); err != nil || q.String() != f.String() {
		return nil, errors.New("options(...) belong to a query, not to a filter of it")
	}
	return f, nil
}

// nanos is UnixNano within its range, at whose ends it would wrap around.
func nanos(t time.Time) int64 {
	switch {
	case t.Year() < 1678:
		return math.MinInt64 + 1
	case t.Year() > 2261:
		return math.MaxInt64
	}
	return t.UnixNano()
}

// run executes a parsed query and calls fn with each block, one at a time.
func (s *Store) run(ctx context.Context, q *logstorage.Query, tenants []logstorage.TenantID, hide []string, fn func(*logstorage.DataBlock) error) error {
	return s.search(ctx, q, tenants, hide, func(qctx *logstorage.QueryContext, stop context.CancelCauseFunc) error {
		var mu sync.Mutex // the library calls from several goroutines
		return s.db.RunQuery(qctx, func(_ uint, db *logstorage.DataBlock) {
			mu.Lock()
			defer mu.Unlock()
			if qctx.Context.Err() != nil {
				return
			}
			if err := fn(db); err != nil {
				stop(err)
			}
		})
	})
}

// search prepares what every read needs: the store stays open, the query ends
// with ctx or with the store, and one that was ended early is an error. (The
// library answers a cancelled query with what it has, and no error.)
func (s *Store) search(ctx context.Context, q *logstorage.Query, tenants []logstorage.TenantID, hide []string, do func(*logstorage.QueryContext, context.CancelCauseFunc) error) error {
	release, err := s.use()
	if err != nil {
		return err
	}
	defer release()
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer context.AfterFunc(s.closing, func() { stop(fmt.Errorf("log store is closing: %w", fault.ErrUnavailable)) })()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	err = guard("query logs", func() error {
		return do(logstorage.NewQueryContext(ctx, &logstorage.QueryStats{}, tenants, q, false, hide), stop)
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if errors.Is(err, errGaveUp) || errors.Is(err, fault.ErrUnavailable) || errors.Is(err, fault.ErrLimited) {
		return err
	}
	if err != nil {
		// What the library refuses while it runs is in the text: a sub-query that
		// is too large, a pipe that needs more memory than there is.
		return fmt.Errorf("query logs: %w", fault.Field{Path: "query", Reason: err.Error()})
	}
	return nil
}

func rowsTo(fn func(Row) error) func(*logstorage.DataBlock) error {
	return func(db *logstorage.DataBlock) error {
		return eachRow(db, func(_ int, r Row) error {
			if namesHidden(r) {
				return nil
			}
			return fn(r)
		})
	}
}

// namesHidden says that a row of the pipes field_names and facets is about a
// hidden field: these list it, although without its values.
func namesHidden(r Row) bool {
	return len(r) <= 3 && (strings.HasPrefix(r.Get("name"), hiddenPrefix) || strings.HasPrefix(r.Get("field_name"), hiddenPrefix))
}

// eachRow calls fn with the rows of a block and their index in it.
func eachRow(db *logstorage.DataBlock, fn func(int, Row) error) error {
	columns := db.GetColumns(false)
	row := make(Row, 0, len(columns))
	for i := range db.RowsCount() {
		row = row[:0]
		for _, c := range columns {
			if v := c.Values[i]; v != "" {
				row = append(row, Field{Name: c.Name, Value: v})
			}
		}
		if len(row) == 0 {
			continue
		}
		if err := fn(i, row); err != nil {
			return err
		}
	}
	return nil
}

func lastN(q *logstorage.Query) (last *logstorage.Query, offset, limit uint64) {
	if !divides(q) {
		return nil, 0, 0
	}
	return q.GetLastNResultsQuery()
}

// divides says whether a query can be asked in parts of its time. The library makes a copy
// by printing and parsing, which panics on a text that does not survive that; and options
// may have a query read other times than it is given.
func divides(q *logstorage.Query) bool {
	start, end := q.GetFilterTimeRange()
	part := min(end, max(start, 0))
	err := guard("", func() error {
		start, end = q.CloneWithTimeFilter(q.GetTimestamp(), part, part).GetFilterTimeRange()
		return nil
	})
	return err == nil && start == part && end == part
}

type timedRow struct {
	at  int64
	row Row
}

const (
	// sparse is how few rows of a block make it dear to find them by halving on: each
	// half reads most columns of most blocks again, and a count reads one.
	sparse = 8
	// countSteps is into how many parts a count divides a time range.
	countSteps = 1024
)

// newest finds the n newest rows, newest first, without sorting all that match:
// it halves the time range until about n are in it, or counts once where they are. (app/vlstorage
// halves, too; the library itself does not.) q has no limit of its own.
func (s *Store) newest(ctx context.Context, q *logstorage.Query, tenants []logstorage.TenantID, hide []string, n uint64) ([]timedRow, error) {
	at := q.GetTimestamp()
	start, end := q.GetFilterTimeRange()
	// No row is outside of this, and halving all of time takes longer.
	now := s.opts.Now()
	start = max(start, now.Add(-s.opts.longest()-2*day).UnixNano())
	end = min(end, now.Add(aheadLimit+day).UnixNano())
	if start > end {
		return nil, nil
	}
	var found []timedRow
	to, width, counted := end, (end-start)/2, false
	for {
		from := max(start, to-width)
		missing := n - uint64(len(found))
		rows, blocks, full, err := s.rowsWithin(ctx, q, tenants, hide, at, from, to, 2*missing)
		if err != nil {
			return nil, err
		}
		if full && width > int64(2*time.Second) {
			width /= 2
			if !counted && blocks > len(rows)/sparse {
				counted = true
				if width, err = s.widthOf(ctx, q, tenants, hide, at, from, to, missing); err != nil {
					return nil, err
				}
			}
			continue
		}
		if full {
			// So many rows in so little time that halving gains nothing.
			rows, err := s.sortedRows(ctx, q, tenants, hide, at, from, to, missing)
			return append(found, rows...), err
		}
		slices.SortStableFunc(rows, func(a, b timedRow) int { return cmp.Compare(b.at, a.at) })
		found = append(found, rows[:min(uint64(len(rows)), missing)]...)
		if uint64(len(found)) == n || from == start {
			return found, nil
		}
		to = from - 1
		if k := len(rows); k > 0 {
			// As dense as this part was, the next one has half more than is missing.
			part := 1.5 * float64(n-uint64(len(found))) / float64(k)
			width = max(int64(time.Millisecond), int64(float64(width)*min(2, part)))
		} else {
			width *= 2
		}
	}
}

// rowsWithin reads up to limit rows of a time range, in no order; blocks is of how many
// they come, full says that there may be more.
func (s *Store) rowsWithin(ctx context.Context, q *logstorage.Query, tenants []logstorage.TenantID, hide []string, at, from, to int64, limit uint64) (rows []timedRow, blocks int, full bool, err error) {
	part := q.CloneWithTimeFilter(at, from, to)
	part.AddPipeOffsetLimit(0, limit)
	rows, blocks, err = s.timedRows(ctx, part, tenants, hide)
	return rows, blocks, uint64(len(rows)) >= limit, err
}

// widthOf says how much of the end of a time range has n rows, in steps of a part of it;
// it is half of the range if that has fewer. It is a guess: a pipe may leave rows out that
// are counted.
func (s *Store) widthOf(ctx context.Context, q *logstorage.Query, tenants []logstorage.TenantID, hide []string, at, from, to int64, n uint64) (width int64, err error) {
	part := q.CloneWithTimeFilter(at, from, to)
	step := (to-from)/countSteps + 1
	if err := guard("count rows by time", func() error { part.AddCountByTimePipe(step, mod(-(to+1), step), nil); return nil }); err != nil {
		return 0, err
	}
	var counts [countSteps + 1]uint64 // the newest first
	if err := s.run(ctx, part, tenants, hide, func(db *logstorage.DataBlock) error {
		return eachRow(db, func(_ int, r Row) error {
			began, ok := logstorage.TryParseTimestampRFC3339Nano(r.Get("_time"))
			hits, err := strconv.ParseUint(r.Get("hits"), 10, 64)
			if i := (to - began) / step; ok && err == nil && i >= 0 && i < int64(len(counts)) {
				counts[i] += hits
			}
			return nil
		})
	}); err != nil {
		return 0, err
	}
	had := uint64(0)
	for i, c := range counts {
		if had += c; had >= n {
			return min(int64(i+1)*step, to-from+1) - 1, nil
		}
	}
	return (to - from) / 2, nil
}

// sortedRows lets the library find the n newest rows of a time range.
func (s *Store) sortedRows(ctx context.Context, q *logstorage.Query, tenants []logstorage.TenantID, hide []string, at, from, to int64, n uint64) ([]timedRow, error) {
	part := q.CloneWithTimeFilter(at, from, to)
	part.AddPipeSortByTimeDesc()
	part.AddPipeOffsetLimit(0, n)
	rows, _, err := s.timedRows(ctx, part, tenants, hide)
	return rows, err
}

// timedRows gives the rows, and of how many blocks they come.
func (s *Store) timedRows(ctx context.Context, q *logstorage.Query, tenants []logstorage.TenantID, hide []string) (rows []timedRow, blocks int, err error) {
	err = s.run(ctx, q, tenants, hide, func(db *logstorage.DataBlock) error {
		blocks++
		times, ok := db.GetTimestamps(nil)
		if !ok {
			return fault.Field{Path: "query", Reason: "a limit needs rows that have a _time"}
		}
		return eachRow(db, func(i int, r Row) error {
			rows = append(rows, timedRow{times[i], r.Clone()})
			return nil
		})
	})
	return rows, blocks, err
}

// counted counts a query by its result.
func (s *Store) counted(err *error) {
	result := resultError
	switch {
	case *err == nil:
		result = resultOK
	case errors.Is(*err, fault.ErrInvalid):
		result = resultInvalid
	case errors.Is(*err, context.Canceled), errors.Is(*err, context.DeadlineExceeded):
		result = resultCanceled
	}
	s.metrics.queries.WithLabelValues(result).Inc()
}

// HitsSeries counts rows over time for one combination of values.
type HitsSeries struct {
	Fields []Field // none for "all others" and when not grouped
	Times  []time.Time
	Values []uint64
	Total  uint64
}

// maxPoints bounds a series of an answer, maxAllPoints all series together.
const (
	maxPoints    = 11_000
	maxAllPoints = 500_000
)

// Hits counts the rows in steps of time, grouped by the fields. Steps are
// aligned to the Unix epoch minus offset, as days are of a zone that is so far ahead, and
// counted whole; those without rows are there with 0, from the
// step of Start to that of End or, without these, from and to
// where any series has rows, unless that were more than the bounds allow. With limit > 0 the series with the most rows
// are given, the others summed up in one without Fields.
func (s *Store) Hits(ctx context.Context, q Query, step, offset time.Duration, by []string, limit int) (out []HitsSeries, err error) {
	defer s.counted(&err)
	if step <= 0 {
		return nil, fmt.Errorf("query logs: %w", fault.Field{Path: "step", Reason: "must be positive", Value: step})
	}
	q = q.inSteps(step, offset)
	p, err := s.parse(q)
	if err != nil {
		return nil, err
	}
	if err := guard("count rows by time", func() error { p.AddCountByTimePipe(int64(step), int64(offset), by); return nil }); err != nil {
		return nil, err
	}
	if start, end := p.GetFilterTimeRange(); start != math.MinInt64 && end != math.MaxInt64 && stepsOf(start, end, step) > maxPoints {
		return nil, fmt.Errorf("query logs: %w", fault.Field{Path: "step", Reason: fmt.Sprintf("gives more than %d steps for this time range; choose a longer one", maxPoints), Value: step})
	}
	series := map[string]map[int64]uint64{}
	labels := map[string][]Field{}
	points := 0
	err = s.run(ctx, p, s.scope(q.Clusters), s.hide(q), func(db *logstorage.DataBlock) error {
		columns := db.GetColumns(false)
		n := len(columns)
		if n < 2 {
			return fmt.Errorf("count rows by time: %d columns", n)
		}
		for i := range db.RowsCount() {
			at, ok := logstorage.TryParseTimestampRFC3339Nano(columns[0].Values[i])
			if !ok {
				return fmt.Errorf("count rows by time: %q is no time", columns[0].Values[i])
			}
			hits, err := strconv.ParseUint(columns[n-1].Values[i], 10, 64)
			if err != nil {
				return fmt.Errorf("count rows by time: %w", err)
			}
			if points++; points > maxAllPoints {
				return fault.Field{Path: "step", Reason: fmt.Sprintf("gives more than %d values; choose a longer one, a shorter time range or fewer fields", maxAllPoints), Value: step}
			}
			var fields Row
			for _, c := range columns[1 : n-1] {
				fields = append(fields, Field{Name: c.Name, Value: c.Values[i]})
			}
			key := fmt.Sprintf("%q", fields)
			if series[key] == nil {
				series[key] = map[int64]uint64{}
				labels[key] = fields.Clone()
			}
			series[key][at] += hits
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	oldest, newest := int64(math.MaxInt64), int64(math.MinInt64)
	for _, values := range series {
		for at := range values {
			oldest, newest = min(oldest, at), max(newest, at)
		}
	}
	// What the text says of times and how an option moves them is no matter of the steps.
	first, last := oldest, newest
	if !q.Start.IsZero() {
		first = nanos(q.Start)
	}
	if !q.End.IsZero() {
		last = nanos(q.End) - 1
	}
	for key, values := range series {
		hs := HitsSeries{Fields: labels[key]}
		for _, v := range values {
			hs.Total += v
		}
		out = append(out, hs)
	}
	slices.SortFunc(out, func(a, b HitsSeries) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), cmp.Compare(fmt.Sprintf("%q", Row(a.Fields)), fmt.Sprintf("%q", Row(b.Fields))))
	})
	if limit > 0 && len(out) > limit {
		rest := map[int64]uint64{}
		other := HitsSeries{}
		for _, hs := range out[limit:] {
			for at, v := range series[fmt.Sprintf("%q", Row(hs.Fields))] {
				rest[at] += v
			}
			other.Total += hs.Total
		}
		series["others"] = rest
		out = append(out[:limit:limit], other)
	}
	for i := range out {
		key := fmt.Sprintf("%q", Row(out[i].Fields))
		if out[i].Fields == nil && series["others"] != nil {
			key = "others"
		}
		values := series[key]
		if steps := stepsOf(first, last, step); first <= last && steps <= maxPoints && uint64(len(out))*steps <= maxAllPoints {
			for n := range steps + 1 { // the time after the last may be none that there is
				at := first + int64(n)*int64(step)
				if _, ok := values[at]; !ok {
					values[at] = 0
				}
			}
		}
		for at := range values {
			out[i].Times = append(out[i].Times, time.Unix(0, at).UTC())
		}
		slices.SortFunc(out[i].Times, time.Time.Compare)
		for _, at := range out[i].Times {
			out[i].Values = append(out[i].Values, values[at.UnixNano()])
		}
	}
	return out, nil
}

// inSteps widens the range of a query to whole steps, as VictoriaLogs does, so that the
// first and the last of an answer count all that they stand for.
func (q Query) inSteps(step, offset time.Duration) Query {
	if step <= 0 || !q.Start.IsZero() && !q.End.IsZero() && !q.Start.Before(q.End) {
		return q
	}
	if q.At.IsZero() {
		q.At = q.End
	}
	if !q.Start.IsZero() {
		start := nanos(q.Start)
		q.Start = time.Unix(0, logstorage.SubInt64NoOverflow(start, mod(start+int64(offset), int64(step))))
	}
	if !q.End.IsZero() {
		end := nanos(q.End)
		q.End = time.Unix(0, logstorage.SubInt64NoOverflow(end, -mod(-end-int64(offset), int64(step))))
	}
	return q
}

// stepsOf is how many steps are between two times, Unix nanoseconds, which may be further
// apart than an int64 says; 0 where the range is empty, as of a query with a time of its own.
func stepsOf(from, to int64, step time.Duration) uint64 {
	if from > to {
		return 0
	}
	return uint64(to-from) / uint64(step)
}

// mod is the remainder that is never negative.
func mod(a, b int64) int64 { return ((a % b) + b) % b }

// StatsSeries is one result of a stats query.
type StatsSeries struct {
	Name   string // of the function's result
	Labels []Field
	Points []StatsPoint // by time; exactly one without a step
}

// StatsPoint is a value at a time. The value is what the function gave, usually
// a number.
type StatsPoint struct {
	At    time.Time
	Value string
}

// Stats executes a query that ends with a stats pipe. With step > 0 it is
// executed for each step of time, aligned as those of Hits, else once, at the query's At.
func (s *Store) Stats(ctx context.Context, q Query, step, offset time.Duration) (out []StatsSeries, err error) {
	defer s.counted(&err)
	if step < 0 {
		return nil, fmt.Errorf("query logs: %w", fault.Field{Path: "step", Reason: "must be positive", Value: step})
	}
	q = q.inSteps(step, offset)
	p, err := s.parse(q)
	if err != nil {
		return nil, err
	}
	var labelNames []string
	err = guard("prepare stats", func() (err error) {
		if labelNames, err = p.GetStatsLabelsAddGroupingByTime(int64(step), int64(offset)); err != nil {
			return fault.Field{Path: "query", Reason: err.Error()}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("query logs: %w", err)
	}
	if start, end := p.GetFilterTimeRange(); step > 0 && start != math.MinInt64 && end != math.MaxInt64 && stepsOf(start, end, step) > maxPoints {
		return nil, fmt.Errorf("query logs: %w", fault.Field{Path: "step", Reason: fmt.Sprintf("gives more than %d steps for this time range; choose a longer one", maxPoints), Value: step})
	}
	series := map[string]*StatsSeries{}
	points := 0
	add := func(name string, labels Row, at int64, value string) error {
		if points++; points > maxAllPoints {
			return fault.Field{Path: "query", Reason: fmt.Sprintf("gives more than %d values; choose a longer step, a shorter time range or fewer fields", maxAllPoints)}
		}
		key := fmt.Sprintf("%q %q", name, labels)
		ss := series[key]
		if ss == nil {
			ss = &StatsSeries{Name: strings.Clone(name), Labels: labels.Clone()}
			series[key] = ss
		}
		ss.Points = append(ss.Points, StatsPoint{At: time.Unix(0, at).UTC(), Value: strings.Clone(value)})
		return nil
	}
	err = s.run(ctx, p, s.scope(q.Clusters), s.hide(q), func(db *logstorage.DataBlock) error {
		columns := db.GetColumns(false)
		for i := range db.RowsCount() {
			at := p.GetTimestamp()
			var labels Row
			for _, c := range columns {
				if step > 0 && c.Name == "_time" {
					if t, ok := logstorage.TryParseTimestampRFC3339Nano(c.Values[i]); ok {
						at = t
						continue
					}
				}
				if slices.Contains(labelNames, c.Name) {
					labels = append(labels, Field{Name: c.Name, Value: c.Values[i]})
				}
			}
			for _, c := range columns {
				if slices.Contains(labelNames, c.Name) || (step > 0 && c.Name == "_time") {
					continue
				}
				for _, v := range unpackHistogram(c.Name, c.Values[i]) {
					if err := add(v.name, append(slices.Clone(labels), v.labels...), at, v.value); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, key := range slices.Sorted(maps.Keys(series)) {
		ss := series[key]
		slices.SortFunc(ss.Points, func(a, b StatsPoint) int { return a.At.Compare(b.At) })
		out = append(out, *ss)
	}
	return out, nil
}

type statValue struct {
	name   string
	labels []Field
	value  string
}

// unpackHistogram gives the buckets of a histogram() result as values of their
// own, and any other value as it is.
func unpackHistogram(name, value string) []statValue {
	if value == "[]" || strings.HasPrefix(value, `[{"vmrange":"`) {
		var buckets []struct {
			Range string `json:"vmrange"`
			Hits  uint64 `json:"hits"`
		}
		if json.Unmarshal([]byte(value), &buckets) == nil {
			out := make([]statValue, len(buckets))
			for i, b := range buckets {
				out[i] = statValue{name + "_bucket", []Field{{Name: "vmrange", Value: b.Range}}, strconv.FormatUint(b.Hits, 10)}
			}
			return out
		}
	}
	return []statValue{{name: name, value: value}}
}

// ValueHits is a value with the number of rows that have it; 0 when unknown
// because a limit cut the list.
type ValueHits struct {
	Value string `json:"value"`
	Hits  uint64 `json:"hits"`
}

// FieldNames lists the fields of the rows that match, those whose names have part in them.
func (s *Store) FieldNames(ctx context.Context, q Query, part string) ([]ValueHits, error) {
	return s.values(ctx, q, func(c *logstorage.QueryContext) ([]logstorage.ValueWithHits, error) {
		return s.db.GetFieldNames(c, part)
	})
}

// FieldValues lists the values of a field that have part in them; limit 0 means all.
func (s *Store) FieldValues(ctx context.Context, q Query, field, part string, limit int) ([]ValueHits, error) {
	if field == "" {
		return nil, fmt.Errorf("query logs: %w", fault.Field{Path: "field", Reason: "is required"})
	}
	return s.values(ctx, q, func(c *logstorage.QueryContext) ([]logstorage.ValueWithHits, error) {
		return s.db.GetFieldValues(c, field, part, uint64(max(0, limit)))
	})
}

// Streams lists the streams of the rows that match, as {name="value",…}; limit 0
// means all.
func (s *Store) Streams(ctx context.Context, q Query, limit int) ([]ValueHits, error) {
	return s.values(ctx, q, func(c *logstorage.QueryContext) ([]logstorage.ValueWithHits, error) {
		return s.db.GetStreams(c, uint64(max(0, limit)))
	})
}

// StreamFieldNames lists the names of stream fields that have part in them.
func (s *Store) StreamFieldNames(ctx context.Context, q Query, part string) ([]ValueHits, error) {
	return s.values(ctx, q, func(c *logstorage.QueryContext) ([]logstorage.ValueWithHits, error) {
		return s.db.GetStreamFieldNames(c, part)
	})
}

// StreamFieldValues lists the values of a stream field that have part in them; limit 0 means all.
func (s *Store) StreamFieldValues(ctx context.Context, q Query, field, part string, limit int) ([]ValueHits, error) {
	if field == "" {
		return nil, fmt.Errorf("query logs: %w", fault.Field{Path: "field", Reason: "is required"})
	}
	return s.values(ctx, q, func(c *logstorage.QueryContext) ([]logstorage.ValueWithHits, error) {
		return s.db.GetStreamFieldValues(c, field, part, uint64(max(0, limit)))
	})
}

func (s *Store) values(ctx context.Context, q Query, get func(*logstorage.QueryContext) ([]logstorage.ValueWithHits, error)) (out []ValueHits, err error) {
	defer s.counted(&err)
	p, err := s.parse(q)
	if err != nil {
		return nil, err
	}
	err = s.search(ctx, p, s.scope(q.Clusters), s.hide(q), func(c *logstorage.QueryContext, _ context.CancelCauseFunc) error {
		found, err := get(c)
		for _, v := range found {
			if strings.HasPrefix(v.Value, hiddenPrefix) {
				continue // a name; field_names does not leave hidden ones out
			}
			out = append(out, ValueHits{Value: strings.Clone(v.Value), Hits: v.Hits})
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}
