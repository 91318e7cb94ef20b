// Package kubelet reads nodes' kubelets: /metrics/cadvisor where it tells what
// is needed, /stats/summary where it does not and for what only it has. It owns
// the choice for each node, and the mapping of cgroup paths to pods. It must not
// know what is computed of the readings.
package kubelet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

const (
	pathCadvisor = "/metrics/cadvisor"
	pathSummary  = "/stats/summary"

	// recheck is after how many intervals a source that delivered nothing is
	// tried again.
	recheck = 10
	// skew is how far a kubelet's clock may be off before its readings' times are
	// corrected by the answer's Date, which has whole seconds.
	skew = 5 * time.Second
)

// DefaultNICs matches the interface that a node's own traffic goes through, as
// far as names tell.
var DefaultNICs = regexp.MustCompile(`^(eth0|en[ospx][0-9a-z]+)$`)

// Options of a Source.
type Options struct {
	Fetcher Fetcher // required
	Node    string  // the only node to read; empty means all
	// Host has the nodes' own figures read as well, which otherwise come from
	// the nodes' /proc.
	Host        bool
	NICs        *regexp.Regexp // default DefaultNICs
	Concurrency int            // kubelets asked at the same time; default 16
	Timeout     time.Duration  // for one answer; default 10 s
	Logger      *slog.Logger
	Now         func() time.Time // default time.Now
}

// Source reads kubelets. Read must not be called concurrently with itself.
type Source struct {
	o     Options
	log   *slog.Logger
	now   func() time.Time
	slots chan struct{}
	bufs  sync.Pool

	mu    sync.Mutex
	nodes map[string]*memory
}

// memory is what is known of one node's sources.
type memory struct {
	blind   int    // times in a row that cAdvisor was read and told of no container
	skipped int    // intervals since it was last tried
	summary bool   // cAdvisor left gaps that the summary has to fill
	said    string // last trouble that was logged
}

// New checks the options; it does not connect.
func New(o Options) (*Source, error) {
	if o.Fetcher == nil {
		return nil, errors.New("kubelet: Fetcher is required")
	}
	if o.NICs == nil {
		o.NICs = DefaultNICs
	}
	if o.Concurrency == 0 {
		o.Concurrency = 16
	}
	if o.Timeout == 0 {
		o.Timeout = 10 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Source{
		o: o, log: o.Logger, now: o.Now, slots: make(chan struct{}, o.Concurrency), nodes: map[string]*memory{},
		bufs: sync.Pool{New: func() any { return new(bytes.Buffer) }},
	}, nil
}

// Name of the source, for health and metrics.
func (s *Source) Name() string { return "kubelet" }

// Read reads every node's kubelet that it is responsible for. Each node gives a
// set of cAdvisor, one of the summary, or both, in this order.
func (s *Source) Read(ctx context.Context, _ time.Time, now *state.Snapshot) []reading.Set {
	var nodes []*object.Node
	for _, n := range now.Nodes {
		if s.o.Node == "" || n.Name == s.o.Node {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b *object.Node) int { return strings.Compare(a.Name, b.Name) })
	if len(nodes) == 0 && s.o.Node != "" && now.Synced {
		return []reading.Set{{Node: s.o.Node, Source: catalogue.CadvisorLabels,
			Err: fmt.Errorf("node %s is not known to the API server, or may not be read", s.o.Node)}}
	}
	wanted := expectations(now)
	results := make([][]reading.Set, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		m := s.memoryOf(n.Name)
		wg.Go(func() {
			select {
			case s.slots <- struct{}{}:
				defer func() { <-s.slots }()
			case <-ctx.Done():
				results[i] = []reading.Set{{Node: n.Name, Source: catalogue.CadvisorLabels, Err: ctx.Err()}}
				return
			}
			results[i] = s.readNode(ctx, n, wanted[n.Name], m)
		})
	}
	wg.Wait()
	s.forget(now)
	return slices.Concat(results...)
}

func (s *Source) memoryOf(node string) *memory {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.nodes[node]
	if m == nil {
		m = &memory{}
		s.nodes[node] = m
	}
	return m
}

func (s *Source) forget(now *state.Snapshot) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.nodes {
		if now.Nodes[name] == nil {
			delete(s.nodes, name)
		}
	}
}

// expected is what runs on a node, by the API server's word.
type expected struct {
	containers map[string]bool // IDs of running containers, and pod UID/name
	count      int
	networks   map[string]bool // UIDs of running pods with a network of their own
}

func expectations(now *state.Snapshot) map[string]*expected {
	out := map[string]*expected{}
	for _, p := range now.Pods {
		if p.Node == "" || p.Ended() {
			continue
		}
		e := out[p.Node]
		if e == nil {
			e = &expected{containers: map[string]bool{}, networks: map[string]bool{}}
			out[p.Node] = e
		}
		uid := p.UID
		if p.Mirror != "" {
			uid = p.Mirror
		}
		runs := false
		for _, c := range p.Containers {
			if c.State == "running" {
				runs = true
				e.count++
				e.containers[c.ID] = true
			}
		}
		if runs && !p.HostNetwork {
			e.networks[uid] = true
		}
	}
	return out
}

