package logs

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// inFile gives lines of the API as the runtime has them in a file.
func inFile(lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		stamp, text, _ := strings.Cut(l, " ")
		b.WriteString(stamp + " stdout F " + text)
	}
	return b.String()
}

// A node's first collector goes on where the API server's reader was: in the middle of
// lines of one time, in a rotated file or in an instance before the present one. Another
// start before the server has anything of it does so, too.
func TestFilesGoOnAfterTheAPI(t *testing.T) {
	for _, n := range []int{1, 59, 60, 98, 99, 100, 150} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c, s := newCluster(t), newServer(t)
			_, stop := c.run(c.options(s), s)
			c.write(n)
			s.await(key, n)
			silence(s, stop)
			c.write(150 - n)
			c.restart()
			c.write(30)

			tr := newTree(t)
			tr.dir = filepath.Join(tr.root, "shop_cart-1_uid-cart-1", "app")
			if err := os.MkdirAll(tr.dir, 0o755); err != nil {
				t.Fatal(err)
			}
			tr.raw("0.log.20261123-100000", inFile(c.lines[0][:60]))
			tr.raw("0.log", inFile(c.lines[0][60:]))
			tr.raw("1.log", inFile(c.lines[1]))
			o := tr.options()
			o.State, o.Positions, o.HandOver = c, s.ask, time.Millisecond
			if n == 99 { // stopped with its first batch on its way
				waiting := &cut{server: s, holds: make(chan struct{}), held: make(chan struct{}, 1)}
				_, stopped := tr.runWith(o, waiting)
				<-waiting.held
				stopped()
			}
			_, stop = tr.runWith(o, s)
			s.await(key, c.next)
			c.write(10)
			tr.raw("1.log", inFile(c.lines[1][30:]))
			s.await(key, c.next)
			stop()
			numbered(t, s.got(key), c.next)
		})
	}
}

