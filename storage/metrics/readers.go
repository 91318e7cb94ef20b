package metrics

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/storage"
)

const (
	readersPause = time.Second            // how long readers are kept back the first time
	readersLook  = 100 * time.Millisecond // how often it is looked whether they are gone
)

// readers of the store. The TSDB lets series that ended go at a moment at which nobody reads them,
// but not only who reads then: whoever begins while it does finds some of them, and then that they
// are gone, which ends the query. So once their blocks are written, the last reader who ends keeps
// others from beginning until they have left.
//
// Where many read, there may never be a last one. So they are kept back now and then, too, longer
// each time: no block is written meanwhile.
type readers struct {
	mu     sync.RWMutex  // held for reading while one begins, and for writing while one ends whose end is awaited
	open   atomic.Int64  // changes while mu is held for reading at least
	await  bool          // the last one keeps others back; guarded by mu
	goneBy chan struct{} // closed once others may begin, nil while they may; guarded by mu
}

// beginRead opens a reader once that may be.
func beginRead[Q any](r *readers, open func() (Q, error)) (Q, error) {
	for {
		r.mu.RLock()
		until := r.goneBy
		if until == nil {
			break
		}
		r.mu.RUnlock()
		<-until
	}
	r.open.Add(1)
	q, err := open()
	r.mu.RUnlock()
	if err != nil {
		_ = r.end(func() error { return nil })
	}
	return q, err
}

func (r *readers) end(closeReader func() error) error {
	r.mu.RLock()
	if !r.await {
		defer r.mu.RUnlock()
		defer r.open.Add(-1)
		return closeReader()
	}
	r.mu.RUnlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	err := closeReader()
	r.keepBackLocked(r.open.Add(-1) == 0 && r.await)
	return err
}

// awaitLast has the last reader keep others back until goOn.
func (r *readers) awaitLast() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.await = true
	r.keepBackLocked(r.open.Load() == 0)
}

// gone says that nobody reads and that others are kept back.
func (r *readers) gone() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.goneBy != nil && r.open.Load() == 0
}

func (r *readers) keepBackLocked(keep bool) {
	if keep && r.goneBy == nil {
		r.goneBy = make(chan struct{})
	}
}

// goOn lets readers begin.
func (r *readers) goOn() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.await = false
	r.goOnLocked()
}

func (r *readers) goOnLocked() {
	if r.goneBy != nil {
		close(r.goneBy)
		r.goneBy = nil
	}
}

// pause keeps readers back now and then where the last one is awaited, until done.
func (r *readers) pause(done <-chan struct{}, pause time.Duration) {
	for ; !waited(done, 30*pause); pause *= 2 {
		r.mu.Lock()
		r.keepBackLocked(r.await)
		r.mu.Unlock()
		if waited(done, pause) {
			return
		}
		r.mu.Lock()
		if r.open.Load() > 0 {
			r.goOnLocked()
		}
		r.mu.Unlock()
	}
}

// waited says whether done came first.
func waited(done <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

type querier struct {
	storage.Querier
	readers *readers
	once    sync.Once
	err     error
}

func (q *querier) Close() error {
	q.once.Do(func() { q.err = q.readers.end(q.Querier.Close) })
	return q.err
}

type chunkQuerier struct {
	storage.ChunkQuerier
	readers *readers
	once    sync.Once
	err     error
}

func (q *chunkQuerier) Close() error {
	q.once.Do(func() { q.err = q.readers.end(q.ChunkQuerier.Close) })
	return q.err
}
