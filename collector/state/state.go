// Package state holds the objects of a cluster as the collector sees them now:
// what compute joins readings with and what the inventory reports. It must not
// know the Kubernetes client or what is measured.
package state

import (
	"context"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// Snapshot is the objects at one moment. It and everything in it is immutable.
type Snapshot struct {
	Synced     bool                         // false until the first complete list
	Pods       map[string]*object.Pod       // by UID
	Nodes      map[string]*object.Node      // by name
	Workloads  map[string]*object.Workload  // by UID
	Namespaces map[string]*object.Namespace // by name
	Services   map[string]*object.Service   // by UID

	// What follows is measured, but is no part of the inventory; role node has
	// none of it.
	Autoscalers map[string]*Autoscaler // by UID
	Quotas      map[string]*Quota      // by UID
	Claims      map[string]*Claim      // by UID
	Endpoints   map[string]*Endpoints  // slices, by UID
}

// OnlyVirtualNodes says whether all nodes that there are stand for something else
// than a machine of the cluster's own, as in an elastic cluster.
func (s *Snapshot) OnlyVirtualNodes() bool {
	for _, n := range s.Nodes {
		if !n.Virtual {
			return false
		}
	}
	return len(s.Nodes) > 0
}

// Autoscaler is a HorizontalPodAutoscaler.
type Autoscaler struct {
	Namespace, Name       string
	Target                object.WorkloadRef
	Current, Desired, Max int
}

// Quota is a ResourceQuota: the used part of each resource in per cent, and what
// pods may ask for, 0 where it does not say.
type Quota struct {
	Namespace, Name       string
	UsedPercent           map[string]float64
	CPUCores, MemoryBytes float64
}

// Claim is a PersistentVolumeClaim.
type Claim struct {
	Namespace, Name string
	Bound           bool
}

// Endpoints is one EndpointSlice of a Service.
type Endpoints struct {
	Namespace, Service string
	Ready, NotReady    int
	Pods               []string // names of those that the addresses are of
}

// Change is one object that appeared, changed or went. Exactly one of Now and
// Before may be nil.
type Change struct {
	At     time.Time
	Before object.Object // nil when it appeared
	Now    object.Object // nil when it is gone
}

// Source keeps the present state. Run blocks until ctx ends; the other methods
// may be called concurrently with it.
type Source interface {
	// Run watches until ctx ends. Trouble is retried inside and told by Health.
	Run(ctx context.Context) error
	// Snapshot gives the present state; it is cheap.
	Snapshot() *Snapshot
	// Changes hands every change after the call to fn, in order, until ctx ends.
	// fn must not block for long; it is never called concurrently with itself.
	Changes(ctx context.Context, fn func(Change))
	// Health says for each kind that is watched what is wrong with it, in words
	// that name a missing permission; empty when nothing is.
	Health() map[object.Kind]string
}
