package logs

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// A collector that takes over from another, or lost its folder, lists the events
// of the last hour anew: other batches, but the same events. So events are told
// by their uid and count, too.

const (
	fieldUID   = "uid"
	fieldCount = "count"
	// recentEvents is how many events of a sender are remembered at least, for
	// those that no query sees yet.
	recentEvents = 8_192
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
	known := map[eventKey]bool{}
	text := fmt.Sprintf("{%s=%q} %s:in(%s) | fields %s, %s", wire.FieldStream, wire.StreamEvents, fieldUID, in.String(), fieldUID, fieldCount)
	if err := s.ask(ctx, cluster, text, oldest, newest, func(r Row) {
		known[eventKey{strings.Clone(r.Get(fieldUID)), strings.Clone(r.Get(fieldCount))}] = true
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
			}
			left.Lines = append(left.Lines, l)
		}
		if len(left.Lines) > 0 {
			out.Groups = append(out.Groups, left)
		}
	}
	return out, keys, nil
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
