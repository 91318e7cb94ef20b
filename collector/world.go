// Package collector runs one collector: it reads its sources on the interval's
// grid, has compute make catalogue samples of them, and pushes what comes out.
// It must not know storage, alerting or the API; all that it says to a server is
// in internal/wire.
package collector

import (
	"context"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// Readings turns the world into readings. The kubelet, the host and the
// simulator are such sources.
type Readings interface {
	// Name is the catalogue's name of the source, for health and metrics.
	Name() string
	// Read gives one set for each node that the source is responsible for. It
	// reads now; at is the grid point that the readings are for, which only the
	// simulator heeds. A node that failed has its error in its set: one bad part
	// never takes down the rest. Read returns when ctx ends.
	Read(ctx context.Context, at time.Time, now *state.Snapshot) []reading.Set
}

// Logs follows records (container logs, Kubernetes events) and hands them on.
type Logs interface {
	// Run follows until ctx ends.
	Run(ctx context.Context, sink LogSink) error
	// Health counts what was read, sent and dropped.
	Health() wire.LogHealth
}

// LogSink takes log batches. Send returns nil only once the server has made the
// batch durable; it retries what can be retried itself, and returns an error
// when ctx ended or the server refused the batch for good (fault.ErrInvalid,
// fault.ErrTooLarge). It may be called concurrently, and does not keep b.
type LogSink interface {
	Send(ctx context.Context, b *wire.LogBatch) error
}

// Scraper reads targets that expose metrics of their own. Its samples have a
// queue apart: what users' targets bring never delays or displaces the
// catalogue's.
type Scraper interface {
	// Run reads until ctx ends. sink does not wait for the server and does not
	// keep the slice.
	Run(ctx context.Context, sink func([]compute.Sample) error) error
	// Health says how many targets there are and answer.
	Health() []wire.SourceHealth
	// Cost says what the families cost in series; nil where nothing is scraped.
	Cost() *wire.ScrapeHealth
	// SetRaw chooses the raw tier, as the server says; nil takes that back. What
	// the local configuration says wins and is named. An error leaves it as it was.
	SetRaw(*wire.Raw) (overridden map[string]string, err error)
}

// World is a cluster as one collector sees it: the real one, or a simulated one.
type World struct {
	State    state.Source
	Readings []Readings // best first for each node
	Logs     []Logs
	Scraper  Scraper // nil where nothing is scraped
}
