package simulate

import (
	"fmt"
	"math"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/object"
)

type phase int

const (
	unscheduled phase = iota
	creating
	pulling // fails to pull the image, for good
	running
	ended // the main container's last instance ended a moment ago
	backOff
	succeeded
	failed
)

// faultKind is what goes wrong in a slot for a while.
type faultKind int

const (
	noFault faultKind = iota
	crashing
	notReady
	oneRestart
)

// fault gives what goes wrong at or after the moment m of the slot's schedule.
func (s *slot) fault(m float64) (kind faultKind, until float64) {
	u := unit(s.key, 41, math.Float64bits(m))
	d := unit(s.key, 42, math.Float64bits(m))
	switch {
	case u < 0.015:
		return crashing, m + (10+40*d)*minute
	case u < 0.045:
		return notReady, m + (6+20*d)*minute
	case u < 0.09:
		return oneRestart, m
	}
	return noFault, m
}

// life is one pod, from its creation until it is gone. It only moves forward.
type life struct {
	s       *slot
	id      uint64
	start   float64 // the moment of the schedule that brought it
	created float64
	placed  float64
	begun   float64 // the containers start; +Inf when they never do
	term    float64 // it is told to end; +Inf while not known
	gone    float64
	jobEnd  float64 // of a job's pod
	jobFail bool
	uid     string
	name    string
	ip      string

	phase     phase
	reason    string
	instance  float64 // start of the main container's running instance
	readyAt   float64 // of that instance
	restarts  int
	crashes   int // in a row
	last      *object.Termination
	next      float64 // when the main container's state changes
	nextCause string
	fault     faultKind
	faultEnd  float64
	faultAt   float64 // the next fault to come
	ready     bool
	nodeDown  bool

	pod      *object.Pod
	until    float64     // when the pod object changes
	cpuStart []float64   // the slot's CPU integral when each container's instance began
	netStart [2]float64  // and the network's, in and out
	fsStart  [2]float64  //
	begin    []time.Time // StartedAt of each container
	ids      []string    // of the containers' instances
}

func (f *Fleet) newLife(s *slot, start float64) *life {
	l := &life{s: s, start: start, id: hash(s.key, 51, math.Float64bits(start)), term: math.Inf(1), gone: math.Inf(1), jobEnd: math.Inf(1), phase: unscheduled}
	w := s.w
	l.uid = uuid(l.id)
	l.created, l.placed, l.begun = s.timeline(start)
	switch w.typ {
	case "statefulset":
		l.name = fmt.Sprintf("%s-%d", w.name, s.index)
	case "daemonset":
		l.name = w.name + "-" + suffix(5, l.id)
	case "pod":
		l.name = w.name
	case "cronjob":
		l.name = fmt.Sprintf("%s-%d-%s", w.name, int64(start/minute)+28401120, suffix(5, l.id))
		l.jobEnd = l.begun + w.takes
		l.jobFail = w.trouble == failsAtTimes && unit(l.id, 1) < 0.08
	default:
		l.name = w.name + "-" + f.revision(w, start, s.bad) + "-" + suffix(5, l.id)
	}
	if s.n != nil {
		l.ip = fmt.Sprintf("10.%d.%d.%d", 128+s.n.index/250%100, s.n.index%250, hash(l.id, 2)%250+2)
		if w.hostNetwork {
			l.ip = s.n.ip
		}
	}
	l.next = l.placed
	n := 1 + w.sidecars
	l.cpuStart, l.begin, l.ids = make([]float64, n), make([]time.Time, n), make([]string, n)
	l.faultAt = math.Inf(1)
	if s.faults.period > 0 {
		_, l.faultAt = s.faults.around(l.begun)
	}
	return l
}

