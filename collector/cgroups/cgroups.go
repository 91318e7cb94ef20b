// Package cgroups reads the cgroup files of a node's containers, and the network
// of their pods through /proc. It owns which path is whose, for cgroup v1 and
// v2, both drivers and the usual runtimes. It must not know the kubelet, nor
// what is computed of the readings.
package cgroups

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

const (
	// maxDepth bounds how far below the mount pods are looked for: kind nests a
	// kubelet's root three levels down, and pods lie three below that.
	maxDepth = 8
	// maxCgroups bounds what is read in one interval.
	maxCgroups = 10_000
	// maxFile bounds what is read of one file: memory.stat has some 1.5 KiB,
	// io.stat a line for each disk.
	maxFile = 64 << 10
)

// Options of a Source.
type Options struct {
	Node string           // required
	Root string           // where cgroups are mounted; default /sys/fs/cgroup
	Proc string           // default /proc
	Now  func() time.Time // default time.Now
}

// Source reads one node. Read must not be called concurrently with itself.
type Source struct {
	o   Options
	v2  bool
	buf []byte

	mu   sync.Mutex
	last *reading.Set
}

// New looks which version of cgroups the node has. Where there are none, or they
// are not mounted here, the error is fault.ErrNotFound.
func New(o Options) (*Source, error) {
	if o.Node == "" {
		return nil, errors.New("cgroups: Node is required")
	}
	if o.Root == "" {
		o.Root = "/sys/fs/cgroup"
	}
	if o.Proc == "" {
		o.Proc = "/proc"
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &Source{o: o, buf: make([]byte, maxFile)}
	if _, err := os.Stat(filepath.Join(o.Root, "cgroup.controllers")); err == nil {
		s.v2 = true
		return s, nil
	}
	for _, controller := range []string{"memory", "cpuacct"} {
		if _, err := os.Stat(filepath.Join(o.Root, controller)); err != nil {
			return nil, fmt.Errorf("open cgroups: %w: %s has neither cgroup v2 nor the controller %s of v1", fault.ErrNotFound, o.Root, controller)
		}
	}
	return s, nil
}

// Name of the source, for health and metrics.
func (s *Source) Name() string { return string(catalogue.Cgroups) }

// Read gives one set.
func (s *Source) Read(ctx context.Context, _ time.Time, _ *state.Snapshot) []reading.Set {
	began := s.o.Now()
	set := reading.Set{Node: s.o.Node, Source: catalogue.Cgroups, Containers: []reading.Container{}, Lacking: map[string]string{}}
	w := walk{s: s, ctx: ctx, set: &set, pods: map[string]int{}}
	base := s.o.Root
	if !s.v2 {
		base = filepath.Join(s.o.Root, "memory")
	}
	w.dir(base, "", 0)
	if ctx.Err() != nil {
		set.Err = ctx.Err()
	} else if w.seen >= maxCgroups {
		set.Err = fmt.Errorf("%w: more than %d cgroups", fault.ErrTooLarge, maxCgroups)
	}
	set.Took = s.o.Now().Sub(began)
	if hasDisk := slices.ContainsFunc(set.Containers, func(c reading.Container) bool { return c.FSReadBytes.OK() }); !hasDisk {
		for _, name := range catalogue.ContainerDisk {
			set.Lacking[name] = catalogue.NoContainerDisk
		}
	}
	s.mu.Lock()
	s.last = &set
	s.mu.Unlock()
	return []reading.Set{set}
}

// Last gives what the last Read gave; nil before the first. It may be called
// concurrently with Read, and must not be changed.
func (s *Source) Last() *reading.Set {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// walk is one pass over the cgroups.
type walk struct {
	s    *Source
	ctx  context.Context
	set  *reading.Set
	pods map[string]int // place in set.Pods, by UID
	seen int
}

// dir looks at the folders below one that is no pod's. Only those are entered
// that may lead to pods: a node has many others.
func (w *walk) dir(base, path string, depth int) {
	if depth > maxDepth || w.ctx.Err() != nil {
		return
	}
	for _, name := range folders(filepath.Join(base, path)) {
		below := path + "/" + name
		uid, id := Of(below)
		switch {
		case w.seen >= maxCgroups:
			return
		case id != "":
			w.container(below, uid, id)
		case uid != "":
			w.pod(below, uid)
			w.dir(base, below, depth+1)
		case leads(below, name):
			w.dir(base, below, depth+1)
		}
	}
}

// leads says whether pods may lie below a folder.
func leads(path, name string) bool {
	if strings.Contains(path, "kubepods") || strings.HasPrefix(name, "kubelet") {
		return true
	}
	switch name {
	case "docker", "docker.slice", "system.slice", "containerd.service":
		return true // a node that is itself a container
	}
	return isID(name) || strings.HasPrefix(name, "docker-")
}

func folders(dir string) []string {
	f, err := os.Open(dir)
	if err != nil {
		return nil
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil
	}
	var out []string
	for _, e := range entries {
		if e.IsDir() {
			out = append(out, e.Name())
		}
	}
	return out
}

func (w *walk) pod(path, uid string) {
	w.seen++
	if _, known := w.pods[uid]; known {
		return // a second folder of the same pod: the first counts
	}
	w.pods[uid] = len(w.set.Pods)
	p := reading.Pod{UID: uid}
	if w.s.v2 {
		p.CPUSeconds = w.s.of(1e-6)(w.s.field(path, "cpu.stat", "usage_usec"))
	} else {
		p.CPUSeconds = w.s.of(1e-9)(w.s.whole("cpuacct"+path, "cpuacct.usage"))
	}
	w.set.Pods = append(w.set.Pods, p)
}

func (w *walk) container(path, uid, id string) {
	w.seen++
	s := w.s
	c := reading.Container{PodUID: uid, ID: id}
	if s.v2 {
		s.containerV2(path, &c)
	} else {
		s.containerV1(path, &c)
	}
	w.set.Containers = append(w.set.Containers, c)
	if i, ok := w.pods[uid]; ok && !w.set.Pods[i].ReceiveBytes.OK() {
		dir := path
		if !s.v2 {
			dir = "memory" + path
		}
		s.network(dir, &w.set.Pods[i])
	}
}

func (s *Source) containerV2(path string, c *reading.Container) {
	stat := s.read(path, "cpu.stat")
	c.CPUSeconds = s.of(1e-6)(find(stat, "usage_usec"))
	if n, ok := find(stat, "nr_periods"); ok && n > 0 {
		c.Periods, c.Throttled = s.of(1)(n, ok), s.of(1)(find(stat, "nr_throttled"))
	}
	c.UsageBytes = s.of(1)(s.whole(path, "memory.current"))
	c.WorkingSetBytes = s.workingSet(c.UsageBytes, path, "inactive_file")
	c.OOMKills = s.of(1)(s.field(path, "memory.events", "oom_kill"))
	c.PIDs = s.of(1)(s.whole(path, "pids.current"))
	if io := s.read(path, "io.stat"); io != nil {
		c.FSReadBytes, c.FSWriteBytes = s.of(1)(sum(io, "rbytes=")), s.of(1)(sum(io, "wbytes="))
		c.FSReads, c.FSWrites = s.of(1)(sum(io, "rios=")), s.of(1)(sum(io, "wios="))
	}
}

// containerV1 leaves out block devices: v1 does not attribute buffered writes.
func (s *Source) containerV1(path string, c *reading.Container) {
	c.CPUSeconds = s.of(1e-9)(s.whole("cpuacct"+path, "cpuacct.usage"))
	if stat := s.read("cpu"+path, "cpu.stat"); stat != nil {
		if n, ok := find(stat, "nr_periods"); ok && n > 0 {
			c.Periods, c.Throttled = s.of(1)(n, ok), s.of(1)(find(stat, "nr_throttled"))
		}
	}
	c.UsageBytes = s.of(1)(s.whole("memory"+path, "memory.usage_in_bytes"))
	c.WorkingSetBytes = s.workingSet(c.UsageBytes, "memory"+path, "total_inactive_file")
	c.OOMKills = s.of(1)(s.field("memory"+path, "memory.oom_control", "oom_kill"))
	c.PIDs = s.of(1)(s.whole("pids"+path, "pids.current"))
}

// workingSet is usage without the part of the page cache that was not used
// lately, as the kubelet has it.
func (s *Source) workingSet(usage reading.Value, path, inactive string) reading.Value {
	v, ok := s.field(path, "memory.stat", inactive)
	if !ok || !usage.OK() {
		return reading.Value{}
	}
	return reading.Value{V: max(0, usage.V-v), At: usage.At}
}

// network reads the interfaces of the network namespace that a container's
// process is in, which is its pod's.
func (s *Source) network(path string, p *reading.Pod) {
	pid, _, _ := bytes.Cut(s.read(path, "cgroup.procs"), []byte{'\n'})
	if _, err := strconv.ParseUint(string(pid), 10, 32); err != nil || string(pid) == "0" {
		return // it has no process, or none that this one's PID namespace shows
	}
	text := s.readFile(filepath.Join(s.o.Proc, string(pid), "net/dev"))
	var n [6]float64 // bytes, packets and trouble in; the same out
	found := false
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte{'\n'})
		name, rest, ok := bytes.Cut(line, []byte{':'})
		f := bytes.Fields(rest)
		if name = bytes.TrimSpace(name); !ok || len(f) < 12 || string(name) == "lo" {
			continue
		}
		for i, columns := range [6][]int{{0}, {1}, {2, 3}, {8}, {9}, {10, 11}} {
			for _, column := range columns {
				v, err := strconv.ParseUint(string(f[column]), 10, 64)
				if err != nil {
					return
				}
				n[i] += float64(v)
			}
		}
		found = true
	}
	if !found {
		return
	}
	at := s.o.Now()
	v := func(n float64) reading.Value { return reading.Value{V: n, At: at} }
	p.ReceiveBytes, p.ReceivePackets, p.TransmitBytes, p.TransmitPackets = v(n[0]), v(n[1]), v(n[3]), v(n[4])
	p.NetworkErrors = v(n[2] + n[5])
}

