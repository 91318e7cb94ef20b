package backup

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/labels"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/history"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
	"github.com/crowsnest-dev/crowsnest/storage/logs/logstest"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
	"github.com/crowsnest-dev/crowsnest/storage/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, logstest.Leaks()...) }

var t0 = time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)

// rig is a data folder in use.
type rig struct {
	t    *testing.T
	data string
	to   string
	db   *metrics.DB
	sql  *sql.DB
	now  time.Time
}

func newRig(t *testing.T) *rig {
	g := &rig{t: t, data: filepath.Join(t.TempDir(), "data"), to: filepath.Join(t.TempDir(), "backups"), now: t0}
	var err error
	if g.db, err = metrics.Open(metrics.Options{Dir: filepath.Join(g.data, "metrics")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.db.Close() })
	schema := fstest.MapFS{"00001_x.sql": {Data: []byte("-- +goose Up\nCREATE TABLE x (v INTEGER);\n")}}
	if g.sql, err = sqlite.Open(filepath.Join(g.data, "meta.db"), schema); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = g.sql.Close() })
	if err := os.WriteFile(filepath.Join(g.data, "FORMAT"), []byte("1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return g
}

// add stores n samples of series x at a time and later, and a row.
func (g *rig) add(at time.Time, n int) {
	g.t.Helper()
	app := g.db.Appender(context.Background())
	for i := range n {
		if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "x"), at.Add(time.Duration(i)*time.Minute).UnixMilli(), float64(i)); err != nil {
			g.t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		g.t.Fatal(err)
	}
	if _, err := g.sql.Exec("INSERT INTO x VALUES (1)"); err != nil {
		g.t.Fatal(err)
	}
}

func (g *rig) options() Options {
	return Options{To: Folder(g.to), Data: g.data, Metrics: g.db, Databases: []string{"meta.db"}, Files: []string{"FORMAT"}, Version: "test", Now: func() time.Time { return g.now }}
}

func (g *rig) backup(change func(*Options)) (*Manifest, Progress) {
	g.t.Helper()
	o := g.options()
	var last Progress
	o.Progress = func(p Progress) { last = p }
	if change != nil {
		change(&o)
	}
	m, err := Create(context.Background(), o)
	if err != nil {
		g.t.Fatal(err)
	}
	return m, last
}

// holds counts the samples and rows of a restored folder.
func holds(t *testing.T, data string) (samples, rows int) {
	t.Helper()
	db, err := metrics.Open(metrics.Options{Dir: filepath.Join(data, "metrics")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	q, err := db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.Close() }()
	set := q.Select(context.Background(), false, nil, labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "x"))
	for set.Next() {
		for it := set.At().Iterator(nil); it.Next() != 0; {
			samples++
		}
	}
	if set.Err() != nil {
		t.Fatal(set.Err())
	}
	c, err := sql.Open("sqlite", filepath.Join(data, "meta.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.QueryRow("SELECT count(*) FROM x").Scan(&rows); err != nil {
		t.Fatal(err)
	}
	return samples, rows
}

func TestBackupsAreRestoredAsTheyWere(t *testing.T) {
	g := newRig(t)
	g.add(t0.Add(-20*time.Hour), 10)
	g.add(t0, 10)
	g.add(t0.Add(-30*time.Hour), 5) // out of order
	first, p := g.backup(nil)
	if p.Step != "done" || p.Done != p.Total || p.Copied == 0 {
		t.Errorf("progress %+v", p)
	}
	g.add(t0.Add(time.Hour), 7)
	g.now = g.now.Add(time.Hour)
	second, p := g.backup(nil)
	if p.Copied >= p.Total {
		t.Errorf("nothing was there already: %+v", p)
	}
	for id, want := range map[string][2]int{first.ID: {25, 3}, second.ID: {32, 4}, "": {32, 4}} {
		data := filepath.Join(t.TempDir(), "data")
		if _, err := Restore(context.Background(), Folder(g.to), id, data, nil); err != nil {
			t.Fatal(err)
		}
		if samples, rows := holds(t, data); [2]int{samples, rows} != want {
			t.Errorf("%q: %d samples and %d rows, want %v", id, samples, rows, want)
		}
		if raw, err := os.ReadFile(filepath.Join(data, "FORMAT")); err != nil || string(raw) != "1\n" {
			t.Errorf("FORMAT %q, %v", raw, err)
		}
		if info, err := os.Stat(filepath.Join(data, "meta.db")); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("meta.db: %v, %v", info.Mode(), err)
		}
		// Not over it.
		if _, err := Restore(context.Background(), Folder(g.to), id, data, nil); !errors.Is(err, fault.ErrConflict) {
			t.Errorf("over a data folder: %v", err)
		}
	}
	// Old ones go, with the blocks that nobody has any more.
	before := files(t, filepath.Join(g.to, blocksDir))
	g.now = g.now.Add(time.Hour)
	last, _ := g.backup(func(o *Options) { o.Keep = 1 })
	all, err := List(t.Context(), Folder(g.to))
	if err != nil || len(all) != 1 || all[0].ID != last.ID || files(t, filepath.Join(g.to, blocksDir)) >= before {
		t.Errorf("%d left, %v", len(all), err)
	}
	if _, err := Restore(context.Background(), Folder(g.to), "", filepath.Join(t.TempDir(), "data"), nil); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(g.data, "metrics", "snapshot.tmp")); !os.IsNotExist(err) {
		t.Errorf("the snapshot is left: %v", err)
	}
}

