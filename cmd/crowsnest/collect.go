package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/collector/push"
	"github.com/crowsnest-dev/crowsnest/collector/simulate"
	"github.com/crowsnest-dev/crowsnest/internal/config"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// collectorGrace is how long the collector may take to put down what it has,
// before the server that it sends to ends under it.
const collectorGrace = 2 * time.Second

// subject is what a collector in this process watches.
type subject struct {
	cluster string // its id
	what    string // in words for people
	notes   []string
	lacking map[string]string
	// world makes the sources. dir is a folder of the collector's own, client how
	// it reaches the server.
	world func(ctx context.Context, dir string, client *push.Client, logger *slog.Logger) (collector.World, error)
	// history is how much of a simulated past a fresh folder is filled with.
	history  time.Duration
	simulate *simulate.Options
}

// together runs a server with a collector in the same process. The collector
// sends over HTTP like any other, with a token that only this process knows.
type together struct {
	app      *app
	subject  subject
	token    config.Secret
	interval time.Duration // zero: the server's word
	logger   *slog.Logger
	// dir is the collector's own: what waits for one cluster must never be sent
	// as another's, when the data folder is used for a second one.
	dir string
	// first says that this cluster was never collected here before.
	first bool
}

// newTogether prepares the server, and a token for the collector.
func newTogether(s *settings, sub subject, interval time.Duration, logger *slog.Logger) (*together, error) {
	token := access.NewToken(access.IngestToken)
	a, err := newApp(s, appOptions{Logger: logger, Simulated: sub.simulate != nil, Given: []access.Token{{
		Principal: access.Principal{Kind: access.IngestToken, Name: "the collector of this process", Cluster: sub.cluster}, Hash: access.Hash(token),
	}}})
	if err != nil {
		return nil, err
	}
	dir := a.dir.join(filepath.Join("collector", sub.cluster))
	_, err = os.Stat(dir)
	return &together{
		app: a, subject: sub, token: config.NewSecret(token), interval: interval, logger: logger,
		dir: dir, first: errors.Is(err, fs.ErrNotExist),
	}, nil
}

// Run serves and collects until ctx ends. The collector ends first, so that what
// it has just sent is stored.
func (t *together) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	server, endServer := context.WithCancel(context.WithoutCancel(ctx))
	collected := make(chan struct{})
	g.Go(func() error {
		defer endServer()
		return t.app.Run(server)
	})
	g.Go(func() error {
		<-ctx.Done()
		timer := time.NewTimer(collectorGrace)
		defer timer.Stop()
		select {
		case <-collected:
		case <-timer.C:
		}
		endServer()
		return nil
	})
	g.Go(func() error {
		defer close(collected)
		select {
		case <-t.app.opened:
		case <-ctx.Done():
			return nil
		}
		inner, ctx := errgroup.WithContext(ctx)
		inner.Go(func() error { return t.collect(ctx) })
		inner.Go(func() error { return t.backfill(ctx) })
		return inner.Wait()
	})
	return g.Wait()
}

func (t *together) collect(ctx context.Context) error {
	client, err := push.NewClient(push.ClientOptions{
		Server: t.app.URL(), Token: t.token, Sender: wire.Sender(wire.RoleAll, ""),
		// It is this process's own listener, whose certificate is for its name and
		// not for its loopback address.
		InsecureSkipVerify: t.app.listener.tls,
	})
	if err != nil {
		return err
	}
	return t.subject.collect(ctx, client, t.dir, t.interval, t.logger.With("part", "collector"), t.app.registry)
}

// collect runs a collector of the subject.
func (s *subject) collect(ctx context.Context, client *push.Client, dir string, interval time.Duration, logger *slog.Logger, reg prometheus.Registerer) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the collector's folder: %w", err)
	}
	world, err := s.world(ctx, dir, client, logger)
	if err != nil {
		return err
	}
	c, err := collector.New(collector.Options{
		Role: wire.RoleAll, Client: client, Interval: interval, World: world, QueueDir: dir,
		Lacking: s.lacking, Version: version, Logger: logger, Registerer: reg,
	})
	if err != nil {
		return err
	}
	return c.Run(ctx)
}

// backfill gives a simulated cluster that is new here its past. One that was broken off begins
// again at the next start. Trouble with it is no reason to end the server.
func (t *together) backfill(ctx context.Context) error {
	dir := t.app.dir.join("backfill")
	_, err := os.Stat(dir)
	if t.subject.history <= 0 || (!t.first && errors.Is(err, fs.ErrNotExist)) {
		return nil
	}
	start := time.Now()
	err = func() error {
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		opts := *t.subject.simulate
		if t.interval != 0 {
			opts.Interval = t.interval
		}
		// The newest part first: what is looked at first is there first.
		to := start
		for _, back := range []time.Duration{time.Hour, t.subject.history} {
			from := start.Add(-min(back, t.subject.history))
			if !from.Before(to) {
				continue
			}
			if err := simulate.Backfill(ctx, opts, dir, from, to); err != nil {
				return err
			}
			if err := t.app.metrics.ImportBlocks(ctx, dir); err != nil {
				return err
			}
			to = from
		}
		return os.RemoveAll(dir)
	}()
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		t.logger.Error("simulated history not filled in", "error", err)
	default:
		t.logger.Info("simulated history filled in", "history", t.subject.history.String(), "took_seconds", time.Since(start).Seconds())
	}
	return nil
}

// simulated makes a subject of a fleet.
func simulated(opts simulate.Options, cluster string, history time.Duration) (subject, error) {
	opts.Cluster = cluster
	if _, err := simulate.New(opts); err != nil { // only to find what is wrong before anything starts
		return subject{}, err
	}
	return subject{
		cluster:  cluster,
		what:     "a simulated cluster",
		history:  history,
		simulate: &opts,
		world: func(_ context.Context, dir string, _ *push.Client, logger *slog.Logger) (collector.World, error) {
			opts := opts
			opts.Dir, opts.Logger = dir, logger
			fleet, err := simulate.New(opts)
			if err != nil {
				return collector.World{}, err
			}
			return fleet.World(), nil
		},
	}, nil
}
