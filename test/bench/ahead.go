package main

import (
	"bufio"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/collector/push"
	"github.com/crowsnest-dev/crowsnest/collector/simulate"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// ahead is what the node collectors of a cluster send, computed before it is due: computing it
// for thousands of nodes takes the machine that a server is measured on, and a real cluster does
// it on its nodes.
type ahead struct {
	paths    []string // the requests' bodies, one behind the other
	interval time.Duration
	rollOut  time.Duration // within which the collectors begin, one after the other
	requests []nodeWrites  // oldest first
	moved    time.Duration // by how much later it is sent than it was computed for
	samples  int           // of the last interval
	// late becomes how long after it was due a request was answered at most; nanoseconds.
	late atomic.Int64
	// caughtUp is closed once the collectors have sent what was due before, and all of them run.
	caughtUp chan struct{}
}

// nodeWrites are what a sender sends of one interval, one behind the other.
type nodeWrites struct {
	Sender string
	At     time.Time
	Sizes  []stampedSize
}

// stampedSize are the bytes of a body, and of the list behind it of where its time stamps are.
type stampedSize struct{ Body, Places int }

const (
	// aheadSpread is how long after a point of the grid its requests come: collectors read
	// before it, and send at once.
	aheadSpread = 5 * time.Second
	// aheadRollOut is within what time collectors without a backlog begin: a DaemonSet on thousands
	// of nodes does not come at once.
	aheadRollOut = 5 * time.Minute
	// aheadConnections send them.
	aheadConnections = 8
	// aheadBefore are the intervals that collectors have run for before the first that is
	// computed: of pods that began before they did some metrics are missing.
	aheadBefore = 5
	// aheadSeries are the most series of a request, as collectors bound it.
	aheadSeries = 10_000
)

// keptAhead is computeAhead, or what it left in that place before, if that is of as many intervals.
func keptAhead(ctx context.Context, path string, o simulate.Options, families []catalogue.Family, from time.Time, intervals, parts int) (*ahead, error) {
	index := path + ".index"
	a := &ahead{interval: o.Interval, caughtUp: make(chan struct{})}
	f, err := os.Open(index)
	if err == nil {
		defer f.Close()
		var kept []aheadPart
		if err := gob.NewDecoder(bufio.NewReader(f)).Decode(&kept); err != nil {
			return nil, fmt.Errorf("%s: %w; delete it to have it made again", index, err)
		}
		if a.join(filepath.Dir(path), kept); a.intervals() >= intervals {
			return a, nil
		}
		a = &ahead{interval: o.Interval, caughtUp: make(chan struct{})}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	computed, err := computeAhead(ctx, path, o, families, from, intervals, parts)
	if err != nil {
		return nil, err
	}
	a.join(filepath.Dir(path), computed)
	return a, replaceFile(index, func(w *bufio.Writer) error { return gob.NewEncoder(w).Encode(computed) })
}

// join takes parts, one behind the other, whose files are in a folder.
func (a *ahead) join(dir string, parts []aheadPart) {
	for _, one := range parts {
		a.paths, a.requests, a.samples = append(a.paths, filepath.Join(dir, one.File)), append(a.requests, one.Requests...), one.Samples
	}
}

func (a *ahead) intervals() (n int) {
	for i, x := range a.requests {
		if i == 0 || !x.At.Equal(a.requests[i-1].At) {
			n++
		}
	}
	return n
}

// move has all of it be of later, by whole intervals.
func (a *ahead) move(by time.Duration) {
	a.moved += by
	for i := range a.requests {
		a.requests[i].At = a.requests[i].At.Add(by)
	}
}

// computeAhead computes so many intervals of a cluster from a time on, as many parts of them at a
// time as given: a part needs the memory of a fleet. Where one begins some pods that have just
// ended are missing, as a simulated cluster begins without them.
func computeAhead(ctx context.Context, path string, o simulate.Options, families []catalogue.Family, from time.Time, intervals, parts int) ([]aheadPart, error) {
	computed := make([]aheadPart, parts)
	g, ctx := errgroup.WithContext(ctx)
	for n := range parts {
		first := intervals * n / parts
		g.Go(func() (err error) {
			computed[n], err = computeAheadPart(ctx, fmt.Sprint(path, "-", n), o, families, from.Add(time.Duration(first)*o.Interval), intervals*(n+1)/parts-first)
			return err
		})
	}
	return computed, g.Wait()
}

// aheadPart is a file of requests, one behind the other.
type aheadPart struct {
	File     string
	Requests []nodeWrites
	Samples  int // of the last interval
}

func computeAheadPart(ctx context.Context, path string, o simulate.Options, families []catalogue.Family, from time.Time, intervals int) (a aheadPart, err error) {
	begins := from.Add(-aheadBefore * o.Interval)
	f, err := newFleet(ctx, wire.RoleNode, o, families, begins)
	if err != nil {
		return a, err
	}
	for at := begins; at.Before(from); at = at.Add(o.Interval) {
		f.interval(ctx, at)
	}
	file, err := os.Create(path)
	if err != nil {
		return a, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := bufio.NewWriterSize(file, 1<<20)
	a.File = filepath.Base(path)
	for n := range intervals {
		if err := ctx.Err(); err != nil {
			return a, err
		}
		at := from.Add(time.Duration(n) * o.Interval)
		bySender := f.interval(ctx, at)
		a.Samples = 0
		delete(bySender, wire.Sender(wire.RoleCluster, "")) // what all of them say of themselves
		for _, sender := range slices.Sorted(maps.Keys(bySender)) {
			samples, x := bySender[sender], nodeWrites{Sender: sender, At: at}
			for part := range slices.Chunk(samples, aheadSeries) {
				raw, err := writeRequest(part, 0)
				if err != nil {
					return a, err
				}
				body, places, err := stamped(raw, at.UnixMilli())
				if err != nil {
					return a, fmt.Errorf("request of %s at %s: %w", sender, at.Format(time.RFC3339), err)
				}
				for _, part := range [][]byte{body, places} {
					if _, err := w.Write(part); err != nil {
						return a, err
					}
				}
				x.Sizes = append(x.Sizes, stampedSize{len(body), len(places)})
			}
			a.Requests = append(a.Requests, x)
			a.Samples += len(samples)
		}
	}
	return a, w.Flush()
}

// send sends what was due before faster than time, and from then on each request at its own time in
// its interval, until ctx ends, and fails where there is no more before.
func (a *ahead) send(ctx context.Context, url string) error {
	files := make([]io.Reader, 0, len(a.paths))
	for _, path := range a.paths {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		files = append(files, file)
	}
	r := bufio.NewReaderSize(io.MultiReader(files...), 1<<20)
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: aheadConnections}}
	defer client.CloseIdleConnections()
	began, behind := time.Now(), true
	for rest := a.requests; len(rest) > 0; {
		if at := rest[0].At; behind && !time.Now().After(at) && !at.Before(began.Add(a.rollOut)) {
			behind = false
			close(a.caughtUp)
		}
		n := slices.IndexFunc(rest, func(x nodeWrites) bool { return !x.At.Equal(rest[0].At) })
		if n < 0 {
			n = len(rest)
		}
		g, running := errgroup.WithContext(ctx)
		g.SetLimit(aheadConnections)
		for i, one := range rest[:n] {
			bodies, err := one.read(r, a.moved)
			if err != nil {
				return err
			}
			if a.rollOut > 0 && one.At.Before(began.Add(a.rollOut*time.Duration(i)/time.Duration(n))) {
				continue // its collector has not begun
			}
			due := one.At.Add(aheadSpread * time.Duration(i) / time.Duration(n))
			if err := pause(running, time.Until(due)); err != nil {
				return errors.Join(g.Wait(), ctx.Err())
			}
			g.Go(func() error {
				if err := one.post(running, client, url, a.interval, bodies); err != nil {
					return err
				}
				for by := int64(time.Since(due)); ; {
					if most := a.late.Load(); by <= most || a.late.CompareAndSwap(most, by) {
						return nil
					}
				}
			})
		}
		if err := g.Wait(); err != nil && ctx.Err() == nil {
			return err
		}
		rest = rest[n:]
	}
	return errors.New("what was computed ahead is over before the measurement is: the cluster took too long to settle")
}

// read reads the bodies of what was moved.
func (x nodeWrites) read(r io.Reader, moved time.Duration) (bodies [][]byte, err error) {
	for _, size := range x.Sizes {
		both := make([]byte, size.Body+size.Places)
		if _, err := io.ReadFull(r, both); err != nil {
			return nil, err
		}
		body := both[:size.Body:size.Body]
		if moved != 0 {
			if err := restamp(body, both[size.Body:], x.At.UnixMilli()); err != nil {
				return nil, err
			}
		}
		bodies = append(bodies, body)
	}
	return bodies, nil
}

// post sends one body behind the other, each until it is taken; the last completes the interval.
func (x nodeWrites) post(ctx context.Context, client *http.Client, url string, interval time.Duration, bodies [][]byte) error {
	for len(bodies) > 0 {
		var through time.Time
		if len(bodies) == 1 {
			through = x.At
		}
		retry, err := post(ctx, client, url, word{sender: x.Sender, interval: interval, through: through}, bodies[0])
		if err != nil {
			return fmt.Errorf("request of %s at %s: %w", x.Sender, x.At.Format(time.RFC3339), err)
		}
		if retry == 0 {
			bodies = bodies[1:]
		} else if err := pause(ctx, retry); err != nil {
			return err
		}
	}
	return nil
}

// envCluster has the bench be the collector of a simulated cluster's objects, beside those of
// its nodes, until a signal: what a job says.
const envCluster = "CROWSNEST_BENCH_CLUSTER"

type clusterJob struct {
	Server, TokenFile, Dir string
	Nodes                  int
	Interval               time.Duration
}

func (j clusterJob) start(dir, name string) (*testbed.Process, error) {
	raw, err := json.Marshal(j)
	if err != nil {
		return nil, err
	}
	return testbed.Start(dir, name, "/usr/bin/env", envCluster+"="+string(raw), os.Args[0])
}

func clusterChild(ctx context.Context, how string) error {
	var job clusterJob
	if err := json.Unmarshal([]byte(how), &job); err != nil {
		return err
	}
	client, err := push.NewClient(push.ClientOptions{Server: job.Server, TokenFile: job.TokenFile, Sender: wire.Sender(wire.RoleCluster, "")})
	if err != nil {
		return err
	}
	o := scaleFleet(job.Nodes, job.Interval)
	o.Dir = job.Dir
	fleet, err := simulate.New(o)
	if err != nil {
		return err
	}
	world := fleet.World()
	world.Readings = nil // its nodes' collectors have them
	c, err := collector.New(collector.Options{
		Role: wire.RoleCluster, Client: client, Interval: job.Interval, World: world, QueueDir: job.Dir, Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	return c.Run(ctx)
}
