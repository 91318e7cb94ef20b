package control

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

type metrics struct {
	refused *prometheus.CounterVec
	frames  *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, h *Hub) (*metrics, error) {
	m := &metrics{
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_control_refused_total", Help: "Control streams that were refused, by reason.",
		}, []string{"reason"}),
		frames: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_control_frames_total", Help: "Frames that came from collectors, by type.",
		}, []string{"type"}),
	}
	for _, reason := range []string{"handshake", "hello", "version", "limit"} {
		m.refused.WithLabelValues(reason)
	}
	for _, t := range []string{string(wire.FrameHealth), string(wire.FrameApplied), "malformed"} {
		m.frames.WithLabelValues(t)
	}
	return m, errors.Join(reg.Register(m.refused), reg.Register(m.frames), reg.Register(&senders{h}))
}

// senders counts collectors by cluster when it is asked.
type senders struct{ hub *Hub }

var sendersDesc = prometheus.NewDesc("crowsnest_control_senders", "Collectors that are connected.", []string{"cluster"}, nil)

func (s *senders) Describe(ch chan<- *prometheus.Desc) { ch <- sendersDesc }

func (s *senders) Collect(ch chan<- prometheus.Metric) {
	counts := map[string]int{}
	s.hub.mu.Lock()
	for cluster, list := range s.hub.senders {
		counts[cluster] = 0
		for _, e := range list {
			if e.Connected {
				counts[cluster]++
			}
		}
	}
	s.hub.mu.Unlock()
	for cluster, n := range counts {
		ch <- prometheus.MustNewConstMetric(sendersDesc, prometheus.GaugeValue, float64(n), cluster)
	}
}
