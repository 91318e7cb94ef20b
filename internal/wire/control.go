package wire

import (
	"encoding/json"
	"time"
)

// The control stream is one WebSocket per collector, opened by the collector
// (so it passes NAT), authenticated like a write, and kept open. Both sides send
// Frames as JSON text messages. Frames of channel 0 are whole messages. What is
// larger than InlineBytes goes through a channel of its own, odd numbers by the
// collector, even ones by the server: Open says what comes; Window asks for a part
// of it, the first from where an earlier connection broke off; data frames are
// pieces; End says that all was sent, and in the other direction that it was taken.
//
// The collector says Hello first, the server answers with Welcome and Settings.
// After a break the collector says Hello again with the settings that it has; but
// for documents on their way nothing needs to be resumed, since every message is a
// full state.

// FrameType says what a frame's body is.
type FrameType string

const (
	FrameHello    FrameType = "hello"    // up, first: Hello
	FrameWelcome  FrameType = "welcome"  // down, answers Hello: Welcome
	FrameRefused  FrameType = "refused"  // down, instead of Welcome: Refused; the server closes
	FrameSettings FrameType = "settings" // down, whenever they change: Settings
	FrameApplied  FrameType = "applied"  // up: Applied
	FrameHealth   FrameType = "health"   // up, each interval: Health

	// Of channels other than 0; what a document is of is the type that it would have
	// as one frame.
	FrameOpen   FrameType = "open"   // Open
	FrameWindow FrameType = "window" // Window
	FrameData   FrameType = "data"   // bytes, as base64
	FrameEnd    FrameType = "end"    // End
)

const (
	// MaxFrameBytes bounds a message in either direction.
	MaxFrameBytes = 1 << 20
	// InlineBytes is how large the body of a frame of channel 0 may be where the other
	// end knows channels: what comes behind it waits for no more than that.
	InlineBytes = 32 << 10
	// MaxDocumentBytes bounds what comes through a channel.
	MaxDocumentBytes = 16 << 20
)

// Open offers a document.
type Open struct {
	Kind  string `json:"kind"`
	ID    string `json:"id"` // of its content
	Bytes int64  `json:"bytes"`
}

// Window asks for a part of a document.
type Window struct {
	From  int64 `json:"from,omitempty"` // counts in the first one only
	Bytes int64 `json:"bytes"`          // more
}

// End ends a document, or refuses it.
type End struct {
	Error string `json:"error,omitempty"`
}

// Frame is one message. A receiver ignores frames of unknown type or channel.
type Frame struct {
	Channel uint32          `json:"channel"` // 0 is control
	Type    FrameType       `json:"type"`
	Body    json.RawMessage `json:"body,omitempty"`
}

// NewFrame makes a frame of channel 0.
func NewFrame(t FrameType, body any) (Frame, error) {
	raw, err := json.Marshal(body)
	return Frame{Type: t, Body: raw}, err
}

// Hello opens the stream.
type Hello struct {
	WireVersion     int       `json:"wire_version"`
	ProductVersion  string    `json:"product_version"`
	Role            string    `json:"role"`
	Sender          string    `json:"sender"` // as in HeaderSender
	Node            string    `json:"node,omitempty"`
	Time            time.Time `json:"time"`               // of the collector's clock, to find its offset
	SettingsVersion int64     `json:"settings_version"`   // of the newest that it applied; 0 for none
	Channels        bool      `json:"channels,omitempty"` // it knows others than 0
	// HealthAddress is where other nodes' collectors may ask for its health
	// (host:port); empty where they cannot.
	HealthAddress string `json:"health_address,omitempty"`
	// Logs says, in role node, that it follows the logs of its node's containers.
	Logs bool `json:"logs,omitempty"`
}

// Welcome accepts a collector.
type Welcome struct {
	WireVersion   int       `json:"wire_version"`
	Cluster       string    `json:"cluster"`        // the id that the token stands for
	Time          time.Time `json:"time"`           // of the server's clock
	AcceptSeconds int64     `json:"accept_seconds"` // how far back samples are taken
	// HistorySeconds is how far back they are by PathHistory; 0 where the server
	// does not know it.
	HistorySeconds int64 `json:"history_seconds,omitempty"`
	Channels       bool  `json:"channels,omitempty"` // it knows others than 0
	Together       bool  `json:"together,omitempty"` // it takes several intervals of a backlog in a request (HeaderEarlier)
	// SettingsVersion is that of the Settings that follow; 0 when there are none. A
	// server that does not know it leaves it out.
	SettingsVersion *int64 `json:"settings_version,omitempty"`
}

// Refused says why a collector is not accepted.
type Refused struct {
	Reason string `json:"reason"`
}

