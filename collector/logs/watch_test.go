package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// happened gives what a watch tells, without the run that waits for it.
func happened(w *watch) (paths []string, masks map[string]uint32, missed bool) {
	masks = map[string]uint32{}
	missed = w.take(func(path string, mask uint32) {
		if masks[path] |= mask; !slices.Contains(paths, path) {
			paths = append(paths, path)
		}
	})
	slices.Sort(paths)
	return paths, masks, missed
}

func startWatch(t *testing.T) *watch {
	t.Helper()
	w, err := newWatch()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.close)
	return w
}

func put(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestWatchTellsWritesOfAFolderUnlessHushed(t *testing.T) {
	w, dir := startWatch(t), t.TempDir()
	file, other := filepath.Join(dir, "0.log"), filepath.Join(dir, "1.log")
	put(t, file, "")
	if err := w.add(dir, false); err != nil {
		t.Fatal(err)
	}
	put(t, file, "a line\n")
	if paths, masks, missed := happened(w); !slices.Equal(paths, []string{dir}) || masks[dir] != unix.IN_MODIFY || missed {
		t.Errorf("a write is told as %v, %x, missed %v", paths, masks, missed)
	}
	if err := w.add(dir, true); err != nil {
		t.Fatal(err)
	}
	put(t, file, "a line\n")
	if paths, _, _ := happened(w); len(paths) > 0 {
		t.Errorf("of a hushed folder, writes are told: %v", paths)
	}
	if err := os.Rename(file, other); err != nil {
		t.Fatal(err)
	}
	put(t, file, "a line\n")
	if paths, masks, _ := happened(w); !slices.Equal(paths, []string{file, other}) || masks[file] != unix.IN_MOVED_FROM|unix.IN_CREATE || masks[other] != unix.IN_MOVED_TO {
		t.Errorf("of a hushed folder, a rotation is told as %v, %x", paths, masks)
	}
	if err := w.add(dir, false); err != nil {
		t.Fatal(err)
	}
	put(t, file, "a line\n")
	if paths, _, _ := happened(w); !slices.Equal(paths, []string{dir}) {
		t.Errorf("of a folder that is hushed no more, a write is told as %v", paths)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, masks, _ := happened(w); masks[dir]&unix.IN_DELETE_SELF == 0 || len(w.dirs) > 0 {
		t.Errorf("a deleted folder is told as %x, and is still known: %v", masks, w.dirs)
	}
	if err := w.add(dir, false); err == nil {
		t.Error("a folder that is not there is watched")
	}
}

// What comes beyond the kernel's room is missed, and that is told.
func TestWatchTellsThatItMissedSomething(t *testing.T) {
	w, dir := startWatch(t), t.TempDir()
	if err := w.add(dir, false); err != nil {
		t.Fatal(err)
	}
	a, err := os.Create(filepath.Join(dir, "0.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b, err := os.Create(filepath.Join(dir, "1.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	raw, err := os.ReadFile("/proc/sys/fs/inotify/max_queued_events")
	if err != nil {
		t.Fatal(err)
	}
	room, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || room > 1<<18 {
		t.Skipf("room for %d events, %v", room, err)
	}
	for i := range room + 10 { // in turns: the same once more is one event
		if _, err := [2]*os.File{a, b}[i%2].WriteString("\n"); err != nil {
			t.Fatal(err)
		}
	}
	missed := false
	for range 100 {
		if _, _, more := happened(w); more {
			missed = true
		}
	}
	if !missed {
		t.Error("it is not told that events were missed")
	}
	put(t, filepath.Join(dir, "0.log"), "a line\n")
	if paths, _, missed := happened(w); !slices.Equal(paths, []string{dir}) || missed {
		t.Errorf("after that, a write is told as %v, missed %v", paths, missed)
	}
}

// A container that is written to all the time is looked at without being told of, and
// is told of again once it is quiet; nothing that is written between is left.
func TestFilesLookAtBusyContainersInTheirOwnTime(t *testing.T) {
	tr, now := newTree(t), time.Unix(1_800_000_000, 0)
	tr.write("0.log", 0)
	// Writes that nothing comes between are one event.
	between := filepath.Join(tr.root, "shop_cart-2_uid-2", "app")
	if err := os.MkdirAll(between, 0o755); err != nil {
		t.Fatal(err)
	}
	o := tr.options()
	o.Now = func() time.Time { return now }
	f, err := NewFiles(o)
	if err != nil {
		t.Fatal(err)
	}
	f.watch = startWatch(t)
	f.scanRoot()
	f.started = true
	c, b, total := f.containers[tr.dir], newBatch[filePos](o.Sender), 0
	write := func(lines int) {
		for range lines {
			tr.write("0.log", 1)
			put(t, filepath.Join(between, fmt.Sprint("note-", total)), "")
			total++
		}
	}
	look := func(hushed bool) {
		t.Helper()
		if f.look(now) {
			t.Fatal("events were missed")
		}
		if c.hushed != hushed {
			t.Fatalf("hushed is %v", c.hushed)
		}
		f.fill(b)
		now = now.Add(o.Rules.Join.Hold)
		c.dirty = true // a record has waited for further lines
		f.fill(b)
		if b.lines != total {
			t.Fatalf("%d of %d lines were read", b.lines, total)
		}
	}
	write(busyWrites - 1)
	look(false)
	write(busyWrites)
	look(true)
	write(1) // of which no event tells
	look(true)
	write(100)
	now = now.Add(quietFor - time.Second)
	look(true)
	now = now.Add(quietFor + time.Millisecond)
	write(1) // before inotify tells of it again
	look(false)
	write(1)
	look(false)
	write(busyWrites)
	look(true)
	tr.rename("0.log", "0.log.20261123-100000")
	write(1)
	now = now.Add(o.Grace)
	f.look(now)
	f.fill(b)
	now = now.Add(o.Grace) // the one before is read to its end
	look(true)
	for _, c := range f.order {
		for _, file := range c.files {
			file.close()
		}
	}
}