// timeline says when a pod that starts at start is created, placed on its node
// and running.
func (s *slot) timeline(start float64) (created, placed, begun float64) {
	id := hash(s.key, 51, math.Float64bits(start))
	created = start
	if s.w.typ == "statefulset" || s.w.typ == "pod" {
		created += 9 // the one before must be gone first
	}
	placed = created + between(0.1, 0.6, id, 3)
	begun = placed + between(1.5, 5, id, 4)
	switch u := unit(id, 5); {
	case s.w.trouble == unplaceable:
		return created, math.Inf(1), math.Inf(1)
	case s.bad:
		return created, placed, math.Inf(1)
	case s.w.typ == "cronjob":
		return created, created + 1, created + 4
	case s.w.typ == "daemonset":
	case u < 0.02: // no room for some minutes
		placed += between(2, 12, id, 6) * minute
		begun = placed + between(2, 6, id, 4)
	case u < 0.08: // a cold image
		begun += between(20, 70, id, 6)
	}
	return created, placed, begun
}

// readyDelay is how long an instance needs from its start to being ready.
func (s *slot) readyDelay(id uint64) float64 {
	if s.w.style == styleJava {
		return between(12, 30, id, 7)
	}
	return between(2, 9, id, 7)
}

// revision is the hash of the pod template that was in force at a time.
func (f *Fleet) revision(w *workload, at float64, bad bool) string {
	last, _ := w.rollouts.around(at)
	return suffix(10, hash(w.key, 61, math.Float64bits(last), uint64(boolIndex(bad))))
}

// stagger is how long after its beginning a rollout reaches the slot.
func (s *slot) stagger() float64 {
	step := 25.0
	if s.w.typ != "deployment" {
		step = 45
	}
	// A rollout of a very large workload takes more pods at a time.
	return float64(s.index) * math.Min(step, 6*hour/float64(max(1, len(s.w.slots))))
}

// around gives the start of the pod that belongs into the slot at w (-Inf: none)
// and the next moment at which another start or an end comes.
func (s *slot) around(w float64) (start, next float64) {
	if s.w.typ == "cronjob" {
		k, _ := divide(w-s.w.jobOffset()+4, s.w.every)
		start = k*s.w.every + s.w.jobOffset() - 4
		return start, start + s.w.every
	}
	rollouts := s.w.rollouts
	rollouts.shift += s.stagger()
	start, next = rollouts.around(w)
	if a, b := s.churn.around(w); a > start || b < next {
		start, next = max(a, start), min(b, next)
	}
	if s.length > 0 {
		a, b := s.window.around(w)
		if w >= a+s.length {
			return math.Inf(-1), b
		}
		start, next = max(a, start), min(a+s.length, next)
	}
	return start, next
}

// ends says when the pod that started at start is told to end, by what comes at
// next.
func (s *slot) ends(next float64) float64 {
	if s.w.typ != "deployment" {
		return next
	}
	if again, _ := s.around(next); again != next {
		return next // nothing follows
	}
	_, _, begun := s.timeline(next)
	if math.IsInf(begun, 1) {
		return next
	}
	return begun + s.readyDelay(hash(s.key, 51, math.Float64bits(next))) + 0.5 // the next one is ready first
}

// advance brings the slot to w.
func (f *Fleet) advanceSlot(s *slot, w float64) {
	start, next := s.around(w)
	first := len(s.lives) == 0 && math.IsInf(s.until, -1)
	if first { // the pod before may not be gone yet
		if before, _ := s.around(math.Min(start, w) - 1); !math.IsInf(before, -1) && before != start {
			s.lives = append(s.lives, f.newLife(s, before))
		}
	}
	// Starts that lie between the last call and this one are taken in their order.
	if !first && s.until < w {
		for at := s.until; ; {
			st, nx := s.around(at)
			if !math.IsInf(st, -1) {
				f.addLife(s, st)
			}
			if nx >= w {
				break
			}
			at = nx
		}
	}
	if !math.IsInf(start, -1) {
		f.addLife(s, start)
	}
	s.until = next
	kept := s.lives[:0]
	for _, l := range s.lives {
		if math.IsInf(l.term, 1) {
			if s.w.typ == "cronjob" {
				l.term = l.start + 2*s.w.every
				l.gone = l.term + 1
			} else if _, nx := s.around(l.start); !math.IsInf(nx, 1) {
				l.term = s.ends(nx)
				l.gone = l.term + between(1.5, 7, l.id, 8)
			}
		}
		f.step(l, w)
		if w >= l.gone {
			f.drop(l, w)
			continue
		}
		s.until = math.Min(s.until, l.until)
		kept = append(kept, l)
	}
	clear(s.lives[len(kept):])
	s.lives = kept
}

