package kubelet

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// family is one of the metrics of /metrics/cadvisor that is needed.
type family uint8

const (
	cpuSeconds family = iota
	workingSet
	received
	transmitted
	fsReads
	fsWrites
	startTime
)

var families = map[string]family{
	"container_cpu_usage_seconds_total":      cpuSeconds,
	"container_memory_working_set_bytes":     workingSet,
	"container_network_receive_bytes_total":  received,
	"container_network_transmit_bytes_total": transmitted,
	"container_fs_reads_bytes_total":         fsReads,
	"container_fs_writes_bytes_total":        fsWrites,
	"container_start_time_seconds":           startTime,
}

// maxLine bounds a line of exposition text.
const maxLine = 64 << 10

// needed lets through the lines of families that are needed, a tenth of what
// cAdvisor tells: of a full node that is half a megabyte instead of five.
type needed struct {
	to   *bytes.Buffer
	part []byte // of a line that is not complete yet
}

// Write implements io.Writer.
func (n *needed) Write(p []byte) (int, error) {
	size := len(p)
	for {
		i := bytes.IndexByte(p, '\n')
		if i < 0 {
			break
		}
		line := p[:i+1]
		if len(n.part) > 0 {
			n.part = append(n.part, line...)
			line = n.part
		}
		n.pass(line)
		n.part, p = n.part[:0], p[i+1:]
	}
	if n.part = append(n.part, p...); len(n.part) > maxLine {
		return 0, fmt.Errorf("%w: a line of more than %d bytes", fault.ErrMalformed, maxLine)
	}
	return size, nil
}

func (n *needed) pass(line []byte) {
	if !bytes.HasPrefix(line, []byte("container_")) {
		return
	}
	name, _, _ := bytes.Cut(line, []byte{'{'})
	if _, ok := families[string(name)]; ok {
		n.to.Write(line)
	}
}

// end passes a last line that has no end.
func (n *needed) end() {
	if len(n.part) > 0 {
		n.pass(append(n.part, '\n'))
		n.part = nil
	}
}

// cgroup is what cAdvisor tells of one cgroup.
type cgroup struct {
	uid, id                   string // from the path; empty outside of pods
	namespace, pod, container string // from labels
	name                      string // the runtime's name, which is the ID with CRI runtimes
	started                   float64
	cpu, memory               reading.Value
	fsRead, fsWrite           reading.Value
	network                   map[string]*traffic // by interface
}

type traffic struct{ in, out reading.Value }

// sandbox says whether the cgroup is the pause container, which owns the pod's
// network: with containerd and CRI-O it has a pod's labels and no container's,
// with dockershim container="POD".
func (c *cgroup) sandbox() bool {
	return c.container == "POD" || (c.container == "" && c.pod != "" && (c.id != "" || c.name != ""))
}

