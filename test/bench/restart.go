package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// The bench's own program is the process with the store, when it is told so.
const envStore = "CROWSNEST_BENCH_STORE"

// storeJob is what such a process does.
type storeJob struct {
	Dir        string
	Fill       bool // with the samples of a head that is just not due; else only open
	Series     int
	BlockRange time.Duration
	Snapshot   bool // close in order, with a snapshot; else wait for the kill
}

// storeSaid is what it says, as one line.
type storeSaid struct {
	OpenSeconds float64 // until a sample was committed
	CPUSeconds  float64 // of the process until then
	Series      uint64
	LogBytes    int64
}

// restart measures the start after a kill with a full head, for the block ranges
// and with a snapshot: seconds until a sample is taken, and memory.
func restart(ctx context.Context, b *bench) ([]Result, error) {
	var results []Result
	for _, v := range []struct {
		name string
		job  storeJob
		bar  string
		what string
	}{
		{"2h", storeJob{BlockRange: 2 * time.Hour}, "<= 30", "after a kill, blocks of 2 h: 3 h in the head"},
		{"1h", storeJob{BlockRange: time.Hour}, "<= 30", "after a kill, blocks of 1 h: 1.5 h in the head"},
		{"2h_snapshot", storeJob{BlockRange: 2 * time.Hour, Snapshot: true}, "", "after an end in order with a snapshot, blocks of 2 h"},
	} {
		dir, err := os.MkdirTemp(b.dir, "restart-")
		if err != nil {
			return nil, err
		}
		v.job.Dir, v.job.Series, v.job.Fill = dir, b.series, true
		_, filled, err := runStore(ctx, v.job)
		if err != nil {
			return nil, err
		}
		v.job.Fill, v.job.Snapshot = false, false
		said, opened, err := runStore(ctx, v.job)
		if err = errors.Join(err, os.RemoveAll(dir)); err != nil {
			return nil, err
		}
		if int(said.Series) != b.series {
			return nil, fmt.Errorf("%d series after the start, want %d", said.Series, b.series)
		}
		note := fmt.Sprintf("%d series at 60 s, %s; log of %.0f MiB. %s.", b.series, v.what, float64(said.LogBytes)/mib, machine())
		command := fmt.Sprintf("make bench BENCH=\"--only restart --series %d\"", b.series)
		results = append(results,
			Result{Name: "restart_" + v.name, Unit: "s", Ours: said.OpenSeconds, Bar: v.bar, Command: command, Note: "Until a sample was committed, " + note},
			Result{Name: "restart_" + v.name + "_cpu", Unit: "CPU s", Ours: said.CPUSeconds, Command: command, Note: "Of the process until a sample was committed, " + note},
			Result{Name: "restart_" + v.name + "_memory", Unit: "MiB", Ours: opened.peakMiB, Peer: &filled.rssMiB, PeerVersion: "before", Bar: "ratio <= 1.2", Command: command,
				Note: "Most memory during the start, next to what the process before held while it wrote, " + note},
		)
	}
	return results, nil
}

type storeMemory struct{ rssMiB, peakMiB float64 }

// runStore runs a job in a process of its own and kills it, where it does not
// end by itself.
func runStore(ctx context.Context, job storeJob) (said storeSaid, memory storeMemory, err error) {
	raw, err := json.Marshal(job)
	if err != nil {
		return said, memory, err
	}
	cmd := exec.CommandContext(ctx, os.Args[0])
	cmd.Env = append(os.Environ(), envStore+"="+string(raw))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return said, memory, err
	}
	if err := cmd.Start(); err != nil {
		return said, memory, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err == nil {
		err = json.Unmarshal([]byte(line), &said)
	}
	memory = memoryOf(cmd.Process.Pid)
	if !job.Snapshot || err != nil {
		return said, memory, errors.Join(err, cmd.Process.Kill(), ignoreExit(cmd.Wait()))
	}
	return said, memory, cmd.Wait()
}

func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

// memoryOf gives zeros for a process that is gone.
func memoryOf(pid int) (m storeMemory) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return m
	}
	for line := range strings.Lines(string(raw)) {
		name, rest, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 64)
		switch name {
		case "VmRSS":
			m.rssMiB = kib / 1024
		case "VmHWM":
			m.peakMiB = kib / 1024
		}
	}
	return m
}

// storeChild is the process with the store.
func storeChild(how string) error {
	var job storeJob
	if err := json.Unmarshal([]byte(how), &job); err != nil {
		return err
	}
	start := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	began := time.Now()
	db, err := metrics.Open(metrics.Options{Dir: job.Dir, BlockRange: job.BlockRange, SnapshotAtClose: job.Snapshot || !job.Fill, CheckEvery: time.Hour})
	if err != nil {
		return err
	}
	minutes := int(job.BlockRange.Minutes() * 3 / 2)
	if job.Fill {
		if err := fillHead(db, job.Series, start, minutes); err != nil {
			return err
		}
	} else {
		app := db.Appender(context.Background())
		if _, err := app.Append(0, storeLabels(0), start.Add(time.Duration(minutes)*time.Minute).UnixMilli(), 1); err != nil {
			return err
		}
		if err := app.Commit(); err != nil {
			return err
		}
	}
	said := storeSaid{OpenSeconds: time.Since(began).Seconds(), Series: db.Series()}
	used, err := testbed.UsageOf(os.Getpid())
	if err != nil {
		return err
	}
	said.CPUSeconds = used.CPU.Seconds()
	_ = filepath.WalkDir(filepath.Join(job.Dir, "wal"), func(_ string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			if info, err := e.Info(); err == nil {
				said.LogBytes += info.Size()
			}
		}
		return nil
	})
	raw, err := json.Marshal(said)
	if err != nil {
		return err
	}
	fmt.Println(string(raw))
	if job.Fill && job.Snapshot {
		return db.Close()
	}
	time.Sleep(time.Hour) // until the kill
	runtime.KeepAlive(db)
	return nil
}

func storeLabels(n int) labels.Labels {
	return labels.FromStrings(labels.MetricName, catalogue.PodCPU, "cluster", "bench", "namespace", fmt.Sprint("ns-", n%50), "workload_type", "deployment",
		"workload", fmt.Sprint("workload-", n/30), "pod", fmt.Sprintf("workload-%d-5d8f7c9b6d-x%04d", n/30, n%30), "node", fmt.Sprint("node-", n%5000), "n", fmt.Sprint(n))
}

// fillHead appends a sample a minute of each series, in commits of a node's size.
func fillHead(db *metrics.DB, series int, start time.Time, minutes int) error {
	refs, values := make([]storage.SeriesRef, series), make([]float64, series)
	r := rand.New(rand.NewPCG(1, 1))
	for m := range minutes {
		at := start.Add(time.Duration(m) * time.Minute).UnixMilli()
		for first := 0; first < series; first += 1000 {
			app := db.Appender(context.Background())
			for n := first; n < min(first+1000, series); n++ {
				lset := labels.EmptyLabels()
				if refs[n] == 0 {
					lset = storeLabels(n)
				}
				// Half of the gauges stand still at a time, as real ones do.
				if r.IntN(2) == 0 {
					values[n] = float64(r.IntN(4096)) / 1024
				}
				ref, err := app.Append(refs[n], lset, at, values[n])
				if err != nil {
					return err
				}
				refs[n] = ref
			}
			if err := app.Commit(); err != nil {
				return err
			}
		}
	}
	return nil
}
