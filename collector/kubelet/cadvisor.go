package kubelet

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"regexp"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/crowsnest-dev/crowsnest/collector/cgroups"
	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// family is one of the metrics of /metrics/cadvisor that is needed.
type family uint8

const (
	cpuSeconds family = iota
	workingSet
	usage
	received
	transmitted
	packetsReceived
	packetsTransmitted
	networkTrouble
	fsReads
	fsWrites
	fsReadTimes
	fsWriteTimes
	periods
	throttled
	oomEvents
	processes
	startTime
	needless // a series of a family that is needed, but not itself
)

// of the name behind "container_".
var families = map[string]family{
	"cpu_usage_seconds_total":                cpuSeconds,
	"memory_working_set_bytes":               workingSet,
	"memory_usage_bytes":                     usage,
	"network_receive_bytes_total":            received,
	"network_transmit_bytes_total":           transmitted,
	"network_receive_packets_total":          packetsReceived,
	"network_transmit_packets_total":         packetsTransmitted,
	"network_receive_errors_total":           networkTrouble,
	"network_transmit_errors_total":          networkTrouble,
	"network_receive_packets_dropped_total":  networkTrouble,
	"network_transmit_packets_dropped_total": networkTrouble,
	"fs_reads_bytes_total":                   fsReads,
	"fs_writes_bytes_total":                  fsWrites,
	"fs_reads_total":                         fsReadTimes,
	"fs_writes_total":                        fsWriteTimes,
	"cpu_cfs_periods_total":                  periods,
	"cpu_cfs_throttled_periods_total":        throttled,
	"oom_events_total":                       oomEvents,
	"processes":                              processes,
	"start_time_seconds":                     startTime,
}

const (
	// maxLine bounds a line of exposition text.
	maxLine = 64 << 10
	// maxSeries bounds the series that are remembered of one kubelet: 110 pods
	// have some 5,000 of the needed families. maxPodSeries bounds those of one pod: one
	// of 64 containers has fewer than 4,000. maxGroupSeries bounds those of one cgroup,
	// of which processors, devices and interfaces have some each, so that a sandbox with
	// too many leaves the pod's containers their room. The node itself, whose
	// interfaces are all that there are, has a pod's.
	maxSeries      = 50_000
	maxPodSeries   = 5_000
	maxGroupSeries = 1_000
	// forgetAfter is after how many answers without it a series is forgotten.
	forgetAfter = 4
)

// Reasons for which a line of an answer is left out.
const (
	refusedLong      = "long_line"
	refusedMalformed = "malformed_line"
	refusedNumber    = "not_a_number"
	refusedNegative  = "negative"
	refusedMany      = "too_many_series"
)

// refusals lists every reason.
var refusals = []string{refusedLong, refusedMalformed, refusedNumber, refusedNegative, refusedMany}

// room bounds what is kept of one answer. What the API server does not know has half
// of it, so that whatever else an answer tells of, what runs finds its place.
type room struct {
	most    int
	knows   func(uid, namespace, pod string) bool // nil: everything is known
	refused map[string]int                        // by reason
}

// takes says whether there is room beside what is kept, and counts what is refused.
func (r room) takes(kept int, uid, namespace, pod string) bool {
	if kept < r.most/2 || kept < r.most && (r.knows == nil || r.knows(uid, namespace, pod)) {
		return true
	}
	r.refused[refusedMany]++
	return false
}

// cgroup is what cAdvisor tells of one cgroup.
type cgroup struct {
	path, of                  string // what it counts under in cadvisor.held: itself, and its pod
	uid, id                   string // from the path; empty outside of pods
	namespace, pod, container string // from labels
	name                      string // the runtime's name, which is the ID with CRI runtimes
	root                      bool   // the node itself
	pass                      uint64 // of the answer that its figures are of
	figures
}

type figures struct {
	started                      float64
	cpu, memory, usage           reading.Value
	byCPU                        bool // cpu is a sum over processors, for want of a total
	fsRead, fsWrite              reading.Value
	fsReads, fsWrites            reading.Value
	periods, throttled           reading.Value
	oom, pids                    reading.Value
	in, out                      reading.Value // all interfaces but lo; of the node, its own
	packetsIn, packetsOut, wrong reading.Value
}

// whole leaves of an answer that broke off, or told more than fits, what stands on one line. A sum over
// devices, interfaces or processors of which some lines are missing is no counter:
// when all of them come again, it has grown by all that the missing ones ever counted.
func (f *figures) whole() figures {
	out := *f
	if out.byCPU {
		out.cpu = reading.Value{}
	}
	none := reading.Value{}
	out.fsRead, out.fsWrite, out.fsReads, out.fsWrites = none, none, none, none
	out.in, out.out, out.packetsIn, out.packetsOut, out.wrong = none, none, none, none, none
	return out
}

