package main

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/inventory"
)

// Figures of the cluster whose inventory is measured.
const (
	inventoryPods  = 30_000
	inventoryNodes = 1_000
	podStates      = 5 // of a pod's life: pending, scheduled, running, ready, going
)

func benchPod(n int, state int, at time.Time) *object.Pod {
	p := &object.Pod{
		Meta: object.Meta{
			UID: fmt.Sprintf("%08x-5b1c-4c6e-9d0a-%012x", n*2654435761, n), Namespace: fmt.Sprintf("team-%d", n%50), Name: fmt.Sprintf("service-%d-7d9f8b6c5d-%05x", n%600, n),
			Labels:    map[string]string{"app": fmt.Sprintf("service-%d", n%600), "pod-template-hash": "7d9f8b6c5d", "tier": "backend"},
			CreatedAt: at.Truncate(time.Minute),
		},
		Workload: object.WorkloadRef{Type: "deployment", Name: fmt.Sprintf("service-%d", n%600)}, Phase: "Pending",
		Containers: []object.Container{
			{Name: "app", State: "waiting", Requests: object.Resources{CPUCores: 0.25, HasCPU: true, MemoryBytes: 256 << 20, HasMemory: true}, Limits: object.Resources{CPUCores: 1, HasCPU: true, MemoryBytes: 512 << 20, HasMemory: true}},
		},
	}
	if state >= 1 {
		p.Node = fmt.Sprintf("node-%d", n%inventoryNodes)
	}
	if state >= 2 {
		p.Phase = object.PhaseRunning
		p.Containers[0].ID, p.Containers[0].State, p.Containers[0].StartedAt = fmt.Sprintf("%064x", n*7919), "running", at
	}
	p.Ready = state >= 3
	if state >= 4 {
		p.Ready = false
	}
	return p
}

// freeBytes is what a database has free within its file.
func freeBytes(ctx context.Context, path string) (int64, error) {
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		return 0, err
	}
	defer db.Close()
	var pages, size int64
	if err := db.QueryRowContext(ctx, `PRAGMA freelist_count`).Scan(&pages); err != nil {
		return 0, err
	}
	err = db.QueryRowContext(ctx, `PRAGMA page_size`).Scan(&size)
	return pages * size, err
}