func TestLinesAreRestoredAndSharedByBackups(t *testing.T) {
	g := newRig(t)
	g.add(t0, 1)
	if err := logs.Prepare(64 << 20); err != nil {
		t.Fatal(err)
	}
	open := func(dir string) *logs.Store {
		t.Helper()
		s, err := logs.Open(logs.Options{Dir: dir, CommitInterval: 10 * time.Millisecond, MinFreeBytes: 1 << 20, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() })
		return s
	}
	s := open(filepath.Join(g.data, "logs"))
	add := func(id string, at time.Time, lines int) {
		t.Helper()
		b := wire.LogBatch{Sender: "all", ID: id, Groups: []wire.LogGroup{{Stream: wire.LogStream{Namespace: "shop", Pod: "cart-1", Stream: "stdout"}}}}
		for n := range lines {
			b.Groups[0].Lines = append(b.Groups[0].Lines, wire.LogLine{Time: at.Add(time.Duration(n)).UnixNano(), Message: "socks " + id})
		}
		if err := s.Append(context.Background(), "prod", &b); err != nil {
			t.Fatal(err)
		}
	}
	with := func(o *Options) { o.Lines, o.Databases = s, nil } // a database is copied each time
	today := time.Now().UTC().Truncate(24 * time.Hour)
	add("1", today.Add(-24*time.Hour), 2000)
	add("2", today, 3)
	first, _ := g.backup(with)
	add("3", today, 4)
	g.now = g.now.Add(time.Minute)
	second, p := g.backup(with)
	if p.Copied > p.Total*3/4 {
		t.Errorf("the lines of yesterday were copied again: %+v", p)
	}
	for id, want := range map[string]int{first.ID: 2003, second.ID: 2007} {
		data := filepath.Join(t.TempDir(), "data")
		if _, err := Restore(context.Background(), Folder(g.to), id, data, nil); err != nil {
			t.Fatal(err)
		}
		n := 0
		if err := open(filepath.Join(data, "logs")).Query(context.Background(), logs.Query{Text: "socks"}, func(logs.Row) error { n++; return nil }); err != nil || n != want {
			t.Errorf("%s: %d lines, want %d, %v", id, n, want, err)
		}
	}
	before := files(t, filepath.Join(g.to, linesDir))
	g.now = g.now.Add(time.Minute)
	last, _ := g.backup(func(o *Options) { o.Lines, o.Keep = s, 1 })
	if after := files(t, filepath.Join(g.to, linesDir)); after >= before {
		t.Errorf("%d files of lines, before %d", after, before)
	}
	if _, err := Restore(context.Background(), Folder(g.to), last.ID, filepath.Join(t.TempDir(), "data"), nil); err != nil {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(g.data, "*", snapshotDir)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func files(t *testing.T, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestAFolderMayBeNamedRelatively(t *testing.T) {
	g := newRig(t)
	g.add(t0, 3)
	t.Chdir(filepath.Dir(g.to))
	g.to = filepath.Base(g.to)
	g.backup(nil)
	if _, err := Restore(context.Background(), Folder(g.to), "", "restored", nil); err != nil {
		t.Fatal(err)
	}
	if samples, rows := holds(t, "restored"); samples != 3 || rows != 1 {
		t.Errorf("%d samples and %d rows", samples, rows)
	}
}

// taken ends something once blocks were taken over.
type taken struct {
	*metrics.DB
	end func()
}

func (b taken) ImportBlocks(ctx context.Context, dir string) error {
	defer b.end()
	return b.DB.ImportBlocks(ctx, dir)
}

// What came by the import way waits in logs until its cluster brings no more: that was acknowledged, too.
func TestSamplesThatWaitToBecomeBlocksComeBack(t *testing.T) {
	g := newRig(t)
	g.add(t0, 3)
	wait := func(data string, blocks history.Blocks, idle time.Duration) *history.Store {
		t.Helper()
		s, err := history.Open(history.Options{Dir: filepath.Join(data, "history"), Blocks: blocks, Idle: idle})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	past := wait(g.data, g.db, time.Hour)
	defer func() { _ = past.Close() }()
	bring := func(days int) {
		t.Helper()
		app := past.Appender(t.Context())
		if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "x", "cluster", "site"), t0.AddDate(0, 0, -days).UnixMilli(), 1); err != nil {
			t.Fatal(err)
		}
		if err := app.Commit(); err != nil {
			t.Fatal(err)
		}
	}
	withPast := func(o *Options) { o.Past = past }
	bring(10)
	bring(11)
	g.backup(withPast)
	bring(10) // what comes after one is in the next
	bring(12)
	g.now = g.now.Add(time.Minute)
	g.backup(withPast)
	if left, err := os.ReadDir(filepath.Join(g.data, "history", snapshotDir)); err == nil {
		t.Errorf("left %v", left)
	}

	all, err := List(t.Context(), Folder(g.to))
	if err != nil || len(all) != 2 {
		t.Fatal(all, err)
	}
	for n, m := range all {
		data := filepath.Join(t.TempDir(), "restored")
		if _, err := Restore(t.Context(), Folder(g.to), m.ID, data, nil); err != nil {
			t.Fatal(err)
		}
		db, err := metrics.Open(metrics.Options{Dir: filepath.Join(data, "metrics")})
		if err != nil {
			t.Fatal(err)
		}
		ctx, end := context.WithTimeout(t.Context(), 30*time.Second)
		defer end()
		restored := wait(data, taken{db, end}, time.Nanosecond)
		err = restored.Run(ctx)
		if err := errors.Join(err, restored.Close(), db.Close()); err != nil {
			t.Fatal(err)
		}
		if samples, _ := holds(t, data); samples != 3+2+n {
			t.Errorf("backup %d has %d samples", n, samples)
		}
	}
}

// Samples of other classes lie in stores of their own.
func TestClassesOfSamplesComeBack(t *testing.T) {
	g := newRig(t)
	g.add(t0, 3)
	raw, err := metrics.Open(metrics.Options{Dir: filepath.Join(g.data, "metrics-classes", "raw")})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = raw.Close() }()
	app := raw.Appender(context.Background())
	if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "x"), t0.UnixMilli(), 1); err != nil {
		t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	withClasses := func(o *Options) { o.Classes = func() map[string]Metrics { return map[string]Metrics{"raw": raw} } }
	g.backup(withClasses)
	g.now = g.now.Add(time.Minute)
	g.backup(func(o *Options) { withClasses(o); o.Keep = 1 }) // the blocks of both stay
	data := filepath.Join(t.TempDir(), "restored")
	if _, err := Restore(context.Background(), Folder(g.to), "", data, nil); err != nil {
		t.Fatal(err)
	}
	if samples, rows := holds(t, data); samples != 3 || rows != 1 {
		t.Errorf("%d samples and %d rows", samples, rows)
	}
	if err := os.Rename(filepath.Join(data, "metrics-classes", "raw"), filepath.Join(data, "other")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(data, "metrics")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(data, "other"), filepath.Join(data, "metrics")); err != nil {
		t.Fatal(err)
	}
	if samples, _ := holds(t, data); samples != 1 {
		t.Errorf("%d samples of the class", samples)
	}
	if left, err := filepath.Glob(filepath.Join(g.data, "metrics-classes", "*", snapshotDir)); err != nil || len(left) != 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestInterruptedOnesGoOn(t *testing.T) {
	g := newRig(t)
	for n := range 4 {
		g.add(t0.Add(time.Duration(-40+10*n)*time.Hour), 10)
	}
	whole, _ := g.backup(func(o *Options) { o.To = Folder(filepath.Join(t.TempDir(), "whole")) })
	interrupt := func(f func(ctx context.Context, p func(Progress)) error) {
		t.Helper()
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		n := 0
		err := f(ctx, func(p Progress) {
			if p.Copied > 0 && (p.Step == "samples" || p.Step == "copying") {
				if n++; n == 4 {
					cancel()
				}
			}
		})
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("got %v", err)
		}
	}
	interrupt(func(ctx context.Context, p func(Progress)) error {
		o := g.options()
		o.Progress = p
		_, err := Create(ctx, o)
		return err
	})
	if all, err := List(t.Context(), Folder(g.to)); err != nil || len(all) != 0 {
		t.Fatalf("%d backups, %v", len(all), err)
	}
	g.now = g.now.Add(time.Minute)
	m, p := g.backup(nil)
	if len(m.Files) != len(whole.Files) {
		t.Errorf("%d files, whole %d", len(m.Files), len(whole.Files))
	}
	if p.Copied >= p.Total {
		t.Errorf("everything was copied again: %+v", p)
	}
	data := filepath.Join(t.TempDir(), "data")
	interrupt(func(ctx context.Context, p func(Progress)) error {
		_, err := Restore(ctx, Folder(g.to), "", data, p)
		return err
	})
	if id, yes := Unfinished(data); !yes || id != m.ID {
		t.Errorf("unfinished %q, %v", id, yes)
	}
	if _, err := Restore(context.Background(), Folder(g.to), m.ID, data, func(at Progress) { p = at }); err != nil || p.Copied >= p.Total {
		t.Errorf("%v, %+v", err, p)
	}
	if samples, _ := holds(t, data); samples != 40 {
		t.Errorf("%d samples", samples)
	}
	if _, yes := Unfinished(data); yes {
		t.Error("still marked")
	}
}

