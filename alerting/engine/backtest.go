package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

const (
	// maxReplayIncidents and maxReplayAlerts are shown; all are counted.
	maxReplayIncidents = 500
	maxReplayAlerts    = 100
	// maxReplayEvents of an incident's timeline are looked through.
	maxReplayEvents = 1000
	// scanners read at the same time, each a part of the range.
	scanners = 4
	// maxChunk of samples is held at a time.
	maxChunk = 24 * time.Hour
	// distributionPoints are looked at for the distribution of the values.
	distributionPoints = 64
)

// Range is what a backtest covers.
type Range struct {
	From, To time.Time
	Clusters []string // empty: all that the policy selects
	// Progress is called now and then with the share that is done, 0 to 1.
	Progress func(done float64)
}

// Backtest says what a policy would have done over a range of the kept data: by
// the same judgement, step and book as live evaluation, on the inventory of the
// time. Where no value can be bad and nothing fires, steps are left out: they
// could not change anything. May be called concurrently.
func (e *Engine) Backtest(ctx context.Context, r meta.Resource, g Range) (policy.Replay, error) {
	out := policy.Replay{
		Name: r.Name, Clusters: []policy.ReplayCluster{}, Incidents: []policy.ReplayIncident{}, BySeverity: map[string]int{},
		Messages: []policy.ReplayMessages{}, Told: []policy.ReplayTold{}, Thresholds: []policy.ReplayThreshold{},
	}
	c, err := compile(r)
	switch {
	case err != nil:
		return out, err
	case e.opts.Archive == nil || e.opts.ScratchDir == "":
		return out, fmt.Errorf("backtests are not possible here: %w", fault.ErrUnavailable)
	case c.lines() && e.opts.Lines == nil:
		return out, fault.Because(fault.ErrUnavailable, fault.LogsNone)
	case !g.From.Before(g.To):
		return out, fault.Wrong("from", fault.Say(fault.FromBefore), g.From)
	}
	var rows []meta.ClusterRow
	if err := e.opts.Meta.View(ctx, func(tx *meta.Tx) (err error) { rows, err = tx.ListClusters(); return err }); err != nil {
		return out, err
	}
	byID := map[string]meta.ClusterRow{}
	for _, row := range rows {
		byID[row.ID] = row
	}
	for _, id := range e.opts.Inventory.Clusters() {
		if _, ok := byID[id]; !ok {
			byID[id] = meta.ClusterRow{ID: id, Name: id}
		}
	}
	var about []string
	for _, id := range slices.Sorted(maps.Keys(byID)) {
		if c.selection.Cluster(id, byID[id].Labels) && (len(g.Clusters) == 0 || slices.Contains(g.Clusters, id)) {
			about = append(about, id)
		}
	}
	for _, id := range g.Clusters {
		if _, ok := byID[id]; !ok {
			return out, fault.Field{Path: "clusters", Reason: "there is no such cluster", Value: id}
		}
	}
	messages := map[[2]string]int{}
	for i, id := range about {
		interval, err := e.intervalOf(ctx, id, g.To)
		if err != nil {
			return out, err
		}
		rc := policy.ReplayCluster{Cluster: id, Interval: policy.Duration(interval), Reason: c.misfit(interval)}
		out.Clusters = append(out.Clusters, rc)
		if rc.Reason != "" {
			continue
		}
		b := &replay{live: e, archive: e.opts.Archive, now: e.opts.Now(), c: c, row: r, cluster: byID[id], interval: interval, from: g.From.Truncate(interval), to: g.To.Truncate(interval), out: &out, messages: messages}
		b.progress = func(done float64) {
			if g.Progress != nil {
				g.Progress((float64(i) + done) / float64(len(about)))
			}
		}
		if err := b.run(ctx); err != nil {
			return out, fmt.Errorf("replay cluster %s: %w", id, err)
		}
	}
	for k, n := range messages {
		out.Messages = append(out.Messages, policy.ReplayMessages{Target: k[0], Type: k[1], Count: n})
		out.MessageCount += n
	}
	slices.SortFunc(out.Messages, func(a, b policy.ReplayMessages) int {
		return cmp.Or(cmp.Compare(a.Target, b.Target), cmp.Compare(a.Type, b.Type))
	})
	slices.SortStableFunc(out.Told, func(a, b policy.ReplayTold) int { return b.At.Compare(a.At) })
	out.Told = out.Told[:min(len(out.Told), maxTold)]
	slices.SortStableFunc(out.Incidents, func(a, b policy.ReplayIncident) int { return b.StartedAt.Compare(a.StartedAt) })
	out.IncidentCount = len(out.Incidents)
	out.Incidents = out.Incidents[:min(len(out.Incidents), maxReplayIncidents)]
	return out, nil
}