func (f *Fleet) addLife(s *slot, start float64) {
	for _, l := range s.lives {
		if l.start == start {
			return
		}
	}
	s.lives = append(s.lives, f.newLife(s, start))
}

// step brings a pod to w and rebuilds its object if anything in it changed.
func (f *Fleet) step(l *life, w float64) {
	if l.pod != nil && w < l.until {
		return
	}
	for l.next <= w && l.next < l.term {
		f.transit(l, l.next)
	}
	s := l.s
	until := math.Min(l.next, l.gone)
	if w < l.term {
		until = math.Min(until, l.term)
	}
	for l.faultAt <= w { // what does not touch the container itself
		kind, end := s.fault(l.faultAt)
		if end > w {
			l.fault, l.faultEnd = kind, end
		}
		_, l.faultAt = s.faults.around(l.faultAt)
	}
	if w >= l.faultEnd {
		l.fault = noFault
	}
	until = math.Min(until, l.faultAt)
	if l.fault != noFault {
		until = math.Min(until, l.faultEnd)
	}
	wasReady := l.ready
	l.ready = l.phase == running && w >= l.readyAt && l.fault != notReady && w < l.term
	if l.phase == running && w < l.readyAt {
		until = math.Min(until, l.readyAt)
	}
	if s.n != nil {
		var change float64
		l.nodeDown, change = f.nodeDown(s.n, w)
		until = math.Min(until, change)
		l.ready = l.ready && !l.nodeDown
	}
	if wasReady && !l.ready && l.fault == notReady {
		f.event(w, l, "Warning", "Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503")
	}
	if w >= l.created && (l.pod == nil || !l.pod.Terminating) && w >= l.term && s.w.typ != "cronjob" {
		f.event(l.term, l, "Normal", "Killing", "Stopping container "+s.w.name)
	}
	if l.pod == nil && w < l.created {
		until = math.Min(until, l.created)
		l.until = until
		return
	}
	if l.pod == nil && l.phase == unscheduled && l.placed > l.created+10 {
		f.event(l.created+1, l, "Warning", "FailedScheduling", fmt.Sprintf("0/%d nodes are available: %d Insufficient memory.", len(f.nodes), len(f.nodes)))
	}
	l.until = until
	f.setPod(l, f.podOf(l, w), w)
}

// transit is one change of the main container.
func (f *Fleet) transit(l *life, at float64) {
	s, w := l.s, l.s.w
	switch l.phase {
	case unscheduled:
		if at == l.placed && math.IsInf(l.begun, 1) {
			l.phase, l.reason, l.next = pulling, "ImagePullBackOff", math.Inf(1)
			f.event(at, l, "Normal", "Scheduled", fmt.Sprintf("Successfully assigned %s/%s to %s", w.namespace, l.name, s.n.name))
			f.event(at+2, l, "Warning", "Failed", fmt.Sprintf("Failed to pull image %q: not found", f.image(w, l.start, true)))
			f.event(at+12, l, "Warning", "BackOff", fmt.Sprintf("Back-off pulling image %q", f.image(w, l.start, true)))
			return
		}
		l.phase, l.next = creating, l.begun
		f.event(at, l, "Normal", "Scheduled", fmt.Sprintf("Successfully assigned %s/%s to %s", w.namespace, l.name, s.n.name))
	case creating, ended, backOff:
		if l.phase == creating {
			f.event(at, l, "Normal", "Pulled", fmt.Sprintf("Container image %q already present on machine", f.image(w, l.start, false)))
			for i := range l.cpuStart {
				f.begin(l, i, at)
			}
		} else {
			l.restarts++
			f.begin(l, 0, at)
		}
		f.event(at, l, "Normal", "Started", "Started container "+w.name)
		l.phase, l.instance, l.reason = running, at, ""
		l.readyAt = at + s.readyDelay(hash(l.id, uint64(l.restarts)))
		f.decideEnd(l, at)
	case running:
		if l.nextCause == "" { // the instance outlived what was looked ahead
			f.decideEnd(l, at)
			return
		}
		f.finish(l, at)
	}
}

