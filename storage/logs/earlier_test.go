package logs

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// earlierBatches are what testdata/v1.43.1.tar.gz has: a store's folder that VictoriaLogs
// v1.43.1 wrote, of two days and two clusters. When it was closed a task to delete
// "gone" had been noted, and had not begun.
func earlierBatches() []*wire.LogBatch {
	var out []*wire.LogBatch
	for n := range 2 {
		b := batch(fmt.Sprint("earlier-", n), time.Date(2026, 11, 24+n, 12, 0, 0, 0, time.UTC))
		for i := range 300 {
			at := time.Date(2026, 11, 24+n, 12, 0, i, n, time.UTC)
			b.Groups[0].Lines = append(b.Groups[0].Lines, wire.LogLine{Time: at.UnixNano(), Message: fmt.Sprintf("line %d of day %d", i, n), Fields: wire.LogFields{
				{Name: "at", Value: at.Add(-time.Second).Format(time.RFC3339Nano)}, // a field for each way in which the library keeps values
				{Name: "const", Value: "always"},
				{Name: "float", Value: fmt.Sprintf("%d.25", i)},
				{Name: "int", Value: fmt.Sprint(i - 150)},
				{Name: "ip", Value: fmt.Sprintf("10.0.%d.%d", i/256, i%256)},
				{Name: "level", Value: []string{"info", "warn", "error"}[i%3]},
				{Name: "text", Value: fmt.Sprintf("%x-%o", i*7919, i)},
				{Name: "uint16", Value: fmt.Sprint(i * 100)},
				{Name: "uint32", Value: fmt.Sprint(i * 1_000_000)},
				{Name: "uint64", Value: fmt.Sprint(i * 1_000_000_000_000)},
				{Name: "uint8", Value: fmt.Sprint(i % 200)},
			}})
		}
		out = append(out, b)
	}
	return out
}

func TestAFolderOfAnEarlierVersionIsOpened(t *testing.T) {
	dir := t.TempDir()
	unpack(t, filepath.Join("testdata", "v1.43.1.tar.gz"), dir)
	reopen := func() *Store {
		return open(t, dir, func(o *Options) { o.Retention = 50 * 365 * day })
	}
	s := reopen()
	holds := func(s *Store) {
		t.Helper()
		for _, b := range earlierBatches() {
			for _, l := range b.Groups[0].Lines {
				want := Row{}
				filter := ""
				for _, f := range l.Fields {
					want = append(want, Field{Name: f.Name, Value: f.Value})
					filter += fmt.Sprintf(" %s:=%q", f.Name, f.Value)
				}
				got := rows(t, s, Query{Text: `{namespace="shop",pod="cart-1"} ` + filter, Clusters: []string{"prod"}})
				if len(got) != 1 || got[0].Get("_msg") != l.Message || got[0].Get("_time") != time.Unix(0, l.Time).UTC().Format(time.RFC3339Nano) || got[0].Get("node") != "n-1" {
					t.Fatalf("%q: got %v", l.Message, got)
				}
				for _, f := range want {
					if got[0].Get(f.Name) != f.Value {
						t.Fatalf("%q: %s is %q, want %q", l.Message, f.Name, got[0].Get(f.Name), f.Value)
					}
				}
			}
		}
	}
	holds(s)
	for text, want := range map[string]string{
		"uint16:<1000": "20", "int:<0": "300", "float:>100": "400", "ip:ipv4_range(10.0.1.0/24)": "88", `at:~"T11:59:59"`: "2", "line*": "600", "level:error": "200",
	} {
		if got := rows(t, s, Query{Text: text + " | stats count() n", Clusters: []string{"prod"}}); len(got) != 1 || got[0].Get("n") != want {
			t.Errorf("%s: %v, want %s", text, got, want)
		}
	}
	// What came before is known, and not stored again.
	for _, b := range earlierBatches() {
		appendOK(t, s, "prod", b)
	}
	if got := count(t, s, "prod"); got != 600 {
		t.Errorf("%d lines after the same batches came again, want 600", got)
	}
	// What is written now is merged with what was.
	later := batch("later", time.Date(2026, 11, 24, 13, 0, 0, 0, time.UTC), "new", "newer")
	appendOK(t, s, "prod", later)
	s.lib.MustForceMerge("")
	holds(s)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		if busy, err := s.Deleting(t.Context()); err != nil || time.Now().After(deadline) {
			t.Fatalf("the deletion that had been noted: busy %v, %v", busy, err)
		} else if !busy {
			break
		}
	}
	if got := count(t, s, "gone"); got != 0 {
		t.Errorf("%d lines of a cluster that was deleted", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = reopen()
	holds(s)
	if got := count(t, s, "prod"); got != 602 {
		t.Errorf("%d lines in the end, want 602", got)
	}
}

func unpack(t *testing.T, from, to string) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(to, h.Name)
		if h.Typeflag == tar.TypeDir {
			if err := os.MkdirAll(path, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		raw, err := io.ReadAll(r)
		if err == nil {
			err = os.WriteFile(path, raw, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
