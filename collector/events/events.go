// Package events follows a cluster's Kubernetes events, makes further ones of the
// changes of objects that are worth knowing, and hands each on once, as a log
// record of the stream "events". It owns what has been handed on, over restarts;
// it must not know where records are stored.
package events

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/collector/kube"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const (
	gather     = time.Second // events come in bursts
	maxWaiting = 20_000      // events that wait to be sent; more are dropped and counted
	maxBatch   = 2_000
	// forgetAfter is longer than an API server keeps events (an hour unless set
	// otherwise), so that none is taken for new after a restart. Those of which it says
	// that they are gone are forgotten then.
	forgetAfter = 26 * time.Hour
	maxMessage  = 32 << 10
)

// Reasons for which an event is dropped.
const (
	DropOverflow = "overflow"
	DropRefused  = "refused"
)

// Options of a Watcher.
type Options struct {
	Client *kube.Client // required
	Sender string       // wire.Sender of the collector; required
	// File keeps what was handed on; empty means that events are repeated after
	// a restart.
	File string
	// Changes tells what becomes an event of our own: rollouts, images, scaling,
	// cordoned nodes. Nil leaves these out.
	Changes Changer
	// Mask takes secrets out of a message: a failed hook's or probe's has the whole
	// command. Nil leaves messages as they are.
	Mask   func(string) string
	Logger *slog.Logger
	Now    func() time.Time // default time.Now
}

// Watcher follows events.
type Watcher struct {
	o   Options
	log *slog.Logger
	now func() time.Time

	wake chan struct{}
	mask atomic.Pointer[func(string) string]

	mu      sync.Mutex
	waiting map[types.UID]record
	memory  memory
	health  wire.LogHealth
	began   int64 // Unix nanoseconds of Run, 0 before it

	rolling rollouts // of the goroutine that takes changes
}

var _ collector.Logs = (*Watcher)(nil)

// record is one event, as it is sent.
type record struct {
	uid    types.UID
	count  int64
	first  int64 // Unix nanoseconds of the first of count occurrences; line has those of the last
	stream wire.LogStream
	line   wire.LogLine
}

// unfold says how many occurrences a line stands for where that is more than one: the
// API server tells of a series now and then only, with all that came by then. since is
// when the one before these was, as far as one was told; else when the first of them was.
// Of a series that nobody here heard of and that is older than began, it is not known
// how much of it is new: policies would count days at once.
func (r *record) unfold(before mark, began int64) {
	more, since := r.count-before.Count, before.Last
	if since == 0 {
		if since = r.first; since < began {
			return
		}
	}
	if more <= 1 || since <= 0 {
		return
	}
	r.line.Fields = append(slices.Clone(r.line.Fields),
		wire.LogField{Name: wire.FieldOccurrences, Value: strconv.FormatInt(more, 10)},
		wire.LogField{Name: "since", Value: time.Unix(0, min(since, r.line.Time)).UTC().Format(time.RFC3339Nano)})
}

// memory is what was handed on: the highest count and newest time by UID of the
// event, and the batch under way, which after a crash is sent again as it was.
type memory struct {
	Sent    map[types.UID]mark `json:"sent"`
	Pending *wire.LogBatch     `json:"pending,omitempty"`
	Marks   map[types.UID]mark `json:"pending_marks,omitempty"`
}

type mark struct {
	Count int64 `json:"c"`
	At    int64 `json:"t"`           // Unix seconds
	Last  int64 `json:"l,omitempty"` // of the occurrences, Unix nanoseconds
}

