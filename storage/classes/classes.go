// Package classes owns which of several metrics stores a series lies in, each
// with a retention of its own, and reads all of them as one. It must not know
// how a store keeps samples, nor who sends them.
package classes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/aggregate"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
)

const (
	// Catalogue is the class of declared metrics and of the server's own.
	Catalogue = "catalogue"
	// Raw is the class of all else that users have read.
	Raw = "raw"
	// MaxNamed bounds the classes that clusters can be given.
	MaxNamed = 4

	clusterLabel = "cluster"
)

// nameForm is what a named class may be called: it is a folder.
var nameForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$`)

// Class is how long samples of one sort are kept.
type Class struct {
	Name      string
	Retention time.Duration // 0 means the catalogue's
	MaxBytes  int64         // of its store; 0 means no bound
}

// ValidName says whether a class of one's own may be called so.
func ValidName(name string) bool {
	return nameForm.MatchString(name) && name != Catalogue && name != Raw
}

// Options of a store of classes.
type Options struct {
	// Metrics is the catalogue's store, and what the others have in common with it:
	// they get folder, retention, bound and registerer of their own. Required.
	Metrics metrics.Options
	// Dir is where the others have their folders. Required. A store is made with
	// the first sample of its class.
	Dir string
	// Aggregates is where long charts are read from, with a folder for each class;
	// empty keeps none.
	Aggregates string
	Raw        Class
	// Named are the classes that clusters can be given; at most MaxNamed.
	Named []Class
	// Clusters gives the class of a cluster, for all its samples. Those without one
	// have theirs in Catalogue and Raw.
	Clusters map[string]string
	// Declared says whether a metric is of the catalogue class. Required.
	Declared func(name string) bool
}

func (o *Options) complete() error {
	var errs []error
	if o.Dir == "" || o.Declared == nil {
		errs = append(errs, errors.New("classes: Dir and Declared are required"))
	}
	if len(o.Named) > MaxNamed {
		errs = append(errs, fmt.Errorf("classes: at most %d named ones, not %d", MaxNamed, len(o.Named)))
	}
	o.Raw.Name = Raw
	names := map[string]bool{Catalogue: true, Raw: true}
	for _, c := range o.Named {
		if !ValidName(c.Name) || names[c.Name] {
			errs = append(errs, fmt.Errorf("classes: the name %q is taken or not of small letters, digits and hyphens", c.Name))
		}
		names[c.Name] = true
	}
	for cluster, name := range o.Clusters {
		if name == Raw || name == Catalogue || !names[name] {
			errs = append(errs, fmt.Errorf("classes: cluster %q has the class %q, which is none of the named ones", cluster, name))
		}
	}
	return errors.Join(errs...)
}

// Store is all classes. Its methods may be called concurrently.
type Store struct {
	opts    Options
	classes []*class // the catalogue's first, which is always open
	byName  map[string]int
}

// class is one store, which is opened with its first sample.
type class struct {
	opts metrics.Options
	in   string // where its aggregates are; empty for none
	mu   sync.Mutex
	db   atomic.Pointer[metrics.DB]
	agg  *aggregate.Store // set before db; nil for none
	done bool             // guarded by mu: closed
}

// Open opens the catalogue's store, and those of other classes that are there.
// A folder of a class that is not declared is refused: nobody would read it, nor
// hold its retention.
func Open(o Options) (_ *Store, err error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	s := &Store{opts: o, byName: map[string]int{}}
	add := func(c Class, dir string) {
		m := o.Metrics
		m.Newest, m.Forecast = s.newest, s.Forecast
		if c.Name != Catalogue {
			m.Dir, m.MaxBytes = dir, c.MaxBytes
			if c.Retention != 0 {
				m.Retention = c.Retention
				m.OutOfOrderWindow = min(m.OutOfOrderWindow, c.Retention)
			}
		}
		if o.Metrics.Registerer != nil {
			m.Registerer = prometheus.WrapRegistererWith(prometheus.Labels{"class": c.Name}, o.Metrics.Registerer)
		}
		s.byName[c.Name] = len(s.classes)
		one := &class{opts: m}
		if o.Aggregates != "" {
			one.in = filepath.Join(o.Aggregates, c.Name)
		}
		s.classes = append(s.classes, one)
	}
	add(Class{Name: Catalogue}, "")
	for _, c := range append([]Class{o.Raw}, o.Named...) {
		add(c, filepath.Join(o.Dir, c.Name))
	}
	entries, err := os.ReadDir(o.Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open classes of metrics: %w", err)
	}
	wanted := []int{0}
	for _, e := range entries {
		n, ok := s.byName[e.Name()]
		if !ok || n == 0 {
			return nil, fmt.Errorf("the folder %s holds samples of a class that is not declared; declare the class %q again, or move the folder away: %w",
				filepath.Join(o.Dir, e.Name()), e.Name(), fault.ErrInvalid)
		}
		wanted = append(wanted, n)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	for _, n := range wanted {
		if _, err := s.classes[n].open(); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// open gives the class's store, and makes it where there is none yet.
func (c *class) open() (*metrics.DB, error) {
	if db := c.db.Load(); db != nil {
		return db, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if db := c.db.Load(); db != nil {
		return db, nil
	}
	if c.done {
		return nil, fmt.Errorf("metrics store %s is closed: %w", c.opts.Dir, fault.ErrUnavailable)
	}
	db, err := metrics.Open(c.opts)
	if err != nil {
		return nil, err
	}
	if c.in != "" {
		c.agg, err = aggregate.Open(aggregate.Options{
			Dir: c.in, Raw: db, Settled: c.opts.OutOfOrderWindow, Logger: c.opts.Logger, Registerer: c.opts.Registerer, Now: c.opts.Now,
		})
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
	}
	c.db.Store(db)
	return db, nil
}

// each is the open stores, the catalogue's first.
func (s *Store) each() (out []*metrics.DB) {
	for _, c := range s.classes {
		if db := c.db.Load(); db != nil {
			out = append(out, db)
		}
	}
	return out
}

// all does something with every open store, whatever goes wrong with the others.
func (s *Store) all(do func(*metrics.DB) error) error {
	var errs []error
	for _, db := range s.each() {
		errs = append(errs, do(db))
	}
	return errors.Join(errs...)
}

// of gives the class of a series.
func (s *Store) of(lset labels.Labels) int {
	if len(s.opts.Clusters) > 0 {
		if name, ok := s.opts.Clusters[lset.Get(clusterLabel)]; ok {
			return s.byName[name]
		}
	}
	if s.opts.Declared(lset.Get(labels.MetricName)) {
		return 0
	}
	return s.byName[Raw]
}

// Close closes all.
func (s *Store) Close() error {
	var errs []error
	for _, c := range s.classes {
		c.mu.Lock()
		c.done = true
		if db := c.db.Load(); db != nil {
			if c.agg != nil {
				errs = append(errs, c.agg.Close()) // it reads the store
			}
			errs = append(errs, db.Close())
		}
		c.mu.Unlock()
	}
	return errors.Join(errs...)
}

// ReadOnly is nil while samples of every class can be stored.
func (s *Store) ReadOnly() error {
	for _, db := range s.each() {
		if err := db.ReadOnly(); err != nil {
			return err
		}
	}
	return nil
}

// StartTime is that of the oldest sample of all, Unix milliseconds.
func (s *Store) StartTime() (int64, error) {
	oldest := int64(math.MaxInt64)
	err := s.all(func(db *metrics.DB) error {
		at, err := db.StartTime()
		oldest = min(oldest, at)
		return err
	})
	return oldest, err
}

// Series is the number of series in memory.
func (s *Store) Series() (n uint64) {
	for _, db := range s.each() {
		n += db.Series()
	}
	return n
}

// Flooded says whether a backlog comes to any of them.
func (s *Store) Flooded() bool { return slices.ContainsFunc(s.each(), (*metrics.DB).Flooded) }

// ToRewrite is how many blocks still hold what was deleted.
func (s *Store) ToRewrite() (blocks int) {
	for _, db := range s.each() {
		blocks += db.ToRewrite()
	}
	return blocks
}

// newest is up to when any class has blocks.
func (s *Store) newest() (until int64) {
	for _, db := range s.each() {
		until = max(until, db.NewestBlock())
	}
	return until
}

// Forecast is that of the file system, which all share: metrics.DB says what it
// means.
func (s *Store) Forecast() (in time.Duration, never, known bool) {
	var all []metrics.Growth
	var room int64
	for _, c := range s.classes {
		db := c.db.Load()
		if db == nil {
			continue
		}
		g := db.Growth()
		if blocks := db.Size(); c.agg != nil && blocks > 0 {
			// Aggregates are made of each day's samples, and go with them.
			g.BytesPerMilli *= 1 + float64(c.agg.Bytes())/float64(blocks)
		}
		if all = append(all, g); len(all) == 1 {
			room = db.Room()
		}
	}
	return metrics.ForecastOf(room, all...)
}

// DeleteCluster deletes a cluster's samples of every class, as metrics.DB does.
func (s *Store) DeleteCluster(ctx context.Context, cluster string) error {
	var errs []error
	found := false
	for _, db := range s.each() {
		switch err := db.DeleteCluster(ctx, cluster); {
		case err == nil:
			found = true
		case !errors.Is(err, fault.ErrNotFound):
			return err
		default:
			errs = append(errs, err)
		}
	}
	if found {
		return nil
	}
	return errs[0]
}

// Chart reads a chart of all classes: of aggregates where these are exact.
func (s *Store) Chart(ctx context.Context, spec aggregate.Spec) (*aggregate.Answer, error) {
	chart, err := aggregate.NewChart(spec)
	if err != nil {
		return nil, err
	}
	for _, c := range s.classes {
		db := c.db.Load()
		switch {
		case db == nil:
			continue
		case c.agg == nil:
			err = chart.ReadRaw(ctx, db)
		default:
			err = c.agg.Read(ctx, chart)
		}
		if err != nil {
			return nil, err
		}
	}
	return chart.Answer(), nil
}

// ImportBlocks takes over blocks into the catalogue's store.
func (s *Store) ImportBlocks(ctx context.Context, dir string) error {
	return s.each()[0].ImportBlocks(ctx, dir)
}

// SnapshotBlocks writes the catalogue's blocks into a new folder, as metrics.DB
// does; Opened has the stores of the other classes.
func (s *Store) SnapshotBlocks(ctx context.Context, dir string) error {
	return s.each()[0].SnapshotBlocks(ctx, dir)
}

// Verify reads all blocks that were not verified yet.
func (s *Store) Verify(ctx context.Context) error {
	return s.all(func(db *metrics.DB) error { return db.Verify(ctx) })
}

// Opened gives the open stores by class.
func (s *Store) Opened() map[string]*metrics.DB {
	out := map[string]*metrics.DB{}
	for name, n := range s.byName {
		if db := s.classes[n].db.Load(); db != nil {
			out[name] = db
		}
	}
	return out
}

// RetentionText is the retention of each class as Prometheus' API shows it.
func (s *Store) RetentionText() string {
	open := s.Opened()
	text := open[Catalogue].RetentionText()
	names := make([]string, 0, len(open))
	for name := range open {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if name != Catalogue {
			text += ", " + name + " " + open[name].RetentionText()
		}
	}
	return text
}

var (
	_ storage.Storage           = (*Store)(nil)
	_ storage.ExemplarQueryable = (*Store)(nil)
)
