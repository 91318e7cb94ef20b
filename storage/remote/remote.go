// Package remote owns samples that another engine keeps: it writes by remote
// write and reads by Prometheus' query API, so that Thanos, VictoriaMetrics or
// any other engine that speaks both stands in for the embedded store. It must
// not know who sends samples, what they mean or who asks for them.
package remote

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Options of a store.
type Options struct {
	// WriteURL takes Prometheus' remote write 1.0, for example
	// http://victoria:8428/api/v1/write or http://thanos-receive:19291/api/v1/receive.
	// Required.
	WriteURL string
	// QueryURL is where /api/v1/query is, for example http://thanos-query:9090.
	// Required.
	QueryURL string
	// HTTP is how both are reached: headers, credentials, TLS.
	HTTP    config.HTTPClientConfig
	Timeout time.Duration // of one write; default 15 s
	// QueryTimeout of one read; default 2 min.
	QueryTimeout time.Duration
	// Settle is how long a sample is held in memory after it was written: engines
	// show what they took some seconds later only, and alerts do not wait for them.
	// Default 1 min.
	Settle time.Duration
	// MaxSettling is how many samples are held at most, the oldest dropped first;
	// default 5 million.
	MaxSettling int
	// MaxBytes of one answer; a longer one is an error. Default 1 GiB.
	MaxBytes   int64
	Logger     *slog.Logger
	Registerer prometheus.Registerer // default none
	Now        func() time.Time      // default time.Now
}

func (o *Options) complete() error {
	var errs []error
	for name, text := range map[string]string{"WriteURL": o.WriteURL, "QueryURL": o.QueryURL} {
		if u, err := url.Parse(text); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			errs = append(errs, fmt.Errorf("remote: %s must be a URL of http or https, not %q: %w", name, text, fault.ErrInvalid))
		}
	}
	if err := o.HTTP.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("remote: HTTP: %w: %w", fault.ErrInvalid, err))
	}
	if o.Timeout == 0 {
		o.Timeout = 15 * time.Second
	}
	if o.QueryTimeout == 0 {
		o.QueryTimeout = 2 * time.Minute
	}
	if o.Settle == 0 {
		o.Settle = time.Minute
	}
	if o.MaxSettling == 0 {
		o.MaxSettling = 5_000_000
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 1 << 30
	}
	if o.Timeout < 0 || o.QueryTimeout < 0 || o.Settle < 0 || o.MaxSettling < 0 || o.MaxBytes < 0 {
		errs = append(errs, fmt.Errorf("remote: Timeout, QueryTimeout, Settle, MaxSettling and MaxBytes must be positive: %w", fault.ErrInvalid))
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return errors.Join(errs...)
}

// Store is the way to the engine. All methods may be called concurrently.
type Store struct {
	opts    Options
	client  *http.Client
	query   v1.API
	metrics *ownMetrics
	recent  *recent

	mu     sync.Mutex
	failed error // of the newest write, when it may succeed later
	at     time.Time
}

var (
	_ storage.Storage           = (*Store)(nil)
	_ storage.ExemplarQueryable = (*Store)(nil)
)

// New makes the store. It asks nobody yet: an engine that is away at the start
// is told by ReadOnly and by each write.
func New(o Options) (*Store, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	rt, err := config.NewRoundTripperFromConfig(o.HTTP, "crowsnest-remote")
	if err != nil {
		return nil, fmt.Errorf("remote: HTTP: %w: %w", fault.ErrInvalid, err)
	}
	client, err := api.NewClient(api.Config{Address: o.QueryURL, RoundTripper: asking{rt, o.MaxBytes}})
	if err != nil {
		return nil, fmt.Errorf("remote: QueryURL: %w: %w", fault.ErrInvalid, err)
	}
	return &Store{
		opts: o, client: &http.Client{Transport: rt}, query: v1.NewAPI(client), metrics: newMetrics(o.Registerer),
		recent: newRecent(o.Settle, o.MaxSettling),
	}, nil
}

// asking adds to each query what keeps an answer from looking complete when it
// is not, and bounds it.
type asking struct {
	next     http.RoundTripper
	maxBytes int64
}

