package wire

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// InventoryBatch reports objects of a cluster: first a snapshot, in as many
// batches as it needs, then changes. Sequence numbers rise by one within a
// session, which is one life of the collector. A server that misses a number
// answers with fault.ErrConflict; the collector says that there is a Gap, where
// there is one, and begins a new session. Sessions come in the order of their
// times: one whose snapshot is older than what the server has is a conflict too.
type InventoryBatch struct {
	Session  string    `json:"session"`
	Sequence uint64    `json:"sequence"` // from 1
	Time     time.Time `json:"time"`     // when the changes were seen
	// Snapshot marks the batches of the first snapshot. With the one that has
	// Last, objects that the snapshot did not name are gone.
	Snapshot bool `json:"snapshot,omitempty"`
	Last     bool `json:"last,omitempty"`
	// Gap says that batches before this one were given up and never come. A
	// session goes on after one; what the gap held is in the next snapshot.
	Gap bool `json:"gap,omitempty"`

	ClusterKind    string `json:"cluster_kind,omitempty"`    // as detected: managed, independent, elastic, edge
	ClusterVersion string `json:"cluster_version,omitempty"` // of Kubernetes

	Namespaces []*object.Namespace `json:"namespaces,omitempty"`
	Nodes      []*object.Node      `json:"nodes,omitempty"`
	Workloads  []*object.Workload  `json:"workloads,omitempty"`
	Services   []*object.Service   `json:"services,omitempty"`
	Pods       []*object.Pod       `json:"pods,omitempty"`
	Deleted    []Deleted           `json:"deleted,omitempty"`
}

// Deleted names an object that is gone.
type Deleted struct {
	object.Key
	UID string `json:"uid"`
}

// MaxInventoryBatchBytes bounds a body, uncompressed.
const MaxInventoryBatchBytes = 32 << 20

// Put adds an object to the list of its kind.
func (b *InventoryBatch) Put(o object.Object) {
	switch o := o.(type) {
	case *object.Namespace:
		b.Namespaces = append(b.Namespaces, o)
	case *object.Node:
		b.Nodes = append(b.Nodes, o)
	case *object.Workload:
		b.Workloads = append(b.Workloads, o)
	case *object.Service:
		b.Services = append(b.Services, o)
	case *object.Pod:
		b.Pods = append(b.Pods, o)
	}
}

// Objects gives all objects of the batch, in the order of object.Kinds.
func (b *InventoryBatch) Objects() []object.Object {
	out := make([]object.Object, 0, len(b.Namespaces)+len(b.Nodes)+len(b.Workloads)+len(b.Services)+len(b.Pods))
	for _, o := range b.Namespaces {
		out = append(out, o)
	}
	for _, o := range b.Nodes {
		out = append(out, o)
	}
	for _, o := range b.Workloads {
		out = append(out, o)
	}
	for _, o := range b.Services {
		out = append(out, o)
	}
	for _, o := range b.Pods {
		out = append(out, o)
	}
	return out
}

// UnmarshalInventoryBatch reads a body after decompression. One that cannot be
// read is fault.ErrMalformed, one that breaks a rule fault.ErrInvalid.
func UnmarshalInventoryBatch(body []byte) (*InventoryBatch, error) {
	var b InventoryBatch
	if err := json.Unmarshal(body, &b); err != nil {
		return nil, fmt.Errorf("inventory batch: %w: %v", fault.ErrMalformed, err)
	}
	var fs fault.Fields
	if b.Session == "" {
		fs.Add("session", "is required", nil)
	}
	if b.Sequence == 0 {
		fs.Add("sequence", "starts at 1", 0)
	}
	if b.Time.IsZero() {
		fs.Add("time", "is required", nil)
	}
	// A null in a list would be a nil pointer to whoever reads the objects.
	if slices.Contains(b.Namespaces, nil) || slices.Contains(b.Nodes, nil) || slices.Contains(b.Workloads, nil) ||
		slices.Contains(b.Services, nil) || slices.Contains(b.Pods, nil) {
		return nil, fmt.Errorf("inventory batch: %w", fault.Field{Path: "objects", Reason: "must not be null"})
	}
	for i, o := range b.Objects() {
		if m := o.GetMeta(); m.UID == "" || m.Name == "" {
			fs.Add(fmt.Sprintf("objects[%d]", i), "needs uid and name", object.KeyOf(o).String())
		}
	}
	if err := fs.Err(); err != nil {
		return nil, fmt.Errorf("inventory batch: %w", err)
	}
	return &b, nil
}
