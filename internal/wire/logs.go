package wire

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Names of the fields that make a log stream. Every stream has these and no
// others, so that high-cardinality fields never multiply streams. The server
// adds "cluster".
const (
	FieldCluster      = "cluster"
	FieldNamespace    = "namespace"
	FieldPod          = "pod"
	FieldContainer    = "container"
	FieldStream       = "stream" // stdout | stderr | events
	FieldWorkloadType = "workload_type"
	FieldWorkload     = "workload"
	FieldNode         = "node"
)

// StreamEvents is the value of FieldStream for Kubernetes events.
const StreamEvents = "events"

// LogStream says where lines come from. Empty parts are left out of the stream.
type LogStream struct {
	Namespace    string `json:"namespace,omitempty"`
	Pod          string `json:"pod,omitempty"`
	Container    string `json:"container,omitempty"`
	Stream       string `json:"stream"`
	WorkloadType string `json:"workload_type,omitempty"`
	Workload     string `json:"workload,omitempty"`
	Node         string `json:"node,omitempty"`
}

// LogLine is one record.
type LogLine struct {
	Time    int64             `json:"t"` // Unix nanoseconds
	Message string            `json:"m"`
	Fields  map[string]string `json:"f,omitempty"` // level, and fields of a JSON or logfmt line
}

// LogGroup is lines of one stream, in the order in which they were written.
type LogGroup struct {
	Stream LogStream `json:"s"`
	Lines  []LogLine `json:"l"`
}

// LogBatch is one write of log lines: acknowledged as a whole, stored once,
// however often it is sent. All its lines lie in one UTC day, because the store
// is atomic within a day only.
type LogBatch struct {
	Sender string     `json:"sender"` // as in HeaderSender
	ID     string     `json:"id"`     // unique for the sender; the same when the batch is sent again
	Groups []LogGroup `json:"groups"`
	// Complete says up to when the sender's nodes are complete with this batch
	// and what was acknowledged before. A batch that says it may hold no lines.
	Complete []LogMark `json:"complete,omitempty"`
}

// LogMark says that all lines that a node's containers wrote up to a time were
// sent. Without it, no line and a missing line look the same.
type LogMark struct {
	Node    string `json:"node,omitempty"` // empty: the cluster's events
	Through int64  `json:"through"`        // Unix nanoseconds
}

// Bounds of a batch.
const (
	MaxLogBatchBytes = 16 << 20 // uncompressed
	MaxLogBatchLines = 20_000
	MaxLogLineBytes  = 256 << 10
	MaxLogMarks      = 10_000
)

// Lines counts the lines of the batch.
func (b *LogBatch) Lines() int {
	n := 0
	for _, g := range b.Groups {
		n += len(g.Lines)
	}
	return n
}

// Validate checks what the store relies on.
func (b *LogBatch) Validate() error {
	var fs fault.Fields
	if b.Sender == "" {
		fs.Add("sender", "is required", nil)
	}
	if b.ID == "" || len(b.ID) > 64 {
		fs.Add("id", "must have 1 to 64 characters", b.ID)
	}
	if n := b.Lines(); n == 0 && len(b.Complete) == 0 || n > MaxLogBatchLines {
		fs.Add("groups", fmt.Sprintf("must hold 1 to %d lines", MaxLogBatchLines), n)
	}
	if n := len(b.Complete); n > MaxLogMarks {
		fs.Add("complete", fmt.Sprintf("must hold at most %d nodes", MaxLogMarks), n)
	}
	for i, m := range b.Complete {
		if m.Through <= 0 {
			fs.Add(fmt.Sprintf("complete[%d].through", i), "must be a time after 1970", m.Through)
		}
		if len(m.Node) > 253 {
			fs.Add(fmt.Sprintf("complete[%d].node", i), "must have at most 253 characters", len(m.Node))
		}
		if len(fs) >= 20 {
			return fs.Err()
		}
	}
	var day int64
	for i, g := range b.Groups {
		if g.Stream.Stream == "" {
			fs.Add(fmt.Sprintf("groups[%d].s.stream", i), "is required", nil)
		}
		for j, l := range g.Lines {
			if len(l.Message) > MaxLogLineBytes {
				fs.Add(fmt.Sprintf("groups[%d].l[%d].m", i, j), fmt.Sprintf("must be at most %d bytes", MaxLogLineBytes), len(l.Message))
			}
			d := l.Time / int64(24*time.Hour)
			if l.Time <= 0 || (day != 0 && d != day) {
				fs.Add(fmt.Sprintf("groups[%d].l[%d].t", i, j), "must be a time after 1970, all in the same UTC day", l.Time)
			}
			day = d
			if len(fs) >= 20 { // enough to see what is wrong
				return fs.Err()
			}
		}
	}
	return fs.Err()
}

// MarshalLogBatch gives the body of a log write, before compression (zstd).
func MarshalLogBatch(b *LogBatch) ([]byte, error) {
	return appendLogBatch(make([]byte, 0, 64<<10), b), nil
}

// UnmarshalLogBatch reads and validates what MarshalLogBatch wrote. A body that
// cannot be read is fault.ErrMalformed, one that breaks a rule fault.ErrInvalid.
func UnmarshalLogBatch(body []byte) (*LogBatch, error) {
	b, ok := readLogBatch(body)
	if !ok {
		b = LogBatch{}
		if err := json.Unmarshal(body, &b); err != nil {
			return nil, fmt.Errorf("log batch: %w: %v", fault.ErrMalformed, err)
		}
	}
	if err := b.Validate(); err != nil {
		return nil, fmt.Errorf("log batch: %w", err)
	}
	return &b, nil
}