// of makes readings of now, of numbers in a unit.
func (s *Source) of(unit float64) func(n float64, ok bool) reading.Value {
	return func(n float64, ok bool) reading.Value {
		if !ok {
			return reading.Value{}
		}
		return reading.Value{V: n * unit, At: s.o.Now()}
	}
}

// read gives a cgroup's file; nil where it cannot be read. It is overwritten by
// the next one.
func (s *Source) read(path, name string) []byte {
	return s.readFile(filepath.Join(s.o.Root, path, name))
}

func (s *Source) readFile(path string) []byte {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	n := 0
	for n < len(s.buf) {
		m, err := f.Read(s.buf[n:])
		n += m
		if errors.Is(err, io.EOF) {
			return s.buf[:n]
		}
		if err != nil {
			return nil // the cgroup went
		}
	}
	return s.buf[:n]
}

// whole is a file that holds one number.
func (s *Source) whole(path, name string) (v float64, ok bool) {
	n, err := strconv.ParseUint(string(bytes.TrimSpace(s.read(path, name))), 10, 64)
	return float64(n), err == nil
}

// field is a number in a file of lines "name number".
func (s *Source) field(path, file, name string) (v float64, ok bool) {
	return find(s.read(path, file), name)
}

func find(text []byte, name string) (v float64, ok bool) {
	for len(text) > 0 {
		var line []byte
		line, text, _ = bytes.Cut(text, []byte{'\n'})
		if rest, ok := bytes.CutPrefix(line, []byte(name)); ok && len(rest) > 1 && rest[0] == ' ' {
			n, err := strconv.ParseUint(string(bytes.TrimSpace(rest)), 10, 64)
			return float64(n), err == nil
		}
	}
	return 0, false
}

// sum adds up a figure over the devices of io.stat: "8:0 rbytes=1 wbytes=2 …".
// A file without a line is that of a container that did no I/O yet.
func sum(text []byte, name string) (v float64, ok bool) {
	for rest := text; ; {
		i := bytes.Index(rest, []byte(name))
		if i < 0 {
			return v, true
		}
		first := i == 0 || rest[i-1] == ' '
		rest = rest[i+len(name):]
		end := bytes.IndexAny(rest, " \n")
		if end < 0 {
			end = len(rest)
		}
		if n, err := strconv.ParseUint(string(rest[:end]), 10, 64); err == nil && first {
			v += float64(n)
		}
	}
}
