package backup

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Runner makes backups when it is asked to, one at a time.
type Runner struct {
	opts   Options
	log    *slog.Logger
	asked  chan struct{}
	last   prometheus.Gauge
	failed prometheus.Counter

	mu     sync.Mutex
	status Status
}

// Status of a Runner.
type Status struct {
	Running   bool
	StartedAt time.Time // of the one that runs, or ran last
	EndedAt   time.Time // of the last one
	Progress  Progress
	Error     string // why the last one failed
	ID        string // of the last whole one
}

// NewRunner makes a runner. Without o.To it refuses to begin.
func NewRunner(o Options, log *slog.Logger, reg prometheus.Registerer) *Runner {
	if o.Now == nil {
		o.Now = time.Now
	}
	f := promauto.With(reg)
	return &Runner{
		opts: o, log: log, asked: make(chan struct{}, 1),
		last: f.NewGauge(prometheus.GaugeOpts{
			Name: "crowsnest_backup_last_success_timestamp_seconds", Help: "When the last backup since the start was whole; 0 when there was none.",
		}),
		failed: f.NewCounter(prometheus.CounterOpts{Name: "crowsnest_backup_failures_total", Help: "Backups that could not be made."}),
	}
}

// Run makes the backups that are asked for until ctx ends, which interrupts one.
func (r *Runner) Run(ctx context.Context) error {
	if err := clean(r.opts.Data); err != nil {
		r.log.Warn("remove what a backup left behind that was interrupted", "err", err)
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-r.asked:
			r.one(ctx)
		}
	}
}

func (r *Runner) one(ctx context.Context) {
	o := r.opts
	o.Progress = func(p Progress) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.status.Progress = p
	}
	m, err := Create(ctx, o)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status.Running, r.status.EndedAt = false, r.opts.Now().UTC()
	if m != nil {
		r.status.ID = m.ID
		r.last.Set(float64(m.CreatedAt.Unix()))
	}
	if err != nil {
		r.status.Error = err.Error()
		r.failed.Inc()
		r.log.Error("backup", "to", o.To.String(), "err", err)
		return
	}
	r.log.Info("backup made", "to", o.To.String(), "id", m.ID, "bytes", m.Bytes(), "copied_bytes", r.status.Progress.Copied,
		"took_seconds", r.status.EndedAt.Sub(r.status.StartedAt).Seconds())
}

// Begin asks for a backup. fault.ErrConflict while one is made, fault.ErrInvalid
// when the server was given no folder for it.
func (r *Runner) Begin() error {
	if r.opts.To == nil {
		return fault.Because(fault.ErrInvalid, fault.BackupNowhere)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.status.Running {
		return fault.Because(fault.ErrConflict, fault.BackupRunning, r.status.StartedAt.Format(time.RFC3339))
	}
	r.status.Running, r.status.StartedAt, r.status.Error, r.status.Progress = true, r.opts.Now().UTC(), "", Progress{Step: "waiting"}
	r.asked <- struct{}{} // has room: none is running
	return nil
}

// Status tells how far it is.
func (r *Runner) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.status
}

// List gives the whole backups, the newest last; none without a place for them.
func (r *Runner) List(ctx context.Context) ([]*Manifest, error) {
	if r.opts.To == nil {
		return nil, nil
	}
	return List(ctx, r.opts.To)
}