// New reads what was handed on before.
func New(o Options) (*Watcher, error) {
	if o.Client == nil || o.Sender == "" {
		return nil, errors.New("events: Client and Sender are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	w := &Watcher{o: o, log: o.Logger, now: o.Now, wake: make(chan struct{}, 1), waiting: map[types.UID]record{}, rolling: rollouts{}}
	w.SetMask(o.Mask)
	w.health.Dropped = map[string]int64{DropOverflow: 0, DropRefused: 0}
	w.memory.Sent = map[types.UID]mark{}
	if o.File == "" {
		return w, nil
	}
	raw, err := os.ReadFile(o.File)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return w, nil
	case err != nil:
		return nil, fmt.Errorf("read events' memory: %w", err)
	}
	if err := json.Unmarshal(raw, &w.memory); err != nil {
		// Events are repeated rather than missed.
		w.log.Warn("events' memory cannot be read, it begins anew", "err", err)
		w.memory = memory{}
	}
	if w.memory.Sent == nil {
		w.memory.Sent = map[types.UID]mark{}
	}
	return w, nil
}

// AlwaysOn marks events as no container logs: the setting that switches those
// off does not mean them.
func (w *Watcher) AlwaysOn() {}

// SetMask has what comes from now on be masked in another way; nil for none.
func (w *Watcher) SetMask(mask func(string) string) {
	if mask == nil {
		mask = func(message string) string { return message }
	}
	w.mask.Store(&mask)
}

// Health counts events.
func (w *Watcher) Health() wire.LogHealth {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := w.health
	h.Dropped = map[string]int64{}
	for k, v := range w.health.Dropped {
		h.Dropped[k] = v
	}
	return h
}

// Run follows until ctx ends. A broken watch is resumed where it was by
// client-go's reflector; what happened meanwhile is listed.
func (w *Watcher) Run(ctx context.Context, sink collector.LogSink) error {
	w.mu.Lock()
	w.began = w.now().UnixNano()
	w.mu.Unlock()
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		w.o.Client.Watch(ctx, kube.Watched{
			GroupVersion: corev1.SchemeGroupVersion, Resource: "events", Example: &corev1.Event{}, List: func() runtime.Object { return &corev1.EventList{} },
		}, (*store)(w), func(trouble string) {
			if trouble != "" {
				w.log.Warn("watch events", "err", trouble)
			} else {
				w.log.Info("watch events again")
			}
		})
		return nil
	})
	if w.o.Changes != nil {
		g.Go(func() error { w.o.Changes.Changes(ctx, w.change); return nil })
	}
	g.Go(func() error { return w.send(ctx, sink) })
	return g.Wait()
}

// store takes the reflector's events and keeps none. What was handed on is forgotten with
// the event itself: it is all written anew with each batch.
type store Watcher

func (s *store) Add(o any) error {
	if e, ok := o.(*corev1.Event); ok {
		(*Watcher)(s).take(e)
	}
	return nil
}
func (s *store) Update(o any) error { return s.Add(o) }
func (s *store) Delete(o any) error {
	if e, ok := o.(*corev1.Event); ok {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.memory.Sent, e.UID)
	}
	return nil
}
func (s *store) Resync() error { return nil }
func (s *store) Replace(list []any, _ string) error {
	there := make(map[types.UID]bool, len(list))
	for _, o := range list {
		_ = s.Add(o)
		if e, ok := o.(*corev1.Event); ok {
			there[e.UID] = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.memory.Sent, func(uid types.UID, _ mark) bool { return !there[uid] })
	return nil
}

func (w *Watcher) take(e *corev1.Event) {
	r, m := convert(e)
	r.line.Message = (*w.mask.Load())(r.line.Message)
	w.put(r, m)
}

// put queues a record unless it, or a newer count of it, was handed on.
func (w *Watcher) put(r record, m mark) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.memory.Sent[r.uid]
	if pending, ok := w.memory.Marks[r.uid]; ok && pending.Count > before.Count {
		before = pending
	}
	if before.Count >= m.Count {
		return
	}
	// A newer count of an event that still waits takes its place.
	old, waits := w.waiting[r.uid]
	switch {
	case waits && old.count >= m.Count:
		return
	case !waits && len(w.waiting) >= maxWaiting:
		w.health.Dropped[DropOverflow]++
		return
	}
	r.unfold(before, w.began)
	w.waiting[r.uid] = r
	w.health.Read++
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// convert makes a record of an event.
func convert(e *corev1.Event) (record, mark) {
	count := int64(e.Count)
	at := e.LastTimestamp.Time
	if e.Series != nil {
		count = max(count, int64(e.Series.Count))
		if e.Series.LastObservedTime.After(at) {
			at = e.Series.LastObservedTime.Time
		}
	}
	first := time.Time{}
	for _, t := range []time.Time{e.EventTime.Time, e.FirstTimestamp.Time, e.CreationTimestamp.Time} {
		if at.IsZero() || at.Unix() <= 0 {
			at = t
		}
		if first.IsZero() || first.Unix() <= 0 {
			first = t
		}
	}
	count = max(count, 1)
	level := "info"
	if e.Type == corev1.EventTypeWarning {
		level = "warning"
	}
	message := strings.TrimSpace(e.Message)
	fields := map[string]string{
		"kind": e.InvolvedObject.Kind, "name": e.InvolvedObject.Name, "reason": e.Reason, "type": e.Type,
		"count": strconv.FormatInt(count, 10), "uid": string(e.UID), "level": level,
		"object_uid": string(e.InvolvedObject.UID), "source": source(e), "object_path": e.InvolvedObject.FieldPath,
	}
	for k, v := range fields {
		if v == "" {
			delete(fields, k)
		}
	}
	s := wire.LogStream{Namespace: e.InvolvedObject.Namespace, Stream: wire.StreamEvents}
	if e.InvolvedObject.Kind == "Node" && s.Namespace == "" {
		s.Node = e.InvolvedObject.Name
	}
	return record{
		uid: e.UID, count: count, first: first.UnixNano(), stream: s,
		line: wire.LogLine{Time: max(at.UnixNano(), 1), Message: message[:min(len(message), maxMessage)], Fields: wire.FieldsOf(fields)},
	}, mark{Count: count, At: at.Unix()}
}

func source(e *corev1.Event) string {
	if e.Source.Component != "" {
		return e.Source.Component
	}
	return e.ReportingController
}

func (w *Watcher) send(ctx context.Context, sink collector.LogSink) error {
	if b := w.memory.Pending; b != nil { // only this goroutine changes it
		if err := w.deliver(ctx, sink, b); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-w.wake:
		}
		t := time.NewTimer(gather)
		select {
		case <-ctx.Done():
			t.Stop()
			return nil
		case <-t.C:
		}
		for {
			b := w.nextBatch()
			if b == nil {
				break
			}
			if err := w.deliver(ctx, sink, b); err != nil {
				return err
			}
		}
	}
}

