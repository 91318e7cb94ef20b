package main

import (
	"fmt"
	"strings"
)

// shortfalls says of each figure that does not hold its bar why, and what would help.
// A test wants one of each that falls short, and of no other.
var shortfalls = map[string]string{
	"console_pages_keystroke_workloads": "The p95 of 36 keys is the second worst; it was 79 ms before names were cut in their middle, and 142 in the run before this one.",
	"edge_backlog": "430 million samples take the server 6.4 CPU microseconds each on two cores that the senders share: sums of the past are read back from the store, " +
		"and metrics by expression evaluated over it, beside taking it out of order. Measured before intervals waited for slow senders. At an interval of 60 s it is half.",
	"live_5000_cpu": "Measured for five minutes after the start, when rounds that were overtaken while 150,000 pods were new are judged again from history, one query of the inventory for each object: a third of it. " +
		"The engine was changed since, and this not measured again.",
	"logs_plain_agent_cpu": "Four runs gave 0.96, 1.13, 1.23 and 1.23 at the median, single rounds 0.98 to 1.35. About half is what ours does with a line and the peer does not (joining, levels, masking), " +
		"and a third is compression, in Go where the peer's is in C; its start counts, too.",
	"logs_plain_store_cpu":                 "The two runs before gave 1.06 and 1.04. Ours writes each batch to the disk before it answers, and compresses in Go where the peer does in C.",
	"restart_2h":                           "It is not the default: with blocks of 1 h the same server is ready in time, and a snapshot at a clean stop is read in a quarter of it.",
	"scale_5000_memory_peak":               "At a compaction the head holds 5 million series, half of them of pods that were replaced: some 800 bytes each that are in use, and what Go's collector leaves between its rounds.",
	"store_peers_memory_steady_prometheus": "A hundredth over: a heap of this size is collected later than a large one. With 128 instead of 192 MiB of room it was 0.94, at 8 % more CPU beside VictoriaMetrics.",
}

// belowBar is the part of the page that tells of what does not hold.
func belowBar(results []Result) string {
	var b strings.Builder
	for _, r := range results {
		if r.Holds != nil && !*r.Holds {
			figure := number(r.Ours) + " " + r.Unit
			if strings.HasPrefix(r.Bar, "ratio") {
				figure = "ratio " + number(*r.Ratio)
			}
			fmt.Fprintf(&b, "- **%s** (%s, bar %s): %s\n", r.Name, figure, bars.Replace(r.Bar), shortfalls[r.Name])
		}
	}
	if b.Len() == 0 {
		return ""
	}
	return "\n## Below the bar, and why\n\n" + b.String()
}
