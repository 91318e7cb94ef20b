package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/alerting/custom"
	"github.com/crowsnest-dev/crowsnest/api"
	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/boards"
	"github.com/crowsnest-dev/crowsnest/api/control"
	apiingest "github.com/crowsnest-dev/crowsnest/api/ingest"
	apiinventory "github.com/crowsnest-dev/crowsnest/api/inventory"
	"github.com/crowsnest-dev/crowsnest/api/logpush"
	apilogs "github.com/crowsnest-dev/crowsnest/api/logs"
	apipeers "github.com/crowsnest-dev/crowsnest/api/peers"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	apiprometheus "github.com/crowsnest-dev/crowsnest/api/prometheus"
	apisettings "github.com/crowsnest-dev/crowsnest/api/settings"
	"github.com/crowsnest-dev/crowsnest/api/tokens"
	"github.com/crowsnest-dev/crowsnest/dashboards/console"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/storage/backup"
	"github.com/crowsnest-dev/crowsnest/storage/classes"
	"github.com/crowsnest-dev/crowsnest/storage/history"
	"github.com/crowsnest-dev/crowsnest/storage/ingest"
	"github.com/crowsnest-dev/crowsnest/storage/inventory"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// Parts whose readiness is told.
const (
	partMetrics   = "metrics"
	classesDir    = "metrics-classes" // as backups know it
	aggregatesDir = "metrics-aggregates"
	partLogs      = "logs"
	partInventory = "inventory"
	partAlerting  = "alerting"
)

// logCacheBytes bounds the caches of the log store. The library would take 60 %
// of the machine.
const logCacheBytes = 256 << 20

// app is the server as a library: everything that one process serves.
type app struct {
	given     []access.Token // of the configuration and of the command itself
	settings  *settings
	logger    *slog.Logger
	registry  *prometheus.Registry
	readiness *api.Readiness
	simulated bool
	startedAt time.Time

	dir      *dataDir
	listener *listener
	admin    *listener // nil when it is off
	meta     *meta.DB
	usage    *tokens.Usage
	auth     *access.Authenticator

	// Set once the stores are open.
	metrics   sampleStore
	embedded  *classes.Store // nil where a remote engine keeps samples
	logs      *logs.Store
	inventory *inventory.Store
	rollups   *rollup.Rollups
	history   *history.Store
	hub       *control.Hub
	peers     *apipeers.Service
	told      *apisettings.Service
	server    *api.Server
	known     sync.Map // ids of clusters that have a row

	opened chan struct{} // closed when the stores are open and everything is served
	closer closers
}

// appOptions are what a command adds to the settings.
type appOptions struct {
	Logger *slog.Logger
	// Given are tokens of the command itself.
	Given []access.Token
	// Simulated says that no real cluster is behind it.
	Simulated bool
}

// closers are undone in the order opposite to that in which they were done.
type closers []closer

type closer struct {
	what string
	fn   func() error
}

func (c *closers) add(what string, fn func() error) { *c = append(*c, closer{what, fn}) }

func (c *closers) close(logger *slog.Logger) error {
	var errs []error
	for _, one := range slices.Backward(*c) {
		start := time.Now()
		if err := one.fn(); err != nil {
			errs = append(errs, fmt.Errorf("close %s: %w", one.what, err))
		}
		logger.Debug("closed", "what", one.what, "took_seconds", time.Since(start).Seconds())
	}
	*c = nil
	return errors.Join(errs...)
}

