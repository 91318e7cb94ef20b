// Package logs owns the store of log lines and Kubernetes events: VictoriaLogs'
// lib/logstorage, embedded, behind an interface that returns errors where the
// library panics, and that says "stored" only when a kill -9 cannot take it back;
// or, with Options.Remote, a VictoriaLogs elsewhere that keeps the rows (far.go).
// It must not know HTTP, who may read what, or how lines were collected.
//
// # What is stored
//
// A row has the stream fields of wire.LogStream plus "cluster", the message in
// "_msg", the line's own fields, and two hidden ones that name the sender and the
// batch that it came with. Every cluster is a tenant of the library of its own, so
// a query cannot leave the clusters that it was given, whatever its text says.
package logs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/logs/remote"
)

// Options of a store.
type Options struct {
	Dir string // required; made when it is not there
	// Remote keeps the rows instead of Dir, where only watermarks are then. The store
	// closes it. Retention and ClusterRetention are then how far back is looked and
	// taken; what the engine keeps is its own matter.
	Remote    *remote.Client
	Retention time.Duration // default 90 days, at least 1 day; whole UTC days are dropped
	// ClusterRetention is for clusters that keep more or less, at least 1 day.
	ClusterRetention map[string]time.Duration
	MaxBytes         int64 // on disk; 0 means no bound. The oldest days go first, the newest two stay
	MinFreeBytes     int64 // free disk space under which writes are refused; default 256 MiB
	// Settle is after how long Remote surely shows what it took; default 5 s: a second
	// in vlinsert's buffers, a second in the storage's, and more than that for good
	// measure.
	Settle         time.Duration
	CommitInterval time.Duration         // between two group commits; default 500 ms
	Logger         *slog.Logger          // default slog.Default
	Registerer     prometheus.Registerer // nil: metrics are kept but not exported
	Now            func() time.Time      // default time.Now. The library reads the real clock for retention
}

