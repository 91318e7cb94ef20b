package logs

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
	"golang.org/x/sync/semaphore"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/logs/remote"
)

// Rows that a VictoriaLogs elsewhere keeps are committed in groups, too, but a
// commit is a request, and then a look: an engine shows rows about a second after
// it took them, and a batch is acknowledged when all its rows are seen. So what
// was acknowledged is found, watermarks and tails can rely on it as on the embedded
// store, and what the engine dropped without a word is known and counted.
//
// Nothing is stored twice: a request without a good answer may have been carried
// out, so its batches are looked for before they are sent again, and that not
// before the engine would show them (Options.Settle); so is everything after a start.
//
// What remains is the engine's: it writes rows to its disk some seconds after it
// took them (-inmemoryDataFlushInterval), and a kill of it within these loses them,
// acknowledged or not. A batch of more than about 1.75 MB lies in several of its
// buffers, of which a kill may spare some; what came of it counts as the whole.

const (
	// lookEvery is how often it is looked whether an engine shows a group. A look
	// waits somewhat longer than Options.Settle for the next row to show.
	lookEvery = 200 * time.Millisecond
	lookChunk = 1000 // batches that one question names
	// maxSending bounds the commits under way; each takes a second or so.
	maxSending = 8
	// maxTries is how often a batch of which nothing is shown is sent by its sender
	// until it counts as dropped. What is fresh no engine drops for its age, so that
	// kills in a row are the likelier reason, and it is sent more often.
	maxTries, maxFreshTries, freshFor = 3, 20, time.Hour
	// maxUnsure bounds the batches of a sender that are remembered as such. The others
	// are asked for, too, as they are below the floor, and only tried for longer.
	maxUnsure  = 64
	aliveEvery = 5 * time.Second
	// closeWithin is how long the last commits may take.
	closeWithin = 15 * time.Second
)

// far is what a store has where the rows are elsewhere.
type far struct {
	client  *remote.Client
	opened  time.Time
	slots   *semaphore.Weighted
	sending sync.WaitGroup
	known   atomic.Bool // which tenants of the engine are ours
}

func newFar(c *remote.Client, now time.Time) *far {
	return &far{client: c, opened: now, slots: semaphore.NewWeighted(maxSending)}
}

// unsure is a batch that was sent and of which it is not known whether it is kept.
type unsure struct {
	at    time.Time
	tries int
}

// unsureLocked notes a batch without a good answer.
func (sd *sender) unsureLocked(id batchID, newest int64, now time.Time) (tries int) {
	u := sd.unsure[id]
	u.tries++
	u.at = now
	sd.floor = max(sd.floor, newest) // so that it is asked for when it is forgotten here
	if sd.unsure == nil {
		sd.unsure = map[batchID]unsure{}
	}
	if len(sd.unsure) >= maxUnsure {
		clear(sd.unsure)
	}
	sd.unsure[id] = u
	return u.tries
}

func triesOf(newest int64, now time.Time) int {
	if now.UnixNano()-newest < int64(freshFor) {
		return maxFreshTries
	}
	return maxTries
}

// settled waits until the engine shows what it has of a batch, or of all batches
// after a start. The caller holds the sender's lock.
func (s *Store) settled(ctx context.Context, sd *sender, id batchID) error {
	if s.far == nil {
		return nil
	}
	var since time.Time
	if !sd.loaded {
		since = s.far.opened
	}
	if u, ok := sd.unsure[id]; ok && u.at.After(since) {
		since = u.at
	}
	if since.IsZero() {
		return nil
	}
	return s.untilSettled(ctx, since)
}

// untilSettled waits until the engine shows what it took before a time.
func (s *Store) untilSettled(ctx context.Context, since time.Time) error {
	wait := s.opts.Settle - s.opts.Now().Sub(since)
	if wait <= 0 {
		return nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-s.closing.Done():
		return fmt.Errorf("log store is closing: %w", fault.ErrUnavailable)
	}
}

// sendGroup sends the current group in the background.
func (s *Store) sendGroup() {
	g, release := s.takeGroup()
	release() // nothing has to stand still
	if len(g.entries) == 0 {
		return
	}
	if err := s.far.slots.Acquire(context.Background(), 1); err != nil {
		panic("BUG: a context without an end has ended")
	}
	s.far.sending.Go(func() {
		defer s.far.slots.Release(1)
		s.send(g)
	})
}

