package simulate

import (
	"fmt"
	"math"

	"github.com/crowsnest-dev/crowsnest/internal/object"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// logStyle is how the lines of a workload look.
type logStyle int

const (
	styleJSON logStyle = iota
	styleLogfmt
	styleAccess
	styleJava
	styleKlog
)

// trouble is what is wrong with a workload for good.
type trouble int

const (
	noTrouble    trouble = iota
	crashes              // in CrashLoopBackOff
	leaks                // grows until it is OOMKilled
	burns                // at its CPU limit every few hours
	unplaceable          // Pending: no node has what it asks for
	badRollouts          // now and then a new version whose image does not exist
	idle                 // nearly no use
	failsAtTimes         // of cron jobs
)

// template is a kind of workload that a fleet has.
type template struct {
	namespace, name, typ string
	image                string
	replicas             int     // at least; a larger fleet has more
	cpu                  float64 // cores a replica uses on average
	memory               float64 // MiB a replica uses on average
	network              float64 // bytes/s in and out on average
	style                logStyle
	trouble              trouble
	elastic              bool    // has more replicas by day
	hostNetwork          bool    //
	noLimits             bool    //
	every, takes         float64 // of a cron job, seconds
}

var perNode = []template{
	{"kube-system", "kube-proxy", "daemonset", "registry.k8s.io/kube-proxy:v1.34.4", 1, 0.01, 45, 0, styleKlog, noTrouble, false, true, true, 0, 0},
	{"kube-system", "calico-node", "daemonset", "docker.io/calico/node:v3.30.3", 1, 0.04, 130, 0, styleKlog, noTrouble, false, true, true, 0, 0},
	{"kube-system", "node-local-dns", "daemonset", "registry.k8s.io/dns/k8s-dns-node-cache:1.26.4", 1, 0.01, 40, 8e3, styleKlog, noTrouble, false, false, false, 0, 0},
}

var apps = []template{
	{"shop", "cart", "deployment", "registry.acme.io/shop/cart:2.14.3", 3, 0.25, 380, 160e3, styleJSON, noTrouble, true, false, false, 0, 0},
	{"kube-system", "coredns", "deployment", "registry.k8s.io/coredns/coredns:v1.12.4", 2, 0.02, 60, 30e3, styleKlog, noTrouble, false, false, false, 0, 0},
	{"payments", "gateway", "deployment", "registry.acme.io/payments/gateway:5.2.0", 3, 0.3, 520, 120e3, styleJSON, noTrouble, true, false, false, 0, 0},
	{"platform", "legacy-sync", "deployment", "registry.acme.io/platform/legacy-sync:0.9.1", 1, 0.05, 90, 2e3, styleJava, crashes, false, false, false, 0, 0},
	{"platform", "postgres", "statefulset", "docker.io/library/postgres:17.6", 2, 0.4, 1900, 300e3, styleAccess, noTrouble, false, false, false, 0, 0},
	{"search", "indexer", "statefulset", "registry.acme.io/search/indexer:1.8.0", 2, 0.35, 900, 200e3, styleJava, leaks, false, false, false, 0, 0},
	{"shop", "image-resizer", "deployment", "registry.acme.io/shop/image-resizer:1.3.7", 2, 0.12, 260, 400e3, styleLogfmt, burns, false, false, false, 0, 0},
	{"payments", "settlement", "cronjob", "registry.acme.io/payments/settlement:3.0.2", 1, 0.6, 300, 20e3, styleLogfmt, noTrouble, false, false, false, hour, 4 * minute},
	{"ml", "train-embeddings", "pod", "registry.acme.io/ml/train:0.4.0", 1, 4, 16000, 0, styleLogfmt, unplaceable, false, false, false, 0, 0},
	{"shop", "storefront", "deployment", "registry.acme.io/shop/storefront:4.21.0", 4, 0.2, 300, 500e3, styleAccess, noTrouble, true, false, false, 0, 0},
	{"shop", "checkout", "deployment", "registry.acme.io/shop/checkout:3.7.1", 3, 0.3, 600, 140e3, styleJava, badRollouts, true, false, false, 0, 0},
	{"search", "query", "deployment", "registry.acme.io/search/query:2.2.5", 3, 0.5, 1400, 350e3, styleJSON, noTrouble, true, false, false, 0, 0},
	{"platform", "auth", "deployment", "registry.acme.io/platform/auth:6.1.4", 3, 0.15, 240, 80e3, styleLogfmt, noTrouble, false, false, false, 0, 0},
	{"shop", "cart-cleanup", "cronjob", "registry.acme.io/shop/cart-cleanup:1.0.9", 1, 0.2, 120, 5e3, styleLogfmt, failsAtTimes, false, false, false, 30 * minute, 2 * minute},
	{"payments", "ledger", "statefulset", "registry.acme.io/payments/ledger:4.4.0", 3, 0.35, 1100, 90e3, styleJava, noTrouble, false, false, false, 0, 0},
	{"platform", "redis", "statefulset", "docker.io/library/redis:8.2", 3, 0.1, 700, 250e3, styleAccess, noTrouble, false, false, false, 0, 0},
	{"platform", "kafka", "statefulset", "docker.io/apache/kafka:4.1.0", 3, 0.5, 2600, 900e3, styleJava, noTrouble, false, false, false, 0, 0},
	{"shop", "catalog", "deployment", "registry.acme.io/shop/catalog:7.0.2", 3, 0.2, 420, 180e3, styleJSON, noTrouble, false, false, false, 0, 0},
	{"payments", "fraud-scorer", "deployment", "registry.acme.io/payments/fraud-scorer:1.12.0", 2, 0.45, 1700, 40e3, styleJSON, badRollouts, false, false, false, 0, 0},
	{"payments", "refunds", "deployment", "registry.acme.io/payments/refunds:2.0.8", 2, 0.05, 280, 10e3, styleJava, idle, false, false, false, 0, 0},
	{"shop", "recommendations", "deployment", "registry.acme.io/shop/recommendations:0.18.2", 2, 0.35, 1200, 70e3, styleJSON, noTrouble, false, false, false, 0, 0},
	{"shop", "inventory", "deployment", "registry.acme.io/shop/inventory:3.3.3", 2, 0.1, 350, 60e3, styleLogfmt, noTrouble, false, false, true, 0, 0},
	{"search", "crawler", "deployment", "registry.acme.io/search/crawler:0.30.1", 2, 0.4, 500, 800e3, styleLogfmt, noTrouble, false, false, false, 0, 0},
	{"platform", "api-gateway", "deployment", "registry.acme.io/platform/api-gateway:1.44.0", 3, 0.3, 260, 900e3, styleAccess, noTrouble, true, false, false, 0, 0},
	{"platform", "notifications", "deployment", "registry.acme.io/platform/notifications:2.6.0", 2, 0.05, 220, 15e3, styleJSON, idle, false, false, false, 0, 0},
	{"platform", "feature-flags", "deployment", "registry.acme.io/platform/feature-flags:1.9.2", 2, 0.03, 110, 20e3, styleLogfmt, idle, false, false, true, 0, 0},
	{"data", "clickhouse", "statefulset", "docker.io/clickhouse/clickhouse-server:25.9", 2, 0.8, 6000, 600e3, styleAccess, noTrouble, false, false, false, 0, 0},
	{"data", "etl-orders", "cronjob", "registry.acme.io/data/etl-orders:1.5.0", 1, 0.9, 700, 100e3, styleLogfmt, failsAtTimes, false, false, false, 10 * minute, 3 * minute},
	{"data", "stream-worker", "deployment", "registry.acme.io/data/stream-worker:3.1.0", 3, 0.4, 800, 300e3, styleJava, noTrouble, false, false, false, 0, 0},
	{"monitoring", "metrics-server", "deployment", "registry.k8s.io/metrics-server/metrics-server:v0.8.0", 1, 0.02, 70, 12e3, styleKlog, noTrouble, false, false, false, 0, 0},
	{"ml", "embedder", "deployment", "registry.acme.io/ml/embedder:0.7.2", 2, 0.9, 2800, 60e3, styleJSON, noTrouble, false, false, false, 0, 0},
	{"platform", "admin", "deployment", "registry.acme.io/platform/admin:2.0.0", 1, 0.004, 150, 1e3, styleJSON, idle, false, false, false, 0, 0},
}

// node is one simulated node.
type node struct {
	name   string
	index  int
	key    uint64
	ip     string
	cores  float64
	memory float64
	slots  []*slot
	system wave // of what runs outside pods
	now    *object.Node
	until  float64 // when now changes
}

// workload is one simulated workload.
type workload struct {
	template
	key      uint64
	ref      object.WorkloadRef
	uid      string
	rollouts schedule
	daily    wave
	slots    []*slot
	desired  int // replicas that always exist; elastic and extra slots come on top

	cpuRequest, cpuLimit, memRequest, memLimit float64 // cores and bytes of the main container; 0: none
	sidecars                                   int
	now                                        *object.Workload
	until                                      float64
}

// slot is one place of a workload's replicas. Pods live in it one after the
// other, always on the same node: so the node's own counters are sums of
// functions, too.
type slot struct {
	w      *workload
	n      *node // nil when unplaceable
	index  int
	key    uint64
	churn  schedule
	faults schedule
	window schedule // the slot exists only from each moment …
	length float64  // … for so long; 0: always
	bad    bool     // holds pods of a bad rollout only

	cpu, network    float64 // averages
	noise1, noise2  wave
	burst           burst
	memory, growing float64 // bytes; growing: bytes per second that leak
	lives           []*life
	until           float64 // when anything in the slot changes
}

func sum(ts []template) int {
	n := 0
	for _, t := range ts {
		n += t.replicas
	}
	return n
}

// plan lays out the fleet: exactly Nodes × PodsPerNode slots that are always
// there, on top of which come elastic and failing extra ones.
func (f *Fleet) plan() {
	o := f.opts
	for i := range o.Nodes {
		n := &node{name: fmt.Sprintf("worker-%02d", i+1), index: i, key: hash(o.Seed, 11, uint64(i)), until: math.Inf(-1)}
		n.ip = fmt.Sprintf("10.%d.%d.%d", 20+i/62500, i/250%250, i%250+1)
		n.system = noiseWave(0.5, n.key)
		f.nodes = append(f.nodes, n)
	}
	daemons := perNode[:min(len(perNode), max(0, o.PodsPerNode/4))]
	for _, t := range daemons {
		t.replicas = o.Nodes
		f.addWorkload(t)
	}
	rest := o.Nodes*o.PodsPerNode - len(daemons)*o.Nodes
	const fullness = 2.2 // a template has about so many times its least replicas before it is copied
	copies := max(1, int(math.Round(float64(rest)/(fullness*float64(sum(apps))))))
	var chosen []template
	for c := 0; c < copies && rest > 0; c++ {
		for _, t := range apps {
			if c > 0 && (t.namespace == "kube-system" || t.namespace == "monitoring" || t.trouble == unplaceable || t.trouble == crashes && c%4 != 0) {
				continue
			}
			if t.replicas > rest {
				continue
			}
			switch {
			case c == 0:
			case c < 4:
				t.namespace += [4]string{"", "-eu", "-us", "-apac"}[c]
			default:
				t.namespace += fmt.Sprintf("-t%d", c)
			}
			rest -= t.replicas
			chosen = append(chosen, t)
		}
	}
	for i := 0; rest > 0 && len(chosen) > 0; i++ { // the rest goes round to those that scale
		t := &chosen[i%len(chosen)]
		if t.typ == "deployment" && t.trouble != crashes && t.namespace != "kube-system" && t.namespace != "monitoring" || len(chosen) == 1 {
			t.replicas++
			rest--
		}
	}
	for _, t := range chosen {
		f.addWorkload(t)
	}
	f.size()
}

func (f *Fleet) addWorkload(t template) {
	o := f.opts
	key := hash(o.Seed, hashString(t.namespace), hashString(t.name))
	w := &workload{template: t, key: key, ref: object.WorkloadRef{Type: t.typ, Name: t.name}, uid: uuid(hash(key, 1)), until: math.Inf(-1)}
	w.daily = dailyWave([2]float64{0.5, 0.15}[boolIndex(t.typ == "daemonset" || t.trouble == idle || t.trouble == burns)], between(12, 16, key, 2))
	w.desired = t.replicas
	if t.typ != "cronjob" {
		w.rollouts = schedule{key: hash(key, 3), period: between(2, 6, key, 4) * day, spread: 0.6}
	}
	if unit(key, 5) < o.ContainersPerPod-math.Floor(o.ContainersPerPod) {
		w.sidecars++
	}
	w.sidecars += int(o.ContainersPerPod) - 1
	w.cpuRequest, w.memRequest = niceUp(t.cpu*0.8, 0.01), niceUp(t.memory*1.1, 16)*mib
	if !t.noLimits {
		w.cpuLimit, w.memLimit = niceUp(t.cpu*2.6, 0.05), niceUp(t.memory*1.7, 32)*mib
	}
	f.workloads = append(f.workloads, w)
	for i := range t.replicas {
		f.addSlot(w, i)
	}
	if t.elastic { // from morning to evening
		for i := range 1 + t.replicas/3 {
			s := f.addSlot(w, t.replicas+i)
			s.window = schedule{key: s.key, period: day, spread: 0.02, shift: between(6, 8, s.key, 7) * hour}
			s.length = between(7, 10, s.key, 8) * hour
		}
	}
	if t.trouble == badRollouts {
		s := f.addSlot(w, len(w.slots))
		s.bad = true
		s.window = schedule{key: s.key, period: between(1.5, 3, s.key, 7) * day, spread: 0.7}
		s.length = between(20, 45, s.key, 8) * minute
	}
}

func (f *Fleet) addSlot(w *workload, index int) *slot {
	o := f.opts
	s := &slot{w: w, index: index, key: hash(w.key, 21, uint64(index)), until: math.Inf(-1)}
	switch {
	case w.trouble == unplaceable:
	case w.typ == "daemonset":
		s.n = f.nodes[index]
	default:
		s.n = f.nodes[f.placed%len(f.nodes)]
		f.placed++
	}
	if s.n != nil {
		s.n.slots = append(s.n.slots, s)
	}
	if o.Churn > 0 && w.typ != "daemonset" && w.typ != "cronjob" && w.typ != "pod" {
		s.churn = schedule{key: hash(s.key, 1), period: minute / o.Churn, spread: 0.8}
	}
	if w.trouble != crashes && w.trouble != unplaceable && w.typ != "cronjob" {
		s.faults = schedule{key: hash(s.key, 2), period: 6 * hour, spread: 0.7}
	}
	s.cpu = w.cpu * between(0.7, 1.2, s.key, 3)
	if w.trouble == idle {
		s.cpu = w.cpu * between(0.02, 0.1, s.key, 3)
	}
	s.network = w.network * between(0.7, 1.3, s.key, 4)
	s.memory = w.memory * mib * between(0.8, 1.05, s.key, 5)
	s.noise1, s.noise2 = noiseWave(0.35, hash(s.key, 6)), noiseWave(0.35, hash(s.key, 7))
	switch w.trouble {
	case burns:
		s.noise1, s.cpu = noiseWave(0.05, hash(s.key, 6)), w.cpu*0.3
		s.burst = burst{period: 3.2 * hour, length: between(10, 14, s.key, 8) * minute, offset: between(0, 3, s.key, 9) * hour, height: w.cpuLimit - 1.2*s.cpu}
	case leaks:
		s.growing = (w.memLimit - s.memory*1.15) / (between(2.5, 6, s.key, 8) * hour)
	}
	if w.typ == "cronjob" {
		s.noise1, s.noise2 = wave{}, wave{}
		s.burst = burst{period: w.every, length: w.takes, offset: w.jobOffset(), height: s.cpu}
		s.cpu = 0
	}
	w.slots = append(w.slots, s)
	f.slots = append(f.slots, s)
	return s
}

// jobOffset is when within its period a cron job's pod starts to run.
func (w *workload) jobOffset() float64 { return math.Floor(unit(w.key, 31)*w.every/minute)*minute + 4 }

// size gives every node the capacity that its pods' requests need, and makes
// what no node has room for so that it is.
func (f *Fleet) size() {
	var cpu, mem float64
	for _, n := range f.nodes {
		var c, m float64
		for _, s := range n.slots {
			c += s.w.cpuRequest + 0.05*float64(s.w.sidecars)
			m += s.w.memRequest + 64*mib*float64(s.w.sidecars)
		}
		cpu, mem = max(cpu, c), max(mem, m)
	}
	cores, memory := 2.0, 4.0*gib
	for _, c := range []float64{4, 8, 16, 32, 48, 64, 96, 128, 192, 256} {
		if cores*0.85 < cpu {
			cores = c
		}
	}
	for memory*0.85 < mem {
		memory *= 2
	}
	for _, n := range f.nodes {
		n.cores, n.memory = cores, memory
	}
	for _, w := range f.workloads {
		if w.trouble == unplaceable { // a quarter more memory than a node has
			w.cpuRequest, w.memRequest = min(w.cpuRequest, cores/2), 1.25*memory
			w.cpuLimit, w.memLimit = w.cpuRequest, w.memRequest
		}
	}
}

func niceUp(v, step float64) float64 { return math.Ceil(v/step) * step }

func boolIndex(b bool) int {
	if b {
		return 1
	}
	return 0
}

func uuid(h uint64) string {
	g := hash(h, 99)
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", uint32(h>>32), uint16(h>>16), h&0xfff, 0x8000|uint16(g>>48)&0x3fff, g&0xffffffffffff)
}

const podAlphabet = "bcdfghjklmnpqrstvwxz2456789"

// suffix makes the letters that Kubernetes puts behind a name.
func suffix(n int, h uint64) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = podAlphabet[h%uint64(len(podAlphabet))]
		h /= uint64(len(podAlphabet))
	}
	return string(b)
}
