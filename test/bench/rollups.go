package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
)

// rollups measures both ways to sum 150,000 pods: as samples pass, and by reading
// the interval back from the store.
func rollups(ctx context.Context, b *bench) ([]Result, error) {
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-run=^$", "-bench=^BenchmarkSums$", fmt.Sprintf("-benchtime=%dx", max(b.rounds, 3)), "./storage/rollup")
	cmd.Dir = b.root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	said, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w\n%s", err, said)
	}
	figure := func(name string) (float64, error) {
		m := regexp.MustCompile(`BenchmarkSums/` + name + `\S*\s.*?([0-9.]+) cpu-ns/sample`).FindSubmatch(said)
		if m == nil {
			return 0, fmt.Errorf("no figure of %s in\n%s", name, said)
		}
		return strconv.ParseFloat(string(m[1]), 64)
	}
	passing, err := figure("passing")
	if err != nil {
		return nil, err
	}
	read, err := figure("read")
	if err != nil {
		return nil, err
	}
	return []Result{{
		Name: "rollups_150000_pods", Unit: "CPU ns/sample", Ours: passing, Peer: &read, PeerVersion: "reading the interval back", Bar: "ratio <= 1",
		Note: "Summing and writing an interval of 150,000 pods of 15,000 workloads, for each sample: as they pass, which is what the server does, next to reading the interval back from the store. " + machine() + ".",
	}}, nil
}
