package logs

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// Hidden fields of a row. No query of a user sees them.
const (
	hiddenPrefix = "__crowsnest_"
	fieldSender  = hiddenPrefix + "sender"
	fieldBatch   = hiddenPrefix + "batch"
)

// hidden is what user queries do not see.
var hidden = []string{hiddenPrefix + "*"}

// Bounds of a row, below those at which the library drops it whole.
const (
	maxStreamValueBytes = 256 // the index skips longer entries, and a stream filter would not find the row
	maxFieldNameBytes   = 128
	maxFields           = 256
	maxFieldBytes       = 1 << 20 // names and values of a line's own fields together
)

// maxWaitingBytes bounds what is in memory between two commits.
const maxWaitingBytes = 256 << 20

// Reasons for which a line, or a part of it, is not stored.
const (
	droppedTooOld    = "too_old"        // beyond the retention
	droppedAhead     = "too_far_ahead"  // more than a day ahead of the server's clock
	droppedByLibrary = "refused"        // the library did not take it
	droppedDayGone   = "day_removed"    // its day was removed for MaxBytes meanwhile
	droppedByEngine  = "not_shown"      // a remote engine took it and does not show it: beyond its own retention or limits
	cutFieldName     = "field_name"     // a field was left out: its name is too long
	cutFields        = "fields"         // fields were left out: too many, or too large together
	cutStreamValue   = "stream_value"   // a stream field's value was cut
	cutNames         = "names"          // fields were put together in one: their stream has too many names
	renamedField     = "field_reserved" // a field has the name of one of ours, and was put under "field."
)

// dropWords say of lines that are dropped one by one why; the line that tells of them has it.
var dropWords = map[string]string{
	droppedTooOld:    "their time is beyond what is kept",
	droppedAhead:     "their time is more than a day ahead of the server's clock",
	droppedByLibrary: "refused by the log store",
}

var (
	dropReasons = []string{droppedTooOld, droppedAhead, droppedByLibrary, droppedDayGone, droppedByEngine}
	cutReasons  = []string{cutFieldName, cutFields, cutStreamValue, cutNames, renamedField}
)

// Append stores a batch. It returns nil only when the batch is durable: a kill
// of the process cannot take it back. The same (cluster, sender, id) is stored
// once, however often it comes, over restarts too. Lines outside the retention or
// more than a day ahead are dropped, counted, and told of by a line of their stream,
// and the batch is still acknowledged, since sending them again would not help.
//
// Errors: fault.ErrInvalid for a batch that breaks wire's rules,
// fault.ErrConflict for one that begins before a position that is stored,
// fault.ErrUnavailable while the store is read-only or closing, fault.ErrLimited
// while too much waits, and the context's error when it ends first. After another
// error the batch may be stored or not: send it again with the same id.
func (s *Store) Append(ctx context.Context, cluster string, b *wire.LogBatch) error {
	if cluster == "" {
		return fmt.Errorf("append logs: %w", fault.Field{Path: "cluster", Reason: "is required"})
	}
	if err := b.Validate(); err != nil {
		return fmt.Errorf("append logs: %w", err)
	}
	if b.Lines() > 0 {
		if err := s.append(ctx, cluster, b); err != nil {
			return err
		}
	}
	// What the batch says to be complete is, now that it is durable.
	s.marks.note(cluster, b.Complete, s.opts.Now())
	return nil
}

func (s *Store) append(ctx context.Context, cluster string, b *wire.LogBatch) error {
	release, err := s.use()
	if err != nil {
		return fmt.Errorf("append logs: %w", err)
	}
	o, err := s.add(ctx, cluster, b)
	// Waiting needs the committer, not db, and must not hold up Close.
	release()
	if err != nil || o == nil {
		return err
	}
	if err := o.wait(ctx); err != nil {
		return fmt.Errorf("append logs: %w", err)
	}
	return nil
}