// newApp does everything that can be refused: it takes the data folder and the
// addresses, and finds out who may ask. It starts nothing. When it succeeds, Run
// must be called, which closes everything in the end.
func newApp(s *settings, o appOptions) (_ *app, err error) {
	if err := s.check(); err != nil {
		return nil, err
	}
	boundMemory(o.Logger)
	given, err := s.tokens()
	if err != nil {
		return nil, err
	}
	a := &app{
		settings: s, logger: o.Logger, registry: prometheus.NewRegistry(), simulated: o.Simulated,
		readiness: api.NewReadiness(partMetrics, partLogs, partInventory, partAlerting),
		startedAt: time.Now().UTC(), opened: make(chan struct{}),
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, a.closer.close(a.logger))
		}
	}()
	if err := errors.Join(
		a.registry.Register(collectors.NewGoCollector()),
		a.registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})),
		a.registry.Register(buildInfo()),
	); err != nil {
		return nil, err
	}
	if a.dir, err = openDataDir(s.data); err != nil {
		return nil, err
	}
	a.closer.add("data folder", a.dir.Close)
	if a.meta, err = meta.Open(a.dir.join("meta.db")); err != nil {
		return nil, err
	}
	a.closer.add("meta store", a.meta.Close)
	stored, err := a.meta.ListTokens(context.Background())
	if err != nil {
		return nil, err
	}
	a.given = append(given, o.Given...)
	if a.listener, err = listen(s.listen, s.certFile, s.keyFile, a.logger); err != nil {
		return nil, err
	}
	a.closer.add("listener", a.listener.close)
	a.usage = tokens.NewUsage(a.meta, a.logger, time.Now)
	a.auth, err = access.NewAuthenticator(access.Options{
		Given: a.given, Loopback: access.LoopbackAddress(a.listener.net.Addr()), Used: a.usage.Used,
	}, tokens.Stored(stored))
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", s.listen, err)
	}
	a.listener.serve(api.Starting(a.readiness))
	if s.adminListen != "" {
		if a.admin, err = listen(s.adminListen, s.certFile, s.keyFile, a.logger); err != nil {
			return nil, err
		}
		a.closer.add("admin listener", a.admin.close)
		if !access.LoopbackAddress(a.admin.net.Addr()) {
			return nil, fmt.Errorf("--admin-listen %s can be reached by others, and profiles show memory: listen on loopback: %w", s.adminListen, fault.ErrInvalid)
		}
		local, err := access.NewAuthenticator(access.Options{Loopback: true}, nil)
		if err != nil {
			return nil, err
		}
		// Web pages that a browser on this machine shows are kept out.
		a.admin.serve(local.Middleware(profiling(), func(*http.Request) bool { return false }, problem.Write))
	}
	return a, nil
}

// quiet leaves out what a library says about its normal work, unless everything
// is wanted.
func quiet(l *slog.Logger) *slog.Logger {
	if l.Enabled(context.Background(), slog.LevelDebug) {
		return l
	}
	return slog.New(warnings{l.Handler()})
}

type warnings struct{ slog.Handler }

func (w warnings) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && w.Handler.Enabled(ctx, level)
}
func (w warnings) WithAttrs(attrs []slog.Attr) slog.Handler {
	return warnings{w.Handler.WithAttrs(attrs)}
}
func (w warnings) WithGroup(name string) slog.Handler { return warnings{w.Handler.WithGroup(name)} }

func buildInfo() prometheus.Collector {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "crowsnest_build_info", Help: "1, with the version of the program."}, []string{"version"})
	g.WithLabelValues(version).Set(1)
	return g
}

// URL is where the server can be reached from its own machine.
func (a *app) URL() string { return a.listener.url() }

// Run opens the stores and serves until ctx ends. The listener goes first, then
// what works on its own, then the stores: what others write to closes last.
func (a *app) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, a.closer.close(a.logger)) }()

	g, ctx := errgroup.WithContext(ctx)
	// Parts end once nobody can ask them any more.
	parts, endParts := context.WithCancel(context.WithoutCancel(ctx))
	defer endParts()
	a.listener.drain = a.drain
	g.Go(func() error {
		defer endParts()
		return a.listener.Run(ctx)
	})
	if a.admin != nil {
		g.Go(func() error { return a.admin.Run(ctx) })
	}
	g.Go(func() error {
		runs, err := a.open(ctx)
		if err != nil {
			return err
		}
		for _, run := range runs {
			g.Go(func() error { return run(parts) })
		}
		close(a.opened)
		return nil
	})
	err = g.Wait()
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = nil
	}
	return err
}

// drain ends the streams when the listener is about to wait for its requests.
func (a *app) drain() {
	select {
	case <-a.opened:
		a.server.Stop()
		a.hub.Close()
	default:
	}
}

// flooded says whether a backlog of samples comes.
func (a *app) flooded() bool {
	select {
	case <-a.opened:
		return a.embedded != nil && a.embedded.Flooded()
	default:
		return false
	}
}

