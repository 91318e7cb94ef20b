package wire

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
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

// FieldOccurrences is how many occurrences an event's line stands for, where that is
// more than one.
const FieldOccurrences = "occurrences"

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
	Time    int64     `json:"t"` // Unix nanoseconds
	Message string    `json:"m"`
	Fields  LogFields `json:"f,omitempty"` // level, LagField, and fields of a JSON or logfmt line
}

// LagField says how many whole milliseconds a line's own time, as its text has it, lies
// before Time; it is negative when the own time is later.
const LagField = "lag_ms"

// OwnTime gives a line's own time, to the millisecond, by its Time and its LagField.
func OwnTime(at time.Time, lag string) (own time.Time, ok bool) {
	n, err := strconv.ParseInt(lag, 10, 64)
	return time.UnixMilli(at.UnixMilli() - n).UTC(), err == nil
}

// LogField is a named value of a line.
type LogField struct{ Name, Value string }

// LogFields are a line's own fields. No name comes twice; a sender that keeps
// the names in one order makes batches that are smaller. In JSON they are an object.
type LogFields []LogField

// FieldsOf gives fields in the order of their names.
func FieldsOf(values map[string]string) LogFields {
	out := make(LogFields, 0, len(values))
	for name, value := range values {
		out = append(out, LogField{name, value})
	}
	slices.SortFunc(out, func(a, b LogField) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// Get gives the value of a field; empty when there is none.
func (f LogFields) Get(name string) string {
	for i := range f {
		if f[i].Name == name {
			return f[i].Value
		}
	}
	return ""
}

// Map gives the fields by name.
func (f LogFields) Map() map[string]string {
	out := make(map[string]string, len(f))
	for _, v := range f {
		out[v.Name] = v.Value
	}
	return out
}

// MarshalJSON writes an object.
func (f LogFields) MarshalJSON() ([]byte, error) { return json.Marshal(f.Map()) }

// UnmarshalJSON reads an object; of a name that comes twice the last value counts.
func (f *LogFields) UnmarshalJSON(raw []byte) error {
	var values map[string]string
	if err := json.Unmarshal(raw, &values); err != nil {
		return err
	}
	*f = FieldsOf(values)
	return nil
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
	// Positions say how far the batch brings its containers, for who goes on with them;
	// see LogPosition.
	Positions []LogPosition `json:"positions,omitempty"`
	// Untimed says that the lines came without times and have that of their coming: the
	// batch has others when it is sent again. It is not sent.
	Untimed bool `json:"-"`

	disposable bool
	disposed   func([]LogGroup)
	outdated   func() bool
	encoded    []byte // what Encode kept in place of the groups
	room       []byte // that Encode may write into
}

// LogPosition is how far a container's log was taken, kept by the server with the
// lines themselves. Whoever goes on with the container, a process of another folder
// or another replica, asks for it (PathLogPositions), and each batch says where it
// begins: one that begins before what the server has is refused as a whole
// (fault.ErrConflict), since somebody else went on meanwhile.
//
// A node's collector, which has the files and asks nobody, says how far it came with
// From and Taken alike: that is kept, and never refused.
type LogPosition struct {
	LogSource
	From  int64  `json:"from,omitempty"` // Taken before this batch
	Taken int64  `json:"taken"`          // what was taken of the container so far, in lines or, of a node's collector, in Unix nanoseconds; it never falls
	State string `json:"state"`          // what the sender needs to go on; the server keeps it as it is
}

// Claims says whether the batch may be refused for where it begins.
func (p *LogPosition) Claims() bool { return p.From < p.Taken }

// LogSource is a container whose log somebody reads.
type LogSource struct {
	Key       string `json:"key"` // tells it from others of the same name, without spaces: "UID/container"
	Namespace string `json:"namespace"`
	Pod       string `json:"pod"`
	Container string `json:"container"`
}

// LogPositionsRequest asks PathLogPositions how far containers were taken.
type LogPositionsRequest struct {
	Sources []LogSource `json:"sources"`
}

// LogPositionsResponse has the positions of those that are known.
type LogPositionsResponse struct {
	Positions []LogPosition `json:"positions"`
}

// LogMark says that all lines that a node's containers wrote up to a time were
// sent. Without it, no line and a missing line look the same.
type LogMark struct {
	Node    string `json:"node,omitempty"` // empty: the cluster's events
	Through int64  `json:"through"`        // Unix nanoseconds
	// Parts are the replicas that share the node's containers, by the bits of their
	// numbers, and Part the number of the one that speaks, for its share alone. 0 for
	// one that speaks for all. A node is complete when all parts say so, who have to
	// agree on who they are.
	Part  int    `json:"part,omitempty"`
	Parts uint64 `json:"parts,omitempty"`
}

// Bounds of a batch.
const (
	MaxLogBatchBytes = 16 << 20 // uncompressed
	MaxLogBatchLines = 40_000
	MaxLogLineBytes  = 256 << 10
	MaxLogMarks      = 10_000
	MaxLogSources    = 1_000 // of a LogPositionsRequest
	maxLogKey        = 512
	maxLogState      = 4 << 10
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
		if m.Parts != 0 && (m.Part < 0 || m.Part > 63 || m.Parts&(1<<m.Part) == 0) {
			fs.Add(fmt.Sprintf("complete[%d].part", i), "must be one of parts", m.Part)
		}
		if len(fs) >= 20 {
			return fs.Err()
		}
	}
	if n := len(b.Positions); n > MaxLogBatchLines {
		fs.Add("positions", fmt.Sprintf("must hold at most %d containers", MaxLogBatchLines), n)
	}
	for i, p := range b.Positions {
		if len(p.State) > maxLogState || p.From < 0 || p.Taken < p.From {
			fs.Add(fmt.Sprintf("positions[%d]", i), fmt.Sprintf("must not go back, and have at most %d bytes of state", maxLogState), p.Key)
		}
		if err := p.LogSource.validate(); err != nil {
			fs.Add(fmt.Sprintf("positions[%d]", i), err.Error(), p.Key)
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

func (s *LogSource) validate() error {
	if s.Key == "" || len(s.Key) > maxLogKey || strings.Contains(s.Key, " ") || len(s.Namespace) > 253 || len(s.Pod) > 253 || len(s.Container) > 253 {
		return fmt.Errorf("needs a key of 1 to %d characters without spaces, and names of at most 253", maxLogKey)
	}
	return nil
}

// Validate checks the bounds of a request.
func (r *LogPositionsRequest) Validate() error {
	var fs fault.Fields
	if n := len(r.Sources); n > MaxLogSources {
		fs.Add("sources", fmt.Sprintf("must hold at most %d containers", MaxLogSources), n)
		return fs.Err()
	}
	for i := range r.Sources {
		if err := r.Sources[i].validate(); err != nil {
			fs.Add(fmt.Sprintf("sources[%d]", i), err.Error(), nil)
		}
	}
	return fs.Err()
}

// MarshalLogBatch gives the body of a log write, before compression (zstd), of
// the media type LogBatchType.
func MarshalLogBatch(b *LogBatch) ([]byte, error) { return marshalLogBatch(nil, b), nil }

// marshalLogBatch writes into room if that is large enough.
func marshalLogBatch(room []byte, b *LogBatch) []byte {
	if n := encodedSize(b); cap(room) < n {
		room = make([]byte, 0, n)
	}
	return appendLogBatch(room[:0], b)
}

// Dispose says that nobody needs the lines once they are encoded. Then disposed, if it is
// not nil, has their groups; what they lie in may be used again.
func (b *LogBatch) Dispose(disposed func([]LogGroup)) { b.disposable, b.disposed = true, disposed }

// Unsay has Encode take out what the batch says to be complete once outdated says that it
// does not hold any more: a batch may wait for its server for long.
func (b *LogBatch) Unsay(outdated func() bool) { b.outdated = outdated }

// Encode gives what MarshalLogBatch gives, for one who sends the batch, perhaps several
// times, and asks before each. Of a batch that is disposed of it keeps that in place of the
// lines, which take four times as much memory.
func (b *LogBatch) Encode() ([]byte, error) {
	if len(b.Complete) > 0 && b.outdated != nil && b.outdated() && b.Reopen() == nil {
		if b.Complete = nil; b.Lines() == 0 {
			return nil, errors.New("what it says to be complete does not hold any more, and it has no lines")
		}
	}
	if b.encoded != nil {
		return b.encoded, nil
	}
	if !b.disposable {
		return MarshalLogBatch(b)
	}
	b.encoded, b.room = marshalLogBatch(b.room, b), nil
	groups, disposed := b.Groups, b.disposed
	b.Groups, b.disposed = nil, nil
	if disposed != nil {
		disposed(groups)
	}
	return b.encoded, nil
}

// EncodeInto has Encode write into room if that is large enough. It is the batch's until
// Encoded gives it back.
func (b *LogBatch) EncodeInto(room []byte) { b.room = room }

// Encoded gives what Encode kept, or else what it was to write into, of a batch that is not
// sent any more, to be used again.
func (b *LogBatch) Encoded() (room []byte) {
	room = b.encoded
	if room == nil {
		room = b.room
	}
	b.encoded, b.room = nil, nil
	return room
}

// Reopen gives a batch of which Encode kept nothing else its lines again, to be changed.
func (b *LogBatch) Reopen() error {
	if b.encoded == nil {
		return nil
	}
	was, err := UnmarshalLogBatch(b.encoded)
	if err != nil {
		return err
	}
	b.Groups, b.encoded = was.Groups, nil
	return nil
}

// UnmarshalLogBatch reads and validates what MarshalLogBatch wrote, or the same
// as JSON. A body that cannot be read is fault.ErrMalformed, one that breaks a
// rule fault.ErrInvalid. Messages and fields are parts of one copy of the body;
// who keeps one for longer than the batch, clones it.
func UnmarshalLogBatch(body []byte) (*LogBatch, error) {
	var b LogBatch
	var err error
	if bytes.HasPrefix(body, []byte(logMagic)) || bytes.HasPrefix(body, []byte(logMagicShared)) {
		b, err = readLogBatch(string(body))
	} else {
		err = json.Unmarshal(body, &b)
	}
	if err != nil {
		return nil, fmt.Errorf("log batch: %w: %v", fault.ErrMalformed, err)
	}
	if err := b.Validate(); err != nil {
		return nil, fmt.Errorf("log batch: %w", err)
	}
	return &b, nil
}
