package main

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/storage/metrics"
)

// A data folder with two classes becomes blocks in a bucket; the data stay.
func TestMigrateUploadsTheBlocksOfAllClasses(t *testing.T) {
	data, to := filepath.Join(t.TempDir(), "data"), t.TempDir()
	d, err := openDataDir(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for _, store := range []string{"metrics", classesDir + "/raw"} {
		db, err := metrics.Open(metrics.Options{Dir: filepath.Join(data, store)})
		if err != nil {
			t.Fatal(err)
		}
		app := db.Appender(t.Context())
		if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "up", "cluster", "c"), time.Now().UnixMilli(), 1); err != nil {
			t.Fatal(err)
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(t.TempDir(), "bucket.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "type: FILESYSTEM\nconfig: {directory: %s}\n", to), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := newMigrate(&common{})
	cmd.SetArgs([]string{"--data", data, "--to-bucket", config})
	cmd.SetContext(t.Context())
	if err := cmd.Execute(); err != nil {
		t.Fatal(err)
	}
	for pattern, want := range map[string]int{to + "/*/meta.json": 2, to + "/*/index": 2, to + "/*/chunks/*": 2, data + "/" + migrationDir: 0, data + "/metrics/wal": 1} {
		if found, _ := filepath.Glob(pattern); len(found) != want {
			t.Errorf("%s: %q, want %d", pattern, found, want)
		}
	}
}
