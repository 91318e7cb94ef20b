package logs

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func TestWatermarksAreKeptOverARestart(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir)
	now := time.Now()
	mark := func(cluster, id string, marks ...wire.LogMark) {
		t.Helper()
		if err := s.Append(t.Context(), cluster, &wire.LogBatch{Sender: "node/n1", ID: id, Complete: marks}); err != nil {
			t.Fatal(err)
		}
	}
	mark("prod", "1", wire.LogMark{Node: "n1", Through: now.Add(-time.Minute).UnixNano()}, wire.LogMark{Through: now.Add(-time.Hour).UnixNano()})
	mark("prod", "2", wire.LogMark{Node: "n1", Through: now.Add(-time.Hour).UnixNano()}) // late: it does not go back
	mark("edge", "1", wire.LogMark{Node: "n1", Through: now.Add(time.Hour).UnixNano()})  // its clock runs ahead
	check := func() {
		t.Helper()
		got := s.Watermarks("prod")
		if len(got) != 2 || got[0].Node != "" || got[1].Node != "n1" || !got[1].CompleteThrough.Equal(now.Add(-time.Minute)) || got[1].SeenAt.Before(now.Add(-time.Second)) {
			t.Errorf("got %+v", got)
		}
		if got := s.Watermarks("edge"); len(got) != 1 || got[0].CompleteThrough.After(time.Now()) {
			t.Errorf("got %+v", got)
		}
	}
	check()
	if got := s.Watermarks("unknown"); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, watermarksFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir)
	if got := s.Watermarks("prod"); len(got) != 0 {
		t.Errorf("from a broken file: %+v", got)
	}
}
