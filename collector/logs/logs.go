// Package logs follows the output of containers and hands it on as batches: from
// the files under /var/log/pods (Files), or from the API server where there is no
// collector on the node (API). Each line arrives once and in the order in which
// it was written, over rotations, restarts and kills of either side; what cannot
// be read any more is counted by reason. It must not know how batches travel, nor
// where they are kept.
package logs

import (
	"maps"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// Sink takes batches.
type Sink = collector.LogSink

var (
	_ collector.Logs = (*Files)(nil)
	_ collector.Logs = (*API)(nil)
)

// State tells which pods there are; a state.Source is one.
type State interface {
	Snapshot() *state.Snapshot
}

// Reasons for which lines are dropped.
const (
	DropRotated = "rotated_away"       // the file was gone before it was read
	DropAway    = "rotated_while_away" // the same while no collector ran: how many is not known
	DropRefused = "refused"            // the server refused the batch for good
	DropGone    = "instance_gone"
	DropPod     = "pod_gone"   // the pod was deleted before its log was read to the end: how many is not known
	DropRate    = "rate_limit" // over the container's limit
	DropFull    = "backlog_full"
	DropOld     = "backlog_age"
)

// Container names the source of lines.
type Container struct {
	Namespace string
	Pod       string
	UID       string
	Container string
}

// key tells a container's log from all others, to the server too.
func (c Container) key() string { return c.UID + "/" + c.Container }

// Count is what happened to the lines of one container since the start.
type Count struct {
	Read      int64
	Bytes     int64 // of the text of the lines that were read
	Sent      int64 // acknowledged by the server
	Malformed int64 // read and sent as they are: neither CRI nor Docker JSON
	Dropped   map[string]int64
}

// counters keeps a Count of each container. The counts of a container that is no
// longer followed are added to the totals, so that these never fall.
type counters struct {
	mu         sync.Mutex
	containers map[Container]*Count
	gone       Count
	m          *metrics
}

func newCounters(m *metrics) *counters {
	return &counters{containers: map[Container]*Count{}, gone: Count{Dropped: map[string]int64{}}, m: m}
}

func (c *counters) of(k Container) *Count {
	n := c.containers[k]
	if n == nil {
		n = &Count{Dropped: map[string]int64{}}
		c.containers[k] = n
	}
	return n
}

// ofOrGone counts for a container that may be forgotten already: its last batch
// is acknowledged after its files are gone.
func (c *counters) ofOrGone(k Container) *Count {
	if n := c.containers[k]; n != nil {
		return n
	}
	return &c.gone
}

func (c *counters) read(k Container, lines, malformed int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.of(k)
	n.Read += int64(lines)
	n.Malformed += int64(malformed)
	c.m.read.Add(float64(lines))
	c.m.malformed.Add(float64(malformed))
}

// wrote counts the text of lines that were read.
func (c *counters) wrote(k Container, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of(k).Bytes += int64(bytes)
}

// joined counts a record of several lines.
func (c *counters) joined(lines int) {
	if lines > 1 {
		c.m.joined.Add(float64(lines - 1))
	}
}

func (c *counters) sent(lines map[Container]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for k, n := range lines {
		c.ofOrGone(k).Sent += int64(n)
		c.m.sent.Add(float64(n))
	}
}

func (c *counters) dropped(k Container, reason string, lines int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ofOrGone(k).Dropped[reason] += int64(lines)
	c.m.dropped.WithLabelValues(reason).Add(float64(lines))
}

// forget moves a container's counts to the totals.
func (c *counters) forget(k Container) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.containers[k]
	if n == nil {
		return
	}
	c.gone.Read += n.Read
	c.gone.Sent += n.Sent
	c.gone.Malformed += n.Malformed
	for r, d := range n.Dropped {
		c.gone.Dropped[r] += d
	}
	delete(c.containers, k)
}

func (c *counters) health() wire.LogHealth {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := wire.LogHealth{Containers: len(c.containers), Read: c.gone.Read, Sent: c.gone.Sent, Dropped: maps.Clone(c.gone.Dropped)}
	for _, n := range c.containers {
		h.Read += n.Read
		h.Sent += n.Sent
		for r, d := range n.Dropped {
			h.Dropped[r] += d
		}
	}
	return h
}

func (c *counters) all() map[Container]Count {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[Container]Count, len(c.containers))
	for k, n := range c.containers {
		v := *n
		v.Dropped = maps.Clone(n.Dropped)
		out[k] = v
	}
	return out
}

// pods finds pods by the UID under which the kubelet knows them, which of static
// pods is not the API's.
type pods struct {
	state   State
	of      *state.Snapshot
	mirrors map[string]*object.Pod
}

func (p *pods) find(uid string) *object.Pod {
	if p.state == nil {
		return nil
	}
	s := p.state.Snapshot()
	if s == nil {
		return nil
	}
	if pod := s.Pods[uid]; pod != nil {
		return pod
	}
	if p.of != s {
		p.of, p.mirrors = s, map[string]*object.Pod{}
		for _, pod := range s.Pods {
			if pod.Mirror != "" {
				p.mirrors[pod.Mirror] = pod
			}
		}
	}
	return p.mirrors[uid]
}

// streamOf gives the stream of a container's lines without the name of stdout or
// stderr.
func streamOf(c Container, pod *object.Pod, node string) wire.LogStream {
	s := wire.LogStream{Namespace: c.Namespace, Pod: c.Pod, Container: c.Container, Node: node}
	if pod != nil {
		s.WorkloadType, s.Workload = pod.Workload.Type, pod.Workload.Name
		if pod.Node != "" {
			s.Node = pod.Node
		}
	}
	return s
}

func dayOf(nanos int64) int64 { return nanos / int64(24*time.Hour) }
