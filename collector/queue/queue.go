// Package queue keeps sealed batches on disk until a server has acknowledged
// them. It owns the folder, its order and its bounds; it must not know what is
// in a batch or how it is sent.
//
// A batch is one file, written as temporary file, synced and renamed, so that a
// file is either whole or not there. Its name holds all that is to be known
// without opening it.
package queue

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

const (
	suffix     = ".batch"
	tempSuffix = ".tmp"
	unchecked  = "u" // last part of the name of a batch that is Unchecked
)

// Bounds of a queue that was given none.
const (
	DefaultMaxAge   = 24 * time.Hour
	DefaultMaxBytes = 1 << 30
)

// Reasons for which a batch is dropped.
const (
	DropAge      = "age"      // older than the server accepts, or than the bound
	DropBytes    = "bytes"    // the oldest, when the folder was full
	DropDisk     = "disk"     // it could not be written
	DropRefused  = "refused"  // the server will never take it
	DropDamaged  = "damaged"  // the file cannot be read
	DropOverflow = "overflow" // larger than the whole folder may be
)

// Reasons lists every reason.
var Reasons = []string{DropAge, DropBytes, DropDisk, DropRefused, DropDamaged, DropOverflow}

// Item is one batch.
type Item struct {
	Sequence    uint64
	First, Last time.Time     // times of its samples
	Through     time.Time     // grid point that it completes; zero for none
	Interval    time.Duration // of the sender when it was made
	Samples     int
	Bytes       int64
	// Unchecked says that the clock by which it was stamped had not been held
	// against the server's since the start.
	Unchecked bool
}

// Drop is what was given up for one reason since the start.
type Drop struct {
	Reason   string
	Samples  int64
	From, To time.Time // of the samples
}

// Options of a Queue.
type Options struct {
	Dir        string        // required; made if it is not there
	MaxAge     time.Duration // default DefaultMaxAge
	MaxBytes   int64         // default DefaultMaxBytes
	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time // default time.Now
}

// Queue is a bounded folder of batches. It is for concurrent use.
type Queue struct {
	dir     string
	log     *slog.Logger
	now     func() time.Time
	metrics *metrics

	mu       sync.Mutex
	maxAge   time.Duration
	maxBytes int64
	items    []Item // oldest first
	bytes    int64
	next     uint64
	dropped  map[string]*Drop // by reason
}

// Open reads what is in the folder. Files that were not sealed are removed.
func Open(o Options) (*Queue, error) {
	if o.Dir == "" {
		return nil, errors.New("queue: Dir is required")
	}
	if o.MaxAge == 0 {
		o.MaxAge = DefaultMaxAge
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = DefaultMaxBytes
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open queue: %w", err)
	}
	q := &Queue{dir: o.Dir, log: o.Logger, now: o.Now, maxAge: o.MaxAge, maxBytes: o.MaxBytes, next: 1, dropped: map[string]*Drop{}}
	entries, err := os.ReadDir(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open queue: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(o.Dir, e.Name())
		if strings.HasSuffix(e.Name(), tempSuffix) {
			if err := os.Remove(path); err != nil {
				return nil, fmt.Errorf("open queue: %w", err)
			}
			continue
		}
		item, ok := parseName(e.Name())
		info, err := e.Info()
		if !ok || err != nil || !info.Mode().IsRegular() {
			continue // not ours
		}
		item.Bytes = info.Size()
		q.items = append(q.items, item)
		q.bytes += item.Bytes
		q.next = max(q.next, item.Sequence+1)
	}
	slices.SortFunc(q.items, func(a, b Item) int { return compare(a.Sequence, b.Sequence) })
	q.metrics = newMetrics(o.Registerer, q)
	q.mu.Lock()
	q.trimLocked(0)
	q.mu.Unlock()
	return q, nil
}

