package push

import (
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

const (
	// slowTogether is how long a request of several batches may take. What is live waits
	// behind a longer one on a thin line, and one that does not fit into attemptTimeout
	// would never get through.
	slowTogether = 5 * time.Second
	// growAfter requests in a row that got through in time the next are twice as large.
	growAfter = 4
)

// size is how many batches of a backlog go in one request: as many as get through.
// The zero size is the most.
type size struct {
	less int // than maxTogether
	good int // requests in a row that got through in time
}

func (z *size) batches() int { return maxTogether - z.less }

// after notes what became of a request.
func (z *size) after(batches int, took time.Duration, err error) {
	next := z.batches()
	switch {
	case aside(err):
		return
	case err == nil && took <= slowTogether:
		if z.good++; z.good < growAfter {
			return
		}
		next = min(2*next, maxTogether)
	case final(err) && !errors.Is(err, fault.ErrTooLarge):
		next = 1 // which of them it is about shows then, and whether it is all
	default:
		next = min(next, max(1, batches/2))
	}
	z.less, z.good = maxTogether-next, 0
}

// aside says whether an error has nothing to do with how large a request was: the server asks
// to come later, or was not reached.
func aside(err error) bool {
	var r *refusal
	if errors.As(err, &r) {
		return r.status == http.StatusTooManyRequests || r.status == http.StatusServiceUnavailable && r.after > 0
	}
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}
