package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/collector/queue"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const (
	// snapshotObjects is how many objects a batch of a snapshot holds at most,
	// some 4 MiB of JSON.
	snapshotObjects = 4000
	// gather is how long changes are gathered before they are sent.
	gather = 200 * time.Millisecond
	// gatherAway is the same while batches wait on disk: a day without the server
	// then is some ten thousand files. A kill loses as much of what was seen.
	gatherAway = 5 * time.Second
	// sameTime is how far apart changes may be and still be told with one time.
	sameTime = 5 * time.Second
	// maxPending bounds the changes that wait in memory; beyond it a new snapshot
	// is cheaper.
	maxPending = 20_000
	// sessionMin is how long a session lasts for the next one to begin at once.
	sessionMin = time.Minute
)

// ClusterFacts is what a state source may know of the cluster beside its
// objects: its kind as detected and its version. Either may be empty.
type ClusterFacts interface {
	ClusterFacts() (kind, version string)
}

// Inventory reports the objects of a state source to the server: a snapshot,
// then changes. It must be fed by Note from the source's changes.
//
// Batches go one by one and in order. What the server does not take at once waits
// on disk, with all that comes after it, so that states which objects had while
// the server was away, or while this process was, are in its history too.
type Inventory struct {
	Client *Client      // required
	Source state.Source // required
	Queue  *queue.Queue // required; nobody else may use it
	Logger *slog.Logger
	Now    func() time.Time
	// ClockOffset is by how much this clock is ahead of the server's, if known;
	// Unchecked says that what Now gives may be wrong by it. Default never.
	ClockOffset func() (time.Duration, bool)
	Unchecked   func() bool
	// SettleFor, default 1 s: how often is looked whether the first complete list is there.
	SettleFor time.Duration

	mu       sync.Mutex
	pending  []state.Change
	overflow bool
	session  string // that is recorded now
	dead     string // one that the server does not know: what is left of it is of no use
	wake     chan struct{}
	renew    chan struct{} // the session must end, since the server missed something of it
	stored   chan struct{} // a batch went to disk
	once     sync.Once

	sending sync.Mutex // one batch at a time
}

func (v *Inventory) init() {
	v.once.Do(func() {
		v.wake, v.renew, v.stored = make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
		if v.Logger == nil {
			v.Logger = slog.New(slog.DiscardHandler)
		}
		if v.Now == nil {
			v.Now = time.Now
		}
		if v.ClockOffset == nil {
			v.ClockOffset = func() (time.Duration, bool) { return 0, false }
		}
		if v.Unchecked == nil {
			v.Unchecked = func() bool { return false }
		}
		if v.SettleFor == 0 {
			v.SettleFor = time.Second
		}
	})
}

