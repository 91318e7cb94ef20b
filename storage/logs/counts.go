package logs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// CountLevel says by which objects lines are counted.
type CountLevel string

// The levels.
const (
	ByCluster   CountLevel = "cluster"
	ByNamespace CountLevel = "namespace"
	ByNode      CountLevel = "node"
	ByWorkload  CountLevel = "workload"
	ByPod       CountLevel = "pod"
	ByContainer CountLevel = "container"
)

// countFields are the stream fields that tell the objects of a level apart.
var countFields = map[CountLevel][]string{
	ByCluster:   {},
	ByNamespace: {wire.FieldNamespace},
	ByNode:      {wire.FieldNode},
	ByWorkload:  {wire.FieldNamespace, wire.FieldWorkloadType, wire.FieldWorkload},
	ByPod:       {wire.FieldNamespace, wire.FieldPod, wire.FieldWorkloadType, wire.FieldWorkload, wire.FieldNode},
	ByContainer: {wire.FieldNamespace, wire.FieldPod, wire.FieldContainer, wire.FieldWorkloadType, wire.FieldWorkload, wire.FieldNode},
}

const (
	maxWindows     = 1000
	maxCountGroups = 10_000
	// maxOccurrences bounds what lines may say; a float holds it exactly.
	maxOccurrences = 1 << 50
	// passFilters is how many filters share one pass over the lines: each is
	// matched against every line that any of them matches.
	passFilters = 100
)

// CountQuery asks how many lines of a cluster match a filter, per window and
// object.
type CountQuery struct {
	Cluster string        // required
	Filter  string        // LogsQL without pipes; required
	By      CountLevel    // required
	Period  time.Duration // of a window; at least 1 s
	End     time.Time     // of the newest window: windows are (End-Period, End], (End-2·Period, End-Period], …
	Windows int           // how many, 1 to 1000
	// Occurrences has a line of an event count as often as it says that the event
	// occurred since the line before, in wire.FieldOccurrences; otherwise it is one.
	Occurrences bool
}

// Count answers one CountQuery.
type Count struct {
	// Err says why this query has no answer: fault.ErrInvalid when it is wrong,
	// fault.ErrLimited when it has more than 10,000 objects.
	Err error
	// Groups are the objects with a line that matches in any window. One that is
	// not there has none, provided that its node's Watermark is at End.
	Groups []CountGroup
}

// CountGroup is an object with its matches. Only the fields of the level are set.
type CountGroup struct {
	Namespace, WorkloadType, Workload, Pod, Container, Node string
	Matches                                                 []uint64 // newest window first
}

// CheckFilter says whether a text can be the Filter of a CountQuery;
// fault.ErrInvalid with the parser's message when not.
func CheckFilter(text string) error {
	_, err := countFilter(text)
	return err
}

// countFilter reads a filter and gives it as the library prints it, so that
// nothing in it (a comment, a pipe) can reach beyond it.
func countFilter(text string) (string, error) {
	out := ""
	err := guard("parse filter", func() error {
		f, err := parseFilter(text, 0)
		if err != nil {
			return fault.Field{Path: "filter", Reason: err.Error(), Value: text}
		}
		out = f.String()
		_, err = logstorage.ParseFilter(out)
		return err
	})
	if errors.Is(err, errGaveUp) {
		err = fault.Field{Path: "filter", Reason: "cannot be read", Value: text}
	}
	return out, err
}

func (q CountQuery) check() error {
	var fs fault.Fields
	if q.Cluster == "" {
		fs.Add("cluster", "is required", nil)
	}
	if _, ok := countFields[q.By]; !ok {
		fs.Add("by", "must be cluster, namespace, node, workload, pod or container", q.By)
	}
	if q.Period < time.Second {
		fs.Add("period", "must be at least 1s", q.Period)
	}
	if q.Windows < 1 || q.Windows > maxWindows {
		fs.Add("windows", fmt.Sprintf("must be between 1 and %d", maxWindows), q.Windows)
	}
	if q.End.IsZero() {
		fs.Add("end", "is required", nil)
	}
	return fs.Err()
}

// pass is what queries share that can be answered by one look at the lines.
type pass struct {
	cluster string
	by      CountLevel
	period  time.Duration
	end     int64
	windows int
}

// Counts answers the queries, in their order. Those that agree in everything but
// their filter share one pass over the lines. The error is about all of them
// (the context ended, the store is closing); what concerns one is in its Count.
func (s *Store) Counts(ctx context.Context, qs []CountQuery) (out []Count, err error) {
	defer s.counted(&err)
	out = make([]Count, len(qs))
	filters := make([]string, len(qs))
	byPass := map[pass][]int{}
	var order []pass
	for i, q := range qs {
		if out[i].Err = q.check(); out[i].Err != nil {
			continue
		}
		if filters[i], out[i].Err = countFilter(q.Filter); out[i].Err != nil {
			continue
		}
		p := pass{q.Cluster, q.By, q.Period, nanos(q.End), q.Windows}
		if byPass[p] == nil {
			order = append(order, p)
		}
		byPass[p] = append(byPass[p], i)
	}
	for _, p := range order {
		for some := range slices.Chunk(byPass[p], passFilters) {
			if err := s.countApart(ctx, p, some, qs, filters, out); err != nil {
				return nil, err
			}
		}
	}
	return out, nil
}