// parseCadvisor reads the exposition text of /metrics/cadvisor. A series' own
// time stamp is when the kubelet read the cgroup; a series without one is taken
// to be of the time at.
func parseCadvisor(body []byte, at time.Time) (map[string]*cgroup, error) {
	groups := map[string]*cgroup{}
	p := textparse.NewPromParser(body, labels.NewSymbolTable(), false)
	var ls labels.Labels
	for {
		entry, err := p.Next()
		if errors.Is(err, io.EOF) {
			return groups, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read /metrics/cadvisor: %w: %v", fault.ErrMalformed, err)
		}
		if entry != textparse.EntrySeries {
			continue
		}
		series, ts, v := p.Series()
		name, _, _ := bytes.Cut(series, []byte{'{'})
		f, needed := families[string(name)]
		if !needed || v != v || v < 0 {
			continue
		}
		p.Labels(&ls)
		path := ls.Get("id")
		if path == "" {
			continue
		}
		g := groups[path]
		if g == nil {
			g = &cgroup{
				namespace: ls.Get("namespace"), pod: ls.Get("pod"), container: ls.Get("container"), name: ls.Get("name"),
			}
			g.uid, g.id = cgroupOf(path)
			groups[path] = g
		}
		r := reading.Value{V: v, At: at}
		if ts != nil {
			r.At = time.UnixMilli(*ts)
		}
		switch f {
		case cpuSeconds:
			// Kernels that count by CPU give a series for each and maybe no total.
			if cpu := ls.Get("cpu"); cpu == "total" || cpu == "" {
				g.cpu = r
			} else if !g.cpu.OK() {
				g.cpu = r
			} else if !strings.HasPrefix(cpu, "total") {
				g.cpu.V += v
			}
		case workingSet:
			g.memory = r
		case startTime:
			g.started = v
		case fsReads:
			add(&g.fsRead, r)
		case fsWrites:
			add(&g.fsWrite, r)
		case received, transmitted:
			nic := ls.Get("interface")
			if nic == "lo" {
				continue
			}
			if g.network == nil {
				g.network = map[string]*traffic{}
			}
			t := g.network[nic]
			if t == nil {
				t = &traffic{}
				g.network[nic] = t
			}
			if f == received {
				t.in = r
			} else {
				t.out = r
			}
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

// cadvisorSet makes a set of what cAdvisor told.
func cadvisorSet(node string, groups map[string]*cgroup, nics *regexp.Regexp) reading.Set {
	set := reading.Set{Node: node, Source: catalogue.CadvisorPaths}
	pods := map[string]*reading.Pod{}
	podOf := func(g *cgroup) *reading.Pod {
		key := g.uid
		if key == "" {
			key = g.namespace + "/" + g.pod
		}
		p := pods[key]
		if p == nil {
			p = &reading.Pod{UID: g.uid, Namespace: g.namespace, Name: g.pod}
			pods[key] = p
		}
		return p
	}
	sandboxes := map[*reading.Pod]float64{} // start of the newest one seen
	hasFS := false
	for path, g := range groups {
		if path == "/" {
			set.Host = hostOf(g, nics)
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
		if len(g.network) > 0 {
			p := podOf(g)
			if old, seen := sandboxes[p]; !seen || g.started >= old {
				sandboxes[p] = g.started
				p.ReceiveBytes, p.TransmitBytes = reading.Value{}, reading.Value{}
				for _, t := range g.network {
					add(&p.ReceiveBytes, t.in)
					add(&p.TransmitBytes, t.out)
				}
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
				CPUSeconds: g.cpu, WorkingSetBytes: g.memory, FSReadBytes: g.fsRead, FSWriteBytes: g.fsWrite,
			})
			hasFS = hasFS || g.fsRead.OK() || g.fsWrite.OK()
		}
	}
	for _, p := range pods {
		set.Pods = append(set.Pods, *p)
	}
	set.Lacking = map[string]string{}
	if !hasFS && len(set.Containers) > 0 {
		const why = "the node's kernel gives no block device figures for containers (cgroup v1 does not attribute buffered writes)"
		set.Lacking[catalogue.ContainerFSRead], set.Lacking[catalogue.ContainerFSWrite] = why, why
	}
	if set.Host != nil && !set.Host.ReceiveBytes.OK() {
		why := fmt.Sprintf("no network interface of the node matches %s", nics)
		set.Lacking[catalogue.NodeNetworkReceive], set.Lacking[catalogue.NodeNetworkTransmit] = why, why
	}
	return set
}

// hostOf reads the root cgroup, which is the node itself.
func hostOf(g *cgroup, nics *regexp.Regexp) *reading.Node {
	h := &reading.Node{CPUBusySeconds: g.cpu, MemUsedBytes: g.memory}
	for nic, t := range g.network {
		if nics.MatchString(nic) {
			add(&h.ReceiveBytes, t.in)
			add(&h.TransmitBytes, t.out)
		}
	}
	return h
}

func unix(seconds float64) time.Time {
	if seconds <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(int64(seconds * 1000))
}