// Note takes a change; it does not wait.
func (v *Inventory) Note(ch state.Change) {
	v.init()
	v.mu.Lock()
	if len(v.pending) >= maxPending {
		v.overflow, v.pending = true, nil
	}
	if !v.overflow {
		v.pending = append(v.pending, ch)
	}
	v.mu.Unlock()
	signal(v.wake)
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// Run records and sends until ctx ends. What was not acknowledged then is on
// disk. Whenever the server missed something, a new session begins with a
// snapshot.
func (v *Inventory) Run(ctx context.Context) error {
	v.init()
	var g errgroup.Group
	g.Go(func() error { v.sendStored(ctx); return nil })
	g.Go(func() error { v.record(ctx); return nil })
	return g.Wait()
}

// Health says what waits.
func (v *Inventory) Health() wire.QueueHealth { return healthOf(v.Queue) }

func (v *Inventory) record(ctx context.Context) {
	for !v.Source.Snapshot().Synced {
		if !sleep(ctx, v.SettleFor) {
			return
		}
	}
	var wait backoff
	for ctx.Err() == nil {
		began := v.Now()
		if err := v.recordSession(ctx); err != nil {
			v.Logger.Info("a new inventory session begins", "because", err)
		}
		if v.Now().Sub(began) > sessionMin {
			wait = backoff{}
		}
		if !sleep(ctx, wait.next(nil)) {
			return
		}
	}
}

// recordSession hands over a snapshot and then changes, until ctx ends or there
// is a reason for another snapshot.
func (v *Inventory) recordSession(ctx context.Context) error {
	id, sequence := ulid.Make().String(), uint64(0)
	// Changes from here on are in the snapshot or come after it; those that are
	// in both are sent twice, which does no harm.
	v.mu.Lock()
	v.pending, v.overflow, v.session = nil, false, id
	v.mu.Unlock()
	select {
	case <-v.renew: // it was about the session before
	default:
	}
	put := func(b *wire.InventoryBatch) {
		sequence++
		b.Session, b.Sequence = id, sequence
		if facts, ok := v.Source.(ClusterFacts); ok {
			b.ClusterKind, b.ClusterVersion = facts.ClusterFacts()
		}
		v.put(ctx, b)
	}
	for _, b := range snapshotBatches(v.Source.Snapshot(), v.Now()) {
		put(b)
	}
	for {
		select {
		case <-v.renew:
			return errors.New("server missed something of the one before")
		case <-v.wake:
		case <-ctx.Done():
		}
		for_ := gather
		if n, _, _, _ := v.Queue.Stats(); n > 0 {
			for_ = gatherAway
		}
		ended := !sleep(ctx, for_)
		v.mu.Lock()
		changes, overflow := v.pending, v.overflow
		v.pending = nil
		v.mu.Unlock()
		for len(changes) > 0 {
			n := together(changes)
			put(changeBatch(changes[:n]))
			changes = changes[n:]
		}
		switch {
		case ended:
			return nil
		case overflow:
			return errors.New("more changes than can wait")
		}
	}
}

// put sends a batch, or leaves it on disk: behind those that wait already, when
// the attempt takes long, and when it fails.
func (v *Inventory) put(ctx context.Context, b *wire.InventoryBatch) {
	raw, err := json.Marshal(b)
	if err != nil {
		v.Logger.Error("encode inventory", "err", err) // the server will miss it, and say so
		return
	}
	s := &sealed{body: v.Client.zstd.EncodeAll(raw, nil), item: queue.Item{
		First: b.Time, Last: b.Time, Samples: len(b.Objects()) + len(b.Deleted), Unchecked: v.Unchecked(),
	}}
	if n, _, _, _ := v.Queue.Stats(); n > 0 || ctx.Err() != nil {
		v.store(s)
		return
	}
	v.sending.Lock()
	defer v.sending.Unlock()
	done := make(chan error, 1)
	item := s.item // store gives s another
	go func() { done <- v.attempt(ctx, item, s.body) }()
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err = <-done:
	case <-timer.C:
		v.store(s)
		err = <-done // ends by its own timeout or with ctx
	}
	switch {
	case err == nil && s.onDisk:
		v.Queue.Done(s.item)
	case err == nil:
	case final(err):
		v.refuse(s, err)
	case !s.onDisk:
		v.store(s)
	}
}

// store brings a batch to disk. Where that fails the server misses it.
func (v *Inventory) store(s *sealed) {
	item, err := v.Queue.Put(s.item, s.body)
	if err != nil {
		v.Logger.Error("inventory batch lost", "objects", s.item.Samples, "err", err)
		return
	}
	s.item, s.onDisk = item, true
	signal(v.stored)
}

func (v *Inventory) refuse(s *sealed, err error) {
	v.Logger.Warn("server refused inventory for good", "objects", s.item.Samples, "at", s.item.Last, "err", err)
	if s.onDisk {
		v.Queue.Drop(s.item, queue.DropRefused)
	} else {
		v.Queue.Count(s.item, queue.DropRefused)
	}
}

// sendStored sends what is on disk, oldest first.
func (v *Inventory) sendStored(ctx context.Context) {
	var wait backoff
	for ctx.Err() == nil {
		item, ok := v.Queue.Oldest()
		if !ok {
			select {
			case <-ctx.Done():
			case <-v.stored:
			}
			continue
		}
		v.sending.Lock()
		err := v.sendOne(ctx, item)
		v.sending.Unlock()
		if err == nil {
			wait = backoff{}
			continue
		}
		if !sleep(ctx, wait.next(err)) {
			return
		}
	}
}

// sendOne gives nil when the batch is off the disk, for good or for bad.
func (v *Inventory) sendOne(ctx context.Context, item queue.Item) error {
	body, err := v.Queue.Read(item)
	if errors.Is(err, fault.ErrNotFound) {
		return nil // an attempt that had seemed to hang brought it after all
	}
	if err != nil {
		v.Logger.Warn("queued inventory dropped", "err", err)
		return nil
	}
	switch err = v.attempt(ctx, item, body); {
	case err == nil:
		v.Queue.Done(item)
	case final(err):
		v.refuse(&sealed{item: item, onDisk: true}, err)
		err = nil
	}
	return err
}

