package main

import (
	"fmt"
	"strings"
)

// shortfalls says of each figure that does not hold its bar why, and what would help.
// A test wants one of each that falls short, and of no other.
var shortfalls = map[string]string{
	"edge_backlog": "445 million samples take the server 4.1 CPU microseconds each on two cores that the senders share: 7.8 min until the kill, 44 s until requests are taken again, 8.4 min for the rest. " +
		"About a fifth is Go's garbage collection, and 20 s of CPU are spent at the start on the log of late samples. At an interval of 60 s it is half. " +
		"Since then requests of a backlog have several intervals, and blocks are merged when it is over: 3 h of it, beside other work, took 2.1 instead of 3.6 CPU microseconds a sample (at a higher load 2.7 instead of 4.5), and 21 s instead of 47 until requests are taken again; the 24 h were not measured again.",
	"edge_backlog_memory": "A profile of a shorter run has 226 MiB of late samples that the TSDB holds uncompressed, and after the kill their chunks besides, partly twice; intervals of the past that are evaluated at once are 50 MiB. With 4 h instead of 24 it is 920 MiB. Since then, with 3 h, it is 768 instead of 886 MiB; the 24 h were not measured again.",
	"logs_plain_agent_cpu": "Single rounds of the same million lines take 1.49 to 1.93 CPU s here and the peer 1.33 to 1.88, and five runs gave 0.96 to 1.23 at the median. " +
		"About a third is what ours does with a line and the peer does not (joining, levels, masking), and 40 % is compression, in Go where the peer's is in C; its start counts, too. Since then the benchmark of its files (`go test -bench 'Files$' ./collector/logs`, beside other work) takes 1.22 instead of 1.56 CPU s, and two rounds beside the peer, at a load of 5, 1.24 and 1.35 where it took 1.45 and 1.48: to be recorded on a quiet machine.",
	"logs_access_agent_cpu": "Three rounds gave 1.95 to 2.38 CPU s here and 1.49 to 1.78 for the peer; the run of the day before 2.28 and 2.39. Compression in Go is the largest part, in C for the peer. JSON, where both look into a line, is 0.79. Since then the benchmark of its files (`go test -bench 'Files$' ./collector/logs`, beside other work) takes 1.39 instead of 1.67 CPU s, and two rounds beside the peer, at a load of 6, 1.43 and 1.47 where it took 1.43 and 1.69: to be recorded on a quiet machine.",
	"logs_counted_lost": "Measured beside all other tests (load 10), where the collector is held up for seconds at a time. A shorter run (331,000 lines in 40 s, the server away for 15) lost none. " +
		"Left are rotations between two looks of a held-up collector; storms of collector/logs find them, one of some fifty.",
	"logs_counted_kept_lost": "As above, at such a load that three quarters of what was written were told as dropped. What is called lost was mostly still on its way, as a run like it showed (318,729 lines, 242,139 of them): the counting ended when nothing new had come for 40 s, " +
		"and a collector took at least a second for each of the rotated files that waited. Now it takes one for all, and the counting waits until the collector says that nothing is left.",
	"logs_json_query_newest_in_pod":        "A question of 4 to 7 ms: a single ms decides. The run before gave 1.07.",
	"logs_json_query_word":                 "Rounds took 19, 28 and 28 ms here and 19, 21 and 28 for the peer: the machine was slower in some than in others, and the median fell upon one for ours. The run before gave 1.05.",
	"logs_plain_query_newest_in_pod":       "A question of 6 to 8 ms: a single ms decides. The two runs before gave ratios of 0.75 and 0.80.",
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
