package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/remote"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// consoleRange is a range of the console's charts, with the step that it takes.
type consoleRange struct {
	name     string
	of, step time.Duration
}

var consoleRanges = []consoleRange{
	{"hour", time.Hour, time.Minute}, {"day", 24 * time.Hour, 10 * time.Minute}, {"week", 7 * 24 * time.Hour, time.Hour}, {"90_days", longDays * 24 * time.Hour, 12 * time.Hour},
}

// consoleScope is what a chart shows: as PromQL, whose %[1]s is the selection and
// %[2]s the step, and as the parameters of our charts.
type consoleScope struct {
	name, matcher, promQL string
	chart                 url.Values
}

func consoleScopes(pod, workload string) []consoleScope {
	return []consoleScope{
		{"pod", fmt.Sprintf("pod=%q", pod), "max by (pod) (avg_over_time(%[1]s[%[2]s]))", url.Values{"by": {"pod"}}},
		{"workload", fmt.Sprintf("workload=%q", workload), "sum(avg_over_time(%[1]s[%[2]s]))", url.Values{"across": {"sum"}}},
		{"top_ten", "", "topk(10, max by (pod) (avg_over_time(%[1]s[%[2]s])))", url.Values{"by": {"pod"}, "limit": {"10"}}},
		{"cluster", "", "sum(avg_over_time(%[1]s[%[2]s]))", url.Values{"across": {"sum"}}},
	}
}

// ask gives the address of a query; charts says that our own are to be asked where
// the console does so, for steps of 5 min and more.
func (r consoleRange) ask(base string, scope consoleScope, charts bool) string {
	matcher := `cluster="` + benchCluster + `"`
	if scope.matcher != "" {
		matcher += "," + scope.matcher
	}
	selection := catalogue.PodCPU + "{" + matcher + "}"
	start, end := longEnd.Add(r.step-r.of), longEnd
	seconds := strconv.Itoa(int(r.step.Seconds()))
	if charts && r.step >= 5*time.Minute {
		q := url.Values{"series": {selection}, "start": {start.Format(time.RFC3339)}, "end": {end.Format(time.RFC3339)}, "step_seconds": {seconds}, "statistic": {"avg"}}
		for k, v := range scope.chart {
			q[k] = v
		}
		return base + testbed.API + "/clusters/" + benchCluster + "/chart?" + q.Encode()
	}
	return base + "/api/v1/query_range?" + url.Values{
		"query": {fmt.Sprintf(scope.promQL, selection, seconds+"s")}, "start": {strconv.FormatInt(start.Unix(), 10)}, "end": {strconv.FormatInt(end.Unix(), 10)}, "step": {seconds},
	}.Encode()
}

// answered is how long an answer took, until its last byte; one without values is
// an error.
func answered(ctx context.Context, at string) (time.Duration, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	took := time.Since(began)
	if err != nil || res.StatusCode != http.StatusOK || !bytes.Contains(raw, []byte(`"values":[`)) { // both name them so
		return 0, fmt.Errorf("GET %s: %s: %.300s: %w", at, res.Status, raw, err)
	}
	return took, nil
}

// linkBlocks gives blocks a second name: no store changes the files of one.
func linkBlocks(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if _, err := ulid.ParseStrict(e.Name()); err != nil {
			continue
		}
		if err := linkTree(filepath.Join(from, e.Name()), filepath.Join(to, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func linkTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, e os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if e.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o750)
		}
		return os.Link(path, filepath.Join(to, rel))
	})
}

// victoriaHistory has VictoriaMetrics take the blocks over once, and keeps what it
// makes of them.
func (b *bench) victoriaHistory(ctx context.Context, blocks, program string) (dir string, err error) {
	dir = blocks + "-victoria"
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	tmp := dir + ".tmp"
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	address, err := testbed.FreeAddress()
	if err != nil {
		return "", err
	}
	p, err := testbed.Start(b.dir, "victoria-history", program, "-storageDataPath="+tmp, "-httpListenAddr="+address, "-retentionPeriod=10y")
	if err != nil {
		return "", err
	}
	if err := errors.Join(b.fillVictoria(ctx, p, "http://"+address, blocks), p.Stop(2*time.Minute)); err != nil {
		return "", err
	}
	return dir, os.Rename(tmp, dir)
}

func (b *bench) fillVictoria(ctx context.Context, p *testbed.Process, url, blocks string) (err error) {
	if err := awaitListening(ctx, p, url); err != nil {
		return err
	}
	to, err := remote.New(remote.Options{WriteURL: url + "/api/v1/write", QueryURL: url})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, to.Close()) }()
	b.say("VictoriaMetrics takes the samples over, once")
	err = to.SendBlocks(ctx, blocks, func(done remote.Block) error {
		b.say("block %d of %d", done.Number, done.OfTotal)
		return nil
	})
	if err = errors.Join(err, ask(ctx, http.MethodGet, url+"/internal/force_flush")); err != nil {
		return err
	}
	return awaitIdle(ctx, p)
}