// readNode decides what to ask of one kubelet. cAdvisor comes first; the summary
// is asked where it alone has something, and where cAdvisor left gaps. Where
// cAdvisor told of no container at all three times, it is only tried now and then.
func (s *Source) readNode(ctx context.Context, n *object.Node, want *expected, m *memory) []reading.Set {
	if want == nil {
		want = &expected{}
	}
	var sets []reading.Set
	useSummary := s.o.Host || m.summary || n.Virtual
	if n.Virtual {
		return []reading.Set{s.readSummary(ctx, n)}
	}
	if m.blind < 3 || m.skipped >= recheck {
		m.skipped = 0
		set := s.readCadvisor(ctx, n)
		containers, networks := delivered(set, want)
		switch {
		case set.Err != nil:
			useSummary = true
		case want.count > 0 && containers == 0:
			m.blind++
			m.summary, useSummary = true, true
			set.Err = fmt.Errorf("it tells of none of %d running containers", want.count)
		default:
			m.blind = 0
			// A container that just started is in neither yet; that is no gap to
			// ask another source for.
			m.summary = containers*10 < want.count*9 || (len(want.networks) > 0 && networks == 0)
			useSummary = useSummary || m.summary
		}
		sets = append(sets, set)
	} else {
		m.skipped++
		useSummary = true
	}
	if useSummary {
		sets = append(sets, s.readSummary(ctx, n))
	}
	s.say(n.Name, sets, m)
	return sets
}

// delivered counts what a set tells of what runs.
func delivered(set reading.Set, want *expected) (containers, networks int) {
	for _, c := range set.Containers {
		if want.containers[c.ID] && c.WorkingSetBytes.OK() {
			containers++
		}
	}
	for _, p := range set.Pods {
		if want.networks[p.UID] && p.ReceiveBytes.OK() {
			networks++
		}
	}
	return containers, networks
}

func (s *Source) say(node string, sets []reading.Set, m *memory) {
	var trouble []string
	for _, set := range sets {
		if set.Err != nil && !errors.Is(set.Err, context.Canceled) {
			trouble = append(trouble, fmt.Sprintf("%s: %v", set.Source, set.Err))
		}
	}
	text := strings.Join(trouble, "; ")
	switch {
	case text == m.said:
		return
	case text != "":
		s.log.Warn("read kubelet", "node", node, "err", text)
	default:
		s.log.Info("read kubelet again", "node", node)
	}
	m.said = text
}

func (s *Source) readCadvisor(ctx context.Context, n *object.Node) reading.Set {
	began := s.now()
	set := reading.Set{Node: n.Name, Source: catalogue.CadvisorLabels}
	err := s.fetch(ctx, n, pathCadvisor, func(body []byte, at time.Time) error {
		groups, err := parseCadvisor(body, at)
		if err == nil {
			set = cadvisorSet(n.Name, groups, s.o.NICs)
		}
		return err
	}, func(off time.Duration) { shift(&set, off) })
	if !s.o.Host {
		set.Host = nil
		delete(set.Lacking, catalogue.NodeNetworkReceive)
		delete(set.Lacking, catalogue.NodeNetworkTransmit)
	}
	set.Took, set.Err = s.now().Sub(began), err
	return set
}

func (s *Source) readSummary(ctx context.Context, n *object.Node) reading.Set {
	began := s.now()
	set := reading.Set{Node: n.Name, Source: catalogue.StatsSummary}
	err := s.fetch(ctx, n, pathSummary, func(body []byte, _ time.Time) error {
		var err error
		set, err = summarySet(n.Name, body, s.o.NICs)
		return err
	}, func(off time.Duration) { shift(&set, off) })
	if !s.o.Host {
		set.Host = nil
	}
	set.Took, set.Err = s.now().Sub(began), err
	return set
}

// fetch gets a path and hands its body to read, then corrects the times if the
// kubelet's clock is far off.
func (s *Source) fetch(ctx context.Context, n *object.Node, path string, read func([]byte, time.Time) error, correct func(time.Duration)) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	buf := s.bufs.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= 4<<20 { // one huge answer must not stay for good
			buf.Reset()
			s.bufs.Put(buf)
		}
	}()
	buf.Reset()
	var into io.Writer = buf
	filter := needed{to: buf}
	if path == pathCadvisor {
		into = &filter
	}
	date, err := s.o.Fetcher.Fetch(ctx, n, path, into)
	if err != nil {
		return err
	}
	filter.end()
	at := s.now()
	if err := read(buf.Bytes(), at); err != nil {
		return err
	}
	if off := date.Sub(at); !date.IsZero() && off.Abs() > skew {
		s.log.Debug("kubelet's clock is off", "node", n.Name, "offset_seconds", off.Seconds())
		correct(-off)
	}
	return nil
}

// shift moves all times of a set, all by the same, so that rates stay exact.
func shift(set *reading.Set, by time.Duration) {
	move := func(vs ...*reading.Value) {
		for _, v := range vs {
			if v.OK() {
				v.At = v.At.Add(by)
			}
		}
	}
	for i := range set.Containers {
		c := &set.Containers[i]
		move(&c.CPUSeconds, &c.WorkingSetBytes, &c.FSReadBytes, &c.FSWriteBytes)
	}
	for i := range set.Pods {
		p := &set.Pods[i]
		move(&p.CPUSeconds, &p.ReceiveBytes, &p.TransmitBytes)
	}
	if h := set.Host; h != nil {
		move(&h.CPUBusySeconds, &h.CPUTotalSeconds, &h.MemUsedBytes, &h.MemTotalBytes, &h.ReceiveBytes, &h.TransmitBytes, &h.TCPEstablished)
		for i := range h.Filesystems {
			move(&h.Filesystems[i].UsedBytes, &h.Filesystems[i].AvailableBytes)
		}
	}
}
