package reserve

import (
	"os"
	"path/filepath"
	"testing"
)

func TestReserve(t *testing.T) {
	path := filepath.Join(t.TempDir(), "reserve")
	if err := LetGo(path); err != nil {
		t.Errorf("nothing to let go: %v", err)
	}
	if err := Take(path, 4096); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Size() != 4096 {
		t.Errorf("held %v, %v", info, err)
	}
	if err := LetGo(path); err != nil {
		t.Error(err)
	}
	if err := Take(path, 1<<60); err == nil {
		t.Error("more was held than any disk has")
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Errorf("a file was left (%v)", err)
	}
}
