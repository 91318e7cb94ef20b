package push

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func TestASizeIsWhatGetsThrough(t *testing.T) {
	answered := func(status int, after time.Duration) error {
		return &refusal{status: status, after: after, kind: kindOf(status)}
	}
	unreached := fmt.Errorf("%w: %w", fault.ErrUnavailable, &net.OpError{Op: "dial", Err: errors.New("connection refused")})
	broken := fmt.Errorf("%w: %w", fault.ErrUnavailable, &net.OpError{Op: "read", Err: errors.New("connection reset by peer")})
	var z size
	for n, step := range []struct {
		batches int
		took    time.Duration
		err     error
		want    int
	}{
		{8, time.Second, nil, 8},
		{8, 0, answered(http.StatusTooManyRequests, time.Second), 8},
		{8, 0, answered(http.StatusServiceUnavailable, time.Second), 8},
		{8, 0, unreached, 8},
		{8, attemptTimeout, broken, 4},
		{4, time.Second, answered(http.StatusGatewayTimeout, 0), 2},
		{2, time.Second, answered(http.StatusServiceUnavailable, 0), 1}, // a proxy's
		{1, time.Second, broken, 1},
		{1, time.Second, nil, 1},
		{1, time.Second, nil, 1},
		{1, time.Second, nil, 1},
		{1, time.Second, broken, 1}, // not in a row
		{1, time.Second, nil, 1},
		{1, time.Second, nil, 1},
		{1, time.Second, nil, 1},
		{1, time.Second, nil, 2},
		{2, time.Second, nil, 2},
		{2, time.Second, nil, 2},
		{2, time.Second, nil, 2},
		{2, time.Second, nil, 4},
		{4, time.Second, nil, 4},
		{4, time.Second, nil, 4},
		{4, time.Second, nil, 4},
		{4, time.Second, nil, 8},
		{3, slowTogether + 1, nil, 1}, // bytes bounded it
		{1, slowTogether + 1, nil, 1},
		{1, time.Second, nil, 1},
		{1, time.Second, nil, 1},
		{1, time.Second, nil, 1},
		{1, time.Second, nil, 2},
		{2, time.Second, answered(http.StatusBadRequest, 0), 1},
		{1, time.Second, answered(http.StatusBadRequest, 0), 1},
	} {
		if z.after(step.batches, step.took, step.err); z.batches() != step.want {
			t.Fatalf("step %d, %+v: %d batches", n, step, z.batches())
		}
	}
	z = size{}
	if z.after(8, time.Second, answered(http.StatusRequestEntityTooLarge, 0)); z.batches() != 4 {
		t.Errorf("%d batches after too many bytes", z.batches())
	}
}

// putBacklog queues intervals of an hour ago.
func putBacklog(t *testing.T, r *rig, batches int) {
	t.Helper()
	at := time.Now().UTC().Truncate(30 * time.Second).Add(-time.Hour)
	for n := range batches {
		s := seal(t, r.encoder, at.Add(time.Duration(n)*30*time.Second), "p")
		if _, err := r.queue.Put(s.item, s.body); err != nil {
			t.Fatal(err)
		}
	}
}

// On a way by which no large request gets through the backlog goes in smaller ones, alone
// at the least.
func TestATogetherThatDoesNotGetThroughIsSentInParts(t *testing.T) {
	for name, most := range map[string]int{"pairs do": 4, "each alone does": 2} { // samples
		for what, fail := range map[string]func(http.ResponseWriter){
			"broken": func(http.ResponseWriter) { panic(http.ErrAbortHandler) },
			"502":    func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadGateway) },
			"413":    func(w http.ResponseWriter) { w.WriteHeader(http.StatusRequestEntityTooLarge) },
		} {
			t.Run(name+", "+what, func(t *testing.T) {
				t.Parallel()
				rx := newReceiver(t, func(n int, r request, w http.ResponseWriter) {
					if len(r.series) > most {
						fail(w)
						return
					}
					written(n, r, w)
				})
				r := newRig(t, rx.URL, false)
				takesTogether(r)
				putBacklog(t, r, 12)
				r.start(t)
				eventually(t, "an empty queue", func() bool { n, _, _, _ := r.queue.Stats(); return n == 0 })
				if _, _, _, dropped := r.queue.Stats(); dropped != 0 {
					t.Errorf("%d samples dropped", dropped)
				}
			})
		}
	}
}

// A server that refuses something of every interval, as one of whose limits a cluster is
// over, is not sent all of them twice.
func TestWhatIsRefusedOfEachIsSentOnce(t *testing.T) {
	rx := newReceiver(t, func(_ int, r request, w http.ResponseWriter) {
		w.Header().Set(headerWritten, "1")
		http.Error(w, "1 refused (series_limit)", http.StatusBadRequest)
	})
	r := newRig(t, rx.URL, false)
	takesTogether(r)
	putBacklog(t, r, 32)
	r.start(t)
	eventually(t, "an empty queue", func() bool { n, _, _, _ := r.queue.Stats(); return n == 0 })
	if n := len(rx.all()); n != 33 {
		t.Errorf("%d requests for 32 batches", n)
	}
}

// What was made for a server that had no time for it is not made again.
func TestATogetherIsKeptUntilItIsTaken(t *testing.T) {
	var dir string
	rx := newReceiver(t, func(n int, r request, w http.ResponseWriter) {
		if n > 0 {
			written(n, r, w)
			return
		}
		files, err := filepath.Glob(filepath.Join(dir, "*"))
		if err != nil || len(files) < 4 {
			t.Errorf("%d files, %v", len(files), err)
		}
		for _, f := range files { // so that they cannot be read again
			if err := os.Remove(f); err != nil {
				t.Error(err)
			}
		}
		w.Header().Set("Retry-After", "1")
		http.Error(w, "busy", http.StatusTooManyRequests)
	})
	r := newRig(t, rx.URL, false)
	dir = r.dir
	takesTogether(r)
	putBacklog(t, r, 4)
	r.start(t)
	eventually(t, "an empty queue", func() bool { n, _, _, _ := r.queue.Stats(); return n == 0 })
	got := rx.all()
	if len(got) != 2 || len(got[1].series) != 8 || got[1].header.Get(wire.HeaderEarlier) != got[0].header.Get(wire.HeaderEarlier) {
		t.Errorf("%d requests: %v", len(got), got)
	}
	if _, _, _, dropped := r.queue.Stats(); dropped != 0 {
		t.Errorf("%d samples dropped", dropped)
	}
}
