// Package inventory owns the objects of all clusters: the present in memory, and
// every state that they had, with its time, in a SQLite file for as long as the
// data are kept. It must not know policies, metrics or HTTP.
//
// A collector reports in sessions: a snapshot, then changes, each batch with a
// number. A batch is in the file before it is in memory, and both before it is
// acknowledged. After a restart the present is what it was, and the session goes
// on.
package inventory

import (
	"cmp"
	"context"
	"crypto/sha256"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/sqlite"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Options of a store.
type Options struct {
	Path         string                // required; the SQLite file
	Retention    time.Duration         // of states that are past; default 90 days
	TombstoneFor time.Duration         // how long Gone remembers; default 24 h
	Logger       *slog.Logger          // default slog.Default
	Registerer   prometheus.Registerer // nil: metrics are kept but not exported
	Now          func() time.Time      // default time.Now
}

func (o Options) complete() (Options, error) {
	var errs []error
	if o.Path == "" {
		errs = append(errs, errors.New("option Path is required"))
	}
	o.Retention = cmp.Or(o.Retention, 90*24*time.Hour)
	o.TombstoneFor = cmp.Or(o.TombstoneFor, 24*time.Hour)
	if o.Retention < 0 || o.TombstoneFor < 0 {
		errs = append(errs, fmt.Errorf("options Retention and TombstoneFor must be positive, got %s and %s", o.Retention, o.TombstoneFor))
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, errors.Join(errs...)
}

// maxAhead is how far ahead of the server's clock a collector's may be; further
// ahead the server's is taken.
const maxAhead = 2 * time.Minute

// maxOlder is how much older than what is known a snapshot may be. A collector
// that did not lead for a while may have one on disk which is history by now.
const maxOlder = 5 * time.Minute

// maxTombstones bounds what Gone remembers of one cluster; the oldest go first.
const maxTombstones = 50_000

// maxUnlisted is how many changes of a kind, beside an eighth of its list, wait for
// somebody to ask for the list.
const maxUnlisted = 1024

// maxRecent bounds what ChangedSince remembers of one cluster.
const maxRecent = 8192

// Store is an open inventory. All methods may be called concurrently. Objects
// and slices that it hands out are shared: they must not be changed.
type Store struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	db      *sql.DB
	their   *sql.Stmt // theirStates: it is asked for one object after another, and parsing it takes as long as answering
	packer  *packer

	mu       sync.RWMutex
	clusters map[string]*cluster
	changed  chan struct{} // closed at the next change
}

// cluster is the present of one cluster.
type cluster struct {
	name string
	id   int64 // in the file

	// apply is held for the whole of an Apply, its file work included; it guards
	// the session, and shared.
	apply    sync.Mutex
	session  string
	sequence uint64
	complete bool                    // the session's snapshot is
	seen     map[object.Key]struct{} // by the snapshot that is under way
	doubtful bool                    // a write failed: memory and file may differ
	deleted  bool                    // by DeleteCluster; nothing may be added any more
	newest   int64                   // time of the newest batch, Unix milliseconds
	shared   *shared

	// mu guards what readers see. It is taken for the moment of a swap, or of bringing a
	// list up to date, only.
	mu       sync.RWMutex
	info     Info
	present  map[object.Key]entry
	lists    map[object.Kind][]object.Object              // sorted; replaced, never changed
	unlisted map[object.Kind]map[object.Key]object.Object // what changed since in them; nil: it is gone
	byNode   map[string]map[*object.Pod]struct{}          // those of present
	gone     map[object.Key]Tombstone
	nodeList []string     // of the real ones in lists
	recent   []object.Key // that changed last, at least maxRecent of them
	counted  uint64       // how many there were before and with these
}

// entry is an object with what is needed to find out whether it changed.
type entry struct {
	o    object.Object
	row  int64 // in versions
	from int64 // Unix milliseconds
	sum  [16]byte
}

// Info describes a cluster.
type Info struct {
	Kind     string    // managed, independent, elastic, edge; empty when unknown
	Version  string    // of Kubernetes; empty when unknown
	LastSeen time.Time // when the newest batch came, by the server's clock
	Synced   bool      // a snapshot was complete: what is not listed does not exist
	Counts   map[object.Kind]int
}

// Tombstone is an object that was deleted.
type Tombstone struct {
	At   time.Time
	Last object.Object // its last state
}

// Open opens the file, makes it when it is not there, and loads the present.
func Open(opts Options) (*Store, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, fmt.Errorf("open inventory: %w", err)
	}
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, fmt.Errorf("open inventory: %w", err)
	}
	sub, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, fmt.Errorf("open inventory: %w", err)
	}
	// Not Durable: after a power cut the last batches may be gone, and the sender
	// is told to begin a new session.
	db, err := sqlite.Open(opts.Path, sub)
	if err != nil {
		return nil, fmt.Errorf("open inventory: %w", err)
	}
	their, err := db.Prepare(theirStates)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open inventory: %w", err), db.Close())
	}
	packer, err := newPacker()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open inventory: %w", err), their.Close(), db.Close())
	}
	s := &Store{opts: opts, log: opts.Logger, metrics: m, db: db, their: their, packer: packer, clusters: map[string]*cluster{}, changed: make(chan struct{})}
	if err := s.load(context.Background()); err != nil {
		packer.close()
		return nil, errors.Join(fmt.Errorf("open inventory: %w", err), their.Close(), db.Close())
	}
	return s, nil
}

