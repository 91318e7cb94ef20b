package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	promconfig "github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
	v1 "github.com/prometheus/prometheus/web/api/v1"
	"go.yaml.in/yaml/v2"

	"github.com/crowsnest-dev/crowsnest/api/charts"
	apiprometheus "github.com/crowsnest-dev/crowsnest/api/prometheus"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/backup"
	"github.com/crowsnest-dev/crowsnest/storage/bucket"
	"github.com/crowsnest-dev/crowsnest/storage/classes"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
	remotestore "github.com/crowsnest-dev/crowsnest/storage/remote"
)

// Engines that keep samples.
const (
	engineEmbedded = "embedded"
	engineRemote   = "remote"
)

// sampleStore is where samples are, embedded or with a remote engine.
type sampleStore interface {
	storage.Storage
	storage.ExemplarQueryable
	v1.TSDBAdminStats
	clusterRemover
	ImportBlocks(ctx context.Context, dir string) error
	RetentionText() string
	ReadOnly() error
	Series() uint64
	ToRewrite() int
	Forecast() (in time.Duration, never, known bool)
}

var (
	_ sampleStore = (*classes.Store)(nil)
	_ sampleStore = (*remotestore.Store)(nil)
)

// openSamples opens the store that the settings name. embedded is nil where
// samples are with a remote engine.
func (a *app) openSamples(replay *metrics.Progress) (store sampleStore, embedded *classes.Store, err error) {
	s := a.settings
	if s.metricsEngine == engineRemote {
		http, err := httpConfig("metrics-http-config", s.metricsHTTPFile)
		if err != nil {
			return nil, nil, err
		}
		store, err := remotestore.New(remotestore.Options{
			WriteURL: s.metricsWriteURL, QueryURL: s.metricsQueryURL, HTTP: http,
			Logger: a.logger.With("part", partMetrics), Registerer: a.registry,
		})
		if err != nil {
			return nil, nil, err
		}
		if folderSize(a.dir.join("metrics")) > 0 {
			a.logger.Warn("samples that the embedded store has kept are not read while a remote engine is used: crowsnest migrate moves them", "dir", a.dir.join("metrics"))
		}
		return store, nil, nil
	}
	raw, named := s.classes.split()
	embedded, err = classes.Open(classes.Options{
		Metrics: metrics.Options{
			Dir: a.dir.join("metrics"), Retention: s.metricsFor.value, MaxBytes: s.metricsMax.bytes,
			Sync: s.metricsSync, OutOfOrderWindow: s.window.value, Logger: quiet(a.logger.With("part", partMetrics)), Registerer: a.registry,
			Progress: replay, BlockRange: map[string]time.Duration{"1h": time.Hour, "2h": 2 * time.Hour}[s.metricsBlock.value],
		},
		Dir: a.dir.join(classesDir), Aggregates: a.dir.join(aggregatesDir), Raw: raw, Named: named, Clusters: s.classOf.by,
		Declared: func(name string) bool {
			_, declared := catalogue.Get(name)
			return declared || strings.HasPrefix(name, "crowsnest_")
		},
	})
	return embedded, embedded, err
}

// promQL leaves queries to the engine that has the samples.
func (a *app) promQL(here promql.QueryEngine) promql.QueryEngine {
	if r, ok := a.metrics.(*remotestore.Store); ok {
		return r.Engine(here)
	}
	return here
}

// charts gives what reads charts: the embedded store, which has aggregates, or
// queries.
func (a *app) charts(prom *apiprometheus.API) charts.Source {
	if a.embedded != nil {
		return a.embedded
	}
	return charts.PromQL{Engine: prom.Engine(), Queryable: prom.Queryable()}
}

// httpConfig reads the file of a flag that says how a remote engine is reached.
func httpConfig(flag, file string) (promconfig.HTTPClientConfig, error) {
	cfg := promconfig.DefaultHTTPClientConfig
	cfg.FollowRedirects = false // a write that is led elsewhere is not kept where queries look
	if file == "" {
		return cfg, nil
	}
	raw, err := os.ReadFile(file)
	if err != nil {
		return cfg, fmt.Errorf("read --%s: %w", flag, err)
	}
	if err := yaml.UnmarshalStrict(raw, &cfg); err != nil {
		return cfg, fmt.Errorf("--%s %s: %w: %w", flag, file, fault.ErrInvalid, err)
	}
	cfg.SetDirectory(filepath.Dir(file))
	cfg.FollowRedirects = false
	return cfg, nil
}

// backupPlace is where backups go; nil when nowhere.
func (a *app) backupPlace() (backup.Place, error) {
	switch s := a.settings; {
	case s.backupDir != "":
		return backup.Folder(s.backupDir), nil
	case s.backupBucket != "":
		b, err := bucket.OpenFile(s.backupBucket)
		if err != nil {
			return nil, err
		}
		a.closer.add("bucket of backups", b.Close)
		host, err := os.Hostname()
		if err != nil {
			return nil, fmt.Errorf("name this server to others that may use the bucket: %w", err)
		}
		return backup.Bucket(b, host+":"+a.dir.path, time.Now), nil
	}
	return nil, nil
}

// snapshots gives what backups take of the samples: nothing where they are with
// a remote engine, which has backups of its own.
func (a *app) snapshots() backup.Metrics {
	if a.embedded == nil {
		return elsewhere{}
	}
	return a.embedded
}

// classStores gives the stores of all classes but the catalogue's, for backups.
func (a *app) classStores() map[string]backup.Metrics {
	out := map[string]backup.Metrics{}
	if a.embedded == nil {
		return out
	}
	for name, db := range a.embedded.Opened() {
		if name != classes.Catalogue {
			out[name] = db
		}
	}
	return out
}

type elsewhere struct{}

func (elsewhere) SnapshotBlocks(_ context.Context, dir string) error { return os.MkdirAll(dir, 0o750) }