// begin notes where the counters of a container's new instance start.
func (f *Fleet) begin(l *life, container int, at float64) {
	cpu, rx, tx, fs := l.s.integrals(at)
	l.cpuStart[container] = cpu
	l.begin[container] = f.real(at)
	h := hash(l.id, 71, uint64(container), uint64(l.restarts))
	l.ids[container] = fmt.Sprintf("%016x%016x%016x%016x", h, hash(h, 1), hash(h, 2), hash(h, 3))
	if container == 0 {
		l.fsStart = fs
		if l.restarts == 0 {
			l.netStart = [2]float64{rx, tx}
		}
	}
}

// decideEnd finds out when and of what the instance that runs at a time ends.
func (f *Fleet) decideEnd(l *life, at float64) {
	s := l.s
	l.next, l.nextCause = math.Inf(1), ""
	if s.w.trouble == crashes {
		l.next, l.nextCause = at+between(2, 9, l.id, uint64(l.restarts)), "Error"
		return
	}
	if s.w.typ == "cronjob" {
		l.next, l.nextCause = l.jobEnd, "Completed"
		return
	}
	if s.growing > 0 {
		l.next, l.nextCause = l.instance+(s.w.memLimit-s.memory*1.1)/s.growing, "OOMKilled"
	}
	last, next := s.faults.around(at)
	if kind, end := s.fault(last); kind == crashing && at < end && last > l.begun {
		l.next, l.nextCause = at+between(3, 12, l.id, uint64(l.restarts)), "Error"
		return
	}
	for range 4 { // look a day ahead at most, then again
		if next >= l.next {
			return
		}
		if kind, _ := s.fault(next); kind == crashing || kind == oneRestart {
			l.next, l.nextCause = next, "Error"
			return
		}
		_, next = s.faults.around(next)
	}
	if next < l.next {
		l.next, l.nextCause = next-1, ""
	}
}

func (f *Fleet) finish(l *life, at float64) {
	w := l.s.w
	if l.nextCause == "Completed" {
		l.phase, l.reason, l.next = succeeded, "Completed", math.Inf(1)
		l.last = &object.Termination{Reason: "Completed", FinishedAt: f.real(at)}
		if l.jobFail {
			l.phase, l.reason = failed, "Error"
			l.last = &object.Termination{Reason: "Error", ExitCode: 1, FinishedAt: f.real(at)}
			f.event(at, l, "Warning", "BackoffLimitExceeded", "Job has reached the specified backoff limit")
		} else {
			f.event(at, l, "Normal", "Completed", "Job completed")
		}
		return
	}
	code := 1
	if l.nextCause == "OOMKilled" {
		code = 137
		f.event(at, l, "Warning", "OOMKilling", fmt.Sprintf("Memory cgroup out of memory: killed container %s", w.name))
	}
	l.last = &object.Termination{Reason: l.nextCause, ExitCode: code, FinishedAt: f.real(at)}
	if at-l.instance > 10*minute {
		l.crashes = 0
	}
	l.crashes++
	if l.crashes == 1 {
		l.phase, l.reason, l.next = ended, l.nextCause, at+1
		return
	}
	l.phase, l.reason = backOff, "CrashLoopBackOff"
	l.next = at + math.Min(300, 10*math.Pow(2, float64(min(l.crashes-2, 10))))
	f.event(at, l, "Warning", "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s", w.name, l.name))
}

