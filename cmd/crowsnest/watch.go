package main

import (
	"context"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/engine"
	"github.com/crowsnest-dev/crowsnest/alerting/watch"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

const (
	// queueLate is how long a notification may be due before somebody is told
	// that nothing is sent.
	queueLate = 5 * time.Minute
	// evaluationLate is how far evaluation may be behind what arrived.
	evaluationLate = 3 * time.Minute
	// silentAfter is how long all collectors of a cluster may be away.
	silentAfter = 5 * time.Minute
	// lowSpace is the free part of the data folder's disk that is too little.
	lowSpace = 0.05
)

// checks ask the parts of the server how they are.
func (a *app) checks(eng *engine.Engine) []watch.Check {
	return []watch.Check{
		{Name: "metrics store", After: time.Minute, Vital: true, Ask: func(context.Context) error { return a.metrics.ReadOnly() }},
		{Name: "log store", After: time.Minute, Vital: true, Ask: func(context.Context) error { return a.logs.ReadOnly() }},
		{Name: "metadata store", After: time.Minute, Vital: true, Ask: func(ctx context.Context) error {
			return a.meta.Update(ctx, func(*meta.Tx) error { return nil })
		}},
		{Name: "evaluation", After: time.Minute, Vital: true, Ask: func(ctx context.Context) error {
			if _, _, err := eng.Routing(ctx); err != nil { // answered by the loop that evaluates
				return err
			}
			if cluster, lag := eng.Lag(); lag > evaluationLate {
				return fmt.Errorf("what arrived from %s is not evaluated since %s", cluster, lag)
			}
			return nil
		}},
		{Name: "outbox", Ask: func(ctx context.Context) error {
			var at time.Time
			now := time.Now()
			if err := a.meta.View(ctx, func(tx *meta.Tx) (err error) { at, err = tx.QueueAge(now.Add(-queueLate)); return err }); err != nil || at.IsZero() {
				return err
			}
			return fmt.Errorf("a notification of %s was not tried yet", at.UTC().Format(time.RFC3339))
		}},
		{Name: "disk", After: time.Minute, Ask: func(context.Context) error {
			var st syscall.Statfs_t
			if err := syscall.Statfs(a.dir.join("."), &st); err != nil {
				return fmt.Errorf("read free space: %w", err)
			}
			if free := float64(st.Bavail) / float64(max(1, st.Blocks)); free < lowSpace {
				return fmt.Errorf("only %.1f %% are free; the stores stop taking data when it is full", 100*free)
			}
			return nil
		}},
		{Name: "collectors", Ask: func(context.Context) error {
			var silent []string
			for _, cluster := range a.hub.Clusters() {
				newest := time.Time{}
				for _, s := range a.hub.Senders(cluster) {
					if s.Connected {
						newest = time.Now()
					} else if s.LastSeenAt.After(newest) {
						newest = s.LastSeenAt
					}
				}
				if !newest.IsZero() && time.Since(newest) > silentAfter {
					silent = append(silent, cluster)
				}
			}
			if len(silent) > 0 {
				return fmt.Errorf("nothing was heard from %s for %s", strings.Join(silent, ", "), silentAfter)
			}
			return nil
		}},
	}
}
