// Package peers owns what the nodes of a cluster say of each other: which asks
// which, and what follows of their answers for each node. The answers come with
// collectors' health and are in memory only. It must not know how a node is asked.
package peers

import (
	"cmp"
	"errors"
	"hash/fnv"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/api/control"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const (
	// asks is how many others each node asks, and by how many it is asked.
	asks = 3
	// keepOrder is how long an order of nodes is used again: of a thousand nodes,
	// some thirty ask each second.
	keepOrder = 10 * time.Second
	// silence is how old a collector's word may be at least before it is not heard
	// any more; with long intervals, three of them.
	silence = 90 * time.Second
)

// Options of a Service. All but Now are required.
type Options struct {
	// Nodes lists the nodes of a cluster.
	Nodes func(cluster string) []*object.Node
	// Senders gives what is known of a cluster's collectors, Sender the same of one;
	// *control.Hub has both.
	Senders func(cluster string) map[string]control.Sender
	Sender  func(cluster, sender string) (control.Sender, bool)
	Now     func() time.Time // default time.Now
}

// Service knows what nodes say of each other. It is for concurrent use.
type Service struct {
	opts Options

	mu     sync.Mutex
	orders map[string]order // by cluster
}

// order is a cluster's nodes in a ring. Each asks those that follow it.
type order struct {
	at    time.Time
	nodes []*object.Node
	place map[string]int // by name
}

// New makes a Service.
func New(o Options) (*Service, error) {
	if o.Nodes == nil || o.Senders == nil || o.Sender == nil {
		return nil, errors.New("peers: Nodes, Senders and Sender are required")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Service{opts: o, orders: map[string]order{}}, nil
}

// Of gives the nodes that a node asks: the three that follow it in a ring, so that
// each is asked by as many, and that a node which comes or goes changes what three
// others ask. The ring is by a hash of names: neighbours by name often share a
// rack, and would not know whether it is their rack that is cut off.
func (s *Service) Of(cluster, node string) []wire.Peer {
	o := s.order(cluster)
	i, known := o.place[node]
	if !known {
		return nil
	}
	out := make([]wire.Peer, 0, asks)
	for k := 1; k <= asks && k < len(o.nodes); k++ {
		n := o.nodes[(i+k)%len(o.nodes)]
		collector, _ := s.opts.Sender(cluster, wire.Sender(wire.RoleNode, n.Name))
		out = append(out, wire.Peer{Node: n.Name, Address: n.InternalIP, KubeletPort: n.KubeletPort, Collector: collector.Hello.HealthAddress})
	}
	return out
}

func (s *Service) order(cluster string) order {
	now := s.opts.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if o, ok := s.orders[cluster]; ok && now.Sub(o.at) < keepOrder && !now.Before(o.at) {
		return o
	}
	o := order{at: now, place: map[string]int{}}
	for _, n := range s.opts.Nodes(cluster) {
		if !n.Virtual {
			o.nodes = append(o.nodes, n)
		}
	}
	hashes := make(map[string]uint64, len(o.nodes))
	for _, n := range o.nodes {
		h := fnv.New64a()
		_, _ = h.Write([]byte(n.Name))
		hashes[n.Name] = mix(h.Sum64())
	}
	slices.SortFunc(o.nodes, func(a, b *object.Node) int {
		return cmp.Or(cmp.Compare(hashes[a.Name], hashes[b.Name]), strings.Compare(a.Name, b.Name))
	})
	for i, n := range o.nodes {
		o.place[n.Name] = i
	}
	if len(o.nodes) == 0 {
		delete(s.orders, cluster) // so that clusters that went do not stay
		return o
	}
	s.orders[cluster] = o
	return o
}

// mix spreads the last bits of a hash over all: names that differ in their last
// letter lie near each other in FNV's order.
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	return h
}

// Verdicts judges every node of a cluster, by name.
func (s *Service) Verdicts(cluster string) map[string]Verdict {
	heard, votes := s.testimony(cluster)
	out := map[string]Verdict{}
	for _, n := range s.opts.Nodes(cluster) {
		if !n.Virtual {
			out[n.Name] = judge(n.Name, heard, votes[n.Name])
		}
	}
	return out
}

// Heard gives those of some nodes whose own collectors are heard.
func (s *Service) Heard(cluster string, nodes []string) []string {
	now := s.opts.Now()
	out := []string{}
	for _, node := range nodes {
		if e, known := s.opts.Sender(cluster, wire.Sender(wire.RoleNode, node)); known && hears(e, now) {
			out = append(out, node)
		}
	}
	return out
}

// FollowLogs gives those of some nodes whose own collectors are heard and follow logs.
func (s *Service) FollowLogs(cluster string, nodes []string) []string {
	return slices.DeleteFunc(s.Heard(cluster, nodes), func(node string) bool {
		e, _ := s.opts.Sender(cluster, wire.Sender(wire.RoleNode, node))
		return !e.Hello.Logs && e.Health.Logs.Containers == 0 // earlier versions do not say it as they come
	})
}

// hears says whether a collector is there now.
func hears(e control.Sender, now time.Time) bool {
	return e.Connected && now.Sub(e.LastSeenAt) <= patience(e)
}

// patience is how old the word of a collector may be.
func patience(e control.Sender) time.Duration {
	return max(silence, 3*time.Duration(e.Health.IntervalSeconds)*time.Second)
}

// testimony collects which nodes' collectors are heard, and what they say, by the
// node that they say it of.
func (s *Service) testimony(cluster string) (heard hearing, votes map[string][]vote) {
	now := s.opts.Now()
	heard, votes = hearing{}, map[string][]vote{}
	for _, e := range s.opts.Senders(cluster) {
		if e.Hello.Role != wire.RoleNode || e.Hello.Node == "" {
			continue
		}
		limit := patience(e)
		there := hears(e, now)
		heard[e.Hello.Node] = there
		if !there {
			continue // what it said before it fell silent is of another time
		}
		asked, reached := map[string]bool{}, false
		for _, a := range e.Health.Peers {
			asked[a.Node] = true
			reached = reached || a.Result == wire.PeerReached
		}
		for _, a := range e.Health.Peers {
			if e.Health.Time.Sub(a.At) > limit {
				continue
			}
			// Who reaches none of several is the one that is cut off, or too busy to ask.
			votes[a.Node] = append(votes[a.Node], vote{PeerAnswer: a, from: e.Hello.Node, alone: len(asked) > 1 && !reached})
		}
	}
	for _, vs := range votes {
		slices.SortFunc(vs, func(a, b vote) int { return cmp.Or(strings.Compare(a.from, b.from), strings.Compare(a.Probe, b.Probe)) })
	}
	return heard, votes
}