// add hands the batch to the library and gives what to wait for; nil when the batch
// is durable already.
func (s *Store) add(ctx context.Context, cluster string, b *wire.LogBatch) (*outcome, error) {
	k := s.keeps(cluster)
	oldest, newest, some := k.span(b)
	if !some {
		// What is told of them is of now.
		oldest = s.opts.Now().UnixNano()
		newest = oldest
	}
	id := idOf(b.ID)
	sd := s.senders.get(cluster, b.Sender, s.opts.Now())
	sd.mu.Lock()
	defer sd.mu.Unlock()
	if g := sd.pending[id]; g != nil {
		s.metrics.duplicates.Inc()
		return &outcome{g, entryKey{sd, id}}, nil
	}
	from := int64(math.MinInt64) // lines of the id are of this batch
	if b.Untimed {
		from = oldest - int64(untimedAgain)
	}
	if sd.hasLocked(id, from) {
		s.metrics.duplicates.Inc()
		return nil, nil
	}
	if err := s.settled(ctx, sd, id); err != nil {
		return nil, fmt.Errorf("append logs: %w", err)
	}
	if !sd.loaded {
		if err := s.loadLocked(ctx, sd, cluster, b.Sender); err != nil {
			return nil, fmt.Errorf("append logs: %w", err)
		}
	}
	// What is so far ahead may have been further than is kept when the batch came first.
	ahead := newest > k.until-int64(time.Hour)
	if _, unsure := sd.unsure[id]; unsure || !some || ahead || newest <= sd.floor || b.Untimed && from <= sd.floor {
		of, since, until := "", oldest, newest
		switch { // when it was told is not known, and where is
		case b.Untimed:
			of, since, until = s.streamFilter(cluster, b), from, max(newest, sd.floor)
		case !some || ahead:
			of, since = s.streamFilter(cluster, b), k.from-int64(day)
		}
		found, err := s.isStored(ctx, cluster, of, b, since, until)
		if err != nil {
			return nil, fmt.Errorf("append logs: %w", err)
		}
		if found {
			delete(sd.unsure, id)
			s.metrics.duplicates.Inc()
			return nil, nil
		}
	}
	if err := s.ReadOnly(); err != nil {
		return nil, fmt.Errorf("append logs: %w", err)
	}
	if err := s.checkPositions(ctx, cluster, b); err != nil {
		return nil, fmt.Errorf("append logs: %w", err)
	}

	if b.Untimed {
		kept := *b
		kept.ID = untimedID(b.ID) + strconv.FormatInt(oldest, 10)
		b = &kept
	}
	b, events, err := s.newEvents(ctx, sd, cluster, b, oldest, newest)
	if err != nil {
		return nil, fmt.Errorf("append logs: %w", err)
	}
	to := s.rows()
	defer s.release(to)
	rows := s.fill(to, cluster, b, k, oldest, newest)
	if rows == 0 {
		return nil, nil // every line is known, and counted
	}
	size := max(sizeOf(b), int64(len(to.far)))
	if s.waiting.Add(size) > maxWaitingBytes && size < maxWaitingBytes {
		s.waiting.Add(-size)
		s.metrics.refused.Inc()
		return nil, fmt.Errorf("append logs: more than %d MiB wait to be committed: %w", maxWaitingBytes>>20, fault.ErrLimited)
	}
	g, err := s.hand(ctx, to, entry{sender: sd, id: id, arrival: arrival{
		cluster: cluster, batch: batchKey(cluster, b.Sender, b.ID), oldest: oldest, newest: newest, at: s.opts.Now(),
	}, rows: rows, size: size, day: partitionOf(newest), positions: b.Positions})
	if err != nil {
		s.waiting.Add(-size)
		return nil, err
	}
	s.tenants.add(tenantOf(cluster))
	sd.pending[id] = g
	s.positions.begin(cluster, b.Positions, g, s.opts.Now())
	sd.noteEventsLocked(events)
	return &outcome{g, entryKey{sd, id}}, nil
}

// sizeOf estimates what a batch takes in memory.
func sizeOf(b *wire.LogBatch) int64 {
	n := 0
	for _, g := range b.Groups {
		for _, l := range g.Lines {
			n += 64 + len(l.Message)
			for _, f := range l.Fields {
				n += len(f.Name) + len(f.Value)
			}
		}
	}
	return int64(n)
}

