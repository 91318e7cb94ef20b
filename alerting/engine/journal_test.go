package engine

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/crowsnest-dev/crowsnest/storage/ingest"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

func journalled(t *testing.T, e *Engine, to time.Time) map[string]int {
	t.Helper()
	of := map[string]int{}
	if err := e.opts.Meta.View(t.Context(), func(tx *meta.Tx) error {
		left, err := tx.SkippedRounds("prod-1", epoch, to)
		for _, r := range left {
			of[r.Sender+" "+r.Reason]++
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return of
}

// A server that is stopped stores which rounds it did not evaluate: late ones that
// nothing tells of are never looked at.
func TestAStopKeepsTheJournal(t *testing.T) {
	now := epoch.Add(24 * time.Hour) // it stands still: nothing is stored now and then
	e := engineOf(t, &fleet{}, func() time.Time { return now }, nil)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	for n := range 3 {
		e.Arrived(ingest.Arrival{Cluster: "prod-1", Sender: "node/n-1", Through: now.Add(-time.Hour + time.Duration(n)*interval), Interval: interval, ReceivedAt: now})
	}
	for testutil.ToFloat64(e.metrics.skipped.WithLabelValues(meta.ReasonLate)) < 3 {
		select {
		case err := <-ended:
			t.Fatalf("it ended: %v", err)
		default:
			time.Sleep(time.Millisecond)
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := journalled(t, e, now); got["node/n-1 late"] != 3 {
		t.Errorf("journalled are %v", got)
	}
}

// What waits when it is stopped was not evaluated either, nor what was taken and not
// begun.
func TestAStopJournalsWhatWaits(t *testing.T) {
	now := epoch.Add(24 * time.Hour)
	e := engineOf(t, &fleet{}, func() time.Time { return now }, nil)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	e.RolledUp(rollup.Written{Cluster: "prod-1", At: now.Add(-time.Hour)})
	e.RolledUp(rollup.Written{Cluster: "prod-1", At: now})
	rounds, _, _ := e.next(now)
	e.evaluateAll(ctx, rounds)
	e.RolledUp(rollup.Written{Cluster: "prod-1", At: now.Add(-time.Hour + interval)})
	e.journal(round{source: sourceKey{"prod-1", "cluster"}, at: now.Add(-time.Hour), received: now}, meta.ReasonLate)
	e.saveJournal(ctx) // which fails, and is tried again
	e.leave(ctx)
	got := journalled(t, e, now)
	if got["rollup late"] != 2 || got["rollup overtaken"] != 1 || got["expression late"] != 2 || got["cluster late"] != 1 {
		t.Errorf("journalled are %v", got)
	}
}
