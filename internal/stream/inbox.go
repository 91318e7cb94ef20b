package stream

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"sync"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// ID names a document by its content.
func ID(document []byte) string {
	sum := sha256.Sum256(document)
	return hex.EncodeToString(sum[:])
}

// Inbox keeps the newest document of a kind in memory until all of it came, over as
// many connections as that takes. It is for concurrent use.
type Inbox struct {
	mu     sync.Mutex
	newest *kept
}

// kept is a document, or its begin. It holds no more than was offered.
type kept struct {
	box  *Inbox
	id   string
	done func(ctx context.Context, document []byte) error

	// Guarded by the inbox' mutex.
	data []byte
}

var _ Document = (*kept)(nil)

// Document takes what is offered, and hands it to done once it is whole.
func (b *Inbox) Document(o wire.Open, done func(ctx context.Context, document []byte) error) Document {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := &kept{box: b, id: o.ID, done: done}
	if n := b.newest; n != nil && n.id == o.ID && int64(len(n.data)) <= o.Bytes {
		k.data = slices.Clone(n.data)
	}
	b.newest = k
	return k
}

// Have implements Document.
func (k *kept) Have() int64 {
	k.box.mu.Lock()
	defer k.box.mu.Unlock()
	return int64(len(k.data))
}

// Write implements Document.
func (k *kept) Write(piece []byte) (int, error) {
	k.box.mu.Lock()
	defer k.box.mu.Unlock()
	k.data = append(k.data, piece...)
	return len(piece), nil
}

// Done implements Document.
func (k *kept) Done(ctx context.Context) error {
	k.box.mu.Lock()
	document := k.data
	if k.box.newest == k {
		k.box.newest = nil
	}
	k.box.mu.Unlock()
	if ID(document) != k.id {
		return errors.New("what came is not what was offered")
	}
	return k.done(ctx, document)
}
