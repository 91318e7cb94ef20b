// Package kubelet reads nodes' kubelets: /metrics/cadvisor where it tells what
// is needed, /metrics/resource and /stats/summary where it does not, and the
// latter for what only it has. It owns the choice for each node, by what the
// sources deliver, and the mapping of cgroup paths to pods. It must not know
// what is computed of the readings.
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

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

const (
	pathCadvisor = "/metrics/cadvisor"
	pathSummary  = "/stats/summary"
	pathResource = "/metrics/resource"
	pathProbes   = "/metrics/probes"

	// blindFor is how many times in a row a source may fail to tell of what runs
	// before it is left for others.
	blindFor = 2
	// recheck is after how many intervals a source that was left is tried again.
	recheck = 10
	// slowEvery is how often the summary is read for what only it tells: disk
	// space, which the kubelet itself measures once a minute. Probes are counted
	// as often: most of their answer is histograms that nobody asked for.
	slowEvery = time.Minute
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
	// Reads says which of them are read; nil means all. It is called concurrently.
	Reads func(*object.Node) bool
	// Host has the nodes' own figures read as well, which otherwise come from
	// the nodes' /proc.
	Host        bool
	NICs        *regexp.Regexp // default DefaultNICs
	Concurrency int            // kubelets asked at the same time; default 16
	Timeout     time.Duration  // for one answer; default 10 s
	// Before gives what a better source told of the node last, nil for nothing.
	// While that is all that runs, cAdvisor is left alone: making its answer is
	// the most expensive thing that a kubelet can be asked for.
	Before func() *reading.Set
	// PodMetrics writes the usage of all pods as metrics.k8s.io has it, JSON, and
	// PodEndpoint what a pod shows at port 9100. They are asked for pods on virtual
	// nodes, in this order, where those nodes' summaries do not tell; nil for none.
	PodMetrics  func(ctx context.Context, into io.Writer) error
	PodEndpoint func(ctx context.Context, pod *object.Pod, into io.Writer) error
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
	Now         func() time.Time // default time.Now
}

// Source reads kubelets. Read must not be called concurrently with itself.
type Source struct {
	o     Options
	log   *slog.Logger
	now   func() time.Time
	slots chan struct{}
	bufs  sync.Pool
	lines *prometheus.CounterVec

	mu    sync.Mutex
	nodes map[string]*memory
}

