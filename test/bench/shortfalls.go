package main

import (
	"fmt"
	"strings"
)

// shortfalls says of each figure that does not hold its bar why, and what would help.
// A test wants one of each that falls short, and of no other.
var shortfalls = map[string]string{
	"live_whole_5000_cpu":                         "Three quarters of it are garbage collection at the memory limit; beside that the server works with some 0.4 of a core. It is memory that is short: see live_whole_5000_late.",
	"live_whole_5000_late":                        "Ten million series at 1,150 bytes leave too little of 16 GiB to collect garbage in. Of these bytes the TSDB's series, chunks, postings and isolation are 800, labels 170, what ingest and sums keep 190. Since this run series that ended are forgotten earlier and what is appended at once takes a gigabyte less: in a run that was ended after eleven minutes 11.1 GiB lived with 10.0 million series, but a cluster that comes all at once is five minutes behind by then, garbage collection is still 43 % of 1.5 cores, and beside the cluster's collector two cores do not catch up. Labels as numbers of a table (the TSDB's build tag dedupelabels) would save a tenth, where all that makes labels shares one table: each of its own takes 16 KB; a larger container was not measured.",
	"store_queries_workload_hour_cold_prometheus": "One asking of each, a millisecond each; it was not asked in several rounds, so what two starts of one program differ by is not known.",
	"store_queries_workload_hour_prometheus":      "Alike within 9 µs of 0.84 ms, in which ours authenticates, counts and bounds what is asked, too. It was not asked in several rounds.",
	"restart_2h":                                  "It is not the default: with blocks of 1 h the same server is ready in time, and a snapshot at a clean stop is read in a quarter of it.",
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
