package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	staleness "github.com/prometheus/prometheus/model/value"
)

const (
	// every is the data time between two samples of a series.
	every = 6 * time.Minute
	// blockRange is the product's.
	blockRange = time.Hour

	// sinceParam of a read is since when it counts, Unix milliseconds.
	sinceParam = "since"
)

// comesAndGoes gives six of ten series five samples and their staleness marker, and nothing for four
// steps, before they begin anew. What comes late of them has markers, too.
func comesAndGoes(series int, at time.Time) (v float64, there bool) {
	if series%10 >= 6 {
		return value(series, at), true
	}
	switch step := ((int(at.Sub(base)/every)+series/10)%10 + 10) % 10; {
	case step < 5:
		return value(series, at), true
	case step == 5:
		return math.Float64frombits(staleness.StaleNaN), true
	}
	return 0, false
}

// count says how many samples a batch has, and how many of these say that a series ended.
func (b batch) count() (samples, ends int) {
	for n := range perBatch {
		if v, there := comesAndGoes(b.series+n, b.at); there {
			samples++
			if staleness.IsStaleNaN(v) {
				ends++
			}
		}
	}
	return samples, ends
}

// acknowledged is what the server has taken.
type acknowledged struct {
	mu      sync.Mutex
	batches map[batch]int // and how many samples each has
	all     int
}

func (a *acknowledged) has(b batch) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	_, has := a.batches[b]
	return has
}

func (a *acknowledged) add(b batch) {
	n, _ := b.count()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.batches[b] = n
	a.all += n
}

func (a *acknowledged) samples() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.all
}

func (a *acknowledged) since(at time.Time) (n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for b, samples := range a.batches {
		if !b.at.Before(at) {
			n += samples
		}
	}
	return n
}

// findAll has the server count what it has since then: at least what it has acknowledged by now. There is no
// answer of one that is killed.
func (a *acknowledged) findAll(ctx context.Context, url string, since time.Time) error {
	want := a.since(since)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"?"+sinceParam+"="+strconv.FormatInt(since.UnixMilli(), 10), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil
	}
	text, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(text))); err != nil || n < want {
		return fmt.Errorf("a reader found %.300s samples since %v, and %d were acknowledged", text, since, want)
	}
	return nil
}

// leaving counts how often series that ended left the head before it was due, and the kills in that.
type leaving struct{ times, series, cut int }

const leavingBegins = "Starting stale series compaction"

var leavingEnds = regexp.MustCompile(`series that ended (?:stay in|have left) the head" (?:series=(\d+))?`)

func (l leaving) String() string {
	return fmt.Sprintf("%d series left the head in %d times, %d kills in that", l.series, l.times, l.cut)
}

// await waits until series leave a server that have left it before, so many times.
func (*leaving) await(ctx context.Context, s *server, before int, most time.Duration) bool {
	for began := time.Now(); ctx.Err() == nil && time.Since(began) < most; pause(ctx, time.Millisecond) {
		text := s.log.String()
		if left := len(leavingEnds.FindAllString(text, -1)); left >= before && strings.Count(text, leavingBegins) > left {
			return true
		}
	}
	return false
}

// count counts what a server said that was killed.
func (l *leaving) count(s *server) {
	text := s.log.String()
	ends := leavingEnds.FindAllStringSubmatch(text, -1)
	for _, end := range ends {
		if n, _ := strconv.Atoi(end[1]); n > 0 {
			l.times++
			l.series += n
		}
	}
	l.cut += max(0, strings.Count(text, leavingBegins)-len(ends))
}

// memory is the most that a start took, next to what the process that was killed before had taken.
type memory struct{ start, before, last int } // MiB

func (m memory) String() string {
	return fmt.Sprintf("a start took up to %d MiB after %d MiB", m.start, m.before)
}

// started notes what the start of a server took, and has the system measure anew.
func (m *memory) started(t *testing.T, s *server) {
	t.Helper()
	took := peakOf(t, s.cmd.Process.Pid)
	if m.last > 0 && (m.before == 0 || float64(took)/float64(m.last) > float64(m.start)/float64(m.before)) {
		m.start, m.before = took, m.last
	}
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", s.cmd.Process.Pid), []byte("5"), 0); err != nil {
		t.Fatal(err)
	}
}

// killed kills a server and notes what it had taken since its start.
func (m *memory) killed(t *testing.T, s *server) {
	t.Helper()
	m.last = peakOf(t, s.cmd.Process.Pid)
	s.kill()
}

func peakOf(t *testing.T, pid int) (mib int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, is := strings.CutPrefix(line, "VmHWM:"); is {
			kib, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(rest), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return kib >> 10
		}
	}
	t.Fatalf("process %d has no memory", pid)
	return 0
}

// said is what a process says, while it goes on.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}
