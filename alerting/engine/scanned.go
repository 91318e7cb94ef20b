package engine

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// scanned is what a scan found for one policy. It is the same for another one that looks
// for the same in the same metric: of a thousand policies most differ in what they select,
// of which a scan knows nothing.
type scanned struct {
	of       scanOf
	hot      map[subject]*heat
	active   map[string][]bool
	coverage map[int64]float64
}

// scanOf is all that the scan of one metric depends on; the zero value is no scan's.
type scanOf struct {
	metric, where       string
	statistic, op       string
	least               float64
	all                 bool // every sample is suspicious
	reach, silentAfter  int64
	begin, to, interval int64
}

// scanOf tells what a replay scans for; the zero value: it can share with nobody, as it
// is about more than one metric, or none.
func (b *replay) scanOf() scanOf {
	if len(b.c.conditions) != 1 || b.c.conditions[0].Metric == "" {
		return scanOf{}
	}
	cond := b.c.conditions[0]
	out := scanOf{metric: cond.Metric, reach: b.reach(0), silentAfter: b.silentAfter(), begin: b.begins().UnixMilli(), to: b.to.UnixMilli(), interval: b.interval.Milliseconds()}
	if len(cond.Where) > 0 {
		out.where = fmt.Sprintf("%q", cond.Where) // in the order of its keys
	}
	if out.all = b.c.suspects[0] == nil; !out.all {
		out.statistic, out.op = cond.Statistic, cond.Op
		out.least, _ = b.c.rule.Conditions[0].Least()
	}
	return out
}

// scannedBefore takes over what was scanned already.
func (b *replay) scannedBefore() bool {
	if b.scanned == nil || b.scanned.hot == nil {
		return false
	}
	if b.scanned.of != b.scanOf() {
		*b.scanned = scanned{} // nobody asks for it any more: replays go by what they scan for
		return false
	}
	b.hot, b.active, b.coverage = b.scanned.hot, maps.Clone(b.scanned.active), maps.Clone(b.scanned.coverage)
	return true
}

// keepScan leaves what was scanned to the next replay, which may not change it.
func (b *replay) keepScan() {
	if b.scanned == nil {
		return
	}
	*b.scanned = scanned{}
	if of := b.scanOf(); of != (scanOf{}) {
		*b.scanned = scanned{of, b.hot, maps.Clone(b.active), maps.Clone(b.coverage)}
	}
}

// finds tells whether there is anything that could have begun.
func (b *replay) finds() bool {
	if len(b.few.spans) > 0 {
		return true
	}
	for sub, h := range b.hot {
		if len(h.spans) > 0 && b.c.possible(sub) {
			return true
		}
	}
	return false
}

// byScan puts replays together that scan for the same.
func byScan(replays []*replay) {
	of := make(map[*replay]string, len(replays))
	for _, b := range replays {
		of[b] = fmt.Sprint(b.scanOf())
	}
	slices.SortStableFunc(replays, func(a, b *replay) int { return strings.Compare(of[a], of[b]) })
}