// hand gives rows to the library and their batch to the next commit. Those that are
// kept elsewhere go with the commit.
func (s *Store) hand(ctx context.Context, to *rowsTaken, e entry) (*group, error) {
	if err := s.gate.Acquire(ctx, 1); err != nil {
		return nil, fmt.Errorf("append logs: %w", err)
	}
	defer s.gate.Release(1)
	if s.closing.Err() != nil {
		return nil, fmt.Errorf("append logs: log store is closed: %w", fault.ErrUnavailable)
	}
	if s.far != nil {
		e.far = to.far
		return s.join(e), nil
	}
	if err := guard("append logs", func() error { s.lib.MustAddRows(to.lib); return nil }); err != nil {
		return nil, err
	}
	return s.join(e), nil
}

// kept is of which times lines are kept, in Unix nanoseconds.
type kept struct{ from, until int64 }

// keeps gives what is kept of a cluster, a minute inside the library's own bounds, which
// would drop without a word.
func (s *Store) keeps(cluster string) kept {
	now := s.opts.Now()
	return kept{now.Add(-s.retentionOf(cluster) + time.Minute).UnixNano(), now.Add(aheadLimit - time.Minute).UnixNano()}
}

// span gives the times of a batch's lines that are kept; some is false where none is.
func (k kept) span(b *wire.LogBatch) (oldest, newest int64, some bool) {
	for _, g := range b.Groups {
		for i := range g.Lines {
			t := g.Lines[i].Time
			if t < k.from || t > k.until {
				continue
			}
			if !some || t < oldest {
				oldest = t
			}
			newest, some = max(newest, t), true
		}
	}
	return oldest, newest, some
}

// streamFilter is one for the stream of a batch's first line.
func (s *Store) streamFilter(cluster string, b *wire.LogBatch) string {
	var of []string
	for _, g := range b.Groups {
		if len(g.Lines) == 0 {
			continue
		}
		for _, f := range s.streamFields(nil, cluster, g.Stream) {
			of = append(of, fmt.Sprintf("%s=%q", f.Name, f.Value))
		}
		break
	}
	return "{" + strings.Join(of, ",") + "} "
}

func partitionOf(unixNanos int64) string { return time.Unix(0, unixNanos).UTC().Format(partitionName) }

// rowsTaken are the rows of a batch, for the library or, in the form of its wire,
// for an engine elsewhere.
type rowsTaken struct {
	lib    *logstorage.LogRows
	fields int // of all rows
	far    []byte
}

func (s *Store) rows() *rowsTaken {
	if s.far != nil {
		return &rowsTaken{}
	}
	if lib := s.spare.take(); lib != nil {
		return &rowsTaken{lib: lib}
	}
	return &rowsTaken{lib: logstorage.GetLogRows(nil, nil, nil, nil, "")}
}

func (s *Store) release(t *rowsTaken) {
	if t.lib != nil && !s.spare.keep(t) {
		logstorage.PutLogRows(t.lib)
	}
}

// spareRows has the room of one batch's rows for the next batch. The library keeps such
// room where the garbage collector takes it away; that of a large batch was made
// anew each time, growing step by step: a third of what storing lines allocated.
type spareRows struct {
	mu   sync.Mutex
	rows *logstorage.LogRows // nil while there is none, or it is in use
	idle bool                // it was not used since the last look of expire
}

// maxSpareFields bounds a batch whose room is kept, at some 32 MiB.
const maxSpareFields = 1 << 20

func (s *spareRows) take() *logstorage.LogRows {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := s.rows
	s.rows = nil
	return out
}

// keep says whether it keeps the room.
func (s *spareRows) keep(t *rowsTaken) bool {
	if t.fields > maxSpareFields {
		return false
	}
	t.lib.ResetKeepSettings()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows != nil {
		return false
	}
	s.rows, s.idle = t.lib, false
	return true
}

// expire lets the room go when no batch came since the last call.
func (s *spareRows) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle {
		s.rows = nil
	}
	s.idle = true
}

