package logs

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// shipper sends sealed batches one after the other and keeps the journal.
type shipper[C any] struct {
	want    chan struct{}  // the shipper offers to take a batch; until it does, the maker fills it
	in      chan *batch[C] // the maker answers with one
	journal *journal[C]
	counts  *counters
	metrics *metrics
	log     *slog.Logger
	idle    time.Duration // how long a batch may follow before the journal is written on its own
	// conflict is told that somebody else had taken the batch's sources further. Nothing
	// is sent any more then.
	conflict func(error)
	// without, if set, takes those sources out of a batch that was refused for them, so that
	// the rest is sent; false when it cannot be told which they are.
	without func(ctx context.Context, b *batch[C], refused error) bool
	// overtaken asks, before a batch is sent after the server was not heard for unheard,
	// whether somebody read on meanwhile; nil for a sender whose batches say where they
	// begin.
	overtaken func(context.Context) error
	unheard   time.Duration
	try       time.Duration // how long the sink may try a batch by itself before somebody asks again
	clocks
	heard time.Time // when the server took something last, or said how far others are; never: the first batch asks
	room  []byte    // that the batch before was encoded into, as long as one follows the other
}

func newShipper[C any](j *journal[C], c *counters, m *metrics, log *slog.Logger, by clocks) *shipper[C] {
	return &shipper[C]{want: make(chan struct{}), in: make(chan *batch[C]), journal: j, counts: c, metrics: m, log: log, clocks: by, idle: 100 * time.Millisecond}
}

// run sends until ctx ends.
func (s *shipper[C]) run(ctx context.Context, sink Sink) {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	defer timer.Stop()
	dirty := false
	for {
		select {
		case <-ctx.Done():
			if dirty {
				s.write(s.journal.write())
			}
			return
		case <-timer.C:
			// No batch followed whose begin would have written it.
			s.write(s.journal.write())
			dirty, s.room = false, nil
		case s.want <- struct{}{}:
			timer.Stop()
			var b *batch[C]
			select {
			case b = <-s.in:
			case <-ctx.Done():
				if dirty {
					s.write(s.journal.write())
				}
				return
			}
			if b.lines == 0 {
				s.tell(ctx, sink, b)
				if dirty {
					timer.Reset(s.idle)
				}
				continue
			}
			s.write(s.journal.write())
			dirty = false
			if !s.send(ctx, sink, b) {
				return // it stays in the journal as on its way
			}
			s.journal.acknowledged(b)
			s.room = b.wire.Encoded()
			dirty = true
			timer.Reset(s.idle)
		}
	}
}

// give answers an offer that was taken from want; it is false when ctx ended, as
// the shipper may have by then.
func (s *shipper[C]) give(ctx context.Context, b *batch[C]) bool {
	if b.lines > 0 {
		s.journal.begin(b)
	}
	select {
	case s.in <- b:
		return true
	case <-ctx.Done():
		return false
	}
}

// tell sends what a batch without lines says to be complete. It is tried for a
// short time: the next one says more, and lines must not wait for it.
func (s *shipper[C]) tell(ctx context.Context, sink Sink, b *batch[C]) {
	if len(b.wire.Complete) == 0 {
		return // all its lines were taken out of it again
	}
	s.unsays(b)
	ctx, stop := context.WithTimeout(ctx, marksEvery)
	defer stop()
	if err := sink.Send(ctx, &b.wire); err != nil {
		s.log.Debug("send log watermarks", "err", err)
		return
	}
	if s.overtaken != nil && s.now().Sub(s.heard) < s.unheard { // else the next lines ask first
		s.hears()
	}
}

// hears notes that the server took something.
func (s *shipper[C]) hears() {
	if s.overtaken != nil {
		s.heard = s.now()
	}
}

// sendOnce sends a batch, unless somebody read on. A sink tries again by itself for as
// long as it may, and others can read on meanwhile.
func (s *shipper[C]) sendOnce(ctx context.Context, sink Sink, b *batch[C]) error {
	if s.overtaken != nil {
		if s.now().Sub(s.heard) >= s.unheard {
			if err := s.overtaken(ctx); err != nil {
				return err
			}
		}
		var stop context.CancelFunc
		ctx, stop = context.WithTimeout(ctx, s.try)
		defer stop()
	}
	err := sink.Send(ctx, &b.wire)
	if err == nil {
		s.hears()
	}
	return err
}

func (s *shipper[C]) write(err error) {
	if err != nil {
		// Lines are still sent once; only a kill now could send some twice.
		s.metrics.positions.WithLabelValues("error").Inc()
		s.log.Error("write log positions", "err", err)
		return
	}
	s.metrics.positions.WithLabelValues("ok").Inc()
}

// send says whether the batch is settled: acknowledged, or refused for good.
func (s *shipper[C]) send(ctx context.Context, sink Sink, b *batch[C]) bool {
	s.unsays(b)
	b.wire.Dispose(b.disposed)
	b.wire.EncodeInto(s.room)
	s.room = nil // a batch has it until it is settled
	wait := 200 * time.Millisecond
	for {
		err := s.sendOnce(ctx, sink, b)
		switch {
		case err == nil:
			s.counts.sent(b.counted())
			result := "sent"
			if b.resent {
				result = "resent"
			}
			s.metrics.batches.WithLabelValues(result).Inc()
			return true
		case ctx.Err() != nil:
			return false
		case s.conflict != nil && errors.Is(err, fault.ErrConflict):
			s.metrics.batches.WithLabelValues("conflict").Inc()
			if s.without != nil && s.without(ctx, b, err) {
				if b.lines == 0 {
					return true
				}
				continue
			}
			s.conflict(err)
			return false
		case errors.Is(err, fault.ErrInvalid), errors.Is(err, fault.ErrTooLarge), errors.Is(err, fault.ErrMalformed):
			for c, n := range b.counted() {
				s.counts.dropped(c, DropRefused, n)
			}
			s.metrics.batches.WithLabelValues("refused").Inc()
			s.log.Error("log batch refused", "batch", b.wire.ID, "lines", b.lines, "err", err)
			return true
		}
		s.log.Warn("send log batch", "retry_seconds", wait.Seconds(), "err", err)
		if !sleep(ctx, wait) {
			return false
		}
		wait = min(2*wait, 30*time.Second)
	}
}

// unsays has what a batch says to be complete be taken out of it before an attempt to send
// it, if the clock was ahead when it said so and was set right: the server would take it for
// true once that time has come.
func (s *shipper[C]) unsays(b *batch[C]) {
	b.wire.Unsay(func() bool { return s.setBackSince(b.said) })
}

// sleep waits, and says whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