// sandbox says whether the cgroup is the pause container, which owns the pod's
// network: with containerd and CRI-O it has a pod's labels and no container's,
// with dockershim container="POD".
func (c *cgroup) sandbox() bool {
	return c.container == "POD" || (c.container == "" && c.pod != "" && (c.id != "" || c.name != ""))
}

// series is what is remembered of a line but its value.
type series struct {
	group *cgroup
	what  family
	perCPU,
	ownTotal bool // of cpuSeconds: one processor's, or the total
	pass uint64
}

// cadvisor reads answers of one kubelet's /metrics/cadvisor while they arrive.
// It remembers the series from answer to answer, so that the names and labels of
// a line are read once, and after that only its value and time. What an answer
// takes is bounded by maxSeries and maxLine, however long it is.
type cadvisor struct {
	nics   *regexp.Regexp
	most   int                                   // series
	knows  func(uid, namespace, pod string) bool // whether the API server knows a pod; nil: all of them
	seed   maphash.Seed
	series map[uint64]*series // by the hash of the line up to its value
	groups map[string]*cgroup // by path
	held   map[string]int     // series of each cgroup and of each pod
	short  map[string]bool    // those of which the present answer has more than is remembered
	pass   uint64
	at     time.Time // of series without a time of their own
	ls     labels.Labels
	splitter
}

// splitter cuts an answer into lines while it arrives.
type splitter struct {
	part    []byte         // of a line that is not complete yet
	skip    bool           // the line under way is too long
	refused map[string]int // lines that were left out of the present answer
}

func (s *splitter) reset() { s.part, s.skip, s.refused = s.part[:0], false, map[string]int{} }

// split hands on the lines, without their ends, that p completes. A line that
// makes no sense is left out and counted.
func (s *splitter) split(p []byte, take func(line []byte)) {
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		line := p[:i]
		switch {
		case s.skip:
			s.skip = false
		case len(s.part) > 0:
			s.part = append(s.part, line...)
			take(s.part)
		default:
			take(line)
		}
		s.part, p = s.part[:0], p[i+1:]
	}
	if s.skip {
		return
	}
	if len(s.part)+len(p) > maxLine {
		s.refused[refusedLong]++
		s.part, s.skip = s.part[:0], true
		return
	}
	s.part = append(s.part, p...)
}

// rest refuses a last line that has no end: a number without its last digits is
// another number, and a counter that seems to fall makes a rate of all that it ever
// counted when the whole of it comes again.
func (s *splitter) rest() {
	if len(s.part) > 0 && !s.skip {
		s.refused[refusedMalformed]++
		s.part = s.part[:0]
	}
}

func newCadvisor(nics *regexp.Regexp) *cadvisor {
	return &cadvisor{
		nics: nics, most: maxSeries, seed: maphash.MakeSeed(), series: map[uint64]*series{}, groups: map[string]*cgroup{},
		held: map[string]int{}, short: map[string]bool{},
	}
}

// begin starts an answer.
func (r *cadvisor) begin(at time.Time) {
	r.pass++
	r.at = at
	clear(r.short)
	r.reset()
}

// Write implements io.Writer. It never fails.
func (r *cadvisor) Write(p []byte) (int, error) {
	r.split(p, r.line)
	return len(p), nil
}

var containerPrefix = []byte("container_")

// line takes one line without its end.
func (r *cadvisor) line(line []byte) {
	if !bytes.HasPrefix(line, containerPrefix) {
		return
	}
	if len(line) > maxLine {
		r.refused[refusedLong]++
		return
	}
	open := bytes.IndexByte(line, '{')
	if open < 0 {
		return // without labels it is of nothing in particular
	}
	what, needed := families[string(line[len(containerPrefix):open])]
	if !needed {
		return
	}
	// Neither value nor time have a brace, label values may.
	end := bytes.LastIndexByte(line, '}')
	if end < open {
		r.refused[refusedMalformed]++
		return
	}
	text, rest := line[:end+1], bytes.TrimLeft(line[end+1:], " \t")
	number, stamp, _ := bytes.Cut(rest, []byte{' '})
	v, err := strconv.ParseFloat(string(number), 64)
	switch {
	case err != nil:
		r.refused[refusedMalformed]++
		return
	case v != v || v > 1e300:
		r.refused[refusedNumber]++
		return
	case v < 0:
		r.refused[refusedNegative]++
		return
	}
	value := reading.Value{V: v, At: r.at}
	if stamp = bytes.TrimSpace(stamp); len(stamp) > 0 {
		ms, err := strconv.ParseInt(string(stamp), 10, 64)
		if err != nil || ms <= 0 || ms > 1<<45 { // the year 3084
			r.refused[refusedMalformed]++
			return
		}
		value.At = time.UnixMilli(ms)
	}
	hash := maphash.Bytes(r.seed, text)
	s := r.series[hash]
	if s == nil {
		if s = r.begun(text, what); s == nil {
			return
		}
		r.series[hash] = s
		r.held[s.group.of]++
		r.held[s.group.path]++
	}
	if s.pass == r.pass {
		return // the same series again in one answer: the first counts
	}
	s.pass = r.pass
	if s.what != needless {
		s.take(value, r.pass)
	}
}