// nextBatch takes what waits of one UTC day, and notes it before it is sent.
func (w *Watcher) nextBatch() *wire.LogBatch {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.waiting) == 0 {
		return nil
	}
	records := make([]record, 0, len(w.waiting))
	for _, r := range w.waiting {
		records = append(records, r)
	}
	slices.SortFunc(records, func(a, b record) int {
		return cmp.Or(cmp.Compare(a.line.Time, b.line.Time), cmp.Compare(a.uid, b.uid))
	})
	day := func(r record) int64 { return r.line.Time / int64(24*time.Hour) }
	n := 1
	for n < min(len(records), maxBatch) && day(records[n]) == day(records[0]) {
		n++
	}
	b := &wire.LogBatch{Sender: w.o.Sender}
	place := map[wire.LogStream]int{}
	hash := sha256.New()
	w.memory.Marks = map[types.UID]mark{}
	for _, r := range records[:n] {
		delete(w.waiting, r.uid)
		i, seen := place[r.stream]
		if !seen {
			i = len(b.Groups)
			place[r.stream] = i
			b.Groups = append(b.Groups, wire.LogGroup{Stream: r.stream})
		}
		b.Groups[i].Lines = append(b.Groups[i].Lines, r.line)
		_, _ = fmt.Fprintf(hash, "%s/%d\n", r.uid, r.count)
		w.memory.Marks[r.uid] = mark{Count: r.count, At: w.now().Unix(), Last: r.line.Time}
	}
	b.ID = "events-" + hex.EncodeToString(hash.Sum(nil)[:16])
	w.memory.Pending = b
	w.saveLocked()
	return b
}

// deliver sends a batch until it is stored. One that is refused is given up.
func (w *Watcher) deliver(ctx context.Context, sink collector.LogSink, b *wire.LogBatch) error {
	for {
		err := sink.Send(ctx, b)
		w.mu.Lock()
		switch {
		case err == nil:
			w.health.Sent += int64(b.Lines())
		case ctx.Err() != nil:
			w.mu.Unlock()
			return nil // it is in the file, and sent by the next start
		case errors.Is(err, fault.ErrInvalid), errors.Is(err, fault.ErrTooLarge), errors.Is(err, fault.ErrMalformed):
			w.health.Dropped[DropRefused] += int64(b.Lines())
			w.log.Error("server refused events", "events", b.Lines(), "err", err)
		default:
			w.mu.Unlock()
			t := time.NewTimer(gather)
			select {
			case <-ctx.Done():
				t.Stop()
				return nil
			case <-t.C:
			}
			continue
		}
		for uid, m := range w.memory.Marks {
			w.memory.Sent[uid] = m
		}
		w.memory.Pending, w.memory.Marks = nil, nil
		for uid, m := range w.memory.Sent {
			if w.now().Sub(time.Unix(m.At, 0)) > forgetAfter {
				delete(w.memory.Sent, uid)
			}
		}
		w.saveLocked()
		w.mu.Unlock()
		return nil
	}
}

// saveLocked writes the memory as temporary file, synced and renamed.
func (w *Watcher) saveLocked() {
	if w.o.File == "" {
		return
	}
	if err := save(w.o.File, w.memory); err != nil {
		w.log.Error("write events' memory; a restart now would repeat events", "err", err)
	}
}

func save(path string, m memory) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return err
	}
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
