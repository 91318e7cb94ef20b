package metrics

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

func TestCommitsWaitForTheDiskTogether(t *testing.T) {
	dir := t.TempDir()
	db := open(t, Options{Dir: dir, Sync: true})
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i := range 20 {
				app := db.Appender(context.Background())
				_, err := app.Append(0, labels.FromStrings(labels.MetricName, "x", "n", fmt.Sprint(n)), t0.Add(time.Duration(i)*time.Second).UnixMilli(), 1)
				if err := errors.Join(err, app.Commit()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	put(t, db, labels.FromStrings(labels.MetricName, "x", "n", "0"), t0.Add(-time.Hour), 1) // out of order, in the other log
	if db.syncer.covered != 161 || db.syncer.log("wal").named < 0 || db.syncer.log("wbl").named < 0 {
		t.Errorf("synced through %d, segments %v", db.syncer.covered, db.syncer.logs)
	}
	// What cannot be synced is not acknowledged, and nothing more is taken.
	db.syncer.dir = filepath.Join(dir, "wal") // its "wal" is a file
	if err := os.WriteFile(filepath.Join(dir, "wal", "wal"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	app := db.Appender(context.Background())
	if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "x", "n", "0"), t0.Add(time.Hour).UnixMilli(), 1); err != nil {
		t.Fatal(err)
	}
	if err := app.Commit(); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if err := db.ReadOnly(); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("read-only: %v", err)
	}
}

func TestProbesOfAKilledServerAreCleared(t *testing.T) {
	dir := t.TempDir()
	left := filepath.Join(dir, "probe-123.writable")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	open(t, Options{Dir: dir})
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("still there: %v", err)
	}
}
