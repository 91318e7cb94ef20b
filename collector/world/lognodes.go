package world

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// silentFor is for how long the server must not hear a node's collector, while it
// answers, before its containers' logs are followed through the API server. A collector
// finds its way back to a server that was away within a minute.
const silentFor = 90 * time.Second

// logNodes are those whose logs role all leaves to collectors on the nodes, as the server
// hears them. Before its first answer, that is all.
type logNodes struct {
	readers readers
	state   interface{ Snapshot() *state.Snapshot }
	now     func() time.Time

	mu     sync.Mutex
	since  time.Time            // when the server began to answer; zero while it does not
	told   bool                 // it answered once
	others map[string]time.Time // nodes with collectors, and since when those are not heard
}

func newLogNodes(o Options, s interface{ Snapshot() *state.Snapshot }) *logNodes {
	ask := func(ctx context.Context, nodes []string) ([]string, error) {
		heard, err := o.LogReaders(ctx, nodes)
		if errors.Is(err, fault.ErrNotFound) {
			return nil, nil // a server that does not know hears nobody
		}
		return heard, err
	}
	return &logNodes{readers: readers{ask: ask, of: "nodes have collectors that follow logs", log: o.Logger}, state: s, now: o.Now, others: map[string]time.Time{}}
}

// Reads says whether the logs of a node's containers are followed here.
func (l *logNodes) Reads(n *object.Node) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, others := l.others[n.Name]
	return l.told && !others
}

// Quiet says whether the server has answered for so long that it would have heard a
// collector that is there: it may have been started a moment ago.
func (l *logNodes) Quiet() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.since.IsZero() && l.now().Sub(l.since) >= silentFor
}

// refresh asks the server. While there is no answer, the one before holds, and nobody
// counts as silent.
func (l *logNodes) refresh(ctx context.Context) {
	s := l.state.Snapshot()
	if s == nil || !s.Synced {
		return
	}
	var nodes []string
	for name := range s.Nodes {
		nodes = append(nodes, name)
	}
	heard, err := l.readers.heard(ctx, nodes)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.since = time.Time{}
		for n := range l.others {
			l.others[n] = time.Time{}
		}
		return
	}
	now := l.now()
	if l.told = true; l.since.IsZero() {
		l.since = now
	}
	for n, silent := range l.others {
		switch {
		case silent.IsZero():
			l.others[n] = now
		case now.Sub(silent) >= silentFor || s.Nodes[n] == nil:
			delete(l.others, n)
		}
	}
	for _, n := range heard {
		l.others[n] = time.Time{}
	}
}

// keep refreshes until ctx ends.
func (l *logNodes) keep(ctx context.Context) {
	keepAsking(ctx, func() time.Duration {
		l.refresh(ctx)
		l.mu.Lock()
		defer l.mu.Unlock()
		if !l.told {
			return time.Second // nothing is followed before
		}
		return readersEvery
	})
}
