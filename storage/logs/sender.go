package logs

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const (
	// recentBatches is how many batches of a sender are remembered. More than
	// that cost a query at a resend, never a double.
	recentBatches = 512
	// maxSenders bounds the memory of all; who is forgotten is asked about again.
	maxSenders = 20_000
	// untimedAgain is for how long a batch of lines without times is the same when it
	// comes again: agents repeat a request for some 10 min. After that it is another of
	// the same words.
	untimedAgain = 15 * time.Minute
)

// senders remembers which batches are stored, so that each is stored once.
type senders struct {
	mu    sync.Mutex
	byKey map[senderKey]*sender
}

type senderKey struct{ cluster, name string }

// sender is what is known about the batches of one sender.
//
// A batch is told by its id. To know all ids of 90 days would be too much, so
// there is a floor, in the time of the lines themselves: every stored batch whose
// newest line is later than floor is in recent. One at or before it may or may not
// be stored, which a query over the batch's own few seconds finds out.
type sender struct {
	mu      sync.Mutex
	loaded  bool  // floor is known
	floor   int64 // Unix nanoseconds
	recent  []stored
	pending map[batchID]*group // added, not durable yet
	unsure  map[batchID]unsure // sent to an engine elsewhere, with no good answer
	used    time.Time

	eventsNow, eventsBefore map[eventKey]bool // that were added, the newest in the first
}

type batchID [16]byte

func idOf(id string) batchID {
	h := sha256.Sum256([]byte(id))
	return batchID(h[:16])
}

// batchKey tells a batch from all others of the store.
func batchKey(cluster, sender, id string) string { return cluster + "/" + sender + "/" + id }

type stored struct {
	id     batchID
	newest int64 // time of the batch's newest line
}

// get gives the state of a sender, forgetting the one that was used longest ago
// when there are too many.
func (ss *senders) get(cluster, name string, now time.Time) *sender {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	if ss.byKey == nil {
		ss.byKey = map[senderKey]*sender{}
	}
	key := senderKey{cluster, name}
	sd := ss.byKey[key]
	if sd == nil {
		if len(ss.byKey) >= maxSenders {
			ss.forgetLocked()
		}
		sd = &sender{pending: map[batchID]*group{}}
		ss.byKey[key] = sd
	}
	sd.used = now
	return sd
}

// forgetLocked drops the sender that was idle for longest. One with something
// pending, or in use at this moment, is kept.
func (ss *senders) forgetLocked() {
	var oldest senderKey
	var at time.Time
	for key, sd := range ss.byKey {
		if (at.IsZero() || sd.used.Before(at)) && sd.idle() {
			oldest, at = key, sd.used
		}
	}
	delete(ss.byKey, oldest)
}

// forget drops the senders of a cluster whose rows are deleted: what they sent is
// not there any more.
func (ss *senders) forget(cluster string) {
	ss.mu.Lock()
	defer ss.mu.Unlock()
	for key, sd := range ss.byKey {
		if key.cluster == cluster && sd.idle() {
			delete(ss.byKey, key)
		}
	}
}

func (sd *sender) idle() bool {
	if !sd.mu.TryLock() {
		return false
	}
	defer sd.mu.Unlock()
	return len(sd.pending) == 0
}

// hasLocked says whether a batch is remembered whose newest line is not before from.
func (sd *sender) hasLocked(id batchID, from int64) bool {
	for _, r := range sd.recent {
		if r.id == id && r.newest >= from {
			return true
		}
	}
	return false
}

// storedLocked notes a batch that is durable now.
func (sd *sender) storedLocked(id batchID, newest int64) {
	delete(sd.pending, id)
	if newest <= sd.floor {
		return // asked for at the store anyway
	}
	if len(sd.recent) < recentBatches {
		sd.recent = append(sd.recent, stored{id, newest})
		return
	}
	// The one with the oldest lines makes room: it raises the floor least.
	oldest := 0
	for i, r := range sd.recent {
		if r.newest < sd.recent[oldest].newest {
			oldest = i
		}
	}
	if newest <= sd.recent[oldest].newest {
		sd.floor = max(sd.floor, newest)
		return
	}
	sd.floor = max(sd.floor, sd.recent[oldest].newest)
	sd.recent[oldest] = stored{id, newest}
}

// loadLocked reads back the floor at first contact: what an earlier life of the
// server stored of this sender has lines from before now, or, when the sender's
// clock runs ahead, up to the newest of its lines after now.
func (s *Store) loadLocked(ctx context.Context, sd *sender, cluster, name string) error {
	now := s.opts.Now().UnixNano()
	floor := now
	err := s.ask(ctx, cluster, fmt.Sprintf("%s:=%q | stats max(_time) newest", fieldSender, name), now, math.MaxInt64, func(r Row) {
		if t, err := time.Parse(time.RFC3339Nano, r.Get("newest")); err == nil {
			floor = max(floor, t.UnixNano())
		}
	})
	if err != nil {
		return fmt.Errorf("read back the newest line of sender %s: %w", name, err)
	}
	sd.floor, sd.loaded = floor, true
	return nil
}

// untimedID is the beginning of the id by which a batch without times is kept, which its
// time ends: the same words may be kept more than once.
func untimedID(id string) string { return id + "@" }

// isStored asks the store for a batch. All its rows lie within the given time, and one
// in what the filter of streams, if there is one, finds.
func (s *Store) isStored(ctx context.Context, cluster, of string, b *wire.LogBatch, oldest, newest int64) (bool, error) {
	is := fmt.Sprintf("%s:=%q", fieldBatch, batchKey(cluster, b.Sender, b.ID))
	if b.Untimed {
		is = fmt.Sprintf("%s:=%q*", fieldBatch, batchKey(cluster, b.Sender, untimedID(b.ID)))
	}
	found := false
	err := s.ask(ctx, cluster, of+is+" | fields _time | limit 1", oldest, newest, func(Row) { found = true })
	if err != nil {
		return false, fmt.Errorf("read back batch %s of sender %s: %w", b.ID, b.Sender, err)
	}
	return found, nil
}

// ask runs a query of our own, which sees the hidden fields.
func (s *Store) ask(ctx context.Context, cluster, text string, start, end int64, fn func(Row)) error {
	s.metrics.readBacks.Inc()
	q, err := logstorage.ParseQueryAtTimestamp(text, s.opts.Now().UnixNano())
	if err != nil {
		return err
	}
	q.AddTimeFilter(start, end)
	return s.run(ctx, q, []logstorage.TenantID{tenantOf(cluster)}, nil, func(db *logstorage.DataBlock) error {
		return eachRow(db, func(_ int, r Row) error { fn(r); return nil })
	})
}
