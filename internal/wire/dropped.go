package wire

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Dropped is lines of a stream that are not stored.
type Dropped struct {
	Reason      string // a word to search for
	Words       string // the same for people
	Lines       int    // 0 when unknown
	Bytes       int64
	From, Until int64 // times of the first and the last, Unix nanoseconds; 0 when unknown
}

// Add counts a line of a time, in Unix nanoseconds.
func (d *Dropped) Add(at int64, bytes int) {
	if d.Lines == 0 || at < d.From {
		d.From = at
	}
	d.Until = max(d.Until, at)
	d.Lines++
	d.Bytes += int64(bytes)
}

// Line tells of it in the stream's own log, so that who reads it sees that something is
// missing, and where.
func (d *Dropped) Line(of LogStream, at int64) LogLine {
	what := "1 line"
	if d.Lines != 1 {
		what = strconv.Itoa(d.Lines) + " lines"
	}
	if d.Lines == 0 {
		what = "lines"
	}
	where := strings.Trim(of.Namespace+"/"+of.Pod, "/")
	if where == "" {
		where = of.Stream
	}
	if of.Container != "" {
		where += " (" + of.Container + ")"
	}
	f := LogFields{
		{Name: "level", Value: "warn"}, {Name: "crowsnest_dropped_reason", Value: d.Reason},
		{Name: "crowsnest_dropped_lines", Value: strconv.Itoa(d.Lines)}, {Name: "crowsnest_dropped_bytes", Value: strconv.FormatInt(d.Bytes, 10)},
	}
	if d.From > 0 {
		f = append(f, LogField{Name: "crowsnest_dropped_from", Value: time.Unix(0, d.From).UTC().Format(time.RFC3339Nano)})
	}
	if d.Until > 0 {
		f = append(f, LogField{Name: "crowsnest_dropped_until", Value: time.Unix(0, d.Until).UTC().Format(time.RFC3339Nano)})
	}
	return LogLine{Time: at, Fields: f, Message: fmt.Sprintf("%s of %s dropped here: %s", what, where, d.Words)}
}
