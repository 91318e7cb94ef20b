package logstest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
)

func (f fixture) countsByWindowAndObject(t *testing.T) {
	open := f.engine(t)
	s := open()
	end := dayStart()
	var together sync.WaitGroup
	put := func(cluster, pod, container string, ago time.Duration, message string) {
		b := &wire.LogBatch{Sender: "s", ID: fmt.Sprint(pod, container, ago, message), Groups: []wire.LogGroup{{
			Stream: wire.LogStream{Namespace: "shop", Pod: pod, Container: container, Stream: "stdout", WorkloadType: "deployment", Workload: "cart", Node: "n-1"},
			Lines:  []wire.LogLine{{Time: end.Add(-ago).UnixNano(), Message: message}},
		}}}
		together.Go(func() { appendOK(t, s, cluster, b) })
	}
	put("prod", "cart-1", "app", -1, "error after the end")
	put("prod", "cart-1", "app", 0, "error at the end")
	put("prod", "cart-1", "app", time.Minute-1, "error first of the newest window")
	put("prod", "cart-1", "app", time.Minute, "error end of the second")
	put("prod", "cart-2", "app", 90*time.Second, "error in the second")
	put("prod", "cart-2", "proxy", 90*time.Second, "timeout in the second")
	put("prod", "cart-2", "app", 3*time.Minute, "error before all windows")
	put("edge", "cart-1", "app", 0, "error elsewhere")
	together.Wait()

	q := logs.CountQuery{Cluster: "prod", Filter: "error", By: logs.ByPod, Period: time.Minute, End: end, Windows: 3}
	with := func(change func(*logs.CountQuery)) logs.CountQuery { c := q; change(&c); return c }
	qs := []logs.CountQuery{
		q,
		with(func(c *logs.CountQuery) { c.Filter = "timeout # not a pipe" }),
		with(func(c *logs.CountQuery) { c.Filter = "*" }),
		with(func(c *logs.CountQuery) { c.Filter = "absent" }),
		with(func(c *logs.CountQuery) { c.By = logs.ByContainer }),
		with(func(c *logs.CountQuery) { c.By, c.Windows = logs.ByWorkload, 2 }),
		with(func(c *logs.CountQuery) { c.By, c.Period, c.Windows = logs.ByCluster, 7*time.Second, 1 }),
		with(func(c *logs.CountQuery) {
			c.By, c.Period, c.Windows, c.End = logs.ByNode, time.Hour, 1, end.Add(-30*time.Second)
		}),
		with(func(c *logs.CountQuery) { c.Cluster = "unknown" }),
		with(func(c *logs.CountQuery) { c.Filter = "error | stats count()" }),
		with(func(c *logs.CountQuery) { c.Filter = "error) or (x" }),
		with(func(c *logs.CountQuery) { c.Filter = "(" }),
		with(func(c *logs.CountQuery) { c.Period = 0 }),
		with(func(c *logs.CountQuery) { c.By = "planet" }),
		with(func(c *logs.CountQuery) { c.Filter = fieldBatch + ":*" }),
	}
	got, err := s.Counts(t.Context(), qs)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		"[{shop deployment cart cart-1  n-1 [2 1 0]} {shop deployment cart cart-2  n-1 [0 1 0]}]",
		"[{shop deployment cart cart-2  n-1 [0 1 0]}]",
		"[{shop deployment cart cart-1  n-1 [2 1 0]} {shop deployment cart cart-2  n-1 [0 2 0]}]",
		"[]",
		"[{shop deployment cart cart-1 app n-1 [2 1 0]} {shop deployment cart cart-2 app n-1 [0 1 0]}]",
		"[{shop deployment cart   n-1 [2 2]}]",
		"[{      [1]}]",
		"[{     n-1 [4]}]",
		"[]",
		"invalid", "invalid", "invalid", "invalid", "invalid",
		"[]", // hidden fields are not there
	} {
		text := fmt.Sprint(got[i].Groups)
		if got[i].Err != nil {
			text = "other error"
			if errors.Is(got[i].Err, fault.ErrInvalid) {
				text = "invalid"
			}
		}
		if want == "[{shop deployment cart   n-1 [2 2]}]" {
			want = "[{shop deployment cart    [2 2]}]" // a workload has no node
		}
		if text != want {
			t.Errorf("%d %+v:\n got %s %v\nwant %s", i, qs[i], text, got[i].Err, want)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Counts(ctx, qs); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// countsOccurrences counts events as often as they occurred where that is asked, in a
// pass of one filter and of several.
func (f fixture) countsOccurrences(t *testing.T) {
	s, end := f.engine(t)(), dayStart()
	line := func(ago time.Duration, message, occurrences string) wire.LogLine {
		l := wire.LogLine{Time: end.Add(-ago).UnixNano(), Message: message}
		if occurrences != "" {
			l.Fields = wire.LogFields{{Name: wire.FieldOccurrences, Value: occurrences}}
		}
		return l
	}
	appendOK(t, s, "prod", &wire.LogBatch{Sender: "s", ID: "1", Groups: []wire.LogGroup{{
		Stream: wire.LogStream{Namespace: "shop", Stream: wire.StreamEvents},
		Lines: []wire.LogLine{
			line(time.Second, "BackOff a", "17"), line(2*time.Second, "BackOff b", ""), line(3*time.Second, "Killing c", ""),
			line(90*time.Second, "BackOff a", "many"), line(91*time.Second, "BackOff a", "-3"), line(3*time.Minute-time.Second, "Failed d", "2"),
		},
	}}})
	q := func(filter string, occurrences bool) logs.CountQuery {
		return logs.CountQuery{Cluster: "prod", Filter: filter, By: logs.ByNamespace, Period: time.Minute, End: end, Windows: 3, Occurrences: occurrences}
	}
	for name, c := range map[string]struct {
		qs   []logs.CountQuery
		want []string
	}{
		"one":     {[]logs.CountQuery{q("BackOff", true)}, []string{"[18 2 0]"}},
		"lines":   {[]logs.CountQuery{q("BackOff", false)}, []string{"[2 2 0]"}},
		"several": {[]logs.CountQuery{q("BackOff", true), q("BackOff", false), q("*", true), q("Killing", true), q("Failed", true)}, []string{"[18 2 0]", "[2 2 0]", "[19 2 2]", "[1 0 0]", "[0 0 2]"}},
	} {
		got, err := s.Counts(t.Context(), c.qs)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for i, want := range c.want {
			if got[i].Err != nil || len(got[i].Groups) != 1 || fmt.Sprint(got[i].Groups[0].Matches) != want {
				t.Errorf("%s: %q gives %v, %v, want %s", name, c.qs[i].Filter, got[i].Groups, got[i].Err, want)
			}
		}
	}
}

func (f fixture) countsSharePasses(t *testing.T) {
	open, reg := f.engine(t), prometheus.NewRegistry()
	s := open(func(o *logs.Options) { o.Registerer = reg })
	var lines []string
	for i := range 250 {
		lines = append(lines, fmt.Sprintf("code%d", i))
	}
	appendOK(t, s, "prod", Batch("1", dayStart(), lines...))
	var qs []logs.CountQuery
	for i := range 250 {
		qs = append(qs, logs.CountQuery{Cluster: "prod", Filter: fmt.Sprintf("code%d", i), By: logs.ByWorkload, Period: time.Minute, End: dayStart().Add(time.Minute), Windows: 5})
	}
	passes := func() float64 { return Counted(t, reg, "crowsnest_logs_count_passes_total", "") }
	if _, err := s.Counts(t.Context(), qs); err != nil || passes() != 3 {
		t.Errorf("250 filters needed %v passes, want one for each 100: %v", passes(), err)
	}
	before := passes()
	// One of them cannot run, which concerns no other, and costs the others of its pass
	// some more of halves.
	qs[7].Filter = `_msg:in(* | stats nonsense)`
	qs[8].Filter = `_msg:in(* | fields a, b)`
	got, err := s.Counts(t.Context(), qs)
	if err != nil {
		t.Fatal(err)
	}
	if n := passes() - before; n > 3+4*7 {
		t.Errorf("with a filter that cannot run they needed %v passes", n)
	}
	for i, c := range got {
		if i == 7 || i == 8 {
			if !errors.Is(c.Err, fault.ErrInvalid) {
				t.Errorf("%d: %+v", i, c)
			}
			continue
		}
		// One line lies at the very start, which is the end of the window before.
		if c.Err != nil || len(c.Groups) != 1 || c.Groups[0].Matches[0]+c.Groups[0].Matches[1] != 1 {
			t.Fatalf("%d: %+v", i, c)
		}
	}
}