// open opens the stores, which may take a while, and then serves everything. It
// gives what is to be run.
func (a *app) open(ctx context.Context) (runs []func(context.Context) error, err error) {
	// What could be opened is closed in the end, also when something else could not.
	var mu sync.Mutex
	closing := func(what string, fn func() error) {
		mu.Lock()
		defer mu.Unlock()
		a.closer.add(what, fn)
	}
	began := time.Now()
	replay := &metrics.Progress{}
	stop := a.progress(began, replay)
	defer stop()
	var g errgroup.Group
	g.Go(func() (err error) {
		if a.metrics, a.embedded, err = a.openSamples(replay); err != nil {
			return err
		}
		closing("metrics store", a.metrics.Close)
		return nil
	})
	g.Go(func() (err error) {
		if a.logs, err = a.openLogs(); err != nil {
			return err
		}
		closing("log store", a.logs.Close)
		a.readiness.Ready(partLogs, a.logs.ReadOnly)
		return nil
	})
	g.Go(func() (err error) {
		a.inventory, err = inventory.Open(inventory.Options{
			Path: a.dir.join("inventory.db"), Logger: a.logger.With("part", partInventory), Registerer: a.registry,
		})
		if err != nil {
			return err
		}
		closing("inventory", a.inventory.Close)
		a.readiness.Ready(partInventory, nil)
		return nil
	})
	if err := g.Wait(); err != nil {
		return nil, err
	}
	stop()
	a.readiness.Ready(partMetrics, a.metrics.ReadOnly)
	if ctx.Err() != nil {
		return nil, nil
	}
	if runs, err = a.assemble(ctx); err != nil {
		return nil, err
	}
	if err := a.dir.reserve(); err != nil {
		a.logger.Warn("take room for a start on a full disk", "err", err)
	}
	a.logger.Info("server ready", "address", a.URL(), "took_seconds", time.Since(began).Seconds())
	return runs, nil
}

// progress says on /readyz how far opening is.
func (a *app) progress(began time.Time, replay *metrics.Progress) (stop func()) {
	logBytes := a.metricsLogs()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			dir, read, total := replay.Segments()
			text := fmt.Sprintf("opening the store: replaying %.1f MiB of log since %d s", float64(logBytes)/(1<<20), int(time.Since(began).Seconds()))
			if total > 0 {
				text += fmt.Sprintf(", %d of %d segments in %s read", read, total, strings.TrimPrefix(dir, a.dir.path+"/"))
			}
			a.readiness.Waiting(partMetrics, text)
			select {
			case <-done:
				return
			case <-tick.C:
			}
		}
	})
	return sync.OnceFunc(func() { close(done); wg.Wait() })
}

// metricsLogs is the size of what the embedded stores of samples read at their start: of each class the
// log, and that of late samples.
func (a *app) metricsLogs() (bytes int64) {
	stores, _ := filepath.Glob(a.dir.join(classesDir + "/*"))
	for _, store := range append(stores, a.dir.join("metrics")) {
		bytes += folderSize(filepath.Join(store, "wal")) + folderSize(filepath.Join(store, "wbl"))
	}
	return bytes
}

func folderSize(path string) (bytes int64) {
	_ = filepath.WalkDir(path, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // it is only for a progress message
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			bytes += info.Size()
		}
		return nil
	})
	return bytes
}

// size counts what the inventory holds of a cluster now.
func (a *app) size(cluster string) apisettings.Size {
	size := apisettings.Size{Nodes: len(a.inventory.Nodes(cluster)), Workloads: len(a.inventory.List(cluster, object.KindWorkload))}
	for _, o := range a.inventory.List(cluster, object.KindPod) {
		if p, ok := o.(*object.Pod); ok && !p.Ended() {
			size.Pods++
			size.Containers += len(p.Containers)
		}
	}
	return size
}

// nodes lists a cluster's nodes.
func (a *app) nodes(cluster string) []*object.Node {
	objects := a.inventory.List(cluster, object.KindNode)
	out := make([]*object.Node, 0, len(objects))
	for _, o := range objects {
		if n, ok := o.(*object.Node); ok {
			out = append(out, n)
		}
	}
	return out
}

