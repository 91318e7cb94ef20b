package metrics

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Where a chunk cannot be written, the TSDB panics with the lock of a series held, in the midst of a
// commit that is logged. Requests recover from that, but whoever needs the series would wait for ever,
// a compaction first, and all commits for that.
func TestACommitThatPanicsEndsTheProcess(t *testing.T) {
	const child, goesOn = "CROWSNEST_TEST_COMMIT_PANICS", "it goes on"
	if dir := os.Getenv(child); dir != "" {
		commitWithoutChunks(t, dir)
		fmt.Println(goesOn)
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=1m")
	cmd.Env = append(os.Environ(), child+"="+t.TempDir())
	out, err := cmd.CombinedOutput()
	if said := string(out); err == nil || !strings.Contains(said, "a commit panicked: ") || strings.Contains(said, goesOn) {
		t.Errorf("it ended with %v:\n%s", err, out)
	}
}

// commitWithoutChunks recovers from a commit that finds no place for chunks.
func commitWithoutChunks(t *testing.T, dir string) {
	db, err := Open(Options{Dir: dir, MinFreeBytes: 1, Now: func() time.Time { return t0 }})
	if err != nil {
		t.Fatal(err)
	}
	files := filepath.Join(dir, "chunks_head")
	if err := os.Rename(files, files+".aside"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(files, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	put(t, db, numbered("x", 0), t0, 1)
	app := db.Appender(t.Context())
	for n := range 100 { // a chunk of late samples has 32
		if _, err := app.Append(0, numbered("x", 0), t0.Add(time.Duration(n-1000)*time.Minute).UnixMilli(), 1); err != nil {
			t.Fatal(err)
		}
	}
	defer func() { _ = recover() }()
	t.Log("committed:", app.Commit())
}