// Applied answers Settings.
type Applied struct {
	Version    int64             `json:"version"`
	Overridden map[string]string `json:"overridden,omitempty"` // setting → the local value that wins
	// Error says why nothing of the version was applied: the last good one is in
	// force.
	Error     string    `json:"error,omitempty"`
	Effective *Settings `json:"effective,omitempty"` // in force now
}

// Health is what a collector knows about its own work.
type Health struct {
	Time            time.Time `json:"time"`
	StartedAt       time.Time `json:"started_at"`
	IntervalSeconds int       `json:"interval_seconds"`
	// Sources in the order of their names.
	Sources []SourceHealth `json:"sources"`
	// ClusterKind is what the collector takes the cluster for, and why; empty in
	// role node.
	ClusterKind    string `json:"cluster_kind,omitempty"`
	ClusterKindWhy string `json:"cluster_kind_why,omitempty"`
	// Unavailable names catalogue metrics that this collector should fill and
	// cannot, with the reason in words for people.
	Unavailable map[string]string `json:"unavailable,omitempty"`
	Queue       QueueHealth       `json:"queue"`
	// Inventory is the same of inventory batches, whose samples are objects; nil
	// where the collector has none.
	Inventory *QueueHealth `json:"inventory_queue,omitempty"`
	// ClockOffsetSeconds is by how much the collector's clock is ahead of the
	// server's; nil until the server answered. ClockCorrectionSeconds of it are
	// taken off the times of samples.
	ClockOffsetSeconds     *float64  `json:"clock_offset_seconds,omitempty"`
	ClockCorrectionSeconds float64   `json:"clock_correction_seconds,omitempty"`
	Logs                   LogHealth `json:"logs"`
	// Scrape is nil where nothing is scraped.
	Scrape *ScrapeHealth `json:"scrape,omitempty"`
	// Peers are the answers of the other nodes that it asks, by node and probe;
	// empty but in role node.
	Peers []PeerAnswer `json:"peers,omitempty"`
}

// What a node is asked of another one.
const (
	ProbeNode      = "node"      // does anything answer at its address
	ProbeKubelet   = "kubelet"   // does its kubelet
	ProbeCollector = "collector" // is its collector well, over the pods' network
)

// What becomes of a probe.
const (
	PeerReached = "reached"
	PeerRefused = "refused"   // the port is closed: there is somebody to say so
	PeerSilent  = "no_answer" // nothing came back in time
	PeerUnwell  = "unwell"    // it answered, and not as it should
	// PeerForbidden is any failure of a probe that no peer has ever answered: a
	// network policy, or nobody listens anywhere. It says nothing of the peer.
	PeerForbidden = "forbidden"
)

// PeerAnswer is what became of one probe of one peer.
type PeerAnswer struct {
	Node   string    `json:"node"`
	Probe  string    `json:"probe"`
	Result string    `json:"result"`
	Error  string    `json:"error,omitempty"`
	At     time.Time `json:"at"`
}

// SourceHealth is the state of one source of readings.
type SourceHealth struct {
	Name         string    `json:"name"`               // as catalogue.Source, with the node where there are several: "cadvisor/n-12"
	Up           bool      `json:"up"`                 // the last attempt succeeded
	Error        string    `json:"error,omitempty"`    // why not, and what would help
	LastSuccess  time.Time `json:"last_success"`       //
	TookSeconds  float64   `json:"took_seconds"`       // of the last attempt
	Expected     int       `json:"expected"`           // objects that should have been measured
	Measured     int       `json:"measured"`           // objects that were
	OldestSecond float64   `json:"oldest_age_seconds"` // age of the oldest reading that was used
}

// QueueHealth is the state of what waits to be sent.
type QueueHealth struct {
	Batches  int       `json:"batches"`
	Bytes    int64     `json:"bytes"`
	OldestAt time.Time `json:"oldest_at,omitzero"`
	Dropped  int64     `json:"dropped_samples"` // since the start
	// Drops tell of them by reason, with the times that they were of.
	Drops     []QueueDrop `json:"drops,omitempty"`
	MaxBytes  int64       `json:"max_bytes,omitempty"` // in force
	MaxAge    int64       `json:"max_age_seconds,omitempty"`
	LastError string      `json:"last_error,omitempty"`
}

// QueueDrop is what was given up for one reason since the start.
type QueueDrop struct {
	Reason  string    `json:"reason"` // age, bytes, disk, refused, damaged or overflow
	Samples int64     `json:"samples"`
	From    time.Time `json:"from"`
	To      time.Time `json:"to"`
}

// LogHealth counts log lines since the start.
type LogHealth struct {
	Containers int              `json:"containers"` // followed now
	Read       int64            `json:"read"`
	Sent       int64            `json:"sent"` // acknowledged by the server
	Dropped    map[string]int64 `json:"dropped,omitempty"`
}
