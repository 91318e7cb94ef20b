package quality

import (
	"context"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// Alert is an alert as the API shows it, with when it was first seen to fire and
// to have ended.
type Alert struct {
	ID         string `json:"id"`
	Incident   string `json:"incident"`
	State      string `json:"state"`
	Cause      string `json:"cause"`
	Severity   string `json:"severity"`
	Policy     struct{ Name string }
	Object     map[string]string `json:"object"`
	Dimensions map[string]string `json:"dimensions"`

	Fired time.Time `json:"-"`
	Ended time.Time `json:"-"`
}

// about names what the alert is about.
func (a Alert) about() string {
	var parts []string
	for _, key := range []string{"namespace", "workload_type", "workload", "pod", "container", "node", "service", "volume", "component"} {
		if v := a.Object[key]; v != "" {
			parts = append(parts, v)
		}
	}
	for _, v := range a.Dimensions {
		parts = append(parts, v)
	}
	return strings.Join(parts, "/")
}

// watch looks at the server's alerts again and again: muted ones tell nobody,
// and count all the same.
type watch struct {
	server *testbed.Server
	mu     sync.Mutex
	alerts map[string]*Alert
	busy   []busy
}

// busy is the time that the machine's CPUs were there and idle up to a moment,
// in the kernel's ticks, and what of its disk was used then.
type busy struct {
	at          time.Time
	idle, total float64
	disk        float64 // of the root file system that is used, in per cent
}

const watchEvery = 250 * time.Millisecond

func newWatch(server *testbed.Server) *watch {
	return &watch{server: server, alerts: map[string]*Alert{}}
}

func (w *watch) run(ctx context.Context) {
	ticker := time.NewTicker(watchEvery)
	defer ticker.Stop()
	for {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (w *watch) look(ctx context.Context) {
	var page struct {
		Items []Alert `json:"items"`
	}
	query := url.Values{"state": {"all"}, "limit": {"200"}}
	err := w.server.GetJSON(ctx, testbed.API+"/alerts?"+query.Encode(), &page)
	now := time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.measureLocked(now)
	if err != nil {
		return // what is missed is seen at the next look
	}
	for _, a := range page.Items {
		known := w.alerts[a.ID]
		if known == nil {
			a.Fired = now
			known = &a
			w.alerts[a.ID] = known
		}
		if a.State == "ended" && known.Ended.IsZero() {
			known.State, known.Cause, known.Ended = a.State, a.Cause, now
		}
	}
}

// since gives the alerts that fired at or after a time, the oldest first.
func (w *watch) since(t time.Time) []Alert {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Alert
	for _, a := range w.alerts {
		if !a.Fired.Before(t) {
			out = append(out, *a)
		}
	}
	slices.SortFunc(out, func(a, b Alert) int { return a.Fired.Compare(b.Fired) })
	return out
}

// firing gives what fires now.
func (w *watch) firing() []Alert {
	return slices.DeleteFunc(w.since(time.Time{}), func(a Alert) bool { return !a.Ended.IsZero() })
}

// mutedBy gives what muted an alert's incident, in words, where all of it was.
func (w *watch) mutedBy(ctx context.Context, incident string) []string {
	var detail struct {
		Incident struct {
			Muted []string `json:"muted"`
		} `json:"incident"`
	}
	if err := w.server.GetJSON(ctx, testbed.API+"/incidents/"+incident, &detail); err != nil {
		return nil
	}
	return detail.Incident.Muted
}

// measureLocked notes how busy the machine is.
func (w *watch) measureLocked(now time.Time) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	var b busy
	for i, field := range strings.Fields(line)[1:] {
		v, _ := strconv.ParseFloat(field, 64)
		if i >= 8 {
			break // guests are in user and nice already
		}
		b.total += v
		if i == 3 || i == 4 { // idle, iowait
			b.idle += v
		}
	}
	b.at = now
	b.disk, _ = usedPercent("/")
	w.busy = append(w.busy, b)
	if over := len(w.busy) - 2400; over > 0 {
		w.busy = w.busy[over:]
	}
}

// filling gives how much of the root file system will be used after a while, at
// the fastest that was seen within the last ten minutes, in per cent.
func (w *watch) filling(within time.Duration) float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	most := 0.0
	for i, from := range w.busy {
		for _, to := range w.busy[i+1:] {
			if d := to.at.Sub(from.at); d >= 2*time.Minute {
				most = max(most, to.disk+(to.disk-from.disk)*float64(within)/float64(d))
				break
			}
		}
	}
	return most
}

// busiest gives the most that the machine's CPUs were used since a time, over
// an interval, in per cent.
func (w *watch) busiest(since time.Time, interval time.Duration) float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	most := 0.0
	for i, from := range w.busy {
		if from.at.Before(since) {
			continue
		}
		for _, to := range w.busy[i+1:] {
			if to.at.Sub(from.at) < interval {
				continue
			}
			if total := to.total - from.total; total > 0 {
				most = max(most, 100*(1-(to.idle-from.idle)/total))
			}
			break
		}
	}
	return most
}
