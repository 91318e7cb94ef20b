package main

import (
	"fmt"
	"strings"
)

// shortfalls says of each figure that does not hold its bar why, and what would help.
// A test wants one of each that falls short, and of no other.
var shortfalls = map[string]string{
	"edge_backlog_memory": "Of 850 MiB that live after the kill, 200 are late samples that the TSDB holds uncompressed, 100 its notes of late chunks, and 250 the series of a day and what belongs to them; Go's collector lets half of that come on top. " +
		"A log of late samples of 128 instead of 256 MiB and blocks of them also while a long head is written took 430 MiB of 1,691. A heap that is collected twice as often would be within the bar, at a fifth more CPU.",
	"logs_access_store_cpu": "Taken beside other work (load 7), where the collector, the server and its merges had to share; both sides took longer than at load 1, where it was 0.85.",
	"logs_counted_lost": "Measured beside all other tests (load 10), where the collector is held up for seconds at a time. A shorter run (331,000 lines in 40 s, the server away for 15) lost none. " +
		"Left are rotations between two looks of a held-up collector; storms of collector/logs find them, one of some fifty.",
	"logs_counted_kept_lost": "As above, at such a load that three quarters of what was written were told as dropped. What is called lost was mostly still on its way: counting ended when nothing new came for 40 s, and a collector takes at least a second for each of the rotated files that wait. " +
		"Since then it waits until the collector says that nothing is left; at this size it was not run again.",
	"logs_json_store_cpu":                  "Taken beside other work (load 3); it was 1.0 at load 1, and the collector that sends has become quicker since.",
	"logs_plain_query_hits_of_word":        "Taken beside other work (load 6): 106 ms beside 96. The run before, at load 1, gave 0.81.",
	"logs_plain_store_cpu":                 "Taken beside other work (load 6): rounds of 5.8 to 7.7 CPU s here and 5.5 to 5.7 for the peer. It was 1.02 at load 1.",
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