func TestWhereAnotherReadersLinesEnd(t *testing.T) {
	const first, second = "2026-11-23T10:00:00.100000000Z", "2026-11-23T10:00:00.200000000Z"
	at, _ := parseTime(second)
	parts := second + " stderr P half and \n" + second + " stderr F half\n"
	for name, tc := range map[string]struct {
		file, last string
		seen       int
		want       string // what is left
	}{
		"nothing new":           {first + " stdout F a\n" + second + " stdout F b\n", second + " b", 1, ""},
		"of the same time":      {second + " stdout F a\n" + second + " stdout F b\n", second + " a", 1, second + " stdout F b\n"},
		"the same twice":        {second + " stdout F a\n" + second + " stdout F a\n" + second + " stdout F a\n", second + " a", 2, second + " stdout F a\n"},
		"fewer digits":          {"2026-11-23T10:00:00.2Z stdout F a\n" + "2026-11-23T10:00:00.2Z stdout F b\n", second + " a", 1, "2026-11-23T10:00:00.2Z stdout F b\n"},
		"rotated away":          {"2026-11-23T10:00:01Z stdout F a\n", second + " gone", 1, "2026-11-23T10:00:01Z stdout F a\n"},
		"a record in parts":     {parts + "2026-11-23T10:00:01Z stdout F a\n", second + " half and half", 1, "2026-11-23T10:00:01Z stdout F a\n"},
		"parts that are new":    {first + " stdout F a\n2026-11-23T10:00:01Z stdout P a\n2026-11-23T10:00:01Z stdout F b\n", second + " x", 1, "2026-11-23T10:00:01Z stdout P a\n2026-11-23T10:00:01Z stdout F b\n"},
		"a line without an end": {first + " stdout F a\n" + second + " stdout F b", second + " b", 1, second + " stdout F b"},
		"Docker's":              {`{"log":"a\n","stream":"stdout","time":"` + second + `"}` + "\n" + `{"log":"b\n","stream":"stdout","time":"` + second + `"}` + "\n", second + " a", 1, `{"log":"b\n","stream":"stdout","time":"` + second + `"}` + "\n"},
		"a line without bounds": {first + " stdout F a\n" + strings.Repeat("x", 3*readBytes) + "\n" + second + " stdout F b\n2026-11-23T10:00:01Z stdout F c\n", second + " b", 1, "2026-11-23T10:00:01Z stdout F c\n"},
		"no line at all":        {"\x00\x00rubbish\n", second + " a", 1, "\x00\x00rubbish\n"},
	} {
		path := filepath.Join(t.TempDir(), "0.log")
		if err := os.WriteFile(path, []byte(tc.file), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		h := &handed{to: apiPos{Time: at, Hash: xxhash.Sum64String(tc.last), Seen: tc.seen}}
		skip, _, err := h.after(f, math.MaxInt64)
		if err != nil || tc.file[skip[0]:] != tc.want || skip[0] != skip[1] {
			t.Errorf("%s: %q is left, %v; want %q", name, tc.file[skip[0]:], err, tc.want)
		}
		_ = f.Close()
	}
}

// script is what a container writes: lines of both streams, some of one time or a little
// out of order, some of which belong together, and some in parts. Each has its number.
type script struct {
	rng   *rand.Rand
	at    time.Time
	next  int
	trace [2]int // further lines of the record that a stream is at
}

// write gives some more as a runtime has it in a file, and as the API server gives it.
func (w *script) write(lines int) (file string, answer []string) {
	for range lines {
		if w.rng.IntN(3) > 0 {
			w.at = w.at.Add(time.Duration(w.rng.IntN(300)) * time.Millisecond)
		}
		at := w.at
		if w.rng.IntN(9) == 0 {
			at = at.Add(-time.Duration(w.rng.IntN(3)) * time.Millisecond)
		}
		stream, stamp := w.rng.IntN(2), at.Format("2006-01-02T15:04:05.000000000Z07:00")
		text := fmt.Sprintf("line #%d# of %s", w.next, streams[stream])
		switch {
		case w.trace[stream] > 0:
			w.trace[stream]--
			text = fmt.Sprintf("\tat a.B.c(D.java:7) #%d#", w.next)
		case w.rng.IntN(6) == 0:
			w.trace[stream] = 1 + w.rng.IntN(5)
			text = fmt.Sprintf("java.lang.Error: #%d#", w.next)
		case w.rng.IntN(8) == 0:
			text = "alike"
			w.next-- // without a number
		case w.rng.IntN(10) == 0:
			first := fmt.Sprintf("the first part of #%d# ", w.next)
			file += fmt.Sprintf("%s %s P %s\n", stamp, streams[stream], first)
			file += fmt.Sprintf("%s %s F %s\n", at.Add(time.Microsecond).Format("2006-01-02T15:04:05.000000000Z07:00"), streams[stream], "the last")
			answer = append(answer, stamp+" "+first+"the last\n")
			w.next++
			continue
		}
		file += fmt.Sprintf("%s %s F %s\n", stamp, streams[stream], text)
		answer = append(answer, stamp+" "+text+"\n")
		w.next++
	}
	return file, answer
}

// counted gives how often each number came.
func (s *server) counted() map[int]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[int]int{}
	for _, lines := range s.lines {
		for _, l := range lines {
			for i, part := range strings.Split(l, "#") {
				if n, err := strconv.Atoi(part); err == nil && i%2 == 1 {
					out[n]++
				}
			}
			out[-1] += strings.Count(l, "alike")
		}
	}
	return out
}

// stuck says whether an answer to a batch was lost.
func (s *server) stuck() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lost >= 0 && s.batches > s.lost
}

