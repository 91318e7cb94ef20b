package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// scaleFor is long enough for the head to be compacted once: blocks of 1 h.
const scaleFor = 100 * time.Minute

// containerMiB is the container that a server of 5,000 nodes is to fit in, by the bar.
const containerMiB = 8192

// containerFreeMiB is what the server leaves of such a container; see cmd/crowsnest/garbage.go.
const containerFreeMiB = 768

// computedNodes are the most nodes that are computed: of more there are copies, with
// names of their own, since a simulator of 5,000 nodes takes the memory of two.
const computedNodes = 1000

// scale is a cluster that is replayed faster than time.
type scale struct {
	name     string
	nodes    int
	interval time.Duration
	whole    bool // catalogue; otherwise its core
}

// serverScale measures one server with a cluster of which each node is a sender of its own,
// replayed faster than time.
func serverScale(of scale) func(ctx context.Context, b *bench) ([]Result, error) {
	return func(ctx context.Context, b *bench) ([]Result, error) {
		name, nodes, families := of.name, of.nodes, "Core metrics"
		wanted := func(metric string) bool {
			m, ok := catalogue.Get(metric)
			return ok && m.Core
		}
		container := containerMiB
		var env []string
		if of.whole {
			families, wanted, container = "The whole catalogue", nil, 2*containerMiB
			env = append(env, fmt.Sprintf("CROWSNEST_SERIES_PER_CLUSTER=%d", 2*nodes*wholeSeriesPerNode))
		}
		to := time.Now().UTC().Truncate(time.Minute)
		copies := max(1, nodes/computedNodes)
		b.say("computing the stream of %d nodes over %v", nodes/copies, scaleFor)
		s, err := writeStream(ctx, filepath.Join(b.dir, "scale-stream"), scaleFleet(nodes/copies, of.interval), to.Add(-scaleFor), to, wanted)
		if err != nil {
			return nil, err
		}
		s.samples, s.series, s.active = s.samples*copies, s.series*copies, s.active*copies
		b.say("%d samples of %d series, %d at a time", s.samples, s.series, s.active)
		var cores, memoryBar, in string
		if nodes == 5000 {
			cores, memoryBar = "<= 0.5", fmt.Sprint("<= ", container)
			if of.whole {
				cores = "<= 1.4"
			}
			// What the server sets for itself in such a container.
			env = append(env, fmt.Sprintf("GOMEMLIMIT=%dMiB", container-containerFreeMiB))
			in = fmt.Sprintf(", with the memory limit that it sets for itself in a container of %d MiB", container)
		}
		server, _, p, err := b.startServer(ctx, name, env...)
		if err != nil {
			return nil, err
		}
		defer p.Stop(2 * time.Minute)
		before, err := testbed.UsageOf(p.PID())
		if err != nil {
			return nil, err
		}
		ownBefore, err := testbed.UsageOf(os.Getpid())
		if err != nil {
			return nil, err
		}
		stop := watchMemory(ctx, p.PID())
		began := time.Now()
		refused, err := s.send(ctx, server.URL, 8, true, copies)
		took := time.Since(began)
		memory := stop()
		if err != nil {
			return nil, fmt.Errorf("%w\n%s", err, p.Tail(10))
		}
		if err := awaitIdle(ctx, p); err != nil {
			return nil, err
		}
		after, err := testbed.UsageOf(p.PID())
		if err != nil {
			return nil, err
		}
		own, err := testbed.UsageOf(os.Getpid())
		if err != nil {
			return nil, err
		}
		outcomes := map[string]float64{}
		for _, outcome := range []string{"complete", "deadline", "aged"} {
			if outcomes[outcome], err = metric(ctx, server, fmt.Sprintf("crowsnest_rollup_intervals_total{outcome=%q}", outcome)); err != nil {
				return nil, err
			}
		}
		dropped, err := metric(ctx, server, "crowsnest_rollup_dropped_intervals_total")
		if err != nil {
			return nil, err
		}
		late := float64(scaleFor/of.interval) - outcomes["complete"]
		note := fmt.Sprintf("%s at %v of %d nodes and %d pods of two containers, 1 %% of them replaced a minute: %d series at a time, %d in all, %d samples of %v, each node a sender of its own (%d copies of %d computed ones), sums and presets on, replayed in %.0f s over 8 connections across a compaction of the head; %d requests were asked to come again. "+
			"The sender took %.1f CPU s beside it on the same machine. %s.", families, of.interval, nodes, nodes*peerPods, s.active, s.series, s.samples, scaleFor, copies, nodes/copies, took.Seconds(), refused, (own.CPU - ownBefore.CPU).Seconds(), machine())
		return []Result{
			{Name: name + "_cpu", Unit: "cores", Ours: (after.CPU - before.CPU).Seconds() / scaleFor.Seconds(), Bar: cores, Note: "CPU seconds of the server ÷ seconds of the data: what it takes in real time. " + note},
			{Name: name + "_memory_peak", Unit: "MiB", Ours: memoryOf(p.PID()).peakMiB, Bar: memoryBar, Note: "The most resident memory, the compaction included" + in + ". " + note},
			{Name: name + "_memory_steady", Unit: "MiB", Ours: meanOfHalf(memory), Note: "Mean resident memory in the second half. " + note},
			{Name: name + "_late", Unit: "intervals", Ours: late, Bar: "<= 0", Note: fmt.Sprintf("Of %d: not complete. %.0f by the deadline, %.0f at their greatest age, %.0f dropped. %s", int(scaleFor/of.interval), outcomes["deadline"], outcomes["aged"], dropped, note)},
		}, nil
	}
}
