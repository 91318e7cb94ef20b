package main

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/procfs"
)

// Huge pages are asked for where the system gives them to who asks, and nowhere else.
func TestHugeOnAsking(t *testing.T) {
	for text, want := range map[string]bool{"always [madvise] never\n": true, "[always] madvise never\n": false, "always madvise [never]\n": false} {
		path := filepath.Join(t.TempDir(), "enabled")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := hugeOnAsking(path); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if hugeOnAsking(filepath.Join(t.TempDir(), "missing")) {
		t.Error("a system without them is asked")
	}
}

func TestTheHeapIsTheMappingsAroundAnAddress(t *testing.T) {
	maps := []*procfs.ProcMap{
		{StartAddr: 0x1000, EndAddr: 0x2000, Inode: 7},
		{StartAddr: 0x2000, EndAddr: 0x3000}, // adjoins a file and the heap
		{StartAddr: 0x3000, EndAddr: 0x4000},
		{StartAddr: 0x4000, EndAddr: 0x5000},
		{StartAddr: 0x6000, EndAddr: 0x7000}, // does not adjoin
	}
	if got := mappedAround(maps, 0x3abc); !slices.Equal(got, maps[1:4]) {
		t.Errorf("%d mappings", len(got))
	}
	if got := mappedAround(maps, 0x5000); got != nil {
		t.Errorf("%d mappings around a hole", len(got))
	}
}

// Where the kernel has huge pages, it says that the heap is to have them, also what comes
// later.
func TestTheHeapGetsHugePages(t *testing.T) {
	if _, err := os.Stat(hugeSetting); err != nil {
		t.Skip("this kernel has no huge pages")
	}
	var h hugePages
	var rooms [][]byte
	for range 3 {
		rooms = append(rooms, make([]byte, 96<<20))
		if err := h.give(); err != nil {
			t.Fatal(err)
		}
	}
	for i, room := range rooms {
		if flags := flagsOf(t, reflect.ValueOf(room).Pointer()); !slices.Contains(flags, "hg") {
			t.Errorf("flags of the mapping of room %d: %v", i, flags)
		}
	}
}

// A heap of which Go has given back a good part loses its huge pages: what the kernel fills
// of it is not Go's to give back any more.
func TestTheHeapHasHugePagesWhileItIsFull(t *testing.T) {
	for _, c := range []struct {
		heapSizes
		give, stay bool
	}{
		{heapSizes{live: 100 << 20, mapped: 200 << 20, limit: 1 << 30}, false, false}, // small
		{heapSizes{live: 2 << 30, mapped: 4 << 30, limit: 1 << 62}, true, true},
		{heapSizes{live: 2 << 30, returned: 400 << 20, mapped: 4 << 30, limit: 1 << 62}, false, true},
		{heapSizes{live: 2 << 30, returned: 600 << 20, mapped: 4 << 30, limit: 1 << 62}, false, false},
		{heapSizes{live: 2 << 30, mapped: 4 << 30, limit: 4<<30 - 1}, false, false}, // if all was there, it would be too much
	} {
		if give, stay := c.fit(); give != c.give || stay != c.stay {
			t.Errorf("%+v: give %v, stay %v", c.heapSizes, give, stay)
		}
	}
	if _, err := os.Stat(hugeSetting); err != nil {
		t.Skip("this kernel has no huge pages")
	}
	var h hugePages
	room := make([]byte, 96<<20)
	full, empty := heapSizes{live: 2 << 30, mapped: 4 << 30, limit: 1 << 62}, heapSizes{live: 2 << 30, returned: 2 << 30, mapped: 4 << 30, limit: 1 << 62}
	for _, step := range []struct {
		heapSizes
		flag string
	}{{full, "hg"}, {empty, "nh"}, {full, "hg"}} {
		if err := h.follow(step.heapSizes); err != nil {
			t.Fatal(err)
		}
		if flags := flagsOf(t, reflect.ValueOf(room).Pointer()); !slices.Contains(flags, step.flag) {
			t.Errorf("flags of the heap's mapping: %v, without %s", flags, step.flag)
		}
	}
}

// flagsOf gives the kernel's flags of the mapping of an address.
func flagsOf(t *testing.T, at uintptr) []string {
	t.Helper()
	f, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	in := false
	for s := bufio.NewScanner(f); s.Scan(); {
		var from, to uintptr
		if n, _ := fmt.Sscanf(s.Text(), "%x-%x ", &from, &to); n == 2 {
			in = from <= at && at < to
		}
		if flags, ok := strings.CutPrefix(s.Text(), "VmFlags:"); in && ok {
			return strings.Fields(flags)
		}
	}
	t.Fatal("the address is in no mapping")
	return nil
}
