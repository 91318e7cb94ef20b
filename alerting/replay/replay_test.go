package replay

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/engine"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/bubbletest"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// slow runs until it is let go or cancelled.
type slow struct{ let chan error }

func (s slow) Backtest(ctx context.Context, r meta.Resource, g engine.Range) (policy.Replay, error) {
	g.Progress(0.5)
	select {
	case <-ctx.Done():
		return policy.Replay{}, ctx.Err()
	case err := <-s.let:
		return policy.Replay{Name: r.Name}, err
	}
}

func TestJobs(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		runner := slow{make(chan error)}
		j := New(runner, time.Now)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- j.Run(ctx) }()
		start := func() policy.Backtest {
			t.Helper()
			b, err := j.Start([]Policy{{Row: meta.Resource{Name: "a"}}, {Row: meta.Resource{Name: "b"}, Draft: true}}, time.Now().Add(-time.Hour), time.Now(), nil)
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Second) // of the bubble: others come to rest
			return b
		}
		want := func(id, state string, progress float64) policy.Backtest {
			t.Helper()
			synctest.Wait()
			b, err := j.Get(id)
			if err != nil || b.State != state || b.Progress != progress {
				t.Fatalf("got %+v, %v, want %s %v", b, err, state, progress)
			}
			return b
		}
		first := start()
		want(first.ID, policy.BacktestRunning, 0.25)
		runner.let <- nil
		want(first.ID, policy.BacktestRunning, 0.75)
		second := start()
		want(second.ID, policy.BacktestQueued, 0)
		runner.let <- nil
		if b := want(first.ID, policy.BacktestDone, 1); len(b.Results) != 2 || !b.Results[1].Draft {
			t.Errorf("got %+v", b)
		}
		want(second.ID, policy.BacktestRunning, 0.25)
		for range maxWaiting {
			start()
		}
		if _, err := j.Start(nil, time.Now(), time.Now(), nil); !errors.Is(err, fault.ErrLimited) {
			t.Errorf("got %v", err)
		}
		if err := j.Delete(second.ID); err != nil {
			t.Fatal(err)
		}
		if _, err := j.Get(second.ID); !errors.Is(err, fault.ErrNotFound) {
			t.Errorf("got %v", err)
		}
		synctest.Wait()
		third := j.List()[maxWaiting-1]
		want(third.ID, policy.BacktestRunning, 0.25)
		runner.let <- errors.New("no")
		if b := want(third.ID, policy.BacktestFailed, 0.25); b.Error != "no" {
			t.Errorf("got %+v", b)
		}
		time.Sleep(maxRuns + time.Second)
		if b := want(j.List()[maxWaiting-2].ID, policy.BacktestFailed, 0.25); b.EndedAt == nil {
			t.Errorf("got %+v", b)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Of several at once, one that cannot be replayed does not keep the others from
// saying what they would have said.
func TestOneThatCannotBeReplayedSaysSo(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		runner := slow{make(chan error)}
		j := New(runner, time.Now)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- j.Run(ctx) }()
		b, err := j.Start([]Policy{{Row: meta.Resource{Name: "a"}, MayFail: true}, {Row: meta.Resource{Name: "b"}, MayFail: true}}, time.Now().Add(-time.Hour), time.Now(), nil)
		if err != nil {
			t.Fatal(err)
		}
		runner.let <- fault.Field{Path: "spec.level", Reason: "cannot be backtested yet"}
		runner.let <- nil
		synctest.Wait()
		b, err = j.Get(b.ID)
		if err != nil || b.State != policy.BacktestDone || len(b.Results) != 2 || b.Results[0].Reason != "cannot be backtested yet" || b.Results[0].Name != "a" || b.Results[1].Reason != "" {
			t.Errorf("%+v, %v", b, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
