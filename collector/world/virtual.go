package world

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/collector/kubelet"
	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// virtualNodes are those that role cluster reads itself: the virtual ones, where no
// node collector runs. Where one runs all the same, the server hears it, and the node
// is left to it.
type virtualNodes struct {
	state interface{ Snapshot() *state.Snapshot }
	now   func() time.Time

	asking  sync.Mutex
	readers *readers // nil hears nobody
	askedAt time.Time

	others atomic.Pointer[map[string]bool] // nodes with collectors of their own
}

func newVirtualNodes(o Options, s interface{ Snapshot() *state.Snapshot }) *virtualNodes {
	v := &virtualNodes{state: s, now: o.Now}
	if o.Readers != nil {
		v.readers = &readers{ask: o.Readers, of: "virtual nodes have collectors of their own", log: o.Logger}
	}
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
	if v.readers == nil || now.Sub(v.askedAt) < readersEvery {
		return
	}
	var nodes []string
	for _, n := range v.state.Snapshot().Nodes {
		if n.Virtual {
			nodes = append(nodes, n.Name)
		}
	}
	heard, err := v.readers.heard(ctx, nodes)
	if err != nil {
		return
	}
	others := map[string]bool{}
	for _, n := range heard {
		others[n] = true
	}
	v.askedAt = now
	v.others.Store(&others)
}

// keep refreshes until ctx ends: replicas that do not measure follow logs, too.
func (v *virtualNodes) keep(ctx context.Context) {
	keepAsking(ctx, func() time.Duration { v.refresh(ctx); return readersEvery })
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