// Put seals a batch. Its sequence is given by the queue. Older batches are
// dropped where it would not fit otherwise.
func (q *Queue) Put(item Item, body []byte) (Item, error) {
	q.mu.Lock()
	item.Sequence = q.next
	q.next++
	item.Bytes = int64(len(body))
	if item.Bytes > q.maxBytes {
		q.countLocked(item, DropOverflow)
		q.mu.Unlock()
		return item, fmt.Errorf("queue batch: %w: %d bytes, the whole queue may have %d", fault.ErrTooLarge, item.Bytes, q.maxBytes)
	}
	q.trimLocked(item.Bytes)
	q.mu.Unlock()

	// The file is written without the lock: the disk may be slow, and readers
	// of older batches need not wait for it.
	if err := q.seal(item, body); err != nil {
		q.mu.Lock()
		q.countLocked(item, DropDisk)
		q.mu.Unlock()
		return item, fmt.Errorf("queue batch: %w", err)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	i, _ := slices.BinarySearchFunc(q.items, item, func(a, b Item) int { return compare(a.Sequence, b.Sequence) })
	q.items = slices.Insert(q.items, i, item)
	q.bytes += item.Bytes
	return item, nil
}

func (q *Queue) seal(item Item, body []byte) error {
	path := filepath.Join(q.dir, item.name())
	f, err := os.OpenFile(path+tempSuffix, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(body)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+tempSuffix, path)
	}
	if err != nil {
		_ = os.Remove(path + tempSuffix)
		return err
	}
	return syncDir(q.dir)
}

// Next gives the batch to send next, without removing it: the first of those
// whose samples are not older than young, since they are live still, else the
// oldest of the backlog.
func (q *Queue) Next(young time.Time) (Item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.trimLocked(0)
	if len(q.items) == 0 {
		return Item{}, false
	}
	next := 0
	for i, item := range slices.Backward(q.items) {
		if item.Last.Before(young) {
			break
		}
		next = i
	}
	return q.items[next], true
}

// After gives the batch behind one, without removing it.
func (q *Queue) After(item Item) (Item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	i, there := slices.BinarySearchFunc(q.items, item, func(a, b Item) int { return compare(a.Sequence, b.Sequence) })
	if there {
		i++
	}
	if i == len(q.items) {
		return Item{}, false
	}
	return q.items[i], true
}

// Oldest gives the first batch, without removing it, for what must be sent in
// order.
func (q *Queue) Oldest() (Item, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.trimLocked(0)
	if len(q.items) == 0 {
		return Item{}, false
	}
	return q.items[0], true
}

// Read gives a batch's body. One that cannot be read is dropped, and an error.
func (q *Queue) Read(item Item) ([]byte, error) {
	body, err := os.ReadFile(filepath.Join(q.dir, item.name()))
	if err == nil {
		return body, nil
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("read queued batch: %w", fault.ErrNotFound)
	}
	q.Drop(item, DropDamaged)
	return nil, err
}

// Done removes a batch that was acknowledged.
func (q *Queue) Done(item Item) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.removeLocked(item)
}

// Drop gives up a batch, and counts it.
func (q *Queue) Drop(item Item, reason string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.removeLocked(item) {
		q.countLocked(item, reason)
	}
}

// Count notes samples that were dropped before they came to the queue.
func (q *Queue) Count(item Item, reason string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.countLocked(item, reason)
}

// SetMaxAge sets the bound of age, for which the server's word counts.
func (q *Queue) SetMaxAge(d time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.maxAge = d
}

// SetMaxBytes sets the bound of bytes; what is over it goes with the next batch.
func (q *Queue) SetMaxBytes(n int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.maxBytes = n
}

// Bounds gives those in force.
func (q *Queue) Bounds() (age time.Duration, bytes int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.maxAge, q.maxBytes
}