// countApart makes one pass for the queries of the given indexes. Where that fails one of
// them is to blame (a sub-query that is too large, too many objects): halves tell which.
// An error is about all.
func (s *Store) countApart(ctx context.Context, p pass, some []int, qs []CountQuery, filters []string, out []Count) error {
	err := s.count(ctx, p, some, qs, filters, out)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil || errors.Is(err, fault.ErrUnavailable):
		return err
	case len(some) == 1:
		out[some[0]] = Count{Err: err}
		return nil
	}
	half := len(some) / 2
	if err := s.countApart(ctx, p, some[:half], qs, filters, out); err != nil {
		return err
	}
	return s.countApart(ctx, p, some[half:], qs, filters, out)
}

// count makes one pass for the queries of the given indexes.
func (s *Store) count(ctx context.Context, p pass, some []int, qs []CountQuery, filters []string, out []Count) error {
	s.metrics.passes.Inc()
	// Buckets of the library hold their start, windows their end.
	shift := mod(-(p.end + 1), int64(p.period))
	var text strings.Builder
	for n, i := range some {
		if n > 0 {
			text.WriteString(" or ")
		}
		fmt.Fprintf(&text, "(%s)", filters[i])
	}
	fmt.Fprintf(&text, " | stats by (_time:%dns offset %dns", int64(p.period), shift)
	for _, f := range countFields[p.by] {
		fmt.Fprintf(&text, ", %q", f)
	}
	text.WriteString(")")
	for n, i := range some {
		if n > 0 {
			text.WriteString(",")
		}
		only := ""
		if len(some) > 1 {
			only = fmt.Sprintf(" if (%s)", filters[i])
		}
		fmt.Fprintf(&text, " count()%s n%d", only, n)
		if qs[i].Occurrences {
			fmt.Fprintf(&text, ", count(%[1]s)%[2]s say%[3]d, sum(%[1]s)%[2]s of%[3]d", wire.FieldOccurrences, only, n)
		}
	}
	var q *logstorage.Query
	err := guard("count lines", func() (err error) {
		if q, err = logstorage.ParseQueryAtTimestamp(text.String(), p.end+1); err != nil {
			return fault.Field{Path: "filter", Reason: err.Error()}
		}
		q.AddTimeFilter(p.end-int64(p.period)*int64(p.windows)+1, p.end)
		return nil
	})
	if err != nil {
		return fmt.Errorf("count lines: %w", err)
	}
	found := make([]map[countObject][]uint64, len(some))
	for n := range found {
		found[n] = map[countObject][]uint64{}
	}
	err = s.run(ctx, q, []logstorage.TenantID{tenantOf(p.cluster)}, hidden, func(db *logstorage.DataBlock) error {
		return eachRow(db, func(_ int, r Row) error {
			at, ok := logstorage.TryParseTimestampRFC3339Nano(r.Get("_time"))
			window := (p.end - at) / int64(p.period)
			if !ok || window < 0 || window >= int64(p.windows) {
				return fmt.Errorf("count lines: %q is no window", r.Get("_time"))
			}
			var o countObject
			for n := range some {
				text := r.Get("n" + strconv.Itoa(n))
				if text == "" || text == "0" {
					continue
				}
				hits, err := strconv.ParseUint(text, 10, 64)
				if err != nil {
					return fmt.Errorf("count lines: %w", err)
				}
				hits += more(r, n)
				if o == (countObject{}) {
					o = objectOf(r, p.by)
				}
				matches := found[n][o]
				if matches == nil {
					if len(found[n]) == maxCountGroups {
						return fmt.Errorf("count lines: more than %d objects have matches; count by a higher level, or narrow the filter: %w", maxCountGroups, fault.ErrLimited)
					}
					matches = make([]uint64, p.windows)
					found[n][o] = matches
				}
				matches[window] += hits
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	for n, i := range some {
		out[i] = Count{}
		for o, matches := range found[n] {
			out[i].Groups = append(out[i].Groups, CountGroup{o.Namespace, o.WorkloadType, o.Workload, o.Pod, o.Container, o.Node, matches})
		}
		slices.SortFunc(out[i].Groups, func(a, b CountGroup) int {
			return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.WorkloadType, b.WorkloadType), cmp.Compare(a.Workload, b.Workload),
				cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.Container, b.Container), cmp.Compare(a.Node, b.Node))
		})
	}
	return nil
}

// more is how often events occurred beyond the lines that tell of them, none where that
// was not asked.
func more(r Row, n int) uint64 {
	lines, err := strconv.ParseUint(r.Get("say"+strconv.Itoa(n)), 10, 64)
	occurred, err2 := strconv.ParseFloat(r.Get("of"+strconv.Itoa(n)), 64)
	if err != nil || err2 != nil || !(occurred > float64(lines)) || occurred > maxOccurrences { // not a number where no line says any
		return 0
	}
	return uint64(occurred) - lines
}

// countObject tells an object from others of its level.
type countObject struct{ Namespace, WorkloadType, Workload, Pod, Container, Node string }

func objectOf(r Row, by CountLevel) (o countObject) {
	for _, f := range r {
		if !slices.Contains(countFields[by], f.Name) {
			continue
		}
		v := strings.Clone(f.Value)
		switch f.Name {
		case wire.FieldNamespace:
			o.Namespace = v
		case wire.FieldWorkloadType:
			o.WorkloadType = v
		case wire.FieldWorkload:
			o.Workload = v
		case wire.FieldPod:
			o.Pod = v
		case wire.FieldContainer:
			o.Container = v
		case wire.FieldNode:
			o.Node = v
		}
	}
	return o
}