// Readers of the API and collectors of the node take containers from one another,
// wherever the one before was when it was killed: whether the server had its last batch or
// not, and whether it heard of that or not, with records open in both streams. A
// collector of the node has a folder of its own, or that of the one before it.
func TestReadersTakeContainersFromOneAnother(t *testing.T) {
	for seed := range uint64(48) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			c, s, tr := newCluster(t), newServer(t), newTree(t)
			w := &script{rng: rand.New(rand.NewPCG(seed, 1)), at: c.started.UTC()}
			tr.dir = filepath.Join(tr.root, "shop_cart-1_uid-cart-1", "app")
			if err := os.MkdirAll(tr.dir, 0o755); err != nil {
				t.Fatal(err)
			}
			instance, alike := 0, 0
			write := func(n int) {
				file, answer := w.write(n)
				alike += strings.Count(file, "alike")
				tr.raw(fmt.Sprintf("%d.log", instance), file)
				c.set(func() { c.lines[instance] = append(c.lines[instance], answer...) })
			}
			files := tr.options()
			files.State, files.Positions, files.HandOver, files.Linger = c, s.ask, time.Millisecond, time.Millisecond
			hold := time.Hour // what is open stays so
			if seed%3 == 0 {
				hold = 5 * time.Millisecond
			}
			files.Rules.Join.Hold = hold
			api := c.options(s)
			turns, keeps := 4+int(seed/12%2), seed >= 24
			for turn := range turns {
				last := turn == turns-1
				if last {
					files.Rules.Join.Hold = 5 * time.Millisecond
				}
				s.set(func() { s.lost = -1 })
				if w.rng.IntN(2) == 0 && !last {
					s.set(func() { s.lost = s.batches + w.rng.IntN(3) })
				}
				had := len(s.counted())
				var stop func()
				if turn%2 == 0 {
					if !keeps {
						files.Dir = t.TempDir()
					}
					_, stop = tr.runWith(files, s)
				} else {
					_, stop = c.run(api, s)
				}
				enough, written := had+2+w.rng.IntN(40), 0
				waitFor(t, func() bool { // writing on
					if written < 150 {
						n := 1 + w.rng.IntN(6)
						written += n
						write(n)
					}
					return s.stuck() || len(s.counted()) >= enough
				})
				if last {
					waitFor(t, func() bool { return len(s.counted()) > w.next && s.counted()[-1] >= alike })
					stop()
					break
				}
				silence(s, stop)
				if w.rng.IntN(3) == 0 && instance == 0 {
					instance++
					w.trace, w.at = [2]int{}, w.at.Add(time.Second) // no instance writes before the one before has ended
					c.restart()
				}
			}
			for n, times := range s.counted() {
				if n >= 0 && times != 1 || n < 0 && times != alike {
					t.Errorf("line %d came %d times", n, times)
				}
			}
		})
	}
}

// Who reads through the API server is given the time to let go, also while it has sent
// only what a node's collector had left open.
func TestWhoIsGivenTheTimeToLetGo(t *testing.T) {
	mark := reachedAt(spot{Time: clock.UnixNano(), Same: 1}, []stretch{{spot{Time: 5, Same: 1}, spot{Time: 9, Same: 1}}})
	for name, tc := range map[string]struct {
		to    apiPos
		first bool // start of this folder
		asks  int
	}{
		"perhaps one that had no line yet":    {apiPos{File: mark}, true, 2},
		"a reader of the API":                 {apiPos{Time: 5, Hash: 1, Seen: 1}, true, 2},
		"one that sent some of what was open": {apiPos{Time: 5, File: mark.after(spot{Time: 5, Same: 1})}, true, 2},
		"a reader of the API meanwhile":       {apiPos{Time: 5, Hash: 1, Seen: 1}, false, 2},
		"a collector of the node meanwhile":   {apiPos{File: mark}, false, 1},
	} {
		state, err := json.Marshal(tc.to)
		if err != nil {
			t.Fatal(err)
		}
		tr := newTree(t)
		tr.raw("0.log", clock.Format(time.RFC3339Nano)+" stdout F a\n")
		o, asks := tr.options(), 0
		o.HandOver = time.Millisecond
		o.Positions = func(_ context.Context, sources []wire.LogSource) (out []wire.LogPosition, err error) {
			asks++
			for _, source := range sources {
				out = append(out, wire.LogPosition{LogSource: source, Taken: clock.UnixNano(), State: string(state)})
			}
			return out, nil
		}
		r, err := NewFiles(o)
		if err != nil {
			t.Fatal(err)
		}
		r.firstStart = tc.first
		if r.askHanded(t.Context()); asks != tc.asks || len(r.handed) != 1 {
			t.Errorf("%s: the server was asked %d times, want %d; it knows %d containers", name, asks, tc.asks, len(r.handed))
		}
	}
}

