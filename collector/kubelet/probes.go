package kubelet

import (
	"bytes"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
)

// maxProbes bounds what is kept of one kubelet's /metrics/probes: 110 pods of
// four containers with three probes each have some 2,600.
const maxProbes = 5_000

var probePrefix = []byte("prober_probe_total{")

// probeTypes and probeResults are the words that there are; others are left out,
// so that an answer cannot make up labels.
var (
	probeTypes   = map[string]string{"Liveness": "liveness", "Readiness": "readiness", "Startup": "startup"}
	probeResults = map[string]bool{"successful": true, "failed": true, "unknown": true}
)

// probes reads an answer of /metrics/probes while it arrives. Of its lines only
// the counters matter: most are histograms of how long probes took.
type probes struct {
	splitter
	at    time.Time // of the answer; its lines have no time
	knows func(uid, namespace, pod string) bool
	out   []reading.Probe
}

func newProbes(at time.Time) *probes {
	p := &probes{at: at}
	p.reset()
	return p
}

// Write implements io.Writer. It never fails.
func (r *probes) Write(p []byte) (int, error) {
	r.split(p, r.line)
	return len(p), nil
}

func (r *probes) line(line []byte) {
	if !bytes.HasPrefix(line, probePrefix) {
		return
	}
	switch {
	case len(line) > maxLine:
		r.refused[refusedLong]++
		return
	case !utf8.Valid(line):
		r.refused[refusedMalformed]++
		return
	}
	p := textparse.NewPromParser(append(bytes.Clone(line), '\n'), labels.NewSymbolTable(), false)
	if entry, err := p.Next(); err != nil || entry != textparse.EntrySeries {
		r.refused[refusedMalformed]++
		return
	}
	_, _, v := p.Series()
	switch {
	case v != v || v > 1e300:
		r.refused[refusedNumber]++
		return
	case v < 0:
		r.refused[refusedNegative]++
		return
	}
	var ls labels.Labels
	p.Labels(&ls)
	probe := reading.Probe{
		PodUID: strings.Clone(ls.Get("pod_uid")), Namespace: strings.Clone(ls.Get("namespace")), Pod: strings.Clone(ls.Get("pod")),
		Container: strings.Clone(ls.Get("container")), Probe: probeTypes[ls.Get("probe_type")], Result: strings.Clone(ls.Get("result")),
		Count: reading.Value{V: v, At: r.at},
	}
	if probe.PodUID == "" || probe.Container == "" || probe.Probe == "" || !probeResults[probe.Result] {
		r.refused[refusedMalformed]++
		return
	}
	if (room{maxProbes, r.knows, r.refused}).takes(len(r.out), probe.PodUID, probe.Namespace, probe.Pod) {
		r.out = append(r.out, probe)
	}
}
