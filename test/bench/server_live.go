package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// livePolicies are on while a live cluster is measured, beside the presets.
const livePolicies = 1000

// wholeSeriesPerNode is the bound that a cluster of the whole catalogue gets, above the some
// 2,000 that a node and its pods have: the default is for the core metrics.
const wholeSeriesPerNode = 4000

// live is a cluster that is measured in real time.
type live struct {
	name     string
	nodes    int
	interval time.Duration
	whole    bool // catalogue; otherwise its core
	// replayed is about what the nodes' collectors bring of the time before, faster than time.
	replayed time.Duration
}

// aheadFrom is the least number of nodes of whose whole catalogue what their collectors send is computed before:
// a simulator of more takes what the server is to be measured on, falls behind, and measures how
// a server does with what is late.
const aheadFrom = 2000

// replaySpeed is about how many times faster than time a server takes a backlog, and slowestReplay
// what is computed for.
const (
	replaySpeed   = 10
	slowestReplay = 5
)

// letters are what the names of a Deployment's pods end in.
const letters = "bcdfghjklmnpqrstvwxz2456789"

// aheadOf computes what a live cluster sends, from a time on when that is done, or from so long
// before as the server catches up with by the time that it has replayed what is to be.
func (b *bench) aheadOf(ctx context.Context, l live) (*ahead, error) {
	// Nine minutes are for the server's start, and for it to catch up with the collectors that have come.
	lasts, parts, rollOut, behind := 9*time.Minute+b.liveAfter+b.liveFor, 1, aheadRollOut, time.Duration(0)
	var families []catalogue.Family
	if !l.whole {
		families, parts = []catalogue.Family{catalogue.CoreFamily}, 2 // of whose memory two have room
	}
	if l.replayed > 0 {
		behind, rollOut = l.replayed*(replaySpeed-1)/replaySpeed, 0
		lasts += behind * slowestReplay / (slowestReplay - 1)
	}
	intervals := int((lasts+rollOut)/l.interval) + 1
	dir := b.dir
	if b.ahead != "" {
		dir = b.ahead
	}
	path := filepath.Join(dir, fmt.Sprintf("ahead-%s-%d", l.name, l.nodes))
	b.say("computing %d intervals of the collectors of %d nodes in %s, unless they are there", intervals, l.nodes, path)
	a, err := keptAhead(ctx, path, scaleFleet(l.nodes, l.interval), families, time.Now().Truncate(l.interval), intervals, parts)
	if err != nil {
		return nil, err
	}
	a.rollOut = rollOut
	debug.FreeOSMemory() // the server needs it
	due := time.Now().Add(2 * l.interval).Truncate(l.interval)
	a.move(due.Add(-behind).Truncate(l.interval).Sub(a.requests[0].At))
	b.say("computed %d samples an interval, sent from %s on", a.samples, a.requests[0].At.Format(time.TimeOnly))
	return a, pause(ctx, time.Until(due.Add(-l.interval)))
}

// livePolicy is the n-th policy: most are of pods whose names end in two letters of
// its own, some five of a thousand of them, so that no two select the same ones.
func livePolicy(n int) map[string]any {
	of := []struct {
		level     catalogue.Level
		metric    string
		statistic string
		period    string
		bad       float64
	}{
		{catalogue.Pod, catalogue.PodCPULimitPercent, "avg", "2m", 99},
		{catalogue.Pod, catalogue.PodMemLimitPercent, "max", "1m", 99},
		{catalogue.Pod, catalogue.PodRestarts, "increase", "10m", 3},
		{catalogue.Pod, catalogue.PodCPU, "avg", "5m", 100},
		{catalogue.Pod, catalogue.PodMem, "max", "5m", 1 << 40},
		{catalogue.Node, catalogue.NodeCPUPercent, "avg", "5m", 99.9},
		{catalogue.Node, catalogue.NodeMemPercent, "avg", "5m", 99.9},
	}[n%7]
	name := "*" + string(letters[n/len(letters)%len(letters)]) + string(letters[n%len(letters)])
	if of.level == catalogue.Node {
		name = fmt.Sprintf("*%d", n%100)
	}
	return map[string]any{
		"apiVersion": "crowsnest.dev/v1", "kind": "Policy", "metadata": map[string]any{"name": fmt.Sprintf("bench-%d", n)},
		"spec": map[string]any{
			"level": of.level, "objects": map[string]any{"names": []string{name}},
			"conditions": []map[string]any{{"metric": of.metric, "statistic": of.statistic, "period": of.period, "op": ">=", "thresholds": map[string]any{"critical": of.bad}, "need": 2, "of": 3}},
		},
	}
}

