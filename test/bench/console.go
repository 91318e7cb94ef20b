package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// consoleNodes and consolePodsPerNode are the fleet that the console's pages are
// measured on: the present state of as many nodes as a large cluster has. They have
// few pods each, since a server of samples of 100,000 pods needs a machine of its own.
const (
	consoleNodes       = 5000
	consolePodsPerNode = 2
)

// consolePages measures the console's pages in Chromium: how long until each shows
// what it is opened for, and how long a keystroke in its searches takes.
func consolePages(ctx context.Context, b *bench) ([]Result, error) {
	address, err := testbed.FreeAddress()
	if err != nil {
		return nil, err
	}
	server := &testbed.Server{URL: "http://" + address, Cluster: "simulated"}
	tokenFile := filepath.Join(b.dir, "console-token")
	if err := os.WriteFile(tokenFile, []byte("bench-token-of-this-run-only-0123456789\n"), 0o600); err != nil {
		return nil, err
	}
	program := filepath.Join(b.root, "bin/crowsnest")
	p, err := testbed.Start(b.dir, "console-server", program, "server", "--data", filepath.Join(b.dir, "console"), "--listen", address, "--ingest-token-file", server.Cluster+"="+tokenFile)
	if err != nil {
		return nil, err
	}
	defer p.Stop(30 * time.Second)
	if err := p.WaitReady(ctx, server, time.Minute); err != nil {
		return nil, err
	}
	simulator, err := testbed.Start(b.dir, "console-simulate", program, "simulate", "--nodes", strconv.Itoa(consoleNodes), "--pods-per-node", strconv.Itoa(consolePodsPerNode),
		"--interval", "1m", "--server", server.URL, "--token-file", tokenFile)
	if err != nil {
		return nil, err
	}
	defer simulator.Stop(20 * time.Second)
	// The pages show what there is: all objects, and values of two intervals.
	query := fmt.Sprintf("count(k8s_node_cpu_usage{cluster=%q})", server.Cluster)
	err = testbed.Await(ctx, 10*time.Minute, 2*time.Second, func(ctx context.Context) error {
		select {
		case <-simulator.Done():
			return errors.New("the simulator ended")
		default:
		}
		series, err := server.Range(ctx, query, time.Now().Add(-3*time.Minute), time.Now(), time.Minute)
		if err != nil {
			return err
		}
		// A simulated fleet always has some node that is down.
		if len(series) == 0 || series[0].Points[len(series[0].Points)-1].V < consoleNodes*99/100 {
			return fmt.Errorf("not nearly all %d nodes have values yet", consoleNodes)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("Chromium on the same machine as the server and the simulator, %d nodes with %d pods each at 1 min, present state. %s.", consoleNodes, consolePodsPerNode, machine())
	return speeds(ctx, b, "console_pages_", note, "--base", server.URL, "--cluster", server.Cluster)
}

// consoleHistory measures charts over 90 days in Chromium, on the data of
// longrange and their aggregates. The server gets second names of their files, so
// that they stay as they are.
func consoleHistory(ctx context.Context, b *bench) (results []Result, err error) {
	dir, err := b.longData(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := b.longAggregates(ctx, dir); err != nil {
		return nil, err
	}
	data := dir + "-console" // beside them: second names do not reach over file systems
	if err := os.RemoveAll(data); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	if err := errors.Join(linkBlocks(dir, filepath.Join(data, "metrics")), linkTree(dir+"-aggregates", filepath.Join(data, "metrics-aggregates"))); err != nil {
		return nil, err
	}
	address, err := testbed.FreeAddress()
	if err != nil {
		return nil, err
	}
	server := &testbed.Server{URL: "http://" + address, Cluster: "bench"}
	p, err := testbed.Start(b.dir, "console-history", filepath.Join(b.root, "bin/crowsnest"), "server", "--data", data, "--listen", address, "--metrics-retention", "3650d")
	if err != nil {
		return nil, err
	}
	defer p.Stop(30 * time.Second)
	if err := p.WaitReady(ctx, server, 2*time.Minute); err != nil {
		return nil, err
	}
	note := fmt.Sprintf("Chromium on the same machine as the server, %d days of %d nodes with %d pods each at 60 s. %s.", longDays, b.nodes, longPods, machine())
	results, err = speeds(ctx, b, "console_", note, "--base", server.URL, "--cluster", server.Cluster,
		"--from", longEnd.Add(-longDays*24*time.Hour).Format(time.RFC3339), "--to", longEnd.Format(time.RFC3339))
	for i := range results {
		results[i].Command = fmt.Sprintf("make bench BENCH=\"--only console_history --nodes %d\"", b.nodes)
	}
	return results, err
}

// speeds runs e2e/speed.mjs and names what it measured.
func speeds(ctx context.Context, b *bench, prefix, note string, args ...string) ([]Result, error) {
	script := exec.CommandContext(ctx, "node", append([]string{filepath.Join(b.root, "dashboards/console/e2e/speed.mjs")}, args...)...)
	script.Stderr = os.Stderr
	raw, err := script.Output()
	if err != nil {
		return nil, fmt.Errorf("measure the pages in Chromium: %w", err)
	}
	var measured []struct {
		Name string  `json:"name"`
		Unit string  `json:"unit"`
		P95  float64 `json:"p95"`
		N    int     `json:"n"`
		Bar  string  `json:"bar"`
		What string  `json:"what"`
	}
	if err := json.Unmarshal(raw, &measured); err != nil {
		return nil, fmt.Errorf("read what the pages took: %w", err)
	}
	out := make([]Result, len(measured))
	for i, m := range measured {
		out[i] = Result{Name: prefix + m.Name, Unit: m.Unit, Ours: m.P95, Bar: m.Bar, Note: fmt.Sprintf("%s; p95 of %d. %s", m.What, m.N, note)}
	}
	return out, nil
}
