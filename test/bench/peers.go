package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb"
	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/collector/simulate"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// The same remote write stream to our server and to stores of others, one after
// the other on the same core; programs of others are built from their own modules.

const (
	peerPods   = 30 // of a node
	peerChurn  = 0.01
	peerDigits = 4 // significant decimal digits: an error of at most 0.05 %, as that of 11 bits
)

var (
	prometheusPeer = footprintPeer{name: "prometheus", pkg: "github.com/prometheus/prometheus/cmd/prometheus"}
	victoriaPeer   = footprintPeer{name: "victoriametrics", pkg: "github.com/VictoriaMetrics/VictoriaMetrics/app/victoria-metrics"}
)

// peerStore is a store that takes remote write.
type peerStore struct {
	name, version, program string
	digits                 bool // the stream with values that are rounded to decimal digits
	args                   func(dir, address string) []string
	// disk ends the process, or has it compact, and gives the bytes of all samples
	// in as few files as the store makes of them, and how many samples these are.
	disk func(ctx context.Context, p *testbed.Process, url, dir string) (bytes, samples float64, err error)
}

type peerRun struct {
	cpu         float64 // seconds until all is stored and nothing goes on
	streamCPU   float64 // seconds while the stream came
	took        float64 // seconds that the stream took
	idleMiB     float64 // before the first sample
	peakMiB     float64
	steadyMiB   float64 // mean of the stream's second half
	diskBytes   float64
	diskSamples float64
	refused     int // requests that were sent again
}

func (b *bench) peerStores(ctx context.Context) (all []peerStore, err error) {
	prometheus, prometheusVersion, err := peerProgram(ctx, b, prometheusPeer)
	if err != nil {
		return nil, err
	}
	victoria, victoriaVersion, err := peerProgram(ctx, b, victoriaPeer)
	if err != nil {
		return nil, err
	}
	victoriaArgs := func(dir, address string) []string {
		return []string{"-storageDataPath=" + dir, "-httpListenAddr=" + address, "-retentionPeriod=1y"}
	}
	return []peerStore{
		{
			name: "crowsnest", program: filepath.Join(b.root, "bin/crowsnest"),
			args: func(dir, address string) []string {
				return []string{"server", "--data", dir, "--listen", address, "--ingest-token-file", benchCluster + "=" + filepath.Join(b.dir, "peers-token")}
			},
			disk: func(ctx context.Context, p *testbed.Process, _, dir string) (bytes, samples float64, err error) {
				if err := p.Stop(2 * time.Minute); err != nil {
					return 0, 0, err
				}
				folder := filepath.Join(dir, "metrics")
				db, err := metrics.Open(metrics.Options{Dir: folder, BlockRange: time.Hour})
				if err != nil {
					return 0, 0, err
				}
				blocks := filepath.Join(folder, "bench")
				if err := errors.Join(db.SnapshotBlocks(ctx, blocks), db.Close()); err != nil {
					return 0, 0, err
				}
				return oneBlock(ctx, blocks)
			},
		},
		{
			name: "prometheus", version: "Prometheus " + prometheusVersion, program: prometheus,
			args: func(dir, address string) []string {
				return []string{"--config.file=" + filepath.Join(b.dir, "prometheus.yml"), "--storage.tsdb.path=" + dir, "--web.listen-address=" + address,
					"--web.enable-remote-write-receiver", "--web.enable-admin-api", "--log.level=warn"}
			},
			disk: func(ctx context.Context, p *testbed.Process, url, dir string) (bytes, samples float64, err error) {
				if err := ask(ctx, http.MethodPost, url+"/api/v1/admin/tsdb/snapshot"); err != nil {
					return 0, 0, err
				}
				snapshots, err := filepath.Glob(filepath.Join(dir, "snapshots/*"))
				if err != nil || len(snapshots) != 1 {
					return 0, 0, fmt.Errorf("the snapshot is not there: %v: %w", snapshots, err)
				}
				if err := p.Stop(2 * time.Minute); err != nil {
					return 0, 0, err
				}
				return oneBlock(ctx, snapshots[0])
			},
		},
		{name: "victoriametrics", version: "VictoriaMetrics " + victoriaVersion, program: victoria, args: victoriaArgs, disk: victoriaDisk},
		{name: "victoriametrics_rounded", version: "VictoriaMetrics " + victoriaVersion + fmt.Sprintf(" with %d decimal digits", peerDigits), program: victoria, args: victoriaArgs, disk: victoriaDisk, digits: true},
	}, nil
}