// Stats says what waits and how many samples were dropped since the start.
func (q *Queue) Stats() (batches int, bytes int64, oldest time.Time, dropped int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.items) > 0 {
		oldest = q.items[0].First
	}
	for _, d := range q.dropped {
		dropped += d.Samples
	}
	return len(q.items), q.bytes, oldest, dropped
}

// Drops tells what was dropped since the start, in the order of Reasons.
func (q *Queue) Drops() []Drop {
	q.mu.Lock()
	defer q.mu.Unlock()
	var out []Drop
	for _, reason := range Reasons {
		if d := q.dropped[reason]; d != nil {
			out = append(out, *d)
		}
	}
	return out
}

// trimLocked drops what is too old, and the oldest until more bytes fit.
func (q *Queue) trimLocked(more int64) {
	now := q.now()
	for len(q.items) > 0 {
		item, reason := q.items[0], ""
		switch {
		case now.Sub(item.Last) > q.maxAge:
			reason = DropAge
		case q.bytes+more > q.maxBytes:
			reason = DropBytes
		default:
			return
		}
		q.removeLocked(item)
		q.countLocked(item, reason)
	}
}

func (q *Queue) removeLocked(item Item) bool {
	i, ok := slices.BinarySearchFunc(q.items, item, func(a, b Item) int { return compare(a.Sequence, b.Sequence) })
	if !ok {
		return false
	}
	q.bytes -= q.items[i].Bytes
	q.items = slices.Delete(q.items, i, i+1)
	if err := os.Remove(filepath.Join(q.dir, item.name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		// It will be sent again after a restart, which the server takes as a repetition.
		q.log.Warn("remove queued batch", "err", err)
	}
	return true
}

func (q *Queue) countLocked(item Item, reason string) {
	d := q.dropped[reason]
	if d == nil {
		d = &Drop{Reason: reason, From: item.First, To: item.Last}
		q.dropped[reason] = d
	}
	d.Samples += int64(item.Samples)
	if item.First.Before(d.From) {
		d.From = item.First
	}
	if item.Last.After(d.To) {
		d.To = item.Last
	}
	q.metrics.dropped.WithLabelValues(reason).Add(float64(item.Samples))
	q.log.Warn("samples dropped", "reason", reason, "samples", item.Samples, "from", item.First, "to", item.Last)
}

// name: sequence-first-last-through-interval-samples, times in Unix
// milliseconds, the interval in seconds; "-u" behind it where Unchecked.
func (i Item) name() string {
	through := int64(0)
	if !i.Through.IsZero() {
		through = i.Through.UnixMilli()
	}
	flag := ""
	if i.Unchecked {
		flag = "-" + unchecked
	}
	return fmt.Sprintf("%016x-%d-%d-%d-%d-%d%s%s", i.Sequence, i.First.UnixMilli(), i.Last.UnixMilli(), through,
		int64(i.Interval/time.Second), i.Samples, flag, suffix)
}

func parseName(name string) (Item, bool) {
	base, ok := strings.CutSuffix(name, suffix)
	base, isUnchecked := strings.CutSuffix(base, "-"+unchecked)
	parts := strings.Split(base, "-")
	if !ok || len(parts) != 6 || len(parts[0]) != 16 {
		return Item{}, false
	}
	seq, err := strconv.ParseUint(parts[0], 16, 64)
	if err != nil {
		return Item{}, false
	}
	var n [5]int64
	for i, p := range parts[1:] {
		v, err := strconv.ParseInt(p, 10, 64)
		if err != nil || v < 0 {
			return Item{}, false
		}
		n[i] = v
	}
	item := Item{
		Sequence: seq, First: time.UnixMilli(n[0]).UTC(), Last: time.UnixMilli(n[1]).UTC(),
		Interval: time.Duration(n[3]) * time.Second, Samples: int(n[4]), Unchecked: isUnchecked,
	}
	if n[2] > 0 {
		item.Through = time.UnixMilli(n[2]).UTC()
	}
	return item, item.name() == name
}

func compare(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
