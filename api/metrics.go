package api

import (
	"errors"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
	refused  *prometheus.CounterVec
	panics   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_api_requests_total", Help: "Requests by route and status.",
		}, []string{"route", "method", "code"}),
		took: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "crowsnest_api_request_duration_seconds", Help: "Time until a request was answered, by route.",
			Buckets: []float64{.001, .005, .02, .1, .5, 2, 10, 60},
		}, []string{"route"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "crowsnest_api_refused_total", Help: "Requests refused before any route, by reason.",
		}, []string{"reason"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "crowsnest_api_panics_total", Help: "Requests whose handler panicked. Each is a bug.",
		}),
	}
	for _, reason := range []string{"unauthenticated", "forbidden"} {
		m.refused.WithLabelValues(reason)
	}
	return m, errors.Join(reg.Register(m.requests), reg.Register(m.took), reg.Register(m.refused), reg.Register(m.panics))
}

// measure counts by route, not by path, so that the labels are bounded.
func (s *Server) measure(c *gin.Context) {
	start := s.opts.Now()
	c.Next()
	route, method := c.FullPath(), c.Request.Method
	if route == "" {
		route, method = "other", "other" // what a client makes up must not make series
	}
	s.metrics.requests.WithLabelValues(route, method, strconv.Itoa(c.Writer.Status())).Inc()
	s.metrics.took.WithLabelValues(route).Observe(time.Duration(s.opts.Now().Sub(start)).Seconds())
}