// A collector of the node that was stopped with its first batch on its way leaves out what
// the one before it sent of one stream beyond a record that was open in the other.
func TestFilesGoOnBeyondAnOpenRecordOverAStop(t *testing.T) {
	for name, head := range map[string]string{"at the beginning": "", "later": clock.Format(time.RFC3339Nano) + " stdout F first\n"} {
		t.Run(name, func(t *testing.T) {
			s, tr := newServer(t), newTree(t)
			line := func(i int, stream, text string) {
				tr.raw("0.log", clock.Add(time.Duration(i)*time.Millisecond).Format(time.RFC3339Nano)+" "+stream+" F "+text+"\n")
			}
			tr.raw("0.log", head)
			line(1, "stdout", "java.lang.Error: #0#")
			line(2, "stderr", "panic of #1#")
			line(3, "stderr", "it ended #2#")
			o := tr.options()
			o.Positions, o.HandOver, o.Rules.Join.Hold = s.ask, time.Millisecond, time.Hour
			o.Dir = t.TempDir()
			_, stop := tr.runWith(o, s)
			waitFor(t, func() bool { return s.counted()[1] == 1 })
			silence(s, stop)

			line(4, "stdout", "\tat a.B.c(D.java:7) #3#")
			line(5, "stdout", "then #4#")
			line(6, "stdout", "and #5#")
			o.Dir = t.TempDir()
			waiting := &cut{server: s, holds: make(chan struct{}), held: make(chan struct{}, 1)}
			_, stop = tr.runWith(o, waiting)
			<-waiting.held
			stop()
			o.Rules.Join.Hold = time.Millisecond
			_, stop = tr.runWith(o, s)
			waitFor(t, func() bool { return s.counted()[5] > 0 && s.counted()[2] > 0 })
			stop()
			for n := range 6 {
				if times := s.counted()[n]; times != 1 {
					t.Errorf("line %d came %d times", n, times)
				}
			}
		})
	}
}

// A reader of the API goes on after a node's collector, and another after it, wherever
// they were: between the lines that the first one left open, too.
func TestSeekAfterANodesCollector(t *testing.T) {
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 2))
		w := &script{rng: rng, at: clock}
		file, answer := w.write(80)
		if seed%10 == 0 {
			more, further := w.write(160)
			file, answer = file+more, append(answer, further...)
		}
		var at spots
		var places []spot // of the answer's lines
		for line := range strings.Lines(file) {
			p, ok := parsePiece(strings.TrimSuffix(line, "\n"))
			if !at.within {
				places = append(places, spot{})
			}
			at = at.after(p, ok)
			places[len(places)-1] = at.at
		}
		if len(places) != len(answer) {
			t.Fatalf("seed %d: %d lines have %d places", seed, len(answer), len(places))
		}
		got := make([]int, len(answer))
		n := 1 + rng.IntN(len(answer)) // lines that the node's collector read
		var open []stretch
		last := 15 // among which some are open
		if seed%10 == 0 {
			n, last = len(answer), len(answer) // more than are told apart
		}
		for i := range n {
			if got[i] = 1; i >= n-last && rng.IntN(2) == 0 {
				got[i] = 0
				open = append(open, stretch{places[i], places[i]})
			}
		}
		rng.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
		mark := reachedAt(places[n-1], open)
		mark.Lag = int64(rng.IntN(3))
		p := handOn{mark: mark}.position(Container{UID: "u", Container: "app"})
		most := 1
		if len(mark.Open) == maxStretches {
			most = 2 // the last of them go together
		}
		if len(p.State) > 4<<10 {
			t.Errorf("seed %d: a state of %d bytes", seed, len(p.State))
		}
		for turn := range 3 {
			pos, err := readPosition(p)
			if err != nil {
				t.Fatal(err)
			}
			s := newSeek(pos, true, true)
			left := rng.IntN(8) // that this reader takes
			if turn == 2 {
				left = len(answer)
			}
			for i, l := range answer {
				if stamp, _, _ := strings.Cut(l, " "); left > 0 {
					if at, _ := parseTime(stamp); at < pos.since() {
						continue
					}
					if _, _, _, ok := s.next(strings.TrimSuffix(l, "\n"), 0); ok {
						got[i]++
						left--
					}
				}
			}
			p = positionsOf(&batch[apiPos]{to: map[string]apiPos{"k": s.pos}, from: map[string]apiPos{}}, nil)[0]
		}
		if i := slices.IndexFunc(got, func(n int) bool { return n < 1 || n > most }); i >= 0 {
			t.Errorf("seed %d: line %d, of which the node's collector read %d, came %d times: %s", seed, i, n, got[i], answer[i])
		}
	}
}

