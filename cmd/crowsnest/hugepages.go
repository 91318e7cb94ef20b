package main

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// A large heap is looked for all over: by the collector, and for each sample of a
// series. With pages of 4 KiB most of these looks miss the processor's table of pages, which
// was 30 % of the collector's time and a quarter of a random read's. Go leaves it to the
// system whether a heap has pages of 2 MiB; on most it has none that it does not ask for.
const (
	// hugeFrom so many live bytes a heap has them. Of a smaller one what is free within
	// such a page would matter.
	hugeFrom = 256 << 20

	hugeSetting = "/sys/kernel/mm/transparent_hugepage/enabled"

	// The kernel fills such a page, also where Go has given parts of it back, which neither
	// Go's memory limit nor the user sees. So a heap of which Go has given back more than an
	// eighth loses them, and has them again below a sixteenth.
	hugeUntil = 8
	hugeAgain = 16
)

// hugeOnAsking tells whether programs get huge pages, but only those that they ask for.
func hugeOnAsking(setting string) bool {
	raw, err := os.ReadFile(setting)
	return err == nil && strings.Contains(string(raw), "[madvise]")
}

// hugePages gives a heap huge pages as it grows.
type hugePages struct {
	given []*procfs.ProcMap // mappings that have them
}

// heapSizes are what decides whether a heap has them, in bytes.
type heapSizes struct {
	live     uint64 // at the last collection
	returned uint64 // of what is mapped, to the system
	mapped   uint64 // by Go, for whatever
	limit    uint64 // Go's
}

// fit says whether huge pages may be given, and whether those that were given may stay.
// Were all that is mapped resident, it would still be within the limit.
func (s heapSizes) fit() (give, stay bool) {
	if s.live < hugeFrom || s.mapped > s.limit {
		return false, false
	}
	return s.returned <= s.mapped/hugeAgain, s.returned <= s.mapped/hugeUntil
}

// follow gives the heap huge pages, or takes them away, by its sizes.
func (h *hugePages) follow(s heapSizes) error {
	give, stay := s.fit()
	switch {
	case give:
		return h.give()
	case !stay && len(h.given) > 0:
		return h.take()
	}
	return nil
}

// give has the kernel put what is mapped of the heap since the last time into huge pages,
// and what will be in such from the start.
func (h *hugePages) give() error {
	heap, err := mappedHeap()
	if err != nil {
		return err
	}
	for _, m := range heap {
		// Mappings that have them are never one with those that have not.
		if slices.ContainsFunc(h.given, func(g *procfs.ProcMap) bool { return g.StartAddr < m.EndAddr && m.StartAddr < g.EndAddr }) {
			continue
		}
		if err := advise(m, unix.MADV_HUGEPAGE); err != nil {
			return err
		}
		// Pages that are there would wait for a scan by the kernel that takes hours. It
		// may find no room for one or the other, and older ones do not know how.
		_ = advise(m, unix.MADV_COLLAPSE)
	}
	h.given = heap
	return nil
}

// take has the kernel keep small pages small, and what Go gives back given back.
func (h *hugePages) take() error {
	h.given = nil
	heap, err := mappedHeap()
	for _, m := range heap {
		err = errors.Join(err, advise(m, unix.MADV_NOHUGEPAGE))
	}
	return err
}

// mappedHeap gives what is mapped of the heap, without what is kept for later.
func mappedHeap() ([]*procfs.ProcMap, error) {
	self, err := procfs.Self()
	if err != nil {
		return nil, err
	}
	maps, err := self.ProcMaps()
	if err != nil {
		return nil, fmt.Errorf("read mappings: %w", err)
	}
	heap := mappedAround(maps, reflect.ValueOf(new([1 << 10]byte)).Pointer())
	if len(heap) == 0 {
		return nil, errors.New("the heap is not among the mappings")
	}
	return slices.DeleteFunc(slices.Clone(heap), func(m *procfs.ProcMap) bool { return !m.Perms.Write }), nil
}

func advise(m *procfs.ProcMap, advice uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.StartAddr, m.EndAddr-m.StartAddr, advice); errno != 0 {
		return fmt.Errorf("advise on %d MiB of the heap: %w", (m.EndAddr-m.StartAddr)>>20, errno)
	}
	return nil
}

// mappedAround gives the mapping of an address and what adjoins it, of no file. A heap is
// several: what has huge pages, what has none yet, and what is kept for later.
func mappedAround(maps []*procfs.ProcMap, at uintptr) []*procfs.ProcMap {
	first := slices.IndexFunc(maps, func(m *procfs.ProcMap) bool { return m.StartAddr <= at && at < m.EndAddr })
	if first < 0 {
		return nil
	}
	last := first
	for first > 0 && maps[first-1].Inode == 0 && maps[first-1].EndAddr == maps[first].StartAddr {
		first--
	}
	for last+1 < len(maps) && maps[last+1].Inode == 0 && maps[last+1].StartAddr == maps[last].EndAddr {
		last++
	}
	return maps[first : last+1]
}
