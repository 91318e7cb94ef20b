package main

import (
	"fmt"
	"strings"
)

// shortfalls says of each figure that does not hold its bar why, and what would help.
// A test wants one of each that falls short, and of no other.
var shortfalls = map[string]string{
	"console_pages_load_overview": "At 5,000 nodes beside what makes them, on two cores that the browser shares; the worst of twelve loads, the one without a cache among them.",
	"live_5000_cpu": "Measured for five minutes after the start, when rounds that were overtaken while 150,000 pods were new are judged again from history, one query of the inventory for each object: a third of it. " +
		"In a minute after that the engine's own rounds took an eighth of a core.",
	"logs_json_store_cpu": "Ours writes each batch to the disk before it answers, and rows with their sender and batch, so that no line is lost or doubled over a kill; the peer loses its last seconds. " +
		"Ours compresses in Go, as a program without cgo does, the peer's in C: built without it takes a third more. And ours keeps two times of each line.",
	"logs_json_store_disk": "Ours keeps two times of each line: the container runtime's, by which lines are ordered and known to be complete, and the line's own as a field; " +
		"the peer takes the line's own for the only one. The second column and its Bloom filter are 7 to 8 bytes of a line. Lines without a time of their own are within the bar.",
	"logs_plain_agent_cpu": "Three rounds gave 1.88 to 1.67, 1.72 to 1.40 and 1.98 to 2.02 s: both scatter by a fifth, and it was 0.96 the run before. Flat out, about half is what ours does with a line and the peer does not (joining, levels, masking), " +
		"and a third is compression, in Go where the peer's is in C.",
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