// Close closes the file. It may be called twice.
func (s *Store) Close() error {
	s.metrics.forget()
	err := errors.Join(s.their.Close(), s.db.Close())
	s.packer.close()
	return err
}

// Run packs states that are over and removes those that are past the retention, once
// at the start and then every hour, until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		packed, err := s.Pack(ctx)
		n, cleanErr := s.Clean(ctx)
		if err = errors.Join(err, cleanErr); err != nil && ctx.Err() == nil {
			s.log.Error("clean inventory", "err", err)
		} else if n > 0 || packed > 0 {
			s.log.Info("cleaned inventory", "removed", n, "packed", packed)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// cleanChunk is how many rows one transaction removes, so that batches do not
// wait long for their turn.
const cleanChunk = 5000

// Clean removes states that ended before the retention, and tombstones that are
// too old. It gives the number of rows removed.
func (s *Store) Clean(ctx context.Context) (removed int64, err error) {
	now := s.opts.Now()
	for _, c := range s.all() {
		c.mu.Lock()
		maps.DeleteFunc(c.gone, func(_ object.Key, t Tombstone) bool { return now.Sub(t.At) > s.opts.TombstoneFor })
		c.mu.Unlock()
	}
	var ids []int64
	if err := s.rows(ctx, func(r *sql.Rows) error {
		var id int64
		err := r.Scan(&id)
		ids = append(ids, id)
		return err
	}, `SELECT id FROM clusters`); err != nil {
		return 0, fmt.Errorf("remove old versions: %w", err)
	}
	for _, id := range ids {
		for _, kind := range object.Kinds {
			// Packed states go when the last of them may.
			for _, table := range []string{"versions", "lives"} {
				n, err := s.remove(ctx, table, `cluster = ? AND kind = ? AND valid_to < ?`, id, kind, now.Add(-s.opts.Retention).UnixMilli())
				removed += n
				if err != nil {
					return removed, fmt.Errorf("remove old versions: %w", err)
				}
			}
		}
	}
	return removed, nil
}

// remove deletes rows in chunks.
func (s *Store) remove(ctx context.Context, table, where string, args ...any) (removed int64, err error) {
	for {
		r, err := s.db.ExecContext(ctx, fmt.Sprintf(`DELETE FROM %[1]s WHERE id IN (SELECT id FROM %[1]s WHERE %[2]s LIMIT %[3]d)`, table, where, cleanChunk), args...)
		if err != nil {
			return removed, err
		}
		n, err := r.RowsAffected()
		if removed += n; err != nil || n < cleanChunk {
			return removed, err
		}
	}
}

// load reads the present and the tombstones of all clusters.
func (s *Store) load(ctx context.Context) error {
	clusters, err := s.read(ctx, "")
	if err != nil {
		return err
	}
	s.clusters = clusters
	return nil
}

// reload makes the file's state of one cluster the present. The caller holds
// c.apply.
func (s *Store) reload(ctx context.Context, c *cluster) error {
	found, err := s.read(ctx, c.name)
	if err != nil {
		return err
	}
	fresh := found[c.name]
	if fresh == nil {
		fresh = newCluster(c.name) // its first batch is not in the file
	}
	c.id, c.session, c.sequence, c.complete, c.seen, c.doubtful, c.newest = fresh.id, fresh.session, fresh.sequence, fresh.complete, nil, false, fresh.newest
	c.shared = fresh.shared
	c.mu.Lock()
	c.info, c.present, c.lists, c.unlisted, c.byNode, c.gone, c.nodeList = fresh.info, fresh.present, fresh.lists, fresh.unlisted, fresh.byNode, fresh.gone, fresh.nodeList
	c.recent, c.counted = nil, c.counted+1 // what differs is not known
	c.mu.Unlock()
	s.announce()
	return nil
}

// read reads one cluster from the file, or all when the name is empty.
func (s *Store) read(ctx context.Context, name string) (map[string]*cluster, error) {
	clusters, byID := map[string]*cluster{}, map[int64]*cluster{}
	err := s.rows(ctx, func(r *sql.Rows) error {
		c := newCluster("")
		var seen int64
		if err := r.Scan(&c.id, &c.name, &c.info.Kind, &c.info.Version, &c.session, &c.sequence, &c.complete, &c.info.Synced, &seen, &c.newest); err != nil {
			return err
		}
		if !c.complete {
			// What the snapshot had named so far is not kept; it has to begin anew.
			c.session = ""
		}
		c.info.LastSeen = time.UnixMilli(seen).UTC()
		clusters[c.name], byID[c.id] = c, c
		return nil
	}, `SELECT id, name, kind, version, session, sequence, complete, synced, last_seen, newest FROM clusters WHERE ?1 = '' OR name = ?1`, name)
	if err != nil {
		return nil, fmt.Errorf("read clusters: %w", err)
	}
	for id, c := range byID {
		if err := s.readObjects(ctx, id, c); err != nil {
			return nil, fmt.Errorf("read objects of cluster %s: %w", c.name, err)
		}
	}
	return clusters, nil
}

func (s *Store) readObjects(ctx context.Context, id int64, c *cluster) error {
	err := s.rows(ctx, func(r *sql.Rows) error {
		var e entry
		var kind object.Kind
		var body []byte
		if err := r.Scan(&e.row, &kind, &e.from, &body); err != nil {
			return err
		}
		body, err := s.packer.unpack(body)
		if err != nil {
			return err
		}
		o, err := decode(kind, body)
		if err != nil {
			return err
		}
		c.shared.share(o)
		e.o, e.sum = o, sumOf(body)
		c.present[object.KeyOf(o)] = e
		return nil
	}, `SELECT id, kind, valid_from, body FROM versions WHERE cluster = ? AND valid_to IS NULL`, id)
	if err != nil {
		return err
	}
	err = s.rows(ctx, func(r *sql.Rows) error {
		var to int64
		var kind object.Kind
		var body []byte
		if err := r.Scan(&kind, &to, &body); err != nil {
			return err
		}
		o, err := s.decode(kind, body)
		if err != nil {
			return err
		}
		c.shared.share(o)
		if key := object.KeyOf(o); c.present[key].o == nil {
			c.gone[key] = Tombstone{At: time.UnixMilli(to).UTC(), Last: o}
		}
		return nil
	}, `SELECT kind, valid_to, body FROM versions WHERE gone = 1 AND valid_to > ? AND cluster = ? ORDER BY valid_to`, s.opts.Now().Add(-s.opts.TombstoneFor).UnixMilli(), id)
	if err != nil {
		return err
	}
	c.index()
	c.shared.trim(c.present)
	return nil
}

func (s *Store) rows(ctx context.Context, each func(*sql.Rows) error, query string, args ...any) error {
	return scan(ctx, s.db, each, query, args...)
}

func newCluster(name string) *cluster {
	c := &cluster{name: name, present: map[object.Key]entry{}, gone: map[object.Key]Tombstone{}, shared: newShared()}
	c.index()
	return c
}

// index makes lists and indexes from present.
func (c *cluster) index() {
	c.lists, c.unlisted, c.byNode = map[object.Kind][]object.Object{}, map[object.Kind]map[object.Key]object.Object{}, map[string]map[*object.Pod]struct{}{}
	for key, e := range c.present {
		c.lists[key.Kind] = append(c.lists[key.Kind], e.o)
		if p, ok := e.o.(*object.Pod); ok {
			c.setNode(nil, p)
		}
	}
	for kind := range c.lists {
		slices.SortFunc(c.lists[kind], byName)
	}
	c.nodeList = realNodes(c.lists[object.KindNode])
	c.info.Counts = make(map[object.Kind]int, len(object.Kinds))
	for _, k := range object.Kinds {
		c.info.Counts[k] = len(c.lists[k])
	}
}

// listLocked brings a kind's list up to date. It is done when somebody asks, since a
// new list of all pods for each batch is most of what batches cost.
func (c *cluster) listLocked(kind object.Kind) {
	if len(c.unlisted[kind]) == 0 {
		return
	}
	c.lists[kind] = merge(c.lists[kind], c.unlisted[kind])
	delete(c.unlisted, kind)
	if kind == object.KindNode {
		c.nodeList = realNodes(c.lists[kind])
	}
}

// list gives the objects of a kind and, of nodes, the names of the real ones.
func (c *cluster) list(kind object.Kind) (objects []object.Object, realNodes []string) {
	c.mu.RLock()
	listed := len(c.unlisted[kind]) == 0
	objects, realNodes = c.lists[kind], c.nodeList
	c.mu.RUnlock()
	if !listed {
		c.mu.Lock()
		c.listLocked(kind)
		objects, realNodes = c.lists[kind], c.nodeList
		c.mu.Unlock()
	}
	return slices.Clip(objects), slices.Clip(realNodes)
}

// setNode moves a pod in the index by node; either may be nil.
func (c *cluster) setNode(before, after *object.Pod) {
	if before != nil && before.Node != "" {
		delete(c.byNode[before.Node], before)
		if len(c.byNode[before.Node]) == 0 {
			delete(c.byNode, before.Node)
		}
	}
	if after != nil && after.Node != "" {
		if c.byNode[after.Node] == nil {
			c.byNode[after.Node] = map[*object.Pod]struct{}{}
		}
		c.byNode[after.Node][after] = struct{}{}
	}
}

func realNodes(nodes []object.Object) []string {
	out := make([]string, 0, len(nodes))
	for _, o := range nodes {
		if n := o.(*object.Node); !n.Virtual {
			out = append(out, n.Name)
		}
	}
	return out
}

func byName(a, b object.Object) int { return compareNames(object.KeyOf(a), object.KeyOf(b)) }

// compareNames orders keys of one kind.
func compareNames(a, b object.Key) int {
	return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
}

func sumOf(body []byte) [16]byte {
	h := sha256.Sum256(body)
	return [16]byte(h[:16])
}

// decode reads a body as it is stored.
func (s *Store) decode(kind object.Kind, stored []byte) (object.Object, error) {
	body, err := s.packer.unpack(stored)
	if err != nil {
		return nil, err
	}
	return decode(kind, body)
}

func decode(kind object.Kind, body []byte) (object.Object, error) {
	var o object.Object
	switch kind {
	case object.KindNamespace:
		o = &object.Namespace{}
	case object.KindNode:
		o = &object.Node{}
	case object.KindWorkload:
		o = &object.Workload{}
	case object.KindService:
		o = &object.Service{}
	case object.KindPod:
		o = &object.Pod{}
	default:
		return nil, fmt.Errorf("unknown kind of object %q", kind)
	}
	if err := json.Unmarshal(body, o); err != nil {
		return nil, fmt.Errorf("read %s: %w", kind, err)
	}
	return o, nil
}

// change is one object of a batch that is new, different or gone.
type change struct {
	key    object.Key
	before entry // zero: it was not there
	after  entry // zero: it is gone
	body   []byte
	at     int64
}

// Apply stores a batch and makes it the present. It returns nil when the batch,
// or an earlier copy of it, is in the file. A batch that does not follow the one
// before is fault.ErrConflict: the sender begins a new session with a snapshot.
// The objects of b belong to the store afterwards.
func (s *Store) Apply(ctx context.Context, clusterName string, b *wire.InventoryBatch) error {
	if clusterName == "" {
		return fmt.Errorf("apply inventory: %w", fault.Field{Path: "cluster", Reason: "is required"})
	}
	if b.Session == "" || b.Sequence == 0 {
		return fmt.Errorf("apply inventory: %w", fault.Field{Path: "session", Reason: "and a sequence from 1 are required", Value: b.Session})
	}
	c := s.obtain(clusterName)
	c.apply.Lock()
	defer c.apply.Unlock()
	if c.deleted {
		return fmt.Errorf("apply inventory: cluster %s was deleted: %w", clusterName, fault.ErrConflict)
	}
	if c.doubtful {
		if err := s.reload(ctx, c); err != nil {
			return fmt.Errorf("apply inventory: read back cluster %s after a failed write: %w (%w)", clusterName, err, fault.ErrUnavailable)
		}
	}
	switch next := c.sequence + 1; {
	case b.Session != c.session && b.Sequence != 1:
		s.metrics.batches.WithLabelValues(resultConflict).Inc()
		return fmt.Errorf("apply inventory: session %q is not known here, begin a new one: %w", b.Session, fault.ErrConflict)
	case b.Session != c.session && !b.Snapshot:
		return fmt.Errorf("apply inventory: %w", fault.Field{Path: "snapshot", Reason: "must be true in the first batch of a session", Value: false})
	case b.Session == c.session && b.Sequence < next:
		s.metrics.batches.WithLabelValues(resultDuplicate).Inc()
		return nil
	case b.Session == c.session && b.Sequence > next && (!b.Gap || b.Snapshot || !c.complete):
		s.metrics.batches.WithLabelValues(resultConflict).Inc()
		return fmt.Errorf("apply inventory: batch %d of session %q came, but %d was expected: %w", b.Sequence, b.Session, next, fault.ErrConflict)
	case b.Session == c.session && b.Snapshot && c.complete:
		return fmt.Errorf("apply inventory: %w", fault.Field{Path: "snapshot", Reason: "a session has one snapshot, and this one's is complete", Value: true})
	}
	now := s.opts.Now()
	at := b.Time
	if at.After(now.Add(maxAhead)) || at.IsZero() {
		at = now
	}
	fresh := b.Session != c.session
	if late := c.newest - at.UnixMilli(); fresh && late > maxOlder.Milliseconds() {
		s.metrics.batches.WithLabelValues(resultConflict).Inc()
		return fmt.Errorf("apply inventory: the snapshot of session %q is of %s, %s before the newest that is known here: %w",
			b.Session, at.UTC().Format(time.RFC3339), time.Duration(late)*time.Millisecond, fault.ErrConflict)
	}
	newest := max(c.newest, at.UnixMilli())
	seen := c.seen
	if fresh {
		seen = map[object.Key]struct{}{}
	}
	changes, err := c.changes(b, at.UnixMilli(), seen)
	if err != nil {
		return fmt.Errorf("apply inventory: %w", err)
	}
	complete := !fresh && c.complete || b.Snapshot && b.Last
	info := c.info // nobody else writes it
	info.Kind, info.Version = cmp.Or(b.ClusterKind, info.Kind), cmp.Or(b.ClusterVersion, info.Version)
	info.LastSeen = now.UTC()
	info.Synced = info.Synced || complete
	id, err := s.write(ctx, c, b, info, complete, newest, changes)
	if err != nil {
		s.metrics.batches.WithLabelValues(resultError).Inc()
		// Whether a commit that failed is in the file is not known.
		c.doubtful = true
		err = fmt.Errorf("apply inventory: write batch %d of cluster %s: %w", b.Sequence, clusterName, err)
		if ctx.Err() == nil {
			err = fmt.Errorf("%w (%w)", err, fault.ErrUnavailable)
		}
		return err
	}
	c.id, c.session, c.sequence, c.complete, c.seen, c.newest = id, b.Session, b.Sequence, complete, seen, newest
	if complete {
		c.seen = nil
	}
	c.swap(changes, info, now.Add(-s.opts.TombstoneFor))
	c.shared.trim(c.present)
	s.metrics.batches.WithLabelValues(resultOK).Inc()
	s.metrics.versions.Add(float64(len(changes)))
	s.announce()
	return nil
}

// changes compares the batch with the present and gives what differs. It notes
// the objects of a snapshot in seen.
func (c *cluster) changes(b *wire.InventoryBatch, at int64, seen map[object.Key]struct{}) ([]change, error) {
	at0 := func(e entry) int64 { return max(at, e.from+1) } // a state lasts at least a millisecond
	var out []change
	inBatch := map[object.Key]int{} // index in out
	for _, o := range b.Objects() {
		key := object.KeyOf(o)
		if b.Snapshot {
			seen[key] = struct{}{}
		}
		body, err := json.Marshal(o)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		ch := change{key: key, before: c.present[key], after: entry{o: o, sum: sumOf(body)}, body: body}
		ch.at = at0(ch.before)
		ch.after.from = ch.at
		i, twice := inBatch[key]
		if !twice && ch.before.o != nil && ch.before.sum == ch.after.sum {
			continue
		}
		c.shared.share(o)
		ch.key = object.KeyOf(o) // of what is shared
		if twice {
			out[i] = ch // the last one counts
			continue
		}
		inBatch[key] = len(out)
		out = append(out, ch)
	}
	for _, d := range b.Deleted {
		if b.Snapshot {
			delete(seen, d.Key)
		}
		if i, ok := inBatch[d.Key]; ok {
			// The batch has the object too: it is gone only if it is this very one.
			if o := out[i].after.o; o != nil && d.UID == o.GetMeta().UID {
				out[i].after, out[i].body = entry{}, nil
			}
			continue
		}
		before, ok := c.present[d.Key]
		if !ok || d.UID != "" && before.o.GetMeta().UID != d.UID {
			continue // gone already, or replaced by another of that name
		}
		inBatch[d.Key] = len(out)
		out = append(out, change{key: object.KeyOf(before.o), before: before, at: at0(before)})
	}
	if b.Snapshot && b.Last {
		for key, before := range c.present {
			if _, ok := seen[key]; ok {
				continue
			}
			if _, ok := inBatch[key]; ok {
				continue
			}
			out = append(out, change{key: key, before: before, at: at0(before)})
		}
	}
	// An object that came and went within the batch was never seen by anybody.
	return slices.DeleteFunc(out, func(ch change) bool { return ch.before.o == nil && ch.after.o == nil }), nil
}

// write stores a batch in one transaction.
func (s *Store) write(ctx context.Context, c *cluster, b *wire.InventoryBatch, info Info, complete bool, newest int64, changes []change) (id int64, err error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreDone(tx.Rollback()))
		}
	}()
	err = tx.QueryRowContext(ctx, `INSERT INTO clusters (name, kind, version, session, sequence, complete, synced, last_seen, newest) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
		ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, version = excluded.version, session = excluded.session, sequence = excluded.sequence,
		complete = excluded.complete, synced = excluded.synced, last_seen = excluded.last_seen, newest = excluded.newest RETURNING id`,
		c.name, info.Kind, info.Version, b.Session, b.Sequence, complete, info.Synced, info.LastSeen.UnixMilli(), newest).Scan(&id)
	if err != nil {
		return 0, err
	}
	if len(changes) > 0 {
		end, err := tx.PrepareContext(ctx, `UPDATE versions SET valid_to = ?, gone = ? WHERE id = ?`)
		if err != nil {
			return 0, err
		}
		defer end.Close()
		begin, err := tx.PrepareContext(ctx, `INSERT INTO versions (cluster, kind, namespace, name, valid_from, body) VALUES (?, ?, ?, ?, ?, ?)`)
		if err != nil {
			return 0, err
		}
		defer begin.Close()
		for i := range changes {
			ch := &changes[i]
			if ch.before.o != nil {
				if _, err := end.ExecContext(ctx, ch.at, ch.after.o == nil, ch.before.row); err != nil {
					return 0, err
				}
			}
			if ch.after.o != nil {
				r, err := begin.ExecContext(ctx, id, ch.key.Kind, ch.key.Namespace, ch.key.Name, ch.at, s.packer.pack(ch.body))
				if err != nil {
					return 0, err
				}
				if ch.after.row, err = r.LastInsertId(); err != nil {
					return 0, err
				}
			}
		}
	}
	return id, tx.Commit()
}