// begun reads the labels of a series that was not seen before; nil when they
// cannot be read, or when there is no room for it.
func (r *cadvisor) begun(text []byte, what family) *series {
	if !utf8.Valid(text) {
		r.refused[refusedMalformed]++
		return nil
	}
	p := textparse.NewPromParser(append(bytes.Clone(text), " 0\n"...), labels.NewSymbolTable(), false)
	if entry, err := p.Next(); err != nil || entry != textparse.EntrySeries {
		r.refused[refusedMalformed]++
		return nil
	}
	p.Labels(&r.ls)
	ls := r.ls
	path := ls.Get("id")
	if path == "" {
		return nil // of nothing in particular
	}
	g := r.groups[path]
	fresh := g == nil || g.namespace != ls.Get("namespace") || g.pod != ls.Get("pod") || g.container != ls.Get("container") || g.name != ls.Get("name")
	if fresh { // one that got its labels late is taken anew, with them
		g = &cgroup{root: path == "/", namespace: ls.Get("namespace"), pod: ls.Get("pod"), container: ls.Get("container"), name: ls.Get("name")}
		g.uid, g.id = cgroups.Of(path)
		g.path = "cgroup " + path
		switch {
		case g.uid != "":
			g.of = g.uid
		case g.pod != "":
			g.of = g.namespace + "/" + g.pod
		default:
			g.of = path
		}
	}
	knows, most := r.knows, maxGroupSeries
	if g.root {
		knows, most = nil, maxPodSeries
	}
	for _, one := range []struct {
		of   string
		most int
	}{{g.path, most}, {g.of, maxPodSeries}} {
		if r.held[one.of] >= one.most {
			r.refused[refusedMany]++
			r.short[one.of] = true
			return nil
		}
	}
	if !(room{r.most, knows, r.refused}).takes(len(r.series), g.uid, g.namespace, g.pod) {
		r.short[g.path] = true
		return nil
	}
	if fresh {
		r.groups[path] = g
	}
	s := &series{group: g, what: what}
	switch what {
	case cpuSeconds:
		// Kernels that count by CPU give a series for each and maybe no total.
		cpu := ls.Get("cpu")
		s.ownTotal = cpu == "total" || cpu == ""
		s.perCPU = !s.ownTotal
	case received, transmitted, packetsReceived, packetsTransmitted, networkTrouble:
		nic := ls.Get("interface")
		if nic == "lo" || g.root && !r.nics.MatchString(nic) {
			s.what = needless
		}
	}
	return s
}

// take notes a value of the answer.
func (s *series) take(v reading.Value, pass uint64) {
	g := s.group
	if g.pass != pass {
		g.pass, g.figures = pass, figures{}
	}
	switch s.what {
	case cpuSeconds:
		switch {
		case s.ownTotal:
			g.cpu, g.byCPU = v, false
		case !g.cpu.OK():
			g.cpu, g.byCPU = v, true
		case g.byCPU:
			g.cpu.V += v.V
		}
	case workingSet:
		g.memory = v
	case usage:
		g.usage = v
	case startTime:
		g.started = v.V
	case fsReads:
		add(&g.fsRead, v)
	case fsWrites:
		add(&g.fsWrite, v)
	case fsReadTimes:
		add(&g.fsReads, v)
	case fsWriteTimes:
		add(&g.fsWrites, v)
	case periods:
		g.periods = v
	case throttled:
		g.throttled = v
	case oomEvents:
		g.oom = v
	case processes:
		g.pids = v
	case received:
		add(&g.in, v)
	case transmitted:
		add(&g.out, v)
	case packetsReceived:
		add(&g.packetsIn, v)
	case packetsTransmitted:
		add(&g.packetsOut, v)
	case networkTrouble:
		add(&g.wrong, v)
	}
}

