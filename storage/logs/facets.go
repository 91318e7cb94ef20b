package logs

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Facet is a field with its most frequent values.
type Facet struct {
	Field  string      `json:"field_name"`
	Values []FacetHits `json:"values"`
}

// FacetHits is a value with the number of rows that have it.
type FacetHits struct {
	Value string `json:"field_value"`
	Hits  uint64 `json:"hits"`
}

// FacetOptions bound an answer; 0 takes the library's default.
type FacetOptions struct {
	Limit         int  // values of a field; default 10
	MaxValues     int  // fields with more different values are left out; default 1000
	MaxValueBytes int  // fields with longer values are left out; default 128
	KeepConst     bool // keep fields that have the same value everywhere
}

// Facets gives the most frequent values of each field of the rows that match, by
// field. Pipes in the text are not used.
func (s *Store) Facets(ctx context.Context, q Query, o FacetOptions) (out []Facet, err error) {
	defer s.counted(&err)
	if o.Limit < 0 || o.MaxValues < 0 || o.MaxValueBytes < 0 {
		return nil, fmt.Errorf("query logs: %w", fault.Field{Path: "limit", Reason: "bounds of facets must not be negative"})
	}
	p, err := s.parse(q)
	if err != nil {
		return nil, err
	}
	if err := guard("prepare facets", func() error {
		p.DropAllPipes()
		p.AddFacetsPipe(o.Limit, o.MaxValues, o.MaxValueBytes, o.KeepConst)
		return nil
	}); err != nil {
		return nil, err
	}
	byName := map[string][]FacetHits{}
	err = s.run(ctx, p, s.scope(q.Clusters), s.hide(q), func(db *logstorage.DataBlock) error {
		return eachRow(db, func(_ int, r Row) error {
			name := r.Get("field_name")
			if strings.HasPrefix(name, hiddenPrefix) {
				return nil
			}
			hits, err := strconv.ParseUint(r.Get("hits"), 10, 64)
			if err != nil {
				return fmt.Errorf("count values: %w", err)
			}
			name = strings.Clone(name)
			byName[name] = append(byName[name], FacetHits{strings.Clone(r.Get("field_value")), hits})
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	for name, values := range byName {
		slices.SortFunc(values, func(a, b FacetHits) int {
			if a.Hits != b.Hits {
				if a.Hits > b.Hits {
					return -1
				}
				return 1
			}
			return strings.Compare(a.Value, b.Value)
		})
		out = append(out, Facet{name, values})
	}
	slices.SortFunc(out, func(a, b Facet) int { return strings.Compare(a.Field, b.Field) })
	return out, nil
}

// StreamIDs lists the ids of the streams of the rows that match; limit 0 means
// all.
func (s *Store) StreamIDs(ctx context.Context, q Query, limit int) ([]ValueHits, error) {
	return s.values(ctx, q, func(c *logstorage.QueryContext) ([]logstorage.ValueWithHits, error) {
		return s.db.GetStreamIDs(c, uint64(max(0, limit)))
	})
}

// TimeRange gives the time range that a query reads: its own _time filter, else
// that of Start and End. A zero time is no bound; own says that the text has one.
func (s *Store) TimeRange(q Query) (start, end time.Time, own bool, err error) {
	text := q
	text.Start, text.End = time.Time{}, time.Time{}
	if text.At.IsZero() {
		text.At = q.End
	}
	p, err := s.parse(text)
	if err != nil {
		return start, end, false, err
	}
	start, end = q.Start, q.End
	from, to := p.GetFilterTimeRange()
	if from != math.MinInt64 {
		start, own = time.Unix(0, from).UTC(), true
	}
	if to != math.MaxInt64 {
		end, own = time.Unix(0, to).UTC(), true
	}
	return start, end, own, nil
}

// hide gives the fields that a query of a user does not see.
func (s *Store) hide(q Query) []string {
	if len(q.Hide) == 0 {
		return hidden
	}
	return append(slices.Clone(hidden), q.Hide...)
}