func ignoreDone(err error) error {
	if errors.Is(err, sql.ErrTxDone) {
		return nil
	}
	return err
}

// swap makes the changes the present.
func (c *cluster) swap(changes []change, info Info, forget time.Time) {
	info.Counts = maps.Clone(info.Counts) // readers have the old ones
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range changes {
		kind := ch.key.Kind
		c.recent = append(c.recent, ch.key)
		if c.unlisted[kind] == nil {
			c.unlisted[kind] = map[object.Key]object.Object{}
		}
		c.unlisted[kind][ch.key] = ch.after.o
		if ch.before.o == nil {
			info.Counts[kind]++
		}
		before, _ := ch.before.o.(*object.Pod)
		after, _ := ch.after.o.(*object.Pod)
		c.setNode(before, after)
		if ch.after.o == nil {
			info.Counts[kind]--
			delete(c.present, ch.key)
			c.gone[ch.key] = Tombstone{At: time.UnixMilli(ch.at).UTC(), Last: ch.before.o}
			continue
		}
		c.present[ch.key] = ch.after
		delete(c.gone, ch.key)
	}
	c.counted += uint64(len(changes))
	if n := len(c.recent); n > 2*maxRecent {
		c.recent = slices.Clone(c.recent[n-maxRecent:])
	}
	c.info = info
	for kind, objects := range c.unlisted {
		if len(objects) > maxUnlisted+len(c.lists[kind])/8 {
			c.listLocked(kind)
		}
	}
	if len(c.gone) > maxTombstones {
		c.forgetLocked(forget)
	}
}

