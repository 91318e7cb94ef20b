package logs

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// maxContext bounds the lines on each side.
const maxContext = 1000

// Around names a line and says how much around it is wanted.
type Around struct {
	StreamID  string    // _stream_id of the line; required
	Time      time.Time // _time of the line; required
	Before    int       // lines before it, at most 1000
	After     int       // lines after it, at most 1000
	Container bool      // also the container's other stream (stdout and stderr)
	Clusters  []string  // ids; nil: all, empty: none
}

// Surroundings are lines by time, oldest first.
type Surroundings struct {
	Before []Row
	Lines  []Row // at the very time of the line; normally the line alone
	After  []Row
}

var streamID = regexp.MustCompile(`^[0-9a-f]{48}$`)

// Surroundings reads the lines before and after a line, in its stream. Errors are
// those of Query, and fault.ErrNotFound when there is no such line.
func (s *Store) Surroundings(ctx context.Context, a Around) (out Surroundings, err error) {
	defer s.counted(&err)
	var fs fault.Fields
	if !streamID.MatchString(a.StreamID) {
		fs.Add("stream_id", "must be the _stream_id of a row, 48 hexadecimal digits", a.StreamID)
	}
	if a.Time.IsZero() {
		fs.Add("time", "is required: the _time of a row", nil)
	}
	for name, n := range map[string]int{"before": a.Before, "after": a.After} {
		if n < 0 || n > maxContext {
			fs.Add(name, fmt.Sprintf("must be between 0 and %d", maxContext), n)
		}
	}
	if err := fs.Err(); err != nil {
		return out, fmt.Errorf("context of a line: %w", err)
	}
	if err := s.knows(a.Clusters); err != nil {
		return out, err
	}
	at := nanos(a.Time)
	filter := "_stream_id:" + a.StreamID
	if out.Lines, err = s.sorted(ctx, a.Clusters, filter, "", maxContext, at, at); err != nil {
		return out, err
	}
	if len(out.Lines) == 0 {
		return out, fault.Because(fault.ErrNotFound, fault.LineGone)
	}
	if a.Container {
		filter = containerFilter(out.Lines[0])
		if out.Lines, err = s.sorted(ctx, a.Clusters, filter, "", maxContext, at, at); err != nil {
			return out, err
		}
	}
	if out.Before, err = s.nearest(ctx, a.Clusters, filter, at, -1, a.Before); err != nil {
		return out, err
	}
	slices.Reverse(out.Before)
	out.After, err = s.nearest(ctx, a.Clusters, filter, at, 1, a.After)
	return out, err
}

// containerFilter matches all streams of the container that a row is from.
func containerFilter(r Row) string {
	text := ""
	for _, name := range []string{wire.FieldCluster, wire.FieldNamespace, wire.FieldPod, wire.FieldContainer} {
		text += fmt.Sprintf("%s:=%q ", name, r.Get(name))
	}
	return text + fmt.Sprintf("%s:!=%q", wire.FieldStream, wire.StreamEvents)
}

// nearest finds the n rows next to a time on one side, the nearest first, by
// looking at ever longer stretches.
func (s *Store) nearest(ctx context.Context, clusters []string, filter string, at int64, side int64, n int) ([]Row, error) {
	now := s.opts.Now()
	oldest, newest := now.Add(-s.opts.longest()-2*day).UnixNano(), now.Add(aheadLimit+day).UnixNano()
	order := ""
	if side < 0 {
		order = " desc"
	}
	var out []Row
	for near, width := at+side, int64(time.Minute); len(out) < n && near >= oldest && near <= newest; width *= 8 {
		far := min(max(near+side*width, oldest), newest)
		rows, err := s.sorted(ctx, clusters, filter, order, n-len(out), min(near, far), max(near, far))
		if err != nil {
			return nil, err
		}
		out = append(out, rows...)
		near = far + side
	}
	return out, nil
}

// sorted reads the first n rows of a time range, both ends included, by time.
func (s *Store) sorted(ctx context.Context, clusters []string, filter, order string, n int, from, to int64) (out []Row, err error) {
	if n == 0 {
		return nil, nil
	}
	q, err := logstorage.ParseQueryAtTimestamp(fmt.Sprintf("%s | sort by (_time%s) limit %d", filter, order, n), s.opts.Now().UnixNano())
	if err != nil {
		return nil, fmt.Errorf("context of a line: %w", err)
	}
	q.AddTimeFilter(from, to)
	err = s.run(ctx, q, s.scope(clusters), hidden, rowsTo(func(r Row) error {
		out = append(out, r.Clone())
		return nil
	}))
	return out, err
}
