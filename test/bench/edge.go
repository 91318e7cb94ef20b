package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
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

	"github.com/crowsnest-dev/crowsnest/collector/push"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// word is what a sender says beside a request.
type word struct {
	sender   string
	interval time.Duration
	through  time.Time // it has sent all up to then, unless that is zero
	backlog  bool
	earlier  []time.Time
}

// post sends one request, and says how long to wait where it was sent away.
func post(ctx context.Context, client *http.Client, url string, says word, body []byte) (retry time.Duration, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+wire.PathMetrics, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	for k, v := range map[string]string{
		"Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request", "Content-Encoding": "snappy", "X-Prometheus-Remote-Write-Version": "2.0.0",
		"Authorization": "Bearer " + benchToken, wire.HeaderVersion: strconv.Itoa(wire.Version), wire.HeaderSender: says.sender,
		wire.HeaderInterval: strconv.Itoa(int(says.interval / time.Second)),
	} {
		req.Header.Set(k, v)
	}
	if !says.through.IsZero() {
		req.Header.Set(wire.HeaderComplete, wire.FormatMillis(says.through))
	}
	if says.backlog {
		req.Header.Set(wire.HeaderBacklog, "true")
	}
	if len(says.earlier) > 0 {
		req.Header.Set(wire.HeaderEarlier, wire.FormatEarlier(says.earlier))
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
// waited, several intervals in a request and one request at a time, as the pusher does, while live data go on; in the
// middle the server is killed. In the end every sample must be there, once.
func edgeBacklog(ctx context.Context, b *bench) (_ []Result, err error) {
	s, err := b.site(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	b.say("%d samples in %.0f MiB wait", s.total, float64(s.bytes)/mib)
	goesOn, err := newFleet(ctx, wire.RoleAll, siteOf(b.siteNodes), nil, siteEnd)
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
	admin, err := testbed.FreeAddress()
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	var current *testbed.Process
	start := func(ctx context.Context, name string) error {
		p, err := testbed.Start(b.dir, name, filepath.Join(b.root, "bin/crowsnest"), "server", "--data", filepath.Join(b.dir, "site-server"),
			"--listen", address, "--admin-listen", admin, "--ingest-token-file", benchCluster+"="+tokenFile)
		if err != nil {
			return err
		}
		mu.Lock()
		current = p
		mu.Unlock()
		return p.WaitReady(ctx, server, 3*time.Minute)
	}
	defer func() {
		if current != nil {
			_ = current.Stop(20 * time.Second)
		}
	}()
	if err := start(ctx, "site-server"); err != nil {
		return nil, err
	}
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
					retry, err := post(ctx, client, server.URL, word{sender: sender, interval: siteInterval, through: at}, body)
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
	before, err := testbed.UsageOf(current.PID())
	if err != nil {
		return nil, err
	}
	mu.Lock()
	live.took = nil
	mu.Unlock()

	b.say("the site is back")
	requests := s.requests()
	var done, busy atomic.Int64
	halves := halves{begin: moment{cpu: before.CPU}}
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
			joint := &push.Together{}
			for len(list) > 0 {
				body, earlier, err := s.together(joint, list, shift, &memory)
				if err != nil {
					return err
				}
				n := len(earlier) + 1
				at := time.UnixMilli(list[n-1].At).Add(shift)
				list = list[n:]
				for {
					attempt := time.Now()
					retry, err := post(backlogCtx, client, server.URL, word{sender, siteInterval, at, true, earlier}, body)
					if err != nil {
						return fmt.Errorf("backlog of %s: %w", sender, err)
					}
					if retry == 0 {
						mu.Lock()
						halves.taken(done.Add(int64(n)), current)
						mu.Unlock()
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
	if b.profiles != "" {
		helpers.Go(func() error { return keepProfiles(liveCtx, b.profiles, admin) })
	}
	var most float64
	var mostAfter time.Duration
	helpers.Go(func() error { // its start after the kill included
		for pause(liveCtx, time.Second) == nil {
			mu.Lock()
			now := current
			mu.Unlock()
			u, err := testbed.UsageOf(now.PID())
			if err != nil {
				continue
			}
			if has := float64(u.Anonymous) / mib; has > most {
				most, mostAfter = has, time.Since(began)
			}
		}
		return nil
	})
	helpers.Go(func() error { // the kill in the middle
		for pause(liveCtx, time.Second) == nil {
			if !halves.killed.at.IsZero() || done.Load() <= int64(requests)/2 {
				continue
			}
			mu.Lock()
			now := current
			mu.Unlock()
			u, err := testbed.UsageOf(now.PID())
			if err != nil {
				continue
			}
			b.say("kill -9 after %d of %d batches", done.Load(), requests)
			mu.Lock()
			halves.killed, halves.victim = moment{at: time.Now(), cpu: u.CPU, done: done.Load()}, now
			mu.Unlock()
			now.Kill()
			<-now.Done()
			if err := start(liveCtx, "site-server-again"); err != nil {
				cancel()
				return fmt.Errorf("start after the kill: %w", err)
			}
			b.say("the server is back after %s of the backlog", time.Since(began).Round(time.Second))
		}
		return nil
	})
	err = g.Wait()
	took := time.Since(began)
	if u, uerr := testbed.UsageOf(os.Getpid()); uerr == nil {
		senders.CPU = u.CPU - senders.CPU
	}
	mu.Lock()
	now := current
	mu.Unlock()
	if u, err := testbed.UsageOf(now.PID()); err == nil {
		halves.end = moment{at: began.Add(took), cpu: u.CPU, done: done.Load()}
	}
	if err == nil {
		err = pause(ctx, 2*siteInterval) // late ones of the live data
	}
	stopLive()
	if err = errors.Join(err, helpers.Wait()); err != nil {
		return nil, err
	}
	if halves.again.at.IsZero() || halves.end.done <= halves.again.done {
		return nil, errors.New("the backlog was gone before the server was killed and back: use a longer --site-for")
	}
	b.say("backlog gone after %s, counting", took.Round(time.Second))
	counting := time.Now()
	lost, twice, err := s.compare(ctx, server, shift, b.say)
	if err != nil {
		return nil, err
	}
	b.say("counted in %s", time.Since(counting).Round(time.Second))
	perSample := func(cpu time.Duration, requests int64, of int) float64 {
		return cpu.Seconds() * 1e6 / (float64(s.total) * float64(requests) / float64(of))
	}
	slices.Sort(live.took)
	p99 := live.took[len(live.took)*99/100]
	note := fmt.Sprintf("%s of a simulated site of %d nodes and %d pods at 30 s: %d samples in %d batches of %.0f MiB, each of %d senders with one request at a time of as many as its collector sends together, the server killed with -9 in the middle; %d times it asked to come later. %s.",
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
		{Name: "edge_backlog_cpu", Unit: "µs/sample", Ours: perSample(halves.cpu(), int64(requests), requests), Command: command,
			Note: fmt.Sprintf("Of the server, its start after the kill and the live data meanwhile included; the senders, on the same machine, took %.2f. %s", senders.CPU.Seconds()*1e6/float64(s.total), note)},
		{Name: "edge_backlog_cpu_before_kill", Unit: "µs/sample", Ours: perSample(halves.killed.cpu-halves.begin.cpu, halves.killed.done, requests), Command: command,
			Note: fmt.Sprintf("Of the server until the kill, %.1f min, live data included. %s", halves.killed.at.Sub(began).Minutes(), note)},
		{Name: "edge_backlog_cpu_after_kill", Unit: "µs/sample", Ours: perSample(halves.end.cpu-halves.again.cpu, halves.end.done-halves.again.done, requests), Command: command,
			Note: fmt.Sprintf("Of the server from the first request of the backlog that it took again, %.1f min, live data included. %s", halves.end.at.Sub(halves.again.at).Minutes(), note)},
		{Name: "edge_backlog_again", Unit: "s", Ours: halves.again.at.Sub(halves.killed.at).Seconds(), Command: command,
			Note: fmt.Sprintf("From the kill to the first request of the backlog that was acknowledged again, for which the server took %.1f s of CPU. %s", halves.again.cpu.Seconds(), note)},
		{Name: "edge_backlog", Unit: "min", Ours: took.Minutes(), Bar: bar("<= 15"), Command: command, Note: "Until the last request was acknowledged. " + note},
		{Name: "edge_backlog_memory", Unit: "MiB", Ours: most - float64(before.Anonymous)/mib, Bar: bar("<= 1024"), Command: command,
			Note: fmt.Sprintf("Anonymous memory of the server, the most that was seen (after %s, its start after the kill included), above the %.0f MiB that it had with live data alone. %s", mostAfter.Round(time.Second), float64(before.Anonymous)/mib, note)},
		{Name: "edge_backlog_live_p99", Unit: "s", Ours: p99.Seconds(), Bar: "<= 2", Command: command,
			Note: fmt.Sprintf("Live requests meanwhile until they were acknowledged, the slowest %.2f s, without the %d that met the kill. %s", live.took[len(live.took)-1].Seconds(), live.restarts.Load(), note)},
		{Name: "edge_backlog_lost", Unit: "samples", Ours: float64(lost), Bar: "<= 0", Command: command, Note: "Missing in queries afterwards, by series and hour. " + note},
		{Name: "edge_backlog_twice", Unit: "samples", Ours: float64(twice), Bar: "<= 0", Command: command, Note: "More than were sent, the same way. " + note},
	}, nil
}

// moment is how far the backlog was at a time.
type moment struct {
	at   time.Time
	cpu  time.Duration // of the process that was there then
	done int64         // requests
}

// halves are the two parts of a backlog in the middle of which the server was killed.
type halves struct {
	begin, killed, again, end moment
	victim                    *testbed.Process
}

// taken notes the first request that is taken after the kill.
func (h *halves) taken(done int64, by *testbed.Process) {
	if h.victim == nil || by == h.victim || !h.again.at.IsZero() {
		return
	}
	h.again = moment{at: time.Now(), done: done}
	if u, err := testbed.UsageOf(by.PID()); err == nil {
		h.again.cpu = u.CPU
	}
}

// cpu is what both servers took.
func (h *halves) cpu() time.Duration { return h.killed.cpu - h.begin.cpu + h.end.cpu }

// keepProfiles keeps CPU profiles of a server, one after the other, each with what then
// lives on its heap, until ctx ends.
func keepProfiles(ctx context.Context, dir, admin string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	server := &testbed.Server{URL: "http://" + admin}
	for n := 1; ctx.Err() == nil; n++ {
		began := time.Now().Format("150405")
		for _, kind := range []struct{ name, path string }{{"cpu", "profile?seconds=20"}, {"heap", "heap"}} {
			raw, err := server.Do(ctx, http.MethodGet, "/debug/pprof/"+kind.path, nil)
			if err != nil { // it is being killed, or starts
				_ = pause(ctx, time.Second)
				break
			}
			if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%03d-%s.pb.gz", kind.name, n, began)), raw, 0o640); err != nil {
				return err
			}
		}
	}
	return nil
}
