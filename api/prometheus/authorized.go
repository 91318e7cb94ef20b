package prometheus

import (
	"context"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/util/annotations"

	"github.com/crowsnest-dev/crowsnest/api/access"
)

// authorized asks for each selection whether the principal of its context may
// read the cluster that it names; one that names none asks for all.
type authorized struct {
	store Store
}

var (
	_ storage.SampleAndChunkQueryable = (*authorized)(nil)
	_ storage.ExemplarQueryable       = (*authorized)(nil)
)

func (a *authorized) Querier(mint, maxt int64) (storage.Querier, error) {
	q, err := a.store.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	return &querier{labelQuerier{q}, q}, nil
}

func (a *authorized) ChunkQuerier(mint, maxt int64) (storage.ChunkQuerier, error) {
	q, err := a.store.ChunkQuerier(mint, maxt)
	if err != nil {
		return nil, err
	}
	return &chunkQuerier{labelQuerier{q}, q}, nil
}

func (a *authorized) ExemplarQuerier(ctx context.Context) (storage.ExemplarQuerier, error) {
	q, err := a.store.ExemplarQuerier(ctx)
	if err != nil {
		return nil, err
	}
	return &exemplarQuerier{ctx: ctx, q: q}, nil
}

// Restrict lets a selection be when the principal may read what it names; a
// remote engine asks it before it takes a whole query.
func (a *authorized) Restrict(ctx context.Context, ms []*labels.Matcher) ([]*labels.Matcher, error) {
	return ms, authorize(ctx, ms)
}

// Unwrap gives the store.
func (a *authorized) Unwrap() storage.Queryable { return a.store }

// authorize asks for the cluster that the matchers name by equality.
func authorize(ctx context.Context, ms []*labels.Matcher) error {
	cluster := ""
	for _, m := range ms {
		if m.Name == "cluster" && m.Type == labels.MatchEqual {
			cluster = m.Value
		}
	}
	return access.Authorize(ctx, access.Read, cluster, "")
}

type labelQuerier struct{ storage.LabelQuerier }

func (q labelQuerier) LabelValues(ctx context.Context, name string, h *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	if err := authorize(ctx, ms); err != nil {
		return nil, nil, err
	}
	return q.LabelQuerier.LabelValues(ctx, name, h, ms...)
}

func (q labelQuerier) LabelNames(ctx context.Context, h *storage.LabelHints, ms ...*labels.Matcher) ([]string, annotations.Annotations, error) {
	if err := authorize(ctx, ms); err != nil {
		return nil, nil, err
	}
	return q.LabelQuerier.LabelNames(ctx, h, ms...)
}

type querier struct {
	labelQuerier
	q storage.Querier
}

func (q *querier) Select(ctx context.Context, sorted bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.SeriesSet {
	if err := authorize(ctx, ms); err != nil {
		return storage.ErrSeriesSet(err)
	}
	return q.q.Select(ctx, sorted, h, ms...)
}

type chunkQuerier struct {
	labelQuerier
	q storage.ChunkQuerier
}

func (q *chunkQuerier) Select(ctx context.Context, sorted bool, h *storage.SelectHints, ms ...*labels.Matcher) storage.ChunkSeriesSet {
	if err := authorize(ctx, ms); err != nil {
		return storage.ErrChunkSeriesSet(err)
	}
	return q.q.Select(ctx, sorted, h, ms...)
}

// exemplarQuerier holds the context of its request, since Select gets none.
type exemplarQuerier struct {
	ctx context.Context
	q   storage.ExemplarQuerier
}

func (q *exemplarQuerier) Select(start, end int64, ms ...[]*labels.Matcher) ([]exemplar.QueryResult, error) {
	for _, set := range ms {
		if err := authorize(q.ctx, set); err != nil {
			return nil, err
		}
	}
	return q.q.Select(start, end, ms...)
}
