package logs

import (
	"context"
	"fmt"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// The library has one retention for all: it drops whole days. What a cluster
// keeps for less is deleted by tasks of the library, which rewrite a day's files
// without the cluster's rows. They are noted on disk and go on after a restart.

// retentionEvery is how often it is looked whether a day is over.
const retentionEvery = time.Hour

// retentionOf is how long a cluster's lines are kept.
func (s *Store) retentionOf(cluster string) time.Duration {
	if d, ok := s.opts.ClusterRetention[cluster]; ok {
		return d
	}
	return s.opts.Retention
}

// longest is how long the library keeps days.
func (o Options) longest() time.Duration {
	out := o.Retention
	for _, d := range o.ClusterRetention {
		out = max(out, d)
	}
	return out
}

// expire deletes, until the store closes, what clusters keep for less than the
// library does.
func (s *Store) expire() {
	defer close(s.expired)
	if len(s.opts.ClusterRetention) == 0 {
		return
	}
	tick := time.NewTicker(retentionEvery)
	defer tick.Stop()
	begun := map[time.Duration]int64{} // the day up to which a retention's tasks were begun
	for {
		if err := s.expireBefore(s.opts.Now(), begun); err != nil && s.closing.Err() == nil {
			s.log.Warn("delete expired log lines", "err", err)
		}
		select {
		case <-s.closing.Done():
			return
		case <-tick.C:
		}
	}
}

// expireBefore begins a task for each retention of which a day has ended.
func (s *Store) expireBefore(now time.Time, begun map[time.Duration]int64) error {
	release, err := s.use()
	if err != nil {
		return err
	}
	defer release()
	if err := s.knows(nil); err != nil {
		return err
	}
	byTenant := map[logstorage.TenantID]time.Duration{}
	for cluster, d := range s.opts.ClusterRetention {
		byTenant[tenantOf(cluster)] = d
	}
	due := map[time.Duration][]logstorage.TenantID{}
	for _, id := range s.scope(nil) {
		d, ok := byTenant[id]
		if !ok {
			d = s.opts.Retention
		}
		if d < s.opts.longest() {
			due[d] = append(due[d], id)
		}
	}
	for d, ids := range due {
		cut := now.Add(-d).UTC().Truncate(day)
		if begun[d] == cut.Unix() {
			continue
		}
		if err := s.deleteRows("expire", ids, fmt.Sprintf("_time:<%q", cut.Format(time.RFC3339)), cut); err != nil {
			return err
		}
		begun[d] = cut.Unix()
	}
	return nil
}

// deleteRows notes a task that deletes the rows that match, up to a time. The
// library carries it out in the background.
func (s *Store) deleteRows(what string, ids []logstorage.TenantID, filter string, until time.Time) error {
	return guard(what+" log lines", func() error {
		f, err := logstorage.ParseFilter(filter)
		if err != nil {
			return err
		}
		id := fmt.Sprintf("%s-%d-%d", what, s.opts.Now().UnixNano(), s.tasks.Add(1))
		return s.db.DeleteRunTask(s.closing, id, until.UnixNano(), ids, f)
	})
}

// DeleteCluster removes all lines of a cluster that are stored now, and what is
// known of its senders. It returns when the task is noted durably; the library
// carries it out in the background. What comes later is kept.
func (s *Store) DeleteCluster(ctx context.Context, cluster string) error {
	release, err := s.use()
	if err != nil {
		return err
	}
	defer release()
	if err := s.ReadOnly(); err != nil {
		return err
	}
	// Rows that only wait for the library to see them are found by it then. (What an
	// engine elsewhere acknowledged, it shows.)
	if s.far == nil {
		if err := guard("delete logs of cluster "+cluster, func() error { s.lib.DebugFlush(); return nil }); err != nil {
			return err
		}
	}
	s.marks.forget(cluster)
	s.senders.forget(cluster)
	s.positions.forget(cluster)
	// Lines may be ahead of the clock.
	err = s.deleteRows("delete-"+cluster, []logstorage.TenantID{tenantOf(cluster)}, "*", s.opts.Now().Add(aheadLimit))
	if refused(err) {
		s.log.Warn("the remote log engine does not delete: start it with -internaldelete.enable, or a cluster's lines stay until its own retention ends", "cluster", cluster, "tenant", tenantOf(cluster).String(), "err", err)
		return nil
	}
	return err
}

// Deleting says whether lines are being deleted, for tests and people who wait.
func (s *Store) Deleting(ctx context.Context) (bool, error) {
	release, err := s.use()
	if err != nil {
		return false, err
	}
	defer release()
	tasks, err := s.db.DeleteActiveTasks(ctx)
	return len(tasks) > 0, err
}