// peerVerdicts are what nodes say of each other, for the pages of nodes.
func (a *app) peerVerdicts(cluster string) map[string]apiinventory.PeerVerdict {
	out := map[string]apiinventory.PeerVerdict{}
	for node, v := range a.peers.Verdicts(cluster) {
		out[node] = apiinventory.PeerVerdict{State: string(v.State), Sentence: v.Sentence, Trouble: v.State.Reason()}
	}
	return out
}

// assemble wires what works on the open stores.
func (a *app) assemble(ctx context.Context) (runs []func(context.Context) error, err error) {
	a.told, err = apisettings.New(ctx, apisettings.Options{
		Store:   a.meta,
		Senders: func(cluster string) map[string]control.Sender { return a.hub.Senders(cluster) },
		Size:    a.size,
		Changed: func(cluster string) { a.hub.SettingsChanged(cluster) },
	})
	if err != nil {
		return nil, err
	}
	a.hub, err = control.New(control.Options{Settings: a.told.Of, Accept: a.settings.window.value, History: a.settings.metricsFor.value, Logger: a.logger.With("part", "control"), Registerer: a.registry})
	if err != nil {
		return nil, err
	}
	a.peers, err = apipeers.New(apipeers.Options{Nodes: a.nodes, Senders: a.hub.Senders, Sender: a.hub.Sender})
	if err != nil {
		return nil, err
	}
	alerting, err := a.newAlerting(ctx)
	if err != nil {
		return nil, err
	}
	a.rollups, err = rollup.New(rollup.Options{
		Store: a.metrics, Expected: a.inventory, Written: alerting.rolledUp, Lookback: max(a.settings.window.value, time.Hour),
		Newest: custom.Joined(), Logger: a.logger.With("part", "rollup"), Registerer: a.registry,
	})
	if err != nil {
		return nil, err
	}
	a.history, err = history.Open(history.Options{
		Dir: a.dir.join("history"), Blocks: a.metrics, Expected: a.inventory, Sync: a.settings.metricsSync,
		Logger: a.logger.With("part", "history"), Registerer: a.registry,
	})
	if err != nil {
		return nil, err
	}
	a.closer.add("history", a.history.Close)
	ingester, err := ingest.New(ingest.Options{
		Store: a.metrics, History: a.history, Rollups: a.rollups, Limits: a.settings.limits(), Arrived: alerting.arrived, Watched: alerting.watched,
		Logger: a.logger.With("part", "ingest"), Registerer: a.registry,
	})
	if err != nil {
		return nil, err
	}
	place, err := a.backupPlace()
	if err != nil {
		return nil, err
	}
	backups := backup.NewRunner(backup.Options{
		To: place, Data: a.dir.path, Metrics: a.snapshots(), Classes: a.classStores, Lines: a.logs, Past: a.history,
		Databases: []string{"meta.db", "inventory.db"}, Files: []string{"FORMAT"}, Version: version, Keep: a.settings.backupsKept,
	}, a.logger.With("part", "backup"), a.registry)
	gate, err := apiingest.New(apiingest.Options{
		Metrics: ingester, Logs: a.logs, Inventory: a.inventory, Control: a.hub, Peers: a.peers.Of, Readers: a.peers.Heard, LogReaders: a.peers.FollowLogs, Seen: a.seen, Registerer: a.registry,
	})
	if err != nil {
		return nil, err
	}
	prom, err := apiprometheus.New(apiprometheus.Options{
		Store: a.metrics, PromQL: a.promQL, Rules: alerting.rules, Version: version, Logger: a.logger.With("part", "prometheus"), Registerer: a.registry, Gatherer: a.registry,
	})
	if err != nil {
		return nil, err
	}
	logsql, err := apilogs.New(apilogs.Options{
		Store: a.logs, Services: a.inventory, MaxConcurrent: a.settings.logsQueries.int(), MaxQueryTime: a.settings.logsQueryTime.value,
		MaxRows: a.settings.logsQueryRows.int(), Registerer: a.registry,
	})
	if err != nil {
		return nil, err
	}
	pushed, err := logpush.New(logpush.Options{Store: a.logs, Seen: a.seen, Registerer: a.registry})
	if err != nil {
		return nil, err
	}
	opts := api.Options{
		Version: version, StartedAt: a.startedAt, Access: a.auth, Readiness: a.readiness,
		Ingest: gate, Prometheus: prom, Logs: logsql, LogLines: logsql, LogPush: pushed,
		Tokens: tokens.Options{Store: a.meta, Changed: func(all []meta.Token) { a.auth.SetStored(tokens.Stored(all)) }},
		Inventory: apiinventory.Options{
			Store: a.inventory, Values: a.metrics, Health: a.hub.Health, Known: a.knownClusters, Incidents: alerting.incidents,
			Delete: a.deleteCluster, Peers: a.peerVerdicts,
		},
		Writes:   ingester,
		Charts:   a.charts(prom),
		Boards:   boards.Options{Store: a.meta},
		Backups:  backups,
		Settings: a.told,
		Peers:    a.peers,
		Status:   api.StatusOptions{Clusters: a.clusters, Stores: a.stores, Simulated: a.simulated},
		Registry: a.registry, Logger: a.logger.With("part", "api"),
	}
	if files, ok := console.FS(); ok {
		opts.Console = files
	}
	alerting.options(&opts)
	if a.server, err = api.New(opts); err != nil {
		return nil, err
	}
	a.readiness.Ready(partAlerting, nil)
	a.listener.serve(a.server.Handler())
	return append(alerting.runs, ingester.Run, a.rollups.Run, a.history.Run, a.inventory.Run, a.usage.Run, backups.Run), nil
}

