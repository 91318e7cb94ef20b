package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// logsCounted runs the counting of lines through kills, at its full size: while the
// server is away rotation takes files, and what was in them is told; or they are kept,
// and nothing may be lost but what was removed under a killed collector.
func logsCounted(ctx context.Context, b *bench) ([]Result, error) {
	var results []Result
	for name, keep := range map[string]string{"logs_counted_": "0", "logs_counted_kept_": "1000000000"} {
		size := []string{"CROWSNEST_FAULTS_LOG_FOR=5m", "CROWSNEST_FAULTS_LOG_PODS=100", "CROWSNEST_FAULTS_LOG_AWAY=2m", "CROWSNEST_FAULTS_LOG_KEEP=" + keep}
		found, _, err := b.fault(ctx, "TestLinesArriveOnceThroughKills", countedLine, size...)
		if err != nil {
			return nil, err
		}
		note := fmt.Sprintf("%s. `%s go test -v -run LinesArriveOnceThroughKills ./test/faults`. %s.", found[0], strings.Join(size, " "), machine())
		for i, what := range []string{"lines", "lost", "doubled", "torn", "told"} {
			n, err := strconv.ParseFloat(found[i+1], 64)
			if err != nil {
				return nil, err
			}
			r := Result{Name: name + what, Unit: "lines", Ours: n, Note: note}
			if what != "lines" && what != "told" {
				r.Bar = "<= 0"
			}
			results = append(results, r)
		}
	}
	return results, nil
}

const countedLine = `(\d+) lines of \d+ containers, .*: (\d+) lost, (\d+) doubled, (\d+) torn, (\d+) told as dropped \([^)]*\)`
