package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
)

// logsCounted runs the counting of lines through kills, at its full size.
func logsCounted(ctx context.Context, b *bench) ([]Result, error) {
	const size = "CROWSNEST_FAULTS_LOG_FOR=5m CROWSNEST_FAULTS_LOG_PODS=100 CROWSNEST_FAULTS_LOG_AWAY=90s"
	test := exec.CommandContext(ctx, "/usr/bin/env", "CROWSNEST_FAULTS_LOG_FOR=5m", "CROWSNEST_FAULTS_LOG_PODS=100", "CROWSNEST_FAULTS_LOG_AWAY=90s",
		"go", "test", "-count=1", "-timeout=30m", "-v", "-run=LinesArriveOnceThroughKills", "./test/faults")
	test.Dir, test.Env = b.root, append(os.Environ(), "CGO_ENABLED=0")
	out, err := test.CombinedOutput()
	found := regexp.MustCompile(`(\d+) lines of \d+ containers, .*: (\d+) lost, (\d+) doubled, (\d+) torn, (\d+) told as dropped`).FindStringSubmatch(string(out))
	if found == nil {
		return nil, fmt.Errorf("count lines: %w\n%s", err, out)
	}
	note := fmt.Sprintf("%s. `%s go test -v -run LinesArriveOnceThroughKills ./test/faults`. %s.%s", found[0], size, machine(), machineLoad())
	var results []Result
	for i, name := range []string{"lines", "lost", "doubled", "torn"} {
		n, err := strconv.ParseFloat(found[i+1], 64)
		if err != nil {
			return nil, err
		}
		r := Result{Name: "logs_counted_" + name, Unit: "lines", Ours: n, Note: note}
		if name != "lines" {
			r.Bar = "<= 0"
		}
		results = append(results, r)
	}
	return results, nil
}
