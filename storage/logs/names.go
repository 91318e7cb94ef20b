package logs

import (
	"hash/maphash"
	"slices"
	"sync"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// The library makes blocks of some MiB of the neighbouring rows that a stream has in a day.
// Of a block whose rows have more than 2,000 names of fields it leaves out the rows from
// there on, when it writes one and whenever it merges some: lines that were acknowledged
// would go. So a stream has a bounded number of names in a day, and fields with further
// ones (an id as a key of JSON) stand together in one.

const (
	// maxStreamNames leaves room for two further lives of the server, or of what it
	// remembers, within a block: each knows nothing of the names before it.
	maxStreamNames = 600
	// maxNamedStreams and maxNames bound the memory: some 20 MiB where streams have 20 names,
	// and some 100 MiB at most.
	maxNamedStreams = 50_000
	maxNames        = 2_000_000
	// fieldMore is a JSON object of the fields that have no room of their own.
	fieldMore = "more_fields"
)

// streamDay tells a stream, by its hash, and a UTC day.
type streamDay struct {
	stream uint64
	day    int64
}

// streamNames are the names of fields that streams have.
type streamNames struct {
	seed        maphash.Seed
	mu          sync.Mutex
	now, before map[streamDay][]uint64 // sorted hashes; what was not used since now began goes with before
	names       int                    // in now
}

func newStreamNames() streamNames { return streamNames{seed: maphash.MakeSeed()} }

// of gives the key of a stream, in the library's form, at a time.
func (n *streamNames) of(canonical string, nanos int64) streamDay {
	return streamDay{maphash.String(n.seed, canonical), nanos / int64(day)}
}

// bound gives a line's fields with no more names than its stream may have, in place, and
// of how many fields it made one.
func (n *streamNames) bound(fields []logstorage.Field, of streamDay) (out []logstorage.Field, together int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	known, ok := n.now[of]
	if !ok {
		if len(n.now) >= maxNamedStreams || n.names >= maxNames || n.now == nil {
			n.before, n.now, n.names = n.now, map[streamDay][]uint64{}, 0
		}
		known = n.before[of]
		n.names += len(known)
	}
	var more []logstorage.Field
	out = fields[:0]
	for _, f := range fields {
		h := maphash.String(n.seed, f.Name)
		switch i, has := slices.BinarySearch(known, h); {
		case has:
		case len(known) < maxStreamNames:
			known = slices.Insert(known, i, h)
			n.names++
		default:
			more = append(more, f)
			continue
		}
		out = append(out, f)
	}
	n.now[of] = known
	if len(more) > 0 {
		out = append(out, logstorage.Field{Name: fieldMore, Value: string(logstorage.MarshalFieldsToJSON(nil, more))})
	}
	return out, len(more)
}