func (o Options) complete() (Options, error) {
	var errs []error
	if o.Dir == "" {
		errs = append(errs, errors.New("option Dir is required"))
	}
	if o.Retention == 0 {
		o.Retention = 90 * day
	}
	if o.Retention < day {
		errs = append(errs, fmt.Errorf("option Retention must be at least 24h, got %s", o.Retention))
	}
	for cluster, d := range o.ClusterRetention {
		if d < day {
			errs = append(errs, fmt.Errorf("option ClusterRetention of %s must be at least 24h, got %s", cluster, d))
		}
	}
	if o.MaxBytes < 0 {
		errs = append(errs, fmt.Errorf("MaxBytes must not be negative, got %d", o.MaxBytes))
	}
	if o.MinFreeBytes == 0 {
		o.MinFreeBytes = 256 << 20
	}
	if o.CommitInterval == 0 {
		o.CommitInterval = 500 * time.Millisecond
	}
	if o.Settle == 0 {
		o.Settle = 5 * time.Second
	}
	if o.Settle < 0 {
		errs = append(errs, fmt.Errorf("option Settle must be positive, got %s", o.Settle))
	}
	if o.CommitInterval < 0 {
		errs = append(errs, fmt.Errorf("CommitInterval must be positive, got %s", o.CommitInterval))
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o, errors.Join(errs...)
}

const (
	day = 24 * time.Hour

	// closeAfterMerges is how long Close waits for merges: they take less, but for those of
	// parts of gigabytes, which are broken off then.
	closeAfterMerges = 2 * time.Second
	// aheadLimit is how far ahead of the server's clock a line may be.
	aheadLimit = day
	// adders is the number of Appends that may hand rows to the library at once;
	// a commit takes all of these slots, so that nothing is added meanwhile.
	adders = 1 << 10
)

// Store is an open log store. All methods may be called concurrently.
type Store struct {
	opts    Options
	log     *slog.Logger
	metrics *metrics
	db      engine
	lib     *logstorage.Storage // db, where the rows are in Dir; else nil
	far     *far                // where they are elsewhere; else nil

	// using is held for reading by whatever uses db, for writing by Close.
	using   sync.RWMutex
	closed  bool // guarded by using
	closing context.Context
	stop    context.CancelFunc

	// gate holds commits and additions apart: an addition takes one of its
	// slots, a commit all of them.
	gate *semaphore.Weighted

	groupMu sync.Mutex
	group   *group // what the next commit makes durable; never nil

	wake  chan struct{} // something waits in group; 1 slot
	hurry chan struct{} // so much waits that it should not wait longer; 1 slot
	done  chan struct{} // the committer has ended
	saved chan struct{} // the watermarks are saved for the last time

	expired chan struct{} // expire has ended
	watched chan struct{} // watch has ended
	tasks   atomic.Int64  // numbers tasks of deletion
	space   space

	waiting        atomic.Int64          // bytes of the batches that wait for a commit, estimated
	broken         atomic.Pointer[error] // why nothing can be written until a restart
	durableStreams uint64                // owned by the committer: streams known to be in files

	spare     spareRows
	names     streamNames
	senders   senders
	positions positions
	tenants   tenants
	arrived   arrivals
	marks     watermarks
}

// Open opens the store, makes its folder when it is not there, and removes what
// a crash left behind. Prepare must have been called. What is wrong with the
// folder (no rights, no space, another process in it, a newer format, missing
// files) is said in the error.
func Open(opts Options) (*Store, error) {
	opts, err := opts.complete()
	if err != nil {
		return nil, fmt.Errorf("open log store: %w", err)
	}
	if !prepared() {
		return nil, errors.New("open log store: BUG: logs.Prepare was not called")
	}
	if opts.Dir, err = filepath.Abs(opts.Dir); err != nil {
		return nil, fmt.Errorf("open log store: %w", err)
	}
	check := checkFolder
	if opts.Remote != nil {
		check = checkFarFolder
	}
	if err := check(opts.Dir); err != nil {
		return nil, fmt.Errorf("open log store %s: %w", opts.Dir, err)
	}
	m, err := newMetrics(opts.Registerer)
	if err != nil {
		return nil, fmt.Errorf("open log store: %w", err)
	}
	s := &Store{
		opts: opts, log: opts.Logger, metrics: m, names: newStreamNames(),
		gate:  semaphore.NewWeighted(adders),
		group: newGroup(),
		wake:  make(chan struct{}, 1),
		hurry: make(chan struct{}, 1),
		done:  make(chan struct{}),
		saved: make(chan struct{}),

		expired: make(chan struct{}),
		watched: make(chan struct{}),
	}
	if err := s.marks.load(opts.Dir, opts.Now()); err != nil {
		s.log.Warn("log watermarks not read, they begin anew", "err", err)
	}
	s.closing, s.stop = context.WithCancel(context.Background())
	if opts.Remote != nil {
		s.far = newFar(opts.Remote, opts.Now())
		s.db = opts.Remote
		m.observe(s)
		s.askFar() // so that an engine that is there is known at once; one that is not keeps nothing from starting
		go s.commitLoop(s.sendGroup, s.far.sending.Wait)
		go s.saveWatermarks()
		go s.expire()
		go s.watchFar()
		return s, nil
	}
	if err := guard("open the store", func() error {
		s.lib = logstorage.MustOpenStorage(opts.Dir, &logstorage.StorageConfig{
			Retention:              opts.longest(),
			FutureRetention:        aheadLimit,
			MaxDiskSpaceUsageBytes: opts.MaxBytes,
			// The library's own flush is only a second line: commits flush earlier, and
			// must, as only they give the reserve of disk space back.
			FlushInterval:         max(5*time.Second, 4*opts.CommitInterval),
			MinFreeDiskSpaceBytes: opts.MinFreeBytes,
		})
		return nil
	}); err != nil {
		s.stop()
		return nil, fmt.Errorf("open log store %s: %w", opts.Dir, err)
	}
	s.db = s.lib
	if err := s.loadTenants(); err != nil {
		s.stop()
		s.lib.MustClose()
		return nil, fmt.Errorf("open log store %s: %w", opts.Dir, err)
	}
	m.observe(s)
	go s.commitLoop(s.commit, func() {})
	go s.saveWatermarks()
	go s.expire()
	go s.watch()
	return s, nil
}

// Close commits what waits, ends queries and tails, and closes the files. It may
// be called twice.
func (s *Store) Close() error {
	s.stop()  // queries end, the committer does its last commit
	<-s.saved // after done
	<-s.expired
	<-s.watched
	s.using.Lock()
	defer s.using.Unlock()
	if s.closed {
		return nil
	}
	s.closed = true
	s.metrics.forget()
	if s.far != nil {
		s.far.client.Close()
		return nil
	}
	s.awaitMerges()
	return guard("close the log store", func() error { s.lib.MustClose(); return nil })
}

// awaitMerges lets the merges end that run while nothing is added any more, in bounded
// time: MustClose takes a day's index away from under one that still reads of it.
func (s *Store) awaitMerges() {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(closeAfterMerges); s.merging() && time.Now().Before(deadline); {
		<-look.C
	}
}

// merging says whether the library writes parts anew.
func (s *Store) merging() bool {
	var st logstorage.StorageStats
	s.lib.UpdateStats(&st)
	return st.ActiveInmemoryMerges+st.ActiveSmallMerges+st.ActiveBigMerges > 0
}

// use keeps the store open until the returned function is called.
func (s *Store) use() (release func(), err error) {
	s.using.RLock()
	if s.closed || s.closing.Err() != nil {
		s.using.RUnlock()
		return nil, fmt.Errorf("log store is closed: %w", fault.ErrUnavailable)
	}
	return s.using.RUnlock, nil
}

// errGaveUp says that the library panicked.
var errGaveUp = errors.New("the log library gave up")

// guard turns a panic of the library on this goroutine into an error. (One in a
// goroutine of the library ends the process; the checks before each call are
// there to make that unlikely.)
func guard(what string, fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%s: %w: %v", what, errGaveUp, p)
		}
	}()
	return fn()
}