// attempt sends one batch. Where the server says that it misses one before it,
// which was given up, it is told so, and takes the rest of the session.
func (v *Inventory) attempt(ctx context.Context, item queue.Item, body []byte) error {
	if _, known := v.ClockOffset(); item.Unchecked && !known {
		if err := v.Client.askTime(ctx); err != nil {
			return err
		}
	}
	v.mu.Lock()
	dead := v.dead
	v.mu.Unlock()
	off, known := v.ClockOffset()
	restamp := item.Unchecked && known && off.Abs() > wrongClock
	if restamp || dead != "" {
		b, err := unseal(body)
		if err != nil {
			return err
		}
		if b.Session == dead {
			return &refusal{status: http.StatusConflict, text: "the session's beginning is missing", kind: fault.ErrConflict}
		}
		if restamp {
			b.Time = b.Time.Add(-off)
			if body, err = v.reseal(b); err != nil {
				return err
			}
		}
	}
	err := v.post(ctx, body)
	if !errors.Is(err, fault.ErrConflict) {
		return err
	}
	b, uerr := unseal(body)
	if uerr != nil {
		return uerr
	}
	if !b.Snapshot {
		b.Gap = true
		gapped, rerr := v.reseal(b)
		if rerr != nil {
			return rerr
		}
		if err = v.post(ctx, gapped); err != nil && !final(err) {
			return err
		}
	}
	v.mu.Lock()
	if err != nil {
		v.dead = b.Session
	}
	mine := b.Session == v.session
	v.mu.Unlock()
	if mine {
		signal(v.renew) // what the gap held is in the next snapshot
	}
	return err
}

func (v *Inventory) post(ctx context.Context, body []byte) error {
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Encoding", "zstd")
	_, _, err := v.Client.do(ctx, http.MethodPost, v.Client.URL(wire.PathInventory), h, body)
	return err
}

func (v *Inventory) reseal(b *wire.InventoryBatch) ([]byte, error) {
	raw, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode inventory: %w", err)
	}
	return v.Client.zstd.EncodeAll(raw, nil), nil
}

// unseal reads a batch that was sealed here. One that cannot be read will never
// be, so the error is final.
func unseal(body []byte) (*wire.InventoryBatch, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(wire.MaxInventoryBatchBytes), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	raw, err := d.DecodeAll(body, nil)
	var b wire.InventoryBatch
	if err == nil {
		err = json.Unmarshal(raw, &b)
	}
	if err != nil {
		return nil, &refusal{status: http.StatusBadRequest, text: "queued batch is damaged: " + err.Error(), kind: fault.ErrMalformed}
	}
	return &b, nil
}

// together is how many of the first changes go as one batch, which has one time:
// those that waited for hours keep their own.
func together(changes []state.Change) int {
	n := 1
	for n < len(changes) && n < snapshotObjects && changes[n].At.Sub(changes[0].At) <= sameTime {
		n++
	}
	return n
}

// snapshotBatches splits a snapshot, kinds in the order of object.Kinds.
func snapshotBatches(s *state.Snapshot, at time.Time) []*wire.InventoryBatch {
	b := &wire.InventoryBatch{Time: at, Snapshot: true}
	batches := []*wire.InventoryBatch{b}
	n := 0
	put := func(o object.Object) {
		if n == snapshotObjects {
			b = &wire.InventoryBatch{Time: at, Snapshot: true}
			batches, n = append(batches, b), 0
		}
		b.Put(o)
		n++
	}
	for _, o := range s.Namespaces {
		put(o)
	}
	for _, o := range s.Nodes {
		put(o)
	}
	for _, o := range s.Workloads {
		put(o)
	}
	for _, o := range s.Services {
		put(o)
	}
	for _, o := range s.Pods {
		put(o)
	}
	b.Last = true
	return batches
}

// changeBatch makes one batch of changes: the newest word on each object. An
// object whose name moved to another UID is both deleted and there.
func changeBatch(changes []state.Change) *wire.InventoryBatch {
	b := &wire.InventoryBatch{}
	type id struct {
		kind object.Kind
		uid  string
	}
	last := map[id]int{}
	of := func(c state.Change) id {
		o := c.Now
		if o == nil {
			o = c.Before
		}
		return id{o.Kind(), o.GetMeta().UID}
	}
	for i, c := range changes {
		last[of(c)] = i
		if c.At.After(b.Time) {
			b.Time = c.At
		}
	}
	for i, c := range changes {
		if last[of(c)] != i {
			continue
		}
		if c.Now != nil {
			b.Put(c.Now)
		} else {
			b.Deleted = append(b.Deleted, wire.Deleted{Key: object.KeyOf(c.Before), UID: c.Before.GetMeta().UID})
		}
	}
	return b
}