func TestDamagedBackupIsFound(t *testing.T) {
	g := newRig(t)
	g.add(t0, 50)
	m, _ := g.backup(nil)
	for _, f := range m.Files {
		path := filepath.Join(g.to, filepath.FromSlash(keyOf(ownDir(m.ID), f)))
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		broken := append([]byte{}, raw...)
		broken[len(broken)/2] ^= 1
		if err := os.WriteFile(path, broken, 0o600); err != nil {
			t.Fatal(err)
		}
		data := filepath.Join(t.TempDir(), "data")
		if _, err := Restore(context.Background(), Folder(g.to), "", data, nil); !errors.Is(err, fault.ErrInvalid) || !strings.Contains(err.Error(), f.Path) {
			t.Errorf("%s: %v", f.Path, err)
		}
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := Restore(context.Background(), Folder(g.to), "other", t.TempDir(), nil); !errors.Is(err, fault.ErrNotFound) || !strings.Contains(err.Error(), m.ID) {
		t.Errorf("got %v", err)
	}
	if _, err := Restore(context.Background(), Folder(t.TempDir()), "", t.TempDir(), nil); !errors.Is(err, fault.ErrNotFound) {
		t.Errorf("got %v", err)
	}
	manifest := filepath.Join(g.to, backupsDir, m.ID, manifestFile)
	for name, text := range map[string]string{
		"newer": `{"format": 2}`, "no JSON": `{`, "outside": `{"format":1,"id":"` + m.ID + `","files":[{"path":"../../etc/passwd"}]}`,
		"no ID": `{"format":1}`, "an ID outside": `{"format":1,"id":"../.."}`, "another's ID": `{"format":1,"id":"20261122T100000.000Z"}`,
	} {
		if err := os.WriteFile(manifest, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := List(t.Context(), Folder(g.to)); err == nil {
			t.Errorf("%s was taken", name)
		}
		if err := Folder(g.to).prune(t.Context(), 0); err == nil {
			t.Errorf("%s: something was removed by it", name)
		}
	}
}

// FuzzManifest: whatever a damaged disk, or a bucket, has for a manifest, nothing outside
// the place of backups is read or removed by it, nor written outside the data folder.
func FuzzManifest(f *testing.F) {
	sum := strings.Repeat("0", 64)
	f.Add([]byte(`{"format":1,"id":"a","files":[{"path":"metrics/01ABC/index","bytes":1,"sha256":"` + sum + `"},{"path":"logs/x","sha256":"` + sum + `"}]}`))
	f.Add([]byte(`{"format":1,"id":"a","files":[{"path":"metrics-classes/c/../../../x","sha256":"` + sum + `"},{"path":"metrics/../..","sha256":""}]}`))
	f.Add([]byte(`{"format":1,"id":"../a","files":null}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		m, err := parseManifest(raw, "here", "a")
		if err != nil {
			return
		}
		if m.ID != "a" {
			t.Errorf("the ID %q is taken", m.ID)
		}
		for _, one := range m.Files {
			if key := keyOf(ownDir(m.ID), one); !filepath.IsLocal(key) || !filepath.IsLocal(one.Path) {
				t.Errorf("%q lies at %q", one.Path, key)
			}
		}
		divide([]*Manifest{m, m}, 1)
	})
}

func TestRunnerMakesOneAtATime(t *testing.T) {
	g := newRig(t)
	g.add(t0, 5)
	r := NewRunner(g.options(), slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err := r.Begin(); err != nil {
		t.Fatal(err)
	}
	if err := r.Begin(); !errors.Is(err, fault.ErrConflict) || !r.Status().Running {
		t.Errorf("a second one: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	for deadline := time.Now().Add(60 * time.Second); r.Status().Running; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("not within 20 s")
		}
	}
	if st := r.Status(); st.Error != "" || st.ID == "" {
		t.Errorf("status %+v", st)
	}
	if all, err := r.List(t.Context()); err != nil || len(all) != 1 {
		t.Errorf("%d backups, %v", len(all), err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	none := NewRunner(Options{}, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err := none.Begin(); !errors.Is(err, fault.ErrInvalid) {
		t.Errorf("without a folder: %v", err)
	}
	if _, err := Create(context.Background(), Options{Keep: -1}); err == nil || fmt.Sprint(err) == "" {
		t.Error("options that make no sense were taken")
	}
}