// victoriaDisk has all parts merged into one for each month.
func victoriaDisk(ctx context.Context, p *testbed.Process, url, dir string) (bytes, samples float64, err error) {
	if err := errors.Join(ask(ctx, http.MethodGet, url+"/internal/force_flush"), ask(ctx, http.MethodGet, url+"/internal/force_merge")); err != nil {
		return 0, 0, err
	}
	if err := awaitIdle(ctx, p); err != nil {
		return 0, 0, err
	}
	for _, kind := range []string{"inmemory", "small", "big"} {
		n, err := metric(ctx, &testbed.Server{URL: url}, fmt.Sprintf("vm_rows{type=%q}", "storage/"+kind))
		if err != nil {
			return 0, 0, err
		}
		samples += n
	}
	if err := p.Stop(2 * time.Minute); err != nil {
		return 0, 0, err
	}
	n, err := diskUsage(dir)
	return float64(n), samples, err
}

// oneBlock merges blocks as the TSDB does in the course of time.
func oneBlock(ctx context.Context, dir string) (bytes, samples float64, err error) {
	blocks, err := filepath.Glob(filepath.Join(dir, "*", "meta.json"))
	if err != nil {
		return 0, 0, err
	}
	for n := range blocks {
		blocks[n] = filepath.Dir(blocks[n])
	}
	compactor, err := tsdb.NewLeveledCompactor(ctx, nil, slog.New(slog.DiscardHandler), []int64{(30 * 24 * time.Hour).Milliseconds()}, nil, nil)
	if err != nil {
		return 0, 0, err
	}
	made, err := compactor.Compact(dir, blocks, nil)
	if err != nil || len(made) != 1 {
		return 0, 0, fmt.Errorf("merge %d blocks: %w", len(blocks), err)
	}
	block := filepath.Join(dir, made[0].String())
	one, err := tsdb.OpenBlock(nil, block, nil, nil)
	if err != nil {
		return 0, 0, err
	}
	samples = float64(one.Meta().Stats.NumSamples)
	if err := one.Close(); err != nil {
		return 0, 0, err
	}
	n, err := diskUsage(block)
	return float64(n), samples, err
}

// ask sends a request that has no body.
func ask(ctx context.Context, method, url string) error {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if text, err := io.ReadAll(io.LimitReader(res.Body, 1<<20)); err != nil || res.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %.300s: %w", method, url, res.Status, text, err)
	}
	return nil
}

// awaitIdle waits until a process does nothing of what it does by itself.
func awaitIdle(ctx context.Context, p *testbed.Process) error {
	last, quiet := time.Duration(-1), 0
	return testbed.Await(ctx, 5*time.Minute, time.Second, func(context.Context) error {
		now, err := testbed.UsageOf(p.PID())
		if err != nil {
			return err
		}
		if quiet++; now.CPU-last > 100*time.Millisecond || last < 0 {
			quiet = 0
		}
		if last = now.CPU; quiet < 5 {
			return errors.New("it works on")
		}
		return nil
	})
}

// rounded is the stream with other values.
func (s *stream) rounded(path string, round func(float64) float64) (_ *stream, err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := *s
	out.path, out.bytes = path, 0
	w := newRequests(f)
	err = s.decoded(func(req *prompb.WriteRequest) error {
		for _, ts := range req.Timeseries {
			for n := range ts.Samples {
				ts.Samples[n].Value = round(ts.Samples[n].Value)
			}
		}
		n, err := w.put(req)
		out.bytes += int64(n)
		return err
	})
	if err == nil {
		err = w.Flush()
	}
	return &out, err
}

// feed starts a store on one core, sends it the stream as fast as it takes it, and
// waits until nothing goes on in it.
func (b *bench) feed(ctx context.Context, store peerStore, s *stream) (out peerRun, err error) {
	dir, err := os.MkdirTemp(b.dir, store.name+"-")
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	address, err := testbed.FreeAddress()
	if err != nil {
		return out, err
	}
	// These programs become the one that they start.
	p, err := testbed.Start(b.dir, store.name, "env", append([]string{"GOMAXPROCS=1", "taskset", "-c", "0", store.program}, store.args(dir, address)...)...)
	if err != nil {
		return out, err
	}
	defer func() {
		select {
		case <-p.Done():
		default:
			p.Kill()
		}
	}()
	url := "http://" + address
	if err := awaitListening(ctx, p, url); err != nil {
		return out, err
	}
	out.idleMiB = memoryOf(p.PID()).rssMiB
	stop := watchMemory(ctx, p.PID())
	before, err := testbed.UsageOf(p.PID())
	if err != nil {
		stop()
		return out, err
	}
	began := time.Now()
	out.refused, err = s.send(ctx, url, 2, false, 1)
	out.took = time.Since(began).Seconds()
	memory := stop()
	if err != nil {
		return out, fmt.Errorf("%w\n%s", err, p.Tail(10))
	}
	after, err := testbed.UsageOf(p.PID())
	if err != nil {
		return out, err
	}
	if err := awaitIdle(ctx, p); err != nil {
		return out, err
	}
	end, err := testbed.UsageOf(p.PID())
	if err != nil {
		return out, err
	}
	out.streamCPU, out.cpu = (after.CPU - before.CPU).Seconds(), (end.CPU - before.CPU).Seconds()
	out.peakMiB = memoryOf(p.PID()).peakMiB
	out.steadyMiB = meanOfHalf(memory)
	if out.diskBytes, out.diskSamples, err = store.disk(ctx, p, url, dir); err != nil {
		return out, err
	}
	if out.diskSamples < float64(s.samples) {
		return out, fmt.Errorf("%s has %.0f samples of %d", store.name, out.diskSamples, s.samples)
	}
	return out, nil
}

