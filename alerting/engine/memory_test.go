package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// An engine that uses memory again fires for what one does that makes all of it anew,
// over rounds of nodes and of the cluster between which pods come, go and are replaced,
// whatever of the memory it may keep.
func TestMemoryOfRounds(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	for _, limit := range []int{0, 1 << 20, maxMemory} {
		now := epoch.Add(24 * time.Hour)
		value := map[int]float64{}
		f := settle(&fleet{pods: 1200, nodes: 5, value: func(i int) float64 { return value[i] }})
		all := f.fleet.pods
		specs := patternSpecs(indexFrom, 5)
		if limit == 1<<20 {
			specs = specs[indexFrom-5:] // without an index
		}
		engines := [2]*Engine{}
		for i := range engines {
			engines[i] = engineOf(t, f.fleet, func() time.Time { return now }, specs)
			engines[i].opts.Queryable, engines[i].opts.Inventory = f, f
		}
		fired := false
		for n := range whileRacing(7, 12) {
			now = now.Add(interval)
			f.fleet.pods = all
			if n%6 > 3 {
				f.fleet.pods = all / 50 // so few that memory for all is too much
			}
			for range 8 {
				value[random.IntN(all)] = []float64{50, 99}[random.IntN(2)]
				f.replace(random.IntN(all), n+1)
			}
			sender := "all"
			if n%3 == 0 {
				sender = fmt.Sprint("node/n-", n%5)
			}
			engines[0].memory.limit = limit
			engines[1].memory = newMemory(0)
			var got [2][]string
			for i, e := range engines {
				e.evaluate(context.Background(), round{source: sourceKey{"prod-1", sender}, trigger: triggerInterval, at: now.Truncate(interval), interval: interval, received: now})
				for key, a := range e.alerts {
					of := *a
					of.ID, of.IncidentID = "", "" // random
					text, err := json.Marshal(of)
					if err != nil {
						t.Fatal(err)
					}
					got[i] = append(got[i], fmt.Sprintf("%v %s", key, text))
				}
				slices.Sort(got[i])
			}
			fired = fired || len(got[0]) > 0
			if !slices.Equal(got[0], got[1]) {
				t.Fatalf("round %d: %d alerts, want %d; the first are\n%.2000q\n%.2000q", n, len(got[0]), len(got[1]), got[0][:min(1, len(got[0]))], got[1][:min(1, len(got[1]))])
			}
			m := engines[0].memory
			kept := len(m.pile.pages)*pileSize*sampleBytes + m.most.kept()*knownBytes
			for _, v := range m.tables {
				kept += cap(v.rows)*rowBytes + cap(v.at)*numberBytes
			}
			for _, r := range m.registers {
				kept += cap(r.subjects) * registeredBytes
			}
			if m.bytes > limit || kept != m.bytes {
				t.Fatalf("round %d: %d bytes are kept, %d of them are known of; at most %d may be", n, kept, m.bytes, limit)
			}
		}
		if !fired {
			t.Error("nothing fired")
		}
	}
}
