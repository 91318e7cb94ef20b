package world

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/logs"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// watchedServices tells of which Services pods are where these are watched.
type watchedServices struct {
	state interface{ Snapshot() *state.Snapshot }

	mu sync.Mutex
	of *state.Snapshot
	by map[string][]*object.Service // by namespace
}

var _ logs.Services = (*watchedServices)(nil)

// Of implements logs.Services.
func (w *watchedServices) Of(pod *object.Pod) (names []string, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.state.Snapshot()
	if s == nil || !s.Synced {
		return nil, false
	}
	if w.of != s {
		w.of, w.by = s, map[string][]*object.Service{}
		for _, v := range s.Services {
			w.by[v.Namespace] = append(w.by[v.Namespace], v)
		}
	}
	return selecting(w.by[pod.Namespace], pod), true
}

func selecting(services []*object.Service, pod *object.Pod) (names []string) {
	for _, v := range services {
		if v.Selects(pod) {
			names = append(names, v.Name)
		}
	}
	return names
}

const (
	// tellAgain is how often the Services of a namespace are asked for anew while there
	// are pods in it that are not followed.
	tellAgain = 15 * time.Second
	// tellFor is how long they are after somebody wanted to know them.
	tellFor = time.Minute
)

// toldServices tells of which Services a node's pods are by what the server says: a
// collector on each node must not watch all Services of the API server. What a pod is
// selected by is found here, so that a new pod waits for nobody.
type toldServices struct {
	ask func(ctx context.Context, namespaces []string) ([]*object.Service, error)
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	wanted map[string]time.Time         // namespaces, and when they were asked for last
	told   map[string][]*object.Service // by namespace
	wake   chan struct{}
}

var _ logs.Services = (*toldServices)(nil)

func newToldServices(ask func(context.Context, []string) ([]*object.Service, error), log *slog.Logger, now func() time.Time) *toldServices {
	return &toldServices{ask: ask, log: log, now: now, wanted: map[string]time.Time{}, told: map[string][]*object.Service{}, wake: make(chan struct{}, 1)}
}

// Of implements logs.Services.
func (t *toldServices) Of(pod *object.Pod) (names []string, known bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	services, known := t.told[pod.Namespace]
	t.wanted[pod.Namespace] = t.now()
	if !known {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
	return selecting(services, pod), known
}

// run asks the server until ctx ends: at once for a namespace that it was never asked
// for, now and then for the others.
func (t *toldServices) run(ctx context.Context) {
	if t.ask == nil {
		return
	}
	timer := time.NewTimer(tellAgain)
	defer timer.Stop()
	for wait := time.Duration(0); ; {
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		case <-timer.C:
		}
		// Pods come in groups, and a server that is away is not asked at once again.
		timer.Reset(max(wait, 50*time.Millisecond))
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		select {
		case <-t.wake: // what it stood for is asked now
		default:
		}
		err := t.learn(ctx)
		switch {
		case err == nil:
			wait = 0
		case ctx.Err() != nil:
			return
		default:
			if wait == 0 {
				t.log.Warn("Services are not known; the logs of new pods wait in their files", "err", err)
			}
			wait = min(max(2*wait, time.Second), 30*time.Second)
		}
		timer.Reset(tellAgain)
	}
}

// learn asks once for all that is wanted.
func (t *toldServices) learn(ctx context.Context) error {
	t.mu.Lock()
	for ns, at := range t.wanted {
		if t.now().Sub(at) > tellFor {
			delete(t.wanted, ns)
			delete(t.told, ns) // asked for anew when somebody wants to know
		}
	}
	all := slices.Sorted(maps.Keys(t.wanted))
	t.mu.Unlock()
	for some := range slices.Chunk(all, wire.MaxServiceNamespaces) {
		askCtx, cancel := context.WithTimeout(ctx, 10*time.Second)
		services, err := t.ask(askCtx, some)
		cancel()
		if err != nil {
			return err
		}
		by := make(map[string][]*object.Service, len(some))
		for _, ns := range some {
			by[ns] = nil // known to have none
		}
		for _, v := range services {
			by[v.Namespace] = append(by[v.Namespace], v)
		}
		t.mu.Lock()
		maps.Copy(t.told, by)
		t.mu.Unlock()
	}
	return nil
}