// take says whether the row was taken.
func (t *rowsTaken) take(row *logstorage.InsertRow) bool {
	if t.lib == nil {
		t.far = row.Marshal(t.far)
		return true
	}
	before := t.lib.RowsCount()
	t.fields += len(row.Fields)
	t.lib.MustAddInsertRow(row)
	return t.lib.RowsCount() > before
}

// fill puts the batch's lines that are kept into to, and a line for those of a group that
// are not, and gives the number of rows. What is told of lines that are too old is of the
// time of the oldest that is kept, of those too far ahead of that of the newest: a batch
// stays within its day.
func (s *Store) fill(to *rowsTaken, cluster string, b *wire.LogBatch, k kept, oldest, newest int64) (rows int) {
	row := logstorage.InsertRow{TenantID: tenantOf(cluster)}
	key := batchKey(cluster, b.Sender, b.ID)
	var o order
	positions := positionRows(b)
	var of streamDay
	var checked []string // names of the line before, which had room
	put := func(l *wire.LogLine, p *wire.LogPosition) (taken bool) {
		o.own = append(o.own[:0], logstorage.Field{Name: "_msg", Value: l.Message})
		o.own = s.lineFields(o.own, l.Fields)
		if !slices.EqualFunc(o.own, checked, hasName) {
			checked = checked[:0]
			for _, f := range o.own {
				checked = append(checked, f.Name)
			}
			var together int
			if o.own, together = s.names.bound(o.own, of); together > 0 {
				checked = checked[:0]
				s.metrics.cut.WithLabelValues(cutNames).Inc()
			}
		}
		if len(b.Positions) > 0 {
			position := noPosition
			if p != nil {
				position = positionValue(p, l.Time)
			}
			o.own = append(o.own, logstorage.Field{Name: fieldPosition, Value: position})
		}
		row.Timestamp, row.Fields = l.Time, o.sorted()
		if taken = to.take(&row); taken {
			rows++
		}
		return taken
	}
	for n, g := range b.Groups {
		stream := s.streamFields(o.common[:0], cluster, g.Stream)
		row.StreamTagsCanonical = canonical(stream)
		o.begin(append(stream, logstorage.Field{Name: fieldSender, Value: b.Sender}, logstorage.Field{Name: fieldBatch, Value: key}))
		if len(g.Lines) > 0 {
			of, checked = s.names.of(row.StreamTagsCanonical, g.Lines[0].Time), checked[:0]
		}
		var dropped map[string]*wire.Dropped // by reason
		var missed *wire.LogPosition         // that no line of the group carries yet
		for i := range g.Lines {
			l := &g.Lines[i]
			var p *wire.LogPosition
			if i == len(g.Lines)-1 {
				p = positions[n]
			}
			reason := ""
			switch {
			case l.Time < k.from:
				reason = droppedTooOld
			case l.Time > k.until:
				reason = droppedAhead
			case !put(l, p):
				reason = droppedByLibrary
			default:
				continue
			}
			s.metrics.dropped.WithLabelValues(reason).Inc()
			missed = p
			if dropped == nil {
				dropped = map[string]*wire.Dropped{}
			}
			if dropped[reason] == nil {
				dropped[reason] = &wire.Dropped{Reason: reason, Words: dropWords[reason]}
			}
			dropped[reason].Add(l.Time, len(l.Message))
		}
		for _, reason := range dropReasons {
			d := dropped[reason]
			if d == nil {
				continue
			}
			at := map[string]int64{droppedTooOld: oldest, droppedAhead: newest, droppedByLibrary: d.Until}[reason]
			l := d.Line(g.Stream, at)
			if put(&l, missed) {
				missed = nil
			}
		}
	}
	return rows
}

// canonical gives a stream's fields in the form that the library tells streams by.
func canonical(stream []logstorage.Field) string {
	tags := logstorage.GetStreamTags()
	defer logstorage.PutStreamTags(tags)
	for _, f := range stream {
		tags.Add(f.Name, f.Value)
	}
	return string(tags.MarshalCanonical(nil))
}

