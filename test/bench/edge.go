package main

import (
	"bufio"
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
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/simulate"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

const siteInterval = 30 * time.Second

// batchAt is one request of a site's backlog, within a file of many.
type batchAt struct {
	file   *os.File
	offset int64
	size   int
	at     time.Time
}

// site is a simulated site: what its collectors have in their queues, and what
// they go on to send.
type site struct {
	fleet *simulate.Fleet
	read  interface {
		Read(ctx context.Context, at time.Time, now *state.Snapshot) []reading.Set
	}
	comp *compute.Computer

	files   []*os.File
	batches map[string][]batchAt // by sender, oldest first
	// samples by metric and hour: those at its end included, those at its begin not.
	samples map[string]map[time.Time]int
	total   int
	bytes   int64
}

// interval gives the requests of one grid point by sender.
func (s *site) interval(ctx context.Context, at time.Time, count bool) (map[string][]byte, error) {
	s.fleet.Advance(at)
	snapshot := s.fleet.Snapshot()
	bySender := map[string][]compute.Sample{}
	for _, one := range s.comp.Interval(at, s.read.Read(ctx, at, snapshot), snapshot) {
		sender := wire.Sender(wire.RoleCluster, "")
		if node := one.Labels.Get("node"); node != "" {
			sender = wire.Sender(wire.RoleNode, node)
		}
		bySender[sender] = append(bySender[sender], one)
		if count && !one.Stale() {
			s.total++
			hour := one.At.Truncate(time.Hour)
			if hour.Before(one.At) {
				hour = hour.Add(time.Hour)
			}
			if s.samples[one.Metric] == nil {
				s.samples[one.Metric] = map[time.Time]int{}
			}
			s.samples[one.Metric][hour]++
		}
	}
	out := map[string][]byte{}
	for sender, samples := range bySender {
		symbols := writev2.NewSymbolTable()
		req := writev2.Request{Timeseries: make([]writev2.TimeSeries, 0, len(samples))}
		for _, one := range samples {
			ts := writev2.TimeSeries{Samples: []writev2.Sample{{Value: one.V, Timestamp: one.At.UnixMilli()}}}
			ts.LabelsRefs = append(ts.LabelsRefs, symbols.Symbolize(labels.MetricName), symbols.Symbolize(one.Metric))
			one.Labels.Range(func(l labels.Label) {
				ts.LabelsRefs = append(ts.LabelsRefs, symbols.Symbolize(l.Name), symbols.Symbolize(l.Value))
			})
			req.Timeseries = append(req.Timeseries, ts)
		}
		req.Symbols = symbols.Symbols()
		raw, err := req.Marshal()
		if err != nil {
			return nil, err
		}
		out[sender] = snappy.Encode(nil, raw)
	}
	return out, nil
}

// newSite computes what a site measured in [from, to), a part of the time on each
// CPU. The last part goes on with what is live.
func newSite(ctx context.Context, path string, nodes int, from, to time.Time) (*site, error) {
	parts := max(1, min(runtime.NumCPU(), int(to.Sub(from)/time.Hour)))
	all := make([]*site, parts)
	each := to.Sub(from) / time.Duration(parts) / siteInterval * siteInterval
	g, ctx := errgroup.WithContext(ctx)
	for i := range all {
		begin, end := from.Add(time.Duration(i)*each), from.Add(time.Duration(i+1)*each)
		if i == parts-1 {
			end = to
		}
		g.Go(func() (err error) {
			all[i], err = newPart(ctx, fmt.Sprintf("%s-%d", path, i), nodes, begin, end, i > 0)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	last := all[parts-1]
	whole := &site{fleet: last.fleet, read: last.read, comp: last.comp, batches: map[string][]batchAt{}, samples: map[string]map[time.Time]int{}}
	for _, p := range all {
		whole.files = append(whole.files, p.files...)
		whole.total += p.total
		whole.bytes += p.bytes
		for sender, list := range p.batches {
			whole.batches[sender] = append(whole.batches[sender], list...)
		}
		for metric, hours := range p.samples {
			if whole.samples[metric] == nil {
				whole.samples[metric] = map[time.Time]int{}
			}
			for hour, n := range hours {
				whole.samples[metric][hour] += n
			}
		}
	}
	return whole, nil
}

// newPart computes a part of it. One that goes on where another one ends computes
// the interval before its first too, so that it has rates at once.
func newPart(ctx context.Context, path string, nodes int, from, to time.Time, goesOn bool) (_ *site, err error) {
	fleet, err := simulate.New(simulate.Options{Nodes: nodes, PodsPerNode: 30, Seed: 4, Churn: simulate.DefaultChurn, Interval: siteInterval})
	if err != nil {
		return nil, err
	}
	s := &site{
		fleet: fleet, read: fleet.World().Readings[0], batches: map[string][]batchAt{}, samples: map[string]map[time.Time]int{},
		comp: compute.New(compute.Options{Role: wire.RoleAll, Sender: wire.Sender(wire.RoleAll, ""), Interval: siteInterval}),
	}
	if goesOn {
		if _, err := s.interval(ctx, from.Add(-siteInterval), false); err != nil {
			return nil, err
		}
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	s.files = []*os.File{file}
	w := bufio.NewWriterSize(file, 1<<20)
	for at := from; at.Before(to); at = at.Add(siteInterval) {
		if err := ctx.Err(); err != nil {
			return nil, errors.Join(err, file.Close())
		}
		requests, err := s.interval(ctx, at, true)
		if err != nil {
			return nil, errors.Join(err, file.Close())
		}
		for sender, body := range requests {
			s.batches[sender] = append(s.batches[sender], batchAt{file, s.bytes, len(body), at})
			s.bytes += int64(len(body))
			if _, err := w.Write(body); err != nil {
				return nil, errors.Join(err, file.Close())
			}
		}
	}
	return s, w.Flush()
}

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
func edgeBacklog(ctx context.Context, b *bench) ([]Result, error) {
	to := time.Now().Truncate(time.Hour).UTC()
	from := to.Add(-b.siteFor)
	b.say("computing %s of %d nodes", b.siteFor, b.siteNodes)
	s, err := newSite(ctx, filepath.Join(b.dir, "site"), b.siteNodes, from, to)
	if err != nil {
		return nil, err
	}
	defer func() {
		for _, f := range s.files {
			_ = f.Close()
		}
	}()
	b.say("%d samples in %.0f MiB wait", s.total, float64(s.bytes)/mib)

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
		requests, err := s.interval(ctx, at, false)
		if err != nil {
			return err
		}
		var g errgroup.Group
		g.SetLimit(8)
		for sender, body := range requests {
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
	requests := 0
	for _, list := range s.batches {
		requests += len(list)
	}
	var done, busy atomic.Int64
	began := time.Now()
	backlog, cancel := context.WithCancel(ctx)
	defer cancel()
	g, backlogCtx := errgroup.WithContext(backlog)
	for sender, list := range s.batches {
		g.Go(func() error {
			var body []byte
			for _, one := range list {
				body = slices.Grow(body[:0], one.size)[:one.size]
				if _, err := one.file.ReadAt(body, one.offset); err != nil {
					return err
				}
				for {
					attempt := time.Now()
					retry, err := post(backlogCtx, client, server.URL, sender, one.at, true, body)
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
	lost, twice, err := s.compare(ctx, server)
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
		{Name: "edge_backlog_cpu", Unit: "µs/sample", Ours: cpu * 1e6 / float64(s.total), Command: command, Note: "Of the server, its start after the kill and the live data meanwhile included. " + note},
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
func (s *site) compare(ctx context.Context, server *testbed.Server) (lost, twice int, err error) {
	for _, name := range slices.Sorted(maps.Keys(s.samples)) {
		for at, want := range s.samples[name] {
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