// send makes the engine keep a group, and wakes who waits for it.
func (s *Store) send(g *group) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer context.AfterFunc(s.closing, func() {
		t := time.NewTimer(closeWithin)
		defer t.Stop()
		select {
		case <-t.C:
			cancel()
		case <-ctx.Done():
		}
	})()
	began := time.Now()
	failed := s.insert(ctx, g.entries)
	var sent []*entry
	for i := range g.entries {
		g.entries[i].far = nil // the engine has it
		if failed[i] == nil {
			sent = append(sent, &g.entries[i])
		}
	}
	shown, err := s.look(ctx, sent)
	s.metrics.commitSeconds.Observe(time.Since(began).Seconds())
	s.metrics.commitPasses.Inc()
	s.settle(g, func(i int, e *entry) (int, string, error) {
		rows := min(e.rows, shown[e.arrival.batch])
		switch now := s.opts.Now(); {
		case failed[i] != nil:
			e.sender.unsureLocked(e.id, e.arrival.newest, now)
			return 0, "", failed[i]
		case rows > 0: // the rest is what the engine dropped
		case err != nil:
			e.sender.unsureLocked(e.id, e.arrival.newest, now)
			return 0, "", err
		case e.sender.unsureLocked(e.id, e.arrival.newest, now) < triesOf(e.arrival.newest, now):
			return 0, "", fmt.Errorf("the remote log engine took a batch and does not show it: %w", fault.ErrUnavailable)
		}
		delete(e.sender.unsure, e.id)
		if rows < e.rows {
			s.log.Warn("the remote log engine took lines and does not show them: see whether its -retentionPeriod is as long as this server's, and its -futureRetention at least a day",
				"cluster", e.arrival.cluster, "lines", e.rows-rows, "oldest", time.Unix(0, e.arrival.oldest).UTC())
		}
		return rows, droppedByEngine, nil
	})
}

// insert sends the rows of the entries, and gives the error of each.
func (s *Store) insert(ctx context.Context, entries []entry) []error {
	failed := make([]error, len(entries))
	for from := 0; from < len(entries); {
		to, size := from, 0
		for to < len(entries) && (to == from || size+len(entries[to].far) <= remote.MaxInsertBytes) {
			size += len(entries[to].far)
			to++
		}
		body := entries[from].far
		if to > from+1 {
			body = make([]byte, 0, size)
			for _, e := range entries[from:to] {
				body = append(body, e.far...)
			}
		}
		err := s.insertRows(ctx, body)
		for i := from; i < to; i++ {
			failed[i] = err
		}
		s.reached(err)
		from = to
	}
	return failed
}

// insertRows sends rows by as many requests as they need: normally one.
func (s *Store) insertRows(ctx context.Context, rows []byte) error {
	for len(rows) > remote.MaxInsertBytes {
		var row logstorage.InsertRow
		rest := rows
		for len(rows)-len(rest) < remote.MaxInsertBytes/2 {
			var err error
			if rest, err = row.UnmarshalInplace(rest); err != nil {
				return fmt.Errorf("BUG: rows that were written cannot be read: %w", err)
			}
		}
		if err := s.far.client.Insert(ctx, rows[:len(rows)-len(rest)]); err != nil {
			return err
		}
		rows = rest
	}
	return s.far.client.Insert(ctx, rows)
}

// look waits until the engine shows all rows of the entries, and gives how many it
// shows of each batch. An error means that it could not be asked.
func (s *Store) look(ctx context.Context, entries []*entry) (shown map[string]int, err error) {
	shown = map[string]int{}
	missing := entries
	for progress := time.Now(); len(missing) > 0 && time.Since(progress) < s.opts.Settle+time.Second; {
		t := time.NewTimer(lookEvery)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return shown, context.Cause(ctx)
		}
		var left []*entry
		err = nil
		for len(missing) > 0 {
			n := min(len(missing), lookChunk)
			some := missing[:n]
			missing = missing[n:]
			if askErr := s.lookOnce(ctx, some, shown, &progress); askErr != nil {
				err = askErr
			}
			for _, e := range some {
				if shown[e.arrival.batch] < e.rows {
					left = append(left, e)
				}
			}
		}
		missing = left
	}
	if len(missing) == 0 {
		return shown, nil
	}
	return shown, err
}