// end closes an answer; broken says that it broke off. What was not told for a
// while is forgotten.
func (r *cadvisor) end(broken bool) {
	r.rest()
	if broken || len(r.short) > 0 {
		for _, g := range r.groups {
			if broken || r.short[g.of] || r.short[g.path] {
				g.figures = g.whole()
			}
		}
	}
	if r.pass%forgetAfter != 0 {
		return
	}
	for hash, s := range r.series {
		if s.pass+forgetAfter < r.pass {
			delete(r.series, hash)
			for _, of := range []string{s.group.path, s.group.of} {
				if r.held[of]--; r.held[of] == 0 {
					delete(r.held, of)
				}
			}
		}
	}
	for path, g := range r.groups {
		if g.pass+forgetAfter < r.pass {
			delete(r.groups, path)
		}
	}
}

// add sums over devices.
func add(sum *reading.Value, v reading.Value) {
	sum.V += v.V
	if v.At.After(sum.At) {
		sum.At = v.At
	}
}

// set makes a set of what the answer told.
func (r *cadvisor) set(node string) reading.Set {
	set := reading.Set{Node: node, Source: catalogue.CadvisorPaths}
	type podKey struct{ uid, namespace, name string }
	pods := make(map[podKey]int)
	podOf := func(g *cgroup) *reading.Pod {
		key := podKey{uid: g.uid}
		if g.uid == "" {
			key = podKey{"", g.namespace, g.pod}
		}
		i, known := pods[key]
		if !known {
			i = len(set.Pods)
			pods[key] = i
			set.Pods = append(set.Pods, reading.Pod{UID: g.uid, Namespace: g.namespace, Name: g.pod})
		}
		return &set.Pods[i]
	}
	sandboxes := map[podKey]float64{} // start of the newest one seen
	hasFS := false
	for _, g := range r.groups {
		if g.pass != r.pass {
			continue
		}
		if g.root {
			set.Host = &reading.Node{CPUBusySeconds: g.cpu, MemUsedBytes: g.memory, ReceiveBytes: g.in, TransmitBytes: g.out, NetworkErrors: g.wrong}
			continue
		}
		if g.uid == "" && g.pod == "" {
			continue
		}
		labelled := g.container != "" && g.container != "POD"
		if labelled {
			set.Source = catalogue.CadvisorLabels
		}
		// While a sandbox is replaced there are two; the newer one counts.
		if g.in.OK() || g.out.OK() {
			key := podKey{uid: g.uid}
			if g.uid == "" {
				key = podKey{"", g.namespace, g.pod}
			}
			if old, seen := sandboxes[key]; !seen || g.started >= old {
				sandboxes[key] = g.started
				p := podOf(g)
				p.ReceiveBytes, p.TransmitBytes = g.in, g.out
				p.ReceivePackets, p.TransmitPackets, p.NetworkErrors = g.packetsIn, g.packetsOut, g.wrong
			}
		}
		switch {
		case g.uid != "" && g.id == "":
			podOf(g).CPUSeconds = g.cpu
		case g.sandbox():
		case labelled || g.id != "":
			id := g.id
			if id == "" {
				id = g.name
			}
			set.Containers = append(set.Containers, reading.Container{
				PodUID: g.uid, Namespace: g.namespace, Pod: g.pod, Name: g.container, ID: id, StartedAt: unix(g.started),
				CPUSeconds: g.cpu, WorkingSetBytes: g.memory, UsageBytes: g.usage, FSReadBytes: g.fsRead, FSWriteBytes: g.fsWrite,
				FSReads: g.fsReads, FSWrites: g.fsWrites, Periods: g.periods, Throttled: g.throttled, OOMKills: g.oom, PIDs: g.pids,
			})
			hasFS = hasFS || g.fsRead.OK() || g.fsWrite.OK()
		}
	}
	set.Lacking = map[string]string{}
	if !hasFS && len(set.Containers) > 0 {
		for _, name := range catalogue.ContainerDisk {
			set.Lacking[name] = catalogue.NoContainerDisk
		}
	}
	if set.Host != nil && !set.Host.ReceiveBytes.OK() {
		why := fmt.Sprintf("no network interface of the node matches %s", r.nics)
		set.Lacking[catalogue.NodeNetworkReceive], set.Lacking[catalogue.NodeNetworkTransmit] = why, why
	}
	return set
}

func unix(seconds float64) time.Time {
	if seconds <= 0 || seconds > 1e11 {
		return time.Time{}
	}
	return time.UnixMilli(int64(seconds * 1000))
}
