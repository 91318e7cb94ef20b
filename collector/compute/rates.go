package compute

import (
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// counterKey names one counter of one source.
type counterKey struct {
	source catalogue.Source
	what   counterKind
	id     string // UID of a pod, name of a node
	sub    string // container
}

type counterKind uint8

const (
	cpuTime counterKind = iota
	cpuTotal
	receive
	transmit
	fsRead
	fsWrite
	fsReads
	fsWrites
	periods
	throttled
	receivePackets
	transmitPackets
	netErrors
	logLines
	logBytes
	netDrops
	requests
	requestErrors
	counterKinds
)

// counter remembers the readings of a counter that its rate is taken from.
type counter struct {
	instance string
	readings []reading.Value // oldest first, different times; at least one
	rate     float64
	hasRate  bool
	seen     time.Time
}

// span is how far apart the readings of a rate are. A source that stamps whole
// seconds errs by several per cent over short spans.
type span struct {
	least time.Duration // no rate over less
	want  time.Duration // the newest pair that is this far apart is taken
}

// spanOf gives the span of a source's rates. cAdvisor stamps milliseconds, and
// the last two readings do; /stats/summary stamps whole seconds, and the
// catalogue asks for 60 s where traffic is taken from it.
func spanOf(s catalogue.Source, what counterKind) span {
	if s != catalogue.StatsSummary {
		return span{}
	}
	if what == cpuTime || what == cpuTotal || what == periods || what == throttled {
		return span{least: 10 * time.Second, want: time.Minute}
	}
	return span{least: time.Minute, want: time.Minute}
}

// note takes over a reading of a counter and gives its rate per second, if there
// is one that is young enough at the time at.
func (c *Computer) note(k counterKey, instance string, v reading.Value, at time.Time) (rate float64, ok bool) {
	n := c.counters[k]
	if !v.OK() {
		return 0, false
	}
	if n == nil {
		n = &counter{instance: instance}
		c.counters[k] = n
	}
	n.seen = at
	if n.add(instance, v, spanOf(k.source, k.what)) {
		c.misfits[CounterFell]++
	}
	return n.rate, n.hasRate && at.Sub(n.readings[len(n.readings)-1].At) <= c.maxAge()
}

// add takes a reading, and says whether it is less than the one before of its instance.
func (n *counter) add(instance string, v reading.Value, s span) (fell bool) {
	if len(n.readings) > 0 {
		last := n.readings[len(n.readings)-1]
		if !v.At.After(last.At) {
			return false // the same reading again, or an older one: the rate stands
		}
		// A counter that went down is a restart: its rate is unknown, not negative.
		if instance != n.instance || v.V < last.V {
			fell = instance == n.instance
			n.readings, n.hasRate = n.readings[:0], false
		}
	}
	n.instance = instance
	n.readings = append(n.readings, v)
	// Keep just enough to look back as far as wanted.
	from := 0
	for from+1 < len(n.readings)-1 && v.At.Sub(n.readings[from+1].At) >= s.want {
		from++
	}
	n.readings = append(n.readings[:0], n.readings[from:]...)
	first := n.readings[0]
	elapsed := v.At.Sub(first.At)
	if elapsed <= 0 || elapsed < s.least {
		return fell
	}
	n.rate, n.hasRate = (v.V-first.V)/elapsed.Seconds(), true
	return fell
}

// maxAge is how old a reading may be.
func (c *Computer) maxAge() time.Duration { return max(45*time.Second, c.interval*3/2) }

func (c *Computer) young(v reading.Value, at time.Time) bool {
	return v.OK() && at.Sub(v.At) <= c.maxAge()
}