// inventoryVersions measures what 90 days of versions of a large cluster take on
// disk: a part of them is written, through the store that the server has, and
// the rest follows from it.
func inventoryVersions(ctx context.Context, b *bench) (_ []Result, err error) {
	path := filepath.Join(b.dir, "inventory.db")
	now := time.Now().UTC().Truncate(time.Second)
	minutes := int(b.churnFor / time.Minute)
	start := now.Add(-time.Duration(minutes) * time.Minute)
	s, err := inventory.Open(inventory.Options{Path: path})
	if err != nil {
		return nil, err
	}
	defer func() {
		if s != nil {
			_ = s.Close()
		}
	}()
	batch := func(seq uint64, at time.Time) *wire.InventoryBatch {
		return &wire.InventoryBatch{Session: "bench", Sequence: seq, Time: at}
	}
	seq := uint64(1)
	first := batch(seq, start)
	first.Snapshot, first.Last = true, true
	for n := range inventoryPods {
		first.Put(benchPod(n, 3, start))
	}
	if err := s.Apply(ctx, "bench", first); err != nil {
		return nil, err
	}
	size := func() (int64, error) {
		var total int64
		for _, suffix := range []string{"", "-wal"} {
			if info, err := os.Stat(path + suffix); err == nil {
				total += info.Size()
			} else if suffix == "" {
				return 0, err
			}
		}
		return total, nil
	}
	// Closed and opened, so that the log is in the file.
	reopen := func() error {
		if err := s.Close(); err != nil {
			return err
		}
		s, err = inventory.Open(inventory.Options{Path: path})
		return err
	}
	if err := reopen(); err != nil {
		return nil, err
	}
	empty, err := size()
	if err != nil {
		return nil, err
	}
	const perMinute = inventoryPods / 100
	oldest, next := 0, inventoryPods
	began := time.Now()
	for minute := range minutes {
		at := start.Add(time.Duration(minute) * time.Minute)
		for state := range podStates - 1 {
			seq++
			one := batch(seq, at.Add(time.Duration(state*10)*time.Second))
			for n := range perMinute {
				one.Put(benchPod(next+n, state, at))
			}
			if err := s.Apply(ctx, "bench", one); err != nil {
				return nil, err
			}
		}
		for _, gone := range []bool{false, true} {
			seq++
			one := batch(seq, at.Add(50*time.Second))
			for n := range perMinute {
				p := benchPod(oldest+n, 4, start)
				if gone {
					one.Deleted = append(one.Deleted, wire.Deleted{Key: object.KeyOf(p), UID: p.UID})
				} else {
					one.Put(p)
				}
			}
			if err := s.Apply(ctx, "bench", one); err != nil {
				return nil, err
			}
		}
		oldest, next = oldest+perMinute, next+perMinute
	}
	took := time.Since(began)
	if err := reopen(); err != nil {
		return nil, err
	}
	full, err := size()
	if err != nil {
		return nil, err
	}
	versions := float64(minutes * perMinute * podStates)
	fresh := float64(full-empty) / versions
	// Two days on, all that went is packed. What that leaves free in the file is filled
	// by what comes next.
	if err := s.Close(); err != nil {
		return nil, err
	}
	if s, err = inventory.Open(inventory.Options{Path: path, Now: func() time.Time { return now.Add(48 * time.Hour) }}); err != nil {
		return nil, err
	}
	packing := time.Now()
	packed, err := s.Pack(ctx)
	if err != nil {
		return nil, err
	}
	packTook := time.Since(packing)
	if err := reopen(); err != nil {
		return nil, err
	}
	if full, err = size(); err != nil {
		return nil, err
	}
	free, err := freeBytes(ctx, path)
	if err != nil {
		return nil, err
	}
	if float64(packed) < versions/3 { // those of pods that are there stay in rows
		return nil, fmt.Errorf("%d of %g versions were packed", packed, versions)
	}
	// The pods that are there have their earlier states in rows still.
	perVersion := (float64(full-free-empty) - (versions-float64(packed))*fresh) / float64(packed)
	asked := time.Now()
	then, err := s.At(ctx, "bench", object.KindPod, start.Add(time.Duration(minutes/2)*time.Minute))
	if err != nil {
		return nil, err
	}
	answered := time.Since(asked)
	if len(then) < inventoryPods {
		return nil, fmt.Errorf("%d pods were there then, want %d", len(then), inventoryPods)
	}
	note := fmt.Sprintf("%d pods with a churn of 1 %% a minute, %d states a pod, %d min of it written and counted; %s.", inventoryPods, podStates, minutes, machine())
	daily := (24 * time.Hour).Minutes() * podStates * perMinute
	return []Result{
		{Name: "inventory_versions_bytes", Unit: "B", Ours: perVersion, Note: "On disk for each version once it is packed, which is after a day, indexes included. " + note},
		{Name: "inventory_versions_fresh", Unit: "B", Ours: fresh, Note: "On disk for each version of the last day. " + note},
		{Name: "inventory_versions_90d", Unit: "GiB", Ours: daily * (89*perVersion + fresh) / (1 << 30), Note: "Computed from both for 90 days. " + note},
		{Name: "inventory_versions_pack", Unit: "µs", Ours: float64(packTook.Microseconds()) / float64(packed), Note: "To pack each version. " + note},
		{Name: "inventory_versions_write", Unit: "µs", Ours: float64(took.Microseconds()) / versions, Note: "For each version, the transaction's part included. " + note},
		{Name: "inventory_versions_then", Unit: "s", Ours: answered.Seconds(), Note: fmt.Sprintf("To list the %d pods of a time in the past. %s", len(then), note)},
	}, nil
}
