package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/api"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
)

// While the stores open /readyz says how much there is to read, of all classes and of both logs, and how far it is.
func TestReadinessTellsHowFarOpeningIs(t *testing.T) {
	dir := t.TempDir()
	for _, log := range []string{"metrics/wal", "metrics/wbl", "metrics-classes/raw/wal", "metrics-classes/raw/wbl"} {
		if err := os.MkdirAll(filepath.Join(dir, log), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, log, "00000000"), make([]byte, 1<<20), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	a := &app{dir: &dataDir{path: dir}, readiness: api.NewReadiness(partMetrics)}
	says := func(replay *metrics.Progress) string {
		a.progress(time.Now(), replay)()
		parts, _ := a.readiness.Parts()
		return parts[0].Reason
	}
	replay := &metrics.Progress{}
	if said := says(replay); !strings.Contains(said, "replaying 4.0 MiB of log since 0 s") || strings.Contains(said, "segments") {
		t.Errorf("before: %s", said)
	}
	db, err := metrics.Open(metrics.Options{Dir: filepath.Join(dir, "metrics-classes/raw"), Progress: replay})
	if err != nil {
		t.Fatal(err)
	}
	if said := says(replay); !strings.Contains(said, " segments in metrics-classes/raw read") {
		t.Errorf("then: %s", said)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
