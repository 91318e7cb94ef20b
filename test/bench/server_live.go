package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"time"

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
}

// simulatorMiB is what the simulator may take beside a server on one machine.
const simulatorMiB = 5120

// knownBefore is the least number of nodes of which a server is to know all series before it
// is measured. All of a simulated cluster comes from one sender at once, which sends what is
// new first: of thousands of nodes the first interval would come behind later ones, out of
// order, which takes a gigabyte and more until a day's end, and CPU that is not there. Real
// collectors are as many as nodes. So it comes once, and the server is started again.
const knownBefore = 2000

// letters are what the names of a Deployment's pods end in.
const letters = "bcdfghjklmnpqrstvwxz2456789"

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
		l, command := l, ""
		if b.liveNodes > 0 {
			command = fmt.Sprintf("make bench BENCH=\"--only %s --live-nodes %d\"", l.name, b.liveNodes)
			l.name = fmt.Sprintf("%s_%d", strings.TrimSuffix(l.name, fmt.Sprintf("_%d", l.nodes)), b.liveNodes)
			l.nodes = b.liveNodes
		}
		var env []string
		in := ""
		container := containerMiB
		if l.whole {
			container = 2 * containerMiB
		}
		if l.nodes == 5000 {
			env = []string{fmt.Sprintf("GOMEMLIMIT=%dMiB", container-containerFreeMiB)}
			in = fmt.Sprintf(", with the memory limit that it sets for itself in a container of %d MiB", container)
		}
		if l.whole {
			env = append(env, fmt.Sprintf("CROWSNEST_SERIES_PER_CLUSTER=%d", l.nodes*wholeSeriesPerNode))
		}
		server, tokenFile, p, err := b.startServer(ctx, l.name, env...)
		if err != nil {
			return nil, err
		}
		defer func() { p.Stop(2 * time.Minute) }()
		settings := map[string]any{"interval_seconds": int(l.interval.Seconds()), "logs": false}
		if !l.whole {
			settings["families"] = []catalogue.Family{catalogue.CoreFamily}
		}
		for n := range livePolicies {
			if _, err := server.Do(ctx, http.MethodPost, testbed.API+"/policies", livePolicy(n)); err != nil {
				return nil, err
			}
		}
		// come starts a simulator. A cluster can be told something once it has come.
		come := func() (*testbed.Process, error) {
			simulator, err := testbed.Start(b.dir, l.name+"-simulate", "/usr/bin/env", fmt.Sprintf("GOMEMLIMIT=%dMiB", simulatorMiB), filepath.Join(b.root, "bin/crowsnest"), "simulate", "--nodes", strconv.Itoa(l.nodes),
				"--pods-per-node", strconv.Itoa(peerPods), "--containers-per-pod", "2", "--churn", strconv.FormatFloat(peerChurn, 'f', -1, 64), "--seed", "1",
				"--interval", l.interval.String(), "--server", server.URL, "--token-file", tokenFile)
			if err != nil {
				return nil, err
			}
			err = testbed.Await(ctx, 2*time.Minute, 50*time.Millisecond, func(ctx context.Context) error {
				_, err := server.Do(ctx, http.MethodPut, testbed.API+"/clusters/"+benchCluster+"/settings", map[string]any{"settings": settings})
				return err
			})
			if err != nil {
				err = fmt.Errorf("%w\n%s", err, simulator.Tail(10))
				simulator.Stop(time.Minute)
			}
			return simulator, err
		}
		if l.whole && l.nodes >= knownBefore {
			first, err := come()
			if err != nil {
				return nil, err
			}
			err = allKnown(ctx, server, l.nodes)
			first.Stop(time.Minute)
			p.Stop(5 * time.Minute)
			if err != nil {
				return nil, err
			}
			again, file, next, err := b.startServer(ctx, l.name, env...)
			if err != nil {
				return nil, err
			}
			server, tokenFile, p = again, file, next
			if err := idle(ctx, p); err != nil {
				return nil, err
			}
		}
		// What the server has taken when the cluster comes is its own start.
		var usage [2]testbed.Usage // of the server and of the simulator
		if usage[0], err = testbed.UsageOf(p.PID()); err != nil {
			return nil, err
		}
		came := time.Now()
		simulator, err := come()
		if err != nil {
			return nil, err
		}
		defer simulator.Stop(time.Minute)
		settled := func(ctx context.Context) (float64, error) {
			return metric(ctx, server, `crowsnest_rollup_intervals_total{outcome="complete"}`)
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
			if n, err := settled(ctx); err != nil || n < 3 {
				return errors.Join(err, fmt.Errorf("%g intervals are complete", n))
			}
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("%w\n%s\n%s", err, p.Tail(10), simulator.Tail(10))
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
		note := fmt.Sprintf("%s at %v of %d simulated nodes and %d pods of two containers, 1 %% of them replaced a minute, for %v in real time, after the first %v of the cluster: %.0f series, objects and events, sums, presets and %d policies with selectors of their own, %.0f judgements a minute, %.0f alerts firing at the end; all of it comes from one sender. "+
			"A round of the engine took %.2f s, from samples to what they made fire %.2f s on average. The simulator took %.2f cores beside it. %s.",
			families, l.interval, l.nodes, l.nodes*peerPods, b.liveFor, starting.Round(time.Second), active, livePolicies, grown(3)/took.Minutes(), firing, grown(4)/max(grown(5), 1), grown(6)/max(grown(7), 1), cores[1], machine())
		expected := float64(took / l.interval)
		results := []Result{
			{Name: l.name + "_cpu", Unit: "cores", Ours: cores[0], Bar: cpuBar, Note: note},
			{Name: l.name + "_start_cpu", Unit: "cores", Ours: startCores, Note: "Of the time before: all series and objects are new, and a round of the engine that takes longer than an interval is judged again. " + note},
			{Name: l.name + "_memory_peak", Unit: "MiB", Ours: memoryOf(p.PID()).peakMiB, Bar: memoryBar, Note: "The most resident memory since the start" + in + ". " + note},
			{Name: l.name + "_memory_steady", Unit: "MiB", Ours: meanOfHalf(memory), Note: "Mean resident memory in the second half. " + note},
			{Name: l.name + "_late", Unit: "intervals", Ours: max(0, expected-1-grown(0)) + grown(1) + grown(2), Bar: "<= 0", Note: fmt.Sprintf("Of %.0f: not complete; one may be on its way at the end. %s", expected, note)},
		}
		if command != "" { // bars are of the sizes that have names
			for i := range results {
				results[i].Command, results[i].Bar = command, ""
			}
		}
		return results, nil
	}
}

