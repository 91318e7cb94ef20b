package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/collector/logs"
	"github.com/crowsnest-dev/crowsnest/collector/push"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// A day of lines of many workloads, of which one is looked at. The store is made
// once for each size, and kept in the user's cache.
const (
	scaleWorkloads = 200
	scalePods      = 10    // of each
	scaleLines     = 2_000 // of each pod, over the day: by default, and as bars are of
	scaleAtOnce    = 20    // of each pod, in a batch: with all pods' a few megabytes
	scaleVersion   = "logs-scale-v1"
	scaleAimed     = 100e9 // bytes
)

// scaleMade is what is noted beside a store that is complete.
type scaleMade struct {
	Day   time.Time `json:"day"`
	Lines int       `json:"lines"`
	Bytes int64     `json:"bytes"` // raw
}

func logsScale(ctx context.Context, b *bench) ([]Result, error) {
	lines, version, name, command := b.logsScaleLines, scaleVersion, "logs_scale", ""
	if lines < scaleAtOnce || lines%scaleAtOnce != 0 {
		return nil, fmt.Errorf("%d lines of each pod; want a multiple of %d", lines, scaleAtOnce)
	}
	if lines != scaleLines {
		version, name = fmt.Sprintf("%s-%d", version, lines), fmt.Sprintf("%s_%d", name, lines)
		command = fmt.Sprintf("make bench BENCH=\"--only logs_scale --logs-scale-lines %d\"", lines)
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(cache, "crowsnest-bench", version)
	noted := filepath.Join(dir, "made.json")
	var made scaleMade
	raw, err := os.ReadFile(noted)
	if err == nil {
		err = json.Unmarshal(raw, &made)
	}
	if err != nil || time.Since(made.Day) > 60*24*time.Hour { // the store keeps 90 days
		if err := os.RemoveAll(dir); err != nil {
			return nil, err
		}
		made = scaleMade{Day: time.Now().UTC().Truncate(24 * time.Hour).Add(-24 * time.Hour)}
		if err := makeScale(ctx, b, dir, &made); err != nil {
			return nil, fmt.Errorf("make the lines of a day: %w", err)
		}
		if raw, err = json.Marshal(made); err == nil {
			err = os.WriteFile(noted, raw, 0o644)
		}
		if err != nil {
			return nil, err
		}
	}
	p, server, err := startScale(ctx, b, dir)
	if err != nil {
		return nil, err
	}
	defer func() { _ = p.Stop(20 * time.Second) }()
	disk, err := diskUsage(filepath.Join(dir, "data", "logs"))
	if err != nil {
		return nil, err
	}
	note := fmt.Sprintf("%d lines, %.1f GB, of %d pods of %d workloads over a day, %.2f GB on disk: %.2g %% of %.0f GB. %s.",
		made.Lines, float64(made.Bytes)/1e9, scaleWorkloads*scalePods, scaleWorkloads, float64(disk)/1e9, 100*float64(made.Bytes)/scaleAimed, scaleAimed/1e9, machine())
	var results []Result
	for _, q := range []struct{ name, path, query, step, more string }{
		{"search", "query", `{workload="cart-7"} coupon`, "", "The newest 100 lines of one workload's day that have a word."},
		{"search_all_day", "query", `{workload="cart-7"} coupon | stats count() n`, "", "All of its lines that have a word, counted."},
		{"hits", "hits", `{workload="cart-7"}`, "15m", "The workload's lines by quarter of an hour."},
		{"hits_of_all", "hits", `*`, "15m", "All lines of the day by quarter of an hour."},
		{"absent", "query", `{workload="cart-7"} nosuchword | stats count() n`, "", "A word that no line has."},
	} {
		form := url.Values{"query": {q.query}, "start": {made.Day.Format(time.RFC3339)}, "end": {made.Day.Add(24 * time.Hour).Format(time.RFC3339)}}
		if q.path == "query" {
			form.Set("limit", "100")
		} else {
			form.Set("step", q.step)
		}
		var took []float64
		for range 9 {
			start := time.Now()
			raw, err := server.Do(ctx, "POST", "/select/logsql/"+q.path, form)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", q.name, err)
			}
			took = append(took, time.Since(start).Seconds())
			if len(raw) < 5 {
				return nil, fmt.Errorf("%s found nothing: %q", q.name, raw)
			}
		}
		results = append(results, Result{Name: name + "_" + q.name, Unit: "s", Ours: median(took), Bar: "<= 1", Command: command,
			Note: fmt.Sprintf("%s Median of 9; the first after the server's start %.3f s. %s", q.more, took[0], note)})
	}
	return results, nil
}

