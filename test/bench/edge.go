package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang/snappy"
	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// post sends one request and says how long to wait where it was sent away.
func post(ctx context.Context, client *http.Client, url, sender string, at time.Time, backlog bool, body []byte) (retry time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+wire.PathMetrics, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	for k, v := range map[string]string{
		"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "2.0.0",
		"Authorization": "Bearer " + benchToken, wire.HeaderVersion: strconv.Itoa(wire.Version), wire.HeaderSender: sender,
		wire.HeaderInterval: strconv.Itoa(int(siteInterval / time.Second)), wire.HeaderComplete: wire.FormatMillis(at),
	} {
		req.Header.Set(k, v)
	}
	if backlog {
		req.Header.Set(wire.HeaderBacklog, "true")
	}
	res, err := client.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return 500 * time.Millisecond, nil // it is being killed, or starts
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	switch {
	case err != nil:
		return 500 * time.Millisecond, nil
	case res.StatusCode == http.StatusTooManyRequests || res.StatusCode == http.StatusServiceUnavailable:
		seconds, _ := strconv.Atoi(res.Header.Get("Retry-After"))
		return time.Duration(max(seconds, 1))*time.Second + rand.N(500*time.Millisecond), nil
	case res.StatusCode/100 != 2:
		return 0, fmt.Errorf("%s: %s", res.Status, text)
	}
	return 0, nil
}

