package world

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/collector/kubelet"
	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

const (
	// readersEvery is how often the server is asked whose nodes are read by collectors of
	// their own: at each reading, and no more often than the shortest interval allows.
	readersEvery = 8 * time.Second
	// readersPatience bounds one question. It is asked beside the reading, which goes by
	// the answer before.
	readersPatience = 5 * time.Second
)

// virtualNodes are those that role cluster reads itself: the virtual ones, where no
// node collector runs. Where one runs all the same, the server hears it, and the node
// is left to it.
type virtualNodes struct {
	ask   func(ctx context.Context, nodes []string) ([]string, error) // nil hears nobody
	state interface{ Snapshot() *state.Snapshot }
	log   *slog.Logger
	now   func() time.Time

	asking  sync.Mutex
	askedAt time.Time
	said    string // last trouble that was logged

	others atomic.Pointer[map[string]bool] // nodes with collectors of their own
}

func newVirtualNodes(o Options, s interface{ Snapshot() *state.Snapshot }) *virtualNodes {
	v := &virtualNodes{ask: o.Readers, state: s, log: o.Logger, now: o.Now}
	v.others.Store(&map[string]bool{})
	return v
}

// Reads says whether a node is read here.
func (v *virtualNodes) Reads(n *object.Node) bool { return n.Virtual && !(*v.others.Load())[n.Name] }

// refresh asks the server anew, unless it did a moment ago. While there is no answer,
// the one before holds.
func (v *virtualNodes) refresh(ctx context.Context) {
	v.asking.Lock()
	defer v.asking.Unlock()
	now := v.now()
	if v.ask == nil || now.Sub(v.askedAt) < readersEvery {
		return
	}
	var nodes []string
	for _, n := range v.state.Snapshot().Nodes {
		if n.Virtual {
			nodes = append(nodes, n.Name)
		}
	}
	others := map[string]bool{}
	if len(nodes) > 0 {
		slices.Sort(nodes)
		ctx, cancel := context.WithTimeout(ctx, readersPatience)
		defer cancel()
		heard, err := v.ask(ctx, nodes)
		if err != nil {
			if text := err.Error(); text != v.said && ctx.Err() == nil {
				v.said = text
				v.log.Warn("ask which virtual nodes have collectors of their own; as before until the server says", "err", err)
			}
			return
		}
		for _, n := range heard {
			others[n] = true
		}
	}
	v.askedAt, v.said = now, ""
	v.others.Store(&others)
}

// keep refreshes until ctx ends: replicas that do not measure follow logs, too.
func (v *virtualNodes) keep(ctx context.Context) {
	t := time.NewTicker(readersEvery)
	defer t.Stop()
	for {
		v.refresh(ctx)
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// virtualReadings reads the pods on virtual nodes beside node collectors.
type virtualReadings struct {
	*kubelet.Source
	*virtualNodes
}

var _ collector.Readings = virtualReadings{}

// Read implements collector.Readings.
func (r virtualReadings) Read(ctx context.Context, at time.Time, now *state.Snapshot) []reading.Set {
	var wg sync.WaitGroup
	defer wg.Wait()
	wg.Go(func() { r.refresh(ctx) })
	return r.Source.Read(ctx, at, now)
}
