package engine

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// whileRacing gives how many of something a test looks at: as many, but fewer under the
// race detector, by which the same code takes ten times as long. The random tests of one
// engine have one goroutine.
func whileRacing(fewer, many int) int {
	if racing {
		return fewer
	}
	return many
}

// tables is a database that is empty, as a file.
var tables = sync.OnceValues(func() (_ []byte, err error) {
	dir, err := os.MkdirTemp("", "crowsnest-engine-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	path := filepath.Join(dir, "meta.db")
	db, err := meta.OpenScratch(path)
	if err != nil {
		return nil, err
	}
	if err := db.Close(); err != nil {
		return nil, err
	}
	return os.ReadFile(path)
})

// database gives the path of a folder's database, with its tables: to make those in each
// test took longer than most tests do.
func database(t testing.TB, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "meta.db")
	if _, err := os.Stat(path); err == nil {
		return path
	}
	empty, err := tables()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, empty, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