func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// edgeBacklog has a site come back after a day: each of its collectors sends what
// waited, one request at a time as the pusher does, while live data go on; in the
// middle the server is killed. In the end every sample must be there, once.
func edgeBacklog(ctx context.Context, b *bench) (_ []Result, err error) {
	s, err := b.site(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	b.say("%d samples in %.0f MiB wait", s.total, float64(s.bytes)/mib)
	goesOn, err := newFleet(ctx, b.siteNodes, siteEnd)
	if err != nil {
		return nil, err
	}
	shift := time.Now().Truncate(time.Hour).Sub(siteEnd) // of the stream's time stamps

	address, err := testbed.FreeAddress()
	if err != nil {
		return nil, err
	}
	server := &testbed.Server{URL: "http://" + address, Cluster: benchCluster}
	tokenFile := filepath.Join(b.dir, "site-token")
	if err := os.WriteFile(tokenFile, []byte(benchToken+"\n"), 0o600); err != nil {
		return nil, err
	}
	start := func(ctx context.Context, name string) (*testbed.Process, error) {
		p, err := testbed.Start(b.dir, name, filepath.Join(b.root, "bin/crowsnest"), "server", "--data", filepath.Join(b.dir, "site-server"),
			"--listen", address, "--ingest-token-file", benchCluster+"="+tokenFile)
		if err != nil {
			return nil, err
		}
		return p, p.WaitReady(ctx, server, 3*time.Minute)
	}
	p, err := start(ctx, "site-server")
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	current := p
	defer func() { _ = current.Stop(20 * time.Second) }()
	client := &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 200}}

	// Live data: every interval, by each sender, until the backlog is gone.
	var live struct {
		took     []time.Duration // until the server had it, repetitions included
		restarts atomic.Int64    // requests that came while it was down
	}
	sendLive := func(ctx context.Context, at time.Time) error {
		var g errgroup.Group
		g.SetLimit(8)
		for sender, samples := range goesOn.interval(ctx, at.Add(-shift)) {
			raw, err := writeRequest(samples, shift)
			if err != nil {
				return errors.Join(err, g.Wait())
			}
			body := snappy.Encode(nil, raw)
			g.Go(func() error {
				began, repeated := time.Now(), false
				for {
					retry, err := post(ctx, client, server.URL, sender, at, false, body)
					if err != nil {
						return err
					}
					if retry == 0 {
						break
					}
					repeated = true
					if err := pause(ctx, min(retry, time.Second)); err != nil {
						return err
					}
				}
				if repeated {
					live.restarts.Add(1)
					return nil
				}
				mu.Lock()
				live.took = append(live.took, time.Since(began))
				mu.Unlock()
				return nil
			})
		}
		return g.Wait()
	}
	goLive := func(ctx context.Context) error {
		for {
			at := time.Now().Truncate(siteInterval).Add(siteInterval)
			if pause(ctx, time.Until(at)) != nil {
				return nil
			}
			if err := sendLive(context.WithoutCancel(ctx), at.UTC()); err != nil {
				return fmt.Errorf("live data: %w", err)
			}
		}
	}
	b.say("live data alone")
	quiet, stopQuiet := context.WithTimeout(ctx, 2*siteInterval+5*time.Second)
	err = goLive(quiet)
	stopQuiet()
	if err != nil {
		return nil, err
	}
	before, err := testbed.UsageOf(p.PID())
	if err != nil {
		return nil, err
	}
	mu.Lock()
	live.took = nil
	mu.Unlock()

	b.say("the site is back")
	requests := s.requests()
	var done, busy atomic.Int64
	senders, err := testbed.UsageOf(os.Getpid())
	if err != nil {
		return nil, err
	}
	began := time.Now()
	backlog, cancel := context.WithCancel(ctx)
	defer cancel()
	g, backlogCtx := errgroup.WithContext(backlog)
	for sender, list := range s.batches {
		g.Go(func() error {
			var memory []byte
			for _, one := range list {
				body, kept, err := s.read(one, shift, memory)
				if err != nil {
					return err
				}
				memory = kept
				at := time.UnixMilli(one.At).Add(shift)
				for {
					attempt := time.Now()
					retry, err := post(backlogCtx, client, server.URL, sender, at, true, body)
					if err != nil {
						return fmt.Errorf("backlog of %s: %w", sender, err)
					}
					if retry == 0 {
						done.Add(1)
						if err := pause(backlogCtx, max(20*time.Millisecond, time.Since(attempt))); err != nil {
							return err
						}
						break
					}
					busy.Add(1)
					if err := pause(backlogCtx, retry); err != nil {
						return err
					}
				}
			}
			return nil
		})
	}
	liveCtx, stopLive := context.WithCancel(ctx)
	defer stopLive()
	var helpers errgroup.Group
	helpers.Go(func() error { return goLive(liveCtx) })
	var most, cpuBefore, killed float64
	helpers.Go(func() error { // memory, and the kill in the middle
		for pause(liveCtx, time.Second) == nil {
			mu.Lock()
			now := current
			mu.Unlock()
			if u, err := testbed.UsageOf(now.PID()); err == nil {
				most = max(most, float64(u.Anonymous)/mib)
				cpuBefore = u.CPU.Seconds()
			}
			if killed == 0 && done.Load() > int64(requests)/2 {
				b.say("kill -9 after %d of %d requests", done.Load(), requests)
				mu.Lock()
				killed = max(cpuBefore, 0.001)
				mu.Unlock()
				now.Kill()
				<-now.Done()
				again, err := start(liveCtx, "site-server-again")
				if again != nil {
					mu.Lock()
					current = again
					mu.Unlock()
				}
				if err != nil {
					cancel()
					return fmt.Errorf("start after the kill: %w", err)
				}
				b.say("the server is back after %s of the backlog", time.Since(began).Round(time.Second))
			}
		}
		return nil
	})
	err = g.Wait()
	took := time.Since(began)
	if u, uerr := testbed.UsageOf(os.Getpid()); uerr == nil {
		senders.CPU = u.CPU - senders.CPU
	}
	mu.Lock()
	cpu, now := killed-before.CPU.Seconds(), current // of both servers
	mu.Unlock()
	if u, err := testbed.UsageOf(now.PID()); err == nil {
		cpu += u.CPU.Seconds()
	}
	if err == nil {
		err = pause(ctx, 2*siteInterval) // late ones of the live data
	}
	stopLive()
	if err = errors.Join(err, helpers.Wait()); err != nil {
		return nil, err
	}
	b.say("backlog gone after %s, counting", took.Round(time.Second))
	lost, twice, err := s.compare(ctx, server, shift)
	if err != nil {
		return nil, err
	}
	slices.Sort(live.took)
	p99 := live.took[len(live.took)*99/100]
	note := fmt.Sprintf("%s of a simulated site of %d nodes and %d pods at 30 s: %d samples in %d requests of %.0f MiB, each of %d senders with one at a time, the server killed with -9 in the middle; %d times it asked to come later. %s.",
		b.siteFor, b.siteNodes, b.siteNodes*30, s.total, requests, float64(s.bytes)/mib, len(s.batches), busy.Load(), machine())
	command := fmt.Sprintf("make bench BENCH=\"--only edge_backlog --site-nodes %d --site-for %s\"", b.siteNodes, b.siteFor)
	full := b.siteNodes >= 100 && b.siteFor >= 24*time.Hour
	bar := func(text string) string {
		if !full {
			return "" // a smaller one says nothing about it
		}
		return text
	}
	return []Result{
		{Name: "edge_backlog_cpu", Unit: "µs/sample", Ours: cpu * 1e6 / float64(s.total), Command: command,
			Note: fmt.Sprintf("Of the server, its start after the kill and the live data meanwhile included; the senders, on the same machine, took %.2f. %s", senders.CPU.Seconds()*1e6/float64(s.total), note)},
		{Name: "edge_backlog", Unit: "min", Ours: took.Minutes(), Bar: bar("<= 15"), Command: command, Note: "Until the last request was acknowledged. " + note},
		{Name: "edge_backlog_memory", Unit: "MiB", Ours: most - float64(before.Anonymous)/mib, Bar: bar("<= 1024"), Command: command,
			Note: fmt.Sprintf("Anonymous memory of the server, the most that was seen, above the %.0f MiB that it had with live data alone. %s", float64(before.Anonymous)/mib, note)},
		{Name: "edge_backlog_live_p99", Unit: "s", Ours: p99.Seconds(), Bar: "<= 2", Command: command,
			Note: fmt.Sprintf("Live requests meanwhile until they were acknowledged, the slowest %.2f s, without the %d that met the kill. %s", live.took[len(live.took)-1].Seconds(), live.restarts.Load(), note)},
		{Name: "edge_backlog_lost", Unit: "samples", Ours: float64(lost), Bar: "<= 0", Command: command, Note: "Missing in queries afterwards, by metric and hour. " + note},
		{Name: "edge_backlog_twice", Unit: "samples", Ours: float64(twice), Bar: "<= 0", Command: command, Note: "More than were sent, the same way. " + note},
	}, nil
}

// compare counts what the server has of each metric and hour.
func (s *site) compare(ctx context.Context, server *testbed.Server, shift time.Duration) (lost, twice int, err error) {
	for _, name := range slices.Sorted(maps.Keys(s.samples)) {
		for hour, want := range s.samples[name] {
			at := time.UnixMilli(hour).Add(shift).UTC()
			series, err := server.Instant(ctx, fmt.Sprintf("sum(count_over_time(%s{cluster=%q}[1h]))", name, benchCluster), at)
			if err != nil {
				return 0, 0, err
			}
			got := 0
			if len(series) > 0 {
				got = int(series[0].Last())
			}
			if d := want - got; d > 0 {
				lost += d
			} else {
				twice -= d
			}
		}
	}
	return lost, twice, nil
}
