package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// logsCounted runs the counting of lines through kills, at its full size. What the runs are
// beside one another: while the server is away rotation takes files, and what was in them is
// told; or they are kept, and nothing may be lost but what was removed under a killed
// collector; or they stay where they are, and nothing may be lost at all; the disks of both
// sides are full; files are removed while they are written to.
func logsCounted(ctx context.Context, b *bench) ([]Result, error) {
	var results []Result
	for _, run := range []struct {
		name, test string
		all        bool // nothing may be told as lost
		size       []string
	}{
		{"logs_counted_", "ThroughKills", false, []string{"FOR=5m", "PODS=100", "AWAY=2m", "KEEP=0"}},
		{"logs_counted_kept_", "ThroughKills", false, []string{"FOR=5m", "PODS=100", "AWAY=2m", "KEEP=1000000000"}},
		{"logs_counted_stay_", "OfFilesThatStay", true, []string{"FOR=5m", "PODS=100", "AWAY=2m", "ROTATE=4s"}},
		{"logs_counted_full_disks_", "WithFullDisks", true, []string{"FOR=30s", "PODS=30"}},
		{"logs_counted_deleted_", "OfDeletedFiles", true, []string{"FOR=30s", "PODS=30"}},
	} {
		for i, s := range run.size {
			run.size[i] = "CROWSNEST_FAULTS_LOG_" + s
		}
		found, _, err := b.fault(ctx, "TestLinesArriveOnce"+run.test, countedLine, run.size...)
		if err != nil {
			return nil, err
		}
		note := fmt.Sprintf("%s. `%s go test -v -run LinesArriveOnce%s ./test/faults`. %s.", found[0], strings.Join(run.size, " "), run.test, machine())
		for i, what := range []string{"lines", "lost", "doubled", "torn", "split", "told"} {
			n, err := strconv.ParseFloat(found[i+1], 64)
			if err != nil {
				return nil, err
			}
			r := Result{Name: run.name + what, Unit: "lines", Ours: n, Note: note}
			if what != "lines" && (what != "told" || run.all) {
				r.Bar = "<= 0"
			}
			if what == "split" {
				r.Unit = "records"
			}
			results = append(results, r)
		}
	}
	return results, nil
}

const countedLine = `(\d+) lines of \d+ containers, .*: (\d+) lost, (\d+) doubled, (\d+) torn, (\d+) split, (\d+) told as dropped \([^)]*\)`