// Info describes the store for people.
type Info struct {
	Rows      uint64    `json:"rows"`
	Bytes     uint64    `json:"bytes"` // on disk
	Days      int       `json:"days"`  // that have rows
	OldestDay time.Time `json:"oldest_day,omitzero"`
	ReadOnly  string    `json:"read_only,omitempty"` // why writes are refused
}

// Info gives figures of now.
func (s *Store) Info() (Info, error) {
	release, err := s.use()
	if err != nil {
		return Info{}, err
	}
	defer release()
	var out Info
	if err := s.ReadOnly(); err != nil {
		out.ReadOnly = err.Error()
	}
	if s.far != nil {
		return out, nil // the engine counts its rows itself
	}
	err = guard("read figures of the log store", func() error {
		var st logstorage.StorageStats
		s.lib.UpdateStats(&st)
		out.Rows = st.RowsCount()
		out.Bytes = st.CompressedSmallPartSize + st.CompressedBigPartSize + st.IndexdbSizeBytes
		names := s.lib.PartitionList()
		out.Days = len(names)
		if len(names) > 0 {
			out.OldestDay, _ = time.Parse(partitionName, names[0])
		}
		return nil
	})
	return out, err
}

// ReadOnly is nil while lines are accepted, else a fault.ErrUnavailable that
// says why not.
func (s *Store) ReadOnly() error {
	if err := s.broken.Load(); err != nil {
		return *err
	}
	if err := s.space.unwritable.Load(); err != nil {
		return *err
	}
	if s.far != nil {
		return nil
	}
	return checkWritable(s.opts.Dir, uint64(s.opts.MinFreeBytes))
}

func (s *Store) partitionDir(name string) string {
	return filepath.Join(s.opts.Dir, partitionsDir, name)
}

// removeAll removes a snapshot; what cannot be removed now is cleared at the
// next start.
func (s *Store) removeAll(path string) {
	if err := os.RemoveAll(path); err != nil {
		s.log.Warn("remove snapshot of a commit", "err", err)
	}
}
