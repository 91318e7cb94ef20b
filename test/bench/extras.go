package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/golang/snappy"
	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/collector/simulate"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// extras are the requests of a cluster's node collectors for what the catalogue has beyond its
// core, computed before they are due: computing those of thousands of nodes takes the machine
// that a server is measured on, and a real cluster does it on its nodes. A simulator tells of
// the same cluster's objects, events and core metrics meanwhile.
type extras struct {
	path     string
	requests []extra // oldest first
	samples  int     // of the last interval
}

// extra is what a sender sends of one interval, one request behind the other.
type extra struct {
	sender string
	at     time.Time
	sizes  []int
}

const (
	// extrasSpread is how long after a point of the grid its requests come: collectors read
	// before it, and send at once.
	extrasSpread = 5 * time.Second
	// extrasConnections send them.
	extrasConnections = 8
	// extrasSeries are the most series of a request, as collectors bound it.
	extrasSeries = 10_000
)

// computeExtras computes so many intervals of a cluster from a time in the future on.
func computeExtras(ctx context.Context, path string, o simulate.Options, from time.Time, intervals int) (_ *extras, err error) {
	f, err := newFleet(ctx, o, from)
	if err != nil {
		return nil, err
	}
	file, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	w := bufio.NewWriterSize(file, 1<<20)
	e := &extras{path: path}
	type interval struct {
		at       time.Time
		bySender map[string][]compute.Sample
	}
	computed := make(chan interval)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(computed)
		for n := range intervals {
			at := from.Add(time.Duration(n) * siteInterval)
			select {
			case computed <- interval{at, f.interval(ctx, at)}:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
	g.Go(func() error {
		for one := range computed {
			e.samples = 0
			for _, sender := range slices.Sorted(maps.Keys(one.bySender)) {
				samples := slices.DeleteFunc(one.bySender[sender], func(s compute.Sample) bool {
					m, ok := catalogue.Get(s.Metric)
					return ok && m.Core
				})
				if len(samples) == 0 {
					continue
				}
				x := extra{sender: sender, at: one.at}
				for part := range slices.Chunk(samples, extrasSeries) {
					raw, err := writeRequest(part, 0)
					if err != nil {
						return err
					}
					body := snappy.Encode(nil, raw)
					if _, err := w.Write(body); err != nil {
						return err
					}
					x.sizes = append(x.sizes, len(body))
				}
				e.requests = append(e.requests, x)
				e.samples += len(samples)
			}
		}
		return w.Flush()
	})
	return e, g.Wait()
}

// send sends what is due from now on, each request at its own time in its interval, until ctx
// ends, and fails where there is no more before. late becomes how long after it was due a request was answered at most.
func (e *extras) send(ctx context.Context, url string, late *atomic.Int64) error {
	file, err := os.Open(e.path)
	if err != nil {
		return err
	}
	defer file.Close()
	r := bufio.NewReaderSize(file, 1<<20)
	client := &http.Client{Timeout: time.Minute, Transport: &http.Transport{MaxIdleConnsPerHost: extrasConnections}}
	defer client.CloseIdleConnections()
	began := time.Now()
	for rest := e.requests; len(rest) > 0; {
		n := slices.IndexFunc(rest, func(x extra) bool { return !x.at.Equal(rest[0].at) })
		if n < 0 {
			n = len(rest)
		}
		g, running := errgroup.WithContext(ctx)
		g.SetLimit(extrasConnections)
		for i, one := range rest[:n] {
			bodies := make([][]byte, len(one.sizes))
			for i, size := range one.sizes {
				bodies[i] = make([]byte, size)
				if _, err := io.ReadFull(r, bodies[i]); err != nil {
					return err
				}
			}
			if one.at.Before(began) {
				continue
			}
			due := one.at.Add(extrasSpread * time.Duration(i) / time.Duration(n))
			if err := pause(running, time.Until(due)); err != nil {
				return errors.Join(g.Wait(), ctx.Err())
			}
			g.Go(func() error {
				for rest := bodies; len(rest) > 0; {
					var through time.Time
					if len(rest) == 1 {
						through = one.at
					}
					retry, err := post(running, client, url, one.sender, through, false, nil, rest[0])
					if err != nil {
						return fmt.Errorf("request of %s at %s: %w", one.sender, one.at.Format(time.RFC3339), err)
					}
					if retry == 0 {
						rest = rest[1:]
					} else if err := pause(running, retry); err != nil {
						return err
					}
				}
				for by := int64(time.Since(due)); ; {
					if most := late.Load(); by <= most || late.CompareAndSwap(most, by) {
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