func (a asking) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	q := r.URL.Query()
	q.Set("partial_response", "false") // Thanos: an answer without one of its stores is an error
	q.Set("latency_offset", "1s")      // VictoriaMetrics: it hides the newest 30 s by default
	q.Set("nocache", "1")              // VictoriaMetrics: late samples change the past
	r.URL.RawQuery = q.Encode()
	res, err := a.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	res.Body = &bounded{ReadCloser: res.Body, left: a.maxBytes}
	return res, nil
}

// bounded fails, unlike io.LimitReader, where it is at its end.
type bounded struct {
	io.ReadCloser
	left int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, fmt.Errorf("the remote engine's answer is longer than allowed: ask for a shorter time or fewer series: %w", fault.ErrLimited)
	}
	if int64(len(p)) > b.left {
		p = p[:b.left]
	}
	n, err := b.ReadCloser.Read(p)
	b.left -= int64(n)
	return n, err
}

// Close ends idle connections. Writes are not waited for; their callers are.
func (s *Store) Close() error {
	s.client.CloseIdleConnections()
	return nil
}

// holdOff is how long writes are refused at once after one that failed, so that
// requests do not pile up in front of an engine that is away.
const holdOff = 2 * time.Second

// ReadOnly is nil while writes are tried, else it says why not; the error is a
// fault.ErrUnavailable. It recovers by itself.
func (s *Store) ReadOnly() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.failed == nil || s.opts.Now().Sub(s.at) > holdOff {
		return nil
	}
	return s.failed
}

func (s *Store) wrote(err error) {
	s.mu.Lock()
	was := s.failed
	s.failed, s.at = err, s.opts.Now()
	s.mu.Unlock()
	switch {
	case err != nil && was == nil:
		s.opts.Logger.Warn("remote metrics engine takes no writes", "err", err)
	case err == nil && was != nil:
		s.opts.Logger.Info("remote metrics engine takes writes again")
	}
}

// DeleteCluster asks the engine to delete a cluster's series. Where it does not
// serve that, they stay until its own retention ends, which is logged.
func (s *Store) DeleteCluster(ctx context.Context, cluster string) error {
	selector := selectorText([]*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, "cluster", cluster)})
	s.recent.drop(cluster)
	ctx, cancel := context.WithTimeout(ctx, s.opts.QueryTimeout)
	defer cancel()
	if err := s.query.DeleteSeries(ctx, []string{selector}, time.Time{}, s.opts.Now()); err != nil {
		s.opts.Logger.Warn("the remote metrics engine did not delete a cluster's series: delete them there, or they stay as long as it keeps samples", "cluster", cluster, "selector", selector, "err", err)
	}
	return nil
}

// Series is unknown: the engine counts them itself.
func (s *Store) Series() uint64 { return 0 }

// ToRewrite is 0: the engine rewrites its own blocks.
func (s *Store) ToRewrite() int { return 0 }

// Forecast is unknown: the engine's disk is its own.
func (s *Store) Forecast() (in time.Duration, never, known bool) { return 0, false, false }

// StartTime is unknown; samples of any age may be asked for.
func (s *Store) StartTime() (int64, error) { return 0, nil }

// RetentionText is the retention as Prometheus' API shows it.
func (s *Store) RetentionText() string { return "kept by the remote engine" }

// errElsewhere answers what Prometheus' API asks of a store of its own.
var errElsewhere = fmt.Errorf("samples are kept by a remote engine: ask it: %w", fault.ErrUnavailable)

// CleanTombstones is the engine's own.
func (s *Store) CleanTombstones() error { return errElsewhere }

// Delete is the engine's own.
func (s *Store) Delete(context.Context, int64, int64, ...*labels.Matcher) error { return errElsewhere }

// Snapshot is the engine's own.
func (s *Store) Snapshot(string, bool) error { return errElsewhere }

// Stats are the engine's own.
func (s *Store) Stats(string, int) (*tsdb.Stats, error) { return nil, errElsewhere }

// WALReplayStatus is that of a log that needs no replay.
func (s *Store) WALReplayStatus() (tsdb.WALReplayStatus, error) { return tsdb.WALReplayStatus{}, nil }

// BlockMetas are the engine's own.
func (s *Store) BlockMetas() ([]tsdb.BlockMeta, error) { return nil, errElsewhere }