// allKnown waits until a server has all series of a cluster that has just come.
func allKnown(ctx context.Context, server *testbed.Server, nodes int) error {
	const still = time.Minute
	before, since := 0.0, time.Now()
	return testbed.Await(ctx, 30*time.Minute, 5*time.Second, func(ctx context.Context) error {
		active, err := metric(ctx, server, "crowsnest_ingest_active_series")
		if err != nil {
			return err
		}
		if active > before*1.002 { // pods are replaced all the time
			before, since = active, time.Now()
		}
		if active < 1000*float64(nodes) || time.Since(since) < still {
			return fmt.Errorf("%.0f series have come, %v ago", active, time.Since(since).Round(time.Second))
		}
		return nil
	})
}

// idle waits until a server has done with what its start left it, such as blocks of what was
// late.
func idle(ctx context.Context, p *testbed.Process) error {
	const look = 10 * time.Second
	return testbed.Await(ctx, 20*time.Minute, time.Second, func(ctx context.Context) error {
		before, err := testbed.UsageOf(p.PID())
		if err != nil {
			return err
		}
		if err := pause(ctx, look); err != nil {
			return err
		}
		now, err := testbed.UsageOf(p.PID())
		if cores := (now.CPU - before.CPU).Seconds() / look.Seconds(); err == nil && cores > 0.1 {
			err = fmt.Errorf("the server still takes %.2f cores", cores)
		}
		return err
	})
}
