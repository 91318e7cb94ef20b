package logs

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// A collector that takes over from another, or lost its folder, lists the events
// of the last hour anew: other batches, but the same events. So events are told
// by their uid and count, too. Of a series that went on meanwhile it does not know how
// many are new; what is stored of the series knows.

const (
	fieldUID   = "uid"
	fieldCount = "count"
	// recentEvents is how many events of a sender are remembered at least, for
	// those that no query sees yet.
	recentEvents = 8_192
	// seriesGap is how long ago the line before of a series is looked for: API servers keep
	// an event for an hour after its last change by default.
	seriesGap = int64(time.Hour)
)

type eventKey struct{ uid, count string }

// eventOf gives what tells a line from others, if it is an event's.
func eventOf(st wire.LogStream, l wire.LogLine) (k eventKey, ok bool) {
	if st.Stream != wire.StreamEvents {
		return k, false
	}
	k = eventKey{l.Fields.Get(fieldUID), l.Fields.Get(fieldCount)}
	return k, k.uid != "" && k.count != ""
}

// newEvents gives the batch without the events that are stored already, and the
// keys of those that are left. A batch without events is given as it is.
func (s *Store) newEvents(ctx context.Context, sd *sender, cluster string, b *wire.LogBatch, oldest, newest int64) (*wire.LogBatch, []eventKey, error) {
	var keys []eventKey
	for _, g := range b.Groups {
		for _, l := range g.Lines {
			if k, ok := eventOf(g.Stream, l); ok {
				keys = append(keys, k)
				if goesOn(l, k) > 0 {
					oldest = min(oldest, l.Time-seriesGap)
				}
			}
		}
	}
	if len(keys) == 0 {
		return b, nil, nil
	}
	var in strings.Builder
	for i, k := range keys {
		if i > 0 {
			in.WriteByte(',')
		}
		in.WriteString(strconv.Quote(k.uid))
	}
	known, before := map[eventKey]bool{}, map[string][]told{}
	text := fmt.Sprintf("{%s=%q} %s:in(%s) | fields _time, %s, %s", wire.FieldStream, wire.StreamEvents, fieldUID, in.String(), fieldUID, fieldCount)
	if err := s.ask(ctx, cluster, text, oldest, newest, func(r Row) {
		k := eventKey{strings.Clone(r.Get(fieldUID)), strings.Clone(r.Get(fieldCount))}
		known[k] = true
		if n, err := strconv.ParseInt(k.count, 10, 64); err == nil {
			before[k.uid] = append(before[k.uid], told{n, strings.Clone(r.Get("_time"))})
		}
	}); err != nil {
		return nil, nil, fmt.Errorf("read back events: %w", err)
	}
	out := &wire.LogBatch{Sender: b.Sender, ID: b.ID, Complete: b.Complete, Positions: b.Positions}
	keys = keys[:0]
	for _, g := range b.Groups {
		left := wire.LogGroup{Stream: g.Stream}
		for _, l := range g.Lines {
			k, ok := eventOf(g.Stream, l)
			if ok && (known[k] || sd.eventsNow[k] || sd.eventsBefore[k]) {
				s.metrics.events.Inc()
				continue
			}
			if ok {
				known[k] = true
				keys = append(keys, k)
				l.Fields = unfold(l, k, before[k.uid])
			}
			left.Lines = append(left.Lines, l)
		}
		if len(left.Lines) > 0 {
			out.Groups = append(out.Groups, left)
		}
	}
	return out, keys, nil
}

// told is what a stored line of a series says.
type told struct {
	count int64
	at    string
}

// goesOn gives the count of an event that occurred before, when its line does not say
// how many occurrences it stands for; else 0.
func goesOn(l wire.LogLine, k eventKey) int64 {
	n, err := strconv.ParseInt(k.count, 10, 64)
	if err != nil || n <= 1 || l.Fields.Get(wire.FieldOccurrences) != "" {
		return 0
	}
	return n
}

// unfold gives the fields of an event's line, with how many occurrences it stands for
// where the line does not say so and what is stored of the series does.
func unfold(l wire.LogLine, k eventKey, before []told) wire.LogFields {
	n, last := goesOn(l, k), told{}
	for _, b := range before {
		if b.count < n && b.count > last.count {
			last = b
		}
	}
	if last.count == 0 || n-last.count <= 1 {
		return l.Fields
	}
	return append(slices.Clone(l.Fields), wire.LogField{Name: wire.FieldOccurrences, Value: strconv.FormatInt(n-last.count, 10)}, wire.LogField{Name: "since", Value: last.at})
}

// noteEventsLocked remembers events that were added.
func (sd *sender) noteEventsLocked(keys []eventKey) {
	for _, k := range keys {
		if len(sd.eventsNow) >= recentEvents {
			sd.eventsBefore, sd.eventsNow = sd.eventsNow, nil
		}
		if sd.eventsNow == nil {
			sd.eventsNow = map[eventKey]bool{}
		}
		sd.eventsNow[eventKey{strings.Clone(k.uid), strings.Clone(k.count)}] = true // not parts of a whole request
	}
}
