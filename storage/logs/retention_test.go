package logs

import (
	"bytes"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// lockedBuffer takes what is logged from several goroutines.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// Over its bound of disk space the store lets whole days go, the oldest first, and keeps
// the newest two. Lines that come for a day that goes before they are kept are counted,
// and told in the log.
func TestTheOldestDaysGoBySize(t *testing.T) {
	dir := t.TempDir()
	ago := func(days int) time.Time { return dayStart().Add(-time.Duration(days) * day) }
	of := func(days, id int) *wire.LogBatch {
		b := noise(rand.New(rand.NewPCG(uint64(days), uint64(id))), id)
		for i := range b.Groups[0].Lines {
			b.Groups[0].Lines[i].Time -= int64(time.Duration(days) * day)
		}
		b.ID = fmt.Sprint(days, "-", id)
		return b
	}
	s := open(t, dir)
	for days := range 3 {
		appendOK(t, s, "a", of(days, 1))
	}
	if info, err := s.Info(); err != nil || info.Days != 3 || !info.OldestDay.Equal(ago(2).Truncate(day)) {
		t.Fatalf("%+v %v", info, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	var logged lockedBuffer
	const interval = 13 * time.Second // the library looks at the sizes each 10 s or so
	s = open(t, dir, func(o *Options) {
		o.MaxBytes, o.CommitInterval, o.Logger = 1, interval, slog.New(slog.NewTextHandler(&logged, nil))
	})
	gone := func(when string) {
		t.Helper()
		for deadline := time.Now().Add(60 * time.Second); ; time.Sleep(20 * time.Millisecond) { // nothing tells when
			info, err := s.Info()
			if err != nil {
				t.Fatal(err)
			}
			if info.Days == 2 && info.OldestDay.Equal(ago(1).Truncate(day)) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %+v", when, info)
			}
		}
	}
	gone("at the start")
	if got := count(t, s, "a"); got != 2*200 {
		t.Errorf("%d lines are left, want those of two days", got)
	}
	if testing.Short() {
		t.Skip("waits until a day is removed before a commit")
	}
	appendOK(t, s, "a", of(0, 2)) // the next commit is an interval away
	appendOK(t, s, "a", of(2, 2))
	gone("behind a commit")
	if got := testutil.ToFloat64(s.metrics.dropped.WithLabelValues(droppedDayGone)); got != 200 {
		t.Errorf("counted %v lines of a day that was removed, want 200", got)
	}
	if got := count(t, s, "a"); got != 3*200 {
		t.Errorf("%d lines, want those of two days", got)
	}
	if want := ago(2).Format(partitionName); !strings.Contains(logged.String(), want) {
		t.Errorf("nothing tells that %s was removed: %s", want, logged.String())
	}
}
