package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/simulate"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

const fsyncConnections = 16

// fsync measures what --metrics-sync costs a sender: the time of a request with
// and without it, one after the other over one connection, where nothing shares
// the wait for the disk; and how many requests go over many connections, where
// those that wait together share it.
func fsync(ctx context.Context, b *bench) ([]Result, error) {
	token := filepath.Join(b.dir, "fsync-token")
	if err := os.WriteFile(token, []byte(benchToken+"\n"), 0o600); err != nil {
		return nil, err
	}
	to := time.Now().UTC().Truncate(time.Minute)
	s, err := writeStream(ctx, filepath.Join(b.dir, "fsync-stream"), simulate.Options{Nodes: 10, PodsPerNode: 50, Seed: 1, Interval: 30 * time.Second}, to.Add(-10*time.Minute), to, nil)
	if err != nil {
		return nil, err
	}
	many, err := writeStream(ctx, filepath.Join(b.dir, "fsync-stream-many"), simulate.Options{Nodes: 4 * fsyncConnections, PodsPerNode: 5, Seed: 1, Interval: 30 * time.Second}, to.Add(-10*time.Minute), to, nil)
	if err != nil {
		return nil, err
	}
	on := func(sync bool, do func(url string) error) (err error) {
		address, err := testbed.FreeAddress()
		if err != nil {
			return err
		}
		dir, err := os.MkdirTemp(b.dir, "fsync-")
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		p, err := testbed.Start(b.dir, "fsync", filepath.Join(b.root, "bin/crowsnest"), "server", "--data", dir, "--listen", address,
			"--ingest-token-file", benchCluster+"="+token, fmt.Sprintf("--metrics-sync=%v", sync))
		if err != nil {
			return err
		}
		defer p.Stop(time.Minute)
		if err := awaitListening(ctx, p, "http://"+address); err != nil {
			return err
		}
		return do("http://" + address)
	}
	one := func(url string) (took []float64, err error) {
		client := &http.Client{Timeout: time.Minute}
		defer client.CloseIdleConnections()
		err = s.replay(func(body []byte) error {
			began := time.Now()
			err := sendWrite(ctx, client, url, body)
			took = append(took, float64(time.Since(began).Microseconds())/1000)
			return err
		})
		return took, err
	}
	var with, without []float64
	var rates [2][]float64 // of many connections, with and without
	for range b.rounds {
		for n, sync := range []bool{true, false} {
			err := on(sync, func(url string) error {
				took, err := one(url)
				if sync {
					with = append(with, took...)
				} else {
					without = append(without, took...)
				}
				return err
			})
			if err != nil {
				return nil, err
			}
			err = on(sync, func(url string) error {
				began := time.Now()
				_, err := many.send(ctx, url, fsyncConnections, false, 1)
				rates[n] = append(rates[n], float64(many.requests)/time.Since(began).Seconds())
				return err
			})
			if err != nil {
				return nil, err
			}
		}
	}
	slices.Sort(with)
	slices.Sort(without)
	note := fmt.Sprintf("A request of about %d samples over one connection, with --metrics-sync; the peer is ourselves without it. %d requests each, in %d rounds. Requests at the same time share one wait. %s.",
		s.samples/s.requests, len(with), b.rounds, machine())
	var results []Result
	for _, q := range []struct {
		name string
		at   float64
	}{{"p50", 0.5}, {"p99", 0.99}} {
		peer := round(without[int(float64(len(without)-1)*q.at)])
		results = append(results, Result{
			Name: "fsync_request_" + q.name, Unit: "ms", Ours: with[int(float64(len(with)-1)*q.at)], Peer: &peer, PeerVersion: "without --metrics-sync", Note: note,
			Command: fmt.Sprintf("make bench BENCH=\"--only fsync --rounds %d\"", b.rounds),
		})
	}
	peer := round(median(rates[1]))
	return append(results, Result{
		Name: "fsync_group", Unit: "requests/s", Ours: median(rates[0]), Peer: &peer, PeerVersion: "without --metrics-sync",
		Note: fmt.Sprintf("%d requests of about %d samples over %d connections at a time, with --metrics-sync: requests that come while the disk is waited for share the next wait. The peer is ourselves without it; median of %d rounds. %s.",
			many.requests, many.samples/many.requests, fsyncConnections, b.rounds, machine()),
		Command: fmt.Sprintf("make bench BENCH=\"--only fsync --rounds %d\"", b.rounds),
	}), nil
}
