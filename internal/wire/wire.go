// Package wire is what collector and server say to each other: the headers of a
// metrics write, the bodies of log and inventory writes, and the frames of the
// control stream. Both sides import it, so that neither imports the other. It
// must not know how readings are made or where anything is stored.
//
// Metrics travel as Prometheus remote write 2.0, so that any receiver can stand
// in for the server; the headers here are additions that others ignore.
package wire

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Version is the wire's version. A server takes collectors that are two
// versions older and one newer.
const Version = 1

// Accepts says whether a server of this version takes a collector of that one.
func Accepts(collector int) bool { return collector >= Version-2 && collector <= Version+1 }

// Paths of the server that collectors use.
const (
	PathMetrics = "/api/v1/write"
	// PathHistory is PathMetrics for samples that are older than it takes.
	PathHistory = "/apis/crowsnest.dev/v1/ingest/history"
	PathLogs    = "/apis/crowsnest.dev/v1/ingest/logs"
	// PathLogPositions answers how far containers' logs were taken.
	PathLogPositions = "/apis/crowsnest.dev/v1/ingest/logs/positions"
	PathInventory    = "/apis/crowsnest.dev/v1/ingest/inventory"
	PathOwners       = "/apis/crowsnest.dev/v1/ingest/owners"
	PathPeers        = "/apis/crowsnest.dev/v1/ingest/peers"
	PathReaders      = "/apis/crowsnest.dev/v1/ingest/readers"
	PathServices     = "/apis/crowsnest.dev/v1/ingest/services"
	PathControl      = "/apis/crowsnest.dev/v1/ingest/control"
)

// Headers of a request from a collector.
const (
	// HeaderVersion carries Version.
	HeaderVersion = "Crowsnest-Version"
	// HeaderSender names the collector within its cluster: "node/n-12",
	// "cluster", "all". It stays the same over restarts.
	HeaderSender = "Crowsnest-Sender"
	// HeaderInterval is the sender's interval in seconds.
	HeaderInterval = "Crowsnest-Interval-Seconds"
	// HeaderComplete says that with this request everything that the sender has
	// up to this time (Unix milliseconds, a point of the interval's grid) has
	// been sent. Rollups and alerts wait for it. A request of changes between
	// two grid points does not carry it.
	HeaderComplete = "Crowsnest-Complete-Through"
	// HeaderEarlier are the points before HeaderComplete that a request of backlog
	// completes, too, in their order, with commas between: it holds several intervals,
	// and counts as one request for each. Only a server that said so in its Welcome
	// (Together) heeds it.
	HeaderEarlier = "Crowsnest-Complete-Earlier"
	// MaxEarlier bounds how many these are.
	MaxEarlier = 63
	// HeaderBacklog is "true" on what waited in the queue while the server was
	// away: it completes history.
	HeaderBacklog = "Crowsnest-Backlog"
	// HeaderClockOffset is by how many seconds the sender's clock was ahead of the
	// server's when the samples of the request were stamped, where they could not
	// be corrected: the collector had not reached the server since its start.
	HeaderClockOffset = "Crowsnest-Clock-Offset-Seconds"
	// HeaderTime is the server's time (Unix milliseconds) in answers to collectors.
	HeaderTime = "Crowsnest-Time"
)

// Roles of a collector.
const (
	RoleNode    = "node"
	RoleCluster = "cluster"
	RoleAll     = "all"
)

// Sender gives the value of HeaderSender for a role and, in role node, a node.
func Sender(role, node string) string {
	if role == RoleNode {
		return role + "/" + node
	}
	return role
}

// FormatMillis writes a time as headers carry it.
func FormatMillis(t time.Time) string { return strconv.FormatInt(t.UnixMilli(), 10) }

// ParseMillis reads what FormatMillis wrote.
func ParseMillis(s string) (time.Time, error) {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	return time.UnixMilli(ms).UTC(), nil
}

// FormatEarlier writes times as HeaderEarlier carries them.
func FormatEarlier(all []time.Time) string {
	out := make([]string, len(all))
	for i, t := range all {
		out[i] = FormatMillis(t)
	}
	return strings.Join(out, ",")
}

// ParseEarlier reads what FormatEarlier wrote; nothing where there is nothing.
func ParseEarlier(s string) ([]time.Time, error) {
	if s == "" {
		return nil, nil
	}
	var out []time.Time
	for one := range strings.SplitSeq(s, ",") {
		t, err := ParseMillis(one)
		if err != nil {
			return nil, err
		}
		if out = append(out, t); len(out) > MaxEarlier {
			return nil, fmt.Errorf("more than %d times", MaxEarlier)
		}
	}
	return out, nil
}

// OwnersResponse answers PathOwners?node=NAME: the top workload of each pod that
// the inventory knows on the node, by the pod's UID.
type OwnersResponse struct {
	Owners map[string]Owner `json:"owners"`
}

// Owner is the top workload of a pod.
type Owner struct {
	Type string `json:"type"`
	Name string `json:"name"`
}

// ServicesResponse answers PathServices?namespace=A&namespace=B: the Services that the
// inventory knows in these namespaces. Until it is complete, there is no answer.
type ServicesResponse struct {
	Services []Service `json:"services"`
}

// Service is what says of which pods a Service is.
type Service struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	Selector  map[string]string `json:"selector,omitempty"`
	Pods      []string          `json:"pods,omitempty"` // named by its EndpointSlices, of one without a selector
}

// MaxServiceNamespaces bounds the namespaces of one question.
const MaxServiceNamespaces = 500

// ReadersResponse answers PathReaders?node=A&node=B: those of the nodes whose own
// collectors the server hears, so that nobody else need read them. With logs=true they
// are those whose collectors follow logs.
type ReadersResponse struct {
	Nodes []string `json:"nodes"`
}

// MaxReaderNodes bounds the nodes of one question.
const MaxReaderNodes = 500

// PeersResponse answers PathPeers?node=NAME: the nodes that the node's collector
// asks whether they are there. Each node is asked by as many others.
type PeersResponse struct {
	Peers []Peer `json:"peers"`
}

// Peer is a node that is to be asked.
type Peer struct {
	Node        string `json:"node"`
	Address     string `json:"address,omitempty"` // of the node; empty when it tells none
	KubeletPort int32  `json:"kubelet_port,omitempty"`
	Collector   string `json:"collector,omitempty"` // host:port of its collector's health; empty when it is not known
}
