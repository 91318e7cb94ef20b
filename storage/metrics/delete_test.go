package metrics

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

func TestDeletedClusterIsHiddenAtOnceAndItsSpaceFreed(t *testing.T) {
	dir, in := t.TempDir(), t.TempDir()
	now := t0
	o := Options{Dir: dir, Now: func() time.Time { return now }}
	db := open(t, o)
	of := func(cluster string) labels.Labels {
		return labels.FromStrings(labels.MetricName, cluster, "cluster", cluster)
	}
	writeBlock(t, in, 3, t0.Add(-24*time.Hour), t0.Add(-23*time.Hour), time.Minute, 1) // of nobody
	if err := db.ImportBlocks(context.Background(), in); err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"gone", "kept"} {
		put(t, db, of(c), t0.Add(-time.Hour), 1)
		put(t, db, of(c), t0, 2)
		put(t, db, of(c), t0.Add(-20*time.Hour), 3) // out of order
	}
	if err := db.DeleteCluster(context.Background(), "gone"); err != nil {
		t.Fatal(err)
	}
	if got := values(t, db, "gone"); len(got) != 0 {
		t.Errorf("still there: %v", got)
	}
	if len(values(t, db, "kept")) != 3 || len(values(t, db, "x")) != 60 {
		t.Errorf("others: %v, %d", values(t, db, "kept"), len(values(t, db, "x")))
	}
	// Only the block of what was out of order holds some of it.
	if n := db.ToRewrite(); n != 1 || testutil.ToFloat64(db.metrics.toRewrite) != 1 {
		t.Errorf("%d blocks to rewrite", n)
	}
	if err := db.DeleteCluster(context.Background(), "gone"); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	// Under the same id it begins anew.
	now = t0.Add(time.Minute)
	put(t, db, of("gone"), now, 4)
	check := func(db *DB) {
		t.Helper()
		if got := values(t, db, "gone"); len(got) != 1 || got[60] != 4 {
			t.Errorf("new samples: %v", got)
		}
		if got := values(t, db, "kept"); len(got) != 3 {
			t.Errorf("kept: %v", got)
		}
	}
	check(db)
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, o)
	check(db)
	if err := db.rewrite(); err != nil {
		t.Fatal(err)
	}
	check(db)
	if n := db.ToRewrite(); n != 0 || testutil.ToFloat64(db.metrics.toRewrite) != 0 {
		t.Errorf("%d blocks left to rewrite", n)
	}
	// Once the head's files of then are gone, a start has nothing to look after.
	if err := db.forgetDeletions(); err != nil {
		t.Fatal(err)
	}
	if all, err := readDeletions(dir); err != nil || len(all) != 1 {
		t.Errorf("forgotten at once: %v, %v", all, err)
	}
	put(t, db, of("gone"), t0.Add(24*time.Hour), 5)
	if err := db.compact(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := db.forgetDeletions(); err != nil {
		t.Fatal(err)
	}
	if all, err := readDeletions(dir); err != nil || len(all) != 0 {
		t.Errorf("not forgotten: %v, %v", all, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, o)
	if got := values(t, db, "gone"); len(got) != 2 || got[60] != 4 || got[24*3600] != 5 {
		t.Errorf("a day later: %v", got)
	}
	if err := db.DeleteCluster(context.Background(), ""); !errors.Is(err, fault.ErrInvalid) {
		t.Errorf("no cluster: %v", err)
	}
}

func TestADeletionThatWasCutOffIsDoneAtTheStart(t *testing.T) {
	dir := t.TempDir()
	o := Options{Dir: dir, Now: func() time.Time { return t0 }}
	db := open(t, o)
	put(t, db, labels.FromStrings(labels.MetricName, "gone", "cluster", "gone"), t0.Add(-time.Hour), 1)
	put(t, db, labels.FromStrings(labels.MetricName, "gone", "cluster", "gone"), t0.Add(-10*time.Hour), 1)
	put(t, db, labels.FromStrings(labels.MetricName, "kept", "cluster", "kept"), t0.Add(-time.Hour), 1)
	if err := db.note(deletion{"gone", t0.UnixMilli()}); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = open(t, o)
	if gone, kept := values(t, db, "gone"), values(t, db, "kept"); len(gone) != 0 || len(kept) != 1 {
		t.Errorf("deleted %v, others %v", gone, kept)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, deletionsFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(o); !errors.Is(err, fault.ErrMalformed) {
		t.Errorf("a damaged list: %v", err)
	}
}

func TestForecast(t *testing.T) {
	const hour = int64(time.Hour / time.Millisecond)
	const day, mib = 24 * hour, int64(1 << 20)
	// 24 MiB a day since ten days.
	var ten []sizedBlock
	for n := int64(0); n < 10; n++ {
		ten = append(ten, sizedBlock{(90 + n) * day, (91 + n) * day, 24 * mib})
	}
	for name, tc := range map[string]struct {
		blocks                    []sizedBlock
		retention, room, maxBytes int64
		in                        time.Duration
		never, known              bool
	}{
		"nothing yet":                {nil, 90 * day, mib, 0, 0, false, false},
		"in five days":               {ten, 90 * day, 5 * 24 * mib, 0, 5 * 24 * time.Hour, false, true},
		"full":                       {ten, 90 * day, -1, 0, 0, false, true},
		"the oldest go before":       {ten, 12 * day, 5 * 24 * mib, 0, 0, true, true},
		"the oldest go already":      {ten, 10 * day, mib, 0, 0, true, true},
		"bounded by size before":     {ten, 90 * day, 5 * 24 * mib, 12 * 24 * mib, 0, true, true},
		"bounded by size, too late":  {ten, 90 * day, 5 * 24 * mib, 20 * 24 * mib, 5 * 24 * time.Hour, false, true},
		"only the last hours known":  {[]sizedBlock{{98 * day, 98*day + 2*hour, 2 * mib}}, 90 * day, 24 * mib, 0, 0, false, false},
		"two hours of the last day":  {[]sizedBlock{{100*day - 2*hour, 100 * day, 2 * mib}}, 90 * day, 24 * mib, 0, 24 * time.Hour, false, true},
		"room for longer than times": {[]sizedBlock{{100*day - 2*hour, 100 * day, 1}}, 1000 * 365 * day, math.MaxInt64 / 2, 0, 0, true, true},
	} {
		in, never, known := ForecastOf(tc.room, growth(tc.blocks, 100*day, day, tc.retention, tc.maxBytes))
		if in.Round(time.Minute) != tc.in || never != tc.never || known != tc.known {
			t.Errorf("%s: %v, never %v, known %v", name, in, never, known)
		}
	}
	db := open(t, Options{})
	if v := testutil.ToFloat64(db.metrics.full); !math.IsNaN(v) {
		t.Errorf("an empty store: %v", v)
	}
}
