// Package simulate owns a simulated fleet: nodes, workloads, pods, their logs
// and events, which behave like those of a real company and are a function of a
// seed and the time alone. It is a source of readings and of state like any
// other, so what it feeds is the real compute and push code; it can also write
// its past as TSDB blocks. It must not know the server, nor storage.
package simulate

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// DefaultChurn is a calm fleet's: each pod is replaced about every 33 hours,
// rollouts apart.
const DefaultChurn = 0.0005

// Options say what is simulated. The zero value is a fleet of 10 nodes.
type Options struct {
	Nodes            int     // default 10
	PodsPerNode      int     // default 20; so many live always, elastic and failing ones come on top
	ContainersPerPod float64 // at least 1, default 1.3: the share of workloads that have a sidecar
	Seed             uint64  // the same seed gives the same fleet at the same time
	Churn            float64 // share of the pods replaced a minute, 0 to 0.2; default none but rollouts. See DefaultChurn
	Speed            float64 // how many times faster than real time days, faults and rollouts pass; default 1. Rates stay what they are
	LogLines         float64 // lines a second of the whole fleet; default a fifth of the pods, at most 50

	Interval time.Duration // the grid of Backfill; default 30 s
	Cluster  string        // label of Backfill's series; default "simulated". A live server sets it from the token
	Sender   string        // of log batches; default wire.Sender(wire.RoleAll, "")

	// History is how much of the past Run of the log source sends before it goes
	// on live; default 1 h, negative for none.
	History time.Duration
	// Dir keeps how far logs were sent, so that a restart neither repeats nor
	// skips any. Empty: every start sends History again.
	Dir string

	Logger *slog.Logger     // default: discarded
	Now    func() time.Time // default time.Now
}

func (o *Options) complete() error {
	if o.Nodes == 0 {
		o.Nodes = 10
	}
	if o.PodsPerNode == 0 {
		o.PodsPerNode = 20
	}
	if o.ContainersPerPod == 0 {
		o.ContainersPerPod = 1.3
	}
	if o.Speed == 0 {
		o.Speed = 1
	}
	if o.LogLines == 0 {
		o.LogLines = min(50, 0.2*float64(o.Nodes*o.PodsPerNode))
	}
	if o.Interval == 0 {
		o.Interval = 30 * time.Second
	}
	if o.History == 0 {
		o.History = time.Hour
	}
	if o.Cluster == "" {
		o.Cluster = "simulated"
	}
	if o.Sender == "" {
		o.Sender = wire.Sender(wire.RoleAll, "")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	var errs []error
	for _, c := range []struct {
		bad  bool
		what string
		got  any
	}{
		{o.Nodes < 1 || o.Nodes > 10_000, "nodes must be 1 to 10000", o.Nodes},
		{o.PodsPerNode < 1 || o.PodsPerNode > 250, "pods per node must be 1 to 250", o.PodsPerNode},
		{!(o.ContainersPerPod >= 1 && o.ContainersPerPod <= 8), "containers per pod must be 1 to 8", o.ContainersPerPod},
		{!(o.Churn >= 0 && o.Churn <= 0.2), "churn is the share of pods replaced a minute and must be 0 to 0.2", o.Churn},
		{!(o.Speed > 0 && o.Speed <= 10_000), "speed must be above 0 and at most 10000", o.Speed},
		{!(o.LogLines >= 0 && o.LogLines <= 100_000), "log lines must be 0 to 100000 a second", o.LogLines},
		{o.Interval < time.Second || o.Interval > time.Hour, "interval must be 1s to 1h", o.Interval},
	} {
		if c.bad {
			errs = append(errs, fmt.Errorf("%s, not %v", c.what, c.got))
		}
	}
	return errors.Join(errs...)
}

// World gives the fleet as a collector sees a cluster. Its Logs are the
// containers' lines and the Kubernetes events; they begin with History.
func (f *Fleet) World() collector.World {
	return collector.World{
		State:    f,
		Readings: []collector.Readings{(*readings)(f)},
		Logs:     []collector.Logs{f.newLogs(false)},
	}
}

// History gives the logs and events of Options.History alone: its Run sends them
// and returns nil. World's Logs send them anyway, as their first.
func (f *Fleet) History() collector.Logs { return f.newLogs(true) }