// seen gives a cluster that sends for the first time its row.
func (a *app) seen(ctx context.Context, cluster string) error {
	if _, ok := a.known.Load(cluster); ok {
		return nil
	}
	_, err := a.meta.GetCluster(ctx, cluster)
	if errors.Is(err, fault.ErrNotFound) {
		err = a.meta.UpsertCluster(ctx, meta.ClusterRow{ID: cluster, CreatedAt: time.Now().UTC()})
		if err == nil {
			a.logger.Info("new cluster", "cluster", cluster)
		}
	}
	if err != nil {
		return err
	}
	a.known.Store(cluster, true) // bounded by the number of ingest tokens
	return nil
}

// knownClusters gives the clusters that have a row.
func (a *app) knownClusters(ctx context.Context) ([]apiinventory.Known, error) {
	rows, err := a.meta.ListClusters(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]apiinventory.Known, len(rows))
	for i, row := range rows {
		out[i] = apiinventory.Known{ID: row.ID, Name: row.Name, Kind: row.Kind}
	}
	return out, nil
}

// clusters lists all that have a row or objects.
func (a *app) clusters() []string {
	ids := map[string]bool{}
	for _, id := range a.inventory.Clusters() {
		ids[id] = true
	}
	if rows, err := a.meta.ListClusters(context.Background()); err == nil {
		for _, row := range rows {
			ids[row.ID] = true
		}
	}
	return slices.Sorted(maps.Keys(ids))
}

// stores describes the state of each store.
func (a *app) stores() []api.Store {
	text := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	samples := api.Store{
		Name: "metrics", Series: a.metrics.Series(), Bytes: uint64(folderSize(a.dir.join("metrics")) + folderSize(a.dir.join(classesDir)) + folderSize(a.dir.join(aggregatesDir))), ReadOnly: text(a.metrics.ReadOnly()),
		Rewriting: a.metrics.ToRewrite(),
	}
	if in, never, known := a.metrics.Forecast(); known && !never {
		seconds := int64(in.Seconds())
		samples.FullSeconds = &seconds
	}
	// An empty store's oldest sample lies at the end of time.
	if millis, err := a.metrics.StartTime(); err == nil && millis < time.Now().UnixMilli() {
		since := time.UnixMilli(millis).UTC()
		samples.Since = &since
	}
	out := []api.Store{samples}
	if info, err := a.logs.Info(); err == nil {
		out = append(out, api.Store{Name: "logs", Rows: info.Rows, Bytes: info.Bytes, ReadOnly: info.ReadOnly})
	}
	for _, name := range []string{"meta", "inventory"} {
		var bytes uint64
		if info, err := os.Stat(a.dir.join(name + ".db")); err == nil {
			bytes = uint64(info.Size())
		}
		out = append(out, api.Store{Name: name, Bytes: bytes})
	}
	return out
}
