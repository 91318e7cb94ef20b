package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// engineOf has a test of the alert engine measure, and reads its figures.
func engineOf(test string) func(ctx context.Context, b *bench) ([]Result, error) {
	return func(ctx context.Context, b *bench) ([]Result, error) {
		var out bytes.Buffer
		cmd := exec.CommandContext(ctx, "go", "test", "./alerting/engine", "-v", "-count", "1", "-timeout", "20m", "-run", "^"+test+"$")
		cmd.Dir, cmd.Stdout, cmd.Stderr = b.root, &out, &out
		cmd.Env = append(os.Environ(), "CROWSNEST_MEASURE=1", "CGO_ENABLED=0")
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("%w: %s", err, bytes.TrimSpace(out.Bytes()))
		}
		figures := map[string]float64{}
		for line := range strings.Lines(out.String()) {
			words := strings.Fields(line)
			if len(words) != 3 || words[0] != "measured" {
				continue
			}
			v, err := strconv.ParseFloat(words[2], 64)
			if err != nil {
				return nil, fmt.Errorf("figure %q: %w", line, err)
			}
			figures[words[1]] = v
		}
		if len(figures) == 0 {
			return nil, fmt.Errorf("%s told no figure: %s", test, bytes.TrimSpace(out.Bytes()))
		}
		note := machine()
		switch test {
		case "TestMeasurePolicies":
			few := figures["engine_cpu_100_policies_1000_objects"]
			return []Result{{
				Name: "engine_policies_cpu", Unit: "CPU seconds a round", Ours: figures["engine_cpu_10000_policies_10_objects"], Peer: &few, Bar: "ratio <= 3",
				PeerVersion: "100 policies on 1,000 objects", Note: "10,000 policies on 10 objects each, distinct selectors, up to 20 metrics, 4 statistics, 5 periods; " + note,
			}}, nil
		case "TestMeasureState":
			return []Result{
				{Name: "engine_state_1m_objects", Unit: "MiB", Ours: figures["engine_state_mib"], Bar: "<= 1024", Note: "kept after a round of 1,000,000 objects, of which 10,000 fire; " + note},
				{Name: "engine_state_peak", Unit: "MiB", Ours: figures["engine_state_live_peak_mib"], Bar: "<= 1024", Note: fmt.Sprintf("held at most during that round, all objects of one sender, after a collection of garbage; %.0f MiB with garbage, most of it of the made-up cluster; ", figures["engine_state_peak_mib"]) + note},
				{Name: "engine_state_round_cpu", Unit: "CPU seconds", Ours: figures["engine_round_1m_objects_cpu"], Note: note},
			}, nil
		case "TestMeasurePatterns":
			of := "30,000 pods of one sender, 1,000 policies with patterns of their own and 20 about all of them, 5 metrics; "
			return []Result{
				{Name: "engine_patterns_first_cpu", Unit: "CPU seconds", Ours: figures["engine_patterns_first_cpu"], Note: "the first round after a start; " + of + note},
				{Name: "engine_patterns_next_cpu", Unit: "CPU seconds", Ours: figures["engine_patterns_next_cpu"], Note: "each round after it, a hundredth of the pods replaced before each; " + of + note},
			}, nil
		case "TestMeasureWebhook":
			return []Result{
				{Name: "engine_webhook_p99", Unit: "s", Ours: figures["webhook_p99_seconds"], Bar: "<= 2", Note: fmt.Sprintf("arrival of the completing sample to the webhook, 500 alerts, grouping wait 0, one node silent; p50 %.3f s, longest %.3f s; %s", figures["webhook_p50_seconds"], figures["webhook_max_seconds"], note)},
			}, nil
		}
		return []Result{
			{Name: "engine_backtest_90d", Unit: "s", Ours: figures["backtest_seconds"], Bar: "<= 10", Note: fmt.Sprintf("90 days of one policy over 1,000 workloads at 1 min, %g alerts, %.1f CPU s; %s", figures["backtest_alerts"], figures["backtest_cpu_seconds"], note)},
		}, nil
	}
}
