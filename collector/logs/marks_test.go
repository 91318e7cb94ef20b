package logs

import (
	"sync"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// newest gives the newest mark of a node that the server was told.
func (s *server) newest(node string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Unix(0, s.marks[node])
}

// A node is complete once its files were read to their ends, also when nobody
// writes; not past a record that waits for its end, nor while the server is away.
func TestFilesSayWhatIsComplete(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	began := time.Now()
	tr.write("0.log", 10)
	f, stop := tr.run(s)
	defer stop()
	s.await(key, 10)
	waitFor(t, func() bool { return s.newest("n1").After(began) })
	// The first part of a line, of just now.
	at := time.Now().UTC()
	tr.raw("0.log", at.Format("2006-01-02T15:04:05.000000000Z07:00")+" stdout P begin\n")
	waitFor(t, func() bool { return f.Health().Read >= 10 && s.newest("n1").Add(2*completeAfter).After(at) })
	idle := s.newest("n1")
	waitFor(t, func() bool { return time.Since(at) > 3*completeAfter })
	if got := s.newest("n1"); !got.Before(at) {
		t.Errorf("complete through %s (%s before), though a line of %s has no end yet", got, idle, at)
	}
	tr.raw("0.log", at.Format("2006-01-02T15:04:05.000000000Z07:00")+" stdout F end\n")
	waitFor(t, func() bool { return s.newest("n1").After(at) })
}

// Through the API a node is as complete as the container that was heard least.
func TestAPISaysWhatIsComplete(t *testing.T) {
	now := time.Date(2026, 11, 28, 10, 0, 0, 0, time.UTC)
	snapshot := &state.Snapshot{Synced: true, Nodes: map[string]*object.Node{"n1": {}, "n2": {}, "n3": {}, "n4": {}}}
	a := &API{opts: APIOptions{State: fixedState{snapshot}}, now: func() time.Time { return now }, started: now.Add(-time.Hour), followers: sync.Map{}}
	a.heard.Store(&hearing{own: 1, parts: 3, deaf: map[string]bool{"n4": true}})
	for k, v := range map[string]struct {
		node   string
		caught time.Time
	}{"a": {"n1", now.Add(-time.Second)}, "b": {"n1", now.Add(-time.Minute)}, "c": {"n2", time.Time{}}} {
		f := &follower{key: k, node: v.node}
		if !v.caught.IsZero() {
			f.caught.Store(v.caught.UnixNano())
		}
		a.followers.Store(k, f)
	}
	got := a.marks()
	want := []wire.LogMark{{Node: "n1", Through: now.Add(-time.Minute).UnixNano(), Part: 1, Parts: 3}, {Node: "n3", Through: now.Add(-apiDelay).UnixNano(), Part: 1, Parts: 3}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %v, want %v: of n2 a container was never heard, of n4 one is not followed", got, want)
	}
	snapshot.Synced = false
	if got := a.marks(); got != nil {
		t.Errorf("got %v before the first lists", got)
	}
}
