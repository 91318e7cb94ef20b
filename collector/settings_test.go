package collector

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/bubbletest"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// ruledLogs sends one batch after the other, made by the masks that its Run began with.
type ruledLogs struct {
	mu    sync.Mutex
	masks []string
	sent  []string // of each batch that was taken, its masks
}

var (
	_ Logs  = (*ruledLogs)(nil)
	_ ruled = (*ruledLogs)(nil)
)

func (l *ruledLogs) Run(ctx context.Context, sink LogSink) error {
	l.mu.Lock()
	by := "none"
	if len(l.masks) > 0 {
		by = l.masks[0]
	}
	l.mu.Unlock()
	for ctx.Err() == nil {
		b := &wire.LogBatch{Sender: "all", ID: "1", Groups: []wire.LogGroup{{Lines: []wire.LogLine{{Time: 1, Message: by}}}}}
		if sink.Send(ctx, b) == nil {
			l.mu.Lock()
			l.sent = append(l.sent, by)
			l.mu.Unlock()
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

func (l *ruledLogs) Health() wire.LogHealth { return wire.LogHealth{} }

func (l *ruledLogs) SetRules(r *wire.LogRules) (map[string]string, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.masks = nil
	if r != nil {
		l.masks = r.Mask
	}
	return nil, nil
}

// took gives what kinds of batches were taken, in order.
func (l *ruledLogs) took() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Compact(slices.Clone(l.sent))
}

// No line leaves the node before it is known what the server wants masked, as long as
// the server can say it.
func TestLinesWaitForTheFirstSettings(t *testing.T) {
	masked := wire.Settings{Version: 4, LogRules: &wire.LogRules{Mask: []string{"card"}}}
	none, four := int64(0), int64(4)
	welcome := func(version *int64) wire.Welcome {
		return wire.Welcome{Cluster: "c", Time: time.Now(), SettingsVersion: version}
	}
	for name, tc := range map[string]struct {
		clock bool // the server answers
		steps func(*Collector, *ruledLogs, func(wait time.Duration, want ...string))
	}{
		"nobody made any": {true, func(c *Collector, _ *ruledLogs, after func(time.Duration, ...string)) {
			after(firstSettingsWithin - 5*time.Second)
			c.welcome(welcome(&none))
			after(time.Second, "none")
		}},
		"there are some": {true, func(c *Collector, _ *ruledLogs, after func(time.Duration, ...string)) {
			c.welcome(welcome(&four))
			after(5 * time.Second)
			c.apply(masked)
			after(5*time.Second, "card")
		}},
		"a version without rules": {true, func(c *Collector, _ *ruledLogs, after func(time.Duration, ...string)) {
			c.apply(wire.Settings{Version: 1, IntervalSeconds: 10})
			after(5*time.Second, "none")
			c.apply(masked)
			after(5*time.Second, "none", "card")
		}},
		"no logs are wanted": {true, func(c *Collector, _ *ruledLogs, after func(time.Duration, ...string)) {
			no := false
			c.apply(wire.Settings{Version: 1, Logs: &no})
			after(time.Minute)
			c.apply(masked)
			after(5*time.Second, "card")
		}},
		"what cannot be applied is not known": {true, func(c *Collector, _ *ruledLogs, after func(time.Duration, ...string)) {
			if a := c.apply(wire.Settings{Version: 3, IntervalSeconds: 7}); a.Error == "" {
				t.Error("an interval of 7 s is taken")
			}
			after(firstSettingsWithin - 5*time.Second)
			c.apply(masked)
			after(5*time.Second, "card")
		}},
		"the server answers, but never says them": {true, func(_ *Collector, _ *ruledLogs, after func(time.Duration, ...string)) {
			after(firstSettingsWithin - time.Second)
			after(12*time.Second, "none") // it answers from the first interval on
		}},
		"the server is away": {false, func(c *Collector, _ *ruledLogs, after func(time.Duration, ...string)) {
			after(time.Hour)
			c.apply(masked)
			after(5*time.Second, "card")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bubbletest.Test(t, func(t *testing.T) {
				l := &ruledLogs{}
				r := begin(t, Options{Interval: 10 * time.Second}, l)
				r.server.answers(tc.clock)
				tc.steps(r.Collector, l, func(wait time.Duration, want ...string) {
					t.Helper()
					time.Sleep(wait)
					if got := l.took(); !slices.Equal(got, want) {
						t.Errorf("batches by masks %v were taken, want %v", got, want)
					}
				})
				r.stop()
			})
		})
	}
}

// With the last good settings on the disk, or that there were none, nothing has to wait
// for the server.
func TestLastSettingsHoldForLinesAtOnce(t *testing.T) {
	for want, told := range map[string]func(*Collector){
		"card": func(c *Collector) {
			c.apply(wire.Settings{Version: 4, LogRules: &wire.LogRules{Mask: []string{"card"}}})
		},
		"none": func(c *Collector) {
			c.welcome(wire.Welcome{Cluster: "c", Time: time.Now(), SettingsVersion: new(int64)})
		},
	} {
		bubbletest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			l := &ruledLogs{}
			r := begin(t, Options{Interval: 10 * time.Second, QueueDir: dir}, l)
			told(r.Collector)
			r.stop()
			l = &ruledLogs{}
			r = begin(t, Options{Interval: 10 * time.Second, QueueDir: dir}, l)
			time.Sleep(time.Second)
			if got := l.took(); !slices.Equal(got, []string{want}) {
				t.Errorf("%s: batches by masks %v were taken", want, got)
			}
			r.stop()
		})
	}
}

// Settings on the disk that cannot be used are left out, and the server's next ones
// take their place.
func TestDamagedSettingsOnTheDisk(t *testing.T) {
	for name, text := range map[string]string{"torn": `{"version":4,"interval_sec`, "empty": "", "no settings": `[1]`, "wrong": `{"version":4,"interval_seconds":7}`} {
		t.Run(name, func(t *testing.T) {
			bubbletest.Test(t, func(t *testing.T) {
				dir := t.TempDir()
				if err := os.WriteFile(filepath.Join(dir, settingsFile), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				r := begin(t, Options{QueueDir: dir})
				time.Sleep(time.Minute)
				if h := r.Health(); h.IntervalSeconds != 30 {
					t.Errorf("it runs at %d s", h.IntervalSeconds)
				}
				if a := r.apply(wire.Settings{Version: 5, IntervalSeconds: 10}); a.Error != "" {
					t.Error(a.Error)
				}
				r.stop()
				r = begin(t, Options{QueueDir: dir})
				time.Sleep(time.Minute)
				if h := r.Health(); h.IntervalSeconds != 10 {
					t.Errorf("after a start it runs at %d s, the last settings say 10", h.IntervalSeconds)
				}
				r.stop()
			})
		})
	}
}