// replay is the backtest of a policy on one cluster.
type replay struct {
	live     *Engine
	c        *compiled
	row      meta.Resource
	cluster  meta.ClusterRow
	interval time.Duration
	from, to time.Time
	out      *policy.Replay
	messages map[[2]string]int // by target's name and type
	progress func(float64)

	begin  time.Time // from, less what warms up
	shadow *Engine   // has nothing in common with the live one but its code
	past   *past
	began  time.Time // of the inventory
	clock  time.Time
	hot    map[subject]*heat
	active map[string][]bool // by node, by step: its sender had sent
	late   map[string]map[int64]int64
	peaks  map[string]float64 // by alert id
	due    time.Time          // when something is to be told
	always bool               // nothing can be left out
	// complete: what came late counts as if it had come in time, and only what began then
	// is asked for.
	complete bool
	// scanned is what a replay before this one scanned; nil: it is not kept.
	scanned *scanned
	// recorded is what a replay before this one read of all alerts; nil: it is not kept.
	recorded *recorded
	// archive knows the objects; several replays can share one that remembers.
	archive Archive
	now     time.Time // when they began

	coverage   map[int64]float64     // of rollups, by time; what level promql and lines are complete by
	exprs      map[exprKey]*exprGrid // of the present chunk
	lines      map[linesKey]*linesGrid
	counts     []countAt // how many objects matched, with atLeast
	few        *heat     // when those were too few
	desks      map[string]*desk
	others     others
	then       then
	waiting    map[[2]string]time.Time // by incident and target: until its calendar opens
	ofIncident map[string]int          // messages
	stoodIn    map[[2]string]bool      // by incident and target: another was told in its place
	toldSelf   map[[2]string]bool
}

// heat is when something could happen to a subject.
type heat struct {
	node  string
	spans []span // in order, apart
	first int64  // times of the first and newest sample, in milliseconds
	last  int64
}

// span of time in milliseconds, both ends included.
type span struct{ from, to int64 }

const (
	// server stands for rollups among the nodes of replay.active; everyone and
	// always stand for lines and expressions, which are judged at every interval.
	server   = "\x00server"
	everyone = "\x00lines"
	always   = "\x00expressions"
)

func (b *replay) run(ctx context.Context) error {
	return b.onScratch(ctx, func(db *meta.DB) error {
		if err := b.collect(ctx, db); err != nil {
			return err
		}
		return b.distribution(ctx)
	})
}

// begins is from when on it is stepped, to have warmed up by the time that is asked for.
func (b *replay) begins() time.Time {
	warm := time.Duration(0)
	for i := range b.c.conditions {
		warm = max(warm, b.c.span(i, b.interval))
	}
	return b.from.Add(-min(warm, 24*time.Hour)).Truncate(b.interval)
}