// serverLive measures one server in real time, with objects, events, presets and a
// thousand policies, beside the simulator that sends to it.
func serverLive(l live) func(ctx context.Context, b *bench) ([]Result, error) {
	return func(ctx context.Context, b *bench) (_ []Result, err error) {
		l := l
		command := fmt.Sprintf("make bench BENCH=\"--only %s --live-after %v --live-for %v", l.name, b.liveAfter, b.liveFor)
		named := b.liveNodes == 0 || b.liveNodes == l.nodes // bars are of the sizes that have names
		if !named {
			command += fmt.Sprintf(" --live-nodes %d", b.liveNodes)
			l.name = fmt.Sprintf("%s_%d", strings.TrimSuffix(l.name, fmt.Sprintf("_%d", l.nodes)), b.liveNodes)
			l.nodes = b.liveNodes
		}
		var env []string
		in := ""
		container := containerMiB
		if l.whole {
			container = 2 * containerMiB
		}
		given := container
		if b.liveContainer > 0 {
			given = b.liveContainer
			command += fmt.Sprintf(" --live-container %d", given)
		}
		if l.nodes == 5000 || b.liveContainer > 0 {
			env = []string{fmt.Sprintf("GOMEMLIMIT=%dMiB", given-containerFreeMiB)}
			in = fmt.Sprintf(", with the memory limit that it sets for itself in a container of %d MiB", given)
		}
		if l.whole {
			env = append(env, fmt.Sprintf("CROWSNEST_SERIES_PER_CLUSTER=%d", l.nodes*wholeSeriesPerNode))
		}
		var nodes *ahead
		if l.whole && l.nodes >= aheadFrom || l.replayed > 0 {
			if nodes, err = b.aheadOf(ctx, l); err != nil {
				return nil, err
			}
		}
		server, tokenFile, p, err := b.startServer(ctx, l.name, env...)
		if err != nil {
			return nil, err
		}
		defer p.Stop(2 * time.Minute)
		settings := map[string]any{"interval_seconds": int(l.interval.Seconds()), "logs": false}
		if !l.whole {
			settings["families"] = []catalogue.Family{catalogue.CoreFamily}
		}
		for n := range livePolicies {
			if _, err := server.Do(ctx, http.MethodPost, testbed.API+"/policies", livePolicy(n)); err != nil {
				return nil, err
			}
		}
		// What the server has taken when the cluster comes is its own start.
		var usage [2]testbed.Usage // of the server and of the simulator
		if usage[0], err = testbed.UsageOf(p.PID()); err != nil {
			return nil, err
		}
		came := time.Now()
		send := func() (stop func() error) {
			sending, end := context.WithCancelCause(ctx)
			var sender errgroup.Group
			sender.Go(func() error {
				if err := nodes.send(sending, server.URL); err != nil && sending.Err() == nil {
					end(err)
					return err
				}
				return nil
			})
			ctx = sending
			return func() error {
				end(nil)
				return sender.Wait()
			}
		}
		catchUp := func() error {
			select {
			case <-nodes.caughtUp:
				b.say("caught up after %v", time.Since(came).Round(time.Second))
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if l.replayed > 0 {
			// What the cluster's own collector says is of now: beside it all that is replayed were late.
			stop := send()
			defer func() { err = errors.Join(err, stop()) }()
			if err := catchUp(); err != nil {
				return nil, fmt.Errorf("%w\n%s", err, p.Tail(10))
			}
		}
		name := l.name + "-simulate"
		var simulator *testbed.Process
		if nodes != nil {
			simulator, err = clusterJob{Server: server.URL, TokenFile: tokenFile, Dir: filepath.Join(b.dir, name), Nodes: l.nodes, Interval: l.interval}.start(b.dir, name)
		} else {
			simulator, err = testbed.Start(b.dir, name, filepath.Join(b.root, "bin/crowsnest"), "simulate", "--nodes", strconv.Itoa(l.nodes),
				"--pods-per-node", strconv.Itoa(peerPods), "--containers-per-pod", "2", "--churn", strconv.FormatFloat(peerChurn, 'f', -1, 64), "--seed", "1",
				"--interval", l.interval.String(), "--server", server.URL, "--token-file", tokenFile)
		}
		if err != nil {
			return nil, err
		}
		defer simulator.Stop(time.Minute)
		// A cluster can be told something once it has come.
		err = testbed.Await(ctx, 2*time.Minute, 50*time.Millisecond, func(ctx context.Context) error {
			_, err := server.Do(ctx, http.MethodPut, testbed.API+"/clusters/"+benchCluster+"/settings", map[string]any{"settings": settings})
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("%w\n%s", err, simulator.Tail(10))
		}
		if nodes != nil && l.replayed == 0 {
			stop := send()
			defer func() { err = errors.Join(err, stop()) }()
		}
		settled := func(ctx context.Context) (float64, error) {
			return metric(ctx, server, `crowsnest_rollup_intervals_total{outcome="complete"}`)
		}
		had, err := settled(ctx) // of what was replayed
		if err != nil {
			return nil, err
		}
		// New series and the first list of objects are not what a server does all day.
		err = testbed.Await(ctx, 20*time.Minute, time.Second, func(ctx context.Context) error {
			select {
			case <-simulator.Done():
				return fmt.Errorf("the simulator ended\n%s", simulator.Tail(10))
			case <-p.Done():
				return fmt.Errorf("the server ended\n%s", p.Tail(10))
			default:
			}
			if n, err := settled(ctx); err != nil || n < had+3 {
				return errors.Join(err, fmt.Errorf("%g intervals are complete", n-had))
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("%w\n%s\n%s", err, p.Tail(10), simulator.Tail(10))
		}
		if nodes != nil && l.replayed == 0 {
			if err := catchUp(); err != nil {
				return nil, err
			}
		}
		if err := pause(ctx, b.liveAfter); err != nil {
			return nil, err
		}
		starting := time.Since(came)
		names := []string{
			`crowsnest_rollup_intervals_total{outcome="complete"}`, `crowsnest_rollup_intervals_total{outcome="deadline"}`, `crowsnest_rollup_intervals_total{outcome="aged"}`,
			"crowsnest_engine_objects_judged_total", "crowsnest_engine_round_duration_seconds_sum", "crowsnest_engine_round_duration_seconds_count",
			"crowsnest_engine_arrival_to_commit_seconds_sum", "crowsnest_engine_arrival_to_commit_seconds_count",
		}
		figures := func() (all []float64, err error) {
			all = make([]float64, len(names))
			for i, name := range names {
				if all[i], err = metric(ctx, server, name); err != nil {
					return nil, err
				}
			}
			return all, nil
		}
		atStart := usage[0]
		for i, one := range []*testbed.Process{p, simulator} {
			if usage[i], err = testbed.UsageOf(one.PID()); err != nil {
				return nil, err
			}
		}
		before, err := figures()
		if err != nil {
			return nil, err
		}
		startCores := (usage[0].CPU - atStart.CPU).Seconds() / starting.Seconds()
		if nodes != nil {
			nodes.late.Store(0)
		}
		ownBefore, err := testbed.UsageOf(os.Getpid())
		if err != nil {
			return nil, err
		}
		stop := watchMemory(ctx, p.PID())
		began := time.Now()
		err = pause(ctx, b.liveFor)
		took := time.Since(began)
		memory := stop()
		if err != nil {
			return nil, err
		}
		after, err := figures()
		if err != nil {
			return nil, fmt.Errorf("%w\n%s", err, p.Tail(10))
		}
		var cores [2]float64
		for i, one := range []*testbed.Process{p, simulator} {
			now, err := testbed.UsageOf(one.PID())
			if err != nil {
				return nil, err
			}
			cores[i] = (now.CPU - usage[i].CPU).Seconds() / took.Seconds()
		}
		from := "all of it comes from one sender"
		if nodes != nil {
			own, err := testbed.UsageOf(os.Getpid())
			if err != nil {
				return nil, err
			}
			began := fmt.Sprintf("which began within %v", nodes.rollOut)
			if l.replayed > 0 {
				began = fmt.Sprintf("which brought what was due since %v before faster than time", came.Sub(nodes.requests[0].At).Round(time.Minute))
			}
			from = fmt.Sprintf("objects, events and what they say of the cluster come from its own collector, and %d samples an interval, computed before, from a sender each node, %s, sends within %v, took %.2f cores, and was answered within %v of when it was due",
				nodes.samples, began, aheadSpread, (own.CPU-ownBefore.CPU).Seconds()/took.Seconds(), time.Duration(nodes.late.Load()).Round(time.Millisecond))
		}
		active, err := metric(ctx, server, "crowsnest_ingest_active_series")
		if err != nil {
			return nil, err
		}
		firing, err := metric(ctx, server, "crowsnest_engine_firing_alerts")
		if err != nil {
			return nil, err
		}
		grown := func(i int) float64 { return after[i] - before[i] }
		families, cpuBar, memoryBar := "Core metrics", "", ""
		if l.whole {
			families = "The whole catalogue"
		}
		if l.nodes == 5000 {
			cpuBar, memoryBar = "<= 0.5", fmt.Sprint("<= ", container)
			if l.whole {
				cpuBar = "<= 1.4"
			}
		}
		note := fmt.Sprintf("%s at %v of %d simulated nodes and %d pods of two containers, 1 %% of them replaced a minute, for %v in real time, after the first %v of the cluster: %.0f series, objects and events, sums, presets and %d policies with selectors of their own, %.0f judgements a minute, %.0f alerts firing at the end; %s. "+
			"A round of the engine took %.2f s, from samples to what they made fire %.2f s on average. The simulator, or the cluster's collector, took %.2f cores beside it. %s.",
			families, l.interval, l.nodes, l.nodes*peerPods, b.liveFor, starting.Round(time.Second), active, livePolicies, grown(3)/took.Minutes(), firing, from, grown(4)/max(grown(5), 1), grown(6)/max(grown(7), 1), cores[1], machine())
		expected := float64(took / l.interval)
		results := []Result{
			{Name: l.name + "_cpu", Unit: "cores", Ours: cores[0], Bar: cpuBar, Note: note},
			{Name: l.name + "_start_cpu", Unit: "cores", Ours: startCores, Note: "Of the time before: all series and objects are new, and a round of the engine that takes longer than an interval is judged again. " + note},
			{Name: l.name + "_memory_peak", Unit: "MiB", Ours: memoryOf(p.PID()).peakMiB, Bar: memoryBar, Note: "The most resident memory since the start" + in + ". " + note},
			{Name: l.name + "_memory_steady", Unit: "MiB", Ours: meanOfHalf(memory), Note: "Mean resident memory in the second half. " + note},
			{Name: l.name + "_late", Unit: "intervals", Ours: max(0, expected-1-grown(0), grown(1)+grown(2)), Bar: "<= 0", Note: fmt.Sprintf("Of %.0f: not complete; one may be on its way at the end. %s", expected, note)},
		}
		for i := range results {
			results[i].Command = command + "\""
			if !named {
				results[i].Bar = ""
			}
		}
		return results, nil
	}
}