func startScale(ctx context.Context, b *bench, dir string) (*testbed.Process, *testbed.Server, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, nil, err
	}
	address, err := testbed.FreeAddress()
	if err != nil {
		return nil, nil, err
	}
	p, server, err := ourSide(b).server(dir, address)
	if err != nil {
		return nil, nil, err
	}
	if err := testbed.Await(ctx, 2*time.Minute, 100*time.Millisecond, server.Ready); err != nil {
		_ = p.Stop(time.Second)
		return nil, nil, fmt.Errorf("%w\n%s", err, p.Tail(20))
	}
	return p, server, nil
}

// makeScale sends the lines as four collectors do.
func makeScale(ctx context.Context, b *bench, dir string, made *scaleMade) error {
	lines := scaleWorkloads * scalePods * b.logsScaleLines
	b.say("making %d lines", lines)
	p, server, err := startScale(ctx, b, dir)
	if err != nil {
		return err
	}
	defer func() { _ = p.Stop(time.Minute) }()
	const senders = 4
	parts := b.logsScaleLines / scaleAtOnce // of the day: lines of all pods come together
	bytes := make([]int64, senders)
	group, gctx := errgroup.WithContext(ctx)
	for n := range senders {
		group.Go(func() error {
			sender := "node/n" + strconv.Itoa(n)
			client, err := push.NewClient(push.ClientOptions{Server: server.URL, TokenFile: filepath.Join(dir, "token"), Sender: sender})
			if err != nil {
				return err
			}
			defer client.Close()
			r := rand.New(rand.NewPCG(3, uint64(n)))
			end := made.Day.Add(24*time.Hour - 1)
			for part := range parts {
				batch := &wire.LogBatch{Sender: sender, ID: strconv.Itoa(part)}
				length := 24 * time.Hour / time.Duration(parts)
				from := made.Day.Add(time.Duration(part) * length)
				for pod := n; pod < scaleWorkloads*scalePods; pod += senders {
					g := wire.LogGroup{Stream: wire.LogStream{Namespace: "ns-" + strconv.Itoa(pod%20), Pod: "cart-" + strconv.Itoa(pod), Container: "app", Stream: "stdout",
						WorkloadType: "deployment", Workload: "cart-" + strconv.Itoa(pod/scalePods), Node: "n" + strconv.Itoa(n)}}
					step, last := length/scaleAtOnce, time.Time{}
					for i := range scaleAtOnce {
						at := from.Add(time.Duration(i)*step + time.Duration(r.Int64N(int64(step))))
						text := jsonLine(r, at)
						if last = written(r, at, last); last.After(end) {
							last = end // a batch is of one day
						}
						bytes[n] += int64(len(criLine(last, text)))
						message, fields := logs.Parse(strings.Clone(text), last.UnixNano())
						g.Lines = append(g.Lines, wire.LogLine{Time: last.UnixNano(), Message: message, Fields: fields})
					}
					batch.Groups = append(batch.Groups, g)
				}
				if err := client.Send(gctx, batch); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	made.Lines = lines
	for _, n := range bytes {
		made.Bytes += n
	}
	// Merges go on for a while.
	for last, quiet := int64(-1), 0; quiet < 5; {
		now, err := diskUsage(filepath.Join(dir, "data", "logs"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		if quiet++; now != last {
			quiet = 0
		}
		last = now
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
	return nil
}
