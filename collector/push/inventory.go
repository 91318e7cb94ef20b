package push

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

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
	// sameTime is how far apart changes may be and still be told with one time.
	sameTime = 5 * time.Second
	// maxPending bounds the changes that wait; beyond it a new snapshot is cheaper.
	maxPending = 20_000
)

// ClusterFacts is what a state source may know of the cluster beside its
// objects: its kind as detected and its version. Either may be empty.
type ClusterFacts interface {
	ClusterFacts() (kind, version string)
}

// Inventory reports the objects of a state source to the server: a snapshot,
// then changes. It must be fed by Note from the source's changes.
type Inventory struct {
	Client *Client
	Source state.Source
	Logger *slog.Logger
	Now    func() time.Time
	// SettleFor, default 1 s: how often is looked whether the first complete list is there.
	SettleFor time.Duration

	mu       sync.Mutex
	pending  []state.Change
	overflow bool
	wake     chan struct{}
	once     sync.Once
}

func (v *Inventory) init() {
	v.once.Do(func() {
		v.wake = make(chan struct{}, 1)
		if v.Logger == nil {
			v.Logger = slog.New(slog.DiscardHandler)
		}
		if v.Now == nil {
			v.Now = time.Now
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
	select {
	case v.wake <- struct{}{}:
	default:
	}
}

// Run sends until ctx ends. Whenever the server missed something, or took no
// part for long, a new session begins with a snapshot.
func (v *Inventory) Run(ctx context.Context) error {
	v.init()
	for !v.Source.Snapshot().Synced {
		if !sleep(ctx, v.SettleFor) {
			return nil
		}
	}
	var wait backoff
	for ctx.Err() == nil {
		err := v.session(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, fault.ErrConflict):
			v.Logger.Info("server missed inventory, a new session begins", "err", err)
		case err != nil:
			v.Logger.Warn("inventory session ended", "err", err)
		}
		if !sleep(ctx, wait.next(err)) {
			return nil
		}
	}
	return nil
}

// session sends a snapshot and then changes, until something goes wrong.
func (v *Inventory) session(ctx context.Context) error {
	id := ulid.Make().String()
	sequence := uint64(0)
	send := func(b *wire.InventoryBatch) error {
		sequence++
		b.Session, b.Sequence = id, sequence
		if facts, ok := v.Source.(ClusterFacts); ok {
			b.ClusterKind, b.ClusterVersion = facts.ClusterFacts()
		}
		raw, err := json.Marshal(b)
		if err != nil {
			return fmt.Errorf("encode inventory: %w", err)
		}
		if err := retry(ctx, func() error { return v.Client.postJSON(ctx, wire.PathInventory, raw) }); err != nil {
			return fmt.Errorf("send inventory: %w", err)
		}
		return nil
	}
	// Changes from here on are in the snapshot or come after it; those that are
	// in both are sent twice, which does no harm.
	v.mu.Lock()
	v.pending, v.overflow = nil, false
	v.mu.Unlock()
	now := v.Source.Snapshot()
	for _, b := range snapshotBatches(now, v.Now()) {
		if err := send(b); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-v.wake:
		}
		if !sleep(ctx, gather) {
			return nil
		}
		v.mu.Lock()
		changes, overflow := v.pending, v.overflow
		v.pending = nil
		v.mu.Unlock()
		if overflow {
			return errors.New("more changes than can wait")
		}
		for len(changes) > 0 {
			n := together(changes)
			if err := send(changeBatch(changes[:n])); err != nil {
				return err
			}
			changes = changes[n:]
		}
	}
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