// lookOnce asks how many rows there are of each of some batches.
func (s *Store) lookOnce(ctx context.Context, some []*entry, shown map[string]int, progress *time.Time) error {
	var text strings.Builder
	text.WriteString(fieldBatch + ":in(")
	oldest, newest := int64(math.MaxInt64), int64(math.MinInt64)
	ids := map[logstorage.TenantID]bool{}
	var clusters []string
	for i, e := range some {
		if i > 0 {
			text.WriteByte(',')
		}
		text.WriteString(strconv.Quote(e.arrival.batch))
		oldest, newest = min(oldest, e.arrival.oldest), max(newest, e.arrival.newest)
		if id := tenantOf(e.arrival.cluster); !ids[id] {
			ids[id] = true
			clusters = append(clusters, e.arrival.cluster)
		}
	}
	// An engine shows a new stream's rows to some queries before it shows the stream,
	// and with it the rows, to all: so rows are counted that have one.
	text.WriteString(") | stats by (" + fieldBatch + ") count(_stream) n")
	q, err := logstorage.ParseQueryAtTimestamp(text.String(), s.opts.Now().UnixNano())
	if err != nil {
		return err
	}
	q.AddTimeFilter(oldest, newest)
	// Not by run: the store may be closing, and this is its last commit.
	var mu sync.Mutex
	qctx := logstorage.NewQueryContext(ctx, &logstorage.QueryStats{}, s.scope(clusters), q, false, nil)
	err = guard("look for batches", func() error {
		return s.db.RunQuery(qctx, func(_ uint, db *logstorage.DataBlock) {
			mu.Lock()
			defer mu.Unlock()
			_ = eachRow(db, func(_ int, r Row) error { // the callback has no error
				n, err := strconv.Atoi(r.Get("n"))
				if batch := strings.Clone(r.Get(fieldBatch)); err == nil && n > shown[batch] {
					shown[batch] = n
					*progress = time.Now()
				}
				return nil
			})
		})
	})
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// reached notes whether the engine takes writes.
func (s *Store) reached(err error) {
	was := s.space.unwritable.Load()
	switch {
	case err != nil:
		err = fmt.Errorf("log store is read-only: %w", err)
		s.space.unwritable.Store(&err)
		if was == nil {
			s.log.Warn("remote log engine is away", "err", err)
		}
	case was != nil:
		s.space.unwritable.Store(nil)
		s.log.Info("remote log engine is reached again")
	}
}

// watchFar asks, until the store closes, whether the engine is there, and first
// which clusters it has.
func (s *Store) watchFar() {
	defer close(s.watched)
	tick := time.NewTicker(aliveEvery)
	defer tick.Stop()
	for {
		select {
		case <-s.closing.Done():
			return
		case <-tick.C:
		}
		s.askFar()
	}
}

// askFar finds out whether the engine is there and what it has of ours.
func (s *Store) askFar() {
	ctx, cancel := context.WithTimeout(s.closing, aliveEvery)
	defer cancel()
	err := s.far.client.Alive(ctx)
	if err == nil && !s.far.known.Load() {
		err = s.loadFarTenants(ctx)
	}
	if s.closing.Err() == nil {
		s.reached(err)
	}
}

// loadFarTenants finds which of the engine's tenants are ours: those whose streams
// name a cluster of which the tenant is the hash. Others may use the engine, too.
func (s *Store) loadFarTenants(ctx context.Context) error {
	all, err := s.db.GetTenantIDs(ctx, 0, math.MaxInt64)
	if err != nil {
		return err
	}
	if len(all) > 0 {
		q, err := logstorage.ParseQueryAtTimestamp("*", s.opts.Now().UnixNano())
		if err != nil {
			return err
		}
		have := map[logstorage.TenantID]bool{}
		for _, id := range all {
			have[id] = true
		}
		names, err := s.db.GetStreamFieldValues(logstorage.NewQueryContext(ctx, &logstorage.QueryStats{}, sortTenants(all), q, false, nil), "cluster", "", 0)
		if err != nil {
			return err
		}
		for _, name := range names {
			if id := tenantOf(name.Value); have[id] {
				s.tenants.add(id)
			}
		}
	}
	s.far.known.Store(true)
	return nil
}

// knows is an error while a question about all clusters cannot be answered in full.
func (s *Store) knows(clusters []string) error {
	if s.far == nil || clusters != nil || s.far.known.Load() {
		return nil
	}
	return fmt.Errorf("query logs: the remote log engine has not said yet which clusters it has: %w", fault.ErrUnavailable)
}

// checkFarFolder makes the folder of a store whose rows are elsewhere.
func checkFarFolder(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("make the folder: %w", err)
	}
	if err := writeProbe(dir); err != nil {
		return fmt.Errorf("the folder is not writable: %w", err)
	}
	return nil
}

// refused says that the engine does not do what it was asked.
func refused(err error) bool {
	var r *remote.Refusal
	return errors.As(err, &r)
}
