package logs

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// A start that cannot ask the server takes for lost what another reader sent meanwhile. Once
// it hears of that, nothing is told: by this process, nor by one after a kill.
func TestWhatAnotherReaderSentIsNotLost(t *testing.T) {
	for name, kills := range map[string][2]bool{
		"asked later":                                 {false, false},
		"asked by the next one":                       {true, false},
		"asked later, told in no batch yet":           {false, true},
		"asked by the next one, told in no batch yet": {true, true},
	} {
		t.Run(name, func(t *testing.T) {
			kills, behind := kills[0], kills[1]
			s, tr := newServer(t), newTree(t)
			way := &cutOff{server: s}
			tr.write("0.log", 10)
			o := tr.options()
			o.Positions, o.HandOver, o.Linger = way.ask, time.Millisecond, time.Millisecond
			o.Unheard, o.Try = time.Hour, 20*time.Millisecond
			_, stop := tr.runWith(o, way)
			s.await(key, 10)
			waitFor(t, func() bool { return !hasInFlight(tr) })
			stop()
			if behind { // a batch of another container is on its way
				other := tr.beside()
				other.next = 100
				way.away.Store(true)
				_, stop = tr.runWith(o, way)
				other.write("0.log", 1)
				waitFor(t, func() bool { return hasInFlight(tr) })
				stop()
			}
			tr.remove("0.log")
			tr.write("0.log", 10)
			tr.remove("0.log")
			tr.write("0.log", 5)
			// Up to line 24, by the API server.
			stamp, _, _ := strings.Cut(cri(24, "stdout", "F", "line 24"), " ")
			at, _ := parseTime(stamp)
			state, err := json.Marshal(apiPos{Time: at, Hash: xxhash.Sum64String(stamp + " line 24"), Seen: 1})
			if err != nil {
				t.Fatal(err)
			}
			s.set(func() {
				s.positions["uid-1/app"] = wire.LogPosition{LogSource: wire.LogSource{Key: "uid-1/app"}, Taken: s.positions["uid-1/app"].Taken + 15, State: string(state)}
				s.lines[key] = nil
				for n := range 25 {
					s.lines[key] = append(s.lines[key], fmt.Sprintf("line %d", n))
				}
			})
			way.away.Store(true)
			_, stop = tr.runWith(o, way)
			asked := way.asked.Load()
			waitFor(t, func() bool {
				return hasInFlight(tr) && way.asked.Load() > asked+3 && isOpen(t, filepath.Join(tr.dir, "0.log"))
			})
			sleep(t.Context(), 300*time.Millisecond)
			if kills {
				kill(t, s, tr.positions(), stop)
				way.away.Store(false)
				_, stop = tr.runWith(o, way)
			}
			way.away.Store(false)
			tr.write("0.log", 5)
			waitFor(t, func() bool { return len(s.missing(tr.next)) == 0 })
			stop()
			s.toldNothing()
		})
	}
}
