// Package replay owns backtests as jobs: they wait, run, tell how far they are,
// are cancelled and forgotten. It must not know how a policy is judged, nor HTTP.
package replay

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/engine"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

const (
	maxWaiting = 4
	maxKept    = 20
	keepFor    = time.Hour
	maxRuns    = 10 * time.Minute
)

// Runner replays a policy; *engine.Engine is one.
type Runner interface {
	Backtest(ctx context.Context, r meta.Resource, g engine.Range) (policy.Replay, error)
}

var _ Runner = (*engine.Engine)(nil)

// Policy is one that is to be replayed.
type Policy struct {
	Row   meta.Resource
	Draft bool
	// MayFail has a policy that cannot be replayed leave its reason in its result,
	// and the others go on.
	MayFail bool
}

// job is a backtest; jobs.mu guards it.
type job struct {
	policy.Backtest
	policies []Policy
	clusters []string
	cancel   context.CancelFunc // while it runs
}

// Jobs are all backtests, in memory only. Run runs them one by one; the rest may
// be called concurrently.
type Jobs struct {
	runner Runner
	now    func() time.Time
	wake   chan struct{}

	mu   sync.Mutex
	jobs map[string]*job
}

// New makes an empty queue.
func New(runner Runner, now func() time.Time) *Jobs {
	return &Jobs{runner: runner, now: now, wake: make(chan struct{}, 1), jobs: map[string]*job{}}
}

// Start queues a backtest of one policy, or of two that are compared;
// fault.ErrLimited when four wait already.
func (j *Jobs) Start(policies []Policy, from, to time.Time, clusters []string) (policy.Backtest, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now := j.now().UTC()
	waiting := 0
	for id, one := range j.jobs {
		if one.State == policy.BacktestQueued {
			waiting++
		}
		if one.EndedAt != nil && now.Sub(*one.EndedAt) > keepFor {
			delete(j.jobs, id)
		}
	}
	if waiting >= maxWaiting {
		return policy.Backtest{}, fault.Because(fault.ErrLimited, fault.BacktestsFull, waiting)
	}
	for len(j.jobs) >= maxKept {
		for _, old := range j.sortedLocked() { // the oldest that has ended
			if old.EndedAt != nil {
				delete(j.jobs, old.ID)
				break
			}
		}
	}
	one := &job{Backtest: policy.Backtest{
		ID: incident.NewID("bt_", now), State: policy.BacktestQueued, From: from, To: to, CreatedAt: now, Results: []policy.Replay{},
	}, policies: policies, clusters: clusters}
	j.jobs[one.ID] = one
	select {
	case j.wake <- struct{}{}:
	default:
	}
	return one.Backtest, nil
}

func (j *Jobs) sortedLocked() []*job {
	return slices.SortedFunc(maps.Values(j.jobs), func(a, b *job) int { return a.CreatedAt.Compare(b.CreatedAt) })
}

// Get gives one; fault.ErrNotFound when there is none.
func (j *Jobs) Get(id string) (policy.Backtest, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	one := j.jobs[id]
	if one == nil {
		return policy.Backtest{}, fault.Because(fault.ErrNotFound, fault.Missing, "backtest", id)
	}
	return one.Backtest, nil
}

// List gives all, the newest first, without their results.
func (j *Jobs) List() []policy.Backtest {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := []policy.Backtest{}
	for _, one := range slices.Backward(j.sortedLocked()) {
		b := one.Backtest
		b.Results = []policy.Replay{}
		out = append(out, b)
	}
	return out
}

// Delete cancels one and forgets it.
func (j *Jobs) Delete(id string) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	one := j.jobs[id]
	if one == nil {
		return fault.Because(fault.ErrNotFound, fault.Missing, "backtest", id)
	}
	if one.cancel != nil {
		one.cancel()
	}
	delete(j.jobs, id)
	return nil
}

// Run runs what waits until ctx ends.
func (j *Jobs) Run(ctx context.Context) error {
	for {
		if one, runCtx, cancel := j.next(ctx); one != nil {
			results, err := j.run(runCtx, one)
			j.finish(runCtx, one, results, err)
			cancel()
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-j.wake:
		}
	}
}

// next takes the oldest that waits.
func (j *Jobs) next(ctx context.Context) (*job, context.Context, context.CancelFunc) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if ctx.Err() != nil {
		return nil, nil, nil
	}
	for _, one := range j.sortedLocked() {
		if one.State == policy.BacktestQueued {
			started := j.now().UTC()
			one.State, one.StartedAt = policy.BacktestRunning, &started
			runCtx, cancel := context.WithTimeout(ctx, maxRuns)
			one.cancel = cancel
			return one, runCtx, cancel
		}
	}
	return nil, nil, nil
}

func (j *Jobs) run(ctx context.Context, one *job) ([]policy.Replay, error) {
	results := []policy.Replay{}
	for i, p := range one.policies {
		r, err := j.runner.Backtest(ctx, p.Row, engine.Range{From: one.From, To: one.To, Clusters: one.clusters, Progress: func(done float64) {
			j.mu.Lock()
			defer j.mu.Unlock()
			one.Progress = max(one.Progress, (float64(i)+done)/float64(len(one.policies)))
		}})
		if err != nil && p.MayFail && errors.Is(err, fault.ErrInvalid) {
			r, err = unable(p.Row.Name, err), nil
		}
		if err != nil {
			return results, err
		}
		r.Draft = p.Draft
		results = append(results, r)
	}
	return results, nil
}

// unable is the result of a policy that cannot be replayed.
func unable(name string, err error) policy.Replay {
	reason := err.Error()
	if f := (fault.Field{}); errors.As(err, &f) {
		reason = f.Reason
	}
	return policy.Replay{
		Name: name, Reason: reason, Clusters: []policy.ReplayCluster{}, Incidents: []policy.ReplayIncident{}, BySeverity: map[string]int{},
		Messages: []policy.ReplayMessages{}, Thresholds: []policy.ReplayThreshold{},
	}
}

func (j *Jobs) finish(ctx context.Context, one *job, results []policy.Replay, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	ended := j.now().UTC()
	one.EndedAt, one.cancel = &ended, nil
	switch {
	case err == nil:
		one.State, one.Progress, one.Results = policy.BacktestDone, 1, results
		if len(results) == 2 {
			one.Comparison = engine.Compare(results[0], results[1])
		}
		for i := range results {
			results[i].Spans = nil
		}
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		one.State, one.Error = policy.BacktestFailed, fmt.Sprintf("it took longer than %s: take a shorter range", maxRuns)
	case ctx.Err() != nil:
		one.State = policy.BacktestCancelled
	default:
		one.State, one.Error = policy.BacktestFailed, err.Error()
	}
}