// storeQueries asks what the console asks of the same 90 days of the stores.
func storeQueries(ctx context.Context, b *bench) (results []Result, err error) {
	blocks, err := b.longData(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := b.longAggregates(ctx, blocks); err != nil {
		return nil, err
	}
	pod, workload, err := firstPod(ctx, blocks)
	if err != nil {
		return nil, err
	}
	stores, err := b.peerStores(ctx)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(
		os.WriteFile(filepath.Join(b.dir, "prometheus.yml"), nil, 0o600),
		os.WriteFile(filepath.Join(b.dir, "peers-token"), []byte(benchToken+"\n"), 0o600),
	); err != nil {
		return nil, err
	}
	// On the same file system as the data, as second names need.
	dir, err := os.MkdirTemp(filepath.Dir(blocks), "bench-queries-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	stores = stores[:3] // rounding is of no matter here
	data := map[string]string{"crowsnest": filepath.Join(dir, "ours"), "prometheus": filepath.Join(dir, "prometheus")}
	err = errors.Join(linkBlocks(blocks, filepath.Join(dir, "ours/metrics")), linkBlocks(blocks, data["prometheus"]),
		linkTree(blocks+"-aggregates", filepath.Join(dir, "ours/metrics-aggregates")))
	if err != nil {
		return nil, err
	}
	if data["victoriametrics"], err = b.victoriaHistory(ctx, blocks, stores[2].program); err != nil {
		return nil, err
	}
	further := map[string][]string{
		"crowsnest": {"--metrics-retention=3650d"}, "prometheus": {"--storage.tsdb.retention.time=3650d"}, "victoriametrics": {"-retentionPeriod=10y"},
	}
	type key struct{ store, what string }
	took := map[key][]float64{}
	for _, store := range stores {
		for _, r := range consoleRanges {
			for _, scope := range consoleScopes(pod, workload) {
				cold, warm, err := b.askCold(ctx, store, data[store.name], further[store.name], func(base string) string { return r.ask(base, scope, store.name == "crowsnest") })
				if err != nil {
					return nil, fmt.Errorf("%s, %s over %s: %w", store.name, scope.name, r.name, err)
				}
				b.say("%s, %s over %s: cold %.1f ms, warm %.1f ms", store.name, scope.name, r.name, cold, warm)
				took[key{store.name, scope.name + "_" + r.name + "_cold"}] = []float64{cold}
				took[key{store.name, scope.name + "_" + r.name}] = []float64{warm}
			}
		}
	}
	note := fmt.Sprintf("Over HTTP until the last byte, %d days of %d nodes, %d pods and %d containers at 60 s; each store alone, started anew for each chart with nothing in the page cache, asked once cold and then %d times, of which the median counts. "+
		"Steps of 1 min, 10 min, 1 h and 12 h. Ours by the API that the console takes: PromQL for the hour, charts for what is longer; the others by PromQL that says the same, VictoriaMetrics with its cache of answers. %s.",
		longDays, b.nodes, b.nodes*longPods, 2*b.nodes*longPods, 3*b.rounds, machine())
	for _, r := range consoleRanges {
		for _, scope := range consoleScopes(pod, workload) {
			for _, temperature := range []string{"", "_cold"} {
				what := scope.name + "_" + r.name + temperature
				for _, peer := range stores[1:] {
					theirs, bar := round(took[key{peer.name, what}][0]), ""
					if peer.name == "prometheus" {
						bar = "ratio <= 1"
					}
					results = append(results, Result{
						Name: "store_queries_" + what + "_" + peer.name, Unit: "ms", Ours: took[key{"crowsnest", what}][0], Peer: &theirs, PeerVersion: peer.version, Bar: bar, Note: note,
						Command: fmt.Sprintf("make bench BENCH=\"--only store_queries --nodes %d --rounds %d\"", b.nodes, b.rounds),
					})
				}
			}
		}
	}
	return results, nil
}

// askCold starts a store on its data and asks it, in milliseconds.
func (b *bench) askCold(ctx context.Context, store peerStore, dir string, further []string, at func(base string) string) (cold, warm float64, err error) {
	if err := forget(dir); err != nil {
		return 0, 0, err
	}
	address, err := testbed.FreeAddress()
	if err != nil {
		return 0, 0, err
	}
	args := append(store.args(dir, address), further...)
	p, err := testbed.Start(b.dir, store.name+"-queries", store.program, args...)
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, p.Stop(time.Minute)) }()
	base := "http://" + address
	if err := awaitListening(ctx, p, base); err != nil {
		return 0, 0, err
	}
	var all []float64
	for n := range 3*b.rounds + 1 {
		took, err := answered(ctx, at(base))
		if err != nil {
			return 0, 0, fmt.Errorf("%w\n%s", err, p.Tail(5))
		}
		if ms := float64(took.Microseconds()) / 1000; n == 0 {
			cold = ms
		} else {
			all = append(all, ms)
		}
	}
	return cold, median(all), nil
}