func (f *Fleet) image(w *workload, at float64, bad bool) string {
	img := w.template.image
	if bad {
		return img + "-rc1"
	}
	return img
}

// podOf builds the object as it is at w.
func (f *Fleet) podOf(l *life, w float64) *object.Pod {
	s, wl := l.s, l.s.w
	p := &object.Pod{
		Meta: object.Meta{UID: l.uid, Namespace: wl.namespace, Name: l.name, CreatedAt: f.real(l.created),
			Labels: map[string]string{"app": wl.name, "team": wl.namespace}},
		Workload: wl.ref, Phase: object.PhasePending, Ready: l.ready, HostNetwork: wl.hostNetwork,
		Terminating: w >= l.term && wl.typ != "cronjob",
	}
	if wl.typ == "deployment" {
		p.Labels["pod-template-hash"] = f.revision(wl, l.start, s.bad)
	}
	scheduled := l.phase != unscheduled
	if scheduled {
		p.Node, p.StartedAt = s.n.name, f.real(l.placed)
	} else {
		p.Reason = "Unschedulable"
	}
	switch l.phase {
	case running, ended, backOff:
		p.Phase, p.IP = object.PhaseRunning, l.ip
	case succeeded:
		p.Phase, p.Reason = object.PhaseSucceeded, "Completed"
	case failed:
		p.Phase, p.Reason = object.PhaseFailed, "Error"
	case pulling:
		p.Reason = l.reason
	}
	if l.phase == backOff {
		p.Reason = l.reason
	}
	limits := wl.cpuLimit > 0
	for i := range 1 + wl.sidecars {
		c := object.Container{Name: wl.name, Image: f.image(wl, l.start, s.bad), State: "waiting", Reason: "ContainerCreating", ID: l.ids[i], StartedAt: l.begin[i],
			Requests: amounts(wl.cpuRequest, wl.memRequest), Limits: amounts(wl.cpuLimit, wl.memLimit)}
		if i > 0 {
			c.Name, c.Image = sidecarNames[(i-1)%len(sidecarNames)], "registry.acme.io/infra/"+sidecarNames[(i-1)%len(sidecarNames)]+":1.27.3"
			c.Requests, c.Limits = amounts(0.05, 64*mib), amounts(0.5, 256*mib)
			if !limits {
				c.Limits = object.Resources{}
			}
		}
		if i >= len(sidecarNames)+1 {
			c.Name = fmt.Sprintf("%s-%d", c.Name, i)
		}
		switch {
		case !scheduled:
			c.Reason = ""
		case i > 0 && (l.phase == running || l.phase == ended || l.phase == backOff):
			c.State, c.Reason, c.Ready = "running", "", !l.nodeDown
		case i == 0:
			switch l.phase {
			case running:
				c.State, c.Reason, c.Ready = "running", "", l.ready
			case ended, succeeded, failed:
				c.State, c.Reason = "terminated", l.reason
			case backOff, pulling:
				c.Reason = l.reason
			}
			c.RestartCount, c.Last = l.restarts, l.last
		case l.phase == succeeded || l.phase == failed:
			c.State, c.Reason = "terminated", "Completed"
		}
		p.Containers = append(p.Containers, c)
		p.Requests.CPUCores += c.Requests.CPUCores
		p.Requests.MemoryBytes += c.Requests.MemoryBytes
		p.Limits.CPUCores += c.Limits.CPUCores
		p.Limits.MemoryBytes += c.Limits.MemoryBytes
	}
	p.Requests.HasCPU, p.Requests.HasMemory = true, true
	p.Limits.HasCPU, p.Limits.HasMemory = limits, limits
	return p
}

var sidecarNames = []string{"istio-proxy", "log-forwarder", "config-reloader", "metrics-exporter"}

func amounts(cores, bytes float64) object.Resources {
	return object.Resources{CPUCores: cores, HasCPU: cores > 0, MemoryBytes: bytes, HasMemory: bytes > 0}
}