// onScratch replays into a database that fn may then read; of late data that cannot have
// anything begin, there is none.
func (b *replay) onScratch(ctx context.Context, fn func(db *meta.DB) error) error {
	b.begin = b.begins()
	b.hot, b.active, b.peaks = map[subject]*heat{}, map[string][]bool{}, map[string]float64{}
	b.coverage, b.desks = map[int64]float64{}, map[string]*desk{}
	b.waiting = map[[2]string]time.Time{}
	b.ofIncident, b.stoodIn, b.toldSelf = map[string]int{}, map[[2]string]bool{}, map[[2]string]bool{}
	var err error
	if b.began, err = inventoryBegan(ctx, b.archive, b.cluster.ID, b.begin, b.now); err != nil {
		return err
	}
	if err := b.scan(ctx); err != nil {
		return err
	}
	b.progress(0.5)
	if b.complete {
		if !b.finds() {
			return nil
		}
	} else if err := b.mask(ctx); err != nil {
		return err
	}
	b.count()
	dir, err := os.MkdirTemp(b.live.opts.ScratchDir, "backtest-")
	if err != nil {
		return fmt.Errorf("make a folder: %w: %w", fault.ErrUnavailable, err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	db, err := meta.OpenScratch(filepath.Join(dir, "meta.db"))
	if err != nil {
		return err
	}
	err = b.play(ctx, db)
	if err == nil {
		err = fn(db)
	}
	return errors.Join(err, db.Close())
}

// index of a step; -1: it is none.
func (b *replay) index(t int64) int {
	d := t - b.begin.UnixMilli()
	if d < 0 || d%b.interval.Milliseconds() != 0 || t > b.to.UnixMilli() {
		return -1
	}
	return int(d / b.interval.Milliseconds())
}

func (b *replay) steps() int { return int(b.to.Sub(b.begin)/b.interval) + 1 }

// scan finds who sent when, and when something bad was sent of which object. It
// reads everything once and keeps nothing else.
func (b *replay) scan(ctx context.Context) error {
	c := b.c
	var mu sync.Mutex
	var done atomic.Int64
	total := int64(len(c.conditions) * scanners)
	if c.promql() || c.lines() {
		if err := b.scanCoverage(ctx); err != nil {
			return err
		}
		b.active[everyone] = slices.Repeat([]bool{true}, b.steps())
		b.active[always] = slices.Repeat([]bool{true}, b.steps())
	}
	if err := b.scanCount(ctx); err != nil {
		return err
	}
	if b.scannedBefore() {
		return nil
	}
	for i, cond := range c.conditions {
		switch {
		case cond.Expr != "":
			if err := b.scanExpr(ctx, i); err != nil {
				return err
			}
			continue
		case cond.Query != "":
			if err := b.scanLines(ctx, i); err != nil {
				return err
			}
			continue
		}
		if i > 0 && slices.ContainsFunc(c.conditions[:i], func(o condition) bool { return o.Metric == cond.Metric }) {
			total -= scanners
		}
		bad, reach := c.suspects[i], b.reach(i)
		lone := len(c.dimensions) > 0 && len(cond.metric.Dimensions) == 0
		n := b.to.Sub(b.begin) / scanners
		errs := make([]error, scanners)
		var wg sync.WaitGroup
		for w := range scanners {
			from, to := b.begin.Add(time.Duration(w)*n), b.begin.Add(time.Duration(w+1)*n)
			if w == scanners-1 {
				to = b.to.Add(time.Millisecond)
			}
			wg.Go(func() {
				errs[w] = b.scanPart(ctx, cond, bad, reach, lone, from.UnixMilli(), to.UnixMilli()-1, &mu)
				b.progressScan(done.Add(1), total)
			})
		}
		wg.Wait()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		if cond.metric.Place == catalogue.ByServer && b.active[server] == nil {
			if err := b.scanCoverage(ctx); err != nil {
				return err
			}
		}
	}
	for _, h := range b.hot {
		if c.promql() && c.rule.NoData == policy.NoDataAlert && h.first != math.MaxInt64 {
			h.spans = append(h.spans, span{h.last + (c.rule.NoDataAfter + b.interval).Milliseconds() - 1, b.to.UnixMilli()})
		}
		if b.always {
			h.spans = append(h.spans, span{b.begin.UnixMilli(), b.to.UnixMilli()})
		}
		h.merge()
	}
	b.keepScan()
	return nil
}

// reach is for how long a bad sample of a condition can be found bad.
func (b *replay) reach(i int) int64 {
	return (time.Duration(b.c.rule.Reach(i)+1)*b.c.conditions[i].Period.D() + 3*b.interval).Milliseconds()
}

// silentAfter is how long nothing may come until that can be bad.
func (b *replay) silentAfter() int64 {
	if b.c.rule.NoData != policy.NoDataAlert {
		return math.MaxInt64
	}
	return (b.c.rule.NoDataAfter + b.interval).Milliseconds()
}

func (b *replay) progressScan(done, total int64) {
	b.progress(0.5 * float64(done) / float64(max(total, done)))
}

func (b *replay) scanCoverage(ctx context.Context) error {
	q, err := b.live.opts.Queryable.Querier(b.begin.UnixMilli(), b.to.UnixMilli())
	if err != nil {
		return fmt.Errorf("open querier: %w", err)
	}
	defer q.Close()
	on := make([]bool, b.steps())
	rd := reader{queryable: b.live.opts.Queryable, cluster: b.cluster.ID}
	err = rd.coverage(ctx, q, b.begin.UnixMilli(), b.to.UnixMilli(), func(t int64, v float64) {
		if i := b.index(t); i >= 0 {
			on[i] = true
		}
		b.coverage[t] = v
	})
	b.active[server] = on
	return err
}

// scanPart scans one metric over a part of the range.
func (b *replay) scanPart(ctx context.Context, cond condition, bad func(prev, v float64) bool, reach int64, lone bool, mint, maxt int64, mu *sync.Mutex) error {
	q, err := b.live.opts.Queryable.Querier(mint, maxt)
	if err != nil {
		return fmt.Errorf("open querier: %w", err)
	}
	defer q.Close()
	m := cond.metric
	step := b.interval.Milliseconds()
	begin := b.begin.UnixMilli()
	first := (mint - begin + step - 1) / step // step of the part's first point of the grid
	silentAfter := b.silentAfter()
	set := q.Select(ctx, false, &storage.SelectHints{Start: mint, End: maxt}, matchers(m.Name, b.cluster.ID)...)
	active := map[string][]bool{}
	var it chunkenc.Iterator
	for set.Next() {
		if err := ctx.Err(); err != nil {
			return err
		}
		series := set.At()
		lset := series.Labels()
		sub := subject{m.Level, objectOf(m.Level, lset.Get), dimensionsOf(m.Dimensions, lset.Get)}
		if !cond.WhereMatches(lset.Get) {
			continue
		}
		node := ""
		if m.Place == catalogue.ByNode {
			node = lset.Get("node")
		}
		on := active[node]
		if on == nil {
			on = make([]bool, (maxt-mint)/step+2)
			active[node] = on
		}
		h := heat{node: lset.Get("node"), first: math.MaxInt64}
		next, slot := int64(math.MinInt64), 0
		prev := math.NaN()
		it = series.Iterator(it)
		for vt := it.Next(); vt != chunkenc.ValNone; vt = it.Next() {
			if vt != chunkenc.ValFloat {
				continue
			}
			t, v := it.At()
			if t < mint || t > maxt || (evaluate.Sample{V: v}).Stale() {
				continue
			}
			if t == next { // the rule: a sample each interval
				slot++
				on[slot] = true
				next += step
			} else if (t-begin)%step == 0 {
				slot = int((t-begin)/step - first)
				on[slot] = true
				next = t + step
			}
			if h.first == math.MaxInt64 {
				h.first = t
			} else if t-h.last > silentAfter {
				h.spans = append(h.spans, span{h.last + silentAfter - 1, t})
			}
			h.last = t
			if bad == nil || bad(prev, v) {
				if n := len(h.spans) - 1; n >= 0 && t <= h.spans[n].to {
					h.spans[n].to = max(h.spans[n].to, t+reach)
				} else {
					h.spans = append(h.spans, span{t, t + reach})
				}
			}
			prev = v
		}
		if err := it.Err(); err != nil {
			return err
		}
		if h.first == math.MaxInt64 {
			continue
		}
		if silentAfter != math.MaxInt64 {
			h.spans = append(h.spans, span{mint, h.first}, span{h.last + silentAfter - 1, maxt + 1})
		}
		if lone && !b.c.rule.Any {
			continue // another condition has to hold too
		}
		mu.Lock()
		if lone {
			b.always = true // it alone may have all values of the dimensions fire
		} else {
			old := b.hot[sub]
			if old == nil {
				old = &heat{node: h.node, first: h.first, last: h.last}
				b.hot[sub] = old
			}
			if h.last >= old.last {
				old.last, old.node = h.last, h.node
			}
			old.first = min(old.first, h.first)
			old.spans = append(old.spans, h.spans...)
		}
		mu.Unlock()
	}
	if err := set.Err(); err != nil {
		return err
	}
	mu.Lock()
	defer mu.Unlock()
	for node, on := range active {
		if m.Place == catalogue.ByServer {
			continue
		}
		all := b.active[node]
		if all == nil {
			all = make([]bool, b.steps())
			b.active[node] = all
		}
		for i, sent := range on {
			if at := int(first) + i; sent && at < len(all) {
				all[at] = true
			}
		}
	}
	return nil
}

// merge puts spans into order and joins those that touch.
func (h *heat) merge() {
	slices.SortFunc(h.spans, func(a, b span) int { return cmp.Compare(a.from, b.from) })
	out := h.spans[:0]
	for _, s := range h.spans {
		if n := len(out) - 1; n >= 0 && s.from <= out[n].to {
			out[n].to = max(out[n].to, s.to)
		} else {
			out = append(out, s)
		}
	}
	h.spans = out
}

// at tells whether something could happen at a time.
func (h *heat) at(t int64) bool {
	i := sort.Search(len(h.spans), func(i int) bool { return h.spans[i].to >= t })
	return i < len(h.spans) && h.spans[i].from <= t
}

// next gives the first time from t on at which something could happen.
func (h *heat) next(t int64) (int64, bool) {
	i := sort.Search(len(h.spans), func(i int) bool { return h.spans[i].to >= t })
	if i == len(h.spans) {
		return 0, false
	}
	return max(t, h.spans[i].from), true
}

// mask leaves out what live evaluation left out.
func (b *replay) mask(ctx context.Context) error {
	var skipped []meta.SkippedRound
	err := b.live.opts.Meta.View(ctx, func(tx *meta.Tx) (err error) {
		skipped, err = tx.SkippedRounds(b.cluster.ID, b.begin, b.to)
		return err
	})
	b.late = map[string]map[int64]int64{}
	for _, s := range skipped {
		nodes := []string{}
		role, node := splitSender(s.Sender)
		switch role {
		case "node":
			nodes = append(nodes, node)
		case "cluster":
			nodes = append(nodes, "")
		case senderRollup:
			nodes = append(nodes, server)
		case senderExpression:
			nodes = append(nodes, always)
		case "all":
			for n := range b.active {
				if n != server && n != everyone && n != always {
					nodes = append(nodes, n)
				}
			}
		}
		for _, n := range nodes {
			if b.late[n] == nil {
				b.late[n] = map[int64]int64{}
			}
			b.late[n][s.At.UnixMilli()] = s.ArrivedAt.UnixMilli()
			if i := b.index(s.At.UnixMilli()); i >= 0 && b.active[n] != nil && b.active[n][i] {
				b.active[n][i] = false
				b.out.Masked++
			}
		}
	}
	return err
}

// count says how much there was to judge.
func (b *replay) count() {
	b.out.Objects += len(b.hot)
	sent := map[string]int64{}
	for node, on := range b.active {
		for _, yes := range on {
			if yes {
				sent[node]++
			}
		}
	}
	for _, h := range b.hot {
		var n int64
		for _, node := range b.nodes(h.node) {
			n = max(n, sent[node])
		}
		b.out.Steps += n
	}
}

// nodes whose sending has a subject judged.
func (b *replay) nodes(node string) []string {
	var out []string
	for _, p := range b.c.places() {
		switch p {
		case catalogue.ByNode:
			out = append(out, node)
		case catalogue.ByCluster:
			out = append(out, "")
		case catalogue.ByServer:
			out = append(out, server)
		case byLines:
			out = append(out, everyone)
		case byExpression:
			out = append(out, always)
		}
	}
	return out
}

// prepare makes the shadow: an engine of its own on a store of its own, with
// targets as they are now, and routes and mutes as they were.
func (b *replay) prepare(ctx context.Context, db *meta.DB) error {
	var rows []meta.Resource
	err := b.live.opts.Meta.View(ctx, func(tx *meta.Tx) (err error) {
		rows, err = tx.Resources(meta.KindTarget)
		return err
	})
	if err != nil {
		return err
	}
	row := b.cluster
	if row.CreatedAt.IsZero() {
		row.CreatedAt = b.begin
	}
	if err := db.UpsertCluster(ctx, row); err != nil {
		return err
	}
	err = db.Update(ctx, func(tx *meta.Tx) error {
		for _, r := range rows {
			b.readDesk(r)
			r.Sealed = nil
			if err := tx.CreateResource(r); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.past = newPast(b.live.opts.Inventory, b.archive, b.cluster.ID, b.begin, b.to)
	b.past.began = b.began
	b.shadow, err = New(Options{
		Queryable: b.live.opts.Queryable, Inventory: b.past, Meta: db, PublicURL: b.live.opts.PublicURL, Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return b.clock },
	})
	if err != nil {
		return err
	}
	b.shadow.born, b.clock = b.begin, b.begin
	if err := b.shadow.load(ctx, b.begin); err != nil {
		return err
	}
	b.shadow.byID[b.c.ref.ID] = b.c
	if err := b.loadOthers(ctx); err != nil {
		return err
	}
	if err := b.loadThen(ctx); err != nil {
		return err
	}
	b.asThen(b.begin)
	b.shadow.book.Firing = func() []routing.Facts { return slices.Concat(b.shadow.facts(), b.others.at(b.clock)) }
	return b.startFiring(ctx)
}

// startFiring has the shadow begin with what is recorded to have fired then. Where
// the policy judged otherwise then, or is a draft that judges otherwise, nothing
// fires at the beginning.
func (b *replay) startFiring(ctx context.Context) error {
	var firing []*incident.Alert
	err := b.live.opts.Meta.View(ctx, func(tx *meta.Tx) error {
		v, err := tx.VersionAt(b.c.ref.ID, b.begin)
		if errors.Is(err, fault.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if was, err := compile(v.Resource); err != nil || was.level != b.c.level || !reflect.DeepEqual(was.rule, b.c.rule) ||
			!slices.EqualFunc(was.conditions, b.c.conditions, func(x, y condition) bool { return reflect.DeepEqual(x.Condition, y.Condition) }) {
			return nil // what could not be compiled then judged nothing
		}
		rows, err := tx.AlertsWithin(b.cluster.ID, b.begin, b.begin, maxOthers)
		if err != nil {
			return err
		}
		for _, r := range rows {
			if r.PolicyID != b.c.ref.ID {
				continue
			}
			a, err := incident.FromRow(r)
			if err != nil {
				return err
			}
			if isCount(a.Key) || !a.FoundAt.IsZero() || (!a.Firing && !a.EndedAt.After(b.begin)) {
				continue
			}
			firing = append(firing, a)
		}
		return nil
	})
	if err != nil || len(firing) == 0 {
		return err
	}
	for _, a := range firing {
		a.State = b.c.firingSince(a, b.begin.Add(-b.interval))
		a.Firing, a.EndedAt, a.Cause, a.Stale, a.IncidentID, a.HoldUntil = true, time.Time{}, "", false, "", time.Time{}
		a.Policy, a.Labels, a.Group = b.c.ref, b.c.labels, b.c.group
		b.shadow.address(a, b.c)
	}
	if !b.shadow.commit(ctx, b.begin, firing, nil) {
		return errors.Join(ctx.Err(), fmt.Errorf("store what fired at %s: %w", b.begin.Format(time.RFC3339), fault.ErrUnavailable))
	}
	return nil
}

// firingSince is the state, as of a time, of an alert of which only the severity
// is recorded.
func (c *compiled) firingSince(a *incident.Alert, at time.Time) evaluate.State {
	state := evaluate.State{At: at, Newest: at}
	for i := range a.Severity.Rank() {
		if c.rule.Names(i) {
			state.Latches[i] = evaluate.Latch{Closed: true, Since: a.StartedAt}
		}
	}
	return state
}

// play steps through all times at which something could happen.
func (b *replay) play(ctx context.Context, db *meta.DB) error {
	if err := b.prepare(ctx, db); err != nil {
		return err
	}
	var back time.Duration
	for i := range b.c.conditions {
		back = max(back, b.c.span(i, b.interval))
	}
	chunk := min(maxChunk, max(time.Hour, 4*back)).Truncate(b.interval)
	step := b.interval.Milliseconds()
	t := b.begin
	for !t.After(b.to) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if len(b.shadow.alerts) == 0 {
			first := int64(math.MaxInt64)
			for _, h := range b.hot {
				if n, ok := h.next(t.UnixMilli()); ok {
					first = min(first, n)
				}
			}
			if n, ok := b.few.next(t.UnixMilli()); ok {
				first = min(first, n)
			}
			if first > b.to.UnixMilli() {
				break
			}
			n := (first - b.begin.UnixMilli() + step - 1) / step
			t = b.begin.Add(time.Duration(n) * b.interval)
		}
		end := t.Add(chunk)
		if end.After(b.to) {
			end = b.to
		}
		if err := b.chunk(ctx, db, t, end, back); err != nil {
			return err
		}
		b.progress(0.5 + 0.5*float64(end.Sub(b.begin))/float64(max(1, b.to.Sub(b.begin))))
		t = end.Add(b.interval)
	}
	b.clock = b.to
	return b.tell(ctx, db, b.to)
}

// chunk steps through a piece of time, whose samples it holds.
func (b *replay) chunk(ctx context.Context, db *meta.DB, from, to time.Time, back time.Duration) error {
	c := b.c
	only := map[subject]bool{}
	var subs []subject
	add := func(sub subject) {
		if only[sub] {
			return
		}
		only[sub] = true
		subs = append(subs, sub)
		if sub.dimensions != "" {
			only[subject{level: sub.level, object: sub.object}] = true
		}
	}
	for sub, h := range b.hot {
		if n, ok := h.next(from.UnixMilli()); ok && n <= to.UnixMilli() && c.possible(sub) {
			add(sub)
		}
	}
	for _, a := range b.shadow.alerts {
		if !isCount(a.Key) {
			add(parseSubject(a.Key))
		}
	}
	if err := b.past.load(ctx, subs...); err != nil {
		return err
	}
	slices.SortFunc(subs, compareSubjects)
	w := newWant()
	least := to.Sub(from) + back
	if c.rule.NoData == policy.NoDataAlert {
		least += c.rule.NoDataAfter + 10*b.interval
	}
	w.add(c, b.interval, least)
	for k := range w.past {
		w.past[k] = least
	}
	if err := b.grids(ctx, from, to); err != nil {
		return err
	}
	w.exprs, w.lines = nil, nil // they are there
	rd := reader{queryable: b.live.opts.Queryable, promql: b.live.promql, cluster: b.cluster.ID, only: only, few: w.few(subs)}
	data, err := rd.read(ctx, to, w)
	if err != nil {
		return err
	}
	for t := from; !t.After(to); t = t.Add(b.interval) {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := b.tell(ctx, db, t); err != nil {
			return err
		}
		if err := b.step(ctx, db, t, subs, data); err != nil {
			return err
		}
	}
	return nil
}

// grids evaluates the expressions and counts the lines of a chunk.
func (b *replay) grids(ctx context.Context, from, to time.Time) error {
	b.exprs, b.lines = map[exprKey]*exprGrid{}, map[linesKey]*linesGrid{}
	for i, cond := range b.c.conditions {
		back := time.Duration(b.c.rule.Reach(i)) * cond.Period.D()
		var err error
		switch {
		case cond.Expr != "":
			k := cond.exprKey()
			b.exprs[k], err = b.evaluateExpr(ctx, k, from.Add(-back), to)
		case cond.Query != "":
			k := b.c.linesKey(cond)
			b.lines[k], err = b.countLines(ctx, k, from.Add(-back-cond.Period.D()), to)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// asOf shows what is not a metric as of a time.
func (b *replay) asOf(t time.Time, d *readings) {
	for k, g := range b.exprs {
		if d.exprs == nil {
			d.exprs = map[exprKey]*exprResult{}
		}
		d.exprs[k] = &exprResult{exprKey: k, grid: g, at: t}
	}
	for i, cond := range b.c.conditions {
		if cond.Query == "" {
			continue
		}
		if d.lines == nil {
			d.lines = map[linesKey]*linesResult{}
		}
		k := b.c.linesKey(cond)
		d.lines[k] = &linesResult{linesKey: k, at: t, n: b.c.rule.Reach(i), nodes: b.lines[k].nodes, grid: b.lines[k], known: completeness{sure: true, covered: b.covered}}
	}
}

// step makes the round of one time.
func (b *replay) step(ctx context.Context, db *meta.DB, t time.Time, subs []subject, data readings) error {
	c, e := b.c, b.shadow
	b.past.at, b.clock = t, t
	b.asThen(t)
	millis, slot := t.UnixMilli(), b.index(t.UnixMilli())
	sent := func(node string) bool { on := b.active[node]; return on != nil && slot >= 0 && on[slot] }
	ct := &court{inventory: b.past, cluster: b.cluster.ID, at: t, interval: b.interval, silent: func(p catalogue.Place, node string) bool {
		if p == catalogue.ByCluster {
			node = ""
		}
		if p == catalogue.ByServer || p == byExpression {
			node = server
		}
		on := b.active[node]
		for i := max(0, slot-missedIntervals); i <= slot && i < len(on); i++ {
			if on[i] {
				return false
			}
		}
		return true
	}}
	s := scope{places: c.places()}
	r := round{source: sourceKey{b.cluster.ID, "replay"}, trigger: triggerInterval, at: t, interval: b.interval, received: t}
	var changed []*incident.Alert
	var peaked []subject
	b.asOf(t, &data)
	if key := c.countKey(b.cluster.ID); c.atLeast() > 0 && (b.few.at(millis) || e.alerts[key] != nil || !e.few[key].IsZero()) {
		if a := e.judgeCount(r, c, b.countOf(millis), t); a != nil {
			changed = append(changed, a)
		}
	}
	for _, sub := range subs {
		h := b.hot[sub]
		key := alertKey{c.ref.ID, b.cluster.ID, sub.key()}
		a := e.alerts[key]
		if a == nil && (h == nil || !h.at(millis)) {
			continue
		}
		node := ""
		if h != nil {
			node = h.node
		}
		if a != nil {
			node = cmp.Or(a.Object.Node, node)
		}
		if !slices.ContainsFunc(b.nodes(node), sent) {
			continue
		}
		if ended, ok := e.ended[key]; a == nil && ok && !t.After(ended) {
			continue
		}
		b.out.Judged++
		next, loud := e.judgeOne(ct, r, s, c, sub, a, b.known(data.upTo(t, sub, c), node, t), t)
		switch {
		case next == nil:
		case loud:
			changed = append(changed, next)
		default:
			e.alerts[key] = next
			e.savedAt[next.ID] = t
		}
		peaked = append(peaked, sub)
	}
	if len(changed) > 0 {
		if !e.commit(ctx, t, changed, nil) {
			return errors.Join(ctx.Err(), fmt.Errorf("store alerts at %s: %w", t.Format(time.RFC3339), fault.ErrUnavailable))
		}
		if err := b.deliver(ctx, db); err != nil {
			return err
		}
	}
	for _, sub := range peaked {
		a := e.alerts[alertKey{c.ref.ID, b.cluster.ID, sub.key()}]
		if a == nil || len(a.Conditions) == 0 || a.Conditions[0].Value == nil {
			continue
		}
		v := *a.Conditions[0].Value
		if old, ok := b.peaks[a.ID]; !ok || (v > old) == (a.Conditions[0].Op != "<" && a.Conditions[0].Op != "<=") {
			b.peaks[a.ID] = v
		}
	}
	return nil
}

// known leaves out samples that had not arrived by then.
func (b *replay) known(d readings, node string, t time.Time) readings {
	now := t.UnixMilli()
	for name, v := range d.metrics {
		m, _ := catalogue.Get(name)
		from := map[catalogue.Place]string{catalogue.ByNode: node, catalogue.ByServer: server}[m.Place]
		late := b.late[from]
		if len(late) == 0 {
			continue
		}
		for _, r := range v.rows {
			samples := v.by(r.number)
			if slices.ContainsFunc(samples, func(s evaluate.Sample) bool { return late[s.T] > now }) {
				v.put(r.number, slices.DeleteFunc(slices.Clone(samples), func(s evaluate.Sample) bool { return late[s.T] > now }))
			}
		}
	}
	return d
}

// tell has everything told that is due by a time.
func (b *replay) tell(ctx context.Context, db *meta.DB, t time.Time) error {
	for !b.due.IsZero() && !b.due.After(t) {
		b.clock = b.due
		b.asThen(b.due)
		b.shadow.gathered = nil
		if err := db.Update(ctx, func(tx *meta.Tx) error { _, err := b.shadow.book.Flush(tx, b.due); return err }); err != nil {
			return err
		}
		before := b.due
		if err := b.deliver(ctx, db); err != nil {
			return err
		}
		if !b.due.IsZero() && !b.due.After(before) {
			b.due = before.Add(time.Second) // what stays due is looked at again, later
		}
	}
	return nil
}

// collect reads what came of it.
func (b *replay) collect(ctx context.Context, db *meta.DB) error {
	return db.View(ctx, func(tx *meta.Tx) error {
		incidents, err := tx.Incidents(meta.IncidentFilter{Limit: math.MaxInt32})
		if err != nil {
			return err
		}
		for _, row := range incidents {
			if !row.EndedAt.IsZero() && row.EndedAt.Before(b.from) {
				continue // of the warm-up
			}
			var st incident.State
			if err := json.Unmarshal(row.Data, &st); err != nil {
				return err
			}
			inc := policy.ReplayIncident{
				ID: row.ID, Messages: b.ofIncident[row.ID],
				Title: st.Title, Cluster: row.Cluster, Severity: row.Severity, StartedAt: row.StartedAt, EndedAt: endOf(row.EndedAt), Cause: st.Cause, Reopened: st.Reopened,
				Alerts: []policy.ReplayAlert{},
			}
			events, err := tx.IncidentEvents(row.ID, maxReplayEvents)
			if err != nil {
				return err
			}
			for _, ev := range events {
				if ev.Type == incident.EventMuted && !slices.Contains(inc.MutedBy, ev.Text) {
					inc.MutedBy = append(inc.MutedBy, ev.Text)
				}
			}
			alerts, err := tx.AlertsOf(row.ID)
			if err != nil {
				return err
			}
			for _, ar := range alerts {
				a, err := incident.FromRow(ar)
				if err != nil {
					return err
				}
				if !a.EndedAt.IsZero() && a.EndedAt.Before(b.from) {
					continue
				}
				b.out.AlertCount++
				b.out.BySeverity[string(a.Severity)]++
				end := a.EndedAt
				if end.IsZero() {
					end = b.to
				}
				b.out.FiringSeconds += end.Sub(a.StartedAt).Seconds()
				b.out.Spans = append(b.out.Spans, policy.ReplaySpan{
					Subject: b.cluster.ID + " " + a.Key, Object: objectMap(a.Object), Severity: string(a.Severity), From: a.StartedAt, To: a.EndedAt,
				})
				if len(inc.Alerts) == maxReplayAlerts {
					continue
				}
				ra := policy.ReplayAlert{
					Object: objectMap(a.Object), Dimensions: a.Dimensions, Severity: string(a.Severity), StartedAt: a.StartedAt, EndedAt: endOf(a.EndedAt), Cause: string(a.Cause),
					Unit: b.c.conditions[0].unit(), Explanation: a.Explanation,
				}
				if peak, ok := b.peaks[a.ID]; ok {
					ra.Peak = &peak
				}
				inc.Alerts = append(inc.Alerts, ra)
			}
			if len(inc.Alerts) > 0 {
				b.out.Incidents = append(b.out.Incidents, inc)
			}
		}
		return nil
	})
}

func endOf(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// distribution says how the values of the conditions lie.
func (b *replay) distribution(ctx context.Context) error {
	collected := make([][]float64, len(b.c.conditions))
	pause := b.to.Sub(b.from) / distributionPoints
	for n := range distributionPoints {
		if err := ctx.Err(); err != nil {
			return err
		}
		at := b.from.Add(time.Duration(n+1) * pause).Truncate(b.interval)
		w := newWant()
		w.add(b.c, b.interval, 0)
		rd := reader{queryable: b.live.opts.Queryable, promql: b.live.promql, cluster: b.cluster.ID}
		if err := b.grids(ctx, at, at); err != nil {
			return err
		}
		w.exprs, w.lines = nil, nil
		data, err := rd.read(ctx, at, w)
		if err != nil {
			return err
		}
		for i, cond := range b.c.conditions {
			if cond.Expr != "" {
				g := b.exprs[cond.exprKey()]
				for sub := range g.values {
					if v := g.windows(at, cond.Period.D(), sub, 1)[0]; !v.Missing && cond.Op != "" {
						collected[i] = append(collected[i], v.Value)
					}
				}
				continue
			}
			if cond.Query != "" {
				g := b.lines[b.c.linesKey(cond)]
				for sub := range b.hot {
					collected[i] = append(collected[i], float64(g.count(sub, at, cond.Period.D())))
				}
				continue
			}
			series := cond.series(b.interval, time.Time{}, 0)
			for sub := range data.metrics[cond.Metric].subjects() {
				dims := parseDimensions(sub.dimensions)
				if !cond.WhereMatches(func(k string) string { return dims[k] }) {
					continue
				}
				if win := series.Windows(at, 1, data.of(cond, b.c.rule.Conditions[i], sub)); !win[0].Missing {
					collected[i] = append(collected[i], win[0].Value)
				}
			}
		}
	}
	for i, cond := range b.c.conditions {
		values := collected[i]
		if len(values) == 0 {
			continue
		}
		slices.Sort(values)
		q := func(p float64) float64 { return values[min(len(values)-1, int(p*float64(len(values))))] }
		tail := map[catalogue.Severity]float64{catalogue.Info: .9, catalogue.Warning: .99, catalogue.Critical: .999}
		suggest := func(sev catalogue.Severity) *float64 {
			p := tail[sev]
			switch cond.Op {
			case ">", ">=":
			case "<", "<=":
				p = 1 - p
			default:
				return nil
			}
			v := q(p)
			return &v
		}
		b.out.Thresholds = append(b.out.Thresholds, policy.ReplayThreshold{
			Cluster: b.cluster.ID, Condition: i, Metric: cmp.Or(cond.Metric, cond.Expr, cond.Query), Statistic: cond.Statistic, Period: cond.Period, Unit: cond.unit(), Op: cond.Op, Values: len(values),
			Min: values[0], P50: q(.5), P90: q(.9), P99: q(.99), P999: q(.999), Max: values[len(values)-1],
			Suggested: policy.Thresholds{Info: suggest(catalogue.Info), Warning: suggest(catalogue.Warning), Critical: suggest(catalogue.Critical)},
			Words:     fmt.Sprintf("of %d periods, 1 in 10 was beyond info, 1 in 100 beyond warning and 1 in 1000 beyond critical", len(values)),
		})
	}
	return nil
}