// forgetLocked drops tombstones: the old ones, and the oldest beyond the bound.
func (c *cluster) forgetLocked(before time.Time) {
	keys := slices.SortedFunc(maps.Keys(c.gone), func(a, b object.Key) int { return c.gone[a].At.Compare(c.gone[b].At) })
	// A tenth more than needed, so that this is not done at each deletion.
	for i, k := range keys {
		if i < len(keys)-maxTombstones*9/10 || c.gone[k].At.Before(before) {
			delete(c.gone, k)
		}
	}
}

// merge gives a new sorted list: old with the objects put in, nil ones left out. A
// large list is hardly looked at where nothing changed.
func merge(old []object.Object, objects map[object.Key]object.Object) []object.Object {
	out := make([]object.Object, 0, len(old)+len(objects))
	for _, key := range slices.SortedFunc(maps.Keys(objects), compareNames) {
		i, found := slices.BinarySearchFunc(old, key, func(o object.Object, key object.Key) int { return compareNames(object.KeyOf(o), key) })
		out, old = append(out, old[:i]...), old[i:]
		if found {
			old = old[1:]
		}
		if o := objects[key]; o != nil {
			out = append(out, o)
		}
	}
	return append(out, old...)
}

// obtain finds a cluster or makes an empty one.
func (s *Store) obtain(name string) *cluster {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.clusters[name]
	if c == nil {
		c = newCluster(name)
		s.clusters[name] = c
	}
	return c
}