func TestSpotsOfLinesThatAreOutOfOrder(t *testing.T) {
	second := clock.UnixNano()
	before := spot{}.next(second + 500)
	after := before.next(second - 900)
	if after.compare(before) <= 0 || after.before().next(second-900) != after || after.since() > second-900 {
		t.Errorf("a line of the second before is at %+v, after %+v; read again from %d", after, before, after.since())
	}
	if s := before.next(second - int64(2*clockSet)); s.Time != second-int64(2*clockSet) {
		t.Errorf("a line after the clock was set back is at %+v", s)
	}
}

// A collector of the node that comes back with its folder goes on after another reader in
// what was compressed meanwhile, and sends the rest of the batch that was on its way.
func TestFilesComeBackAfterAnotherReader(t *testing.T) {
	for name, stored := range map[string]bool{"the server has the batch on its way": true, "it has not": false} {
		t.Run(name, func(t *testing.T) {
			s, tr := newServer(t), newTree(t)
			other := filepath.Join(tr.root, "shop_cart-2_uid-2", "app")
			if err := os.MkdirAll(other, 0o755); err != nil {
				t.Fatal(err)
			}
			tr.write("0.log", 10)
			if err := os.WriteFile(filepath.Join(other, "0.log"), []byte(cri(0, "stdout", "F", "another")), 0o600); err != nil {
				t.Fatal(err)
			}
			o := tr.options()
			o.Positions, o.HandOver, o.Linger = s.ask, time.Millisecond, time.Second
			if stored {
				s.set(func() { s.lost = 0 })
				_, stop := tr.runWith(o, s)
				s.await(key, 10)
				silence(s, stop)
				s.set(func() { s.lost = -1 })
			} else {
				waiting := &cut{server: s, holds: make(chan struct{}), held: make(chan struct{}, 1)}
				_, stop := tr.runWith(o, waiting)
				<-waiting.held
				stop()
			}
			tr.write("0.log", 7)
			tr.rotate(1)
			tr.write("0.log", 4)
			tr.rotate(2) // 17 lines are compressed, 4 are not
			tr.write("0.log", 2)
			// Up to line 13, by the API server.
			stamp, _, _ := strings.Cut(cri(13, "stdout", "F", "line 13"), " ")
			at, _ := parseTime(stamp)
			state, err := json.Marshal(apiPos{Time: at, Hash: xxhash.Sum64String(stamp + " line 13"), Seen: 1})
			if err != nil {
				t.Fatal(err)
			}
			s.set(func() {
				s.positions["uid-1/app"] = wire.LogPosition{LogSource: wire.LogSource{Key: "uid-1/app"}, Taken: s.positions["uid-1/app"].Taken + 14, State: string(state)}
				s.lines[key] = nil
				for n := range 14 {
					s.lines[key] = append(s.lines[key], fmt.Sprintf("line %d", n))
				}
			})
			_, stop := tr.runWith(o, s)
			s.await(key, 23)
			s.await("cart-2/app/stdout", 1)
			stop()
			numbered(t, s.got(key), 23)
			if got := s.got("cart-2/app/stdout"); len(got) != 1 {
				t.Errorf("of the other container came %q", got)
			}
		})
	}
}

