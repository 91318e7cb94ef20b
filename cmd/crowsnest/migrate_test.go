package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/crowsnest-dev/crowsnest/storage/history"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
)

// kept is a data folder of two classes: the catalogue's has some hours of series each minute, with one
// that came late, raw the last hour of one.
func kept(t *testing.T, hours, series int) (data string, samples int) {
	t.Helper()
	data = filepath.Join(t.TempDir(), "data")
	d, err := openDataDir(data)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Truncate(time.Minute)
	fill := func(store, name string, series int, from, to time.Time) {
		db, err := metrics.Open(metrics.Options{Dir: filepath.Join(data, store)})
		if err != nil {
			t.Fatal(err)
		}
		for at := from; at.Before(to); at = at.Add(time.Minute) {
			app := db.Appender(t.Context())
			for n := range series {
				if _, err := app.Append(0, labels.FromStrings(labels.MetricName, name, "cluster", "c", "n", fmt.Sprint(n)), at.UnixMilli(), 1); err != nil {
					t.Fatal(err)
				}
				samples++
			}
			if err := app.Commit(); err != nil {
				t.Fatal(err)
			}
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	begin := now.Add(-time.Duration(hours) * time.Hour)
	fill("metrics", "up", series, begin, now)
	fill("metrics", "late", 1, begin.Add(time.Minute), now.Add(-2*time.Hour))
	fill(classesDir+"/raw", "raw", 1, now.Add(-time.Hour), now)
	return data, samples
}

// receiver is an engine that takes remote write.
type receiver struct {
	*httptest.Server

	mu       sync.Mutex
	samples  map[string]struct{}
	requests int
	fails    int       // from this request on it is away; 0 never
	from     time.Time // what is older is refused
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{samples: map[string]struct{}{}}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) set(fails int, from time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests, r.fails, r.from = 0, fails, from
}

func (r *receiver) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.samples)
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.requests++; r.fails > 0 && r.requests >= r.fails {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	body, err := io.ReadAll(req.Body)
	if err == nil {
		body, err = snappy.Decode(nil, body)
	}
	var write prompb.WriteRequest
	if err == nil {
		err = write.Unmarshal(body)
	}
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	refused := false
	for _, ts := range write.Timeseries {
		for _, s := range ts.Samples {
			if s.Timestamp < r.from.UnixMilli() {
				refused = true
				continue
			}
			r.samples[fmt.Sprint(ts.Labels, s.Timestamp)] = struct{}{}
		}
	}
	if refused {
		http.Error(w, "out of bounds", http.StatusBadRequest)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func migrate(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	return crowsnest(context.Background(), noEnv, "", append([]string{"migrate"}, args...)...)
}

// toFolder is the configuration of a bucket that is a folder.
func toFolder(t *testing.T, folder string) (config string) {
	t.Helper()
	config = filepath.Join(t.TempDir(), "bucket.yaml")
	if err := os.WriteFile(config, fmt.Appendf(nil, "type: FILESYSTEM\nconfig: {directory: %s}\n", folder), 0o600); err != nil {
		t.Fatal(err)
	}
	return config
}

// inBucket says how many samples the blocks of each class have that Thanos would find, of which none
// of the same labels may overlap.
func inBucket(t *testing.T, folder string) map[string]uint64 {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*", "meta.json"))
	if err != nil {
		t.Fatal(err)
	}
	samples, blocks := map[string]uint64{}, map[string][]tsdb.BlockMeta{}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var m struct {
			tsdb.BlockMeta
			Thanos struct{ Labels map[string]string }
		}
		if err := json.Unmarshal(raw, &m); err != nil {
			t.Fatal(err)
		}
		class := fmt.Sprint(m.Thanos.Labels)
		samples[class] += m.Stats.NumSamples
		blocks[class] = append(blocks[class], m.BlockMeta)
		if b, err := tsdb.OpenBlock(nil, filepath.Dir(file), nil, nil); err != nil {
			t.Errorf("block %s: %v", m.ULID, err)
		} else {
			_ = b.Close()
		}
	}
	for class, of := range blocks {
		slices.SortFunc(of, func(a, b tsdb.BlockMeta) int { return cmp.Compare(a.MinTime, b.MinTime) }) // as it wants them
		if o := tsdb.OverlappingBlocks(of); len(o) > 0 {
			t.Errorf("blocks of %s overlap: %s", class, o)
		}
	}
	return samples
}

// A data folder with two classes becomes blocks in a bucket, of which none of the same class overlap;
// the data stay.
func TestMigrateUploadsTheBlocksOfAllClasses(t *testing.T) {
	data, samples := kept(t, 5, 60)
	to := t.TempDir()
	out, errs, err := migrate(t, "--data", data, "--to-bucket", toFolder(t, to), "--external-label", "site=a")
	if err != nil || !strings.HasPrefix(out, fmt.Sprintf("%d samples moved", samples)) {
		t.Fatal(out, errs, err)
	}
	if got, want := fmt.Sprint(inBucket(t, to)), fmt.Sprintf("map[map[crowsnest:catalogue site:a]:%d map[crowsnest:raw site:a]:60]", samples-60); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for pattern, want := range map[string]int{data + "/" + migrationDir: 0, data + "/metrics/wal": 1} {
		if found, _ := filepath.Glob(pattern); len(found) != want {
			t.Errorf("%s: %q, want %d", pattern, found, want)
		}
	}
}

// A bucket that cannot be written to, before or within a block, holds up the move, which goes on.
func TestMigrateToABucketGoesOn(t *testing.T) {
	data, samples := kept(t, 3, 60)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, _, err := migrate(t, "--data", data, "--to-bucket", toFolder(t, filepath.Join(file, "bucket"))); err == nil || out != "" || !strings.Contains(err.Error(), "ask again to go on") {
		t.Fatal(out, err)
	}
	to := t.TempDir()
	// The first file of a block goes to the bucket, and the second does not: of the catalogue first,
	// whose blocks were merged before, then of raw, when that is there.
	for _, class := range []string{"catalogue", "raw"} {
		found, err := filepath.Glob(filepath.Join(data, migrationDir, class, "*", "meta.json"))
		if err != nil || len(found) != 1 {
			t.Fatal(class, found, err)
		}
		block := filepath.Join(to, filepath.Base(filepath.Dir(found[0])))
		if err := os.MkdirAll(filepath.Join(block, "index"), 0o750); err != nil {
			t.Fatal(err)
		}
		out, _, err := migrate(t, "--data", data, "--to-bucket", toFolder(t, to))
		if err == nil || out != "" {
			t.Fatal(class, out, err)
		}
		if _, err := os.Stat(filepath.Join(block, "chunks", "000001")); err != nil {
			t.Errorf("%s was not broken off within its block: %v", class, err)
		}
		if got := inBucket(t, to); len(got) != map[string]int{"catalogue": 0, "raw": 1}[class] {
			t.Errorf("broken off within %s: %v", class, got)
		}
		if err := os.Remove(filepath.Join(block, "index")); err != nil {
			t.Fatal(err)
		}
	}
	if out, _, err := migrate(t, "--data", data, "--to-bucket", toFolder(t, to)); err != nil || !strings.HasPrefix(out, "60 samples moved") {
		t.Error(out, err)
	}
	if got, want := fmt.Sprint(inBucket(t, to)), fmt.Sprintf("map[map[crowsnest:catalogue]:%d map[crowsnest:raw]:60]", samples-60); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// An engine that is away before, within and between blocks holds up the move, which goes on.
func TestMigrateByRemoteWriteGoesOn(t *testing.T) {
	data, samples := kept(t, 3, 300) // the largest block is two requests
	r := newReceiver(t)
	there, within := 0, false
	for fails := 1; ; fails++ { // each call brings one request more
		r.set(fails, time.Time{})
		out, _, err := migrate(t, "--data", data, "--to-write-url", r.URL)
		if err == nil {
			break
		}
		if out != "" || !strings.Contains(err.Error(), "ask again to go on") || fails > 100 {
			t.Fatal(out, err)
		}
		if was := there; r.count() < was || fails > 1 && r.count() == was {
			t.Errorf("call %d: %d samples are there, and %d were before", fails, r.count(), was)
		}
		there = r.count()
		left := 0
		for _, class := range []string{"catalogue", "raw"} {
			blocks, err := metrics.BlocksIn(filepath.Join(data, migrationDir, class))
			if err != nil {
				t.Fatal(err)
			}
			for _, b := range blocks {
				left += int(b.Stats.NumSamples)
			}
		}
		if there+left < samples {
			t.Errorf("call %d: %d samples are there and %d left, of %d", fails, there, left, samples)
		}
		within = within || there+left > samples
	}
	if !within {
		t.Error("it was never broken off within a block")
	}
	if r.count() != samples {
		t.Errorf("%d samples are there, want %d", r.count(), samples)
	}
	if _, err := os.Stat(filepath.Join(data, migrationDir)); !os.IsNotExist(err) {
		t.Errorf("what was to be moved is left: %v", err)
	}
}

// What the engine refuses for good is no success, and is sent again when it may take it.
func TestMigrateSaysWhatTheEngineRefuses(t *testing.T) {
	data, samples := kept(t, 5, 60)
	r := newReceiver(t)
	r.set(0, time.Now().Add(-3*time.Hour))
	out, errs, err := migrate(t, "--data", data, "--to-write-url", r.URL)
	if err == nil || out != "" {
		t.Fatalf("taken for moved: %q", out)
	}
	for _, want := range []string{"400 Bad Request: out of bounds", "out_of_order_time_window", "UTC", "and ask again", filepath.Join(data, migrationDir)} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
	// How old the oldest block is, is a matter of the hour.
	said := regexp.MustCompile(`samples between (\S+ \S+) and .* (\d+h) at least`).FindStringSubmatch(err.Error())
	if said == nil {
		t.Fatal(err)
	}
	oldest, err := time.Parse("2006-01-02 15:04", said[1])
	if err != nil {
		t.Fatal(err)
	}
	window, err := time.ParseDuration(said[2])
	if age := time.Since(oldest); err != nil || age < 5*time.Hour || window < age || window > age+time.Hour {
		t.Errorf("samples of %s ago are to be taken by a window of %s: %v", age, said[2], err)
	}
	if !strings.Contains(errs, "catalogue: of block 1 of ") || !strings.Contains(errs, "the engine refused ") || !strings.Contains(errs, "raw: block 1 of 1 is there, ") {
		t.Error(errs)
	}
	if left, _ := filepath.Glob(filepath.Join(data, migrationDir, "raw", "*")); len(left) > 0 {
		t.Errorf("what was taken is sent again: %v", left)
	}
	r.set(0, time.Time{})
	if out, errs, err := migrate(t, "--data", data, "--to-write-url", r.URL); err != nil || r.count() != samples || strings.Contains(errs, "raw") {
		t.Error(out, errs, err, r.count(), samples)
	}
}

// A move that was interrupted is not gone on with behind a server that ran since: what came then would
// be missing.
func TestMigrateDoesNotGoOnBehindAServer(t *testing.T) {
	data, samples := kept(t, 3, 60)
	r := newReceiver(t)
	r.set(1, time.Time{})
	if _, _, err := migrate(t, "--data", data, "--to-write-url", r.URL); err == nil {
		t.Fatal("not interrupted")
	}
	db, err := metrics.Open(metrics.Options{Dir: filepath.Join(data, "metrics")})
	if err != nil {
		t.Fatal(err)
	}
	app := db.Appender(t.Context())
	if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "new"), time.Now().UnixMilli(), 1); err != nil {
		t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	r.set(0, time.Time{})
	if out, _, err := migrate(t, "--data", data, "--to-write-url", r.URL); err == nil || !strings.Contains(err.Error(), "remove "+filepath.Join(data, migrationDir)) {
		t.Fatal(out, err)
	}
	if err := os.RemoveAll(filepath.Join(data, migrationDir)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := migrate(t, "--data", data, "--to-write-url", r.URL); err != nil || r.count() != samples+1 {
		t.Error(err, r.count(), samples)
	}
}

// Samples that are older than the default retention stay, and are moved: the server's, or a class's, may
// be longer.
func TestMigrateKeepsWhatIsOld(t *testing.T) {
	data, samples := kept(t, 3, 60)
	db, err := metrics.Open(metrics.Options{Dir: filepath.Join(data, "metrics"), Retention: 3650 * day})
	if err != nil {
		t.Fatal(err)
	}
	blocks := t.TempDir()
	for _, back := range []time.Duration{200 * day, day} {
		w, err := tsdb.NewBlockWriter(silent(), blocks, (2 * time.Hour).Milliseconds())
		if err != nil {
			t.Fatal(err)
		}
		app := w.Appender(t.Context())
		if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "old"), time.Now().Add(-back).UnixMilli(), 1); err != nil {
			t.Fatal(err)
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(db.ImportBlocks(t.Context(), blocks), db.Close()); err != nil {
		t.Fatal(err)
	}
	r := newReceiver(t)
	if out, _, err := migrate(t, "--data", data, "--to-write-url", r.URL); err != nil || r.count() != samples+2 {
		t.Error(out, err, r.count(), samples+2)
	}
	metas, err := metrics.BlocksIn(filepath.Join(data, "metrics"))
	if err != nil || len(metas) == 0 || time.Since(time.UnixMilli(metas[0].MinTime)) < 199*day {
		t.Errorf("the data folder has %v, %v", metas, err)
	}
}

// Samples that wait to become blocks are not in the stores yet.
func TestMigrateLeavesNothingOfThePastBehind(t *testing.T) {
	data, samples := kept(t, 3, 60)
	db, err := metrics.Open(metrics.Options{Dir: filepath.Join(data, "metrics")})
	if err != nil {
		t.Fatal(err)
	}
	past, err := history.Open(history.Options{Dir: filepath.Join(data, "history"), Blocks: db})
	if err != nil {
		t.Fatal(err)
	}
	app := past.Appender(t.Context())
	if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "x", "cluster", "site"), time.Now().AddDate(0, 0, -10).UnixMilli(), 1); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(app.Commit(), past.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	to := t.TempDir()
	if out, _, err := migrate(t, "--data", data, "--to-bucket", toFolder(t, to)); err == nil || !strings.Contains(err.Error(), "wait in "+filepath.Join(data, "history")) {
		t.Errorf("%q, %v", out, err)
	}
	if got := inBucket(t, to); len(got) != 0 {
		t.Errorf("moved %v", got)
	}
	if err := os.RemoveAll(filepath.Join(data, "history", "open", "site")); err != nil { // as once it is in blocks
		t.Fatal(err)
	}
	if out, _, err := migrate(t, "--data", data, "--to-bucket", toFolder(t, to)); err != nil || !strings.HasPrefix(out, fmt.Sprintf("%d samples moved", samples)) {
		t.Errorf("%q, %v", out, err)
	}
}

func TestMigrateWithoutSamples(t *testing.T) {
	data := filepath.Join(t.TempDir(), "mistyped")
	if _, _, err := migrate(t, "--data", data, "--to-write-url", "http://127.0.0.1:1"); err == nil || !strings.Contains(err.Error(), "has no samples to move") {
		t.Error(err)
	}
	if _, err := os.Stat(data); !os.IsNotExist(err) {
		t.Errorf("the folder was made: %v", err)
	}
	for _, wrong := range []string{"crowsnest=x", "cluster=x", "site"} {
		if _, _, err := migrate(t, "--data", data, "--to-bucket", "x", "--external-label", wrong); err == nil || !strings.Contains(err.Error(), "must be NAME=VALUE") {
			t.Errorf("%s: %v", wrong, err)
		}
	}
}