func (s *Store) get(name string) *cluster {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.clusters[name]
}

func (s *Store) all() []*cluster {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Collect(maps.Values(s.clusters))
}

func (s *Store) announce() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.changed)
	s.changed = make(chan struct{})
}

// Changed gives a channel that is closed at the next change of any cluster. Take
// it before reading, so that no change is missed between the two.
func (s *Store) Changed() <-chan struct{} {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.changed
}

// Position is how far somebody has followed the changes of a cluster's objects; the
// zero value has followed none.
type Position struct {
	of *cluster
	at uint64
}

// ChangedSince gives the objects of a cluster that came, changed or went since a
// position, in order, some twice, and the position now. whole: that is not known any
// more, and any of them may have.
func (s *Store) ChangedSince(clusterName string, since Position) (keys []object.Key, now Position, whole bool) {
	c := s.get(clusterName)
	if c == nil {
		return nil, Position{}, true
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	now = Position{c, c.counted}
	came := c.counted - since.at
	if since.of != c || came > uint64(len(c.recent)) {
		return nil, now, true
	}
	return slices.Clone(c.recent[len(c.recent)-int(came):]), now, false
}

// Clusters lists the clusters that have ever reported, by name.
func (s *Store) Clusters() []string {
	var out []string
	for _, c := range s.all() {
		c.mu.RLock()
		if !c.info.LastSeen.IsZero() {
			out = append(out, c.name)
		}
		c.mu.RUnlock()
	}
	slices.Sort(out)
	return out
}

// Info describes a cluster; false when it has never reported.
func (s *Store) Info(clusterName string) (Info, bool) {
	c := s.get(clusterName)
	if c == nil {
		return Info{}, false
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.info, !c.info.LastSeen.IsZero()
}

// List gives all objects of a kind, sorted by namespace and name.
func (s *Store) List(clusterName string, kind object.Kind) []object.Object {
	c := s.get(clusterName)
	if c == nil {
		return nil
	}
	objects, _ := c.list(kind)
	return objects
}

// Get finds an object.
func (s *Store) Get(clusterName string, key object.Key) (object.Object, bool) {
	c := s.get(clusterName)
	if c == nil {
		return nil, false
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	e, ok := c.present[key]
	return e.o, ok
}

// PodsOn gives the pods of a node, sorted by namespace and name.
func (s *Store) PodsOn(clusterName, node string) []*object.Pod {
	c := s.get(clusterName)
	if c == nil {
		return nil
	}
	c.mu.RLock()
	out := slices.Collect(maps.Keys(c.byNode[node]))
	c.mu.RUnlock()
	slices.SortFunc(out, func(a, b *object.Pod) int { return byName(a, b) })
	return out
}

// ServicesIn gives the Services of some namespaces, sorted by namespace and name; known
// is false until a snapshot of the cluster was complete.
func (s *Store) ServicesIn(clusterName string, namespaces []string) (services []*object.Service, known bool) {
	info, _ := s.Info(clusterName)
	if !info.Synced {
		return nil, false
	}
	for _, o := range s.List(clusterName, object.KindService) {
		if v, ok := o.(*object.Service); ok && slices.Contains(namespaces, v.Namespace) {
			services = append(services, v)
		}
	}
	return services, true
}

// PodsBehind gives the names of the pods that a Service selects, sorted: of those that
// are there, and of those that were deleted within Options.TombstoneFor, whose last lines
// and samples somebody may ask for. fault.ErrNotFound without the Service.
func (s *Store) PodsBehind(clusterName, namespace, service string) ([]string, error) {
	o, _ := s.Get(clusterName, object.Key{Kind: object.KindService, Namespace: namespace, Name: service})
	v, ok := o.(*object.Service)
	if !ok {
		return nil, fmt.Errorf("service %s/%s in cluster %s: %w", namespace, service, clusterName, fault.ErrNotFound)
	}
	var names []string
	pods := s.List(clusterName, object.KindPod)
	from, _ := slices.BinarySearchFunc(pods, namespace, func(o object.Object, ns string) int { return cmp.Compare(o.GetMeta().Namespace, ns) })
	for _, o := range pods[from:] {
		p, ok := o.(*object.Pod)
		if !ok || p.Namespace != namespace {
			break
		}
		if v.Selects(p) {
			names = append(names, p.Name)
		}
	}
	c := s.get(clusterName)
	if c == nil {
		return nil, nil // deleted this moment
	}
	now := s.opts.Now()
	c.mu.RLock()
	for _, t := range c.gone {
		if p, ok := t.Last.(*object.Pod); ok && v.Selects(p) && now.Sub(t.At) <= s.opts.TombstoneFor {
			names = append(names, p.Name)
		}
	}
	c.mu.RUnlock()
	slices.Sort(names)
	return slices.Compact(names), nil
}

// Gone finds an object that was deleted within Options.TombstoneFor and is not
// back.
func (s *Store) Gone(clusterName string, key object.Key) (Tombstone, bool) {
	c := s.get(clusterName)
	if c == nil {
		return Tombstone{}, false
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	t, ok := c.gone[key]
	if ok && s.opts.Now().Sub(t.At) > s.opts.TombstoneFor {
		return Tombstone{}, false
	}
	return t, ok
}

// Nodes lists the real nodes of a cluster by name, those that are not ready or
// cordoned too; virtual ones are left out.
func (s *Store) Nodes(clusterName string) []string {
	c := s.get(clusterName)
	if c == nil {
		return nil
	}
	_, nodes := c.list(object.KindNode)
	return nodes
}

// Version is one state of an object.
type Version struct {
	From   time.Time     // inclusive
	To     time.Time     // exclusive; zero for the present
	Gone   bool          // at To the object was deleted
	Object object.Object //
}

// At lists the objects of a kind as they were at a time within the retention,
// sorted by namespace and name.
func (s *Store) At(ctx context.Context, clusterName string, kind object.Kind, t time.Time) ([]object.Object, error) {
	var out []object.Object
	err := s.states(ctx, clusterName, kind, nil, t, t.Add(time.Millisecond), func(v Version) error { out = append(out, v.Object); return nil })
	if err != nil {
		return nil, fmt.Errorf("list %ss of cluster %s at %s: %w", kind, clusterName, t.Format(time.RFC3339), err)
	}
	return out, nil
}

// Versions lists the states that an object had within a time range, oldest first.
func (s *Store) Versions(ctx context.Context, clusterName string, key object.Key, from, to time.Time) ([]Version, error) {
	var out []Version
	err := s.states(ctx, clusterName, key.Kind, []object.Key{key}, from, to, func(v Version) error { out = append(out, v); return nil })
	if err != nil {
		return nil, fmt.Errorf("list versions of %s in cluster %s: %w", key, clusterName, err)
	}
	return out, nil
}

// keysAtOnce are asked for by one query.
const keysAtOnce = 1000

// VersionsOf calls fn with the states that some objects of a kind, each named once, had
// within a time range: the states of each are together, the oldest first. An error of fn
// ends it and is returned.
func (s *Store) VersionsOf(ctx context.Context, clusterName string, kind object.Kind, keys []object.Key, from, to time.Time, fn func(Version) error) error {
	for some := range slices.Chunk(keys, keysAtOnce) {
		if err := s.states(ctx, clusterName, kind, some, from, to, fn); err != nil {
			return fmt.Errorf("list versions of %d %ss in cluster %s: %w", len(keys), kind, clusterName, err)
		}
	}
	return nil
}

// History calls fn with every state that objects of a kind had within a time
// range, object by object, the oldest first. An error of fn ends it and is
// returned.
func (s *Store) History(ctx context.Context, clusterName string, kind object.Kind, from, to time.Time, fn func(Version) error) error {
	if err := s.states(ctx, clusterName, kind, nil, from, to, fn); err != nil {
		return fmt.Errorf("list the history of %ss of cluster %s: %w", kind, clusterName, err)
	}
	return nil
}

// DeleteCluster removes a cluster with all its states. One that reports again
// begins anew.
func (s *Store) DeleteCluster(ctx context.Context, clusterName string) error {
	c := s.get(clusterName)
	if c == nil {
		return fmt.Errorf("delete inventory of cluster %q: %w", clusterName, fault.ErrNotFound)
	}
	c.apply.Lock()
	defer c.apply.Unlock()
	for _, table := range []string{"versions", "lives"} {
		if _, err := s.remove(ctx, table, `cluster = (SELECT id FROM clusters WHERE name = ?)`, clusterName); err != nil {
			return fmt.Errorf("delete inventory of cluster %q: %w", clusterName, err)
		}
	}
	if _, err := s.db.ExecContext(ctx, `DELETE FROM clusters WHERE name = ?`, clusterName); err != nil {
		return fmt.Errorf("delete inventory of cluster %q: %w", clusterName, err)
	}
	c.deleted = true
	s.mu.Lock()
	delete(s.clusters, clusterName)
	s.mu.Unlock()
	s.announce()
	return nil
}