// order puts fields in the order of their names. The library sorts those of each
// row, which is cheap when they are in order, and dear when not; and neighbouring
// lines have mostly the same names, so that their order is known.
type order struct {
	common []logstorage.Field // of all lines of a group
	own    []logstorage.Field // of this line
	names  []string           // of the own fields for which places holds
	places []int              // indexes in common, then own
	out    []logstorage.Field
}

// begin takes the fields of a group.
func (o *order) begin(common []logstorage.Field) {
	o.common, o.names = common, o.names[:0]
}

// sorted gives all fields of the line, until the next call.
func (o *order) sorted() []logstorage.Field {
	if !slices.EqualFunc(o.own, o.names, hasName) { // never empty: there is _msg
		o.names, o.places = o.names[:0], o.places[:0]
		for i := range len(o.common) + len(o.own) {
			o.places = append(o.places, i)
		}
		for _, f := range o.own {
			o.names = append(o.names, f.Name)
		}
		slices.SortStableFunc(o.places, func(a, b int) int { return cmp.Compare(sortName(o.at(a).Name), sortName(o.at(b).Name)) })
	}
	o.out = o.out[:0]
	for _, i := range o.places {
		o.out = append(o.out, o.at(i))
	}
	return o.out
}

func hasName(f logstorage.Field, name string) bool { return f.Name == name }

func (o *order) at(i int) logstorage.Field {
	if i < len(o.common) {
		return o.common[i]
	}
	return o.own[i-len(o.common)]
}

// sortName is the name by which the library sorts.
func sortName(name string) string {
	if name == "_msg" {
		return ""
	}
	return name
}

// streamFields appends the fields that make the stream.
func (s *Store) streamFields(dst []logstorage.Field, cluster string, st wire.LogStream) []logstorage.Field {
	for _, f := range [...]logstorage.Field{
		{Name: wire.FieldCluster, Value: cluster},
		{Name: wire.FieldNamespace, Value: st.Namespace},
		{Name: wire.FieldPod, Value: st.Pod},
		{Name: wire.FieldContainer, Value: st.Container},
		{Name: wire.FieldStream, Value: st.Stream},
		{Name: wire.FieldWorkloadType, Value: st.WorkloadType},
		{Name: wire.FieldWorkload, Value: st.Workload},
		{Name: wire.FieldNode, Value: st.Node},
	} {
		if f.Value == "" {
			continue
		}
		if len(f.Value) > maxStreamValueBytes {
			s.metrics.cut.WithLabelValues(cutStreamValue).Inc()
			f.Value = cut(f.Value, maxStreamValueBytes)
		}
		dst = append(dst, f)
	}
	return dst
}

// lineFields appends a line's own fields within the bounds.
func (s *Store) lineFields(dst []logstorage.Field, fields wire.LogFields) []logstorage.Field {
	size := 0
	for i, f := range fields {
		if f.Value == "" {
			continue
		}
		if reserved(f.Name) {
			s.metrics.cut.WithLabelValues(renamedField).Inc()
			f.Name = "field." + f.Name
		}
		if len(f.Name) > maxFieldNameBytes {
			s.metrics.cut.WithLabelValues(cutFieldName).Inc()
			continue
		}
		size += len(f.Name) + len(f.Value)
		if i >= maxFields || size > maxFieldBytes {
			s.metrics.cut.WithLabelValues(cutFields).Inc()
			break
		}
		if f.Name == "level" {
			f.Value = Level(f.Value)
		}
		dst = append(dst, logstorage.Field{Name: f.Name, Value: f.Value})
	}
	return dst
}

// reserved says that a name means something to the library or to us, so that a
// line must not set it.
func reserved(name string) bool {
	switch name {
	case "", "_msg", "_time", "_stream", "_stream_id", fieldMore,
		wire.FieldCluster, wire.FieldNamespace, wire.FieldPod, wire.FieldContainer, wire.FieldStream,
		wire.FieldWorkloadType, wire.FieldWorkload, wire.FieldNode:
		return true
	}
	return strings.HasPrefix(name, hiddenPrefix)
}

// cut shortens s to at most n bytes without splitting a character.
func cut(s string, n int) string {
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