// watchMemory notes what a process holds, in MiB, until stop gives it.
func watchMemory(ctx context.Context, pid int) (stop func() []float64) {
	ctx, cancel := context.WithCancel(ctx)
	noted := make(chan []float64)
	go func() {
		var all []float64
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			all = append(all, memoryOf(pid).rssMiB)
			select {
			case <-ctx.Done():
				noted <- all
				return
			case <-tick.C:
			}
		}
	}()
	return func() []float64 {
		cancel()
		return <-noted
	}
}

// meanOfHalf is the mean of the second half.
func meanOfHalf(all []float64) (mean float64) {
	half := all[len(all)/2:]
	for _, v := range half {
		mean += v / float64(len(half))
	}
	return mean
}

// send sends the stream over some connections, all of an interval before the next; a
// node's requests stay in order. What is refused for now is sent again. words has each
// node say who it is and that it has told all, as collectors do. copies are how many
// times the stream's nodes and pods there are, with names of their own.
func (s *stream) send(ctx context.Context, url string, connections int, words bool, copies int) (refused int, err error) {
	client := &http.Client{Timeout: 5 * time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	defer client.CloseIdleConnections()
	var again atomic.Int64
	one := func(ctx context.Context, body []byte, of mark, copied int) error {
		if copied > 0 {
			own, err := renamed(body, copied)
			if err != nil {
				return err
			}
			body = own
		}
		var further [][2]string
		if words {
			sender := wire.Sender(wire.RoleCluster, "")
			if of.node != "" || copied > 0 {
				sender = wire.Sender(wire.RoleNode, nameOfCopy(cmp.Or(of.node, "cluster"), copied))
			}
			further = [][2]string{{wire.HeaderSender, sender}, {wire.HeaderInterval, strconv.Itoa(int(s.interval / time.Second))}, {wire.HeaderComplete, wire.FormatMillis(of.at)}}
		}
		for {
			err := sendWrite(ctx, client, url, body, further...)
			if err == nil || (!strings.HasPrefix(err.Error(), "429") && !strings.HasPrefix(err.Error(), "503")) {
				return err
			}
			again.Add(1)
			if err := pause(ctx, 50*time.Millisecond); err != nil {
				return err
			}
		}
	}
	n := 0
	g, running := errgroup.WithContext(ctx)
	g.SetLimit(connections)
	err = s.replay(func(body []byte) error {
		if n > 0 && !s.of[n].at.Equal(s.of[n-1].at) {
			if err := g.Wait(); err != nil {
				return err
			}
			g, running = errgroup.WithContext(ctx)
			g.SetLimit(connections)
		}
		body, of := slices.Clone(body), s.of[n]
		n++
		for copied := range copies {
			g.Go(func() error { return one(running, body, of, copied) })
		}
		return nil
	})
	return int(again.Load()), errors.Join(err, g.Wait())
}

// scaleFleet is what clusters of many nodes are made from, whoever sends which part of them.
func scaleFleet(nodes int, interval time.Duration) simulate.Options {
	return simulate.Options{Nodes: nodes, PodsPerNode: peerPods, ContainersPerPod: 2, Churn: peerChurn, Seed: 1, Interval: interval}
}

// nameOfCopy is what the copy of a node, workload or pod is called.
func nameOfCopy(name string, copied int) string {
	if copied == 0 {
		return name
	}
	return fmt.Sprintf("%s-%d", name, copied)
}

// renamed is a request as the copy of its sender makes it.
func renamed(body []byte, copied int) ([]byte, error) {
	raw, err := snappy.Decode(nil, body)
	if err != nil {
		return nil, err
	}
	var req prompb.WriteRequest
	if err := req.Unmarshal(raw); err != nil {
		return nil, err
	}
	for i := range req.Timeseries {
		for n, l := range req.Timeseries[i].Labels {
			if l.Name == "node" || l.Name == "workload" || l.Name == "pod" {
				req.Timeseries[i].Labels[n].Value = nameOfCopy(l.Value, copied)
			}
		}
	}
	if raw, err = req.Marshal(); err != nil {
		return nil, err
	}
	return snappy.Encode(nil, raw), nil
}

// storePeers compares the stores on one stream.
func storePeers(ctx context.Context, b *bench) ([]Result, error) {
	if err := errors.Join(
		os.WriteFile(filepath.Join(b.dir, "prometheus.yml"), nil, 0o600),
		os.WriteFile(filepath.Join(b.dir, "peers-token"), []byte(benchToken+"\n"), 0o600),
	); err != nil {
		return nil, err
	}
	stores, err := b.peerStores(ctx)
	if err != nil {
		return nil, err
	}
	to := time.Now().UTC().Truncate(time.Hour)
	b.say("computing the stream of %d nodes over %v", b.peerNodes, b.peerFor)
	binary, err := writeStream(ctx, filepath.Join(b.dir, "peers-stream"), simulate.Options{
		Nodes: b.peerNodes, PodsPerNode: peerPods, Churn: peerChurn, Seed: 1, Interval: time.Minute,
	}, to.Add(-b.peerFor), to, nil)
	if err != nil {
		return nil, err
	}
	decimal, err := binary.rounded(filepath.Join(b.dir, "peers-stream-digits"), digits(peerDigits))
	if err != nil {
		return nil, err
	}
	b.say("%d samples of %d series, %d at a time", binary.samples, binary.series, binary.active)
	runs := map[string][]peerRun{}
	for round := range b.rounds {
		for _, store := range stores {
			s := binary
			if store.digits {
				s = decimal
			}
			r, err := b.feed(ctx, store, s)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", store.name, err)
			}
			b.say("round %d, %s: %+v", round+1, store.name, r)
			runs[store.name] = append(runs[store.name], r)
		}
	}
	of := func(name string, figure func(peerRun) float64) float64 {
		var all []float64
		for _, r := range runs[name] {
			all = append(all, figure(r))
		}
		return median(all)
	}
	note := fmt.Sprintf("%d samples of %d series, %d active at a time, %v at 60 s of %d simulated nodes with %d pods each, 1 %% of them replaced a minute, remote write 1.0, one request a node, as fast as each takes it over two connections; each process alone, one after the other, held to one core (GOMAXPROCS=1), with its own defaults; median of %d rounds. "+
		"Ours is the whole server: it authenticates and keeps limits besides. %s.", binary.samples, binary.series, binary.active, b.peerFor, b.peerNodes, peerPods, b.rounds, machine())
	millions := float64(binary.samples) / 1e6
	var results []Result
	for _, f := range []struct {
		name, unit, note string
		bar              map[string]string
		of               func(peerRun) float64
	}{
		{"cpu", "CPU s/M samples", "Until all is stored and compactions are done. ", map[string]string{"prometheus": "ratio <= 1", "victoriametrics": "ratio <= 1", "victoriametrics_rounded": "ratio <= 1"}, func(r peerRun) float64 { return r.cpu / millions }},
		{"one_core", "samples/s", "What one core takes: samples ÷ the process's CPU seconds while the stream came. ", nil, func(r peerRun) float64 { return float64(binary.samples) / r.streamCPU }},
		{"memory_peak", "bytes/active series", "The most resident memory of the process. ", map[string]string{"prometheus": "ratio <= 1"}, func(r peerRun) float64 { return r.peakMiB * mib / float64(binary.active) }},
		{"memory_steady", "bytes/active series", "Mean resident memory in the second half of the stream. ", map[string]string{"prometheus": "ratio <= 1"}, func(r peerRun) float64 { return r.steadyMiB * mib / float64(binary.active) }},
		{"disk", "bytes/sample", "All samples merged into one block, or one part, with its index. ", map[string]string{"victoriametrics": "ratio <= 1", "victoriametrics_rounded": "ratio <= 1"}, func(r peerRun) float64 { return r.diskBytes / r.diskSamples }},
	} {
		for _, peer := range stores[1:] {
			theirs, about := round(of(peer.name, f.of)), f.note
			if strings.HasPrefix(f.name, "memory") {
				idle := func(r peerRun) float64 { return r.idleMiB }
				about += fmt.Sprintf("Before the first sample ours held %.0f MiB, the peer %.0f: with few series that is most of it. ", of("crowsnest", idle), of(peer.name, idle))
			}
			results = append(results, Result{
				Name: "store_peers_" + f.name + "_" + peer.name, Unit: f.unit, Ours: of("crowsnest", f.of), Peer: &theirs, PeerVersion: peer.version, Bar: f.bar[peer.name],
				Note: about + note, Command: fmt.Sprintf("make bench BENCH=\"--only store_peers --peer-nodes %d --peer-for %v --rounds %d\"", b.peerNodes, b.peerFor, b.rounds),
			})
		}
	}
	return results, nil
}
