package world

import (
	"context"
	"log/slog"
	"slices"
	"time"
)

const (
	// readersEvery is how often the server is asked whose nodes are read by collectors of
	// their own: at each reading, and no more often than the shortest interval allows.
	readersEvery = 8 * time.Second
	// readersPatience bounds one question. It is asked beside the reading, which goes by
	// the answer before.
	readersPatience = 5 * time.Second
)

// readers asks the server which nodes are left to collectors of their own, one question at
// a time.
type readers struct {
	ask  func(ctx context.Context, nodes []string) ([]string, error)
	of   string // what is asked, for the log
	log  *slog.Logger
	said string // last trouble that was logged
}

// heard gives those of the nodes whose collectors the server hears. Trouble is logged once.
func (r *readers) heard(ctx context.Context, nodes []string) (heard []string, err error) {
	if len(nodes) > 0 {
		slices.Sort(nodes)
		askCtx, cancel := context.WithTimeout(ctx, readersPatience)
		defer cancel()
		heard, err = r.ask(askCtx, nodes)
	}
	switch {
	case err == nil:
		r.said = ""
	case err.Error() != r.said && ctx.Err() == nil:
		r.said = err.Error()
		r.log.Warn("ask which "+r.of+"; as before until the server says", "err", err)
	}
	return heard, err
}

// keepAsking asks until ctx ends, and again after as long as each question says.
func keepAsking(ctx context.Context, ask func() time.Duration) {
	for ctx.Err() == nil {
		t := time.NewTimer(ask())
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}
