package world

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/collector/events"
	"github.com/crowsnest-dev/crowsnest/collector/kube"
	"github.com/crowsnest-dev/crowsnest/collector/logs"
	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// follower is a source of package logs, which declares the sink that it needs
// itself.
type follower interface {
	Run(ctx context.Context, sink logs.Sink) error
	Health() wire.LogHealth
	SetRules(r logs.Rules) error
}

// containerLogs makes such a source one of a World.
type containerLogs struct {
	follower
	local  logs.Rules // of the local configuration
	shared bool       // each replica follows its part
	// beside runs while logs are followed; nil for nothing.
	beside func(ctx context.Context)
}

var _ collector.Logs = containerLogs{}

// Run implements collector.Logs.
func (l containerLogs) Run(ctx context.Context, sink collector.LogSink) error {
	if l.beside == nil {
		return l.follower.Run(ctx, sink)
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { l.beside(ctx) })
	defer wg.Wait()
	defer cancel()
	return l.follower.Run(ctx, sink)
}

// Shared says whether each replica follows a part, whichever leads.
func (l containerLogs) Shared() bool { return l.shared }

// logShare divides containers among the replicas.
type logShare struct {
	members *kube.Members
	leads   *atomic.Bool
}

var _ logs.Share = logShare{}

// Owns implements logs.Share. Without the right to hold places, all is the leader's.
func (s logShare) Owns(key string) bool {
	if s.members.Lone() != "" {
		return s.leads.Load()
	}
	return s.members.Owns("log/" + key)
}

// Parts implements logs.Share.
func (s logShare) Parts() (own int, parts uint64) {
	if s.members.Lone() != "" {
		return 0, 0
	}
	held, own := s.members.Held()
	if own < 0 {
		return own, 0
	}
	for _, n := range append(held, own) {
		parts |= 1 << n
	}
	return own, parts
}

// logReadings tells compute how much containers log.
type logReadings struct {
	counts func() map[logs.Container]logs.Count
	node   string
	now    func() time.Time
}

var _ collector.Readings = logReadings{}

// Name implements collector.Readings.
func (logReadings) Name() string { return string(catalogue.Lines) }

// Read implements collector.Readings.
func (l logReadings) Read(context.Context, time.Time, *state.Snapshot) []reading.Set {
	at := l.now()
	set := reading.Set{Node: l.node, Source: catalogue.Lines, Partial: true} // that a log is not followed is no blindness
	for id, n := range l.counts() {                                          // by names: the kubelet has another UID for static pods
		set.Containers = append(set.Containers, reading.Container{
			Namespace: id.Namespace, Pod: id.Pod, Name: id.Container,
			LogLines: reading.Value{V: float64(n.Read), At: at}, LogBytes: reading.Value{V: float64(n.Bytes), At: at},
		})
	}
	return []reading.Set{set}
}

// SetRules puts the server's rules under those of the local configuration: what
// is set here wins, and is named. Masks add up, since each is there to hide
// something.
func (l containerLogs) SetRules(s *wire.LogRules) (overridden map[string]string, err error) {
	rules := l.local
	overridden = map[string]string{}
	if s != nil {
		list := func(name string, own *[]string, server []string) {
			switch {
			case len(*own) == 0:
				*own = server
			case len(server) > 0 && !slices.Equal(*own, server):
				overridden["log_rules."+name] = strings.Join(*own, ",")
			}
		}
		number := func(name string, own, server int64) int64 {
			if own != 0 && server != 0 && own != server {
				overridden["log_rules."+name] = fmt.Sprint(own)
			}
			return cmp.Or(own, server)
		}
		selector := func(name string, own *string, server string) {
			if *own != "" && server != "" && *own != server {
				overridden["log_rules."+name] = *own
			}
			*own = cmp.Or(*own, server)
		}
		list("namespaces", &rules.Select.Namespaces, s.Namespaces)
		list("workloads", &rules.Select.Workloads, s.Workloads)
		list("services", &rules.Select.Services, s.Services)
		selector("selector", &rules.Select.Labels, s.Selector)
		selector("annotations", &rules.Select.Annotations, s.Annotations)
		if rules.Join.Off && len(s.Multiline) > 0 {
			overridden["log_rules.multiline"] = "off"
		} else {
			rules.Join.Rules = joinRules(s.Multiline)
		}
		rules.Mask.Patterns = append(slices.Clone(rules.Mask.Patterns), s.Mask...)
		if rules.Mask.Off && len(s.Mask) > 0 {
			overridden["log_rules.mask"] = "off"
		}
		rules.Limit.Lines = number("lines_per_second", rules.Limit.Lines, s.LinesPerSecond)
		rules.Limit.Bytes = number("bytes_per_second", rules.Limit.Bytes, s.BytesPerSecond)
		rules.Limit.LineBytes = int(number("record_bytes", int64(rules.Limit.LineBytes), int64(s.RecordBytes)))
	}
	return overridden, l.follower.SetRules(rules)
}

// clusterEvents makes a Watcher a source of a World, whose messages are masked by the
// rules for lines.
type clusterEvents struct {
	*events.Watcher
	local logs.MaskOptions // of the local configuration
}

var _ collector.Logs = clusterEvents{}

// SetRules adds the server's masks to those of the local configuration. What is
// overridden of them is named where lines are followed.
func (e clusterEvents) SetRules(s *wire.LogRules) (overridden map[string]string, err error) {
	o := e.local
	if s != nil {
		o.Patterns = append(slices.Clone(o.Patterns), s.Mask...)
	}
	mask, err := logs.NewMask(o)
	if err != nil {
		return nil, err
	}
	e.SetMask(mask)
	return nil, nil
}

func joinRules(of []wire.Multiline) []logs.JoinRule {
	var out []logs.JoinRule
	for _, m := range of {
		out = append(out, logs.JoinRule{
			Select:     logs.SelectOptions{Namespaces: m.Namespaces, Workloads: m.Workloads, Labels: m.Selector, Annotations: m.Annotations},
			Containers: m.Containers, Start: m.Start, Off: m.Off,
		})
	}
	return out
}
