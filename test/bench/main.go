// Command bench owns the project's measurements: it runs them and records what
// came out in docs/benchmarks.json, from which docs/benchmarks.md is made. It
// must not know how anything that it measures works inside.
//
//	make bench                               # all; root, for those on the test cluster
//	make bench BENCH="--only first_chart"    # those whose name holds the word
//	make bench BENCH="--only longrange"      # charts over 90 days; builds their data once, see --nodes
//	make bench BENCH="--only edge_stream"    # computes what edge_backlog sends, once: 5 GB in ~/.cache/crowsnest-bench
//	make bench BENCH="--cold"                # also a build with an empty cache: about 15 minutes
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// measurement yields one or more results.
type measurement struct {
	Name    string // of the results, or what their names begin with
	Cold    bool   // only with --cold
	Asked   bool   // only when --only is its name: it takes long
	Measure func(ctx context.Context, b *bench) ([]Result, error)
}

var measurements = []measurement{
	{Name: "first_chart", Measure: firstChart},
	{Name: "server_1000_pods", Measure: serverAt1000Pods},
	{Name: "collector_node", Measure: collectorNode},
	{Name: "collector_all", Measure: collectorAll},
	{Name: "logs_json", Measure: logsNextToPeer(jsonLines)},
	{Name: "logs_plain", Measure: logsNextToPeer(plainLines)},
	{Name: "logs_access", Measure: logsNextToPeer(accessLines)},
	{Name: "logs_fresh", Measure: logsFresh},
	{Name: "logs_fresh_api", Measure: logsFreshAPI},
	{Name: "logs_scale", Measure: logsScale},
	{Name: "logs_counted", Asked: true, Measure: logsCounted},
	{Name: "fsync", Measure: fsync},
	{Name: "console_pages", Measure: consolePages},
	{Name: "console_history", Asked: true, Measure: consoleHistory},
	{Name: "engine_policies", Measure: engineOf("TestMeasurePolicies")},
	{Name: "engine_state", Measure: engineOf("TestMeasureState")},
	{Name: "engine_patterns", Measure: engineOf("TestMeasurePatterns")},
	{Name: "engine_webhook", Measure: engineOf("TestMeasureWebhook")},
	{Name: "engine_backtest", Measure: engineOf("TestMeasureBacktest")},
	{Name: "restart", Measure: restart},
	{Name: "edge_backlog", Asked: true, Measure: edgeBacklog},
	{Name: "edge_stream", Asked: true, Measure: edgeStream},
	{Name: "node_footprint", Measure: nodeFootprint},
	{Name: "collector_scale", Asked: true, Measure: collectorScale},
	{Name: "accuracy_steady", Measure: accuracySteady},
	{Name: "accuracy_spikes", Measure: accuracySpikes},
	{Name: "inventory_versions", Measure: inventoryVersions},
	{Name: "encoding", Measure: encodings},
	{Name: "rollups", Measure: rollups},
	{Name: "longrange", Asked: true, Measure: longRanges},
	{Name: "store_peers", Asked: true, Measure: storePeers},
	{Name: "scale_10", Asked: true, Measure: serverScale(scale{name: "scale_10", nodes: 10, interval: time.Minute})},
	{Name: "scale_100", Asked: true, Measure: serverScale(scale{name: "scale_100", nodes: 100, interval: time.Minute})},
	{Name: "scale_1000", Asked: true, Measure: serverScale(scale{name: "scale_1000", nodes: 1000, interval: time.Minute})},
	{Name: "scale_5000", Asked: true, Measure: serverScale(scale{name: "scale_5000", nodes: 5000, interval: time.Minute})},
	{Name: "scale_whole_1000", Asked: true, Measure: serverScale(scale{name: "scale_whole_1000", nodes: 1000, interval: 30 * time.Second, whole: true})},
	{Name: "scale_whole_5000", Asked: true, Measure: serverScale(scale{name: "scale_whole_5000", nodes: 5000, interval: 30 * time.Second, whole: true})},
	{Name: "live_1000", Asked: true, Measure: serverLive(live{name: "live_1000", nodes: 1000, interval: time.Minute})},
	{Name: "live_5000", Asked: true, Measure: serverLive(live{name: "live_5000", nodes: 5000, interval: time.Minute})},
	{Name: "live_replayed_5000", Asked: true, Measure: serverLive(live{name: "live_replayed_5000", nodes: 5000, interval: time.Minute, replayed: 150 * time.Minute})},
	{Name: "live_whole_1000", Asked: true, Measure: serverLive(live{name: "live_whole_1000", nodes: 1000, interval: 30 * time.Second, whole: true})},
	{Name: "live_whole_5000", Asked: true, Measure: serverLive(live{name: "live_whole_5000", nodes: 5000, interval: 30 * time.Second, whole: true})},
	{Name: "store_queries", Asked: true, Measure: storeQueries},
	{Name: "outbox_drain", Measure: outboxDrain},
	{Name: "kills_50000", Asked: true, Measure: kills(50_000, 200)},
	{Name: "kills_1000000", Asked: true, Measure: kills(1_000_000, 5)},
	{Name: "outbox_kills", Asked: true, Measure: outboxKills},
	{Name: "build_cold", Cold: true, Measure: buildCold},
}

