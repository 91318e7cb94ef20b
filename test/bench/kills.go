package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// kills counts the acknowledged samples that are missing after a server was
// killed again and again at random moments.
func kills(series, rounds int) func(context.Context, *bench) ([]Result, error) {
	return func(ctx context.Context, b *bench) ([]Result, error) {
		log, err := os.Create(filepath.Join(b.dir, fmt.Sprintf("kills-%d.log", series)))
		if err != nil {
			return nil, err
		}
		defer log.Close()
		cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-v", "-timeout=3h", "-run=TestKilledServerKeepsWhatItAcknowledged", "./test/faults")
		cmd.Dir, cmd.Stdout, cmd.Stderr = b.root, log, log
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", fmt.Sprint("CROWSNEST_FAULTS_SERIES=", series), fmt.Sprint("CROWSNEST_FAULTS_ROUNDS=", rounds))
		failed := cmd.Run()
		said, err := os.ReadFile(log.Name())
		if err != nil {
			return nil, err
		}
		m := regexp.MustCompile(`(\d+) kills, \d+ torn logs, (\d+) samples acknowledged, (\d+) missing.*slowest start ([0-9a-z.]+)`).FindSubmatch(said)
		if m == nil {
			return nil, fmt.Errorf("the test did not come to its end: %w\n%s", failed, said[max(0, len(said)-4096):])
		}
		missing, err := strconv.ParseFloat(string(m[3]), 64)
		if err != nil {
			return nil, err
		}
		slowest, err := time.ParseDuration(string(m[4]))
		if err != nil {
			return nil, err
		}
		name := fmt.Sprintf("kills_%d", series)
		note := fmt.Sprintf("%s kills of a server with %d series at random moments under load, late samples and backlogs among %s that were acknowledged. %s.", m[1], series, m[2], machine())
		return []Result{
			{Name: name + "_missing", Unit: "samples", Ours: missing, Bar: "<= 0", Command: "make kill", Note: note},
			{Name: name + "_start", Unit: "s", Ours: slowest.Seconds(), Command: "make kill", Note: "The slowest start after one of these kills, from the process to taking writes; the head is as full as the time between kills made it. " + note},
		}, nil
	}
}
