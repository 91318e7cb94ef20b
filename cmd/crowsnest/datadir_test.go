package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// What a start on a full disk needs is let go by whoever takes the folder, and by nobody else.
func TestAStartLetsItsReserveGo(t *testing.T) {
	path := t.TempDir()
	first, err := openDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := first.reserve(); err != nil {
		t.Fatal(err)
	}
	reserve := filepath.Join(path, reserveFile)
	if info, err := os.Stat(reserve); err != nil || info.Size() != reserveBytes {
		t.Fatalf("reserved %v, %v", info, err)
	}
	if _, err := openDataDir(path); !errors.Is(err, fault.ErrConflict) {
		t.Errorf("taken twice: %v", err)
	}
	if _, err := os.Stat(reserve); err != nil {
		t.Errorf("somebody else let it go: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	second, err := openDataDir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = second.Close() }()
	if _, err := os.Stat(reserve); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is still there (%v)", err)
	}
}