// bench is what measurements share.
type bench struct {
	root string
	dir  string // for their data; removed at the end
	for_ time.Duration

	rounds int // of each comparison
	series int // of a large store

	scaleNodes, scalePods int // of collector_scale

	logsScaleLines int // of logs_scale, of each pod

	churnFor time.Duration // of inventory_versions

	siteNodes int           // of edge_backlog
	siteFor   time.Duration // that it was away
	profiles  string        // folder for profiles of its server; none when empty
	nodes     int           // of a long history

	kills int // of outbox_kills

	encodingData string // folder of a server's metrics, of encoding; none when empty

	liveFor   time.Duration // that live_* last
	liveAfter time.Duration // that a cluster has been there before
	ahead     string        // folder that keeps what is computed ahead for live_*; none when empty
	liveNodes int           // of live_*, in place of their own; 0: theirs

	liveContainer int // MiB of the container that the server of live_* has a limit for; 0: what the bar says, of 5,000 nodes

	peerNodes int           // of store_peers
	peerFor   time.Duration // that its stream lasts
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "bench: %s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}

func main() {
	if how := os.Getenv(envStore); how != "" {
		if err := storeChild(how); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if how := os.Getenv(envCluster); how != "" {
		ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
		defer stop()
		if err := clusterChild(ctx, how); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	only := flag.String("only", "", "measure only what has this word in its name")
	cold := flag.Bool("cold", false, "also build with an empty cache")
	renderOnly := flag.Bool("render", false, "measure nothing; compute what follows from the recorded figures and make the page")
	var b bench
	flag.DurationVar(&b.for_, "for", 3*time.Minute, "how long a steady state is measured")
	flag.IntVar(&b.scaleNodes, "scale-nodes", 1000, "nodes of collector_scale")
	flag.IntVar(&b.scalePods, "scale-pods", 30_000, "pods of collector_scale")
	flag.IntVar(&b.logsScaleLines, "logs-scale-lines", scaleLines, fmt.Sprintf("lines of each of the %d pods of logs_scale, a multiple of %d: 2000 are 1 GB, and 0.2 GB in the cache; results are named by another number", scaleWorkloads*scalePods, scaleAtOnce))
	flag.DurationVar(&b.churnFor, "churn-for", 4*time.Hour, "how much of its 90 days inventory_versions writes, in whole minutes")
	flag.IntVar(&b.siteNodes, "site-nodes", 100, "nodes of the site that comes back, of edge_backlog")
	flag.DurationVar(&b.siteFor, "site-for", 24*time.Hour, "how long it was away")
	flag.StringVar(&b.profiles, "profiles", "", "folder in which measurements of the server keep CPU profiles of it, of 20 s each, and of its heap, named by the time at which they began")
	flag.IntVar(&b.rounds, "rounds", 3, "rounds of each comparison")
	flag.IntVar(&b.series, "series", 1_000_000, "series of what measures a large store")
	flag.IntVar(&b.kills, "kills", 1000, "kills of outbox_kills")
	flag.DurationVar(&b.liveFor, "live-for", 30*time.Minute, "how long live_* measure in real time")
	flag.DurationVar(&b.liveAfter, "live-after", 5*time.Minute, "how long live_* let a new cluster be after its first three intervals; what that takes is told apart")
	flag.StringVar(&b.ahead, "ahead", "", "folder in which what collectors send is kept, of those live_* for which it is computed first: up to 8 GB each, used again as it is until it is deleted")
	flag.IntVar(&b.liveNodes, "live-nodes", 0, "nodes of live_*, in place of what their names say; results are named by it")
	flag.IntVar(&b.liveContainer, "live-container", 0, "MiB of the container whose memory limit the server of live_* sets for itself, in place of the bar's for 5,000 nodes")
	flag.StringVar(&b.encodingData, "encoding-data", "", "folder of metrics of a server that was stopped, whose pods encoding measures, too")
	flag.IntVar(&b.nodes, "nodes", 20, "nodes of the cluster whose 90 days are measured: 20 take about 3 GB and half an hour to build, once")
	flag.IntVar(&b.peerNodes, "peer-nodes", 50, "nodes of store_peers, each with some 900 series")
	flag.DurationVar(&b.peerFor, "peer-for", 200*time.Minute, "data time of store_peers; Prometheus writes its first block after 3 h")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, &b, *only, *cold, *renderOnly); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, b *bench, only string, cold, renderOnly bool) error {
	root, err := testbed.Root()
	if err != nil {
		return err
	}
	docs := filepath.Join(root, "docs")
	results, err := load(filepath.Join(docs, "benchmarks.json"))
	if err != nil {
		return err
	}
	if renderOnly {
		return save(docs, results)
	}
	b.root = root
	if b.dir, err = os.MkdirTemp("", "crowsnest-bench-"); err != nil {
		return err
	}
	defer os.RemoveAll(b.dir)
	var errs []error
	for _, m := range measurements {
		if (m.Cold && !cold) || (m.Asked && only != m.Name) || !strings.Contains(m.Name, only) || ctx.Err() != nil {
			continue
		}
		b.say("%s", m.Name)
		measured, err := m.Measure(ctx, b)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", m.Name, err))
			continue
		}
		for i := range measured {
			measured[i].Date = time.Now().UTC().Format(time.DateOnly)
			measured[i].Ours = round(measured[i].Ours)
			if measured[i].Command == "" {
				measured[i].Command = fmt.Sprintf("make bench BENCH=\"--only %s\"", m.Name)
			}
			b.say("%s: %g %s", measured[i].Name, measured[i].Ours, measured[i].Unit)
		}
		results = merge(results, measured)
		// After each: a measurement that breaks takes none of the others with it.
		if err := save(docs, results); err != nil {
			return err
		}
	}
	return errors.Join(append(errs, ctx.Err())...)
}