// A node's collector that the server did not hear for long asks before it sends what
// waited, and one that starts while it cannot ask does before its first batch: somebody
// may have read on through the API server.
func TestFilesAskWhetherSomebodyReadOnWhileTheyWereNotHeard(t *testing.T) {
	for seed := range uint64(4) {
		c, s, tr := newCluster(t), newServer(t), newTree(t)
		w := &script{rng: rand.New(rand.NewPCG(seed, 3)), at: c.started.UTC()}
		tr.dir = filepath.Join(tr.root, "shop_cart-1_uid-cart-1", "app")
		if err := os.MkdirAll(tr.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		alike := 0
		write := func(n int) {
			file, answer := w.write(n)
			alike += strings.Count(file, "alike")
			tr.raw("0.log", file)
			c.set(func() { c.lines[0] = append(c.lines[0], answer...) })
		}
		all := func() bool { return len(s.counted()) > w.next && s.counted()[-1] >= alike }
		way := &cutOff{server: s}
		o := tr.options()
		o.State, o.Positions, o.HandOver, o.Linger = c, way.ask, time.Millisecond, time.Millisecond
		o.Unheard, o.Try = 200*time.Millisecond, 20*time.Millisecond
		restarts := seed%2 == 1
		if restarts {
			o.Unheard = time.Hour
		}
		_, stop := tr.runWith(o, way)
		write(10 + w.rng.IntN(20))
		waitFor(t, all)
		if restarts {
			stop()
		}
		way.away.Store(true)
		write(10 + w.rng.IntN(20))
		_, stopAPI := c.run(c.options(s), s)
		waitFor(t, all)
		stopAPI()
		if restarts {
			_, stop = tr.runWith(o, way)
		}
		waitFor(t, func() bool { return way.asked.Load() > 4 }) // in vain; at a start it does four times
		write(10 + w.rng.IntN(20))
		way.away.Store(false)
		waitFor(t, all)
		stop()
		for n, times := range s.counted() {
			if n >= 0 && times != 1 || n < 0 && times != alike {
				t.Errorf("seed %d: line %d came %d times", seed, n, times)
			}
		}
	}
}

// cutOff is a way to a server that others reach. A batch is tried until it gets through,
// as collectors do.
type cutOff struct {
	*server
	away  atomic.Bool
	asked atomic.Int64 // in vain
}

func (c *cutOff) Send(ctx context.Context, b *wire.LogBatch) error {
	for c.away.Load() {
		if !sleep(ctx, time.Millisecond) {
			return ctx.Err()
		}
	}
	return c.server.Send(ctx, b)
}

func (c *cutOff) ask(ctx context.Context, sources []wire.LogSource) ([]wire.LogPosition, error) {
	if c.away.Load() {
		c.asked.Add(1)
		return nil, errors.New("the way is cut")
	}
	return c.server.ask(ctx, sources)
}

// What a node's collector followed last is left to it until it would have been heard.
func TestAPILeavesWhatANodesCollectorFollowed(t *testing.T) {
	c, s := newCluster(t), newServer(t)
	c.write(30)
	var quiet atomic.Bool
	o := c.options(s)
	o.Quiet = quiet.Load
	stamp, _, _ := strings.Cut(c.lines[0][11], " ")
	at, _ := parseTime(stamp)
	s.positions["uid-cart-1/app"] = handOn{mark: reachedAt(spot{Time: at, Same: 3}, nil)}.position(Container{UID: "uid-cart-1", Container: "app"})
	c.set(func() { c.pods = 2 })
	_, stop := c.run(o, s)
	s.await("cart-2/app/stdout", 30) // nobody followed it
	if got := s.got(key); len(got) > 0 {
		t.Errorf("%d lines came of what a node's collector followed", len(got))
	}
	stop()
	quiet.Store(true)
	_, stop = c.run(o, s)
	s.await(key, 18)
	stop()
	if got := s.got(key); got[0] != "line 12" {
		t.Errorf("it went on with %q", got[0])
	}
}

// Between a node's collector and a reader of the API after it, and between two connections of
// that one, rotation took lines: the reader tells that, and the collector, when it comes back,
// sends what is on the node of them still, with its folder or another one, over a stop.
func TestFilesSendWhatAReaderOfTheAPIMissed(t *testing.T) {
	for name, tc := range map[string]struct{ fresh, stopped bool }{
		"with its folder": {}, "with another folder": {fresh: true}, "stopped with its first batch on its way": {stopped: true},
	} {
		t.Run(name, func(t *testing.T) {
			c, s, tr := newCluster(t), newServer(t), newTree(t)
			tr.dir = filepath.Join(tr.root, "shop_cart-1_uid-cart-1", "app")
			if err := os.MkdirAll(tr.dir, 0o755); err != nil {
				t.Fatal(err)
			}
			write := func(n int) {
				c.write(n)
				c.set(func() { tr.raw("0.log", inFile(c.lines[0][len(c.lines[0])-n:])) })
			}
			rotated := 0
			rotate := func() { // the API server has the newest file
				rotated++
				tr.rotate(rotated)
				tr.raw("0.log", "")
				c.set(func() { c.lines[0] = nil })
			}
			o := tr.options()
			o.State, o.Positions, o.HandOver = c, s.ask, time.Millisecond
			_, stop := tr.runWith(o, s)
			write(21)
			s.await(key, 21)
			stop()
			write(9)
			rotate()
			write(12)
			rotate()
			write(6) // up to here nobody else could read, but for these
			_, stop = c.run(c.options(s), s)
			s.await(key, 21+1+6)
			silence(s, stop)
			write(3)
			rotate()
			write(30)
			rotate()
			write(6)
			_, stop = c.run(c.options(s), s)
			s.await(key, 21+1+6+1+6)
			stop()
			write(3)
			if tc.fresh {
				o.Dir = t.TempDir()
			}
			if tc.stopped {
				waiting := &cut{server: s, holds: make(chan struct{}), held: make(chan struct{}, 1)}
				_, stop = tr.runWith(o, waiting)
				<-waiting.held
				stop()
			}
			_, stop = tr.runWith(o, s)
			s.await(key, c.next+2)
			stop()
			once(t, s.got(key), c.next)
			if gaps := s.gaps(); len(gaps) != 2 {
				t.Errorf("told %v, want two ranges", gaps)
			}
			// It goes on from there.
			_, stop = tr.runWith(o, s)
			had := len(s.got(key))
			write(3)
			s.await(key, had+3)
			stop()
			if got := s.got(key); len(got) != had+3 {
				t.Errorf("%d lines came after a further start, want 3: %q", len(got)-had, got[had:])
			}
		})
	}
}

// What lies between the last line that another reader took and the oldest that is left is
// told.
func TestFilesTellWhatIsGoneAfterAnotherReader(t *testing.T) {
	c, s, tr := newCluster(t), newServer(t), newTree(t)
	tr.dir = filepath.Join(tr.root, "shop_cart-1_uid-cart-1", "app")
	if err := os.MkdirAll(tr.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	_, stop := c.run(c.options(s), s)
	c.write(30)
	s.await(key, 30)
	stop()
	c.write(30) // rotated away
	c.write(30)
	tr.raw("0.log", inFile(c.lines[0][60:]))
	o := tr.options()
	o.State, o.Positions, o.HandOver = c, s.ask, time.Millisecond
	for range 2 {
		_, stop = tr.runWith(o, s)
		s.await(key, 61)
		stop()
	}
	if gaps, until := s.gaps(), c.started.Add(20*100*time.Millisecond); len(gaps) != 1 || gaps[0].reason != DropAway || !gaps[0].until.Equal(until) {
		t.Errorf("told %v, want one range until %s", gaps, until)
	}
}