// memory is what is known of one node's sources.
type memory struct {
	cadvisor *cadvisor
	blind    int    // times in a row that cAdvisor told of no container
	skipped  int    // intervals since it was last tried
	left     string // why it is left for others; empty while it is not
	silent   bool   // the kubelet answered nothing when it was asked last
	used     catalogue.Source
	said     string // last trouble that was logged
	slowAt   time.Time
	slow     []reading.Pod // what only the summary told, of its last answer

	endpointsLeft int // intervals for which the pods of a virtual node are not asked themselves

	probesAt  time.Time // when they were asked for last
	probes    []reading.Probe
	probesErr error // why there are none
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
	lines := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "crowsnest_kubelet_lines_refused_total", Help: "Lines and entries of kubelets' answers that were left out, by reason.",
	}, []string{"reason"})
	for _, reason := range refusals {
		lines.WithLabelValues(reason)
	}
	if o.Registerer != nil {
		o.Registerer.MustRegister(lines)
	}
	return &Source{
		lines: lines,
		o:     o, log: o.Logger, now: o.Now, slots: make(chan struct{}, o.Concurrency), nodes: map[string]*memory{},
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
		if (s.o.Node == "" || n.Name == s.o.Node) && (s.o.Reads == nil || s.o.Reads(n)) {
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
	results = append(results, s.readElastic(ctx, nodes, results, wanted, now))
	s.forget(now)
	return slices.Concat(results...)
}

func (s *Source) memoryOf(node string) *memory {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.nodes[node]
	if m == nil {
		m = &memory{cadvisor: newCadvisor(s.o.NICs)}
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
	containers map[string]bool // IDs of running containers
	names      map[containerName]bool
	count      int
	networks   map[string]bool // UIDs of running pods with a network of their own
	pods       map[string]bool // that have not ended: UIDs, and namespace/name
}

// knows says whether a pod is one that has not ended. Sources that tell no UID are
// known by name.
func (e *expected) knows(uid, namespace, pod string) bool {
	if uid != "" {
		return e.pods[uid]
	}
	return e.pods[namespace+"/"+pod]
}

// containerName names a container for sources that know no IDs.
type containerName struct{ namespace, pod, container string }

func expectations(now *state.Snapshot) map[string]*expected {
	out := map[string]*expected{}
	for _, p := range now.Pods {
		if p.Node == "" || p.Ended() {
			continue
		}
		e := out[p.Node]
		if e == nil {
			e = &expected{containers: map[string]bool{}, names: map[containerName]bool{}, networks: map[string]bool{}, pods: map[string]bool{}}
			out[p.Node] = e
		}
		uid := p.UID
		if p.Mirror != "" {
			uid = p.Mirror
		}
		e.pods[uid], e.pods[p.UID], e.pods[p.Namespace+"/"+p.Name] = true, true, true
		runs := false
		for _, c := range p.Containers {
			if c.State == "running" {
				runs = true
				e.count++
				e.containers[c.ID] = true
				e.names[containerName{p.Namespace, p.Name, c.Name}] = true
			}
		}
		if runs && !p.HostNetwork {
			e.networks[uid] = true
		}
	}
	return out
}

// readNode decides what to ask of one kubelet. cAdvisor comes first, the others
// where it left gaps, in the same interval. Where it told of no container twice
// in a row, while another source answered, it is only tried now and then. A kubelet
// that answers nothing is asked for the cheapest alone until it does: it is gone or
// starts, and once it is back all its sources are as good as they were.
func (s *Source) readNode(ctx context.Context, n *object.Node, want *expected, m *memory) []reading.Set {
	if want == nil {
		want = &expected{}
	}
	if n.Virtual {
		return []reading.Set{s.readVirtual(ctx, n, want, m)}
	}
	if m.silent {
		probe := s.readResource(ctx, n, want)
		if silent(probe) {
			sets := []reading.Set{{Node: n.Name, Source: catalogue.CadvisorLabels, Err: fmt.Errorf("the kubelet does not answer: %w", probe.Err)}, probe}
			s.say(n.Name, sets, m)
			return sets
		}
		m.silent = false
	}
	var sets []reading.Set
	usage, network := false, false // what is still wanted
	blind := false                 // cAdvisor told of nothing of what runs
	if before := s.relieved(want); before != nil {
		set := s.readResource(ctx, n, want)
		set.Partial = true // that the kubelet answers is what is asked
		sets = append(sets, set)
		s.choose(n.Name, []reading.Set{*before}, want, m)
	} else if m.left == "" || m.skipped >= recheck {
		m.skipped = 0
		set := s.readCadvisor(ctx, n, want, m.cadvisor)
		containers, networks := delivered(set, want)
		if want.count > 0 && containers == 0 {
			if set.Err == nil {
				set.Err = fmt.Errorf("it tells of none of %d running containers", want.count)
			}
			blind = true
		} else if set.Err == nil {
			m.blind, m.left = 0, ""
		}
		// A container that just started is in no source yet; that is no gap to ask
		// another one for.
		usage = set.Err != nil || containers*10 < want.count*9
		network = set.Err != nil || len(want.networks) > 0 && networks*10 < len(want.networks)*9
		sets = append(sets, set)
	} else {
		m.skipped++
		usage, network = true, true
		sets = append(sets, reading.Set{Node: n.Name, Source: catalogue.CadvisorPaths,
			Err: fmt.Errorf("%s; it is asked again in %d intervals", m.left, recheck-m.skipped+1)})
	}
	if usage {
		sets = append(sets, s.readResource(ctx, n, want))
	}
	slow := s.now().Sub(m.slowAt) >= slowEvery-5*time.Second
	if usage || network || slow || s.o.Host {
		set := s.readSummary(ctx, n, want)
		set.Partial = !usage && !network
		if set.Err == nil {
			m.slowAt, m.slow = s.now(), onlySlow(set.Pods)
		}
		sets = append(sets, set)
	} else {
		sets[0].Pods = append(sets[0].Pods, m.slow...)
	}
	m.silent = usage && !slices.ContainsFunc(sets, func(set reading.Set) bool { return !silent(set) })
	if blind && !m.silent {
		if m.blind++; m.blind >= blindFor {
			m.left = sets[0].Err.Error()
		}
	}
	if network && len(want.networks) > 0 {
		told := false
		for _, set := range sets {
			_, networks := delivered(set, want)
			told = told || networks > 0
		}
		if !told && !m.silent {
			for _, name := range catalogue.PodTraffic {
				lack(&sets[0], name, catalogue.NoPodTraffic)
			}
		}
	}
	if !sets[0].Partial {
		s.choose(n.Name, sets, want, m)
	}
	s.readProbes(ctx, n, want, m, &sets[0])
	if errors.Is(m.probesErr, fault.ErrTooLarge) {
		// A kubelet that does not tell of probes is no trouble, one that tells without
		// end is.
		sets = append(sets, reading.Set{Node: n.Name, Source: catalogue.Probes, Partial: true, Err: m.probesErr})
	}
	s.say(n.Name, sets, m)
	return sets
}

// silent says whether a set is what a kubelet leaves that does not answer.
func silent(set reading.Set) bool { return errors.Is(set.Err, fault.ErrUnavailable) }

// relieved gives what a better source told lately, if it is nine tenths of what
// runs, and of its networks.
func (s *Source) relieved(want *expected) *reading.Set {
	if s.o.Before == nil {
		return nil
	}
	set := s.o.Before()
	if set == nil || set.Err != nil || len(set.Containers) == 0 {
		return nil
	}
	containers, networks := delivered(*set, want)
	if containers*10 < want.count*9 || networks*10 < len(want.networks)*9 {
		return nil
	}
	return set
}

// onlySlow keeps of a summary what it is asked for once a minute.
func onlySlow(pods []reading.Pod) []reading.Pod {
	var out []reading.Pod
	for _, p := range pods {
		if p.EphemeralBytes.OK() || p.RootfsBytes.OK() || len(p.Volumes) > 0 {
			out = append(out, reading.Pod{
				UID: p.UID, Namespace: p.Namespace, Name: p.Name,
				EphemeralBytes: p.EphemeralBytes, RootfsBytes: p.RootfsBytes, RootfsDeviceBytes: p.RootfsDeviceBytes, Volumes: p.Volumes,
			})
		}
	}
	return out
}

// choose notes which source a node's usage comes from: the first that tells of
// nine tenths of what runs, else the one that tells of most. A change is logged.
func (s *Source) choose(node string, sets []reading.Set, want *expected, m *memory) {
	best, most := catalogue.Source(""), 0
	for i := range sets {
		n, _ := delivered(sets[i], want)
		if n > most {
			best, most = sets[i].Source, n
		}
		if n > 0 && n*10 >= want.count*9 {
			break
		}
	}
	if best == "" || best == m.used {
		return
	}
	if m.used != "" {
		s.log.Warn("usage comes from another source", "node", node, "from", m.used, "to", best, "measured", most, "running", want.count)
	}
	m.used = best
}

// delivered counts what a set tells of what runs.
func delivered(set reading.Set, want *expected) (containers, networks int) {
	for i := range set.Containers {
		c := &set.Containers[i]
		if c.WorkingSetBytes.OK() && (want.containers[c.ID] || c.ID == "" && want.names[containerName{c.Namespace, c.Pod, c.Name}]) {
			containers++
		}
	}
	for i := range set.Pods {
		if p := &set.Pods[i]; want.networks[p.UID] && p.ReceiveBytes.OK() {
			networks++
		}
	}
	return containers, networks
}

func (s *Source) say(node string, sets []reading.Set, m *memory) {
	var trouble []string
	for i, set := range sets {
		if set.Err != nil && !errors.Is(set.Err, context.Canceled) {
			why := set.Err.Error()
			if m.left != "" && i == 0 {
				why = m.left // it stays the same while it is left
			}
			trouble = append(trouble, fmt.Sprintf("%s: %s", set.Source, why))
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

func (s *Source) readCadvisor(ctx context.Context, n *object.Node, want *expected, r *cadvisor) reading.Set {
	began := s.now()
	r.knows = want.knows
	r.begin(began)
	off, err := s.fetch(ctx, n, pathCadvisor, r)
	r.end(err != nil)
	set := r.set(n.Name) // of an answer that broke off, what came
	s.refuse(r.refused)
	set.Shift(-off)
	if !s.o.Host {
		set.Host = nil
		delete(set.Lacking, catalogue.NodeNetworkReceive)
		delete(set.Lacking, catalogue.NodeNetworkTransmit)
	}
	if err != nil {
		set.Lacking = nil // what did not come says nothing of what there is
		if len(set.Containers) == 0 {
			set.Source = catalogue.CadvisorLabels // as it usually is
		}
	}
	set.Took, set.Err = s.now().Sub(began), err
	return set
}

func (s *Source) readSummary(ctx context.Context, n *object.Node, want *expected) reading.Set {
	return s.readWhole(ctx, n, pathSummary, catalogue.StatsSummary, func(body []byte, _ time.Time) (reading.Set, error) {
		fits := room{maxEntries, want.knows, map[string]int{}}
		defer s.refuse(fits.refused)
		return summarySet(n.Name, body, s.o.NICs, fits)
	})
}

func (s *Source) readResource(ctx context.Context, n *object.Node, want *expected) reading.Set {
	return s.readWhole(ctx, n, pathResource, catalogue.ResourceAPI, func(body []byte, at time.Time) (reading.Set, error) {
		fits := room{maxEntries, want.knows, map[string]int{}}
		defer s.refuse(fits.refused)
		return resourceSet(n.Name, body, at, fits)
	})
}

// refuse counts what was left out of an answer.
func (s *Source) refuse(refused map[string]int) {
	for reason, n := range refused {
		s.lines.WithLabelValues(reason).Add(float64(n))
	}
}

// readProbes adds to a set how often the kubelet probed containers, as it was told
// last. A kubelet that does not tell is no trouble: everything else goes on.
func (s *Source) readProbes(ctx context.Context, n *object.Node, want *expected, m *memory, into *reading.Set) {
	if began := s.now(); began.Sub(m.probesAt) >= slowEvery-5*time.Second {
		m.probesAt, m.probesErr = began, nil
		r := newProbes(began)
		r.knows = want.knows
		off, err := s.fetch(ctx, n, pathProbes, r)
		r.rest()
		s.refuse(r.refused)
		if err != nil {
			m.probesErr = err
		} else {
			set := reading.Set{Probes: r.out}
			set.Shift(-off)
			m.probes = set.Probes
		}
	}
	into.Probes = m.probes
	if m.probesErr != nil {
		lack(into, catalogue.ContainerProbes, m.probesErr.Error())
	}
}

func lack(set *reading.Set, metric, why string) {
	if set.Lacking == nil {
		set.Lacking = map[string]string{}
	}
	set.Lacking[metric] = why
}

// readWhole reads an answer that is small enough to be kept as a whole.
func (s *Source) readWhole(ctx context.Context, n *object.Node, path string, source catalogue.Source, read func(body []byte, at time.Time) (reading.Set, error)) reading.Set {
	began := s.now()
	buf := s.bufs.Get().(*bytes.Buffer)
	defer func() {
		if buf.Cap() <= 4<<20 { // one huge answer must not stay for good
			s.bufs.Put(buf)
		}
	}()
	buf.Reset()
	set := reading.Set{Node: n.Name, Source: source}
	off, err := s.fetch(ctx, n, path, buf)
	if err == nil {
		set, err = read(buf.Bytes(), s.now())
		set.Shift(-off)
	}
	if !s.o.Host {
		set.Host = nil
	}
	set.Took, set.Err = s.now().Sub(began), err
	return set
}

// fetch gets a path, and tells by how much the kubelet's clock is ahead where
// that is enough to be corrected.
func (s *Source) fetch(ctx context.Context, n *object.Node, path string, into io.Writer) (off time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	date, err := s.o.Fetcher.Fetch(ctx, n, path, into)
	if err != nil {
		return 0, err
	}
	if off = date.Sub(s.now()); date.IsZero() || off.Abs() <= skew {
		return 0, nil
	}
	s.log.Debug("kubelet's clock is off", "node", n.Name, "offset_seconds", off.Seconds())
	return off, nil
}
